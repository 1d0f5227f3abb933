"""The batches of a run, written down in its folder: RUN/batches/<token>.json, each written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from emoray.hosts.batch_book import NotedBatch
from emoray.store import RunFolder

_FOLDER = "batches"


@dataclass(frozen=True)
class FolderBook:
    """A `BatchBook` on any filesystem that holds run folders."""

    folder: RunFolder

    def note(self, batch: NotedBatch) -> None:
        self.folder.write_text(self._path(batch), json.dumps(asdict(batch)))

    def noted(self) -> list[NotedBatch]:
        names = sorted(info.base_name for info in self.folder.infos(_FOLDER) if info.base_name.endswith(".json"))
        found = (self.folder.read_bytes(f"{_FOLDER}/{name}") for name in names if not name.startswith("."))
        return [_batch(raw) for raw in found if raw is not None]

    def forget(self, batch: NotedBatch) -> None:
        self.folder.delete(self._path(batch))

    @staticmethod
    def _path(batch: NotedBatch) -> str:
        return f"{_FOLDER}/{batch.token}.json"


def _batch(raw: bytes) -> NotedBatch:
    data = json.loads(raw)
    return NotedBatch(**{**data, "keys": tuple(data["keys"])})
