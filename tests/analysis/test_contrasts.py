"""Contrasts: what they are of, how sure they are, and what is concluded from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats

from emoray.analysis.contrasts import UNKNOWN, Estimated, combined, concluded, doses, estimated, size_of
from emoray.analysis.paired import difference
from emoray.study.circumplex import Array
from emoray.study.contrasts import slope_weights

HALF = np.arange(12) < 6


def scores(rng: np.random.Generator, questions: int = 10, states: int = 12) -> Array:
    """(questions, states) that a model may have: questions differ, and suit the states differently."""
    hard = rng.normal(0, 0.1, size=(questions, 1))
    return np.asarray(0.5 + hard + rng.normal(0, 0.15, size=(questions, states)))


def test_two_levels_of_the_same_questions_are_the_paired_difference_of_the_report() -> None:
    rng = np.random.default_rng(0)
    a, b = scores(rng), scores(rng)
    a[3, 4] = b[7, 2] = math.nan
    gap, p = difference(a, b)
    found = estimated(combined([a, b], [1, -1]))
    assert (found.interval(0.95, 2.0), found.p) == (gap, p)


def test_two_groups_of_questions_are_welchs_t_of_their_means() -> None:
    table = scores(np.random.default_rng(1), questions=16)
    first = np.arange(16) < 6
    theirs = scipy.stats.ttest_ind(table[first].mean(axis=1), table[~first].mean(axis=1), equal_var=False)
    found = estimated(table, questions=(first, ~first), paired=False)
    interval = found.interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (interval.low, interval.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-9)


def test_two_groups_of_states_are_held_against_each_other_within_questions() -> None:
    table = scores(np.random.default_rng(2))
    theirs = scipy.stats.ttest_rel(table[:, HALF].mean(axis=1), table[:, ~HALF].mean(axis=1))
    found = estimated(table, states=(HALF, ~HALF))
    assert found.value == pytest.approx(table[:, HALF].mean() - table[:, ~HALF].mean(), abs=1e-12)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)


def test_states_that_are_in_neither_group_tell_nothing() -> None:
    table = scores(np.random.default_rng(3))
    first, second = np.arange(12) < 4, np.arange(12) >= 8
    moved = table + 5 * (~first & ~second)
    assert estimated(moved, states=(first, second)).value == pytest.approx(
        estimated(table, states=(first, second)).value, abs=1e-12
    )


def test_a_filter_on_hard_states_in_half_of_the_questions_moves_no_group_of_states() -> None:
    rng = np.random.default_rng(4)
    hard, easy = rng.normal(0, 0.3, size=(10, 1)), np.where(HALF, 0.4, 0.1)
    table = hard + easy
    filtered = np.where((np.arange(10) < 5)[:, None] & (np.arange(12) > 8), math.nan, table)
    assert estimated(filtered, states=(HALF, ~HALF)).value == pytest.approx(0.3, abs=1e-12)


def test_groups_of_questions_are_held_against_each_other_on_the_states_that_both_have() -> None:
    table = np.tile(np.where(HALF, 0.9, 0.1), (8, 1))
    first = np.arange(8) < 4
    filtered = np.where(first[:, None] & ~HALF, math.nan, table)
    assert estimated(filtered, questions=(first, ~first), paired=False).value == pytest.approx(0.0, abs=1e-12)


def test_a_slope_is_that_of_the_straight_line_through_the_levels() -> None:
    levels = (0.25, 0.5, 0.75, 1.0)
    values = (0.1, 0.35, 0.5, 0.8)
    assert np.dot(slope_weights(levels), values) == pytest.approx(scipy.stats.linregress(levels, values).slope)


LADDERS = [
    (0.1, 0.2, 0.3), (0.01, 0.02, 0.03), (0.05, 0.1, 0.15), (0.85, 0.9, 0.95, 1.0), (0.6, 0.7, 0.8, 0.9),
    (0.7, 0.8, 0.9, 1.0), (1e-9, 2e-9, 3e-9),
]  # fmt: skip


@pytest.mark.parametrize("levels", LADDERS)
def test_the_same_answers_at_every_intensity_neither_rise_nor_fall(levels: tuple[float, ...]) -> None:
    other = scores(np.random.default_rng(14), questions=16, states=8)
    weights = slope_weights(levels)
    for table in (scores(np.random.default_rng(13), questions=16, states=8), np.full((16, 8), 0.7)):
        slope = [table] * len(levels), weights
        gap = [table, other] * len(levels), [sign * weight for weight in weights for sign in (1, -1)]
        for tables, parts in (slope, gap):
            found = estimated(combined(tables, parts), size=size_of(tables, parts))
            assert (found.value, found.p) == (0.0, 1.0)
            assert concluded([(found, 0.05, math.inf)])[0].verdict == "undecided"
            whole = estimated(combined(tables, parts), states=(HALF[:8], ~HALF[:8]), size=size_of(tables, parts))
            assert whole.p == 1.0
        assert doses(levels, slope[0]).p_rises > 0.05


def test_groups_of_states_that_differ_by_rounding_only_are_the_same() -> None:
    table = np.where(HALF, 0.1 + 0.2, 0.3) + np.zeros((6, 1))
    found = estimated(table, states=(HALF, ~HALF))
    assert found.p == 1.0


def test_a_slope_that_is_there_is_found_however_close_the_levels() -> None:
    table, levels = scores(np.random.default_rng(15)), (0.85, 0.9, 0.95, 1.0)
    tables = [table + 0.2 * x + np.random.default_rng(16).normal(0, 1e-4, table.shape) * x for x in levels]
    found = estimated(combined(tables, slope_weights(levels)), size=size_of(tables, slope_weights(levels)))
    assert found.value == pytest.approx(0.2, abs=1e-3)
    assert found.p < 1e-6


def test_a_response_rises_at_every_step_where_each_single_step_is_shown_to() -> None:
    rng = np.random.default_rng(11)
    tables = [scores(rng) + at for at in (0.0, 0.3, 0.6, 0.9)]
    steps = [after - before for before, after in pairwise(tables)]
    worst = max(scipy.stats.ttest_1samp(step.mean(axis=1), 0, alternative="greater").pvalue for step in steps)
    found = doses((0.25, 0.5, 0.75, 1.0), tables)
    assert found.p_rises == pytest.approx(worst, rel=1e-9)
    assert found.p_falls > 0.99
    assert [mean.estimate for mean in found.means] == pytest.approx([table.mean() for table in tables])
    flat = doses((0.25, 0.5, 0.75, 1.0), [tables[0], tables[1], tables[1] - 0.1, tables[3]])
    assert min(flat.p_rises, flat.p_falls) > 0.05  # it rises on the whole, and falls at one step


def test_a_dose_that_was_never_scored_leaves_the_steps_open() -> None:
    rng = np.random.default_rng(12)
    found = doses((0.5, 0.75, 1.0), [scores(rng), np.full((10, 12), math.nan), scores(rng) + 0.5])
    assert not found.p_rises <= 0.05
    assert math.isnan(found.means[1].estimate)


def test_what_two_factors_do_together_is_a_difference_of_differences() -> None:
    rng = np.random.default_rng(5)
    words, numbers = scores(rng), scores(rng)
    theirs = scipy.stats.ttest_1samp((words - numbers)[:, HALF].mean(axis=1) - (words - numbers)[:, ~HALF].mean(1), 0)
    found = estimated(combined([words, numbers], [1, -1]), states=(HALF, ~HALF))
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)


def test_equivalence_is_shown_where_the_ninety_percent_interval_lies_within_the_margin() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        one = estimated(scores(rng) - scores(rng))
        inner = one.interval(0.90)
        assert (one.p_equivalent(0.06) <= 0.05) == (max(abs(inner.low), abs(inner.high)) <= 0.06)


def test_the_four_verdicts() -> None:
    sure = [Estimated(value, 0.01**2, 20.0, 21) for value in (0.08, -0.08, 0.001)]
    family = [(one, 0.05, 2.0) for one in (*sure, Estimated(0.02, 0.05**2, 9.0, 10))]
    assert [one.verdict for one in concluded(family)] == ["more", "less", "equivalent", "undecided"]
    assert concluded([(sure[2], None, 2.0)])[0].verdict == "undecided"  # without a margin nothing is shown alike


def test_a_difference_that_is_there_and_does_not_matter_is_equivalent() -> None:
    small = Estimated(0.01, 0.001**2, 20.0, 21)
    (found,) = concluded([(small, 0.05, 2.0)])
    assert (found.p_holm < 0.001, found.verdict) == (True, "equivalent")


def test_a_family_is_corrected_for_both_kinds_of_conclusion() -> None:
    one = (Estimated(0.022, 0.01**2, 9.0, 10), 0.045, 2.0)
    alone, *together = [concluded([one])[0], *concluded([one] * 3)]
    assert together[0].p_holm == pytest.approx(3 * alone.p)
    assert together[0].p_equivalent_holm == pytest.approx(3 * alone.p_equivalent)
    assert alone.verdict != together[0].verdict == "undecided"


def test_what_was_never_scored_is_undecided_and_counts_in_its_family_as_if_nothing_were_there() -> None:
    empty, known = estimated(np.full((5, 4), math.nan)), Estimated(0.5, 0.01**2, 9.0, 10)
    assert math.isnan(empty.value)
    assert math.isnan(UNKNOWN.p)
    lines = concluded([(empty, 0.05, 2.0), (known, 0.05, 2.0)])
    assert lines[0].verdict == "undecided"
    assert lines[1].p_holm == pytest.approx(2 * lines[1].p)
    assert math.isnan(lines[0].p_holm)


def test_one_question_tells_nothing_and_exact_agreement_everything() -> None:
    assert math.isnan(estimated(np.array([[0.5, 0.6]])).p)
    same = estimated(np.zeros((6, 4)))
    assert same.p == 1.0
    assert math.isnan(same.p_equivalent(0.05))  # how far other questions lie apart, nothing tells
    assert concluded([(same, 0.05, 2.0)])[0].verdict == "undecided"
    table = scores(np.random.default_rng(7), questions=5)
    alone = np.arange(5) < 1
    assert math.isnan(estimated(table, questions=(alone, ~alone), paired=False).p)


def test_turning_a_contrast_round_turns_its_sign() -> None:
    rng = np.random.default_rng(8)
    table = np.where(rng.random((9, 12)) < 0.2, math.nan, scores(rng, questions=9))
    there, back = estimated(table, states=(HALF, ~HALF)), estimated(table, states=(~HALF, HALF))
    assert there.value == pytest.approx(-back.value, abs=1e-12)
    assert there.p == pytest.approx(back.p, rel=1e-9)


Draw = Callable[[np.random.Generator], Estimated]
KINDS: dict[str, Draw] = {
    "levels": lambda rng: estimated(scores(rng) - scores(rng)),
    "states": lambda rng: estimated(scores(rng), states=(HALF, ~HALF)),
    "tags": lambda rng: estimated(scores(rng, 20), questions=(np.arange(20) < 8, np.arange(20) >= 8), paired=False),
    "trend": lambda rng: estimated(combined([scores(rng) for _ in range(4)], slope_weights((0.25, 0.5, 0.75, 1.0)))),
    "interaction": lambda rng: estimated(scores(rng) - scores(rng), states=(HALF, ~HALF)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_found_where_there_is_nothing_and_the_interval_holds_it(kind: str) -> None:
    rng, experiments = np.random.default_rng(9), 400
    found = [KINDS[kind](rng) for _ in range(experiments)]
    chance = 3 * math.sqrt(0.05 * 0.95 / experiments)
    assert 0.035 - chance <= np.mean([one.p <= 0.05 for one in found]) <= 0.06 + chance
    held = np.mean([one.interval(0.95).low <= 0 <= one.interval(0.95).high for one in found])
    assert abs(held - 0.95) <= 0.01 + chance


def test_the_shares_that_docs_tell_are_of_all_kinds_of_contrast() -> None:
    benchmark = import_module("jobs.benchmarks.contrasts")
    kinds = benchmark.of_design(benchmark.validity.WORLDS[0], 4, "state", 40, np.random.default_rng(10))
    assert len(kinds) == 6
    for kind, one in kinds.items():
        chance = 3.5 * math.sqrt(0.05 * 0.95 / one.experiments)
        assert one.share("type I") <= 0.06 + chance, kind
        assert one.share("equivalent at the margin") <= 0.05 + chance, kind
    assert kinds["two levels"].share("power") > 0.5


@pytest.mark.campaign
def test_in_every_design_contrasts_of_nothing_are_found_as_often_as_they_say() -> None:
    benchmark = import_module("jobs.benchmarks.contrasts")
    found = benchmark.simulated(experiments=2000, seed=1)
    for design, kinds in found.items():
        for kind, one in kinds.items():
            chance = 3.5 * math.sqrt(0.05 * 0.95 / one.experiments)
            assert one.share("type I") <= 0.06 + chance, (design, kind)
            assert one.share("equivalent at the margin") <= 0.05 + chance, (design, kind)
    for kind, one in benchmark.together(found).items():
        assert 0.035 <= one.share("type I") <= 0.06, kind
        assert 0.94 <= one.share("covered") <= 0.965, kind
