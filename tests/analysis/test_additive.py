"""Means over what was asked, where cells are missing: against plain least squares, and against what must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from emoray.analysis.additive import Additive, mean_interval, one_line, squeezed
from emoray.analysis.intervals import PRIOR_FREEDOM, ratio_bounds, t_interval
from emoray.analysis.paired import difference
from emoray.study.circumplex import Array

EACH = np.eye(12, dtype=np.bool_)


def table(rng: np.random.Generator, *, again: float = 0.3) -> Array:
    """(questions, states) that differ by question and by state."""
    spread = rng.normal(0, 0.15, (10, 1)) + rng.normal(0, 0.2, (1, 12))
    return np.clip(0.4 + spread + rng.normal(0, again, (10, 12)), -1, 1)


def holed(rng: np.random.Generator, means: Array, share: float = 0.2) -> Array:
    return np.where(rng.random(means.shape) < share, np.nan, means)


def filtered(means: Array) -> Array:
    """Without 240° to 300° in half of the questions."""
    found = means.copy()
    found[:5, 8:11] = np.nan
    return found


def least_squares(means: Array) -> Array:
    """(questions, states) fitted by question and state, as dummies."""
    questions, states = means.shape
    row, column = np.nonzero(~np.isnan(means))
    design = np.hstack([np.eye(questions)[row], np.eye(states)[column]])
    found = np.linalg.lstsq(design, means[row, column], rcond=None)[0]
    return np.asarray(found[:questions, None] + found[None, questions:])


def test_where_nothing_is_missing_it_is_students_interval_over_question_means() -> None:
    means = table(np.random.default_rng(1))
    found, plain = mean_interval(means), t_interval(means)
    assert (found.estimate, found.low, found.high) == pytest.approx((plain.estimate, plain.low, plain.high), abs=1e-12)
    assert (found.units, found.level, found.over) == (plain.units, plain.level, plain.over)
    alone = [t_interval(means[:, [state]]) for state in range(12)]
    lines = Additive(means).lines(EACH).intervals(0.95)
    assert [one.half_width for one in lines] == pytest.approx([one.half_width for one in alone], abs=1e-12)


def test_a_model_that_lost_hard_states_in_half_of_its_questions_has_the_mean_that_it_has_with_them() -> None:
    means = table(np.random.default_rng(2), again=0.0)
    means[:, 8:11] -= 0.6
    assert t_interval(filtered(means)).estimate > means.mean() + 0.05
    assert mean_interval(filtered(means)).estimate == pytest.approx(means.mean(), abs=1e-12)


@pytest.mark.parametrize("questions", [10, 30])
def test_it_is_the_least_squares_fit_of_question_and_state(questions: int) -> None:
    rng = np.random.default_rng(questions)
    means = holed(rng, np.concatenate([table(rng) for _ in range(questions // 10)]))
    fitted, fit = least_squares(means), Additive(means)
    np.testing.assert_allclose(fit.completed, np.where(np.isnan(means), fitted, means), atol=1e-10)
    assert mean_interval(means).estimate == pytest.approx(fitted.mean(), abs=1e-10)
    np.testing.assert_allclose(fit.lines(EACH).means, fitted.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(fit.question_means, fitted.mean(axis=1), atol=1e-10)
    assert (fit.weights * np.nan_to_num(means)).sum() == pytest.approx(fitted.mean(), abs=1e-10)
    left = (~np.isnan(means)).sum() - questions - 12 + 1
    assert float(fit.residual) == pytest.approx(np.nansum((means - fitted) ** 2) / left)


def test_lines_average_to_the_whole_whatever_is_missing() -> None:
    means = filtered(table(np.random.default_rng(4)))
    assert Additive(means).lines(EACH).means.mean() == pytest.approx(mean_interval(means).estimate)


def test_many_tables_are_told_at_once_each_as_if_alone() -> None:
    rng = np.random.default_rng(5)
    tables = np.stack([table(rng), filtered(table(rng)), holed(rng, table(rng))])
    tables[2, 3] = np.nan  # a question of which nothing came
    together = Additive(tables).lines(EACH)
    for place, means in enumerate(tables):
        alone = Additive(means).lines(EACH)
        np.testing.assert_allclose(together.means[place], alone.means, atol=1e-12)
        for one, other in zip(together.variance(moderated=True), alone.variance(moderated=True), strict=True):
            np.testing.assert_allclose(one[place], other, atol=1e-12)


def test_missing_cells_widen_the_interval() -> None:
    rng = np.random.default_rng(6)
    means = np.stack([table(rng) for _ in range(200)])
    variances = [Additive(one).lines(one_line(12)).variance(moderated=False)[0].mean() for one in (means, holes(means))]
    assert variances[1] > 1.04 * variances[0]
    assert Additive(filtered(means[0])).lines(EACH).added[8] > 0


def test_extra_degrees_of_freedom_are_believed_of_differences_alone() -> None:
    means = filtered(table(np.random.default_rng(11)))
    lines = Additive(means).lines(one_line(12))
    variance, freedom = lines.variance(moderated=False)
    same, more = lines.variance(moderated=False, paired=True)
    assert (variance.tolist(), freedom.tolist()) == (same.tolist(), [9.0])
    own = lines.spread / 10
    both = 9.0 * variance**2 / (own**2 + lines.added**2)  # Satterthwaite
    assert more == pytest.approx((9.0 + both) / 2)
    found = mean_interval(means)
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 9) * math.sqrt(variance[0]))
    gap, _ = difference(means, np.zeros_like(means))
    assert gap.half_width == pytest.approx(stats.t.ppf(0.975, more[0]) * math.sqrt(variance[0]))


def holes(means: Array) -> Array:
    return np.stack([filtered(one) for one in means])


def test_how_much_is_missing_stands_beside() -> None:
    found = Additive(filtered(table(np.random.default_rng(7))))
    assert found.missing(EACH).tolist() == [0.0] * 8 + [0.5] * 3 + [0.0]
    assert found.missing(one_line(12)).tolist() == [15 / 120]


@pytest.mark.filterwarnings("error")
def test_where_questions_and_states_do_not_hang_together_no_interval_is_given() -> None:
    means = table(np.random.default_rng(8))
    means[:5, :6], means[5:, 6:] = np.nan, np.nan
    found = mean_interval(means)
    assert found.estimate == pytest.approx(np.nanmean(means, axis=1).mean())
    assert math.isnan(found.low)


@pytest.mark.filterwarnings("error")
def test_what_has_no_score_at_all_is_left_out() -> None:
    means = table(np.random.default_rng(9))
    without = means.copy()
    without[2], without[:, 4] = np.nan, np.nan
    rest = np.delete(np.delete(means, 2, axis=0), 4, axis=1)
    found, same = mean_interval(without), mean_interval(rest)
    assert (found.estimate, found.low, found.high) == pytest.approx((same.estimate, same.low, same.high))
    assert found.units == same.units == 9
    line = Additive(without).lines(EACH).intervals(0.95)[4]
    assert math.isnan(line.estimate)
    assert line.units == 0


def test_a_question_that_lost_a_prompt_which_strays_far_is_the_less_sure() -> None:
    """Asked without end: what is left is how the lost cells would have strayed, and the fit's own error."""
    rng = np.random.default_rng(21)
    sd = np.array([0.6, 0.1, 0.1, 0.1, 0.1, 0.1])
    means = 0.1 * rng.standard_normal((60, 1)) + sd * rng.standard_normal((60, 6))
    means[0, 0] = means[1, 1] = np.nan
    counts = np.where(np.isnan(means), 0.0, 1e6)
    added, freedom = Additive(means).of_missing(counts, np.zeros_like(counts))
    far, near, whole = added[:3]
    assert far == pytest.approx(sd[0] ** 2 / 36 + 5 * 0.01 / 30**2, rel=0.4)
    assert near < far / 3
    assert whole == 0.0
    assert 50 < freedom[0] < 70  # what is missing strays as the other cells of its prompt do, of which there are 58


@pytest.mark.parametrize("shape", [(0, 0), (0, 12), (10, 0)])
def test_an_empty_table_has_no_mean(shape: tuple[int, int]) -> None:
    assert math.isnan(mean_interval(np.empty(shape)).estimate)


def test_no_interval_of_a_mean_cosine_leaves_what_a_cosine_can_be() -> None:
    means = np.full((10, 12), 0.98)
    means[0] = -0.5
    found = mean_interval(means)
    assert found.high == 1.0
    assert found.low > -1.0


def test_a_state_whose_answers_are_all_alike_borrows_the_spread_of_the_others() -> None:
    means = table(np.random.default_rng(10))
    means[:, 3] = 0.97
    line = Additive(means).lines(EACH).intervals(0.95, moderated=True)[3]
    assert line.half_width > 0.02
    assert Additive(means).lines(EACH).intervals(0.95)[3].half_width == pytest.approx(0.0, abs=1e-12)


def test_moderation_counts_the_pooled_variance_as_six_more_degrees_of_freedom() -> None:
    variances, freedom = np.array([0.0, 0.2, 0.4, np.nan]), np.array([9.0, 9.0, 4.0, np.nan])
    pooled = (9 * 0.2 + 4 * 0.4) / 22
    found, more = squeezed(variances, freedom)
    np.testing.assert_allclose(found, (PRIOR_FREEDOM * pooled + freedom * variances) / (PRIOR_FREEDOM + freedom))
    np.testing.assert_allclose(more, freedom + PRIOR_FREEDOM)
    one, same = squeezed(np.array([0.2]), np.array([9.0]))
    assert (one.tolist(), same.tolist()) == ([0.2], [9.0])  # there is nothing to draw it towards


def test_a_ratio_without_doubt_below_is_the_interval_divided() -> None:
    low, high = ratio_bounds((0.6, 0.01, 9.0), (0.5, 0.0), 0.95)
    reach = 2.2621571628 * 0.1
    assert (low, high) == pytest.approx(((0.6 - reach) / 0.5, (0.6 + reach) / 0.5))
    wider = ratio_bounds((0.6, 0.01, 9.0), (0.5, 0.001), 0.95)
    assert wider[0] < low < high < wider[1]
    assert all(map(math.isnan, ratio_bounds((0.6, 0.01, 9.0), (0.5, 0.1), 0.95)))  # below may be 0
    assert all(map(math.isnan, ratio_bounds((0.6, 0.01, 9.0), (0.5, math.nan), 0.95)))


def test_a_question_that_lost_states_is_doubted_by_what_whole_questions_do_in_all_of_them_together() -> None:
    """Questions have the same effect twice over in three states: cells of one question stray alike in these."""
    rng = np.random.default_rng(22)
    gone, added, missed = np.arange(12) >= 9, [], []
    for _ in range(400):
        effect = 0.2 * rng.standard_normal((10, 1))
        whole = effect * np.where(gone, 2.0, 1.0) + 0.02 * rng.standard_normal((10, 12))
        means = np.where(gone & (np.arange(10) < 5)[:, None], np.nan, whole)
        counts = np.where(np.isnan(means), 0.0, 1e6)
        fit = Additive(means)
        added.append(fit.of_missing(counts, np.zeros_like(counts))[0][:5].mean())
        missed.append(((fit.question_means - whole.mean(axis=1))[:5] ** 2).mean())
    assert 0.35 < np.mean(added) / np.mean(missed) < 1.0  # each cell straying for itself, it would be 0.1
