"""The batches of a run, written down in its folder: RUN/batches/<token>.json, each written whole or not at all."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from emoray.hosts.batch_record import NotedBatch
from emoray.run_folder import json_file
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.json_file import BadJson
from emoray.run_folder.tabs import book_lost

_FOLDER = "batches"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderBook:
    """A `BatchBook` on any filesystem that holds run folders."""

    folder: RunFolder

    def note(self, batch: NotedBatch) -> None:
        self.folder.write_text(self._path(batch), json.dumps(asdict(batch)))

    def noted(self) -> list[NotedBatch]:
        """StoreError for a note that cannot be read: it may stand for a batch that was paid."""
        return [batch for name in self.names() if (batch := self.named(name)) is not None]

    def names(self) -> list[str]:
        """Of the files with notes."""
        found = sorted(info.base_name for info in self.folder.infos(_FOLDER))
        return [name for name in found if name.endswith(".json") and not name.startswith(".")]

    def named(self, name: str) -> NotedBatch | None:
        """None where it has been forgotten meanwhile."""
        raw = self.folder.read_bytes(f"{_FOLDER}/{name}")
        try:
            return None if raw is None else _checked(json_file.read(NotedBatch, raw), name)
        except BadJson as wrong:
            raise StoreError(
                f"{self.folder.where(f'{_FOLDER}/{name}')} is no note of a batch ({wrong}): put back a good copy, or "
                "look at the provider whether it knows the batch, and delete the file; its cells are then asked again"
            ) from None

    def end(self, batch: NotedBatch) -> None:
        """Who lost it may have died after that was booked, and before it was noted."""
        noted = self.named(f"{batch.token}.json") or batch
        self._book(batch, set(noted.lost))

    def lose(self, batch: NotedBatch, owed: Collection[str]) -> Collection[str]:
        """Their answers may have been paid, and may come once more: at most so much is lost. The others have rows."""
        noted = self.named(f"{batch.token}.json") or batch  # another may have lost other cells of it
        self._book(batch, {*noted.lost, *owed})
        return {*owed}.difference(noted.lost)

    def find(self, batch: NotedBatch, came: Collection[str]) -> None:
        noted = self.named(f"{batch.token}.json") or batch
        self._book(noted, set(noted.lost).difference(came))

    def _book(self, batch: NotedBatch, lost: set[str]) -> None:
        book_lost(self.folder.answers(batch.model), batch.token, batch.usd * len(lost) / len(batch.keys))
        self.note(replace(batch, ended=True, lost=tuple(key for key in batch.keys if key in lost)))

    def forget(self, batch: NotedBatch) -> None:
        self.folder.delete(self._path(batch))

    @staticmethod
    def _path(batch: NotedBatch) -> str:
        return f"{_FOLDER}/{batch.token}.json"


def _checked(batch: NotedBatch, name: str) -> NotedBatch:
    """BadJson where it would be written to another file, or its time or money is none."""
    if name != f"{batch.token}.json":
        raise BadJson(f"token is {batch.token[:40]!r}, which the file is not called by")
    if not (math.isfinite(batch.usd) and batch.usd >= 0):
        raise BadJson(f"usd is {batch.usd}")
    try:
        zone = datetime.fromisoformat(batch.noted_at).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise BadJson(f"noted_at is no time with its zone, but {batch.noted_at[:40]!r}")
    return batch


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
    """By model. A note that cannot be read is left out, with a warning: to look costs nothing."""
    found: defaultdict[str, Standing] = defaultdict(Standing)
    for batch in _readable(FolderBook(folder)):
        found[batch.model].count(batch)
    return dict(found)


def _readable(book: FolderBook) -> Iterator[NotedBatch]:
    for name in book.names():
        try:
            batch = book.named(name)
        except StoreError as wrong:
            _log.warning("%s", wrong)
            continue
        if batch is not None:
            yield batch
