"""Differences between models that answered the same prompts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from emoray.analysis.intervals import t_interval
from emoray.analysis.paired import difference, differences, holm, holm_of_groups


def test_what_makes_a_question_hard_for_both_cancels() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.4, size=(10, 1))
    a, b = (hard + shift + rng.normal(0, 0.05, size=(10, 40)) for shift in (0.2, 0.1))
    gap, p = difference(a, b)
    assert gap.half_width < 0.1 * t_interval(a).half_width
    assert p < 0.001
    assert gap.low <= 0.1 <= gap.high


def test_it_is_scipys_paired_t_test_over_question_means() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 8, 5))
    theirs = scipy.stats.ttest_rel(a.mean(axis=1), b.mean(axis=1))
    gap, p = difference(a, b)
    assert p == pytest.approx(theirs.pvalue, rel=1e-10)
    assert (gap.low, gap.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-10)


def test_only_prompts_that_both_were_scored_on_count() -> None:
    a = np.array([[0.5, math.nan], [0.7, 0.9]])
    b = np.array([[0.1, 1.0], [0.1, math.nan]])
    assert difference(a, b)[0].estimate == pytest.approx(0.5)


def test_a_filter_on_one_of_two_models_that_say_the_same_makes_no_difference_and_moves_no_other() -> None:
    rng = np.random.default_rng(5)
    a = rng.normal(0.3, 0.2, size=(10, 12))
    b = a - 0.1 - 0.5 * (np.arange(12) > 7)  # worse, and most of all in the last states
    filtered = np.where((np.arange(10)[:, None] < 5) & (np.arange(12) > 7), math.nan, a)
    assert difference(filtered, a)[0].estimate == pytest.approx(0.0, abs=1e-12)
    assert difference(filtered, b)[0].estimate == pytest.approx((a - b).mean(), abs=1e-12)


def test_turning_a_pair_round_turns_its_sign() -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 6, 4))
    there, back = difference(a, b), difference(b, a)
    assert there[0].estimate == -back[0].estimate
    assert there[1] == back[1]


def test_a_model_does_not_differ_from_itself() -> None:
    a = np.random.default_rng(3).normal(size=(6, 4))
    assert difference(a, a)[1] == 1.0
    assert difference(a + 0.5, np.zeros_like(a) + a)[1] < 1e-12


def test_one_common_question_tells_no_difference() -> None:
    gap, p = difference(np.array([[0.5]]), np.array([[0.1]]))
    assert gap.estimate == pytest.approx(0.4)
    assert math.isnan(p)


def test_a_family_of_equal_models_is_rarely_told_apart() -> None:
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(300):
        family = {name: rng.normal(size=(10, 3)) for name in "abcd"}
        wrong += any(one.p_holm <= 0.05 for one in differences(family))
    assert wrong / 300 < 0.08


def test_every_pair_stands_once_in_the_order_of_the_family() -> None:
    family = {name: np.random.default_rng(i).normal(size=(5, 2)) for i, name in enumerate(("x", "y", "z"))}
    assert [(one.a, one.b) for one in differences(family)] == [("x", "y"), ("x", "z"), ("y", "z")]


def test_holm_on_a_textbook_family() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_helps_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    assert all(a <= min(1.0, len(p_values) * p) + 1e-12 for a, p in zip(adjusted, p_values, strict=True))
    assert [adjusted[i] for i in np.argsort(p_values, kind="stable")] == sorted(adjusted)


def test_a_test_that_could_not_be_done_is_not_counted() -> None:
    first, second, third = holm([0.01, math.nan, 0.04])
    assert (first, third) == pytest.approx((0.02, 0.04))
    assert math.isnan(second)


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_of_groups_of_one_is_holm(p_values: list[float]) -> None:
    assert [p for (p,) in holm_of_groups([(p,) for p in p_values])] == pytest.approx(list(holm(p_values)))


def test_a_group_counts_until_its_last_test_has_had_its_turn() -> None:
    """Three groups at 0.001 and 0.01, two of them at 0.02 (the first still has one left), one at 0.03."""
    found = holm_of_groups([(0.001, 0.03), (0.02, math.nan), (0.01,)])
    assert found[0] == pytest.approx((0.003, 0.04))
    assert found[1][0] == pytest.approx(0.04)
    assert math.isnan(found[1][1])
    assert found[2] == pytest.approx((0.03,))
