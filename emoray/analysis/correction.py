"""A few human labels correct a reader's means: prediction-powered inference, with intervals that carry both errors.

Angelopoulos et al. 2023 (Science 382, 669): the mean of the readings over all answers, plus the mean of what people say
beyond the reader on the few answers that people have labelled. A reader that is wrong in one direction no longer
shifts the mean; a reader that is merely noisy widens the interval little, since its noise averages out over all
answers. Either may leave answers without a score (unread, or neutral under the rule that drops them), and not the same
ones: so the labelled answers have two means, each over the scores that there are, and people's less the reader's is the
correction. Questions are the clusters here as everywhere: both parts vary from question to question, together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emoray.analysis import student
from emoray.analysis.intervals import OVER_QUESTIONS, Interval, question_means, t_interval
from emoray.study.circumplex import Array


@dataclass(frozen=True)
class Corrected:
    """A mean as the reader gives it, as people correct it, and as people alone would give it."""

    raw: Interval
    corrected: Interval
    human: Interval  # of the labelled answers alone, whether or not the reader scored them
    shift: float  # what the correction adds: people beyond the reader
    labelled: int  # answers with a human score
    questions: int  # that have any of them


def corrected_mean(scores: Array, human: Array, level: float = 0.95) -> Corrected:
    """The mean over questions like these, corrected by human scores.

    Both are (questions, asks) and belong together entry by entry: `scores` are the reader's, NaN where nothing was
    read; `human` are people's on the same scale, NaN where nobody was asked. The labelled answers must be a random
    sample of each labelled question's answers. Questions without labels borrow the mean correction of the others.
    Bounds are NaN with fewer than two labelled questions; with none, so is the estimate.
    """
    return corrected_questions(question_means(scores), np.where(np.isnan(human), np.nan, scores), human, level)


def corrected_questions(means: Array, scores: Array, human: Array, level: float = 0.95) -> Corrected:
    """The same, where the readings of all answers have become (questions,) means already.

    `scores` and `human` are (questions, labelled): of all the labelled answers and of no others, NaN where a row is
    shorter and where either leaves one without a score.
    """
    people = question_means(human)
    gaps = people - question_means(scores)
    read, labelled = ~np.isnan(means), ~np.isnan(gaps)
    shift = float(gaps[labelled].mean()) if labelled.any() else math.nan
    return Corrected(
        raw=t_interval(means[:, None], level),
        corrected=_interval(means[read], gaps[read], shift, level),
        human=t_interval(human, level),
        shift=shift,
        labelled=int((~np.isnan(human)).sum()),
        questions=int((~np.isnan(people)).sum()),
    )


def corrected_means(scores: Array, human: Array, level: float = 0.95) -> list[Corrected]:
    """The same of many groups (models, states): (groups, questions, asks) each."""
    return [corrected_mean(one, said, level) for one, said in zip(scores, human, strict=True)]


def _interval(means: Array, gaps: Array, shift: float, level: float) -> Interval:
    """`means` and `gaps` are (questions,); a gap is NaN where a question has no human score."""
    labelled = ~np.isnan(gaps)
    questions, known = len(means), int(labelled.sum())
    estimate = (float(means.mean()) if questions else math.nan) + shift
    if known < 2:
        return Interval(estimate, math.nan, math.nan, level, known, OVER_QUESTIONS)
    # what each question adds to the error of the estimate: by its mean, and by its gap where it has one
    parts = (means - means.mean()) / questions
    parts[labelled] += (gaps[labelled] - shift) / known
    from_known = float((parts[labelled] ** 2).sum()) * known / (known - 1)
    from_others = float((parts[~labelled] ** 2).sum()) * questions / (questions - 1)
    variance = from_known + from_others
    reach = student.quantile((1 + level) / 2, _freedom(from_known, known - 1, from_others, questions - known))
    reach *= math.sqrt(variance)
    return Interval(estimate, estimate - reach, estimate + reach, level, known, OVER_QUESTIONS)


def _freedom(a: float, of_a: int, b: float, of_b: int) -> float:
    """Degrees of freedom of the sum of two variances, after Satterthwaite."""
    if not b or not of_b:
        return float(of_a)
    return (a + b) ** 2 / (a**2 / of_a + b**2 / of_b)
