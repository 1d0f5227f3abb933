"""A provider that misbehaves on purpose: a real HTTP server on loopback that speaks OpenAI's protocol.

    python -m emoray.rehearsal.provider --port 0 --rpm 600 --storm 0.3

prints one JSON line with its `base_url`, and counts every request by key (header `X-Emoray-Key`, which a host sends to
an address like this alone). `GET /emoray/counters` tells the counts; in a process, `with Provider(Behaviour(…)) as …:`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Self

from aiohttp import web

from emoray.hosts.openai_protocol import KEY_HEADER, REHEARSAL
from emoray.hosts.protocol import Ask, Host
from emoray.rehearsal.batch_endpoint import Batches
from emoray.rehearsal.behaviour import Behaviour, Body, Counters, Limit, Speaker
from emoray.rehearsal.faults import Fault, Plan, storm
from emoray.rehearsal.responses import (
    HTML,
    LINES,
    STREAM,
    UNUSABLE,
    busy,
    completion,
    error,
    most_tokens,
    no_such_model,
    page,
    reset,
    spoil,
    tokens_of,
)
from emoray.study.outcomes import Answer

_TURNS = 20  # more than a request takes from the kernel to the counter
_NO_LINE = frozenset({Fault.HANG, Fault.CUT_JSON})  # in a batch: expired, and half a line


async def _turns() -> None:
    """In each turn of a loop all sockets that can be read are: one turn accepts, another reads, a third answers."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class Provider:
    """The server; `start` and `stop` (or `with`) run it in a thread of its own."""

    def __init__(
        self, behaviour: Behaviour | None = None, speaker: Speaker | None = None, *, host: str = "127.0.0.1"
    ) -> None:
        """`host` is the address it listens on: loopback, unless a cluster's other nodes must reach it."""
        self.behaviour = behaviour or Behaviour()
        self.counters = Counters()
        self.base_url = ""
        self._host = host
        self._speak = speaker or self._scripted
        self._limits = {
            of: Limit(per_minute, self.behaviour.burst_s)
            for of, per_minute in (
                ("requests", self.behaviour.requests_per_minute),
                ("tokens", self.behaviour.tokens_per_minute),
            )
            if per_minute is not None
        }
        self._recent: deque[bytes] = deque(maxlen=16)
        self._slots = asyncio.Semaphore(self.behaviour.slots) if self.behaviour.slots else contextlib.nullcontext()
        self._began = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None

    # ── running ────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, port: int = 0) -> Self:
        """Serve from a background thread; returns when the port is open."""
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(port, opened)), daemon=True)
        self._thread.start()
        opened.result(timeout=30)
        return self

    def stop(self) -> None:
        """Stop serving; a second time does nothing."""
        if self._loop is not None and self._stopping is not None and self._thread is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=30)

    def catch_up(self) -> None:
        """Returns when what lay in this server's sockets is counted: on a busy machine some of it waits for seconds."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(_turns(), self._loop).result()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def serve(self, port: int, opened: Future[None]) -> None:
        """Serve until `stop`; `opened` is done when `base_url` is known."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, port, backlog=2048)
            await site.start()
            self.base_url = f"http://{self._host}:{runner.addresses[0][1]}{REHEARSAL}/v1"
            opened.set_result(None)
            await self._stopping.wait()
        except OSError as wrong:
            opened.set_exception(wrong)
        finally:
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=256 * 1024**2)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/emoray/counters", self._counters)
        Batches(self).routes(app)
        for route in list(app.router.routes()):  # under the address by which a host knows us, and bare
            assert route.resource is not None
            app.router.add_route(route.method, REHEARSAL + route.resource.canonical, route.handler)
        return app

    # ── the endpoints ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        counters = self.counters
        counters.in_flight += 1
        counters.peak_in_flight = max(counters.peak_in_flight, counters.in_flight)
        try:
            response = await self._respond(request)
        finally:
            counters.in_flight -= 1
        counters.statuses[response.status] += 1
        return response

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        body: Body = json.loads(await request.read())
        key = request.headers.get(KEY_HEADER, "")
        self.counters.asked[key] += 1
        refused = self.refused(request) or self._unknown_model(body)
        if refused is not None:
            return refused
        fault = self.behaviour.plan.fault(self.counters.requests, key, self.counters.asked[key])
        text = await self._speak(body)
        busy = self._over_limit(body, text)
        if busy is not None:
            return busy
        async with self._slots:
            if self.behaviour.latency_s:
                await asyncio.sleep(self.behaviour.latency_s)
        if fault is not None:
            self.counters.faults[fault] += 1
            return await self._misbehave(fault, request, body, key, text)
        return self._answer(key, completion(body, text, key))

    def refused(self, request: web.Request) -> web.Response | None:
        """401 where another key was sent than this server wants."""
        wanted = self.behaviour.api_key
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.headers.get("api-key")
        return error(401, "Incorrect API key provided.", "invalid_api_key") if wanted not in (None, sent) else None

    def _unknown_model(self, body: Body) -> web.Response | None:
        if self.behaviour.models and body.get("model") not in self.behaviour.models:
            return no_such_model(body)
        return None

    def _over_limit(self, body: Body, text: str) -> web.Response | None:
        now = time.monotonic() - self._began
        said = most_tokens(body) if self.behaviour.counts_reserved else None
        used = tokens_of(json.dumps(body["messages"])) + (said or tokens_of(text))
        costs = {"requests": 1.0, "tokens": float(used)}
        short = [of for of, limit in self._limits.items() if not limit.admits(costs[of], now)]
        if short:
            wait_s = max(self._limits[of].wait_s(costs[of]) for of in short)
            return busy(f"Rate limit reached on {short[0]} per min.", wait_s, self.limit_headers())
        for of, limit in self._limits.items():
            limit.take(costs[of])
        self.counters.seconds[int(now)] += 1
        self.counters.tokens[int(now)] += used
        return None

    def _answer(self, key: str, answer: Body) -> web.Response:
        body = json.dumps(answer).encode()
        self.counters.answered[key] += 1
        self.counters.bill(key, answer)
        self._recent.append(body)
        return self._ok(body)

    def _ok(self, body: bytes) -> web.Response:
        return web.Response(body=body, content_type="application/json", headers=self.limit_headers())

    def limit_headers(self) -> dict[str, str]:
        if not self.behaviour.tells_limits:
            return {}
        return {name: text for of, limit in self._limits.items() for name, text in limit.headers(of).items()}

    async def _models(self, request: web.Request) -> web.Response:
        ids = self.behaviour.models or ("rehearsal",)
        models = [{"id": id, "object": "model", "created": 0, "owned_by": "emoray"} for id in ids]
        return self.refused(request) or web.json_response({"object": "list", "data": models})

    async def _counters(self, _: web.Request) -> web.Response:
        return web.json_response(self.counters.as_json())

    async def _scripted(self, body: Body) -> str:
        draw = self.behaviour.plan.draw("line", f"{body.get('seed')} {body['messages']}")
        return LINES[int(draw * len(LINES))]

    # ── the faults ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _misbehave(
        self, fault: Fault, request: web.Request, body: Body, key: str, text: str
    ) -> web.StreamResponse:
        good = completion(body, text, key)
        match fault:
            case Fault.HANG:
                await asyncio.sleep(3600.0)
            case Fault.SLOW_FIRST_BYTE:
                await asyncio.sleep(self.behaviour.slow_s)
            case Fault.RESET:
                return await reset(request, json.dumps(good).encode())
            case Fault.CUT_JSON:
                whole = json.dumps(good).encode()
                return self._ok(whole[: len(whole) // 2])
            case Fault.DUPLICATE if self._recent:
                self.counters.answered[key] += 1
                return self._ok(self._recent[0])
        error = self._error_of(fault, body)
        if error is not None:
            return error
        spoil(good, fault, self.behaviour.plan.draw("refusal", key))
        if fault in UNUSABLE:
            return self._ok(json.dumps(good).encode())
        return self._answer(key, good)

    async def line(self, body: Body, key: str, fault: Fault | None) -> tuple[int, Body | str]:
        """Status and body of one line of a batch; faults of the connection do not happen inside a batch."""
        if fault is Fault.OK_HTML:
            return 200, HTML.format("Welcome to the hotel network")
        error = self._error_of(fault, body) if fault is not None else None
        if error is not None and error.content_type == "application/json":
            return error.status, json.loads(error.body if isinstance(error.body, bytes) else b"{}")
        if error is not None:
            return 500, {"error": {"message": "internal error", "type": "server_error", "param": None, "code": None}}
        good = completion(body, await self._speak(body), key)
        if fault is not None:
            spoil(good, fault, self.behaviour.plan.draw("refusal", key))
        if fault not in UNUSABLE | _NO_LINE:  # adding nothing would be noted as an answer, too
            self.counters.answered[key] += 1
        self.counters.bill(key, good)
        return 200, good

    def _error_of(self, fault: Fault, body: Body) -> web.Response | None:
        after = self.behaviour.retry_after_s
        match fault:
            case Fault.BUSY:
                return busy("Rate limit reached.", after, self.limit_headers())
            case Fault.BUSY_SILENT:
                return busy("Rate limit reached.", None, {})
            case Fault.ERROR_HTML:
                return page(500, "500 Internal Server Error")
            case Fault.GATEWAY_HTML:
                return page(502, "502 Bad Gateway")
            case Fault.UNAVAILABLE:
                return error(503, "The engine is currently overloaded, please try again later.", None)
            case Fault.OK_HTML:
                return page(200, "Welcome to the hotel network")
            case Fault.FILTERED_400:
                return error(400, "The response was filtered.", "content_filter")
            case Fault.BAD_REQUEST:
                return error(400, "Unsupported value: 'temperature'.", "unsupported_value")
            case Fault.CONTEXT_LENGTH:
                return error(400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded")
            case Fault.NO_SUCH_MODEL:
                return no_such_model(body)
            case Fault.AUTH:
                return error(401, "Incorrect API key provided.", "invalid_api_key")
            case Fault.MODERATED:
                flagged = {"reasons": ["violence"], "flagged_input": "…", "provider_name": "rehearsal"}
                said = {"code": 403, "message": "Your input was flagged.", "metadata": flagged}
                return web.json_response({"error": said}, status=403)
            case Fault.STREAM:
                return web.Response(text=STREAM, content_type="text/event-stream")
            case Fault.QUOTA:
                return error(429, "You exceeded your current quota.", "insufficient_quota", kind="insufficient_quota")
            case _:
                return None


def speaker_of(host: Host) -> Speaker:
    """A host's own answers, such as the embedded generator's, given by the provider."""

    async def speak(body: Body) -> str:
        ask = Ask(
            "",
            body["messages"],
            int(body.get("seed") or 0),
            body.get("temperature"),
            body.get("top_p"),
            most_tokens(body),
        )
        replies = await asyncio.to_thread(lambda: list(host.generate([ask])))
        outcome = replies[0].outcome
        return outcome.text if isinstance(outcome, Answer) else ""

    return speak


def main(argv: list[str] | None = None) -> None:
    """Serve until interrupted, or until standard input closes with --until-eof."""
    parser = argparse.ArgumentParser(prog="python -m emoray.rehearsal.provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument("--rpm", type=float, help="requests per minute")
    parser.add_argument("--tpm", type=float, help="tokens per minute")
    parser.add_argument("--reserved", action="store_true", help="count prompt + max_tokens, not what was used")
    parser.add_argument("--burst", type=float, default=1.0, help="seconds' worth of a limit that may come at once")
    parser.add_argument("--slots", type=int, help="answers that are worked on at once; all others queue")
    parser.add_argument("--storm", type=float, default=0.0, help="share of requests that meet a fault, of all kinds")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=CHANCE", help=", ".join(Fault))
    parser.add_argument("--embedded", action="store_true", help="the embedded generator's answers, not fixed lines")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    flags = parser.parse_args(argv)
    chances = storm(flags.storm) if flags.storm else {}
    for name, _, chance in (entry.partition("=") for entry in flags.fault):
        chances[Fault(name)] = float(chance)
    behaviour = Behaviour(
        Plan(flags.seed, chances),
        latency_s=flags.latency,
        slots=flags.slots,
        requests_per_minute=flags.rpm,
        tokens_per_minute=flags.tpm,
        burst_s=flags.burst,
        counts_reserved=flags.reserved,
    )
    speaker = _embedded() if flags.embedded else None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_and_tell(Provider(behaviour, speaker), flags.port, until_eof=flags.until_eof))


def _embedded() -> Speaker:
    from emoray.hosts.embedded import EmbeddedHost
    from emoray.spec.models import Embedded

    return speaker_of(EmbeddedHost(Embedded(host="embedded", name="embedded")))


async def _serve_and_tell(provider: Provider, port: int, *, until_eof: bool) -> None:
    opened = Future[None]()
    serving = asyncio.create_task(provider.serve(port, opened))
    await asyncio.wrap_future(opened)
    print(json.dumps({"base_url": provider.base_url, "pid": os.getpid()}), flush=True)
    if until_eof:
        await asyncio.to_thread(sys.stdin.read)
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


if __name__ == "__main__":
    main()
