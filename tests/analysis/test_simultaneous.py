"""Several means at once: who looks for the largest must not find one where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from emoray.analysis import simultaneous
from emoray.analysis.paired import differences
from emoray.analysis.paper_claims import claims
from emoray.analysis.simultaneous import Fitted, Rank, p_all_above, p_any_above, ranks
from emoray.study.circumplex import Array


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand for each p: enough where hundreds of them are counted."""
    monkeypatch.setattr(simultaneous, "_DRAWS", 1000)


def worlds(runs: int, models: int, shared: float, seed: int = 1, questions: int = 10) -> Array:
    """(runs, questions, models) of question means without any true mean; `shared` is how alike models err."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((runs, questions, 1)), rng.standard_normal((runs, questions, models))
    return np.asarray(0.15 * (math.sqrt(shared) * common + math.sqrt(1 - shared) * own))


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_of_nine_models_without_any_mean_the_largest_passes_as_often_as_it_says(shared: float) -> None:
    found = np.array([p_any_above(one) for one in worlds(500, 9, shared)])
    assert (found <= 0.05).mean() == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / len(found)))


@pytest.mark.usefixtures("few_draws")
def test_nine_models_of_exactly_a_half_are_rarely_said_to_reach_more() -> None:
    said = [
        claims({"r": {f"m{i}": 0.5 + one[:, [i]] for i in range(9)}})[1].conclusion.verdicts["r"]
        for one in worlds(400, 9, 0.3, seed=2)
    ]
    assert said.count("yes") / len(said) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / len(said))


@pytest.mark.usefixtures("few_draws")
def test_the_verdicts_of_a_report_err_together_as_rarely_as_one_test() -> None:
    """Every conclusion lies on its edge: the one of the correlation too."""
    rng, wrong = np.random.default_rng(3), 0
    for one in worlds(300, 3, 0.3, seed=4):
        lengths = 0.1 + 0.05 * rng.standard_normal(10)
        every, capable, length = claims({"r": {f"m{i}": 0.5 + one[:, [i]] for i in range(3)}}, {"r": lengths})
        found = [claim.conclusion.verdicts["r"] for claim in (every, capable, length)]
        wrong += found[0] == "no" or found[1] == "yes" or found[2] == "no"
    assert wrong / 300 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)


def test_one_mean_is_tested_as_scipy_does() -> None:
    column = np.random.default_rng(5).normal(0.1, 0.2, size=(8, 1))
    theirs = stats.ttest_1samp(column[:, 0], 0, alternative="greater").pvalue
    assert p_any_above(column) == pytest.approx(theirs, rel=1e-8)
    assert p_all_above(column) == pytest.approx(theirs, rel=1e-8)


def test_every_mean_must_be_shown_and_the_largest_pays_for_the_choice() -> None:
    columns = np.random.default_rng(6).normal([0.3, 0.2, 0.05], 0.15, size=(10, 3))
    alone = stats.ttest_1samp(columns, 0, alternative="greater").pvalue
    assert p_all_above(columns) == pytest.approx(alone.max(), rel=1e-8)
    assert alone.min() < p_any_above(columns) <= 3 * alone.min()
    assert p_any_above(columns) == p_any_above(columns)


def test_models_that_err_alike_count_as_few() -> None:
    column = np.random.default_rng(7).normal(0.08, 0.15, size=(10, 1))
    alike = column + 1e-6 * np.random.default_rng(8).standard_normal((10, 9))
    assert p_any_above(alike) == pytest.approx(p_any_above(column), abs=0.02)


def test_what_cannot_be_told_shows_nothing() -> None:
    column = np.array([0.5, 0.6, 0.7])
    single = np.array([0.9, math.nan, math.nan])
    assert math.isnan(p_any_above(single[:, None]))
    assert math.isnan(p_all_above(single[:, None]))
    both = np.column_stack([column, single])
    assert p_all_above(both) == 1.0
    assert p_any_above(both) == p_any_above(column[:, None])


def test_questions_that_agree_exactly_are_sure_except_at_zero() -> None:
    assert p_any_above(np.full((4, 2), 0.3)) == p_all_above(np.full((4, 2), 0.3)) == 0.0
    assert p_any_above(np.zeros((4, 2))) == p_all_above(np.zeros((4, 2))) == 1.0


def test_questions_that_agree_exactly_once_a_lost_cell_is_filled_in_have_a_p() -> None:
    """B's questions both come to 0.5; only what the fit adds strays, and that has no correlation with A's."""
    a, b = np.array([[0.9, 0.2, 0.5], [0.3, 0.6, 0.4]]), np.array([[1.0, 0.0, 0.5], [0.0, 1.0, math.nan]])
    _, capable = claims({"r": {"a": a, "b": b}})
    assert capable.p["r"] == pytest.approx(0.5)  # B is as likely to lie below
    assert capable.conclusion.verdicts["r"] == "open"
    columns = np.array([[0.5, 0.5], [0.7, 0.5]])
    fitted = Fitted(np.array([0.0, 0.01]), np.array([1.0, 1.0]))
    alone = [stats.t.sf(mean / error, 1) for mean, error in ((0.6, 0.1), (0.5, 0.1))]
    assert p_any_above(columns, fitted) == pytest.approx(2 * min(alone))


@pytest.mark.usefixtures("few_draws")
def test_few_questions_of_few_scores_always_have_a_p() -> None:
    rng = np.random.default_rng(11)
    for _ in range(200):
        tables = rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], (int(rng.integers(2, 4)), 2, 4))
        tables[0, rng.integers(2), rng.integers(4)] = math.nan
        found = claims({"r": {f"m{i}": one for i, one in enumerate(tables)}})
        assert all(0.0 <= one.p["r"] <= 1.0 for one in found)


def test_missing_questions_and_very_many_models_are_no_obstacle() -> None:
    columns = worlds(1, 200, 0.5)[0]
    columns[0, ::3] = math.nan
    assert 0.0 < p_any_above(columns) <= 1.0


def test_a_place_is_ruled_out_by_models_that_are_surely_above_or_below() -> None:
    noise = 0.03 * np.random.default_rng(9).standard_normal((4, 10, 1))
    scores = {name: mean + one for name, mean, one in zip("abcd", (0.7, 0.69, 0.4, 0.1), noise, strict=True)}
    means = [float(one.mean()) for one in scores.values()]
    found = ranks(list(scores), means, differences(scores))
    assert [(one.low, one.high) for one in found] == [(1, 2), (1, 2), (3, 3), (4, 4)]
    assert sorted(one.place for one in found) == [1, 2, 3, 4]


def test_equal_models_may_stand_anywhere_and_true_places_are_rarely_ruled_out() -> None:
    """The same true mean: every place is a true one, so any narrower interval is an error."""
    wrong = 0
    for one in worlds(300, 4, 0.3, seed=10):
        scores = {f"m{i}": one[:, i : i + 1] for i in range(4)}
        found = ranks(list(scores), one.mean(axis=0).tolist(), differences(scores))
        wrong += any(rank != Rank(rank.place, 1, 4) for rank in found)
    assert wrong / 300 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)
