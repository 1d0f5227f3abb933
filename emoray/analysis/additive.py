"""Means over what was asked, where some cells have no score: least-squares means of an additive fit.

A filter that takes the hard states of half of the questions makes a plain mean better than it is: the questions that
lost them count by their easy states alone. So a table of questions × prompts is completed by what question and prompt
make of a cell (the additive model, fitted by least squares to the cells that there are, each of them the same), and
means are taken over the completed table: every question and every prompt counts once. Where nothing is missing nothing
is fitted. Searle, Speed & Milliken 1980 (The American Statistician 34, 216) call them population marginal means.

The questions are a sample. How far a mean would stray among others has two parts: the spread of the completed question
means, and what the fit itself adds (it is common to all questions, so their spread does not show it). Arrays may have
leading axes: many tables at once, each for itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from emoray.analysis.intervals import OVER_QUESTIONS, PRIOR_FREEDOM, Interval, bounded, pooled_variance
from emoray.study.circumplex import Array


@dataclass(frozen=True)
class Lines:
    """Means of some sets of prompts, over questions like these; all (…, lines)."""

    means: Array
    spread: Array  # the sample variance of the completed question means
    added: Array  # to the variance of the mean, by the fit
    questions: Array  # that have any score in these prompts
    asked: Array  # (…, 1) questions with any score anywhere

    def variance(self, *, moderated: bool, paired: bool = False) -> tuple[Array, Array]:
        """Of the means, and its degrees of freedom; NaN for fewer than two questions.

        Moderated, each line's spread is drawn towards that of all lines. `paired`: of a table of differences of two.
        Their scores are nearly symmetric, and where both lost cells the fit adds much. It is taken to be as badly known
        as the spread, and half of the degrees of freedom that two such parts have together (Satterthwaite) are
        believed. Of skewed scores, whose mean and spread go together, none are: their intervals would hold too little.
        """
        freedom = np.where(self.questions > 1, self.questions - 1.0, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            if moderated:
                spread, freedom = squeezed(self.spread, freedom)
                return spread / self.asked + self.added, freedom
            own = self.spread / self.asked
            whole, parts = own + self.added, own**2 + self.added**2
            several = np.where(parts > 0, whole**2 / parts, 1.0)
        return whole, freedom * (1.0 + several) / 2 if paired else freedom

    def intervals(self, level: float, *, moderated: bool = False) -> list[Interval]:
        """One per line, of a single table; a mean cosine lies between -1 and 1, and so does its interval."""
        variance, freedom = self.variance(moderated=moderated)
        columns = (self.means, variance, freedom, self.questions)
        return [
            bounded(float(mean), float(square), float(df), level, int(units), OVER_QUESTIONS)
            for mean, square, df, units in zip(*columns, strict=True)
        ]


@dataclass(frozen=True)
class Additive:
    """The additive fit of (…, questions, prompts) of means, NaN where nothing was scored."""

    means: Array

    @cached_property
    def completed(self) -> Array:
        """The same, the missing cells as question and prompt would have them; NaN where either has no score at all."""
        if self.whole:
            return self.means
        fitted = self._question_level[..., None] + self._prompts[..., None, :]
        known = self._asked[..., :, None] & self._there[..., None, :] & self.joined[..., None, None]
        return np.where(self._cells, self.means, np.where(known, fitted, np.nan))

    @property
    def question_means(self) -> Array:
        """(…, questions) over all prompts that have any score; NaN for a question without any."""
        return _mean(self.completed, axis=-1)

    @cached_property
    def whole(self) -> bool:
        """Whether no question or prompt that has a score lacks one of its cells."""
        wanted = self._asked[..., :, None] & self._there[..., None, :]
        return bool((self._cells == wanted).all())

    @cached_property
    def joined(self) -> npt.NDArray[np.bool_]:
        """(…) whether questions and prompts hang together by the cells there are: else nothing tells them apart."""
        if not self._there.size:
            return np.ones(self._there.shape[:-1], dtype=np.bool_)
        cells = self._cells.astype(np.float64)
        first = np.argmax(self._there, axis=-1)
        prompts = np.zeros(self._there.shape, dtype=np.bool_)
        np.put_along_axis(prompts, first[..., None], True, axis=-1)
        while True:
            questions = np.asarray((cells * prompts[..., None, :]).any(axis=-1))
            wider = np.asarray((cells * questions[..., :, None]).any(axis=-2) | prompts)
            if (wider == prompts).all():
                return np.asarray((prompts | ~self._there).all(axis=-1))
            prompts = wider

    @cached_property
    def weights(self) -> Array:
        """Of every cell in the mean over all prompts: (…, questions, prompts), together 1."""
        level = 1.0 / np.maximum(self._row_counts * self._question_count[..., None], 1)
        if self.whole:
            return np.asarray(self._cells * level[..., None])
        share = self._there / np.maximum(self._prompt_count, 1)[..., None]
        pull = np.einsum("...jk,...k->...j", self._inverse, share - self._usual)
        per_question = pull[..., None, :] - (self._shares * pull[..., None, :]).sum(axis=-1, keepdims=True)
        pulls = np.where(self.joined[..., None, None], per_question, 0.0)
        return np.asarray(self._cells * (level[..., None] + pulls))

    def lines(self, prompts: npt.NDArray[np.bool_]) -> Lines:
        """The means of sets of prompts; (prompts, lines) says which has which, and one without a score is in none."""
        members = (prompts & self._there[..., None]).astype(np.float64)
        size = members.sum(axis=-2)
        share = members / np.where(size > 0, size, np.nan)[..., None, :]
        rows = self._rows(share)
        means = _mean(rows, axis=-2)
        n = self._question_count[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = np.where(np.isnan(rows), 0.0, (rows - means[..., None, :]) ** 2).sum(axis=-2) / (n - 1)
        return Lines(
            means=means,
            spread=squares,
            added=self._added(share, size),
            questions=(self._cells.astype(np.float64) @ members > 0).sum(axis=-2).astype(np.float64),
            asked=n.astype(np.float64),
        )

    def missing(self, prompts: npt.NDArray[np.bool_]) -> Array:
        """(…, lines) the share of the cells of these prompts that have no score; NaN of no cell."""
        cells, all_cells = (~self._cells).sum(axis=-2) @ prompts, self.means.shape[-2] * prompts.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(cells / all_cells)

    @cached_property
    def residual(self) -> Array:
        """(…) the variance of single cells about question and prompt; NaN where no cell is left to tell."""
        fitted = self._question_level[..., None] + self._prompts[..., None, :]
        squares = np.where(self._cells, self._known - fitted, 0.0) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(squares.sum(axis=(-2, -1)) / np.where(self._freedom > 0, self._freedom, np.nan))

    def of_missing(self, counts: Array, within: Array) -> tuple[Array, Array]:
        """(…, questions): what missing cells add to the variance of a question's mean over its very prompts.

        And how many degrees of freedom that has.

        They stray from the fit as other cells of their prompts do, less what is chance in answers (the cells that are
        there carry their own), and the fit has its error. `counts` and `within` (…, questions, prompts) are the scores
        of each cell and their summed squared deviations. A question that has all its cells has nothing added.
        """
        had, wanted = self._row_counts, self._prompt_count[..., None]
        if self.whole:
            return np.where(had > 0, 0.0, np.nan), np.full(had.shape, np.inf)
        cells = (*counts.shape[:-2], -1)
        pooled = np.nan_to_num(pooled_variance(counts.reshape(cells), within.reshape(cells)))
        chance = pooled * _mean(np.where(self._cells, 1.0 / np.maximum(counts, 1), np.nan).reshape(cells), axis=-1)
        gap = self._share_of_all - self._shares
        fit = np.einsum("...ij,...jk,...ik->...i", gap, self._inverse, gap)
        strays = np.maximum(self._strays - chance[..., None], 0.0)[..., None]
        kept = self._cells.astype(np.float64)
        gone = (~self._cells & self._there[..., None, :]).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            pull = (1.0 / had - 1.0 / wanted)[..., None]
            contrast = gone / wanted[..., None] - kept * pull  # what a question's own cells err by
            parts = np.swapaxes(strays, -1, -2) * contrast**2
            alone, squares = parts.sum(axis=-1), (parts**2 / self._stray_freedom[..., None, :]).sum(axis=-1)
            strayed, freedom = self._seen(contrast, chance, alone, np.where(squares > 0, alone**2 / squares, np.inf))
            by_fit = self.residual[..., None] * fit
            added = strayed + by_fit
            squares = strayed**2 / freedom + by_fit**2 / self._freedom[..., None]
            freedom = np.where(squares > 0, added**2 / squares, np.inf)
        added = np.where(had == wanted, 0.0, np.where((had > 0) & self.joined[..., None], added, np.nan))
        return added, np.where(added > 0, freedom, np.inf)

    def _seen(self, contrast: Array, chance: Array, alone: Array, freedom: Array) -> tuple[Array, Array]:
        """(…, questions): `alone`, the variance of contrasts of cells that stray each for itself, and its freedom.

        Drawn towards what the contrasts are in the questions that have all cells: a question of more than the usual
        effect in one state has it in the next one too, which nothing but these tells.
        """
        fitted = self._question_level[..., None] + self._prompts[..., None, :]
        left = np.where(self._cells, self._known - fitted, 0.0)
        complete = np.asarray(self._row_counts == self._prompt_count[..., None], dtype=np.float64)
        count = complete.sum(axis=-1, keepdims=True)
        products = np.swapaxes(left, -1, -2) @ (left * complete[..., None]) / np.maximum(count, 1)[..., None]
        squares = ((contrast @ products) * contrast).sum(axis=-1)
        scale = self._cells.sum(axis=(-2, -1)) / np.where(self._freedom > 0, self._freedom, np.nan)
        seen = np.maximum(scale[..., None] * squares - chance[..., None] * (contrast**2).sum(axis=-1), 0.0)
        drawn = (PRIOR_FREEDOM * alone + count * seen) / (PRIOR_FREEDOM + count)
        return drawn, np.where(count > 0, np.minimum(freedom, PRIOR_FREEDOM + count), freedom)

    # ── how it is fitted ────────────────────────────────────────────────────────────────────────────────────────────

    def _rows(self, share: Array) -> Array:
        """(…, questions, lines): the completed means of each question over each set."""
        completed = self.completed
        rows = np.where(np.isnan(completed), 0.0, completed) @ share
        return np.where(self._asked[..., :, None] & self.joined[..., None, None], rows, self._plain(share))

    def _plain(self, share: Array) -> Array:
        """The same over the cells that there are, for tables that fall apart."""
        weight = self._cells.astype(np.float64) @ share
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._known @ share / np.where(weight > 0, weight, np.nan))

    def _added(self, share: Array, size: Array) -> Array:
        """What the fit adds to the variance of each line: all that chance in cells does, less what the spread shows."""
        if self.whole:
            return np.zeros(size.shape)
        n = np.maximum(self._question_count, 1)[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            more = self._by_chance(share, n) - self._shown(share, n)
        # differences of rounding are none, whatever is not known of the residuals
        added = np.where(more > 1e-12 * np.nan_to_num(self.residual)[..., None], np.maximum(more, 0.0), 0.0)
        known = self.joined[..., None] & (~np.isnan(self.residual[..., None]))
        return np.where(known, added, np.nan)

    def _by_chance(self, share: Array, n: Array) -> Array:
        """(…, lines): the squared weights of all cells in each line, times how their prompts stray."""
        cells, pull = self._cells.astype(np.float64), self._inverse @ (share - self._usual[..., None])
        level = (1.0 / np.where(self._asked, self._row_counts, np.inf) / n)[..., None]
        own = level - self._shares @ pull  # what a question's cells have in common: (…, questions, lines)
        turned = np.swapaxes(cells, -1, -2)
        squares = turned @ own**2 + 2 * pull * (turned @ own) + pull**2 * cells.sum(axis=-2)[..., None]
        return np.asarray((squares * self._strays[..., None]).sum(axis=-2))

    def _shown(self, share: Array, n: Array) -> Array:
        """(…, lines): what of it the spread of the completed question means holds already."""
        cells, members = self._cells.astype(np.float64), np.nan_to_num(share)
        outside = np.where(self._asked[..., None], members.sum(axis=-2, keepdims=True) - cells @ members, 0.0)
        common = outside / np.maximum(self._row_counts, 1)[..., None]
        strays = self._strays[..., None]
        inside = cells @ (members**2 * strays) + 2 * common * (cells @ (members * strays))
        return np.asarray((inside + common**2 * (cells @ strays)).sum(axis=-2) / n**2)

    @cached_property
    def _strays(self) -> Array:
        """(…, prompts): the variance of single cells of each prompt about the fit, drawn towards that of all.

        A prompt that nothing tells of has that of all.
        """
        fitted = self._question_level[..., None] + self._prompts[..., None, :]
        squares = (np.where(self._cells, self._known - fitted, 0.0) ** 2).sum(axis=-2)
        return np.asarray((PRIOR_FREEDOM * self.residual[..., None] + squares) / (PRIOR_FREEDOM + self._own_freedom))

    @property
    def _stray_freedom(self) -> Array:
        """(…, prompts) of these: no more than there are of all."""
        return np.asarray(np.minimum(PRIOR_FREEDOM + self._own_freedom, self._freedom[..., None]))

    @cached_property
    def _own_freedom(self) -> Array:
        """(…, prompts): the degrees of freedom that the fit leaves to the cells of each prompt."""
        towards = self._shares @ self._inverse
        own = np.diagonal(self._inverse, axis1=-2, axis2=-1)[..., None, :] - 2 * towards
        taken = own + (towards * self._shares).sum(axis=-1, keepdims=True)
        taken = taken + 1.0 / np.maximum(self._row_counts, 1)[..., None]
        return np.asarray(np.maximum(np.where(self._cells, 1.0 - taken, 0.0).sum(axis=-2), 0.0))

    @cached_property
    def _cells(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.means)

    @cached_property
    def _known(self) -> Array:
        return np.where(self._cells, self.means, 0.0)

    @cached_property
    def _row_counts(self) -> Array:
        return np.asarray(self._cells.sum(axis=-1), dtype=np.float64)

    @property
    def _asked(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self._row_counts > 0)

    @cached_property
    def _there(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self._cells.any(axis=-2))

    @property
    def _question_count(self) -> npt.NDArray[np.int64]:
        return np.asarray(self._asked.sum(axis=-1))

    @property
    def _prompt_count(self) -> npt.NDArray[np.int64]:
        return np.asarray(self._there.sum(axis=-1))

    @property
    def _freedom(self) -> Array:
        count = self._cells.sum(axis=(-2, -1)) - self._question_count - self._prompt_count + 1
        return np.asarray(count, dtype=np.float64)

    @cached_property
    def _shares(self) -> Array:
        """(…, questions, prompts): a question's own weights on the prompts that it has."""
        return np.asarray(self._cells / np.maximum(self._row_counts, 1)[..., None])

    @property
    def _usual(self) -> Array:
        """(…, prompts) the same in the mean over questions."""
        return np.asarray(self._shares.sum(axis=-2) / np.maximum(self._question_count, 1)[..., None])

    @property
    def _share_of_all(self) -> Array:
        return np.asarray(self._there / np.maximum(self._prompt_count, 1)[..., None])[..., None, :]

    @cached_property
    def _inverse(self) -> Array:
        """(…, prompts, prompts): of the normal equations of the prompts, questions swept out.

        A generalised one: only differences of prompts are asked of it. It is solved on the shorter side of the table.
        """
        cells = self._cells.astype(np.float64)
        turned = np.swapaxes(cells, -1, -2)
        each = np.maximum(cells.sum(axis=-2), 1)
        if cells.shape[-1] <= cells.shape[-2]:
            return self._pinned(each, turned @ self._shares, self._there)
        scaled = turned / each[..., None]  # (…, prompts, questions)
        found = scaled @ self._pinned(self._row_counts, cells @ scaled, self._asked) @ np.swapaxes(scaled, -1, -2)
        places = np.arange(cells.shape[-1])
        found[..., places, places] += 1.0 / each
        return np.asarray(found)

    def _pinned(self, own: Array, shared: Array, there: npt.NDArray[np.bool_]) -> Array:
        """The inverse of diag(own) - shared, whose levels are pinned: their sum is taken to be 0, and nothing else."""
        normal = -shared
        places = np.arange(own.shape[-1])
        normal[..., places, places] += np.where(there, own, 1.0)
        both = there[..., :, None] & there[..., None, :]
        normal += both / np.maximum(there.sum(axis=-1), 1)[..., None, None]
        normal[~self.joined] = np.eye(own.shape[-1])
        return np.asarray(np.linalg.inv(normal))

    @cached_property
    def _prompts(self) -> Array:
        """(…, prompts): what each adds to the level of a question."""
        own = self._known.sum(axis=-1) / np.maximum(self._row_counts, 1)
        moved = np.where(self._cells, self._known - own[..., None], 0.0).sum(axis=-2)
        return np.asarray(np.einsum("...jk,...k->...j", self._inverse, moved))

    @cached_property
    def _question_level(self) -> Array:
        """(…, questions): the mean of each, less the effects of the prompts that it has."""
        own = self._known.sum(axis=-1) / np.maximum(self._row_counts, 1)
        return np.asarray(own - np.einsum("...ij,...j->...i", self._shares, self._prompts))


def squeezed(variances: Array, freedom: Array, prior: float = PRIOR_FREEDOM) -> tuple[Array, Array]:
    """Variances drawn towards the pooled one of their (…, lines), and the degrees of freedom that they then have.

    NaN stays NaN and pools nothing.
    """
    known = ~(np.isnan(variances) | np.isnan(freedom))
    weight = np.where(known, freedom, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = np.where(known, variances * weight, 0.0).sum(axis=-1, keepdims=True) / weight.sum(-1, keepdims=True)
    several = known.sum(axis=-1, keepdims=True) > 1
    mixed = (prior * pooled + freedom * variances) / (prior + freedom)
    # the pooled variance is no better known than the lines that it comes from
    more = np.minimum(prior, weight.sum(axis=-1, keepdims=True) - freedom)
    return np.where(several, mixed, variances), np.where(several, freedom + more, freedom)


def _mean(values: Array, axis: int) -> Array:
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis=axis) / there.sum(axis=axis))


def one_line(prompts: int) -> npt.NDArray[np.bool_]:
    """(prompts, 1): all of them."""
    return np.ones((prompts, 1), dtype=np.bool_)


def mean_interval(means: Array, level: float = 0.95) -> Interval:
    """The mean over questions like these of one (questions, prompts) table, NaN where nothing was scored."""
    return bounded(*over_questions(means), level, _asked(means), OVER_QUESTIONS)


def over_questions(means: Array, *, paired: bool = False) -> tuple[float, float, float]:
    """The mean of one (questions, prompts) table, its variance over questions like these, and degrees of freedom.

    `paired`: of a table of differences; see `Lines.variance`.
    """
    if not means.size:
        return math.nan, math.nan, math.nan
    line = Additive(means).lines(one_line(means.shape[1]))
    variance, freedom = line.variance(moderated=False, paired=paired)
    return float(line.means[0]), float(variance[0]), float(freedom[0])


def _asked(means: Array) -> int:
    return int((~np.isnan(means)).any(axis=1).sum())
