"""Circular statistics against published values, and against worlds of which the direction is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emoray.analysis.circular import direction, directions, mean_direction, profile, v_test

# R package circumplex, data aw2009 (Wright et al. 2009): means of PA BC DE FG HI JK LM NO, and its own results
OCTANTS = np.array([90.0, 135.0, 180.0, 225.0, 270.0, 315.0, 360.0, 45.0])
AW2009 = np.array([0.374, -0.572, -0.520, 0.016, 0.688, 1.142, 1.578, 0.678])


def test_the_v_test_is_pingouins_example() -> None:
    angles = np.degrees([0.785, 1.570, 3.141, 0.839, 5.934])
    v, p = v_test(angles, math.degrees(1))
    assert v == pytest.approx(2.486, abs=5e-4)
    assert p == pytest.approx(0.0579, abs=5e-4)


def test_the_v_test_errs_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = np.array([v_test(one, 30.0)[1] for one in rng.uniform(0, 360, (4000, 10))])
    assert 0.035 <= (found <= 0.05).mean() <= 0.06


def test_the_structural_summary_is_that_of_the_circumplex_package() -> None:
    found = profile(OCTANTS, AW2009[None, :])
    assert found is not None
    assert found.elevation.estimate == pytest.approx(0.423, abs=1e-3)
    assert found.amplitude.estimate == pytest.approx(0.981, abs=1e-3)
    assert found.displacement.estimate == pytest.approx(344.4, abs=0.1)
    assert found.fit == pytest.approx(0.954, abs=1e-3)
    assert math.isnan(found.amplitude.low)


def test_a_wave_is_found_where_it_is_and_its_intervals_hold() -> None:
    rng = np.random.default_rng(2)
    states = np.arange(0.0, 360.0, 30.0)
    wave = 0.5 + 0.2 * np.cos(np.radians(states - 350.0))
    hits = np.zeros(3)
    for _ in range(300):
        tilt = (
            0.1
            * rng.standard_normal((10, 3))
            @ np.stack([np.ones(12), np.cos(np.radians(states)), np.sin(np.radians(states))])
        )
        found = profile(states, wave + tilt + 0.1 * rng.standard_normal((10, 12)))
        assert found is not None
        turn = (found.displacement.estimate - 350.0 + 180.0) % 360.0 - 180.0
        hits += (
            found.elevation.low <= 0.5 <= found.elevation.high,
            found.amplitude.low <= 0.2 <= found.amplitude.high,
            abs(turn) <= found.displacement.half_width,
        )
    assert (hits / 300 >= 0.91).all()
    assert (hits / 300 <= 0.985).all()


def test_a_state_whose_few_readings_all_point_alike_is_no_surer_of_its_bias_than_others_are() -> None:
    """Three readings of ten questions each, as labels have it: one of five directions."""
    rng, states, hits = np.random.default_rng(4), [0.0, 90.0, 180.0, 270.0], []
    for _ in range(150):
        turns = np.radians(np.array(states)[:, None] + rng.choice([-60.0, 0.0, 10.0, 10.0, 10.0, 60.0], (10, 4, 3)))
        turns[:, 0] = 0.0  # here nothing varies
        sums = np.stack([np.cos(turns).sum(axis=2), np.sin(turns).sum(axis=2)], axis=2)
        found = directions(states, sums, np.full((10, 4), 3))
        mean = np.exp(1j * np.radians([-60.0, 0.0, 10.0, 10.0, 10.0, 60.0])).mean()
        truth = math.degrees(math.atan2(mean.imag, mean.real))
        hits += [one.bias.low <= truth <= one.bias.high for one in found[1:]]
        assert found[0].bias.half_width > 1.0
    assert 0.9 <= np.mean(hits) <= 0.985
    assert directions([], np.zeros((3, 0, 2)), np.zeros((3, 0))) == []


def test_missing_states_do_not_tilt_a_wave() -> None:
    states = np.arange(0.0, 360.0, 30.0)
    scores = np.tile(0.5 + 0.2 * np.cos(np.radians(states - 80.0)), (6, 1))
    scores[::2, 3:6] = math.nan
    found = profile(states, scores)
    assert found is not None
    assert found.displacement.estimate == pytest.approx(80.0)
    assert found.amplitude.estimate == pytest.approx(0.2)
    assert found.fit == pytest.approx(1.0)
    assert profile(states[:3], scores[:, :3]) is None


@pytest.mark.parametrize(("side", "noise"), [(1.0, 0.01), (-1.0, 0.01), (1.0, 0.5)])
def test_a_wave_that_rises_beyond_what_a_cosine_can_be_lies_within_its_own_bounds(side: float, noise: float) -> None:
    """Four states that lie together: none scores beyond 1, and the mean of the fitted wave does."""
    states = np.array([0.0, 30.0, 60.0, 90.0])
    strays = noise * np.array([-1.0, 0.0, 0.0, 1.0])[:, None]
    found = profile(states, side * (1.2 - 0.5 * np.cos(np.radians(states - 45.0))) + strays)
    assert found is not None
    elevation = found.elevation
    assert elevation.estimate == pytest.approx(side * 1.2)
    assert elevation.low <= elevation.estimate <= elevation.high
    inner, outer = (elevation.low, elevation.high) if side > 0 else (-elevation.high, -elevation.low)
    assert outer == pytest.approx(1.2)
    assert inner >= -1.0
    alone = profile(states, side * (1.2 - 0.5 * np.cos(np.radians(states[None] - 45.0))))
    assert alone is not None
    assert math.isnan(alone.elevation.low)


def test_the_bias_of_a_state_is_found_and_its_interval_holds() -> None:
    """Readings lie 20 degrees beyond what was asked; questions turn them by some degrees more or less."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(400):
        turns = np.radians(350.0 + 20.0 + 10 * rng.standard_normal((10, 1)) + 40 * rng.standard_normal((10, 8)))
        sums = np.stack([np.cos(turns).sum(axis=1), np.sin(turns).sum(axis=1)], axis=1)
        found = direction(350.0, sums, np.full(10, 8.0))
        hits += found.bias.low <= 20.0 <= found.bias.high
    assert 0.92 <= hits / 400 <= 0.98
    assert found.directed == 80
    assert found.p < 1e-4
    assert found.mean_deg == pytest.approx(10.0, abs=20)


def test_a_mean_direction_crosses_the_zero() -> None:
    middle, length = mean_direction(np.array([350.0, 30.0, math.nan]))
    assert middle == pytest.approx(10.0)
    assert length == pytest.approx(math.cos(math.radians(20)))


def test_without_directions_there_is_nothing_to_say() -> None:
    nothing = direction(90.0, np.zeros((4, 2)), np.zeros(4))
    assert nothing.directed == 0
    assert math.isnan(nothing.mean_deg)
    assert math.isnan(nothing.bias.low)
    assert math.isnan(nothing.p)
    assert all(map(math.isnan, mean_direction(np.array([math.nan]))))
    opposite = direction(0.0, np.array([[1.0, 0.0], [-1.0, 0.0]]), np.ones(2))
    assert opposite.length == pytest.approx(0.0)
    assert math.isnan(opposite.bias.low)
