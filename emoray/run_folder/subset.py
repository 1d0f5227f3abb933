"""A run folder as its present spec sees it: rows of cells that it no longer asks for are left out, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from emoray.run_folder import columns, manifest
from emoray.run_folder.census import KeySet
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.partition import Counts, Partition
from emoray.spec.study import Study
from emoray.study.experiment import Grid
from emoray.study.prompts import prompts

_CHUNK = 100_000  # cells whose keys are texts at one time


class Rows(Protocol):
    """Rows of a run folder, one per key."""

    def tables(self, columns: Sequence[str] | None = None) -> Iterable[pa.Table]: ...
    def counts(self) -> Counts: ...


def as_asked(folder: RunFolder, study: Study) -> RunFolder | AskedSubset:
    """What in a folder its study asks for: all of it, unless the folder was shared with another spec's answers."""
    kept = manifest.read(folder)
    return AskedSubset(folder, study) if kept and kept.extended else folder


def unread(part: Rows) -> dict[str, int]:
    """How many answers a reader could not read, by kind: what stands before the colon of its error."""
    kinds: Counter[str] = Counter()
    for table in part.tables(["read_error"]) if part.counts().failed else ():
        kinds.update(error.partition(":")[0] for error in table["read_error"].drop_null().to_pylist())
    return dict(sorted(kinds.items()))


def unread_texts(part: Rows) -> dict[str, str]:
    """What was said of one answer of each kind that a reader could not read."""
    found: dict[str, str] = {}
    for table in part.tables(["read_error"]) if part.counts().failed else ():
        for error in table["read_error"].drop_null().unique().to_pylist():
            kind, _, said = error.partition(": ")
            if said:
                found.setdefault(kind, said)
    return dict(sorted(found.items()))


def failure_texts(part: Rows) -> dict[str, str]:
    """What was said of one failure of each kind; reads no further than to the first of the last kind."""
    owed = set(part.counts().failed)
    found: dict[str, str] = {}
    for table in part.tables(["outcome", "error"]) if owed else ():
        failed = table.filter(pc.and_(pc.is_in(table["outcome"], pa.array(sorted(owed))), pc.is_valid(table["error"])))
        for kind in set(failed["outcome"].unique().to_pylist()):
            found[kind] = failed["error"][pc.index(failed["outcome"], kind).as_py()].as_py()
            owed.remove(kind)
        if not owed:
            break
    return dict(sorted(found.items()))


class AskedSubset:
    """The models of a study and the rows of its grid; reads like the folder itself."""

    def __init__(self, folder: RunFolder, study: Study) -> None:
        self._folder, self._study = folder, study
        self._grid = {model.name: _keys(study.experiment.grid(model.name)) for model in study.experiment.models}

    @property
    def shown(self) -> str:
        return self._folder.shown

    def manifest(self) -> dict[str, Any] | None:
        return self._folder.manifest()

    def readers(self) -> list[str]:
        return self._folder.readers()

    def models(self) -> list[str]:
        return [model for model in self._folder.models() if model in self._grid]

    def answers(self, model: str) -> _Rows:
        return _Rows(self._folder.answers(model), self._grid[model])

    def rows(self, reader: str, model: str) -> _Rows:
        return _Rows(self._folder.rows(reader, model), self._grid[model])

    def strangers(self) -> int:
        """How many answers of the folder the spec does not ask for."""
        count = 0
        for model in self._folder.models():
            answered = self._folder.answers(model).settled()
            grid = self._grid.get(model, KeySet())
            count += len(grid.union(answered)) - len(grid)
        return count


def _keys(grid: Grid) -> KeySet:
    """The keys of all cells: 16 bytes each, and about 6 s of rendering per million."""
    starts = range(0, len(grid), _CHUNK)
    parts = [KeySet.of([prompt.key for prompt in prompts(grid, start, start + _CHUNK)]) for start in starts]
    return KeySet().union(*parts)


class _Rows:
    def __init__(self, part: Partition, grid: KeySet) -> None:
        self._part, self._grid = part, grid

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        wanted = None if columns is None else [*columns, *(["key"] if "key" not in columns else [])]
        for table in self._part.tables(wanted):
            mine = table.filter(pa.array(self._grid.has(table["key"])))
            yield mine if columns is None else mine.select(list(columns))

    def counts(self) -> Counts:
        """Of the keys that belong; files, money and tokens are those of the whole part."""
        kinds: Counter[str] = Counter()
        for table in self.tables([name for name in ("outcome", "read_error") if name in self._part.schema.names]):
            kinds.update(_kinds(table).to_pylist())
        return replace(self._part.counts(), answered=kinds.pop(columns.ANSWERED, 0), failed=dict(sorted(kinds.items())))


def _kinds(table: pa.Table) -> pa.ChunkedArray:
    """What became of each row."""
    if "read_error" not in table.column_names:
        return table["outcome"]
    return pc.if_else(pc.is_valid(table["read_error"]), "unread", table["outcome"])
