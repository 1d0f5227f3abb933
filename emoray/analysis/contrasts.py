"""Contrasts said before a run: how far two levels lie apart, how steeply a score rises, whether two factors interact.

A contrast is a sum of tables (questions, states) with weights: two levels by 1 and −1, a trend by the weights of a
slope, an interaction by the products of two of them. What is left is a mean over the table, or, where two groups of
states are held against each other, their difference within questions. Questions are the sample in all of these, so the
levels are paired by question and state and what makes a question hard for both cancels; only two groups of questions
are unpaired, and questions of either group stand for others like them (Welch's t).

Whether two levels are alike is another test than whether they differ: two one-sided t tests against a margin
(Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657), below which a difference would not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from emoray.analysis import student
from emoray.analysis.additive import Additive, Lines, one_line
from emoray.analysis.intervals import OVER_QUESTIONS, Interval, bounded
from emoray.analysis.paired import holm
from emoray.analysis.simultaneous import Fitted, p_all_above
from emoray.study.circumplex import Array

Verdict = Literal["more", "less", "equivalent", "undecided"]
Flags = npt.NDArray[np.bool_]

_ROUNDING = 64 * float(np.finfo(np.float64).eps)  # what sums may stray by, as a share of what was added up


@dataclass(frozen=True, slots=True)
class Estimated:
    """A contrast and how well it is known: Student's t with so many degrees of freedom; NaN where nothing tells."""

    value: float
    variance: float
    freedom: float
    questions: int  # with any score in it
    size: float = 1.0  # of what was added up: nothing smaller than its rounding is told from 0

    def interval(self, level: float, reach: float = math.inf) -> Interval:
        """Cut at ±`reach`, the farthest that such a contrast can lie from 0."""
        return bounded(self.value, self.variance, self.freedom, level, self.questions, OVER_QUESTIONS, reach=reach)

    @property
    def p(self) -> float:
        """Two-sided, of "there is no difference"; 0 or 1 where all questions agree exactly, as `paired.difference`."""
        if self._exact:
            return 0.0 if abs(self.value) > _ROUNDING * self.size else 1.0
        return self._tail(abs(self.value), both=True)

    def p_equivalent(self, margin: float) -> float:
        """Of "it lies at −margin or below, or at margin or above", by two one-sided tests; margin > 0.

        NaN where all questions agree exactly: how far others may lie from them, nothing tells.
        """
        return math.nan if self._exact else self._tail(margin - abs(self.value))

    @property
    def _exact(self) -> bool:
        return self.freedom > 0 and 0 <= self.variance <= (_ROUNDING * self.size) ** 2

    def _tail(self, far: float, *, both: bool = False) -> float:
        """P(t ≥ far) by chance alone."""
        if not (self.variance >= 0 and self.freedom > 0) or math.isnan(far):
            return math.nan
        return min(1.0, (2 if both else 1) * student.tail(far / math.sqrt(self.variance), self.freedom))


UNKNOWN = Estimated(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True, slots=True)
class Tested:
    """One line of a family."""

    interval: Interval
    p: float
    p_holm: float
    margin: float | None
    p_equivalent: float  # NaN without a margin
    p_equivalent_holm: float
    verdict: Verdict
    interval_of_equivalence: Interval  # at 1 − 2α: within the margin where the two one-sided tests, uncorrected, say so


@dataclass(frozen=True, slots=True)
class Doses:
    """The response to every dose, in their order, and whether it rises, or falls, from each to the next."""

    levels: tuple[float, ...]
    means: tuple[Interval, ...]
    p_rises: float  # one-sided, of "at some step it does not"
    p_falls: float


def doses(levels: Sequence[float], tables: Sequence[Array], level: float = 0.95, *, reach: float = 1.0) -> Doses:
    """Of (questions, states) tables at ascending levels; steps are paired by question and state, and no mean can lie
    beyond ±`reach`.

    Every single step must be shown (Berger 1982), so few questions show a rise at every step less often than a slope.
    """
    fits = [Additive(combined([after, before], [1, -1])) for before, after in pairwise(tables)]
    lines = [fit.lines(one_line(fit.means.shape[1])) for fit in fits]
    added = np.array([float(line.added[0]) for line in lines])
    freedom = np.array([float(line.variance(moderated=False, paired=True)[1][0]) for line in lines])
    steps, fitted = np.column_stack([fit.question_means for fit in fits]), Fitted(added, freedom)
    means = tuple(estimated(table, paired=False).interval(level, reach) for table in tables)
    return Doses(tuple(levels), means, p_all_above(steps, fitted), p_all_above(-steps, fitted))


def combined(tables: Sequence[Array], weights: Sequence[float]) -> Array:
    """The weighted sum of (questions, states) tables; NaN wherever one of them has no score.

    The weights of a slope add up to 0 but for rounding, and equal scores must too: a sum within the rounding of what it
    is of is 0.
    """
    parts = [weight * table for weight, table in zip(weights, tables, strict=True)]
    total, sizes = np.asarray(sum(parts)), sum(np.abs(part) for part in parts)
    return np.where(np.abs(total) <= _ROUNDING * sizes, 0.0, total)


def size_of(tables: Sequence[Array], weights: Sequence[float]) -> float:
    """The most that is added up for a cell of `combined`; 0 where there is nothing."""
    sizes = sum(abs(weight) * np.abs(table) for weight, table in zip(weights, tables, strict=True))
    return float(np.nanmax(np.append(sizes, 0.0)))


def estimated(
    table: Array,
    *,
    states: tuple[Flags, Flags] | None = None,
    questions: tuple[Flags, Flags] | None = None,
    paired: bool = True,
    size: float | None = None,
) -> Estimated:
    """The mean of a (questions, states) table over questions like these; NaN where nothing was scored.

    `states` (states,) twice: the mean over the first group minus that over the second. `questions` (questions,) twice:
    the first group minus the second, over the states that both have. `paired`: the table is of differences, `size` what
    they are differences of (`size_of`).
    What is missing is filled in as everywhere (`additive`); fewer than two questions, of either group, tell nothing.
    """
    paired, size = paired or states is not None, size_of([table], [1.0]) if size is None else size
    if questions is None:
        return replace(_one_sample(table, states, paired=paired), size=size)
    there = [~np.isnan(table[some]).all(axis=0) for some in questions]
    common = np.where(there[0] & there[1], table, np.nan)
    first, second = (_one_sample(common[some], states, paired=paired) for some in questions)
    return replace(_apart(first, second), size=size)


def concluded(family: Sequence[tuple[Estimated, float | None, float]], level: float = 0.95) -> list[Tested]:
    """Every contrast of one family, each (estimate, margin or None, reach): Holm's correction over all of them.

    At `level` the family has no wrong *more* or *less*, and at `level` no wrong *equivalent*: the two are corrected
    each by itself. What cannot be tested counts as p = 1, so that no family shrinks by what goes missing. A difference
    that is there, and smaller than its margin for sure, is *equivalent*: the margin says that it does not matter.
    """
    p_values = [one.p for one, _, _ in family]
    alike = [math.nan if margin is None else one.p_equivalent(margin) for one, margin, _ in family]
    asked = [margin is not None for _, margin, _ in family]
    corrected, alike_corrected = _holm(p_values, [True] * len(family)), _holm(alike, asked)
    fair = zip(family, p_values, corrected, alike, alike_corrected, strict=True)
    return [
        Tested(
            one.interval(level, reach), p, p_holm, margin, same, same_holm,
            _verdict(one.value, p_holm, same_holm, 1 - level), one.interval(max(0.0, 2 * level - 1), reach),
        )
        for (one, margin, reach), p, p_holm, same, same_holm in fair
    ]  # fmt: skip


def _holm(p_values: Sequence[float], asked: Sequence[bool]) -> list[float]:
    """Over all that were asked for, with any answer or not; NaN stays NaN."""
    counted = holm([1.0 if wanted and math.isnan(p) else p for p, wanted in zip(p_values, asked, strict=True)])
    return [math.nan if math.isnan(p) else fair for p, fair in zip(p_values, counted, strict=True)]


def _verdict(value: float, p_holm: float, equivalent_holm: float, alpha: float) -> Verdict:
    if equivalent_holm <= alpha:
        return "equivalent"
    if p_holm <= alpha:
        return "more" if value > 0 else "less"
    return "undecided"


def _one_sample(table: Array, states: tuple[Flags, Flags] | None, *, paired: bool) -> Estimated:
    if not table.size or np.isnan(table).all():
        return UNKNOWN
    fit = Additive(table)
    return _of_line(fit.lines(one_line(table.shape[1])) if states is None else _groups(fit, states), paired=paired)


def _groups(fit: Additive, states: tuple[Flags, Flags]) -> Lines:
    first, second = states
    return fit.against(first[:, None], second[:, None])


def _of_line(line: Lines, *, paired: bool) -> Estimated:
    variance, freedom = line.variance(moderated=False, paired=paired)
    return Estimated(float(line.means[0]), float(variance[0]), float(freedom[0]), int(line.questions[0]))


def _apart(first: Estimated, second: Estimated) -> Estimated:
    """Of two groups of questions that have nothing to do with each other (Welch 1947, Satterthwaite's freedom)."""
    whole = first.variance + second.variance
    parts = first.variance**2 / first.freedom + second.variance**2 / second.freedom
    freedom = whole**2 / parts if parts > 0 else first.freedom + second.freedom
    return Estimated(first.value - second.value, whole, freedom, first.questions + second.questions)
