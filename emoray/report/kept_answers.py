"""Single answers that the page's browser shows: all of a small run, of a large one those whose keys are smallest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from emoray.run_folder import columns

MOST = 4_000  # answers of a run
_SAID = (
    "key", "state_deg", "question_id", "template", "intensity", "repetition", "answer", "refused", "role_break",
    "finish_reason", "prompt_sha", "question",
)  # fmt: skip
_COSINE = 6  # decimals: the page rounds it once more, to two, and filters by it
_FELT = ("key", "label", "cosine", "felt_valence", "felt_arousal")


@dataclass
class Kept:
    """Of one model's answers the `most` whose keys are smallest, whatever order they come in."""

    most: int = 0
    of: int = 0  # answers there were
    table: pa.Table | None = None

    def add(self, answers: pa.Table) -> None:
        self.of += answers.num_rows
        if self.most and answers.num_rows:
            new = self._wanted(answers.select(list(_SAID)))
            both = pa.concat_tables([self.table, new]) if self.table else new
            self.table = both.sort_by("key").slice(0, self.most).combine_chunks()

    def keys(self) -> pa.Array:
        return self.table["key"].combine_chunks() if self.table else pa.array([], pa.string())

    def rows(self) -> list[dict[str, Any]]:
        return self.table.to_pylist() if self.table else []

    def _wanted(self, answers: pa.Table) -> pa.Table:
        """Those that may be among the smallest: the others need not be sorted."""
        if self.table is None or self.table.num_rows < self.most:
            return answers
        return answers.filter(pc.less(answers["key"], self.table["key"][-1]))


@dataclass
class Readings:
    """What one reader read in the answers that are kept."""

    wanted: pa.Array
    labels: tuple[str, ...]
    found: dict[str, list[Any]] = field(default_factory=dict)  # by key: label, cosine, place, thousandths by label

    def add(self, scored: pa.Table) -> None:
        some = scored.filter(pc.is_in(scored["key"], self.wanted)) if len(self.wanted) else scored.slice(0, 0)
        if some.num_rows:
            read = columns.probabilities(some, self.labels)
            for row, of_labels in zip(some.select(list(_FELT)).to_pylist(), read, strict=True):
                self.found[row["key"]] = self._one(row, of_labels)

    def _one(self, row: Mapping[str, Any], of_labels: npt.NDArray[np.float32]) -> list[Any]:
        label = self.labels.index(row["label"]) if row["label"] in self.labels else -1
        place = [row["felt_valence"], row["felt_arousal"]]
        thousandths = [] if np.isnan(of_labels).any() else np.rint(of_labels * 1000).astype(int).tolist()
        return [label, short(row["cosine"], _COSINE), None if None in place else [short(x) for x in place], thousandths]


@dataclass(frozen=True)
class Browsed:
    """The answers of one model that the page holds, and what every reader read in them."""

    model: str
    kept: Kept
    readings: Mapping[str, Readings]  # by reader


def short(value: float | None, places: int = 3) -> float | None:
    return None if value is None or math.isnan(value) else round(value, places)
