"""What more asking would buy, against runs that were asked so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emoray.analysis.correction import corrected_mean
from emoray.analysis.intervals import t_bounds
from emoray.analysis.planning import (
    enough_repetitions,
    half_width,
    labels_half_width,
    needed_questions,
    needed_repetitions,
)
from emoray.analysis.variance import Parts, variance_parts
from emoray.study.circumplex import Array

PARTS = Parts(question=0.01, state=0.05, interaction=0.02, repetition=0.3)
STATES = 12


def runs(rng: np.random.Generator, n: int, questions: int, repetitions: int) -> Array:
    """(n, questions, states, repetitions) of scores."""
    shapes = ((n, questions, 1, 1), (1, 1, STATES, 1), (n, questions, STATES, 1), (n, questions, STATES, repetitions))
    spreads = (PARTS.question, PARTS.state, PARTS.interaction, PARTS.repetition)
    whole = np.zeros(shapes[-1])
    for shape, spread in zip(shapes, spreads, strict=True):
        whole += math.sqrt(spread) * rng.standard_normal(shape)
    return whole


@pytest.mark.parametrize(("questions", "repetitions"), [(5, 1), (10, 3), (20, 10)])
def test_the_interval_of_a_run_is_as_wide_as_was_planned(questions: int, repetitions: int) -> None:
    means = runs(np.random.default_rng(1), 1000, questions, repetitions).mean(axis=(2, 3))
    _, low, high = t_bounds(means)
    widths = (high - low) / 2
    assert half_width(PARTS, STATES, questions, repetitions) == pytest.approx(
        math.sqrt(float((widths**2).mean())), rel=0.05
    )


def test_a_pilot_of_few_repetitions_foresees_a_run_of_many() -> None:
    pilots = runs(np.random.default_rng(2), 300, 10, 3)
    planned = [half_width(parts_of(pilot), STATES, 20, 30) for pilot in pilots]
    assert np.mean(planned) == pytest.approx(half_width(PARTS, STATES, 20, 30), rel=0.07)


def parts_of(run: Array) -> Parts:
    means = run.mean(axis=2)
    return variance_parts(np.full(means.shape, float(run.shape[2])), means, ((run - means[..., None]) ** 2).sum(axis=2))


def test_beyond_enough_repetitions_more_do_not_help_and_before_it_they_do() -> None:
    enough, floor = enough_repetitions(PARTS, STATES), half_width(PARTS, STATES, 10, math.inf)
    assert enough is not None
    assert half_width(PARTS, STATES, 10, enough) <= 1.05 * floor < half_width(PARTS, STATES, 10, enough - 1)
    assert half_width(PARTS, STATES, 40, enough) < 0.5 * floor


def test_where_all_spread_is_chance_more_repetitions_always_help() -> None:
    assert enough_repetitions(Parts(0.0, 0.05, 0.0, 0.3), STATES) is None


def test_where_nothing_was_repeated_other_questions_can_be_planned_and_other_repetitions_cannot() -> None:
    once = Parts(0.01, 0.05, 0.02 + 0.3, math.nan)  # PARTS, asked once: nothing tells the last two apart
    assert half_width(once, STATES, 20, 1) == pytest.approx(half_width(PARTS, STATES, 20, 1))
    assert enough_repetitions(once, STATES) is None
    assert math.isnan(half_width(once, STATES, 10, 3))
    assert math.isnan(half_width(once, STATES, 10, math.inf))
    assert math.isnan(half_width(PARTS, STATES, 1, 3))


def test_labels_buy_the_half_width_that_was_planned() -> None:
    """Questions labelled alike, by people whose scores a reader foretells by half."""
    rng, widths = np.random.default_rng(3), []
    parts = Parts(question=0.01, state=0.0, interaction=0.0, repetition=0.2)
    for _ in range(200):
        people = 0.1 * rng.standard_normal((10, 1)) + math.sqrt(0.2) * rng.standard_normal((10, 120))
        noise = math.sqrt(0.2) * rng.standard_normal(people.shape)
        human = np.where(np.arange(120) < 10, people, np.nan)
        widths.append(corrected_mean(people + noise, human).corrected.half_width)
    planned = labels_half_width(parts, STATES, 10, 10, labels=100, foretold=0.5)
    assert np.sqrt(np.mean(np.square(widths))) == pytest.approx(planned, rel=0.12)


def test_more_labels_narrow_what_the_reader_leaves_open_and_nothing_else() -> None:
    wide, narrow, whole = (labels_half_width(PARTS, STATES, 10, 3, n, 0.5) for n in (25, 100, 10**9))
    assert wide > narrow > whole
    assert whole == pytest.approx(half_width(PARTS, STATES, 10, 3), rel=1e-3)
    assert labels_half_width(PARTS, STATES, 10, 3, 25, 1.0) == pytest.approx(whole)
    assert math.isnan(labels_half_width(PARTS, STATES, 1, 3, 25, 0.5))


@pytest.mark.parametrize("half", [0.3, 0.1, 0.09, 0.0885, 0.05])
def test_needed_repetitions_are_the_fewest_that_suffice_and_none_where_the_questions_alone_are_too_few(
    half: float,
) -> None:
    found = needed_repetitions(PARTS, STATES, 10, half)
    if half < half_width(PARTS, STATES, 10, math.inf):
        assert found is None
        return
    assert found is not None
    assert half_width(PARTS, STATES, 10, found) <= half
    assert found == 1 or half_width(PARTS, STATES, 10, found - 1) > half


@pytest.mark.parametrize("half", [1.5, 0.5, 0.05, 0.001])
def test_needed_questions_are_the_fewest_that_suffice(half: float) -> None:
    found = needed_questions(PARTS, STATES, 3, half)
    assert found is not None
    assert half_width(PARTS, STATES, found, 3) <= half
    assert found == 2 or half_width(PARTS, STATES, found - 1, 3) > half


def test_a_pilot_that_asked_once_foretells_questions_asked_once_and_no_repetitions() -> None:
    once = Parts(question=0.01, state=0.05, interaction=0.32, repetition=math.nan)
    assert needed_questions(once, STATES, 1, 0.05) == needed_questions(PARTS, STATES, 1, 0.05)
    assert needed_questions(once, STATES, 2, 0.05) is None
    assert needed_repetitions(once, STATES, 10, 0.05) is None
    assert needed_repetitions(once, STATES, 10, 0.2) == 1


@pytest.mark.parametrize("design", [(10, needed_repetitions(PARTS, STATES, 10, 0.1)), (31, 3)])
def test_runs_that_are_as_large_as_was_told_have_intervals_of_that_width(design: tuple[int, int]) -> None:
    means = runs(np.random.default_rng(3), 1000, *design).mean(axis=(2, 3))
    _, low, high = t_bounds(means)
    assert math.sqrt(float((((high - low) / 2) ** 2).mean())) == pytest.approx(
        half_width(PARTS, STATES, *design), rel=0.05
    )
