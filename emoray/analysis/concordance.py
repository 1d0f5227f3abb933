"""Does a reader's number agree with people's? Correlation, concordance and error of paired values, with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emoray.analysis import student
from emoray.study.circumplex import Array

_LEAST = 4  # pairs: Fisher's z needs three degrees of freedom and one more


@dataclass(frozen=True)
class Bounded:
    """A figure and where it would lie for other texts of the kind; NaN bounds of too few."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Concordance:
    """How two columns of numbers agree."""

    texts: int
    pearson: Bounded  # 1 on any rising line
    concordance: Bounded  # Lin's: 1 on the line of equal values alone
    error: Bounded  # mean absolute difference


def concordance(theirs: Array, ours: Array, level: float = 0.95) -> Concordance:
    """The agreement of (texts,) values, NaN pairs left out.

    Intervals: Fisher's z of Pearson's r; Lin's z of the concordance (Lin 1989, Biometrics 45, 255, with the variance as
    corrected in 2000); Student's t of the mean absolute error. NaN where one of the two never varies.
    """
    both = ~(np.isnan(theirs) | np.isnan(ours))
    x, y = theirs[both], ours[both]
    n = len(x)
    gaps = np.abs(x - y)
    error = float(gaps.mean()) if n else math.nan
    reach = student.quantile((1 + level) / 2, n - 1) * float(gaps.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    found = Bounded(error, float(np.maximum(0.0, error - reach)), error + reach)
    if n < 2 or min(x.std(), y.std()) < 1e-12:
        nothing = Bounded(math.nan, math.nan, math.nan)
        return Concordance(n, nothing, nothing, found)
    r = float(np.clip(((x - x.mean()) * (y - y.mean())).mean() / (x.std() * y.std()), -1.0, 1.0))
    lins = 2 * r * float(x.std() * y.std()) / float(x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    shift = float((x.mean() - y.mean()) ** 2 / (x.std() * y.std()))
    return Concordance(
        n, _by_z(r, 1 / math.sqrt(max(n - 3, 1)), n, level), _by_z(lins, _lin_error(r, lins, shift, n), n, level), found
    )


def one_against_the_others(values: Array, texts: npt.NDArray[np.int64], level: float = 0.95) -> Concordance | None:
    """How one rating agrees with the mean of the others of the same text: as well as a reader can be hoped to do.

    (ratings,) values and the number of the text of each. The texts of one rating tell nothing; None where all are such.
    A rating stands in the mean of each of the others of its text, so the intervals are over texts: a jackknife of the
    z of both correlations and of the error, Student's t.
    """
    n, sums = np.bincount(texts), np.bincount(texts, weights=values)
    several = n[texts] > 1
    if not several.any():
        return None
    others = (sums[texts] - values)[several] / (n[texts] - 1)[several]
    found = concordance(others, values[several], level)
    without = _without_each_text(others, values[several], texts[several])
    pearson, lins, error = (
        _jackknifed(one.estimate, left_out, level, is_correlation=is_correlation)
        for one, left_out, is_correlation in zip(
            (found.pearson, found.concordance, found.error), without, (True, True, False), strict=True
        )
    )
    return Concordance(found.texts, pearson, lins, error)


def _without_each_text(x: Array, y: Array, texts: npt.NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """(texts,) each: Pearson's r, Lin's concordance and the mean absolute difference of all others."""
    _, codes = np.unique(texts, return_inverse=True)
    a, b = x - x.mean(), y - y.mean()  # less digits are lost around the mean
    columns = (np.ones_like(a), a, b, a * a, b * b, a * b, np.abs(x - y))
    sums = np.array([np.bincount(codes, weights=column) for column in columns])
    left = sums.sum(axis=1, keepdims=True) - sums
    with np.errstate(invalid="ignore", divide="ignore"):
        of_a, of_b, squares_a, squares_b, products, error = left[1:] / left[0]
        var_a, var_b, both = squares_a - of_a**2, squares_b - of_b**2, products - of_a * of_b
        apart = (of_a + x.mean() - of_b - y.mean()) ** 2
        return both / np.sqrt(var_a * var_b), 2 * both / (var_a + var_b + apart), error


def _jackknifed(value: float, without: Array, level: float, *, is_correlation: bool) -> Bounded:
    """An interval over what is left out one by one; of a correlation by its z, of an error not below 0."""
    n, whole = len(without), is_correlation and abs(value) >= 1.0 - 1e-12
    if whole:
        return Bounded(value, value, value)
    with np.errstate(divide="ignore"):
        moved = np.arctanh(np.clip(without, -1.0, 1.0)) if is_correlation else without
    if n < _LEAST or not np.isfinite(moved).all():
        return Bounded(value, math.nan, math.nan)
    reach = student.quantile((1 + level) / 2, n - 1) * math.sqrt((n - 1) * float(moved.var()))
    if is_correlation:
        return Bounded(value, math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach))
    return Bounded(value, max(0.0, value - reach), value + reach)


def _by_z(value: float, error: float, n: int, level: float) -> Bounded:
    """An interval of the inverse hyperbolic tangent, turned back."""
    if n < _LEAST or math.isnan(error):
        return Bounded(value, math.nan, math.nan)
    if abs(value) >= 1.0 - 1e-12:
        return Bounded(value, value, value)
    reach = student.quantile((1 + level) / 2, 1e6) * error
    return Bounded(value, math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach))


def _lin_error(r: float, lins: float, shift: float, n: int) -> float:
    """The standard error of the concordance's z."""
    if abs(r) < 1e-9 or abs(r) >= 1.0 - 1e-12 or n < _LEAST:
        return math.nan
    first = (1 - r**2) * lins**2 / ((1 - lins**2) * r**2)
    second = 2 * lins**3 * (1 - lins) * shift / (r * (1 - lins**2) ** 2)
    third = lins**4 * shift**2 / (2 * r**2 * (1 - lins**2) ** 2)
    return math.sqrt(max(0.0, first + second - third) / (n - 2))
