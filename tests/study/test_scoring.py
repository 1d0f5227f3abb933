"""From probabilities to scores; every number is recomputed here in plain Python."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.study.circumplex import Affect, Array, angle_between_deg, around_the_circle, cosine
from emoray.study.goemotions import LABELS, NEUTRAL, LabelMap, label_map, label_map_from, shipped_maps
from emoray.study.scoring import NeutralRule, RefusalRule, ceiling, expectation, projections, ruled, score, top_labels

Rows = npt.NDArray[np.float32]

ZERO_OR_DROP: list[NeutralRule] = ["zero", "drop"]
UP = np.array([[0.0, 1.0]])


def readings(n: int, seed: int = 0) -> Rows:
    """Random readings: flat ones, sharp ones, one-hot ones, neutral ones."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.dirichlet(np.full(28, a), size=n) for a in (1.0, 0.1)])
    return np.concatenate([rows, np.eye(28)]).astype(np.float32)


def states(n: int, seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    wanted = [
        Affect.at(float(a), float(i)) for a, i in zip(rng.uniform(0, 360, n), rng.uniform(0.1, 1, n), strict=True)
    ]
    return np.array([(affect.valence, affect.arousal) for affect in wanted])


def one_hot(label: str) -> Rows:
    return np.eye(28, dtype=np.float32)[[LABELS.index(label)]]


def plain_cosine(a: tuple[float, float], b: tuple[float, float] | None) -> float:
    """The cosine as one writes it by hand."""
    if b is None:
        return math.nan
    long_a, long_b = math.sqrt(a[0] * a[0] + a[1] * a[1]), math.sqrt(b[0] * b[0] + b[1] * b[1])
    if long_a < 1e-9 or long_b < 1e-9:
        return math.nan
    return max(-1.0, min(1.0, (a[0] * b[0] + a[1] * b[1]) / (long_a * long_b)))


def plain_row(
    asked: tuple[float, float], probabilities: list[float], labels: LabelMap, neutral: NeutralRule
) -> dict[str, float]:
    """All scores of one row, in plain Python."""
    places = [(place.affect.valence, place.affect.arousal) if place.affect else None for place in labels.places]
    read = places[max(range(28), key=probabilities.__getitem__)]
    top = plain_cosine(asked, read)
    v = a = total = 0.0
    along = counted = 0.0
    for weight, place in zip(probabilities, places, strict=True):
        if place:
            v, a, total = v + weight * place[0], a + weight * place[1], total + weight
        if not place and neutral == "drop":
            continue
        along, counted = along + weight * (plain_cosine(asked, place) if place else 0.0), counted + weight
    mean = (v / total, a / total) if total else None
    return {
        "read_valence": read[0] if read else math.nan,
        "read_arousal": read[1] if read else math.nan,
        "cosine": 0.0 if math.isnan(top) and neutral == "zero" else top,
        "expected_valence": mean[0] if mean else math.nan,
        "expected_arousal": mean[1] if mean else math.nan,
        "expected_cosine": along / counted if counted else math.nan,
        "direction_cosine": plain_cosine(asked, mean),
    }


@pytest.mark.parametrize("neutral", ZERO_OR_DROP)
@pytest.mark.parametrize("name", shipped_maps())
def test_every_row_recomputes_exactly_by_hand(name: str, neutral: NeutralRule) -> None:
    labels, p = label_map(name), readings(200)
    asked = states(len(p))
    found = score(asked, p, labels, neutral)
    for i in range(len(p)):
        by_hand = plain_row((float(asked[i, 0]), float(asked[i, 1])), [float(x) for x in p[i]], labels, neutral)
        for column, value in by_hand.items():
            np.testing.assert_array_equal(getattr(found, column)[i], value, err_msg=f"{column} of row {i}")


@settings(max_examples=25)
@given(st.lists(st.integers(0, 427), min_size=1, max_size=40), st.sampled_from(shipped_maps()))
def test_what_a_row_scores_does_not_depend_on_its_neighbours(some: list[int], name: str) -> None:
    p = readings(200)
    asked = states(len(p))
    whole, part = score(asked, p, label_map(name)), score(asked[some], p[some], label_map(name))
    for column in vars(whole):
        np.testing.assert_array_equal(getattr(whole, column)[some], getattr(part, column))


def test_the_angle_error_is_the_turn_from_asked_to_read() -> None:
    p = readings(50)
    asked, labels = states(len(p)), label_map()
    found = score(asked, p, labels).angle_error_deg
    for (v, a), label, turned in zip(asked, top_labels(p), found, strict=True):
        read = labels.places[label].affect
        if read is None:
            assert math.isnan(turned)
        else:
            assert turned == pytest.approx(angle_between_deg(Affect(v, a).angle_deg, read.angle_deg), abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_neutral_reading_scores_zero_or_is_left_out_as_the_spec_says() -> None:
    zero, drop = (score(UP, one_hot("neutral"), label_map(), rule) for rule in ZERO_OR_DROP)
    assert zero.cosine[0] == 0.0
    assert math.isnan(drop.cosine[0])
    assert (zero.expected_cosine[0], zero.resultant_valence[0]) == (0.0, 0.0)
    assert math.isnan(drop.expected_cosine[0])
    for found in (zero, drop):
        assert math.isnan(found.read_valence[0])
        assert math.isnan(found.angle_error_deg[0])
        assert math.isnan(found.direction_cosine[0])  # nothing but neutral: no placed label has any weight


def test_a_label_at_the_origin_of_a_users_map_follows_the_neutral_rule_too() -> None:
    labels = label_map_from(
        {label: {"angle": 0} for label in LABELS} | {"neutral": {"valence": 0, "arousal": 0}}, name="mine"
    )
    zero, drop = (score(UP, one_hot("neutral"), labels, rule) for rule in ZERO_OR_DROP)
    assert zero.cosine[0] == 0.0
    assert math.isnan(drop.cosine[0])


@pytest.mark.parametrize("neutral", ZERO_OR_DROP)
def test_what_was_not_read_has_no_score_under_any_rule(neutral: NeutralRule) -> None:
    p = np.full((1, 28), np.nan, dtype=np.float32)
    for values in vars(score(UP, p, label_map(), neutral)).values():
        np.testing.assert_array_equal(values, [np.nan])


@pytest.mark.parametrize("neutral", ZERO_OR_DROP)
def test_an_affect_that_was_read_itself_needs_no_label_and_is_its_own_expectation(neutral: NeutralRule) -> None:
    unread, joy = np.full((1, 28), np.nan, dtype=np.float32), one_hot("joy")
    p = np.concatenate([unread, joy, unread, joy, unread, one_hot("neutral")])
    felt = np.array([[0.3, 0.4], [-0.5, 0.5], [0.0, 0.0], [np.nan, 0.1], [np.nan, np.nan], [np.nan, np.nan]])
    found = score(np.tile(UP, (6, 1)), p, label_map(), neutral, felt)
    joy_v, joy_a = label_map().vectors()[LABELS.index("joy")]
    np.testing.assert_array_equal(found.read_valence, [0.3, -0.5, 0.0, joy_v, np.nan, np.nan])
    np.testing.assert_array_equal(found.read_arousal, [0.4, 0.5, 0.0, joy_a, np.nan, np.nan])
    np.testing.assert_allclose([found.expected_valence[3], found.expected_arousal[3]], [joy_v, joy_a])
    np.testing.assert_array_equal(found.expected_valence[[0, 1, 2, 4]], found.read_valence[[0, 1, 2, 4]])
    np.testing.assert_array_equal(found.expected_arousal[[0, 1, 2, 4]], found.read_arousal[[0, 1, 2, 4]])
    nowhere = 0.0 if neutral == "zero" else np.nan  # it was read, and has no direction
    of_joy = plain_cosine((0, 1), (joy_v, joy_a))
    np.testing.assert_allclose(found.cosine, [0.8, 0.5**0.5, nowhere, of_joy, np.nan, nowhere])
    np.testing.assert_allclose(found.expected_cosine[[0, 1, 2, 4, 5]], [0.8, 0.5**0.5, nowhere, np.nan, nowhere])
    np.testing.assert_allclose(found.direction_cosine[[0, 1, 2, 4]], [0.8, 0.5**0.5, np.nan, np.nan])


def test_a_neutral_reading_is_zero_where_no_rule_is_said() -> None:
    assert score(UP, one_hot("neutral"), label_map()).cosine.tolist() == [0.0]


def test_one_probability_that_is_missing_makes_a_row_unread() -> None:
    p = one_hot("joy")
    p[0, LABELS.index("sadness")] = np.nan
    for values in vars(score(UP, p, label_map())).values():
        np.testing.assert_array_equal(values, [np.nan])


def test_an_expectation_is_the_mean_of_the_placed_labels_places_by_their_probabilities() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 0.5], [np.nan, np.nan], [-0.5, 0.25]])
    p = np.array([[0.5, 0.25, 0.25, 0.0], [0.1, 0.1, 0.6, 0.2], [0.0, 0.0, 1.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(
        expectation(p, vectors), [[2 / 3, 1 / 6], [0.0, 0.25], [np.nan, np.nan]], rtol=1e-6, atol=1e-7
    )


def test_nothing_to_score_is_no_scores() -> None:
    found = score(np.empty((0, 2)), np.empty((0, 28), dtype=np.float32), label_map())
    assert all(len(values) == 0 for values in vars(found).values())


def test_of_equally_probable_labels_the_first_is_the_top() -> None:
    p = np.zeros((1, 28), dtype=np.float32)
    p[0, [5, 9]] = 0.5
    assert top_labels(p).tolist() == [5]


def test_the_mean_place_forgets_the_neutral_part_and_the_expectation_only_where_the_rule_says_so() -> None:
    half = 0.5 * one_hot("joy") + 0.5 * one_hot("neutral")
    pure = score(UP, one_hot("joy"), label_map())
    zero, drop = (score(UP, half, label_map(), rule) for rule in ZERO_OR_DROP)
    for found in (zero, drop):
        assert found.expected_valence == pure.expected_valence
        assert found.direction_cosine == pure.direction_cosine
    assert drop.expected_cosine == pure.expected_cosine
    assert zero.expected_cosine == pure.expected_cosine / 2


@pytest.mark.parametrize("neutral", ZERO_OR_DROP)
def test_the_mean_direction_times_the_direction_asked_is_the_expected_cosine(neutral: NeutralRule) -> None:
    p = readings(200)
    asked = states(len(p))
    found = score(asked, p, label_map("octants"), neutral)
    units = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    along = units[:, 0] * found.resultant_valence + units[:, 1] * found.resultant_arousal
    np.testing.assert_allclose(along, found.expected_cosine, atol=1e-12)


@pytest.mark.parametrize("neutral", ZERO_OR_DROP)
def test_a_refused_answer_scores_zero_or_nothing_or_what_was_read(neutral: NeutralRule) -> None:
    p = np.concatenate([one_hot("remorse"), one_hot("neutral"), np.full((1, 28), np.nan, dtype=np.float32)] * 2)
    asked = np.tile([[Affect.at(210).valence, Affect.at(210).arousal]], (6, 1))
    refused, was_read = np.arange(6) < 3, np.arange(6) % 3 < 2
    scores = score(asked, p, label_map(), neutral)
    by = {rule: ruled(scores, refused, was_read, rule) for rule in get_args(RefusalRule)}
    for name in ("cosine", "expected_cosine"):
        np.testing.assert_array_equal(getattr(by["zero"], name)[:3], [0.0, 0.0, np.nan])
        np.testing.assert_array_equal(getattr(by["drop"], name)[:3], [np.nan] * 3)
        np.testing.assert_array_equal(getattr(by["as_read"], name), getattr(scores, name))
        for found in by.values():
            np.testing.assert_array_equal(getattr(found, name)[3:], getattr(scores, name)[3:])
    assert scores.cosine[0] > 0.99
    assert math.isnan(by["zero"].read_valence[0])  # no direction was read


def test_half_sadness_and_half_relief_point_where_no_label_lies() -> None:
    sleepy = np.array([[0.0, -1.0]])
    both = 0.5 * one_hot("sadness") + 0.5 * one_hot("relief")
    found = score(sleepy, both, label_map())
    assert found.direction_cosine[0] > 0.99 > ceiling(Affect(0.0, -1.0), label_map()) > found.expected_cosine[0]


def test_the_scale_of_the_probabilities_does_not_matter_to_a_sigmoid_reader() -> None:
    p, asked = readings(50), states(128)
    found, doubled = score(asked, p, label_map()), score(asked, p * np.float32(2), label_map())
    np.testing.assert_array_equal(found.expected_cosine, doubled.expected_cosine)
    np.testing.assert_array_equal(found.cosine, doubled.cosine)


@settings(max_examples=50)
@given(st.floats(0, 360, exclude_max=True), st.sampled_from(shipped_maps()))
def test_no_label_reaches_beyond_the_ceiling_and_one_reaches_it(angle: float, name: str) -> None:
    state, labels = Affect.at(angle), label_map(name)
    reached = score(np.tile([[state.valence, state.arousal]], (28, 1)), np.eye(28, dtype=np.float32), labels).cosine
    assert reached[:NEUTRAL].max() == ceiling(state, labels)
    assert max(cosine(state, place.affect) for place in labels.places if place.affect) == ceiling(state, labels)


@pytest.mark.parametrize("name", shipped_maps())
def test_a_ceiling_is_the_same_at_every_intensity(name: str) -> None:
    for state in around_the_circle(12):
        assert ceiling(state.scaled(0.25), label_map(name)) == pytest.approx(ceiling(state, label_map(name)), abs=1e-9)
        assert 0.5 < ceiling(state, label_map(name)) <= 1.0


@pytest.mark.parametrize("neutral", ZERO_OR_DROP)
@pytest.mark.parametrize("name", shipped_maps())
def test_a_projection_is_the_expected_length_along_what_was_asked_for(name: str, neutral: NeutralRule) -> None:
    rows, labels = readings(20), label_map(name)
    asked = states(len(rows))
    found = projections(asked, rows, labels, neutral)
    for (v, a), row, projection in zip(asked.tolist(), rows.tolist(), found, strict=True):
        length, along, total = math.hypot(v, a), 0.0, 0.0
        for place, p in zip(labels.places, row, strict=True):
            if place.affect is not None:
                along += p * (place.affect.valence * v + place.affect.arousal * a) / length
            if place.affect is not None or neutral == "zero":
                total += p
        assert projection == pytest.approx(along / total if total else math.nan, abs=1e-6, nan_ok=True)


def test_a_projection_knows_how_far_out_a_reading_lies_and_the_cosine_does_not() -> None:
    asked = np.array([[0.5, 0.0], [0.5, 0.0]])
    felt = np.array([[0.2, 0.1], [0.8, 0.4]])
    none = np.full((2, 28), np.nan, dtype=np.float32)
    assert projections(asked, none, label_map(), felt=felt) == pytest.approx([0.2, 0.8])
    near, far = score(asked, none, label_map(), felt=felt).cosine
    assert near == pytest.approx(far)


def test_where_all_labels_lie_at_length_one_a_projection_is_the_expected_cosine() -> None:
    rows = readings(20)
    asked = states(len(rows))
    assert projections(asked, rows, label_map()) == pytest.approx(score(asked, rows, label_map()).expected_cosine)


def test_a_reading_without_a_direction_has_no_length_or_no_projection() -> None:
    felt, none = np.array([[0.0, 0.0]]), np.full((1, 28), np.nan, dtype=np.float32)
    assert projections(UP, none, label_map(), "zero", felt) == pytest.approx([0.0])
    assert math.isnan(projections(UP, none, label_map(), "drop", felt)[0])
    assert math.isnan(projections(UP, none, label_map())[0])
    assert projections(UP, one_hot("neutral"), label_map()) == pytest.approx([0.0])
    assert math.isnan(projections(UP, one_hot("neutral"), label_map(), "drop")[0])
