"""The geometry: what holds for any two points of the plane."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.study.circumplex import (
    Affect,
    angle_between_deg,
    angle_errors_deg,
    around_the_circle,
    cosine,
    cosines,
    midpoint_deg,
)

angles = st.floats(0, 360, exclude_max=True)
lengths = st.floats(0.001, 1)
affects = st.builds(Affect.at, angles, lengths)
ORIGIN = Affect(0.0, 0.0)


def turn(asked: Affect, read: Affect) -> float:
    return float(
        angle_errors_deg(np.array([[asked.valence, asked.arousal]]), np.array([[read.valence, read.arousal]]))[0]
    )


@given(affects, affects)
def test_a_cosine_does_not_care_who_comes_first(a: Affect, b: Affect) -> None:
    assert cosine(a, b) == cosine(b, a)


@given(affects, affects)
def test_a_cosine_lies_between_minus_one_and_one(a: Affect, b: Affect) -> None:
    assert -1.0 <= cosine(a, b) <= 1.0


@given(affects, affects, st.floats(0.01, 100))
def test_a_cosine_does_not_care_how_strong_a_feeling_is(a: Affect, b: Affect, times: float) -> None:
    assert cosine(a, Affect(b.valence * times, b.arousal * times)) == pytest.approx(cosine(a, b), abs=1e-12)


@given(angles, angles, lengths)
def test_a_cosine_is_the_cosine_of_the_angle_between(a_deg: float, b_deg: float, length: float) -> None:
    found = cosine(Affect.at(a_deg), Affect.at(b_deg, length))
    assert found == pytest.approx(math.cos(math.radians(b_deg - a_deg)), abs=1e-8)


@given(affects)
def test_an_affect_agrees_wholly_with_itself_and_not_at_all_with_its_opposite(a: Affect) -> None:
    assert cosine(a, a) == pytest.approx(1.0, abs=1e-15)
    assert cosine(a, Affect(-a.valence, -a.arousal)) == pytest.approx(-1.0, abs=1e-15)


@given(affects)
def test_the_origin_has_no_direction(a: Affect) -> None:
    assert math.isnan(ORIGIN.angle_deg)
    assert math.isnan(cosine(a, ORIGIN))
    assert math.isnan(turn(a, ORIGIN))
    assert math.isnan(turn(ORIGIN, a))


def test_two_faint_affects_have_directions_as_long_as_each_has_one() -> None:
    faint = Affect(1e-6, 0.0)
    assert faint.angle_deg == 0.0
    assert cosine(faint, faint) == 1.0
    assert turn(faint, Affect(0.0, 1e-6)) == 90.0


@given(affects, affects)
def test_a_row_has_the_same_cosine_in_any_company(a: Affect, b: Affect) -> None:
    rows = np.array([[a.valence, a.arousal]] * 7 + [[0.3, 0.4]])
    others = np.array([[b.valence, b.arousal]] * 7 + [[-1.0, 0.0]])
    assert set(cosines(rows, others)[:7]) == {cosine(a, b)}


@given(angles, lengths)
def test_an_angle_survives_the_way_to_coordinates_and_back(angle_deg: float, length: float) -> None:
    there = Affect.at(angle_deg, length)
    assert abs(angle_between_deg(there.angle_deg, angle_deg)) < 1e-6
    assert there.intensity == pytest.approx(length, abs=1e-11)
    assert 0.0 <= there.angle_deg < 360.0


@given(st.floats(-720, 720), st.floats(-720, 720))
def test_the_turn_between_two_angles_is_the_short_way_round(a_deg: float, b_deg: float) -> None:
    turned = angle_between_deg(a_deg, b_deg)
    assert -180.0 < turned <= 180.0
    assert math.cos(math.radians(a_deg + turned)) == pytest.approx(math.cos(math.radians(b_deg)), abs=1e-9)
    assert math.sin(math.radians(a_deg + turned)) == pytest.approx(math.sin(math.radians(b_deg)), abs=1e-9)


def test_half_a_turn_is_counted_forwards() -> None:
    assert angle_between_deg(0.0, 180.0) == angle_between_deg(180.0, 0.0) == 180.0


@given(angles, angles, lengths)
def test_an_angle_error_is_that_turn(asked_deg: float, read_deg: float, length: float) -> None:
    expected = angle_between_deg(asked_deg, read_deg)
    found = turn(Affect.at(asked_deg), Affect.at(read_deg, length))
    assert abs(angle_between_deg(found, expected)) < 1e-6
    assert -180.0 < found <= 180.0


def test_an_angle_error_says_which_way() -> None:
    assert turn(Affect.at(350), Affect.at(10)) == pytest.approx(20.0)
    assert turn(Affect.at(10), Affect.at(350)) == pytest.approx(-20.0)
    assert turn(Affect.at(0), Affect.at(180)) == 180.0
    assert turn(Affect.at(180), Affect.at(0)) == 180.0


def test_twelve_around_the_circle_are_the_papers_states() -> None:
    as_the_paper_writes_them = [
        (1, 0), (0.866, 0.5), (0.5, 0.866), (0, 1), (-0.5, 0.866), (-0.866, 0.5),
        (-1, 0), (-0.866, -0.5), (-0.5, -0.866), (0, -1), (0.5, -0.866), (0.866, -0.5),
    ]  # fmt: skip
    found = [(round(state.valence, 3), round(state.arousal, 3)) for state in around_the_circle(12)]
    assert found == as_the_paper_writes_them


def test_zero_is_zero_and_not_nearly_zero() -> None:
    up = Affect.at(90)
    assert (up.valence, up.arousal) == (0.0, 1.0)
    assert math.copysign(1.0, Affect.at(270).valence) == 1.0


@given(st.integers(1, 400))
def test_states_around_the_circle_are_unit_vectors_evenly_spaced(n: int) -> None:
    states = around_the_circle(n)
    assert len(set(states)) == n
    assert all(state.intensity == pytest.approx(1.0, abs=1e-11) for state in states)
    assert [state.angle_deg for state in states] == pytest.approx([360.0 * i / n for i in range(n)], abs=1e-6)


def test_a_circle_without_states_is_refused() -> None:
    with pytest.raises(ValueError, match="a circle needs at least one state, got 0"):
        around_the_circle(0)


@given(angles, st.floats(0, 85))
def test_the_midpoint_of_two_angles_lies_between_them_also_across_zero(middle: float, apart: float) -> None:
    found = midpoint_deg([middle - apart, middle + apart])
    assert abs(angle_between_deg(found, middle)) < 1e-6


def test_angles_that_cancel_one_another_have_no_midpoint() -> None:
    with pytest.raises(ValueError, match="cancel one another"):
        midpoint_deg([0.0, 180.0])


@given(affects, st.floats(0.01, 1))
def test_scaling_changes_how_strong_and_not_what(a: Affect, by: float) -> None:
    faint = a.scaled(by)
    assert faint.intensity == pytest.approx(a.intensity * by, abs=1e-11)
    if faint.intensity > 1e-3:
        assert cosine(a, faint) == pytest.approx(1.0, abs=1e-12)
