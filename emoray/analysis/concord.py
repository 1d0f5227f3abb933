"""How far readers agree, with what chance would give and with an interval over questions.

Two measures. *Directions*: Krippendorff's alpha of the angles read, with 1 - cos of the angle between two readings as
their distance; readers that err independently around the same direction are not punished for a score that is skewed.
`score_alpha` is the same of the scores, for who compares.
*Order*: Kendall's W of the models' order, which is 1 / readers by chance, corrected so that chance is 0; that is the
mean rank correlation of two readers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from emoray.analysis import student
from emoray.analysis.agreement import rank_agreement, rank_order
from emoray.analysis.intervals import OVER_QUESTIONS, Interval, question_means
from emoray.study.circumplex import Array

_MOST_ORDERS = 20_000  # all of them are gone through up to here, and as many are drawn beyond
_DRAWS = 2_000
_AT_ONCE = 500
_COMPARISONS, _NUMBERS = 400_000_000, 2_000_000  # that all draws may cost, and that are in memory


def direction_alpha(angles_deg: Array, questions: npt.NDArray[Any], level: float = 0.95) -> Interval:
    """Krippendorff's alpha of (answers, readers) angles in degrees, NaN where a reader found no direction.

    The distance of two readings is 1 - cos of the angle between them, which is half the squared distance of their unit
    vectors. Answers in which fewer than two found a direction say nothing. `questions` (answers,) says which question
    each answer is of: the interval is over questions like these (jackknife of log(1 - alpha), Student's t), so it never
    passes 1. NaN where nothing can differ; NaN bounds with fewer than two questions.
    """
    paired = (~np.isnan(angles_deg)).sum(axis=1) > 1
    if not paired.any():
        return Interval(math.nan, math.nan, math.nan, level, 0, OVER_QUESTIONS)
    return _alpha(_direction_sums(angles_deg[paired], questions[paired]), level)


def score_alpha(scores: Array, questions: npt.NDArray[Any], level: float = 0.95) -> Interval:
    """Krippendorff's alpha of (answers, readers) scores as intervals, NaN where a reader has none; else as above."""
    paired = (~np.isnan(scores)).sum(axis=1) > 1
    if not paired.any():
        return Interval(math.nan, math.nan, math.nan, level, 0, OVER_QUESTIONS)
    return _alpha(_score_sums(scores[paired], questions[paired]), level)


def order_agreement(means: Array) -> float:
    """Kendall's W of (readers, models) means, corrected for chance: 1 the same order, 0 what chance gives.

    (W - 1/k) / (1 - 1/k) for k readers, the mean rank correlation of two of them; at least -1/(k - 1). NaN as W is.
    """
    readers = len(means)
    return (readers * rank_agreement(means) - 1.0) / (readers - 1.0) if readers > 1 else math.nan


def order_p(means: Array) -> float:
    """How often readers that know nothing of one another order the models at least as alike; `means` as above.

    Every reader's order is dealt anew: all deals where there are few, else 20,000 of them (the same for the same
    shape). NaN where there is nothing to order.
    """
    whole = means[:, ~np.isnan(means).any(axis=0)]
    if math.isnan(rank_agreement(whole)):
        return math.nan
    ranks = np.array([rank_order(row) for row in whole])
    seen = float(_spread(ranks.sum(axis=0)[None, :])[0])
    dealt = [_spread(sums) >= seen - 1e-9 for sums in _dealt(ranks)]
    as_alike, all_ = sum(int(some.sum()) for some in dealt), sum(map(len, dealt))
    return as_alike / all_ if _deals(ranks) <= _MOST_ORDERS else (1 + as_alike) / (1 + all_)


def order_interval(question_means_: Array, level: float = 0.95) -> Interval:
    """`order_agreement` with an interval over questions like these; (readers, models, questions) means, NaN for none.

    Whole questions are drawn with replacement, the same for every reader and model. Noise only ever lowers agreement,
    so the interval also reaches as far above the estimate as the draws fall below it. NaN bounds with fewer than two
    questions.
    """
    readers, models, questions = question_means_.shape
    means = question_means(question_means_.reshape(-1, questions)).reshape(readers, models)
    estimate, question_means_ = order_agreement(means), question_means_[:, ~np.isnan(means).any(axis=0)]
    if questions < 2 or math.isnan(estimate):
        return Interval(estimate, math.nan, math.nan, level, questions, OVER_QUESTIONS)
    drawn = np.concatenate([_orders(question_means_, some) for some in _samples(questions, readers * models**2)])
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    high = min(1.0, max(float(high), 2 * estimate - float(low)))
    return Interval(estimate, min(float(low), estimate), max(high, estimate), level, questions, OVER_QUESTIONS)


def _direction_sums(angles_deg: Array, questions: npt.NDArray[Any]) -> Array:
    """(questions, 5): disagreement inside answers, directions, their squares, sums of cosines and of sines."""
    there = ~np.isnan(angles_deg)
    turns = np.radians(np.where(there, angles_deg, 0.0))
    cosines, sines = (np.where(there, of(turns), 0.0).sum(axis=1) for of in (np.cos, np.sin))
    n = there.sum(axis=1).astype(np.float64)
    apart = n**2 - cosines**2 - sines**2
    inside = np.where(apart > 1e-12 * n**2, apart, 0.0) / (n - 1)  # what is less is rounding
    return _by_question(questions, inside, n, n, cosines, sines)


def _score_sums(scores: Array, questions: npt.NDArray[Any]) -> Array:
    """(questions, 5): the same of scores: their squares in the place of ones, their sums, and nothing."""
    there = ~np.isnan(scores)
    filled = np.where(there, scores - scores[there].mean(), 0.0)  # less digits are lost around the mean
    n, sums, squares = there.sum(axis=1).astype(np.float64), filled.sum(axis=1), (filled**2).sum(axis=1)
    apart = n * squares - sums**2
    inside = np.where(apart > 1e-12 * n * squares, apart, 0.0) / (n - 1)
    return _by_question(questions, inside, n, squares, sums, np.zeros_like(sums))


def _by_question(questions: npt.NDArray[Any], *columns: Array) -> Array:
    _, codes = np.unique(questions, return_inverse=True)
    return np.column_stack([np.bincount(codes, weights=column) for column in columns])


def _alpha(of_question: Array, level: float) -> Interval:
    ratio = _disagreement(of_question.sum(axis=0))
    without = _disagreement(of_question.sum(axis=0) - of_question)
    return _jackknifed(float(ratio), without, level)


def _disagreement(sums: Array) -> Array:
    """Observed over expected, of (…, 5) sums; NaN where nothing can differ."""
    inside, n, squares, cosines, sines = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = n * squares - cosines**2 - sines**2
        return np.where(expected > 1e-9 * n * squares, (n - 1) * inside / expected, np.nan)


def _jackknifed(ratio: float, without: Array, level: float) -> Interval:
    """1 - ratio, by the logarithms of the ratios that leave one question out."""
    questions = len(without)
    if questions < 2 or not np.isfinite(without).all() or math.isnan(ratio):
        return Interval(1.0 - ratio, math.nan, math.nan, level, questions, OVER_QUESTIONS)
    if ratio < 1e-12 or without.min() < 1e-12:
        low = 1.0 if ratio < 1e-12 else math.nan
        return Interval(1.0 - ratio, low, 1.0, level, questions, OVER_QUESTIONS)
    logs = np.log(without)
    error = math.sqrt((questions - 1) / questions * float(((logs - logs.mean()) ** 2).sum()))
    reach = student.quantile((1 + level) / 2, questions - 1) * error
    low, high = (1.0 - ratio * math.exp(sign * reach) for sign in (1, -1))
    return Interval(1.0 - ratio, low, high, level, questions, OVER_QUESTIONS)


def _deals(ranks: Array) -> int:
    readers, models = ranks.shape
    return int(math.factorial(models) ** (readers - 1))


def _dealt(ranks: Array) -> Iterator[Array]:
    """(some deals, models) sums of ranks; the first reader's order may stay."""
    first, rest = ranks[0], ranks[1:]
    if _deals(ranks) <= _MOST_ORDERS:
        orders = np.array(list(itertools.permutations(range(len(first)))))
        for chosen in itertools.product(range(len(orders)), repeat=len(rest)):
            yield (first + sum(row[orders[place]] for row, place in zip(rest, chosen, strict=True)))[None, :]
        return
    rng = np.random.default_rng(0)
    for _ in range(_MOST_ORDERS // _AT_ONCE):
        yield first + rng.permuted(np.broadcast_to(rest, (_AT_ONCE, *rest.shape)).copy(), axis=2).sum(axis=1)


def _spread(sums: Array) -> Array:
    return np.asarray(((sums - sums.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))


def _samples(questions: int, work: int) -> Iterator[npt.NDArray[np.int64]]:
    """(some draws, questions): how often each question was drawn; `work` is what one draw costs in comparisons."""
    rng, left = np.random.default_rng(0), max(200, min(_DRAWS, _COMPARISONS // work))
    while left > 0:
        some = min(left, max(1, _NUMBERS // work))
        yield rng.multinomial(questions, np.full(questions, 1 / questions), size=some)
        left -= some


def _orders(means: Array, weights: npt.NDArray[np.int64]) -> Array:
    """(draws,) of `order_agreement`, for means (readers, models, questions) and weights (draws, questions)."""
    there = ~np.isnan(means)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.einsum("rmq,dq->drm", np.where(there, means, 0.0), weights) / np.einsum(
            "rmq,dq->drm", there, weights
        )
        ranks = (drawn[..., None] > drawn[..., None, :]).sum(axis=-1) + (drawn[..., None] == drawn[..., None, :]).sum(
            axis=-1
        ) / 2.0  # of equal means the mean rank
        ranks -= ranks.mean(axis=-1, keepdims=True)
        w = (ranks.sum(axis=1) ** 2).sum(axis=1) / (ranks**2).sum(axis=(1, 2)) / len(means)
    whole = ~np.isnan(drawn).any(axis=(1, 2))
    return np.where(whole, (len(means) * w - 1.0) / (len(means) - 1.0), np.nan)
