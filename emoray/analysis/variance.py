"""Where the spread of the scores comes from, and how many independent answers the rows are worth.

Model: score = state + question + (question × state) + repetition, all but the states random and independent. The parts
are fitted by restricted maximum likelihood (REML) to the cells that there are, so a question that lacks some of its
states counts by the others; on a grid without holes they are those of the analysis of variance. A part cannot be
negative. The states of a run are all the states there are, so their "variance" only describes. With one answer per
prompt nothing tells interaction from repetition, and the first holds both.

Steps are Newton's with the average information (Gilmour, Thompson & Cullis 1995, Biometrics 51, 1440), whose inverse
gives the standard errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from emoray.analysis import chi_square
from emoray.study.circumplex import Array

_STEPS = 100
_NOTHING = 1e-15  # a variance that is rounding
_CLOSE = 1e-11  # of the largest part: where a step ends the search


@dataclass(frozen=True, slots=True)
class Parts:
    """Variances (squared cosines) with their standard errors; NaN where the design cannot tell."""

    question: float
    state: float
    interaction: float  # some questions suit some states; with one repetition it holds the repetition part as well
    repetition: float  # the same prompt asked again
    question_error: float = math.nan
    state_error: float = math.nan
    interaction_error: float = math.nan
    repetition_error: float = math.nan

    @property
    def total(self) -> float:
        return float(np.nansum([self.question, self.state, self.interaction, self.repetition]))

    @property
    def told_apart(self) -> bool:
        """Whether repetition and interaction are; with one answer per prompt they are not."""
        return not math.isnan(self.repetition)


def variance_parts(counts: Array, means: Array, within: Array) -> Parts:
    """The parts of one model; all (questions, states): scores, their mean and summed squared deviations per cell.

    Fewer than two questions or states, or no question with two of its cells: only `repetition` is known.
    """
    counts, means, within = _with_scores(counts, means, within)
    freedom, inside = float(np.maximum(counts - 1, 0).sum()), float(np.where(counts > 1, within, 0.0).sum())
    again, again_error = _repetition(freedom, inside)
    if min(counts.shape) < 2 or (counts > 0).sum(axis=1).max() < 2:
        return Parts(math.nan, math.nan, math.nan, again, repetition_error=again_error)
    cells = _Cells(counts, np.where(counts > 0, means, 0.0), freedom, inside)
    if not _spread(cells) > _NOTHING:
        return Parts(0.0, _of_fixed_states(cells), 0.0, again, 0.0, 0.0, 0.0, again_error)
    found = _fitted(cells)
    errors = found.errors
    state, state_error = found.spread_of_states
    return Parts(
        question=found.question,
        state=state,
        interaction=found.interaction,
        repetition=found.repetition if freedom else math.nan,
        question_error=errors[0],
        state_error=state_error,
        interaction_error=errors[1],
        repetition_error=errors[2] if freedom else math.nan,
    )


def effective_n(scores: float, spread: float, error: float) -> float:
    """How many independent answers would pin the mean as well as these `scores` do; never more than `scores`.

    `spread` is the variance of single scores about the mean of their state, `error` the variance of the mean over other
    questions. NaN where either is not known, or where nothing varies.
    """
    if not (spread > 0 and error >= 0):
        return math.nan
    return min(scores, spread / error) if error > 0 else scores


def variance_bounds(variance: float, freedom: float, level: float = 0.95) -> tuple[float, float]:
    """Where a variance of so many degrees of freedom may lie, by the χ² distribution; NaN where it is not known."""
    if not (variance >= 0 and freedom > 0):
        return math.nan, math.nan
    least, most = (chi_square.quantile(p, freedom) for p in ((1 - level) / 2, (1 + level) / 2))
    return variance * freedom / most, variance * freedom / least


def identical_share(cells: npt.NDArray[np.uint64]) -> float:
    """The share of answers that repeat an earlier answer to the same prompt word for word.

    One number per answer that is equal where prompt and text are equal (a 64-bit hash of both). NaN for no answers.
    """
    return 1 - len(np.unique(cells)) / len(cells) if len(cells) else math.nan


def _with_scores(counts: Array, means: Array, within: Array) -> tuple[Array, Array, Array]:
    """Without the questions and states that have no score at all."""
    rows, columns = (counts > 0).any(axis=1), (counts > 0).any(axis=0)
    kept = np.ix_(rows, columns)
    return counts[kept], means[kept], within[kept]


def _repetition(freedom: float, inside: float) -> tuple[float, float]:
    if not freedom:
        return math.nan, math.nan
    return inside / freedom, inside / freedom * math.sqrt(2 / freedom)


@dataclass(frozen=True)
class _Cells:
    """What is fitted; (questions, states)."""

    counts: Array
    means: Array  # 0 where there is none
    freedom: float  # of the answers about the means of their cells
    inside: float  # the sum of their squares


@dataclass(frozen=True)
class _Fit:
    """The restricted likelihood of three parts. A question's cells vary by diag(spread) + question: all is per cell."""

    cells: _Cells
    parts: tuple[float, float, float]  # question, interaction, repetition

    @property
    def question(self) -> float:
        return self.parts[0]

    @property
    def interaction(self) -> float:
        return self.parts[1]

    @property
    def repetition(self) -> float:
        return self.parts[2]

    @cached_property
    def _there(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.cells.counts > 0)

    @cached_property
    def _spread(self) -> Array:
        """(questions, states) of a cell's mean about question and state."""
        return self.interaction + self.repetition / np.where(self._there, self.cells.counts, 1.0)

    @cached_property
    def _weight(self) -> Array:
        return np.where(self._there, 1.0 / self._spread, 0.0)

    @cached_property
    def _shrink(self) -> Array:
        """(questions,)"""
        return np.asarray(self.question / (1.0 + self.question * self._weight.sum(axis=1)))

    def _inverse(self, values: Array) -> Array:
        """The inverse of the cells' covariance, on (questions, states)."""
        weighted = self._weight * values
        return np.asarray(weighted - self._weight * (self._shrink * weighted.sum(axis=1))[:, None])

    @cached_property
    def _normal(self) -> Array:
        """(states, states)"""
        return self._folded(self._weight, np.zeros_like(self._weight), -self._shrink)

    def _folded(self, diagonal: Array, other: Array, both: Array) -> Array:
        """Σ over questions of diag(diagonal) + weight other' + other weight' + both weight weight'."""
        cross = self._weight.T @ other
        found = cross + cross.T + (self._weight.T * both) @ self._weight
        found[np.diag_indices(len(found))] += diagonal.sum(axis=0)
        return np.asarray(found)

    @cached_property
    def _normal_inverse(self) -> Array:
        return np.asarray(np.linalg.inv(self._normal))

    @cached_property
    def _states(self) -> Array:
        return np.asarray(self._normal_inverse @ self._inverse(self.cells.means).sum(axis=0))

    def _swept(self, values: Array) -> Array:
        """The same inverse, with the states swept out."""
        first = self._inverse(values)
        states = self._normal_inverse @ first.sum(axis=0)
        return first - self._inverse(np.where(self._there, states, 0.0))

    @cached_property
    def _left(self) -> Array:
        return self._swept(self.cells.means)

    @cached_property
    def likelihood(self) -> float:
        """The logarithm of the restricted one, up to a constant."""
        found = np.log(np.where(self._there, self._spread, 1.0)).sum()
        found += np.log1p(self.question * self._weight.sum(axis=1)).sum() + np.linalg.slogdet(self._normal)[1]
        found += (self._left * self.cells.means).sum()
        if self.cells.inside > 0:
            found += self.cells.freedom * math.log(self.repetition) + self.cells.inside / self.repetition
        return -0.5 * float(found)

    @cached_property
    def _moves(self) -> list[Array]:
        """What a unit of each part does to the cells that are left."""
        counts = np.where(self._there, self.cells.counts, 1.0)
        together = np.where(self._there, self._left.sum(axis=1, keepdims=True), 0.0)
        return [together, self._left, self._left / counts]

    @cached_property
    def slope(self) -> Array:
        """(3,) of the likelihood."""
        fits = np.array([(self._left * move).sum() for move in self._moves])
        found = 0.5 * (fits - self._traces())
        if self.cells.inside > 0:
            found[2] += 0.5 * (self.cells.inside / self.repetition - self.cells.freedom) / self.repetition
        return np.asarray(found)

    def _traces(self) -> Array:
        """(3,) of the swept inverse with the covariance that each part makes."""
        weight, shrink, sums = self._weight, self._shrink, self._weight.sum(axis=1)
        counts = np.where(self._there, self.cells.counts, 1.0)
        alone = 1.0 / (1.0 + self.question * sums)
        nothing = np.zeros_like(weight)
        plain = [float((alone * sums).sum())]
        folded = [self._folded(nothing, nothing, alone**2)]
        for share in (np.ones_like(weight), 1.0 / counts):
            square = weight**2 * share
            plain.append(float((weight * share - shrink[:, None] * square).sum()))
            folded.append(self._folded(square, -shrink[:, None] * square, shrink**2 * square.sum(axis=1)))
        return np.array([a - float((self._normal_inverse * b).sum()) for a, b in zip(plain, folded, strict=True)])

    @cached_property
    def information(self) -> Array:
        """(3, 3) average of observed and expected."""
        swept = [self._swept(move) for move in self._moves]
        found = 0.5 * np.array([[float((a * b).sum()) for b in swept] for a in self._moves])
        if self.cells.inside > 0:
            found[2, 2] += 0.5 * self.cells.inside / self.repetition**3
        return found

    @property
    def free(self) -> npt.NDArray[np.bool_]:
        """Which parts may move: a part at 0 only upwards, and repetition only where something was repeated."""
        inside = np.array([True, True, self.cells.inside > 0])
        return inside & ~((np.array(self.parts) <= 0) & (self.slope <= 0))

    @cached_property
    def errors(self) -> tuple[float, float, float]:
        """Standard errors, from the inverse of the information; NaN where it has none."""
        known = np.array([True, True, self.cells.inside > 0])
        found = np.zeros(3)
        try:
            squares = np.diag(np.linalg.inv(self.information[np.ix_(known, known)]))
        except np.linalg.LinAlgError:
            return math.nan, math.nan, math.nan
        found[known] = np.sqrt(np.where(squares >= 0, squares, np.nan))
        return float(found[0]), float(found[1]), float(found[2])

    @property
    def spread_of_states(self) -> tuple[float, float]:
        """The variance of the states' means less what chance adds to it, and its standard error."""
        n = len(self._states)
        about = self._states - self._states.mean()
        centred = self._normal_inverse - self._normal_inverse.mean(axis=0)
        centred -= centred.mean(axis=1, keepdims=True)
        square = 4 * float(about @ centred @ about) + 2 * float((centred**2).sum())
        return max(0.0, float((about @ about - np.trace(centred)) / (n - 1))), math.sqrt(square) / (n - 1)


def _fitted(cells: _Cells) -> _Fit:
    """Climbs from a rough guess; a step that would lower the likelihood is halved."""
    fit = _Fit(cells, _guess(cells))
    for _ in range(_STEPS):
        better = _stepped(fit)
        if better is None:
            return fit
        moved = max(abs(a - b) for a, b in zip(better.parts, fit.parts, strict=True))
        fit = better
        if moved <= _CLOSE * max(fit.parts):
            return fit
    return fit


def _stepped(fit: _Fit) -> _Fit | None:
    free = np.flatnonzero(fit.free)
    if not len(free):
        return None
    step = np.zeros(3)
    step[free] = np.linalg.lstsq(fit.information[np.ix_(free, free)], fit.slope[free], rcond=None)[0]
    least = np.array([0.0, 0.0 if fit.repetition > 0 else 1e-12, 1e-12 if fit.cells.inside > 0 else 0.0])
    for _ in range(40):
        parts = np.maximum(np.array(fit.parts) + step, least)
        tried = _Fit(fit.cells, (float(parts[0]), float(parts[1]), float(parts[2])))
        if tried.likelihood >= fit.likelihood:
            return tried
        step /= 2
    return None


def _spread(cells: _Cells) -> float:
    """The variance of the cells about the means of their states."""
    there = cells.counts > 0
    left = np.where(there, cells.means - cells.means.sum(axis=0) / there.sum(axis=0), 0.0)
    return float((left**2).sum() / there.sum())


def _of_fixed_states(cells: _Cells) -> float:
    """The variance of the states' means, where nothing else varies."""
    return float((cells.means.sum(axis=0) / (cells.counts > 0).sum(axis=0)).var(ddof=1))


def _guess(cells: _Cells) -> tuple[float, float, float]:
    """Positive, and of the right size."""
    size = _spread(cells)
    again = cells.inside / cells.freedom if cells.freedom else 0.0
    return size / 3, size / 3, again
