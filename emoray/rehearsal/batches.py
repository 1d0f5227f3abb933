"""The files and batches endpoints of the rehearsal provider. A batch moves on when it is asked for, not with time."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from emoray.rehearsal.faults import Fault

if TYPE_CHECKING:
    from emoray.rehearsal.provider import Provider

Body = dict[str, Any]


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
    created_at: int = field(default_factory=lambda: int(time.time()))


class Batches:
    """In memory; ids are counted, so a rehearsal can be repeated."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._files: dict[str, tuple[str, bytes]] = {}  # id -> name, content
        self._batches: dict[str, _Batch] = {}

    def routes(self, app: web.Application) -> None:
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
        size = len(content)
        return {"id": id, "object": "file", "bytes": size, "created_at": 0, "filename": name, "purpose": "batch"}

    async def _file(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        return web.json_response(self._describe(id)) if id in self._files else _missing(id)

    async def _delete(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        self._files.pop(id, None)
        return web.json_response({"id": id, "object": "file", "deleted": True})

    async def _content(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        return web.Response(body=self._files[id][1]) if id in self._files else _missing(id)

    async def _create(self, request: web.Request) -> web.Response:
        refused = self._provider.refused(request)
        if refused is not None:
            return refused
        asked: Body = await request.json()
        if asked["input_file_id"] not in self._files:
            return _missing(asked["input_file_id"])
        lines = [json.loads(line) for line in self._files[asked["input_file_id"]][1].splitlines() if line.strip()]
        batch = _Batch(f"batch_{len(self._batches) + 1}", asked["input_file_id"], lines, asked.get("metadata") or {})
        self._batches[batch.id] = batch
        return web.json_response(_shown(batch))

    async def _list(self, request: web.Request) -> web.Response:
        del request
        batches = [_shown(batch) for batch in reversed(self._batches.values())]
        return web.json_response({"object": "list", "data": batches, "has_more": False})

    async def _poll(self, request: web.Request) -> web.Response:
        batch = self._batches.get(request.match_info["id"])
        if batch is None:
            return _missing(request.match_info["id"])
        batch.polls += 1
        if batch.status in ("validating", "in_progress"):
            batch.status = "in_progress"
            if batch.polls >= self._provider.manners.batch_polls:
                await self._finish(batch)
        return web.json_response(_shown(batch))

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self._batches[request.match_info["id"]]
        batch.status = "cancelled"
        return web.json_response(_shown(batch))

    async def _finish(self, batch: _Batch) -> None:
        good: list[Body] = []
        bad: list[Body] = []
        for line in batch.lines:
            result = await self._result(line)
            (good if result["error"] is None and result["response"]["status_code"] == 200 else bad).append(result)
        batch.status = "completed"
        batch.output_file_id = self._keep("output.jsonl", _jsonl(good)) if good else None
        batch.error_file_id = self._keep("errors.jsonl", _jsonl(bad)) if bad else None

    async def _result(self, line: Body) -> Body:
        key = str(line["custom_id"])
        counters = self._provider.counters
        counters.asked[key] += 1
        fault = self._provider.manners.plan.fault(counters.requests, key, counters.asked[key])
        status, body = await self._provider.line(line["body"], key, fault)
        if fault is not None:
            counters.faults[fault] += 1
        if fault is Fault.HANG:
            return _line(key, None, {"code": "batch_expired", "message": "This request was not done in time."})
        return _line(key, {"status_code": status, "request_id": f"req_{key[:8]}", "body": body}, None)


def _line(key: str, response: Body | None, error: Body | None) -> Body:
    return {"id": f"batch_req_{key[:8]}", "custom_id": key, "response": response, "error": error}


def _jsonl(lines: list[Body]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _shown(batch: _Batch) -> Body:
    done = batch.status == "completed"
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at,
        "request_counts": {
            "total": len(batch.lines),
            "completed": len(batch.lines) if done else 0,
            "failed": 0,
        },
        "metadata": batch.metadata,
    }


def _missing(what: str) -> web.Response:
    error = {"message": f"No such object: {what}", "type": "invalid_request_error", "param": "id", "code": None}
    return web.json_response({"error": error}, status=404)
