"""Variance parts of experiments whose parts are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emoray.analysis.variance import effective_n, identical_share, variance_parts
from emoray.study.circumplex import Array


def cells(
    rng: np.random.Generator,
    *,
    question: float,
    state: float,
    both: float,
    again: float,
    n: int = 8,
    silent: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Counts, means and within sums of squares of a (questions, states) design with these standard deviations."""
    questions, states = 60, 12
    middle = (
        rng.normal(0, question, (questions, 1))
        + rng.normal(0, state, (1, states))
        + rng.normal(0, both, (questions, states))
    )
    scores = middle[..., None] + rng.normal(0, again, (questions, states, n))
    scores[rng.random(scores.shape) < silent] = math.nan
    means = np.nanmean(scores, axis=2)
    within = np.nansum((scores - means[..., None]) ** 2, axis=2)
    return (~np.isnan(scores)).sum(axis=2).astype(float), means, within


@pytest.mark.parametrize("silent", [0.0, 0.05])
def test_the_parts_are_found_again(silent: float) -> None:
    rng = np.random.default_rng(0)
    found = [
        variance_parts(*cells(rng, question=0.2, state=0.3, both=0.15, again=0.5, silent=silent)) for _ in range(60)
    ]
    means = [
        np.mean([getattr(one, part) for one in found]) for part in ("question", "state", "interaction", "repetition")
    ]
    assert means == pytest.approx([0.04, 0.09, 0.0225, 0.25], rel=0.12)


def test_a_part_that_is_not_there_is_about_zero() -> None:
    found = variance_parts(*cells(np.random.default_rng(1), question=0.0, state=0.3, both=0.0, again=0.5))
    assert 0 <= found.question < 0.005
    assert 0 <= found.interaction < 0.01


def test_with_one_repetition_the_rest_holds_both() -> None:
    counts, means, within = cells(np.random.default_rng(2), question=0.2, state=0.3, both=0.15, again=0.5, n=1)
    found = variance_parts(counts, means, within)
    assert math.isnan(found.repetition)
    assert found.interaction == pytest.approx(0.15**2 + 0.5**2, rel=0.15)


def test_a_question_that_misses_a_state_is_left_out() -> None:
    counts, means, within = cells(np.random.default_rng(3), question=0.2, state=0.3, both=0.1, again=0.4)
    holed = counts.copy()
    holed[0, 0] = 0
    found = variance_parts(holed, np.where(holed == 0, math.nan, means), np.where(holed == 0, 0, within))
    assert found.question == variance_parts(counts[1:], means[1:], within[1:]).question


@pytest.mark.parametrize("shape", [(1, 12), (10, 1), (0, 0)])
def test_a_design_that_cannot_tell_says_so(shape: tuple[int, int]) -> None:
    found = variance_parts(np.full(shape, 3.0), np.zeros(shape), np.ones(shape))
    assert math.isnan(found.question)
    assert math.isnan(found.state)


def test_independent_rows_are_worth_themselves_and_clustered_ones_less() -> None:
    rng = np.random.default_rng(4)
    worth = []
    for question in (0.0, 0.3):
        scores = rng.normal(0, question, (40, 1)) + rng.normal(0, 0.5, (40, 50))
        worth.append(effective_n(scores.size, float(scores.var()), scores.mean(axis=1)))
    assert worth[0] > 1000
    assert worth[1] < 250


def test_the_worth_is_never_more_than_the_rows() -> None:
    assert effective_n(20, 0.3, np.array([0.5, 0.5])) == 20
    assert math.isnan(effective_n(20, 0.3, np.array([0.5])))


def test_answers_that_repeat_are_counted() -> None:
    assert identical_share(np.array([1, 1, 1, 2], dtype=np.uint64)) == 0.5
    assert identical_share(np.arange(5, dtype=np.uint64)) == 0.0
    assert math.isnan(identical_share(np.empty(0, dtype=np.uint64)))
