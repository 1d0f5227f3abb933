"""Do several readers of the same answers say the same, and do the conclusions survive a change of reader?

Readers judge the same answers, so everything here is paired: arrays have one row per answer and one column per reader,
NaN where a reader found nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from emoray.analysis.intervals import Interval, t_bounds, t_interval
from emoray.study.circumplex import Array

_ENOUGH = 3  # pairs: fewer have no correlation


@dataclass(frozen=True)
class Pair:
    """How two readers agree."""

    first: str
    second: str
    answers: int  # that both have read
    correlation: float  # Pearson's, of the scores of single answers
    cell_correlation: float  # of the mean scores of cells
    circular: float  # of the angles read
    mean_turn_deg: float  # how far apart their angles lie, 0 … 180, on average


@dataclass(frozen=True)
class Conclusion:
    """One thing that a run says, under each reader."""

    what: str  # "a above b", "a expresses the states"
    verdicts: Mapping[str, str]  # reader -> "yes", "no", "open" (the interval holds zero) or "unknown"

    @property
    def survives(self) -> bool:
        """Whether every reader that can tell says the same, and at least two can."""
        known = [verdict for verdict in self.verdicts.values() if verdict != "unknown"]
        return len(known) > 1 and len(set(known)) == 1


def correlation(a: Array, b: Array) -> float:
    """Pearson's correlation over the rows that both have; NaN for fewer than three, or where one never varies."""
    both = ~(np.isnan(a) | np.isnan(b))
    x, y = a[both], b[both]
    if len(x) < _ENOUGH:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float(np.clip((x * y).sum() / size, -1.0, 1.0)) if size > 0 else math.nan


def circular_correlation(a_deg: Array, b_deg: Array) -> float:
    """Of two angles (Jammalamadaka & SenGupta 2001): 1 where they turn together, 0 where they know nothing of another.

    Over the rows that both have; NaN for fewer than three, or where one of them never varies.
    """
    both = ~(np.isnan(a_deg) | np.isnan(b_deg))
    if both.sum() < _ENOUGH:
        return math.nan
    x, y = (_turned(np.radians(angles[both])) for angles in (a_deg, b_deg))
    size = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float(np.clip((x * y).sum() / size, -1.0, 1.0)) if size > 1e-12 else math.nan


def mean_turn_deg(a_deg: Array, b_deg: Array) -> float:
    """The mean distance between two angles in degrees, 0 … 180; NaN without a row that both have."""
    turns = np.abs((b_deg - a_deg + 180.0) % 360.0 - 180.0)
    there = turns[~np.isnan(turns)]
    return float(there.mean()) if len(there) else math.nan


def krippendorff_alpha(values: Array, level: Literal["interval", "nominal"] = "interval") -> float:
    """Krippendorff's alpha of (answers, readers) values, NaN where a reader found nothing.

    1 is full agreement, 0 what chance would give, below 0 less than that. Interval: squared differences; nominal: equal
    or not. Answers that fewer than two have read say nothing. NaN where nothing can differ.
    """
    paired = values[(~np.isnan(values)).sum(axis=1) > 1]
    there = ~np.isnan(paired)
    n = int(there.sum())
    if n < 2:
        return math.nan
    seen, expected = (_interval if level == "interval" else _nominal)(paired, there, n)
    return 1.0 - seen / expected if expected > 0 else math.nan


def pair(names: tuple[str, str], scores: Array, angles_deg: Array, cells: npt.NDArray[np.int64]) -> Pair:
    """Two readers: `scores` and `angles_deg` are (answers, 2), `cells` (answers,) says which cell each belongs to."""
    both = ~np.isnan(scores).any(axis=1)
    means = np.column_stack([_cell_means(scores[both, i], cells[both]) for i in (0, 1)])
    return Pair(
        *names,
        answers=int(both.sum()),
        correlation=correlation(scores[:, 0], scores[:, 1]),
        cell_correlation=correlation(means[:, 0], means[:, 1]),
        circular=circular_correlation(angles_deg[:, 0], angles_deg[:, 1]),
        mean_turn_deg=mean_turn_deg(angles_deg[:, 0], angles_deg[:, 1]),
    )


def pairs(names: Sequence[str], scores: Array, angles_deg: Array, cells: npt.NDArray[np.int64]) -> list[Pair]:
    """Every pair of readers; `scores` and `angles_deg` are (answers, readers)."""
    return [
        pair((names[i], names[j]), scores[:, [i, j]], angles_deg[:, [i, j]], cells)
        for i, j in itertools.combinations(range(len(names)), 2)
    ]


def rank_agreement(means: Array) -> float:
    """Kendall's W of the order of models under several readers; `means` is (readers, models).

    1: every reader orders them alike; 0: no common order. Models that some reader has no mean for are left out; NaN for
    fewer than two readers or models. Ties share their ranks, and are corrected for.
    """
    whole = means[:, ~np.isnan(means).any(axis=0)]
    readers, models = whole.shape
    if readers < 2 or models < 2:
        return math.nan
    ranks = np.array([_ranks(row) for row in whole])
    sums = ranks.sum(axis=0)
    spread = float(((sums - sums.mean()) ** 2).sum())
    ties = sum(float((n**3 - n).sum()) for n in (np.unique(row, return_counts=True)[1] for row in ranks))
    most = readers**2 * (models**3 - models) - readers * ties
    return 12.0 * spread / most if most > 0 else math.nan


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's, of the order of models under two readers; (models,) each."""
    both = ~(np.isnan(a) | np.isnan(b))
    return correlation(_ranks(a[both]), _ranks(b[both]))


def conclusions(
    question_means: Mapping[str, Mapping[str, Array]], ceilings: Mapping[str, float] | None = None, level: float = 0.95
) -> list[Conclusion]:
    """What a run says of its models, under each reader.

    `question_means` is reader -> model -> (questions,) mean scores, the same questions in the same order everywhere.
    That a model *expresses the states*: the interval over questions of its mean lies above zero. That one is *above
    another*: so does that of their paired difference. `ceilings` (reader -> best mean) divide the scores, where given.
    """
    scaled = {
        reader: {model: means / (ceilings or {}).get(reader, 1.0) for model, means in models.items()}
        for reader, models in question_means.items()
    }
    models = list(dict.fromkeys(model for of in scaled.values() for model in of))
    single = [_conclusion(f"{model} expresses the states", scaled, level, model) for model in models]
    double = [_conclusion(f"{a} above {b}", scaled, level, a, b) for a, b in itertools.combinations(models, 2)]
    return single + double


def surviving_share(found: Sequence[Conclusion]) -> float:
    """The share of the conclusions that every reader draws alike; NaN without any that two readers can draw."""
    drawn = [one for one in found if sum(verdict != "unknown" for verdict in one.verdicts.values()) > 1]
    return sum(one.survives for one in drawn) / len(drawn) if drawn else math.nan


def difference(first: Array, second: Array, level: float = 0.95) -> Interval:
    """Two readers' means of the same questions: their paired difference, over questions like these."""
    return t_interval((first - second)[:, None], level)


def _conclusion(
    what: str, means: Mapping[str, Mapping[str, Array]], level: float, model: str, other: str | None = None
) -> Conclusion:
    return Conclusion(what, {reader: _verdict(of, level, model, other) for reader, of in means.items()})


def _verdict(of: Mapping[str, Array], level: float, model: str, other: str | None) -> str:
    if model not in of or (other is not None and other not in of):
        return "unknown"
    gaps = of[model] if other is None else of[model] - of[other]
    _, low, high = (float(bound[0]) for bound in t_bounds(gaps[None, :], level))
    if math.isnan(low):
        return "unknown"
    return "yes" if low > 0 else "no" if high < 0 else "open"


def _interval(values: Array, there: npt.NDArray[np.bool_], n: int) -> tuple[float, float]:
    """(observed, expected) disagreement: squared differences inside answers, and among all values."""
    readers = there.sum(axis=1)
    filled = np.where(there, values - values[there].mean(), 0.0)  # less digits are lost around the mean
    sums, squares = filled.sum(axis=1), (filled**2).sum(axis=1)
    seen = float(((2 * readers * squares - 2 * sums**2) / (readers - 1)).sum()) / n
    expected = (2 * n * float(squares.sum()) - 2 * float(sums.sum()) ** 2) / (n * (n - 1))
    return seen, expected


def _nominal(values: Array, there: npt.NDArray[np.bool_], n: int) -> tuple[float, float]:
    """(observed, expected) disagreement: shares of unequal pairs inside answers, and among all values."""
    readers = there.sum(axis=1)
    kinds = np.unique(values[there])
    counts = np.stack([(values == kind).sum(axis=1) for kind in kinds], axis=1).astype(np.float64)
    unequal = readers.astype(np.float64) ** 2 - (counts**2).sum(axis=1)
    total = counts.sum(axis=0)
    return float((unequal / (readers - 1)).sum()) / n, (n**2 - float((total**2).sum())) / (n * (n - 1))


def _turned(angles: Array) -> Array:
    """The sines of the angles from their circular mean."""
    mean = math.atan2(float(np.sin(angles).sum()), float(np.cos(angles).sum()))
    return np.asarray(np.sin(angles - mean), dtype=np.float64)


def _cell_means(values: Array, cells: npt.NDArray[np.int64]) -> Array:
    _, codes = np.unique(cells, return_inverse=True)
    counts = np.bincount(codes)
    return np.asarray(np.bincount(codes, weights=values) / counts, dtype=np.float64)


def _ranks(values: Array) -> Array:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[codes], dtype=np.float64)
