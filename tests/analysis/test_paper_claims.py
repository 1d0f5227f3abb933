"""The paper's conclusions, put to numbers of which it is known whether they bear them out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from emoray.analysis.additive import over_questions
from emoray.analysis.paper_claims import claims
from emoray.study import paper
from emoray.study.circumplex import Array

NOISE = 0.02 * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])  # of five questions


def around(mean: float) -> Array:
    """(questions, 1)"""
    return mean + NOISE[:, None]


def verdicts(models: dict[str, float], **lengths: Array) -> dict[str, str]:
    """What one reader says of each conclusion, by its first words."""
    found = claims({"r": {name: around(mean) for name, mean in models.items()}}, lengths or None)
    return {one.conclusion.what: one.conclusion.verdicts["r"] for one in found}


EVERY, CAPABLE = paper.EVERY_MODEL_EXPRESSES.value, "capable models reach more than 0.5"


@pytest.mark.parametrize(
    ("means", "every", "capable"),
    [((0.6, 0.2), "yes", "yes"), ((0.3, 0.0), "open", "no"), ((0.5, -0.4), "no", "open")],
)
def test_every_model_must_express_and_one_must_reach_half(means: tuple[float, float], every: str, capable: str) -> None:
    found = verdicts(dict(zip("ab", means, strict=True)))
    assert (found[EVERY], found[CAPABLE]) == (every, capable)


def test_what_names_models_is_asked_of_them_alone_and_only_where_they_are() -> None:
    assert set(verdicts({"a": 0.6, "b": 0.2})) == {EVERY, CAPABLE}
    found = verdicts({"gpt-4": 0.7, "GPT-3.5 turbo": 0.3, "Llama3 8B Instruct": 0.5})
    assert found["gpt-4 come closest".replace("come", "comes")] == "yes"
    assert found["GPT-3.5 turbo stays farthest"] == "yes"
    assert found["GPT-3.5 turbo stays below Llama3 8B Instruct"] == "yes"
    turned = verdicts({"GPT-4": 0.2, "GPT-3.5 turbo": 0.6, "Llama3 8B Instruct": 0.5})
    assert turned["GPT-4 comes closest"] == "no"
    assert turned["GPT-3.5 turbo stays below Llama3 8B Instruct"] == "no"


def test_the_best_are_not_the_best_where_another_is_better_than_any_of_them() -> None:
    """Their mean lies above the mean of the others, and yet a model that is not named comes closest."""
    found = verdicts({"GPT-4": 0.6, "GPT-4 turbo": 0.8, "Gemini 1.5 Pro": 0.7, "Command R+": 0.1})
    assert found["GPT-4, GPT-4 turbo come closest"] == "no"
    found = verdicts({"GPT-4": 0.75, "GPT-4 turbo": 0.8, "Gemini 1.5 Pro": 0.7, "Command R+": 0.1})
    assert found["GPT-4, GPT-4 turbo come closest"] == "yes"


def test_the_worst_is_not_the_worst_where_another_is_worse() -> None:
    assert verdicts({"GPT-3.5 turbo": 0.3, "a": 0.2, "b": 0.9})["GPT-3.5 turbo stays farthest"] == "no"
    assert verdicts({"GPT-3.5 turbo": 0.3, "a": 0.3, "b": 0.9})["GPT-3.5 turbo stays farthest"] == "open"
    assert verdicts({"GPT-3.5 turbo": 0.3, "a": 0.4, "b": 0.9})["GPT-3.5 turbo stays farthest"] == "yes"


@pytest.mark.parametrize(
    ("correlations", "verdict"), [(NOISE, "yes"), (0.4 + NOISE, "no"), (8 * NOISE, "open"), (NOISE[:1], "unknown")]
)
def test_that_length_says_nothing_is_shown_by_an_interval_near_zero_and_not_by_a_wide_one(
    correlations: Array, verdict: str
) -> None:
    assert verdicts({"a": 0.6}, r=correlations)[paper.LENGTH_IS_NOTHING.value] == verdict


def test_a_conclusion_is_as_sure_as_the_mean_that_it_speaks_of_where_cells_are_missing() -> None:
    rng = np.random.default_rng(5)
    table = 0.1 + 0.1 * rng.standard_normal((10, 12)) + 0.3 * rng.standard_normal((10, 12))
    table[:5, 8:11] = np.nan
    mean, variance, freedom = over_questions(table)
    found = claims({"r": {"a": table}})[0]
    assert found.p["r"] == pytest.approx(stats.t.sf(mean / math.sqrt(variance), freedom))
    pair = {"GPT-3.5 turbo": table, "Llama3 8B Instruct": np.where(np.isnan(table), np.nan, 0.2)}
    gap, of_gap, freedom = over_questions(pair["Llama3 8B Instruct"] - table, paired=True)
    told = next(one for one in claims({"r": pair}) if one.conclusion.what.startswith("GPT-3.5 turbo stays below"))
    assert told.p["r"] == pytest.approx(3 * stats.t.sf(gap / math.sqrt(of_gap), freedom))  # third of four after Holm


def test_a_table_that_falls_apart_can_show_nothing() -> None:
    table = np.full((4, 4), np.nan)
    table[:2, :2] = table[2:, 2:] = 0.9 + 0.01 * np.arange(4).reshape(2, 2)
    assert {one.conclusion.verdicts["r"] for one in claims({"r": {"a": table}})} == {"unknown"}


def test_one_question_cannot_tell() -> None:
    (found, *_) = claims({"r": {"a": np.array([[0.9]])}})
    assert found.conclusion.verdicts == {"r": "unknown"}


def test_every_conclusion_carries_the_papers_mark_and_says_how_it_is_tested() -> None:
    named = {name: around(0.5) for name in paper.MODELS.value}
    found = claims({"r": named}, {"r": NOISE})
    assert len(found) == 6
    for one in found:
        assert one.mark in ("verified", "secondary", "inferred")
        assert one.where
        assert one.test
