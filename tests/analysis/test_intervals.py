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
    """(experiments, questions, asks) of ten questions that differ, 3 % of them unanswered: the true mean is 0."""
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


@pytest.mark.parametrize("questions", [2, 3, 7])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_it_is_scipys_interval_over_question_means(questions: int, level: float) -> None:
    scores = np.random.default_rng(4).normal(size=(questions, 30))
    means = scores.mean(axis=1)
    low, high = scipy.stats.t.interval(level, questions - 1, means.mean(), scipy.stats.sem(means))
    found = t_interval(scores, level)
    assert (found.estimate, found.low, found.high) == pytest.approx((means.mean(), low, high), rel=1e-12)
    assert found.half_width == pytest.approx((high - low) / 2)
    assert (found.level, found.units) == (level, questions)


def test_nineteen_of_twenty_is_the_level_where_none_is_said() -> None:
    scores = np.random.default_rng(4).normal(size=(5, 3))
    counts, means = np.full(5, 3.0), scores.mean(axis=1)
    within = ((scores - means[:, None]) ** 2).sum(axis=1)
    rngs = (np.random.default_rng(1) for _ in range(4))
    assert t_interval(scores) == t_interval(scores, 0.95)
    assert bootstrap_interval(scores, next(rngs)) == bootstrap_interval(scores, next(rngs), level=0.95, draws=2000)
    assert asked_again_interval(counts, means, within) == asked_again_interval(counts, means, within, 0.95)
    np.testing.assert_array_equal(t_bounds(scores), t_bounds(scores, 0.95))


def test_many_experiments_are_told_at_once_each_as_if_alone() -> None:
    means = np.random.default_rng(12).normal(size=(4, 6))
    means[1, 2:] = means[2, 1:] = means[3] = NOTHING  # of two questions, of one, and of none
    alone = [t_bounds(one[None, :]) for one in means]
    np.testing.assert_allclose(t_bounds(means), np.concatenate(alone, axis=1), rtol=1e-12)
    mean, low, high = t_bounds(means)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, False, True, True]
    assert np.isnan(mean).tolist() == [False, False, False, True]


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_bootstrap_is_the_middle_of_the_means_of_questions_drawn_with_replacement(level: float) -> None:
    scores = np.random.default_rng(13).normal(size=(6, 4))
    scores[2] = NOTHING
    means = np.nanmean(scores[[0, 1, 3, 4, 5]], axis=1)
    rng = np.random.default_rng(5)
    drawn = [np.mean([means[place] for place in row]) for row in rng.integers(5, size=(300, 5))]
    found = bootstrap_interval(scores, np.random.default_rng(5), level=level, draws=300)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [50 - 50 * level, 50 + 50 * level])))
    assert (found.estimate, found.level, found.units, found.over) == (means.mean(), level, 5, OVER_QUESTIONS)


def test_the_bootstrap_has_bounds_from_two_questions_on() -> None:
    found = bootstrap_interval(np.array([[0.1], [0.3]]), np.random.default_rng(1))
    assert (found.low, found.high) == pytest.approx((0.1, 0.3))


@given(SCORES)
def test_it_brackets_the_mean(scores: Array) -> None:
    found = t_interval(scores)
    assert (found.low <= found.estimate <= found.high) == (found.units >= 2)  # fewer have no bounds


@given(SCORES, st.floats(0.5, 0.9))
def test_it_grows_with_the_level(scores: Array, level: float) -> None:
    narrow, wide = t_interval(scores, level), t_interval(scores, level + 0.09)
    assert (wide.half_width >= narrow.half_width) == (narrow.units >= 2)  # fewer have no bounds
    assert (wide.half_width > narrow.half_width) == (narrow.half_width > 0)


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scores", [np.array([[0.4, 0.6]]), np.array([[0.4, 0.6], [NOTHING, NOTHING]])])
def test_one_question_has_a_mean_and_no_interval(scores: Array) -> None:
    for found in (t_interval(scores), bootstrap_interval(scores, np.random.default_rng(0))):
        assert found.estimate == 0.5
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert (found.units, found.level, found.over) == (1, 0.95, OVER_QUESTIONS)


@pytest.mark.filterwarnings("error")
def test_nothing_said_is_not_a_number() -> None:
    for scores in (np.full((3, 4), NOTHING), np.empty((0, 0))):
        for found in (t_interval(scores), bootstrap_interval(scores, np.random.default_rng(0))):
            assert math.isnan(found.estimate)
            assert math.isnan(found.low)
            assert math.isnan(found.high)
            assert found.units == 0
    nothing = np.empty(0)
    assert math.isnan(asked_again_interval(nothing, nothing, nothing).estimate)


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


def test_of_one_prompt_it_is_students_interval_over_its_asks() -> None:
    scores = np.random.default_rng(14).normal(size=8)
    within = ((scores - scores.mean()) ** 2).sum()
    found = asked_again_interval(np.array([8.0]), np.array([scores.mean()]), np.array([within]), 0.9)
    low, high = scipy.stats.t.interval(0.9, 7, scores.mean(), scipy.stats.sem(scores))
    assert (found.estimate, found.low, found.high) == pytest.approx((scores.mean(), low, high))
    assert (found.level, found.units, found.over) == (0.9, 8, ASKED_AGAIN)


def test_of_two_prompts_it_is_welchs_interval() -> None:
    rng = np.random.default_rng(15)
    one, other = rng.normal(0, 1, size=5), rng.normal(1, 3, size=9)
    within = np.array([((some - some.mean()) ** 2).sum() for some in (one, other)])
    found = asked_again_interval(np.array([5.0, 9.0]), np.array([one.mean(), other.mean()]), within, 0.9)
    welch = scipy.stats.ttest_ind(one, -other, equal_var=False).confidence_interval(0.9)  # of the sum, twice the mean
    assert (found.low, found.high) == pytest.approx((welch.low / 2, welch.high / 2))


def test_a_prompt_asked_once_is_taken_to_spread_as_the_others_do_on_the_whole() -> None:
    counts, means, within = np.array([3.0, 5.0, 1.0, 0.0]), np.array([0.1, 0.5, 0.9, 7.0]), np.array([0.2, 1.0, 0, 9])
    pooled = (0.2 + 1.0) / (2 + 4)
    variances = np.array([0.2 / 2 / 3, 1.0 / 4 / 5, pooled]) / 9
    df = variances[:2].sum() ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 4)
    reach = scipy.stats.t.ppf(0.975, df) * math.sqrt(variances.sum())
    found = asked_again_interval(counts, means, within)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.5, 0.5 - reach, 0.5 + reach))
    assert found.units == 9  # nothing was said to the last prompt


def test_prompts_that_always_say_the_same_have_no_spread_to_speak_of() -> None:
    found = asked_again_interval(np.array([3.0, 2.0]), np.array([0.25, 0.75]), np.zeros(2))
    assert (found.estimate, found.low, found.high) == (0.5, 0.5, 0.5)


def test_prompts_asked_once_cannot_tell_what_asking_again_would_bring() -> None:
    found = asked_again_interval(np.ones(4), np.array([0.1, 0.2, 0.3, 0.4]), np.zeros(4), 0.9)
    assert found.estimate == pytest.approx(0.25)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert (found.level, found.units, found.over) == (0.9, 4, ASKED_AGAIN)


def test_ragged_rows_become_an_array_with_nothing_where_nothing_was_said() -> None:
    np.testing.assert_array_equal(padded([[1.0], [2.0, 3.0], []]), [[1, NOTHING], [2, 3], [NOTHING, NOTHING]])
    assert padded([]).shape == (0, 0)


@pytest.mark.parametrize("df", [1, 1.5, 2, 5, 9, 30, 499, 501, 1e4, 1e6])
def test_students_t_is_scipys(df: float) -> None:
    for p in (1e-6, 0.001, 0.025, 0.4, 0.4999, 0.5, 0.6, 0.975, 0.99999):
        assert student.quantile(p, df) == pytest.approx(scipy.stats.t.ppf(p, df), rel=1e-10)
    for t in (-3.0, -0.01, 0.0, 0.3, 2.0, 25.0):
        assert student.tail(t, df) == pytest.approx(scipy.stats.t.sf(t, df), rel=1e-9)


@pytest.mark.parametrize(
    ("df", "quantiles", "tails"),
    [
        (
            1,
            (-12.706204736174685, 6.31375151467503, 636.6192487687821),
            (0.4072264209222578, 0.14758361765043318, 0.012725611347991814),
        ),
        (
            2.7,
            (-3.3921483831737507, 2.463888936270849, 15.63577286317451),
            (0.3928832663472241, 0.074711719035251, 0.00014181936992471475),
        ),
        (
            9,
            (-2.262157162798205, 1.833112932656236, 4.780912585931217),
            (0.38549535187076267, 0.03827641188535042, 6.294725189495152e-10),
        ),
        (
            99.5,
            (-1.984093610990628, 1.6603123433072997, 3.3910073945529158),
            (0.3824015026298834, 0.02411293331348923, 5.458789190561683e-45),
        ),
    ],
)
def test_students_t_is_what_it_was_before_scipy_said_it(
    df: float, quantiles: tuple[float, ...], tails: tuple[float, ...]
) -> None:
    assert [student.quantile(p, df) for p in (0.025, 0.95, 0.9995)] == pytest.approx(quantiles, rel=1e-12, abs=0)
    assert [student.tail(t, df) for t in (0.3, 2.0, 25.0)] == pytest.approx(tails, rel=1e-12, abs=0)


def test_students_t_ends_where_it_must() -> None:
    assert student.tail(math.inf, 3) == student.tail(1e200, 3) == 0.0
    assert student.tail(-math.inf, 3) == 1.0
    assert math.isnan(student.tail(math.nan, 3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        student.quantile(1.0, 3)
    with pytest.raises(ValueError, match="above 0"):
        student.tail(1.0, 0)
