"""The 28 labels and the maps that place them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.study import russell
from emoray.study.circumplex import Affect, around_the_circle
from emoray.study.goemotions import (
    LABELS,
    NEUTRAL,
    BadLabelMap,
    canonical_label,
    label_map,
    label_map_from,
    shipped_maps,
)
from emoray.study.scoring import ceiling

EVERYWHERE_HAPPY: dict[str, Any] = {label: {"term": "happy"} for label in LABELS}


def entries(**changes: Any) -> dict[str, Any]:
    return EVERYWHERE_HAPPY | changes


def complaint(labels: Any) -> str:
    with pytest.raises(BadLabelMap) as told:
        label_map_from(labels, name="mine")
    return str(told.value)


def test_the_labels_stand_in_the_order_of_goemotions() -> None:
    assert len(set(LABELS)) == 28
    assert LABELS[:3] == ("admiration", "amusement", "anger")
    assert (LABELS[17], LABELS[25], LABELS[27]) == ("joy", "sadness", "neutral")
    assert list(LABELS[:27]) == sorted(LABELS[:27])
    assert LABELS[NEUTRAL] == "neutral"


def test_the_default_map_is_russells_and_comes_first() -> None:
    assert shipped_maps()[0] == "russell"
    assert set(shipped_maps()) == {"russell", "octants", "ratings"}
    assert label_map() == label_map("russell")


@pytest.mark.parametrize("name", shipped_maps())
def test_a_shipped_map_places_every_label_with_a_reason_or_says_that_it_has_no_direction(name: str) -> None:
    found = label_map(name)
    assert found.labels == LABELS
    assert found.mark == "ours"
    assert found.source
    assert all(place.reason for place in found.places)
    assert [place.label for place in found.places if place.affect is None] == ["neutral"]
    assert (np.abs(found.vectors()[:NEUTRAL]) <= 1).all()


@pytest.mark.parametrize("name", shipped_maps())
def test_no_map_gives_an_unpleasant_label_a_pleasant_place(name: str) -> None:
    vectors = dict(zip(LABELS, label_map(name).vectors(), strict=True))
    for pleasant in ("admiration", "amusement", "approval", "caring", "gratitude", "joy", "love", "optimism", "relief"):
        assert vectors[pleasant][0] > 0
    for unpleasant in ("annoyance", "disappointment", "disgust", "grief", "remorse", "sadness"):
        assert vectors[unpleasant][0] < 0
    for quiet in ("relief", "caring", "sadness"):
        assert vectors[quiet][1] < 0
    assert np.isnan(vectors["neutral"]).all()


def test_a_word_that_both_lists_have_lies_where_russell_puts_it() -> None:
    places = {place.label: place.affect for place in label_map("russell").places}
    for label, term in (("anger", "angry"), ("annoyance", "annoyed"), ("excitement", "excited"), ("sadness", "sad")):
        assert places[label] == russell.affect(term)


def test_several_terms_mean_the_middle_between_them() -> None:
    places = {place.label: place.affect for place in label_map("russell").places}
    love = places["love"]
    assert love is not None
    assert love.angle_deg == pytest.approx((7.8 + 24.9) / 2)


def test_the_default_map_leaves_the_low_arousal_arc_empty_and_the_ceiling_shows_it() -> None:
    tops = {state.angle_deg: ceiling(state, label_map("russell")) for state in around_the_circle(12)}
    assert tops[270.0] == pytest.approx(math.cos(math.radians(318 - 270)), abs=1e-9)  # relief, at relaxed
    assert tops[270.0] == pytest.approx(0.67, abs=0.005)
    assert tops[240.0] == pytest.approx(math.cos(math.radians(240 - 209)), abs=1e-9)  # remorse, at gloomy
    assert tops[300.0] == pytest.approx(0.95, abs=0.005)
    assert min(top for angle, top in tops.items() if angle not in (240.0, 270.0, 300.0)) > 0.97


def test_an_unknown_map_is_named_with_those_that_there_are() -> None:
    with pytest.raises(BadLabelMap) as told:
        label_map("nrc")
    assert str(told.value) == "no label map is called 'nrc'; there are russell, octants, ratings"


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"term": "calm"}, russell.affect("calm")),
        ({"term": ["happy", "delighted"]}, Affect.at((7.8 + 24.9) / 2)),
        ({"angle": 90}, Affect(0.0, 1.0)),
        ({"angle": "90"}, Affect(0.0, 1.0)),
        ({"valence": 0.4, "arousal": -0.2}, Affect(0.4, -0.2)),
        ({"none": True}, None),
        ({"none": "true"}, None),
    ],
)
def test_a_label_can_be_placed_in_four_ways(entry: dict[str, Any], where: Affect | None) -> None:
    found = label_map_from(entries(surprise=entry), name="mine").places[LABELS.index("surprise")].affect
    if where is None or found is None:
        assert found is where
    else:
        assert (found.valence, found.arousal) == pytest.approx((where.valence, where.arousal), abs=1e-9)


def test_a_users_map_is_marked_as_such() -> None:
    assert label_map_from(EVERYWHERE_HAPPY, name="mine").mark == "user"


COMPLAINTS: list[tuple[dict[str, Any], str]] = [
    (
        {label: {"term": "happy"} for label in LABELS[2:]},
        "label map 'mine' misses admiration, amusement; it must place exactly the 28 GoEmotions labels",
    ),
    (
        {("jyo" if label == "joy" else label): place for label, place in entries().items()},
        "label map 'mine' has the unknown label 'jyo' (did you mean 'joy'?); it must place exactly the 28 GoEmotions "
        "labels",
    ),
    (
        {("xyzzy" if label == "joy" else label): place for label, place in entries().items()},
        "label map 'mine' misses joy and has the unknown label 'xyzzy'; it must place exactly the 28 GoEmotions labels",
    ),
    (
        entries(joy={"trem": "happy"}),
        "label map 'mine': joy needs a term, an angle, or valence and arousal; it has 'trem', did you mean 'term'?",
    ),
    (
        entries(joy={"term": "hapy"}),
        "label map 'mine': joy names 'hapy', which is none of Russell's 28 terms; did you mean 'happy'?",
    ),
    (
        entries(boredom={"term": "bored"}),
        "label map 'mine' has the unknown label 'boredom'; it must place exactly the 28 GoEmotions labels",
    ),
    (
        entries(joy="happy"),
        "label map 'mine': joy needs a term, an angle, or valence and arousal, got 'happy'",
    ),
    (entries(joy={}), "label map 'mine': joy needs a term, an angle, or valence and arousal"),
    (entries(joy={"valence": 0.5}), "label map 'mine': joy needs a term, an angle, or valence and arousal"),
    (entries(joy={"none": False}), "label map 'mine': joy needs a term, an angle, or valence and arousal"),
    (entries(joy={"none": "no"}), "label map 'mine': joy needs a term, an angle, or valence and arousal"),
    (entries(joy={"term": "joyful"}), "label map 'mine': joy names 'joyful', which is none of Russell's 28 terms"),
    (entries(joy={"term": 7}), "label map 'mine': joy names 7, which is none of Russell's 28 terms"),
    (
        entries(joy={"term": ["happy", ["glad"]]}),
        "label map 'mine': joy names ['glad'], which is none of Russell's 28 terms",
    ),
    (entries(joy={"term": []}), "label map 'mine': the terms of joy, [], have no midpoint"),
    (entries(joy={"angle": "east"}), "label map 'mine': angle of joy must be a number, got 'east'"),
    (entries(joy={"angle": float("nan")}), "label map 'mine': angle of joy must be a number, got nan"),
    (
        entries(joy={"valence": None, "arousal": 1}),
        "label map 'mine': valence of joy must be a number, got None",
    ),
    (
        entries(joy={"valence": 2, "arousal": 0}),
        "label map 'mine': joy lies at (2, 0), outside -1 … 1",
    ),
    (
        entries(joy={"term": "happy", "angle": 30}),
        "label map 'mine': joy is told to lie in two places, by term and by angle; keep one",
    ),
    (
        entries(joy={"none": True, "angle": 30}),
        "label map 'mine': joy is told to lie in two places, by none: true and by angle; keep one",
    ),
    ({label: {"none": True} for label in LABELS}, "label map 'mine' gives no label a direction"),
]


def test_a_label_may_say_its_place_in_two_ways_that_agree() -> None:
    both = entries(joy={"term": "happy", "angle": 7.8, "valence": 0.99, "arousal": 0.14})
    assert label_map_from(both, name="mine") == label_map_from(entries(joy={"term": "happy"}), name="mine")


@pytest.mark.parametrize(("labels", "sentence"), COMPLAINTS)
def test_a_map_that_cannot_be_used_is_refused_in_one_sentence(labels: dict[str, Any], sentence: str) -> None:
    assert complaint(labels) == sentence


@pytest.mark.parametrize(
    ("spelling", "label"),
    [
        ("joy", "joy"),
        ("Joy", "joy"),
        (" JOY ", "joy"),
        ("LABEL_17", "joy"),
        ("label17", "joy"),
        ("17", "joy"),
        ("LABEL_0", "admiration"),
        ("LABEL_27", "neutral"),
        ("LABEL_28", None),
        ("happiness", None),
        ("", None),
        ("-1", None),
    ],
)
def test_a_models_own_spelling_of_a_label_is_understood(spelling: str, label: str | None) -> None:
    assert canonical_label(spelling) == label


@given(st.text(max_size=12))
def test_whatever_a_model_calls_a_label_it_is_one_of_ours_or_none(spelling: str) -> None:
    assert canonical_label(spelling) in {None, *LABELS}
