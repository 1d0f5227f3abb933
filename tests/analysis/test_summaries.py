"""The tables of a design, held against plain arithmetic over its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from emoray.analysis.calibration import OnHumanText
from emoray.analysis.intervals import ASKED_AGAIN, OVER_QUESTIONS
from emoray.analysis.summaries import GroupAxis, ceilings, groups, moments, score_values, state_by_question, whole
from emoray.analysis.tally import Factor, Tally
from emoray.study.circumplex import Affect, Array
from emoray.study.goemotions import LABELS, NEUTRAL, label_map, shipped_maps
from emoray.study.scoring import NeutralRule, score

RUSSELL = label_map("russell")


@dataclass(frozen=True)
class Rows:
    """Rows of one model: where they were asked, and the probabilities read."""

    template: npt.NDArray[np.str_]
    intensity: Array
    state: Array
    question: npt.NDArray[np.str_]
    probabilities: npt.NDArray[np.float32]

    def tally(self, neutral: NeutralRule = "zero", name: str = "russell") -> Tally:
        asked = np.array([(a.valence, a.arousal) for a in map(Affect.at, self.state)]).reshape(-1, 2)
        scores = score(asked * self.intensity[:, None], self.probabilities, label_map(name), neutral)
        factors = {name: Factor.of(getattr(self, name)) for name in ("template", "intensity", "state", "question")}
        return Tally.of(factors, score_values(vars(scores)))

    def cosines(self, neutral: NeutralRule = "zero") -> Array:
        asked = np.array([(a.valence, a.arousal) for a in map(Affect.at, self.state)])
        return score(asked, self.probabilities, RUSSELL, neutral).cosine


def rows(n: int, rng: np.random.Generator, *, templates: int = 1) -> Rows:
    """Rows of a ragged design: every cell may have none, one or several."""
    return Rows(
        rng.choice(list("ab")[:templates], n),
        np.full(n, 1.0),
        rng.choice(np.arange(12) * 30.0, n),
        rng.choice(list("pqrst"), n),
        rng.dirichlet(np.full(len(LABELS), 0.2), n).astype(np.float32),
    )


@pytest.mark.parametrize("neutral", ["zero", "drop"])
def test_the_mean_is_that_of_question_means_of_prompt_means_where_some_prompts_are_filled_in(
    neutral: NeutralRule,
) -> None:
    found = rows(300, np.random.default_rng(0), templates=2)
    cosines = found.cosines(neutral)
    prompts = [(t, s) for t in "ab" for s in np.unique(found.state)]
    cells = np.full((5, len(prompts)), np.nan)
    for i, question in enumerate("pqrst"):
        for j, (template, state) in enumerate(prompts):
            here = cosines[(found.template == template) & (found.state == state) & (found.question == question)]
            cells[i, j] = np.nanmean(here) if np.isfinite(here).any() else np.nan
    row, column = np.nonzero(np.isfinite(cells))
    assert len(row) < cells.size
    design = np.hstack([np.eye(5)[row], np.eye(len(prompts))[column]])
    fitted = np.linalg.lstsq(design, cells[row, column], rcond=None)[0]
    mean = fitted[:5].mean() + fitted[5:].mean()
    result = whole(found.tally(neutral), RUSSELL, np.random.default_rng(1), level=0.95, shuffles=10)
    assert result.group.cosine.estimate == pytest.approx(mean, abs=1e-9)
    assert result.group.missing == pytest.approx(1 - len(row) / cells.size)
    assert result.shuffled.observed == pytest.approx(result.group.cosine.estimate, abs=1e-9)
    assert result.shuffled_expected.observed == pytest.approx(result.group.expected.estimate, abs=1e-9)


@pytest.mark.parametrize("name", shipped_maps())
def test_no_top_label_mean_is_above_its_ceiling(name: str) -> None:
    tally = rows(2000, np.random.default_rng(2)).tally("drop", name)
    for axis in ("state", "question"):
        found = groups(tally, axis, label_map(name))
        assert len(found) == len(tally.axis(axis).levels) >= 5
        assert all(group.cosine.estimate <= group.ceiling + 1e-9 for group in found)
    best = ceilings(tally.axis("state").levels, label_map(name))
    means = moments(tally, "cosine").means
    assert (np.nan_to_num(means, nan=-1.0) <= best + 1e-9).all()


def test_a_model_that_always_finds_the_best_label_reaches_the_ceiling() -> None:
    states = np.repeat(np.arange(12) * 30.0, 4)
    best = [int(np.nanargmax(RUSSELL.vectors() @ [np.cos(t), np.sin(t)])) for t in np.radians(states)]
    found = Rows(
        np.full(48, "a"), np.ones(48), states, np.tile(list("pqrs"), 12), np.eye(len(LABELS), dtype=np.float32)[best]
    )
    result = whole(found.tally(), RUSSELL, np.random.default_rng(3), level=0.95, shuffles=200)
    assert result.group.relative == pytest.approx(1.0)
    assert result.group.ceiling == pytest.approx(float(np.mean(ceilings(np.arange(12) * 30.0, RUSSELL))))
    assert result.shuffled.mean == pytest.approx(0.0, abs=0.05)


def test_neutral_readings_count_as_zero_or_not_at_all() -> None:
    probabilities = np.zeros((40, len(LABELS)), dtype=np.float32)
    probabilities[:, NEUTRAL] = 1
    probabilities[::2] = np.eye(len(LABELS), dtype=np.float32)[LABELS.index("joy")]
    found = Rows(np.full(40, "a"), np.ones(40), np.full(40, 7.8), np.tile(list("ppqq"), 10), probabilities)
    assert groups(found.tally("zero"), "state", RUSSELL)[0].cosine.estimate == pytest.approx(0.5)
    assert groups(found.tally("drop"), "state", RUSSELL)[0].cosine.estimate == pytest.approx(1.0)
    assert groups(found.tally("drop"), "state", RUSSELL)[0].scored == 20


def test_states_have_intervals_over_questions_and_questions_over_asking_again() -> None:
    tally = rows(500, np.random.default_rng(4)).tally()
    assert {group.cosine.over for group in groups(tally, "state", RUSSELL)} == {OVER_QUESTIONS}
    assert {group.cosine.over for group in groups(tally, "question", RUSSELL)} == {ASKED_AGAIN}


def filtered(rng: np.random.Generator) -> Rows:
    """Of half of the questions, nothing came back at 240° to 300°."""
    found = rows(900, rng, templates=2)
    lost = np.isin(found.state, [240.0, 270.0, 300.0]) & np.isin(found.question, list("pq"))
    return Rows(*(getattr(found, name)[~lost] for name in vars(found)))


def test_lines_of_an_axis_average_to_the_whole_and_say_how_much_of_each_is_missing() -> None:
    tally = filtered(np.random.default_rng(12)).tally()
    result = whole(tally, RUSSELL, np.random.default_rng(1), level=0.95, shuffles=5).group
    axes: tuple[GroupAxis, ...] = ("state", "question", "template", "intensity")
    for axis in axes:
        lines = groups(tally, axis, RUSSELL)
        assert np.mean([one.cosine.estimate for one in lines]) == pytest.approx(result.cosine.estimate)
        assert np.mean([one.missing for one in lines]) == pytest.approx(result.missing)
    states = {one.level: one.missing for one in groups(tally, "state", RUSSELL)}
    assert states[270.0] >= 0.4 > states[90.0]


def test_a_share_of_human_text_carries_the_error_of_that_text() -> None:
    tally = rows(900, np.random.default_rng(13)).tally()
    states = np.array([float(state) for state in tally.axis("state").levels])
    means = np.where(states < 200, 0.5, np.nan)
    sure, unsure = (OnHumanText(states, means, np.full((12, 12), square)) for square in (0.0, 0.004))
    first, second = (
        whole(tally, RUSSELL, np.random.default_rng(1), level=0.95, shuffles=5, human=human).group
        for human in (sure, unsure)
    )
    assert first.human == second.human == 0.5
    below = [one.cosine.estimate for one in groups(tally, "state", RUSSELL) if float(one.level) < 200]
    assert first.of_human == pytest.approx(np.mean(below) / 0.5)
    assert second.of_human_low < first.of_human_low < first.of_human < first.of_human_high < second.of_human_high


def test_a_share_of_human_text_is_as_sure_as_the_mean_that_it_divides() -> None:
    """Of a state with the variance of all states, of a question as if its prompts were asked again."""
    tally = rows(900, np.random.default_rng(13)).tally()
    states = np.array([float(state) for state in tally.axis("state").levels])
    human = OnHumanText(states, np.full(12, 0.5), np.zeros((12, 12)))
    axes: tuple[GroupAxis, ...] = ("state", "question")
    for axis in axes:
        for one in groups(tally, axis, RUSSELL, human=human):
            assert one.of_human == pytest.approx(one.cosine.estimate / 0.5)
            if abs(one.cosine.low) < 1 and abs(one.cosine.high) < 1:  # which a share of 0.5 knows nothing of
                assert one.of_human_low == pytest.approx(one.cosine.low / 0.5)
                assert one.of_human_high == pytest.approx(one.cosine.high / 0.5)


def test_states_by_questions_holds_the_cell_means() -> None:
    found = rows(400, np.random.default_rng(5))
    cosines, cells = found.cosines(), state_by_question(found.tally())
    assert cells.shape == (12, 5)
    for i, state in enumerate(np.unique(found.state)):
        for j, question in enumerate("pqrst"):
            here = cosines[(found.state == state) & (found.question == question)]
            assert cells[i, j] == pytest.approx(here.mean() if len(here) else math.nan, nan_ok=True)


def test_rows_in_any_order_give_the_same_tables() -> None:
    found = rows(300, np.random.default_rng(6))
    mixed = np.random.default_rng(7).permutation(300)
    other = Rows(*(getattr(found, name)[mixed] for name in vars(found)))
    one, two = (groups(each.tally(), "state", RUSSELL) for each in (found, other))
    assert len(one) == 12
    for a, b in zip(one, two, strict=True):
        assert (a.cosine.estimate, a.cosine.low) == pytest.approx((b.cosine.estimate, b.cosine.low), nan_ok=True)


def test_rows_without_a_reading_are_in_no_mean() -> None:
    found = rows(300, np.random.default_rng(8))
    found.probabilities[::3] = math.nan
    kept = np.arange(300) % 3 != 0
    rest = Rows(*(getattr(found, name)[kept] for name in vars(found)))
    assert found.tally().sums["cosine_n"].sum() == kept.sum()
    means = [
        whole(x.tally(), RUSSELL, np.random.default_rng(9), level=0.9, shuffles=5).group.cosine for x in (found, rest)
    ]
    assert means[0].estimate == pytest.approx(means[1].estimate)


def test_an_empty_design_has_no_numbers_and_no_trouble() -> None:
    found = rows(0, np.random.default_rng(10)).tally()
    result = whole(found, RUSSELL, np.random.default_rng(11), level=0.95, shuffles=5)
    assert math.isnan(result.group.cosine.estimate)
    assert math.isnan(result.effective_n)
    assert groups(found, "state", RUSSELL) == ()
    assert state_by_question(found).shape == (0, 0)
