"""A run folder as its present spec sees it: rows of cells that it no longer asks for are left out, and counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from emoray.resume import Settled
from emoray.spec import Study
from emoray.store import Part, RunFolder
from emoray.study.experiment import Grid
from emoray.study.prompts import prompts

_CHUNK = 100_000  # cells whose keys are texts at one time


class Belonging:
    """The models of a study and the rows of its grid; reads like the folder itself."""

    def __init__(self, folder: RunFolder, study: Study) -> None:
        self._folder, self._study = folder, study
        self._grid = {model.name: _keys(study.experiment.grid(model.name)) for model in study.experiment.models}

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
            grid = self._grid.get(model, Settled())
            count += len(grid.union(answered)) - len(grid)
        return count


def _keys(grid: Grid) -> Settled:
    """The keys of all cells: 16 bytes each, and about 6 s of rendering per million."""
    starts = range(0, len(grid), _CHUNK)
    parts = [Settled.of([prompt.key for prompt in prompts(grid, start, start + _CHUNK)]) for start in starts]
    return Settled().union(*parts)


class _Rows:
    def __init__(self, part: Part, grid: Settled) -> None:
        self._part, self._grid = part, grid

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        wanted = None if columns is None else [*columns, *(["key"] if "key" not in columns else [])]
        for table in self._part.tables(wanted):
            mine = table.filter(pa.array(self._grid.has(table["key"])))
            yield mine if columns is None else mine.select(list(columns))
