"""What more asking would buy: the interval of a model's mean with other numbers of questions and repetitions.

The mean of a question strays by what the question is, by what it makes of each state, and by the chance in answers.
Repetitions wear away the last of these alone; so beyond some number of them only other questions narrow the interval.
The states stay what they are, and their spread is no error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from emoray.analysis import student
from emoray.analysis.variance import Parts


def half_width(parts: Parts, states: int, questions: int, repetitions: float, level: float = 0.95) -> float:
    """The expected half-width of the interval over questions (Student's t) of a model's mean cosine.

    `repetitions` may be infinite: that is the floor. Where every prompt was asked once, interaction holds repetition:
    what other questions would bring is known, what other repetitions would is not. NaN for fewer than two questions, or
    where a part is not known.
    """
    if questions < 2:
        return math.nan
    again = parts.repetition / repetitions if parts.told_apart or repetitions != 1 else 0.0
    variance = parts.question + (parts.interaction + again) / states
    return student.quantile((1 + level) / 2, questions - 1) * math.sqrt(variance / questions)


def labels_half_width(
    parts: Parts, states: int, questions: int, repetitions: float, labels: int, foretold: float, level: float = 0.95
) -> float:
    """The expected half-width of a mean that so many `labels` by people correct, drawn alike from all questions.

    `foretold` is the share of the variance of people's scores that the reader's foretell, 0 … 1: what is left of it
    wears away with the labels, the sample of questions does not. People's scores are taken to spread as the reader's
    do. NaN for fewer than two questions, or labels, or where nothing is known of the spread.
    """
    if questions < 2 or labels < 2:
        return math.nan
    within = sum(part for part in (parts.state, parts.interaction, parts.repetition) if not math.isnan(part))
    repeated = 0.0 if math.isnan(parts.repetition) else parts.repetition / repetitions
    sampled = (parts.question + (parts.interaction + repeated) / states) / questions
    freedom = min(questions, labels) - 1
    return student.quantile((1 + level) / 2, freedom) * math.sqrt(sampled + (1 - foretold) * within / labels)


def enough_repetitions(parts: Parts, states: int, slack: float = 0.05) -> int | None:
    """The fewest repetitions that bring the half-width within `slack` of its floor, however many questions there are.

    None where a part is not known, or where questions do not differ: then more always help.
    """
    floor = parts.question + parts.interaction / states
    if not floor > 0 or math.isnan(parts.repetition):
        return None
    return max(1, math.ceil(parts.repetition / states / (((1 + slack) ** 2 - 1) * floor)))


def needed_repetitions(parts: Parts, states: int, questions: int, half: float, level: float = 0.95) -> int | None:
    """The fewest repetitions by which these questions bring the half-width to `half` (above 0) or below.

    None where no number does: the questions alone leave it wider; or where it is not known, because nothing tells
    repetition from interaction. One suffices is told also of parts that one repetition does not tell apart.
    """
    if half_width(parts, states, questions, 1, level) <= half:
        return 1
    if questions < 2 or not half_width(parts, states, questions, math.inf, level) < half:
        return None
    return _fewest(1, lambda many: half_width(parts, states, questions, many, level) <= half)


def needed_questions(parts: Parts, states: int, repetitions: float, half: float, level: float = 0.95) -> int | None:
    """The fewest questions (2 or more), each asked so often, that bring the half-width to `half` (above 0) or below.

    None where a part is not known.
    """
    if math.isnan(half_width(parts, states, 2, repetitions, level)):
        return None
    if half_width(parts, states, 2, repetitions, level) <= half:
        return 2
    return _fewest(2, lambda many: half_width(parts, states, many, repetitions, level) <= half)


def _fewest(too_few: int, enough: Callable[[int], bool]) -> int:
    """The first number above `too_few` that is enough, as all above it are."""
    many = 2 * too_few
    while not enough(many):
        too_few, many = many, 2 * many
    while many - too_few > 1:
        middle = (too_few + many) // 2
        too_few, many = (too_few, middle) if enough(middle) else (middle, many)
    return many
