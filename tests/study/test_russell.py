"""Russell's 28 terms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.study import russell
from emoray.study.circumplex import Affect, angle_between_deg, cosine

HANDED_DOWN = [
    ("happy", 7.8), ("delighted", 24.9), ("excited", 48.6), ("astonished", 69.8), ("aroused", 73.8), ("tense", 92.8),
    ("alarmed", 96.5), ("angry", 99.0), ("afraid", 116.0), ("annoyed", 123.0), ("distressed", 138.0),
    ("frustrated", 141.0), ("miserable", 188.7), ("sad", 207.5), ("gloomy", 209.0), ("depressed", 211.0),
    ("bored", 242.0), ("droopy", 256.7), ("tired", 267.7), ("sleepy", 271.9), ("calm", 316.2), ("relaxed", 318.0),
    ("satisfied", 319.0), ("at ease", 321.0), ("content", 323.0), ("serene", 328.6), ("glad", 349.0),
    ("pleased", 353.2),
]  # fmt: skip


def test_there_are_28_terms_in_circular_order() -> None:
    angles = list(russell.ANGLES_DEG.values())
    assert len(angles) == len(set(russell.ANGLES_DEG)) == 28
    assert angles == sorted(angles)
    assert all(0.0 <= angle < 360.0 for angle in angles)


def test_every_angle_is_the_one_that_was_handed_down() -> None:
    assert [angle for _, angle in HANDED_DOWN] == list(russell.ANGLES_DEG.values())
    assert [term for term, _ in HANDED_DOWN] == list(russell.ANGLES_DEG)


def test_each_quarter_of_the_circle_holds_the_words_it_should() -> None:
    assert russell.affect("excited").valence > 0 < russell.affect("excited").arousal
    assert russell.affect("angry").valence < 0 < russell.affect("angry").arousal
    assert russell.affect("depressed").valence < 0 > russell.affect("depressed").arousal
    assert russell.affect("calm").valence > 0 > russell.affect("calm").arousal


def test_the_three_disputed_angles_are_named_and_hardly_matter() -> None:
    assert set(russell.DISPUTED) == {"frustrated", "depressed", "droopy"}
    for term, values in russell.DISPUTED.items():
        assert values[0] == russell.ANGLES_DEG[term]
        assert len(values) > 1
        lie_at = Affect.at(values[0])
        for other in values[1:]:
            worst = max(abs(cosine(lie_at, Affect.at(s)) - cosine(Affect.at(other), Affect.at(s))) for s in range(360))
            assert 0 < worst < 0.02


def test_the_paragraph_on_disputed_values_says_what_the_table_says() -> None:
    assert russell.DISPUTED
    for term, values in russell.DISPUTED.items():
        assert f"* {term}: {values[0]} here, {values[1]} in" in (russell.__doc__ or "")


@pytest.mark.parametrize("term", russell.ANGLES_DEG)
def test_every_term_is_the_nearest_to_its_own_angle(term: str) -> None:
    assert russell.nearest_term(russell.ANGLES_DEG[term]) == term
    assert russell.affect(term).intensity == pytest.approx(1.0)


@given(st.floats(0, 360, exclude_max=True))
def test_no_term_is_nearer_than_the_nearest(angle: float) -> None:
    distance = {term: abs(angle_between_deg(angle, at)) for term, at in russell.ANGLES_DEG.items()}
    assert distance[russell.nearest_term(angle)] == min(distance.values())


def test_the_nearest_term_is_found_across_zero() -> None:
    assert russell.nearest_term(359.0) == "pleased"
    assert russell.nearest_term(2.0) == "happy"
    assert math.isclose(abs(angle_between_deg(359.0, russell.ANGLES_DEG["pleased"])), 5.8)


def test_a_word_that_is_no_term_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        russell.affect("hangry")
