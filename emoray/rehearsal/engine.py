"""An engine that can be killed, and the host that drives it: how a local model behaves in a rehearsal.

The engine is a process of its own, as vLLM's is: asks go in and replies come out as lines of JSON. It has its texts
from the rehearsal's provider, which counts what it was asked. When it dies, its actor dies with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import aiohttp

from emoray.home import environment, module
from emoray.hosts import Ask, HostDown, Reply
from emoray.hosts.chat import KEY_HEADER
from emoray.hosts.reasoning import Tags, no_answer, tags_of
from emoray.spec import Rehearsed
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

MODULE = "emoray.rehearsal.engine"  # by which its process is known
_TIMEOUT_S = 120.0


class RehearsedHost:
    """Drives one engine. May be asked from several threads; the engine holds the limit on what is in flight."""

    name = "rehearsed"
    revision = None
    engine = "emoray rehearsal"

    def __init__(self, entry: Rehearsed) -> None:
        self.in_flight = entry.in_flight
        self._tags = tags_of(entry.reasoning_tags)
        self._closed = False
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[queue.SimpleQueue[Reply], float, datetime]] = {}
        self._process = subprocess.Popen(
            [*module(MODULE), entry.base_url, entry.id, str(entry.in_flight)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        threading.Thread(target=self._listen, name="engine", daemon=True).start()

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """A reply per ask, each as soon as it is there."""
        replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        sent = sum(self._send(ask, replies) for ask in asks)
        for _ in range(sent):
            yield replies.get()

    def close(self) -> None:
        self._closed = True
        self._process.kill()
        self._process.wait()

    def _send(self, ask: Ask, replies: queue.SimpleQueue[Reply]) -> int:
        if self._closed:
            raise HostDown("the engine was closed")
        with self._lock:
            self._waiting[ask.key] = (replies, time.monotonic(), datetime.now(UTC))
            if self._process.stdin is not None:
                self._process.stdin.write(json.dumps(asdict(ask)) + "\n")
        return 1

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            said = json.loads(line)
            replies, began, asked_at = self._waiting.pop(said["key"])
            replies.put(Reply(said["key"], _outcome(said, self._tags), asked_at, time.monotonic() - began))
        if not self._closed:
            os._exit(1)  # a dead engine is a dead process: Ray starts another, and asks again what is owed


def _outcome(said: dict[str, Any], tags: Tags) -> Outcome:
    if "text" not in said:
        return Failure(FailureKind.ENGINE, said["wrong"])
    reasoning, text = tags.split(said["text"])
    word, tokens = said["finish"], (said["prompt_tokens"], said["completion_tokens"])
    if not text.strip():
        return no_answer(reasoning, cut=word == "length", word=word)
    return Answer(text, word, *tokens, reasoning=reasoning, finish_reason_raw=word)


# ── inside the engine's process ────────────────────────────────────────────────────────────────────────────────────


async def _serve(base_url: str, model: str, in_flight: int) -> None:
    """Answers lines until standard input closes: until the actor has gone."""
    slots, tasks = asyncio.Semaphore(in_flight), set[asyncio.Task[None]]()
    lines = await _lines()
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(_TIMEOUT_S)) as session:
        while line := await lines.readline():
            task = asyncio.ensure_future(_answer(session, f"{base_url}/chat/completions", model, line, slots))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for task in tasks:
            task.cancel()


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _answer(session: aiohttp.ClientSession, url: str, model: str, line: bytes, slots: asyncio.Semaphore) -> None:
    ask = json.loads(line)
    async with slots:
        said = await _said(session, url, model, ask)
    print(json.dumps({"key": ask["key"], **said}), flush=True)


async def _said(session: aiohttp.ClientSession, url: str, model: str, ask: dict[str, Any]) -> dict[str, Any]:
    body = {"model": model, "messages": ask["chat"], "seed": ask["seed"], "max_tokens": ask["max_tokens"]}
    try:
        async with session.post(url, json=body, headers={KEY_HEADER: ask["key"]}) as response:
            response.raise_for_status()
            told = await response.json()
        choice, usage = told["choices"][0], told["usage"]
        return {
            "text": choice["message"]["content"],
            "finish": choice["finish_reason"],
            "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"],
        }
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as wrong:
        return {"wrong": f"the engine could not answer: {type(wrong).__name__}"}


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
