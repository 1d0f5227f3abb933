"""Several means at once: is any above zero, are all, and where in the order may each stand?

Who looks for the largest of nine means finds one, also where there is none to find. The p of *any* is therefore that of
the largest t: its distribution under equal means of zero is drawn from normal data with the correlation of the columns
(models answer the same questions, so their means err together, and a correction that took them as independent would be
far too careful). The p of *all* needs no correction: each single one must be shown (Berger 1982, Technometrics 24,
295).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emoray.analysis import student
from emoray.analysis.paired import Difference
from emoray.study.circumplex import Array

_DRAWS = 5_000
_FEWEST = 1_000  # draws: fewer tell less than Bonferroni's bound does
_WORK = 3e9  # multiplications that the draws may cost
_AT_ONCE = 2_000_000  # numbers in memory
_EXACT = 1e-15  # a smaller standard error is rounding


@dataclass(frozen=True)
class Fitted:
    """What a fit that filled in missing cells makes of means over questions (`additive.Lines`); (tests,) each."""

    added: Array  # to the variance of each mean; NaN where that is not known
    freedom: Array  # of the whole variance


@dataclass(frozen=True)
class Rank:
    """A place in an order of means, 1 for the highest, and the places that are not ruled out."""

    place: int
    low: int
    high: int


def p_all_above(columns: Array, fitted: Fitted | None = None) -> float:
    """One-sided p of "not every mean over questions lies above 0"; `columns` is (questions, tests), NaN for none.

    Student's t of each, questions - 1 degrees of freedom where nothing was `fitted`. A test of fewer than two questions
    can show nothing: 1, and NaN where all are such.
    """
    alone = _alone(columns, fitted)[1]
    return math.nan if np.isnan(alone).all() else float(np.where(np.isnan(alone), 1.0, alone).max())


def p_any_above(columns: Array, fitted: Fitted | None = None) -> float:
    """One-sided p of "no mean over questions lies above 0"; `columns` and `fitted` as above.

    Of the largest t, by 5,000 draws of normal data with the correlation that the columns have, and never above
    Bonferroni's bound. The same columns always give the same p. NaN where every test has fewer than two questions.
    Bonferroni's bound where a column has no correlation: its questions agree exactly, and only the fit strays.
    """
    t, alone = _alone(columns, fitted)
    known = np.isfinite(alone)
    if not known.any():
        return math.nan
    bonferroni = min(1.0, float(alone[known].min()) * int(known.sum()))
    vary, flat = known & np.isfinite(t), ~(_means(columns)[2] > _EXACT)
    if vary.sum() < 2 or bonferroni == 0.0 or flat[vary].any():
        return bonferroni
    return min(bonferroni, _share_as_large(columns[:, vary], float(t[vary].max())))


def ranks(names: Sequence[str], means: Sequence[float], apart: Sequence[Difference], level: float = 0.95) -> list[Rank]:
    """The place of every mean, and where it may stand: by how many others it is surely below, and surely above.

    `apart` are all pairs of the family with p after Holm, so at `level` every interval holds its true place at once
    (Mohamad, Goeman & van Zwet 2019). Equal places where a mean is not known: the last.
    """
    above = dict.fromkeys(names, 0)
    below = dict(above)
    for one in apart:
        if one.p_holm <= 1 - level:
            better, worse = (one.a, one.b) if one.interval.estimate > 0 else (one.b, one.a)
            above[worse] += 1
            below[better] += 1
    known = [-math.inf if math.isnan(mean) else mean for mean in means]
    places = [1 + sum(other > mean for other in known) for mean in known]
    return [
        Rank(place, min(place, 1 + above[name]), max(place, len(names) - below[name]))
        for name, place in zip(names, places, strict=True)
    ]


def _alone(columns: Array, fitted: Fitted | None) -> tuple[Array, Array]:
    """(tests,) of t and its one-sided p; infinite t where questions agree exactly, NaN of fewer than two."""
    n, mean, error = _means(columns)
    freedom = n - 1.0
    if fitted is not None:
        error, freedom = np.sqrt(error**2 + fitted.added), fitted.freedom
        n = np.where(np.isnan(fitted.added), 0, n)
    exact = (n > 1) & ~(error > _EXACT)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(exact, np.where(np.abs(mean) > _EXACT, np.sign(mean) * np.inf, -np.inf), mean / error)
    t = np.where(n > 1, t, np.nan)
    each = zip(t, n, freedom, strict=True)
    return t, np.array([student.tail(float(x), float(df)) if k > 1 else math.nan for x, k, df in each])


def _means(columns: Array) -> tuple[Array, Array, Array]:
    """(…, questions, tests) -> how many, their mean and its standard error, (…, tests) each."""
    there = ~np.isnan(columns)
    n = there.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, columns, 0.0).sum(axis=-2) / n
        squares = np.where(there, (columns - mean[..., None, :]) ** 2, 0.0).sum(axis=-2)
        return n, mean, np.sqrt(squares / (n - 1) / n)


def _share_as_large(columns: Array, largest: float) -> float:
    """The share of draws whose largest t is at least as large."""
    found = [drawn.max(axis=1) >= largest for drawn in _drawn(columns)]
    draws = sum(map(len, found))
    return (1 + sum(int(some.sum()) for some in found)) / (1 + draws) if draws >= _FEWEST else 1.0


def _drawn(columns: Array) -> Iterator[Array]:
    """(some draws, tests) of t: normal data without any mean, correlated and missing as the columns are."""
    there = ~np.isnan(columns)
    centred = np.where(there, columns - np.nanmean(columns, axis=0), 0.0)
    _, sizes, directions = np.linalg.svd(centred / np.linalg.norm(centred, axis=0), full_matrices=False)
    root = (sizes[:, None] * directions)[sizes > 1e-10]
    questions, tests = columns.shape
    left = min(_DRAWS, int(_WORK / (questions * len(root) * tests)))
    rng = np.random.default_rng(0)
    while left > 0:
        some = min(left, max(1, _AT_ONCE // (questions * tests)))
        draws = rng.standard_normal((some, questions, len(root))) @ root
        _, mean, error = _means(draws if there.all() else np.where(there, draws, np.nan))
        yield mean / error
        left -= some
