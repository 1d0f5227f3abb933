"""Where the actors of a lane turn with what was paid for, when the run folder does not take it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.partition import Partition
from emoray.run_folder.spill import Spill

_PRICES = ("read_cost_usd", "cost_usd")  # of a reading; of an answer


class LaneRefuge:
    """A `Refuge` that ends its lane: nothing more is asked, and what is in flight is still received."""

    def __init__(
        self, part: Partition, attempt: str, ledger: Any, stop: Callable[[str], None] = lambda _: None
    ) -> None:
        """`stop` holds back what has been handed to the host and was not sent yet."""
        self._part, self._spill = part, Spill(RunFolder(part.folder.uri), attempt)
        self._ledger, self._stop = ledger, stop

    def trouble(self, why: str) -> None:
        self._ledger.full.remote(why)
        self._stop(why)

    def make_room(self) -> bool:
        with suppress(StoreError):
            return self._part.folder.throw_ballast()
        return False

    def keep(self, name: str, data: bytes, table: pa.Table) -> str:
        where = str(self._spill.keep(f"{self._part.relative}/{name}", data))
        self._ledger.put_aside.remote(where, table.num_rows)
        return where

    def lost(self, table: pa.Table) -> None:
        price = next(name for name in _PRICES if name in table.column_names)
        self._ledger.lost.remote(table.num_rows, pc.sum(table[price]).as_py() or 0.0)
