"""What a lane asks of its keys, found out by tasks: the driver never holds them, so it does not grow with the cells.

A set of settled keys is 16 bytes per key in the object store, which every node reads without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from emoray.run_folder import census, tabs
from emoray.run_folder.census import KeySet, Spent
from emoray.run_folder.errors import StoreError
from emoray.run_folder.partition import Partition
from emoray.stream.cause import sentence
from emoray.study.experiment import Grid
from emoray.study.prompts import prompts


@dataclass(frozen=True)
class SettledRef:
    """The settled keys of a part: how many, and where they are."""

    count: int
    settled: Any  # an object reference


def known(part: Partition) -> SettledRef:
    settled, count = _settle.remote(part)
    return SettledRef(_got(count), settled)


def owed(grid: Grid, cells: int, known: SettledRef) -> int:
    """How many of the first cells of a grid are not settled."""
    return int(_got(_count_owed.remote(grid, cells, known.settled)))


def spent(part: Partition) -> Spent:
    """What the rows of a part cost, also those that do not count."""
    found: Spent = _got(_sum_spent.remote(part))
    return found


def torn_usd(part: Partition) -> float:
    """US dollars that rows cost which were lost with their files."""
    return float(_got(_sum_torn.remote(part)))


def unread(answered: SettledRef, read: SettledRef) -> int:
    """How many answers a reader has not read."""
    return int(_got(_count_unread.remote(answered.settled, read.settled)))


def _got(result: Any) -> Any:
    """The result of a task, or what it raised, as it raised it; StoreError where its process or its node has died."""
    try:
        return ray.get(result)
    except RayTaskError as wrong:
        raise wrong.cause from None
    except RayError as wrong:
        raise StoreError(f"a process of Ray's ended while it counted what is there: {sentence(wrong)}") from wrong


def _settled(part: Partition) -> tuple[KeySet, int]:
    settled = part.settled()
    return settled, len(settled)


def _owed(grid: Grid, cells: int, settled: KeySet) -> int:
    return sum(1 for _ in census.owed(prompts(grid, 0, cells), settled))


def _spent(part: Partition) -> Spent:
    return sum(part.spent().values(), Spent())


def _unread(answered: KeySet, read: KeySet) -> int:
    return int((~read.has_words(answered.high, answered.low)).sum())


_settle: Any = ray.remote(num_cpus=0, num_returns=2)(_settled)
_count_owed: Any = ray.remote(num_cpus=0)(_owed)
_sum_spent: Any = ray.remote(num_cpus=0)(_spent)
_sum_torn: Any = ray.remote(num_cpus=0)(tabs.torn_usd)
_count_unread: Any = ray.remote(num_cpus=0)(_unread)
