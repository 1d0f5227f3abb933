"""The files and batches endpoints of the rehearsal provider. A batch moves on when it is asked for, not with time."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from emoray.rehearsal.behaviour import BatchBehaviour, Behaviour, Body, Counters
from emoray.rehearsal.faults import Fault

_OVER = frozenset({"completed", "failed", "cancelled", "expired"})
_FULL = "Enqueued token limit reached. Please try again once some in_progress batches have been completed."


@dataclass
class _Batch:
    id: str
    input_file_id: str
    lines: list[Body]
    metadata: Body
    polls: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    status: str = "validating"
    full: bool = False  # the queue had no room for it
    since: int = 0  # polls since its end
    created_at: int = field(default_factory=lambda: int(time.time()))


class Answering(Protocol):
    """What the batch endpoint needs of the provider that it belongs to."""

    behaviour: Behaviour
    counters: Counters

    def refused(self, request: web.Request) -> web.Response | None:
        """The answer to a request that is not let in."""

    async def line(self, body: Body, key: str, fault: Fault | None) -> tuple[int, Body | str]:
        """Status and body of the answer to one line of a batch."""


class Batches:
    """In memory; ids are counted, so a rehearsal can be repeated."""

    def __init__(self, provider: Answering) -> None:
        self._provider = provider
        self._files: dict[str, tuple[str, bytes]] = {}  # id -> name, content
        self._batches: dict[str, _Batch] = {}
        self._seen = Counter[str]()  # how often each thing was asked for

    @property
    def _manners(self) -> BatchBehaviour:
        return self._provider.behaviour.batches

    def routes(self, app: web.Application) -> None:
        if not self._manners.endpoints:
            return
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}", self._file)
        app.router.add_delete("/v1/files/{id}", self._delete)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._poll)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel)

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        part = form["file"]
        if not isinstance(part, web.FileField):
            return _missing("file")
        refused = self._provider.refused(request)
        return refused or web.json_response(self._describe(self._keep(part.filename, part.file.read())))

    def _keep(self, name: str, content: bytes) -> str:
        id = f"file-{len(self._files) + 1}"
        self._files[id] = (name, content)
        return id

    def _describe(self, id: str) -> Body:
        name, content = self._files[id]
        told = self._seen[id] or not self._manners.strict_files
        waits = told and self._seen[id] < self._manners.file_polls
        return {
            "id": id,
            "object": "file",
            "bytes": len(content),
            "created_at": 0,
            "filename": name,
            "purpose": "batch",
            "status": "pending" if waits else "processed",
        }

    async def _file(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        self._seen[id] += 1
        return web.json_response(self._describe(id)) if id in self._files else _missing(id)

    async def _delete(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        self._files.pop(id, None)
        return web.json_response({"id": id, "object": "file", "deleted": True})

    async def _content(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        self._seen[f"{id}/content"] += 1
        if id not in self._files or self._seen[f"{id}/content"] <= self._manners.late_contents:
            return _missing(id)
        return web.Response(body=self._manners.spoils(self._files[id][1]))

    async def _create(self, request: web.Request) -> web.Response:
        refused = self._provider.refused(request)
        if refused is not None:
            return refused
        asked: Body = await request.json()
        id = asked["input_file_id"]
        if id not in self._files:
            return _missing(id)
        if self._manners.strict_files and self._seen[id] < self._manners.file_polls:
            return _refused(400, "The file is not processed yet.", "invalidPayload")
        lines = [json.loads(line) for line in self._files[id][1].splitlines() if line.strip()]
        most = self._manners.most_enqueued
        full = most is not None and self._enqueued() + len(lines) > most
        if full and self._manners.no_queue:
            return _refused(429, _FULL, "token_limit_exceeded")
        batch = _Batch(f"batch_{len(self._batches) + 1}", id, lines, asked.get("metadata") or {})
        batch.full = full
        self._batches[batch.id] = batch
        self._seen["creates"] += 1
        if self._seen["creates"] <= self._manners.lost_creates:
            return _refused(503, "The server is overloaded.", None)
        return web.json_response(self._shown(batch))

    def _enqueued(self) -> int:
        taken = [batch for batch in self._batches.values() if batch.status not in _OVER and not batch.full]
        return sum(len(batch.lines) for batch in taken)

    async def _list(self, request: web.Request) -> web.Response:
        del request
        if not self._manners.lists:
            return _missing("batches")
        batches = [self._shown(batch) for batch in reversed(self._batches.values())]
        return web.json_response({"object": "list", "data": batches, "has_more": not self._manners.one_page})

    async def _poll(self, request: web.Request) -> web.Response:
        batch = self._batches.get(request.match_info["id"])
        if batch is None or batch.polls < self._manners.unknown_polls:
            if batch is not None:
                batch.polls += 1
            return _missing(request.match_info["id"])
        batch.polls += 1
        if batch.status in _OVER:
            batch.since += 1
        elif batch.full:
            batch.status = "failed"
        elif batch.polls >= self._provider.behaviour.batch_polls + self._manners.finalizing_polls:
            await self._finish(batch)
        else:
            through = batch.polls >= self._provider.behaviour.batch_polls
            batch.status = "finalizing" if through else "in_progress"
        return web.json_response(self._shown(batch))

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self._batches[request.match_info["id"]]
        batch.status = "cancelled"
        return web.json_response(self._shown(batch))

    async def _finish(self, batch: _Batch) -> None:
        good: list[bytes] = []
        bad: list[bytes] = []
        for line in batch.lines:
            result, fault = await self._result(line)
            told = self._manners.lines(result)
            text = json.dumps(told).encode()
            (good if _is_good(told) else bad).append(text[: len(text) // 2] if fault is Fault.CUT_JSON else text)
        batch.status = "completed"
        batch.output_file_id = self._keep("output.jsonl", b"\n".join(good)) if good else None
        batch.error_file_id = self._keep("errors.jsonl", b"\n".join(bad)) if bad else None

    async def _result(self, line: Body) -> tuple[Body, Fault | None]:
        key = str(line["custom_id"])
        counters = self._provider.counters
        counters.asked[key] += 1
        fault = self._provider.behaviour.plan.fault(counters.requests, key, counters.asked[key])
        status, body = await self._provider.line(line["body"], key, fault)
        if fault is not None:
            counters.faults[fault] += 1
        if fault is Fault.HANG:
            error = {"code": "batch_expired", "message": "This request was not done in time."}
            return _line(key, None, error), fault
        return _line(key, {"status_code": status, "request_id": f"req_{key[:8]}", "body": body}, None), fault

    def _shown(self, batch: _Batch) -> Any:
        done = batch.status == "completed"
        named = batch.since >= self._manners.late_polls
        return self._manners.says(
            {
                "id": batch.id,
                "object": "batch",
                "endpoint": "/v1/chat/completions",
                "errors": {"object": "list", "data": [_error(_FULL, "token_limit_exceeded")]} if batch.full else None,
                "input_file_id": batch.input_file_id if self._manners.echoes else None,
                "completion_window": "24h",
                "status": self._manners.words.get(batch.status, batch.status),
                "output_file_id": batch.output_file_id if named else None,
                "error_file_id": batch.error_file_id if named else None,
                "created_at": batch.created_at,
                "request_counts": {
                    "total": len(batch.lines),
                    "completed": len(batch.lines) if done else 0,
                    "failed": 0,
                },
                "metadata": batch.metadata if self._manners.echoes else None,
            }
        )


def _line(key: str, response: Body | None, error: Body | None) -> Body:
    return {"id": f"batch_req_{key[:8]}", "custom_id": key, "response": response, "error": error}


def _is_good(result: Body) -> bool:
    response = result.get("response")
    return response is not None and (not isinstance(response, dict) or response.get("status_code", 200) == 200)


def _missing(what: str) -> web.Response:
    return _refused(404, f"No such object: {what}", None)


def _refused(status: int, message: str, code: str | None) -> web.Response:
    return web.json_response({"error": _error(message, code) | {"type": "invalid_request_error"}}, status=status)


def _error(message: str, code: str | None) -> Body:
    return {"message": message, "param": None, "code": code, "line": None}
