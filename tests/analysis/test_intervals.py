"""What an interval promises, held against simulated experiments whose truth is known."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emoray.analysis import student
from emoray.analysis.intervals import (
    ASKED_AGAIN,
    OVER_QUESTIONS,
    asked_again_interval,
    bootstrap_interval,
    padded,
    question_means,
    t_bounds,
    t_interval,
)
from emoray.study.circumplex import Array

NOTHING = math.nan
SCORES = arrays.arrays(
    np.float64, st.tuples(st.integers(2, 12), st.integers(1, 20)), elements=st.floats(-1, 1) | st.just(NOTHING)
)


def experiments(n: int, rng: np.random.Generator) -> Array:
    """(experiments, questions, asks) of the design of PEERS.md: the true mean is 0."""
    of_question = rng.normal(0, 0.10, size=(n, 10, 1))
    scores = of_question + rng.normal(0, 0.5, size=(n, 10, 120))
    scores[rng.random(scores.shape) < 0.03] = NOTHING
    return scores


def test_nineteen_of_twenty_intervals_over_question_means_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    means = np.concatenate([np.nanmean(experiments(1000, rng), axis=2) for _ in range(4)])
    _, low, high = t_bounds(means)
    assert 0.93 <= ((low <= 0) & (high >= 0)).mean() <= 0.965


def test_rows_taken_as_independent_would_hold_it_far_too_rarely() -> None:
    rows = experiments(1000, np.random.default_rng(2)).reshape(1000, -1)
    _, low, high = t_bounds(rows)
    assert ((low <= 0) & (high >= 0)).mean() < 0.7


def test_the_bootstrap_over_ten_questions_is_too_narrow_but_far_better_than_rows() -> None:
    rng = np.random.default_rng(3)
    found = [bootstrap_interval(scores, rng, draws=400) for scores in experiments(400, rng)]
    assert 0.8 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.93


def test_an_interval_says_what_it_generalises_to() -> None:
    scores = np.array([[0.1, 0.2], [0.3, 0.4]])
    assert t_interval(scores).over == OVER_QUESTIONS
    assert t_interval(scores).units == 2
    assert asked_again_interval(np.array([2.0]), np.array([0.1]), np.array([0.02])).over == ASKED_AGAIN


def test_it_is_scipys_interval_over_question_means() -> None:
    scores = np.random.default_rng(4).normal(size=(7, 30))
    means = scores.mean(axis=1)
    low, high = scipy.stats.t.interval(0.9, 6, means.mean(), scipy.stats.sem(means))
    found = t_interval(scores, 0.9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


@given(SCORES)
def test_it_brackets_the_mean(scores: Array) -> None:
    found = t_interval(scores)
    if found.units >= 2:
        assert found.low <= found.estimate <= found.high


@given(SCORES, st.floats(0.5, 0.9))
def test_it_grows_with_the_level(scores: Array, level: float) -> None:
    narrow, wide = t_interval(scores, level), t_interval(scores, level + 0.09)
    if narrow.units >= 2:
        assert wide.half_width >= narrow.half_width


@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_questions_and_asks_does_not_matter(scores: Array, random: Random) -> None:
    rng = np.random.default_rng(random.getrandbits(32))
    mixed = rng.permuted(scores[rng.permutation(len(scores))], axis=1)
    before, after = t_interval(scores), t_interval(mixed)
    assert (after.estimate, after.low, after.high) == pytest.approx(
        (before.estimate, before.low, before.high), abs=1e-12, nan_ok=True
    )


def test_it_is_wider_with_fewer_questions() -> None:
    rng = np.random.default_rng(5)
    spread = np.sort(rng.normal(0, 0.1, size=(40, 12)), axis=0)
    widths = [t_interval(spread[:: 40 // n][:n]).half_width for n in (3, 5, 10, 20, 40)]
    assert widths == sorted(widths, reverse=True)


def test_a_question_counts_once_however_many_asks_it_has() -> None:
    ragged = padded([[1.0], [0.0] * 50])
    assert t_interval(ragged).estimate == 0.5
    assert question_means(ragged).tolist() == [1.0, 0.0]


def test_a_silent_question_is_left_out() -> None:
    with_silence = np.array([[0.1, 0.3], [NOTHING, NOTHING], [0.5, NOTHING]])
    assert t_interval(with_silence) == t_interval(with_silence[[0, 2]])


@pytest.mark.parametrize("scores", [np.array([[0.4, 0.6]]), np.array([[0.4, 0.6], [NOTHING, NOTHING]])])
def test_one_question_has_a_mean_and_no_interval(scores: Array) -> None:
    for found in (t_interval(scores), bootstrap_interval(scores, np.random.default_rng(0))):
        assert found.estimate == 0.5
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.units == 1


def test_nothing_said_is_not_a_number() -> None:
    for scores in (np.full((3, 4), NOTHING), np.empty((0, 0))):
        assert math.isnan(t_interval(scores).estimate)
        assert math.isnan(bootstrap_interval(scores, np.random.default_rng(0)).estimate)


def test_the_bootstrap_draws_from_the_generator_that_it_is_given() -> None:
    scores = np.random.default_rng(6).normal(size=(10, 5))
    same = [bootstrap_interval(scores, np.random.default_rng(9)) for _ in range(2)]
    assert same[0] == same[1]
    assert bootstrap_interval(scores, np.random.default_rng(10)) != same[0]


def test_asking_the_same_prompts_again_covers_nineteen_of_twenty() -> None:
    rng = np.random.default_rng(7)
    prompts, held = rng.normal(0, 0.3, size=12), []
    for _ in range(1500):
        scores = prompts[:, None] + rng.normal(0, 0.5, size=(12, 5))
        within = ((scores - scores.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        found = asked_again_interval(np.full(12, 5.0), scores.mean(axis=1), within)
        held.append(found.low <= prompts.mean() <= found.high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_prompts_asked_once_cannot_tell_what_asking_again_would_bring() -> None:
    found = asked_again_interval(np.ones(4), np.array([0.1, 0.2, 0.3, 0.4]), np.zeros(4))
    assert found.estimate == pytest.approx(0.25)
    assert math.isnan(found.low)


@pytest.mark.parametrize("df", [1, 1.5, 2, 5, 9, 30, 499, 501, 1e4, 1e6])
def test_students_t_is_scipys(df: float) -> None:
    for p in (1e-6, 0.001, 0.025, 0.4, 0.4999, 0.5, 0.6, 0.975, 0.99999):
        assert student.quantile(p, df) == pytest.approx(scipy.stats.t.ppf(p, df), rel=1e-10)
    for t in (-3.0, -0.01, 0.0, 0.3, 2.0, 25.0):
        assert student.tail(t, df) == pytest.approx(scipy.stats.t.sf(t, df), rel=1e-9)


def test_students_t_ends_where_it_must() -> None:
    assert student.tail(math.inf, 3) == student.tail(1e200, 3) == 0.0
    assert student.tail(-math.inf, 3) == 1.0
    assert math.isnan(student.tail(math.nan, 3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        student.quantile(1.0, 3)
    with pytest.raises(ValueError, match="above 0"):
        student.tail(1.0, 0)
