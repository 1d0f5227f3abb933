"""Where a lane's blocks come from: the owed part of the grid, or answers that a reader has not read yet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from emoray.run_folder import columns
from emoray.run_folder.census import owed, owed_rows
from emoray.run_folder.errors import CorruptFile, FileVanished
from emoray.run_folder.partition import Partition
from emoray.study.experiment import Grid
from emoray.study.prompts import prompts

_SLICES = 256  # at most so many read tasks: each streams its part, so the driver holds a list that never grows


class GridSource(Datasource):  # type: ignore[misc]
    """ASKED rows of the cells that are owed, in blocks, computed where they are needed."""

    def __init__(self, grid: Grid, cells: int, settled: Any, ledger: Any, block_rows: int) -> None:
        """The first `cells` of the grid's asking order; `settled` is an object reference."""
        self._grid, self._cells, self._settled = grid, cells, settled
        self._ledger, self._block_rows = ledger, block_rows

    def estimate_inmemory_data_size(self) -> None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """The grid cut into consecutive slices of whole blocks."""
        blocks = -(-self._cells // self._block_rows)
        per_slice = -(-blocks // min(parallelism, _SLICES)) * self._block_rows
        starts = range(0, self._cells, per_slice)
        return [_task(self._slice(start, start + per_slice, len(starts))) for start in starts]

    def _slice(self, start: int, stop: int, of: int) -> Callable[[], Iterator[pa.Table]]:
        grid, settled, ledger, block_rows = self._grid, self._settled, self._ledger, self._block_rows
        stop = min(stop, self._cells)

        def asked() -> Iterator[pa.Table]:
            fresh = owed(prompts(grid, start, stop), ray.get(settled))
            found = 0
            goes_on = None  # what the ledger said when it heard of the block before: nobody waits for its answer
            while block := list(itertools.islice(fresh, block_rows)):
                if goes_on is not None and not ray.get(goes_on):
                    return
                found += len(block)
                goes_on = ledger.found.remote(start, found)
                yield columns.asked(block)
            ledger.searched.remote(start, of)

        return asked


class AnswersSource(Datasource):  # type: ignore[misc]
    """Answers whose keys a reader has not read yet."""

    def __init__(self, part: Partition, read: Any, ledger: Any, block_rows: int) -> None:
        """`read` is an object reference to the keys that were read."""
        self._part, self._read = part, read
        self._ledger, self._block_rows = ledger, block_rows

    def estimate_inmemory_data_size(self) -> None:
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        part, read, ledger, block_rows = self._part, self._read, self._ledger, self._block_rows

        def unread() -> Iterator[pa.Table]:
            done = ray.get(read)
            for table in part.tables():
                fresh = owed_rows(table.filter(pc.equal(table["outcome"], columns.ANSWERED)), done)
                for start in range(0, fresh.num_rows, block_rows):
                    if not ray.get(ledger.reads_on.remote()):
                        return
                    yield fresh.slice(start, block_rows).combine_chunks()

        return [_task(unread)]

    def block_bytes(self) -> float:
        """Of a block, as the first answers are; 0 where none can be read."""
        for info in self._part.infos():
            with suppress(FileVanished, CorruptFile):
                file = self._part.open(info)
                with self._part.reading(info), file:
                    for batch in file.iter_batches(batch_size=self._block_rows):
                        return float(batch.nbytes / len(batch) * self._block_rows)
        return 0.0


def _task(read: Callable[[], Iterator[pa.Table]]) -> ReadTask:
    return ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))
