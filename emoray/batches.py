"""The batches of a run, written down in its folder: RUN/batches/<token>.json, each written whole or not at all."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field, fields

from emoray import rows
from emoray.hosts.batch_book import NotedBatch
from emoray.store import RunFolder

_FOLDER = "batches"
_FIELDS = frozenset(each.name for each in fields(NotedBatch))


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
    """What a later version wrote beside these fields is left out."""
    data = {name: value for name, value in json.loads(raw).items() if name in _FIELDS}
    return NotedBatch(**{**data, "keys": tuple(data["keys"]), "usd": rows.known_usd(data.get("usd")) or 0.0})


@dataclass
class Standing:
    """How the batches of a model stand."""

    open: int = 0  # submitted and not ended
    waits: Counter[str] = field(default_factory=Counter)  # of them, those that something keeps from going on: for what
    cells: Counter[str] = field(default_factory=Counter)  # not submitted yet: how many wait for what
    aside: int = 0  # lines of results that are no cell's

    def count(self, batch: NotedBatch) -> None:
        self.aside += batch.aside
        if batch.made and not batch.ended:
            self.open += 1
            self.waits.update([batch.waits_for] if batch.waits_for else [])
        elif batch.waits_for and not batch.made:
            self.cells[batch.waits_for] += len(batch.keys)


def standings(folder: RunFolder) -> dict[str, Standing]:
    """By model."""
    found: defaultdict[str, Standing] = defaultdict(Standing)
    for batch in FolderBook(folder).noted():
        found[batch.model].count(batch)
    return dict(found)
