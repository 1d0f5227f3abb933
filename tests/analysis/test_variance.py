"""Variance parts of experiments whose parts are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from emoray.analysis import chi_square
from emoray.analysis.variance import effective_n, identical_share, variance_bounds, variance_parts
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
    n = (~np.isnan(scores)).sum(axis=2)
    means = np.where(n > 0, np.nansum(scores, axis=2) / np.maximum(n, 1), math.nan)
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


def test_on_a_grid_without_holes_the_parts_are_those_of_the_analysis_of_variance() -> None:
    counts, means, within = cells(np.random.default_rng(3), question=0.2, state=0.3, both=0.2, again=0.4)
    found = variance_parts(counts, means, within)
    rows, columns = means.mean(axis=1, keepdims=True), means.mean(axis=0)
    of_both = ((means - rows - columns + means.mean()) ** 2).sum() / (59 * 11)
    again = within.sum() / (counts - 1).sum()
    assert found.question == pytest.approx(rows.var(ddof=1) - of_both / 12, rel=1e-8)
    assert found.state == pytest.approx(columns.var(ddof=1) - of_both / 60, rel=1e-8)
    assert found.interaction == pytest.approx(of_both - again / 8, rel=1e-8)
    assert found.repetition == pytest.approx(again, rel=1e-8)


def holed(share: float, n: int = 3, *, seed: int = 5) -> tuple[Array, Array, Array]:
    """Ten questions of which so many cells are missing."""
    rng = np.random.default_rng(seed)
    counts, means, within = (
        one[:10] for one in cells(rng, question=0.2, state=0.3, both=0.2, again=0.4, n=n, silent=0.1)
    )
    counts = np.where(rng.random(counts.shape) < share, 0.0, counts)
    return counts, np.where(counts > 0, means, math.nan), np.where(counts > 0, within, 0.0)


def likelihood(parts: Array, counts: Array, means: Array, within: Array) -> float:
    """The restricted one, by matrices of all cells, as statsmodels and lme4 define it (times -2)."""
    row, column = np.nonzero(counts)
    design, y, n = np.eye(12)[column], means[row, column], counts[row, column]
    covariance = parts[0] * (row[:, None] == row) + np.diag(parts[1] + parts[2] / n)
    inverse = np.linalg.inv(covariance)
    normal = design.T @ inverse @ design
    left = y - design @ np.linalg.solve(normal, design.T @ inverse @ y)
    freedom = np.maximum(counts - 1, 0).sum()
    inside = freedom * math.log(parts[2]) + within.sum() / parts[2]
    return float(np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(normal)[1] + left @ inverse @ left + inside)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_where_cells_are_missing_the_parts_are_the_most_likely_ones(share: float) -> None:
    design = holed(share)
    found = variance_parts(*design)
    parts = np.array([found.question, found.interaction, found.repetition])
    for move in 1e-4 * np.diag(parts):
        up, here, down = (likelihood(parts + way * move, *design) for way in (1, 0, -1))
        assert up - down == pytest.approx(0.0, abs=1e-8)
        assert min(up, down) > here


def test_a_third_of_the_cells_missing_leaves_every_question_in() -> None:
    found = [variance_parts(*holed(0.3, seed=seed)) for seed in range(60)]
    assert np.mean([one.question for one in found]) == pytest.approx(0.04, rel=0.2)
    assert np.mean([one.interaction for one in found]) == pytest.approx(0.04, rel=0.2)


def test_the_standard_errors_are_those_of_runs_like_this_one() -> None:
    found = [variance_parts(*holed(0.3, seed=seed)) for seed in range(150)]
    for name in ("question", "interaction", "repetition"):
        spread = np.std([getattr(one, name) for one in found])
        told = np.sqrt(np.mean([getattr(one, f"{name}_error") ** 2 for one in found]))
        assert told == pytest.approx(spread, rel=0.3), name


def test_with_one_answer_per_prompt_it_is_said_that_the_parts_are_not_told_apart() -> None:
    found = variance_parts(*holed(0.3, n=1))
    assert not found.told_apart
    assert math.isnan(found.repetition)
    assert math.isnan(found.repetition_error)
    assert found.interaction > 0.1


def test_answers_that_are_always_the_same_have_no_part_in_the_spread() -> None:
    counts, means, _ = holed(0.2)
    found = variance_parts(counts, means, np.zeros(counts.shape))
    assert found.repetition == 0.0
    assert found.interaction == variance_parts(np.minimum(counts, 1), means, np.zeros(counts.shape)).interaction
    same = variance_parts(counts, np.where(counts > 0, 0.5, math.nan), np.zeros(counts.shape))
    assert (same.question, same.interaction, same.state) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


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
        worth.append(effective_n(scores.size, float(scores.var()), float(scores.mean(axis=1).var(ddof=1)) / 40))
    assert worth[0] > 1000
    assert worth[1] < 250


def test_the_worth_is_never_more_than_the_rows() -> None:
    assert effective_n(20, 0.3, 0.0) == 20
    assert effective_n(20, 0.3, 0.001) == 20
    assert math.isnan(effective_n(20, 0.3, math.nan))
    assert math.isnan(effective_n(20, 0.0, 0.1))


def test_the_interval_of_a_variance_holds_it_and_says_what_scipy_says() -> None:
    rng, held = np.random.default_rng(5), 0
    for found in rng.normal(0, 0.2, (800, 10)).var(axis=1, ddof=1):
        low, high = variance_bounds(float(found), 9)
        held += low <= 0.04 <= high
    assert held / 800 == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / 800))
    for freedom in (1.0, 9.0, 9.7, 400.0):
        for p in (0.025, 0.5, 0.975):
            assert chi_square.quantile(p, freedom) == pytest.approx(stats.chi2.ppf(p, freedom), rel=1e-10)
    assert math.isnan(variance_bounds(math.nan, 9)[0])
    assert math.isnan(variance_bounds(0.1, math.nan)[1])
    with pytest.raises(ValueError, match="above 0, got 0"):
        chi_square.below(1.0, 0)
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        chi_square.quantile(1.0, 3)


def test_answers_that_repeat_are_counted() -> None:
    assert identical_share(np.array([1, 1, 1, 2], dtype=np.uint64)) == 0.5
    assert identical_share(np.arange(5, dtype=np.uint64)) == 0.0
    assert math.isnan(identical_share(np.empty(0, dtype=np.uint64)))
