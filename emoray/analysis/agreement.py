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

from emoray.analysis.intervals import Interval, t_interval
from emoray.analysis.paired import difference as paired_difference
from emoray.analysis.paired import differences, holm
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
    def told(self) -> tuple[str, ...]:
        """The verdicts of the readers that can tell."""
        return tuple(verdict for verdict in self.verdicts.values() if verdict != "unknown")

    @property
    def drawn(self) -> bool:
        """Whether at least two readers can tell, and any of them says yes or no."""
        return len(self.told) > 1 and set(self.told) != {"open"}

    @property
    def survives(self) -> bool:
        """Whether it is drawn, and every reader that can tell draws it alike."""
        return self.drawn and len(set(self.told)) == 1


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
    """Of two angles: 1 where they turn together, -1 where they turn oppositely, 0 where they know nothing of another.

    Fisher & Lee's T-linear coefficient (1983, Biometrika 70, 327): how sin(a_i - a_j) and sin(b_i - b_j) go together
    over all pairs of rows. It centres on no mean direction, which evenly spread states do not have. Over the rows that
    both have; NaN for fewer than three, or where one of them never varies but by half turns.
    """
    both = ~(np.isnan(a_deg) | np.isnan(b_deg))
    if both.sum() < _ENOUGH:
        return math.nan
    a, b = np.radians(a_deg[both]), np.radians(b_deg[both])
    together = (np.cos(a) @ np.cos(b)) * (np.sin(a) @ np.sin(b)) - (np.cos(a) @ np.sin(b)) * (np.sin(a) @ np.cos(b))
    spreads = _sine_spread(a), _sine_spread(b)
    if min(spreads) < 1e-12:
        return math.nan
    return float(np.clip(4 * together / len(a) ** 2 / math.sqrt(spreads[0] * spreads[1]), -1.0, 1.0))


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
    ranks = np.array([rank_order(row) for row in whole])
    sums = ranks.sum(axis=0)
    spread = float(((sums - sums.mean()) ** 2).sum())
    ties = sum(float((n**3 - n).sum()) for n in (np.unique(row, return_counts=True)[1] for row in ranks))
    most = readers**2 * (models**3 - models) - readers * ties
    return 12.0 * spread / most if most > 0 else math.nan


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's, of the order of models under two readers; (models,) each."""
    both = ~(np.isnan(a) | np.isnan(b))
    return correlation(rank_order(a[both]), rank_order(b[both]))


def conclusions(scores: Mapping[str, Mapping[str, Array]], level: float = 0.95) -> list[Conclusion]:
    """What a run says of its models, under each reader.

    `scores` is reader -> model -> (questions, prompts), the same in the same order everywhere. That a model *expresses
    the states*: its mean over questions lies above zero, after Holm's correction for all models of the reader. That one
    is *above another*: their paired difference does, after Holm's correction for all pairs of the reader.
    """
    models = list(dict.fromkeys(model for of in scores.values() for model in of))
    single = {reader: _expressed(of, level) for reader, of in scores.items()}
    double = {reader: _orders(of, level) for reader, of in scores.items()}
    expressed = [
        Conclusion(f"{model} expresses the states", {r: of.get(model, "unknown") for r, of in single.items()})
        for model in models
    ]
    ordered = [
        Conclusion(f"{a} above {b}", {r: of.get((a, b), "unknown") for r, of in double.items()})
        for a, b in itertools.combinations(models, 2)
    ]
    return expressed + ordered


def surviving_share(found: Sequence[Conclusion]) -> float:
    """The share of the conclusions that every reader draws alike; NaN without any that is drawn."""
    drawn = [one for one in found if one.drawn]
    return sum(one.survives for one in drawn) / len(drawn) if drawn else math.nan


def difference(first: Array, second: Array, level: float = 0.95) -> Interval:
    """Two readers' means of the same questions: their paired difference, over questions like these."""
    return t_interval((first - second)[:, None], level)


def _expressed(of: Mapping[str, Array], level: float) -> dict[str, str]:
    """Whether the mean of each model of a reader lies above 0, after Holm's correction for all of them."""
    found = {model: paired_difference(one, np.zeros_like(one), level) for model, one in of.items()}
    fair = holm([p for _, p in found.values()])
    return {model: _verdict(mean.estimate, p, level) for (model, (mean, _)), p in zip(found.items(), fair, strict=True)}


def _verdict(mean: float, p_holm: float, level: float) -> str:
    if math.isnan(p_holm):
        return "unknown"
    return "open" if p_holm > 1 - level else "yes" if mean > 0 else "no"


def _orders(of: Mapping[str, Array], level: float) -> dict[tuple[str, str], str]:
    """(a, b) -> whether a lies above b, for every pair of one reader's models, either way round."""
    found = {}
    for one in differences(of, level):
        for a, b, gap in ((one.a, one.b, one.interval.estimate), (one.b, one.a, -one.interval.estimate)):
            found[a, b] = _verdict(gap, one.p_holm, level)
    return found


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


def _sine_spread(angles: Array) -> float:
    """The mean of 2 sin² between all pairs of angles (radians): 0 where they lie on one line, 1 at most."""
    return 1.0 - float(np.cos(2 * angles).mean()) ** 2 - float(np.sin(2 * angles).mean()) ** 2


def _cell_means(values: Array, cells: npt.NDArray[np.int64]) -> Array:
    _, codes = np.unique(cells, return_inverse=True)
    counts = np.bincount(codes)
    return np.asarray(np.bincount(codes, weights=values) / counts, dtype=np.float64)


def rank_order(values: Array) -> Array:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[codes], dtype=np.float64)
