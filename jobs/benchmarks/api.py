"""Hosted models: does the lane fill an account's limit without breaking it, and how fast is it without one?

Limits: a rehearsal provider that allows R requests (or T tokens) per minute is asked for `seconds`, by one actor, by
four, and by two jobs at once; the share of what the limit allows is counted by the server, in whole seconds.
Speed: one host with 256 in flight against a server with 50 ms latency and no limit, beside a bare loop over
`openai`'s default client, over its aiohttp client, over bare aiohttp, and `inspect_ai` where it is found.

`inspect_ai` is looked for in this interpreter, or in the one that EMORAY_INSPECT_PYTHON names.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoray.hosts.hosted_api import HostedApi
from emoray.hosts.protocol import Ask
from emoray.rate_limits.local import LocalLimiter
from emoray.spec.accounts import Account, Retry
from emoray.spec.models import Hosted

IN_FLIGHT = 256
LATENCY_S = 0.05
CHAT = [
    {"role": "system", "content": "You are in a state of valence 0.5 and arousal 0.866. Answer in two sentences."},
    {"role": "user", "content": "What does freedom mean to you?"},
]
ENTRY = Hosted(host="hosted_api", name="rehearsal", id="gpt-4o", account="bench", in_flight=IN_FLIGHT)
WARM_UP_S = 3


@dataclass(frozen=True)
class Topology:
    """Who asks at once."""

    name: str
    jobs: int
    actors: int  # per job


TOPOLOGIES = (Topology("1 actor", 1, 1), Topology("4 actors", 1, 4), Topology("2 jobs", 2, 1))


@dataclass(frozen=True)
class Limit:
    """What a server allows per minute."""

    requests: float | None = None
    tokens: float | None = None
    reserved: bool = False  # tokens: prompt + max_tokens, as OpenAI counts them

    @property
    def name(self) -> str:
        if self.requests:
            return f"{self.requests:.0f} requests/min"
        return f"{self.tokens:.0f} {'reserved ' * self.reserved}tokens/min"

    @property
    def flags(self) -> list[str]:
        counts = ["--reserved"] if self.reserved else []
        return ["--rpm", str(self.requests)] if self.requests else ["--tpm", str(self.tokens), *counts]

    @property
    def stated(self) -> dict[str, object]:
        """Of an account in a spec."""
        counted = "reserved" if self.reserved else "used"
        return {"requests_per_minute": self.requests, "tokens_per_minute": self.tokens, "tokens_counted": counted}


# together on one machine: the first four ask little; the last one needs it for itself
LIMITS = ((Limit(600), Limit(6000), Limit(tokens=180_000), Limit(tokens=360_000, reserved=True)), (Limit(30_000),))


def run(
    *,
    seconds: float = 60.0,
    requests: int = 6000,
    limits: Sequence[Sequence[Limit]] = LIMITS,
    topologies: Sequence[Topology] = TOPOLOGIES,
) -> dict[str, float]:
    """How near to a limit one account gets, how often it is refused, and ours beside its peers; the ratios first."""
    figures: dict[str, float] = {}
    figures |= _speed(requests)
    figures |= _limits(seconds, limits, topologies) if seconds else {}
    order = ("worst_share_of_limit", "share_429", "rps_over_peer", "cpu_over_peer")
    return {name: figures[name] for name in order if name in figures} | figures


# ── speed ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _speed(requests: int) -> dict[str, float]:
    """Requests per second and milliseconds of CPU per request, ours and others'; each in a process of its own."""
    measured: dict[str, tuple[float, float]] = {}
    with server("--latency", str(LATENCY_S)) as base_url:
        for name in ("emoray", "openai", "openai_aiohttp", "aiohttp"):
            measured[name] = _child(sys.executable, "--speed", name, base_url, requests)
        inspect = _inspect_python()
        if inspect is not None:
            measured["inspect_ai"] = _child(inspect, "--speed", "inspect_ai", base_url, max(300, requests // 10))
        else:
            print("inspect_ai: not found, so not compared; EMORAY_INSPECT_PYTHON may name an interpreter that has it")
    for name, (rps, cpu_ms) in measured.items():
        print(f"{name:16} {rps:7.0f} requests/s  {cpu_ms:6.3f} ms CPU per request")
    return _ratios(measured)


def _ratios(measured: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Against the harder of the peers: inspect_ai at a fifth of our rate and openai's default client at a half."""
    (rps, cpu), (openai_rps, openai_cpu) = measured["emoray"], measured["openai"]
    figures = {
        "rps_over_peer": rps / openai_rps,
        "cpu_over_peer": cpu / openai_cpu,
        "rps_over_openai_aiohttp": rps / measured["openai_aiohttp"][0],
        "rps_over_bare_aiohttp": rps / measured["aiohttp"][0],
        "cpu_over_bare_aiohttp": cpu / measured["aiohttp"][1],
    }
    if "inspect_ai" in measured:
        figures["rps_over_inspect_ai"] = rps / measured["inspect_ai"][0]
        figures["cpu_over_inspect_ai"] = cpu / measured["inspect_ai"][1]
    for name, (its_rps, its_cpu) in measured.items():
        figures |= {f"{name}_rps": its_rps, f"{name}_cpu_ms": its_cpu}
    return figures


def asks(n: int) -> Iterator[Ask]:
    for i in range(n):
        yield Ask(f"{i:032x}", CHAT, i, 1.0, None, 256)


def _ours(base_url: str, requests: int) -> tuple[float, float]:
    host = HostedApi(ENTRY, Account(base_url=base_url), Retry(), LocalLimiter())
    answers = sum(1 for _ in host.generate(asks(IN_FLIGHT)))  # connections are open now
    cpu, began = time.process_time(), time.perf_counter()
    answers = sum(1 for _ in host.generate(asks(requests)))
    took = time.perf_counter() - began
    cpu = time.process_time() - cpu
    host.close()
    return answers / took, cpu / answers * 1000


# The loops that others would write: `one()` asks once. Run as they stand, by whatever interpreter has the library.
_PEERS = {
    "openai": """
        from openai import AsyncOpenAI
        client = AsyncOpenAI(base_url=URL, api_key="k", max_retries=0)
        async def one():
            reply = await client.chat.completions.create(**BODY)
            assert reply.choices[0].message.content
    """,
    "openai_aiohttp": """
        from openai import AsyncOpenAI, DefaultAioHttpClient
        client = AsyncOpenAI(base_url=URL, api_key="k", max_retries=0, http_client=DefaultAioHttpClient())
        async def one():
            reply = await client.chat.completions.create(**BODY)
            assert reply.choices[0].message.content
    """,
    "aiohttp": """
        import aiohttp
        session = None
        async def one():
            global session
            session = session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
            headers = {"Content-Type": "application/json", "Authorization": "Bearer k"}
            async with session.post(URL + "/chat/completions", data=json.dumps(BODY), headers=headers) as reply:
                assert json.loads(await reply.read())["choices"][0]["message"]["content"]
    """,
    "inspect_ai": """
        from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model
        config = GenerateConfig(seed=5, temperature=1.0, max_tokens=256, max_connections=IN_FLIGHT)
        model = get_model("openai/gpt-4o", base_url=URL, api_key="k", config=config)
        said = [ChatMessageSystem(content=BODY["messages"][0]["content"]),
                ChatMessageUser(content=BODY["messages"][1]["content"])]
        async def one():
            reply = await model.generate(said)
            assert reply.completion
    """,
}
_LOOP = """
    import asyncio, json, sys, time
    URL, N, IN_FLIGHT, BODY = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    {peer}
    async def drive(n):
        left = iter(range(n))
        async def ask():
            for _ in left:
                await one()
        await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))
    async def main():
        await drive(IN_FLIGHT)
        cpu, began = time.process_time(), time.perf_counter()
        await drive(N)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(json.dumps([N / took, cpu / N * 1000]), flush=True)
    asyncio.run(main())
"""


def _child(python: str, flag: str, name: str, base_url: str, requests: int) -> tuple[float, float]:
    body = {"model": "gpt-4o", "messages": CHAT, "seed": 5, "temperature": 1.0, "max_tokens": 256}
    if name == "emoray":
        command = [python, __file__, flag, base_url, "--requests", str(requests)]
    else:
        code = textwrap.dedent(_LOOP).replace("{peer}", textwrap.dedent(_PEERS[name]))
        command = [python, "-c", code, base_url, str(requests), str(IN_FLIGHT), json.dumps(body)]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    rps, cpu_ms = json.loads(done.stdout.splitlines()[-1])
    return rps, cpu_ms


def _inspect_python() -> str | None:
    if importlib.util.find_spec("inspect_ai") is not None:
        return sys.executable
    return os.environ.get("EMORAY_INSPECT_PYTHON")


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _limits(seconds: float, groups: Sequence[Sequence[Limit]], topologies: Sequence[Topology]) -> dict[str, float]:
    import ray

    ray.init("local", include_dashboard=False, log_to_driver=False, configure_logging=False, num_cpus=4)
    figures: dict[str, float] = {}
    try:
        address = ray.get_runtime_context().gcs_address
        for topology in topologies:
            for limits in groups:
                figures |= _together(limits, topology, seconds, address)
    finally:
        ray.shutdown()
    shares = [value for name, value in figures.items() if name.startswith("share of")]
    busy = [value for name, value in figures.items() if name.startswith("429s of")]
    return {"worst_share_of_limit": min(shares), "share_429": max(busy)} | figures


def _together(limits: Sequence[Limit], topology: Topology, seconds: float, address: str) -> dict[str, float]:
    """Several limits at once, each with its own server, jobs and actors."""
    figures: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(server("--latency", str(LATENCY_S), *limit.flags)) for limit in limits]
        jobs = [
            _job(url, limit, topology, seconds, address)
            for url, limit in zip(urls, limits, strict=True)
            for _ in range(topology.jobs)
        ]
        for job in jobs:
            if job.wait(timeout=seconds * 5 + 600):  # each ends with what it has fed ahead: minutes of a low limit
                raise RuntimeError(f"a job failed: {topology.name}")
        for url, limit in zip(urls, limits, strict=True):
            share, busy = _shares(counters(url), limit)
            print(f"{limit.name:22} {topology.name:9} {share:7.2%} of the limit, {busy:.3%} answered 429", flush=True)
            what = f"{limit.name}, {topology.name}"
            figures |= {f"share of {what}": share, f"429s of {what}": busy}
    return figures


def _shares(counters: dict[str, Any], limit: Limit) -> tuple[float, float]:
    """(admitted of what the limit allows, in the whole seconds after the warm-up; 429s of all requests)."""
    seen = counters["seconds" if limit.requests else "tokens"]
    busy_seconds = [second for second, n in enumerate(seen) if n]
    first, last = busy_seconds[0] + WARM_UP_S, busy_seconds[-1]
    per_second = (limit.requests or limit.tokens or 0.0) / 60.0
    busy = counters["statuses"].get("429", 0) / counters["requests"]
    return sum(seen[first:last]) / (per_second * (last - first)), busy


def _job(base_url: str, limit: Limit, topology: Topology, seconds: float, address: str) -> subprocess.Popen[bytes]:
    flags = [
        "--actors",
        str(topology.actors),
        "--seconds",
        str(seconds + WARM_UP_S + 1),
        "--stated",
        json.dumps(limit.stated),
    ]
    command = [sys.executable, __file__, "--job", base_url, "--address", address, *flags]
    return subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL)


def _run_job(base_url: str, address: str, actors: int, seconds: float, stated: dict[str, object]) -> None:
    """A driver of its own: the actors of one job, which share the account's limiter with every other job."""
    import ray

    from emoray.stream.limiter_actor import account_limiter

    ray.init(address=address, log_to_driver=False, configure_logging=False, namespace=f"job-{os.getpid()}")
    account = Account.model_validate({"base_url": base_url, **stated})
    limiter = account_limiter(account, ENTRY.account)
    asker = ray.remote(num_cpus=0.1)(_Asker)
    handles = [asker.remote(account, limiter) for _ in range(actors)]
    ray.get([handle.ask.remote(seconds) for handle in handles])


class _Asker:
    """What an API actor of a lane does, without the rows."""

    def __init__(self, account: Account, limiter: Any) -> None:
        self._host = HostedApi(ENTRY, account, Retry(), limiter, run=ENTRY.account)

    def ask(self, seconds: float) -> int:
        return sum(1 for _ in self._host.generate(_until(time.monotonic() + seconds)))


def _until(end: float) -> Iterator[Ask]:
    return itertools.takewhile(lambda _: time.monotonic() < end, asks(10**9))


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def server(*flags: str) -> Iterator[str]:
    command = [sys.executable, "-m", "emoray.rehearsal.provider", "--until-eof", *flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["base_url"]
        server.communicate(timeout=30)


def counters(base_url: str) -> dict[str, Any]:
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/emoray/counters", timeout=30) as reply:
        counters: dict[str, Any] = json.loads(reply.read())
    return counters


def _environment() -> dict[str, str]:
    """Ours first on the path; no proxy between us and loopback."""
    house = str(Path(__file__).resolve().parents[2])
    paths = [house, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NO_PROXY": "127.0.0.1", "INSPECT_LOG_LEVEL": "error"}


def main(argv: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="per limit and topology; 0: speed only")
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--actors", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--speed", help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--stated", type=json.loads, help=argparse.SUPPRESS)
    flags = parser.parse_args(None if argv is None else list(argv))
    if flags.speed:
        print(json.dumps(_ours(flags.speed, flags.requests)))
    elif flags.job:
        _run_job(flags.job, flags.address, flags.actors, flags.seconds, flags.stated)
    else:
        figures = run(seconds=flags.seconds, requests=flags.requests)
        print(json.dumps({"benchmark": "api", "figures": figures}))


if __name__ == "__main__":
    main()
