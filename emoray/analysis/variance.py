"""Where the spread of the scores comes from, and how many independent answers the rows are worth.

Model: score = mean + question + state + (question × state) + repetition, all but the mean random and independent. The
parts are estimated by the method of moments from the cell means and the spread inside the cells (two-way analysis of
variance with unweighted means, which is exact on a balanced grid and good where a few answers are missing). A negative
estimate is reported as 0. The states of a run are all the states there are, so their "variance" only describes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emoray.study.circumplex import Array


@dataclass(frozen=True, slots=True)
class Parts:
    """Variances (squared cosines); NaN where the design cannot tell."""

    question: float
    state: float
    interaction: float  # some questions suit some states; with one repetition it holds the repetition part as well
    repetition: float  # the same prompt asked again

    @property
    def total(self) -> float:
        return float(np.nansum([self.question, self.state, self.interaction, self.repetition]))


def variance_parts(counts: Array, means: Array, within: Array) -> Parts:
    """The parts of one model; all (questions, states): scores, their mean and summed squared deviations per cell.

    Questions that miss a whole cell are left out. Fewer than two questions or states left: only `repetition` is known.
    """
    freedom = float(np.maximum(counts - 1, 0).sum())
    repetition = float(np.nansum(within)) / freedom if freedom else math.nan
    whole = (counts > 0).all(axis=1)
    means, counts = means[whole], counts[whole]
    questions, states = means.shape
    if questions < 2 or states < 2:
        return Parts(math.nan, math.nan, math.nan, repetition)
    of_question, of_state, of_both = _mean_squares(means)
    share = float((1 / counts).mean())  # of the repetition part in the variance of a cell mean
    return Parts(
        question=max(0.0, (of_question - of_both) / states),
        state=max(0.0, (of_state - of_both) / questions),
        interaction=max(0.0, of_both - (repetition * share if freedom else 0.0)),
        repetition=repetition,
    )


def effective_n(scores: float, spread: float, means: Array) -> float:
    """How many independent answers would pin the mean as well as these `scores` do; never more than `scores`.

    `spread` is the variance of single scores, `means` the question means: their spread is the standard error that other
    questions would bring. NaN for fewer than two questions.
    """
    means = means[~np.isnan(means)]
    if len(means) < 2 or not spread > 0:
        return math.nan
    error = float(means.var(ddof=1)) / len(means)
    return min(scores, spread / error) if error > 0 else scores


def identical_share(cells: npt.NDArray[np.uint64]) -> float:
    """The share of answers that repeat an earlier answer to the same prompt word for word.

    One number per answer that is equal where prompt and text are equal (a 64-bit hash of both). NaN for no answers.
    """
    return 1 - len(np.unique(cells)) / len(cells) if len(cells) else math.nan


def _mean_squares(means: Array) -> tuple[float, float, float]:
    """Of questions, states and their interaction, on the scale of single cell means; (questions, states)."""
    questions, states = means.shape
    middle = means.mean()
    by_question, by_state = means.mean(axis=1), means.mean(axis=0)
    rest = means - by_question[:, None] - by_state[None, :] + middle
    return (
        float(states * ((by_question - middle) ** 2).sum() / (questions - 1)),
        float(questions * ((by_state - middle) ** 2).sum() / (states - 1)),
        float((rest**2).sum() / ((questions - 1) * (states - 1))),
    )
