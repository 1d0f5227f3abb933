"""A few human labels correct a reader's means: prediction-powered inference, with intervals that carry every error.

Angelopoulos et al. 2023 (Science 382, 669; PPI++: arXiv 2311.01453): the mean of the readings over all answers, weighed
by how well readings foretell people's (lambda, tuned on the labelled answers: 1 for a reader whose score is people's, 0
for one that knows nothing of it), plus the mean of what people say beyond the weighed reader on the few answers that
people have labelled. A reader that is wrong in one direction no longer shifts the mean; one that is merely noisy widens
the interval little. Either may leave answers without a score (unread, or neutral under the rule that drops them), and
not the same ones: so the labelled answers have two means, each over the scores that there are. Questions with more
labels weigh more, as far as questions do not differ in what people say beyond the reader. Questions are the clusters
here as everywhere: each is left out in turn, with lambda and weights found anew (jackknife), so that the error of these
is in the interval; the errors of several raters are in it too, as those of a sample of raters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from emoray.analysis import student
from emoray.analysis.intervals import OVER_QUESTIONS, Interval, bounded, question_means, t_interval, within
from emoray.analysis.paired import Difference, holm
from emoray.study.circumplex import Array

_ENOUGH = 4  # labelled answers: fewer tell no slope
_FARTHEST = 2.0  # that two mean cosines can lie apart
_AT_ONCE = 500  # questions that are left out, each in its turn


@dataclass(frozen=True)
class Corrected:
    """A mean as the reader gives it, as people correct it, and as people alone would give it."""

    raw: Interval
    corrected: Interval
    human: Interval  # of the labelled answers alone, whether or not the reader scored them
    shift: float  # what the correction adds
    labelled: int  # answers with a human score
    questions: int  # that have any of them
    tuned: float = 1.0  # lambda, 0 … 1: how far the readings of all answers were trusted
    raters: int = 1  # who can be told apart


@dataclass(frozen=True)
class Labelled:
    """One model by one reader, question by question, with what people read in some of its answers.

    `means` are the (questions,) means of all readings; `scores` and `human` are (questions, labelled): the reader's and
    people's scores of the labelled answers alone, NaN where a row is shorter and where either leaves one without a
    score. `by_rater` is (raters, questions, labelled), NaN where a rater was not asked; None where raters cannot be
    told apart.
    """

    means: Array
    scores: Array
    human: Array
    by_rater: Array | None = None
    added: float = 0.0  # to the variance of the mean of `means`, by the fit that filled in what was missing


def corrected_mean(scores: Array, human: Array, level: float = 0.95) -> Corrected:
    """The mean over questions like these, corrected by human scores.

    Both are (questions, asks) and belong together entry by entry: `scores` are the reader's, NaN where nothing was
    read; `human` are people's on the same scale, NaN where nobody was asked. The labelled answers must be a random
    sample of each labelled question's answers. Questions without labels borrow the mean correction of the others.
    Bounds are NaN with fewer than two labelled questions; with none, so is the estimate.
    """
    asked = ~np.isnan(human).all(axis=0)
    said, read = (np.ascontiguousarray(each[:, asked]) for each in (human, scores))
    return corrected_questions(question_means(scores), np.where(np.isnan(said), np.nan, read), said, level)


def corrected_questions(
    means: Array,
    scores: Array,
    human: Array,
    level: float = 0.95,
    by_rater: Array | None = None,
    added: float = 0.0,
) -> Corrected:
    """The same, where the readings of all answers have become (questions,) means already; see `Labelled`."""
    one = Labelled(means, scores, human, by_rater, added)
    raw, jackknife = _raw(one, level), _Jackknife.of(one)
    found = _interval(jackknife, _rater_cells(one, jackknife.tuned), level)
    return Corrected(
        raw=raw,
        corrected=found,
        human=within(t_interval(human, level)),
        shift=found.estimate - raw.estimate,
        labelled=int((~np.isnan(human)).sum()),
        questions=int((~np.isnan(question_means(human))).sum()),
        tuned=jackknife.tuned,
        raters=1 if by_rater is None else len(by_rater),
    )


def corrected_means(scores: Array, human: Array, level: float = 0.95) -> list[Corrected]:
    """The same of many groups (models, states): (groups, questions, asks) each."""
    return [corrected_mean(one, said, level) for one, said in zip(scores, human, strict=True)]


def corrected_differences(models: Mapping[str, Labelled], level: float = 0.95) -> tuple[Difference, ...]:
    """Every pair of models, both corrected, with p after Holm for all pairs; the same questions everywhere.

    What a question does to both cancels, also in what people say beyond the reader. NaN bounds and p where fewer than
    two questions have labels in both.
    """
    pairs = list(combinations(models, 2))
    found = [_difference(models[a], models[b], level) for a, b in pairs]
    fair = holm([p for _, p in found])
    return tuple(Difference(a, b, gap, p, after) for (a, b), (gap, p), after in zip(pairs, found, fair, strict=True))


@dataclass(frozen=True)
class _Jackknife:
    """An estimate, and what it is with each question left out."""

    estimate: float
    without: Array  # (questions,); NaN for a question that is not in it
    labelled: npt.NDArray[np.bool_]  # (questions,)
    freedom: float  # of what labelled questions vary by
    tuned: float
    added: float  # to the variance, by the fit that filled in readings: no question that is left out shows it

    @classmethod
    def of(cls, one: Labelled) -> _Jackknife:
        sums = _Sums.of(one)
        there = ~np.isnan(one.means)
        labelled = there & np.isfinite(sums.people) & np.isfinite(sums.read)
        estimate, tuned, weights = sums.estimates(there[None, :])
        without = np.full(len(there), np.nan)
        for some in np.array_split(np.flatnonzero(there), 1 + len(there) // _AT_ONCE):
            rest = np.broadcast_to(there, (len(some), len(there))).copy()
            rest[np.arange(len(some)), some] = False
            without[some] = sums.estimates(rest)[0] if labelled.sum() > 1 else np.nan
        trust = float(tuned[0])
        freedom = _alike(weights[0]) - 1.0 - float(sums.tells_slope(there[None, :])[0])
        added = trust**2 * one.added if trust else 0.0
        return cls(float(estimate[0]), without, labelled, max(1.0, freedom), trust, added)

    def __sub__(self, other: _Jackknife) -> _Jackknife:
        gap = self.estimate - other.estimate
        both = self.labelled & other.labelled
        freedom = float(both.sum()) - 1.0
        return _Jackknife(gap, self.without - other.without, both, freedom, math.nan, self.added + other.added)


@dataclass(frozen=True)
class _Sums:
    """What a corrected mean needs of each question, (questions,) each; `pairs` are answers that both have scored."""

    means: Array
    people: Array
    read: Array
    pairs: Array
    x: Array  # the reader's scores of the pairs, summed; then people's, squares and products, about their grand means
    y: Array
    xx: Array
    xy: Array
    yy: Array

    @classmethod
    def of(cls, one: Labelled) -> _Sums:
        both = ~(np.isnan(one.scores) | np.isnan(one.human))
        n = max(1, int(both.sum()))
        x, y = (np.where(both, each, 0.0) for each in (one.scores, one.human))
        x, y = (np.where(both, each - each.sum() / n, 0.0) for each in (x, y))
        products = (x, y, x * x, x * y, y * y)
        return cls(
            one.means,
            question_means(one.human),
            question_means(one.scores),
            both.sum(axis=1).astype(np.float64),
            *(each.sum(axis=1) for each in products),
        )

    def estimates(self, chosen: npt.NDArray[np.bool_]) -> tuple[Array, Array, Array]:
        """(choices,) of the corrected mean and lambda, and (choices, questions) of what each question's labels weigh.

        `chosen` (choices, questions) says which questions count.
        """
        trust = self._lambdas(chosen)
        gaps = self.people - trust[:, None] * self.read
        labelled = chosen & np.isfinite(gaps)
        weights = self._weights(labelled, np.where(labelled, gaps, 0.0), trust[:, None])
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(chosen, np.nan_to_num(self.means), 0.0).sum(axis=1) / chosen.sum(axis=1)
            corrections = (weights * np.where(labelled, gaps, 0.0)).sum(axis=1) / weights.sum(axis=1)
        return trust * means + corrections, trust, weights

    def tells_slope(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """(choices,) whether lambda is found in the labels: not of too few, nor of a reader whose score is people's."""
        return ~np.isnan(self._slopes(chosen))

    def _lambdas(self, chosen: npt.NDArray[np.bool_]) -> Array:
        slopes = self._slopes(chosen)
        return np.where(np.isnan(slopes), 1.0, np.clip(slopes, 0.0, 1.0))

    def _slopes(self, chosen: npt.NDArray[np.bool_]) -> Array:
        """Of people's scores over the reader's; NaN where too few labels tell it, or where it is exactly 1."""
        n, x, y, xx, xy = (chosen @ each for each in (self.pairs, self.x, self.y, self.xx, self.xy))
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = xx - x * x / n
            slope = (xy - x * y / n) / spread
        known = (n >= _ENOUGH) & (spread > 1e-12)
        return np.where(known & (np.abs(slope - 1.0) > 1e-12), slope, np.nan)

    def _weights(self, labelled: npt.NDArray[np.bool_], gaps: Array, trust: Array) -> Array:
        """(choices, questions): the inverse variance of each question's gap, by how gaps vary within and between them.

        Method of moments (DerSimonian & Laird 1986). Equal where nothing varies within questions.
        """
        counts = np.where(labelled, np.maximum(self.pairs, 1.0), 0.0)
        total, questions = counts.sum(axis=1, keepdims=True), labelled.sum(axis=1, keepdims=True)
        gap = self.y - trust * self.x
        squares = self.yy - 2 * trust * self.xy + trust**2 * self.xx - gap**2 / np.maximum(self.pairs, 1.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            within = np.where(labelled, squares, 0.0).sum(axis=1, keepdims=True) / (total - questions)
            middle = (counts * gaps).sum(axis=1, keepdims=True) / total
            between = (counts * (gaps - middle) ** 2).sum(axis=1, keepdims=True) / (questions - 1)
            usual = (total - (counts**2).sum(axis=1, keepdims=True) / total) / (questions - 1)
            inverse = 1.0 / (np.maximum(0.0, (between - within) / usual) + within / counts)
        varied = (questions > 1) & (total > questions) & (within > 1e-15)
        return np.where(labelled, np.where(varied, inverse, 1.0), 0.0)


def _alike(weights: Array) -> float:
    """How many questions of one weight tell as much as these (Kish's effective sample size)."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def _raw(one: Labelled, level: float) -> Interval:
    """The mean of all readings as every other table gives it: what the fit adds is in it, and no bound is beyond 1."""
    known = one.means[~np.isnan(one.means)]
    questions = len(known)
    variance = float(known.var(ddof=1)) / questions + one.added if questions > 1 else math.nan
    mean = float(known.mean()) if questions else math.nan
    return bounded(mean, variance, questions - 1.0, level, questions, OVER_QUESTIONS)


def _interval(found: _Jackknife, raters: Array | None, level: float, reach: float = 1.0) -> Interval:
    """Within ±`reach`: no mean cosine lies beyond 1, and no two lie further apart than 2."""
    variance, freedom = _variance(found, raters)
    known = int(found.labelled.sum())
    return bounded(found.estimate, variance, freedom, level, known, OVER_QUESTIONS, reach=reach)


def _difference(a: Labelled, b: Labelled, level: float) -> tuple[Interval, float]:
    first, second = _Jackknife.of(a), _Jackknife.of(b)
    gap, both = first - second, [_rater_cells(one, found.tuned) for one, found in ((a, first), (b, second))]
    cells = both[0] - both[1] if both[0] is not None and both[1] is not None else None
    interval, (variance, freedom) = _interval(gap, cells, level, _FARTHEST), _variance(gap, cells)
    if math.isnan(variance):
        return interval, math.nan
    if variance <= 1e-30:
        return interval, 1.0 if abs(gap.estimate) <= 1e-15 else 0.0
    return interval, min(1.0, 2 * student.tail(abs(gap.estimate) / math.sqrt(variance), freedom))


def _variance(found: _Jackknife, raters: Array | None) -> tuple[float, float]:
    """Of the estimate, and its degrees of freedom: over questions and, where they can be told apart, over raters."""
    known = int(found.labelled.sum())
    there = ~np.isnan(found.without)
    if known < 2 or not there.any():
        return math.nan, math.nan
    questions = int(there.sum())
    squares = (found.without - found.without[there].mean()) ** 2 * (questions - 1) / questions
    labelled = there & found.labelled
    parts = [(float(squares[labelled].sum()), found.freedom)]
    parts += [(float(squares[there & ~labelled].sum()), questions - known)]
    parts += [(found.added, questions - 1)]
    parts += [_of_raters(raters)] if raters is not None else []
    whole = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts if part > 0)
    return whole, whole**2 / below if below > 0 else float(known - 1)


def _rater_cells(one: Labelled, trust: float) -> Array | None:
    """(raters, questions) of what each rater says beyond the weighed reader."""
    if one.by_rater is None or len(one.by_rater) < 2:
        return None
    gaps = one.by_rater - trust * one.scores
    return np.array([question_means(each) for each in gaps])


def _of_raters(cells: Array) -> tuple[float, int]:
    """What raters differ by adds to the variance of the mean, and its degrees of freedom.

    Two-way analysis of variance over the questions that every rater has labelled; the part that questions explain is
    in the jackknife already.
    """
    whole = cells[:, ~np.isnan(cells).any(axis=0)]
    raters, questions = whole.shape
    if questions < 2:
        return 0.0, raters - 1
    by_rater, by_question = whole.mean(axis=1), whole.mean(axis=0)
    rest = whole - by_rater[:, None] - by_question + whole.mean()
    of_rest = float((rest**2).sum()) / ((raters - 1) * (questions - 1))
    of_raters = questions * float(((by_rater - whole.mean()) ** 2).sum()) / (raters - 1)
    return max(0.0, of_raters - of_rest) / (raters * questions), raters - 1
