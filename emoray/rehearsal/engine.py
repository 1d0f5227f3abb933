"""An engine that can be killed, and the host that drives it: how a local model behaves in a rehearsal.

The engine is a process of its own, as vLLM's is: asks go in and replies come out as lines of JSON. It has its texts
from the rehearsal's provider, which counts what it was asked. When it dies, its actor dies with it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiohttp

from emoray.hosts.openai_protocol import KEY_HEADER

_TIMEOUT_S = 120.0


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
