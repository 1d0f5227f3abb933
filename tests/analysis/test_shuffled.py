"""The shuffled control: chance, as the same answers would meet it."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from emoray.analysis.shuffled import shuffled_control
from emoray.study.circumplex import Array, around_the_circle

ASKED = np.array([(state.valence, state.arousal) for state in around_the_circle(12)])


def directions(angles_deg: Array) -> Array:
    turns = np.radians(angles_deg)
    return np.stack([np.cos(turns), np.sin(turns)], axis=-1)


def test_random_reading_is_no_better_than_its_control() -> None:
    rng = np.random.default_rng(0)
    p = [shuffled_control(ASKED, directions(rng.uniform(0, 360, (10, 1, 12))), rng, shuffles=200).p for _ in range(200)]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) <= 0.05) < 0.12


def test_the_control_of_perfect_reading_lies_at_zero_far_below() -> None:
    read = np.broadcast_to(ASKED, (10, 1, 12, 2))
    control = shuffled_control(ASKED, read, np.random.default_rng(1))
    assert control.observed == pytest.approx(1.0)
    assert abs(control.mean) < 0.02
    assert control.p95 < 0.3
    assert control.p == 1 / 1001


def test_a_favourite_mood_gains_nothing() -> None:
    always_joyful = np.broadcast_to([1.0, 0.0], (10, 1, 12, 2))
    control = shuffled_control(ASKED, always_joyful, np.random.default_rng(2))
    assert control.observed == pytest.approx(0.0)
    assert control.mean == pytest.approx(0.0)
    assert control.p == 1.0


def test_it_is_what_dealing_the_labels_row_by_row_gives() -> None:
    """One question, three states: the six possible deals, from single answers instead of sums."""
    rng = np.random.default_rng(3)
    asked = directions(np.array([0.0, 90.0, 200.0]))
    rows = [directions(rng.uniform(0, 360, size=n)) for n in (4, 2, 5)]
    deals = [
        np.mean([(stack @ asked[label]).mean() for stack, label in zip(rows, labels, strict=True)])
        for labels in itertools.permutations(range(3))
    ]
    read = np.array([stack.mean(axis=0) for stack in rows])[None, None]
    control = shuffled_control(asked, read, np.random.default_rng(4), shuffles=6000)
    assert control.observed == pytest.approx(deals[0])
    assert control.mean == pytest.approx(np.mean(deals), abs=0.02)
    assert control.p == pytest.approx(np.mean(np.array(deals) >= deals[0] - 1e-12), abs=0.03)


def test_silent_prompts_are_left_out_and_weights_are_those_of_the_tables() -> None:
    read = np.broadcast_to(ASKED, (2, 1, 12, 2)).copy()
    read[0, 0, 3:] = math.nan
    read[1, 0, 0] = -read[1, 0, 0]
    control = shuffled_control(ASKED, read, np.random.default_rng(5))
    assert control.observed == pytest.approx((1.0 + (11 - 1) / 12) / 2)


def test_a_neutral_answer_is_the_zero_vector_and_scores_nothing() -> None:
    read = np.broadcast_to(ASKED, (4, 1, 12, 2)) * 0.5
    assert shuffled_control(ASKED, read, np.random.default_rng(6)).observed == pytest.approx(0.5)


def test_equal_seeds_give_equal_controls() -> None:
    read = directions(np.random.default_rng(7).uniform(0, 360, (3, 2, 12)))
    first, second = (shuffled_control(ASKED, read, np.random.default_rng(8)) for _ in range(2))
    assert (first.mean, first.p95, first.p) == (second.mean, second.p95, second.p)
    assert np.array_equal(first.states_high, second.states_high)


def test_the_band_of_every_state_holds_its_mean_deal() -> None:
    read = directions(np.random.default_rng(9).uniform(0, 360, (10, 1, 12)))
    control = shuffled_control(ASKED, read, np.random.default_rng(10))
    middle = (read.mean(axis=(0, 1, 2)) * ASKED).sum(axis=1)
    assert (control.states_low < middle).all()
    assert (control.states_high > middle).all()


def test_nothing_read_has_no_control() -> None:
    for read in (np.full((3, 1, 12, 2), math.nan), np.empty((0, 0, 12, 2))):
        control = shuffled_control(ASKED, read, np.random.default_rng(11))
        assert math.isnan(control.mean)
        assert math.isnan(control.p)


def test_a_thousand_shuffles_of_a_large_design_take_no_time() -> None:
    read = directions(np.random.default_rng(12).uniform(0, 360, (30, 4, 24)))
    began = time.thread_time()  # of this thread on a core, however many wait for one
    shuffled_control(directions(np.linspace(0, 345, 24)), read, np.random.default_rng(13))
    assert time.thread_time() - began < 3
