"""How much of a table or figure the page shows, so that it can be opened and read; it says where the rest is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ROWS = 100  # of a table
MODELS = 30  # beside one another in a table, and of groups below one another
PANELS = 36  # of each kind, over all readers
PANELS_EACH = 12  # of each kind and reader
READERS = 12  # that have panels and figures
EXAMPLES = 24  # answers of a model


@dataclass(frozen=True)
class Shown:
    """The first lines of a table, and a sentence on the others; "" where there are none."""

    lines: Sequence[Any]
    more: str = ""


def shown(lines: Sequence[Any], where: str, *, most: int = ROWS) -> Shown:
    """`where` is the file that has all of them."""
    return Shown(lines[:most], more((("", len(lines) - most),), where))


def more(left_out: Iterable[tuple[str, int]], where: str) -> str:
    """What is not shown, by what it is, and the file that has it: `9,900 more in tables/questions.csv.`"""
    counts = [f"{n:,} more {_one(what) if n == 1 else what}".rstrip() for what, n in left_out if n > 0]
    return f"{' and '.join(counts)} in {where}." if counts else ""


def _one(plural: str) -> str:
    """`family of pairs`"""
    return plural.replace("families", "family") if "families" in plural else plural.removesuffix("s")


def panels_each(readers: int) -> int:
    """How many models have panels under each reader that has any."""
    return max(1, min(PANELS_EACH, PANELS // max(1, min(readers, READERS))))
