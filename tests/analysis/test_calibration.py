"""Is a reader as sure as it should be: against hand-made cases and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics

from emoray.analysis.calibration import (
    HumanReads,
    Probabilities,
    calibration_error_spread,
    ceilings_at,
    cosine_errors,
    cosine_per_label,
    empirical_ceilings,
    expected_calibration_error,
    fitted_temperature,
    human_reads,
    log_loss,
    on_human_text,
    one_of_many,
    reliability,
    temperature_error,
    tempered,
)
from emoray.analysis.classification import Indices, quality
from emoray.study.circumplex import cosines
from emoray.study.goemotions import LABELS, NEUTRAL, label_map
from emoray.study.scoring import NeutralRule, top_labels

JOY, SADNESS, ANGER = (LABELS.index(label) for label in ("joy", "sadness", "anger"))


def drawn(rng: np.random.Generator, n: int = 4000, temperature: float = 1.0) -> tuple[Indices, Probabilities]:
    """True labels drawn from soft-max probabilities: a perfectly calibrated reader, made too sure by a temperature."""
    logits = 2 * rng.standard_normal((n, len(LABELS)))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = (chances.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return true, tempered(chances.astype(np.float32), temperature)


def test_a_calibrated_reader_has_hardly_any_error_and_a_too_sure_one_has() -> None:
    true, honest = drawn(np.random.default_rng(1))
    assert expected_calibration_error(true, honest) < 0.03
    assert expected_calibration_error(true, tempered(honest, 0.3)) > 0.2


def test_the_error_is_the_gap_between_confidence_and_accuracy() -> None:
    sure = np.zeros((10, 28), dtype=np.float32)
    sure[:, JOY] = 0.9
    true = np.array([JOY] * 6 + [ANGER] * 4)
    assert expected_calibration_error(true, sure) == pytest.approx(0.3)
    (one,) = reliability(true, sure)
    assert (one.readings, one.accuracy) == (10, 0.6)
    assert one.low <= one.confidence <= one.high


def test_a_reader_that_is_quite_sure_falls_into_the_last_bin() -> None:
    (one,) = reliability(np.array([JOY]), np.eye(28, dtype=np.float32)[[JOY]])
    assert (one.high, one.accuracy) == (1.0, 1.0)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_fitted_temperature_undoes_the_one_that_was_put_in(temperature: float) -> None:
    true, chances = drawn(np.random.default_rng(2), temperature=temperature)
    fitted = fitted_temperature(true, chances)
    assert fitted == pytest.approx(1 / temperature, rel=0.1)
    mended = tempered(chances, fitted)
    assert expected_calibration_error(true, mended) < 0.03
    np.testing.assert_array_equal(mended.argmax(axis=1), chances.argmax(axis=1))


def test_the_log_loss_is_scikit_learns() -> None:
    true, chances = drawn(np.random.default_rng(3), n=500)
    theirs = metrics.log_loss(true, chances / chances.sum(axis=1, keepdims=True), labels=range(28))
    assert log_loss(true, chances) == pytest.approx(theirs, rel=1e-5)


def test_a_temperature_of_one_changes_nothing() -> None:
    _, chances = drawn(np.random.default_rng(4), n=50)
    np.testing.assert_allclose(tempered(chances, 1.0), chances, atol=1e-6)


def test_cosine_per_label_is_one_where_it_is_read_rightly_and_zero_for_neutral_readings() -> None:
    true, read = np.array([JOY, JOY, SADNESS, NEUTRAL]), np.array([JOY, NEUTRAL, SADNESS, JOY])
    found = cosine_per_label(true, label_map().vectors()[read], label_map())
    assert found[JOY] == pytest.approx(0.5)
    assert found[SADNESS] == pytest.approx(1.0)
    assert math.isnan(found[NEUTRAL])
    assert math.isnan(found[ANGER])


def test_an_empirical_ceiling_is_what_the_reader_scores_on_people_who_felt_so() -> None:
    places = label_map()
    joy = places.places[JOY].affect
    assert joy is not None
    perfect = np.eye(28, dtype=np.float32)
    true = np.array([JOY, JOY, SADNESS])
    at_joy, at_opposite = empirical_ceilings(
        np.array([joy.angle_deg, joy.angle_deg + 60.0]), true, perfect[true], places, reach_deg=10.0
    )
    assert at_joy.texts == 2
    assert at_joy.top == pytest.approx(1.0)
    assert at_joy.expected == pytest.approx(1.0)
    assert at_opposite.texts == 0
    assert math.isnan(at_opposite.top)
    half_wrong = perfect[np.array([JOY, NEUTRAL, SADNESS])]
    (half,) = empirical_ceilings(np.array([joy.angle_deg]), true, half_wrong, places, reach_deg=10.0)
    assert half.top == pytest.approx(0.5)


def sigmoid(logits: npt.NDArray[np.float64]) -> Probabilities:
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def test_the_temperature_of_a_multi_label_head_divides_its_logits_and_is_found_again() -> None:
    rng = np.random.default_rng(5)
    true = rng.integers(len(LABELS), size=4000)
    logits = 1.5 * rng.standard_normal((4000, len(LABELS))) - 3.0
    chances = 1 / (1 + np.exp(-logits))
    labels = (
        rng.random(chances.shape) < chances
    )  # a perfectly calibrated head; comments with exactly one label are kept
    single = labels.sum(axis=1) == 1
    true, logits = labels[single].argmax(axis=1), logits[single]
    assert not one_of_many(sigmoid(logits))
    np.testing.assert_allclose(tempered(sigmoid(logits), 2.0), sigmoid(logits / 2.0), atol=1e-5)
    honest, too_sure = (fitted_temperature(true, sigmoid(some)) for some in (logits, 3.0 * logits))
    assert too_sure == pytest.approx(3.0 * honest, rel=0.05)
    assert (tempered(sigmoid(logits), 2.0).argmax(axis=1) == logits.argmax(axis=1)).all()


def test_under_the_rule_that_drops_neutral_readings_a_ceiling_drops_them_too() -> None:
    places = label_map().vectors()
    joy = math.degrees(math.atan2(places[JOY, 1], places[JOY, 0]))
    true, read = np.array([JOY, JOY]), places[[JOY, NEUTRAL]]
    reads = human_reads(true, read, read, label_map())
    (zero,), (drop,) = (ceilings_at(np.array([joy]), reads, rule, reach_deg=1.0) for rule in RULES)
    assert zero.texts == 2
    assert zero.top == pytest.approx(0.5)
    assert drop.top == pytest.approx(1.0)


RULES: tuple[NeutralRule, ...] = ("zero", "drop")


def test_sums_per_label_give_the_mean_cosine_at_any_state() -> None:
    rng = np.random.default_rng(6)
    true, read = rng.integers(27, size=500), rng.integers(28, size=500)
    vectors = label_map().vectors()
    reads = human_reads(true, vectors[read], vectors[read], label_map())
    states = [17.0, 203.0, 349.0]
    for state_deg, found in zip(states, ceilings_at(np.array(states), reads), strict=True):
        assert found.state_deg == state_deg
        state = np.array([math.cos(math.radians(found.state_deg)), math.sin(math.radians(found.state_deg))])
        near = vectors[true] @ state >= math.cos(math.radians(30.0)) * np.hypot(*vectors[true].T) - 1e-12
        plain = np.nan_to_num(vectors[read[near]] @ state / np.hypot(*vectors[read[near]].T))
        assert found.texts == near.sum()
        assert found.top == pytest.approx(plain.mean())


def again(rng: np.random.Generator, true: Indices, chances: Probabilities) -> tuple[Indices, Probabilities]:
    """Other comments of the same kind: drawn with replacement."""
    some = rng.integers(len(true), size=len(true))
    return true[some], chances[some]


def test_standard_errors_are_what_other_comments_of_the_kind_would_change() -> None:
    true, chances = drawn(np.random.default_rng(11), n=800, temperature=0.7)
    read = label_map().vectors()[top_labels(chances)]
    found = [list(figures(*again(np.random.default_rng(seed), true, chances)).values()) for seed in range(60)]
    quality_ = quality(true, top_labels(chances), label_map())
    errors = [
        quality_.accuracy_error,
        quality_.macro_f1_error,
        quality_.cosine_neutral_zero_error,
        quality_.cosine_neutral_dropped_error,
        calibration_error_spread(true, chances),
        cosine_errors(true, read, label_map())[JOY],
    ]
    assert errors == pytest.approx(np.std(found, axis=0, ddof=1).tolist(), rel=0.4)


def figures(true: Indices, chances: Probabilities) -> dict[str, float]:
    kept, places = top_labels(chances), label_map()
    one = quality(true, kept, places)
    return {
        "accuracy": one.accuracy,
        "macro_f1": one.macro_f1,
        "zero": one.cosine_neutral_zero,
        "dropped": one.cosine_neutral_dropped,
        "calibration": expected_calibration_error(true, chances),
        "joy": float(cosine_per_label(true, places.vectors()[kept], places)[JOY]),
    }


def test_the_standard_error_of_a_temperature_is_what_other_comments_would_make_of_it() -> None:
    true, chances = drawn(np.random.default_rng(14), n=150, temperature=0.7)
    found = [fitted_temperature(*again(np.random.default_rng(seed), true, chances)) for seed in range(25)]
    told = temperature_error(true, chances, fitted_temperature(true, chances))
    assert told == pytest.approx(float(np.std(found, ddof=1)), rel=0.5)


def test_the_errors_of_human_text_are_those_of_its_single_cosines() -> None:
    rng = np.random.default_rng(13)
    true, read = rng.integers(27, size=900), rng.integers(28, size=900)
    vectors = label_map().vectors()
    reads = human_reads(true, vectors[read], vectors[read], label_map())
    states = np.array([17.0, 40.0, 203.0])
    found = on_human_text(states, reads)
    near = [np.abs((reads.angles_deg - state + 180) % 360 - 180) <= 30.0 for state in states]
    turns = np.radians(np.repeat(states, len(read)))
    asked = np.column_stack([np.cos(turns), np.sin(turns)])
    scores = np.nan_to_num(cosines(asked, np.tile(vectors[read], (3, 1)))).reshape(3, -1)
    moves = np.array(
        [
            np.where(some[true], one - one[some[true]].mean(), 0.0) / some[true].sum()
            for one, some in zip(scores, near, strict=True)
        ]
    )
    n = np.array([some[true].sum() for some in near])
    sampled = moves @ moves.T * np.sqrt(np.outer(n / (n - 1), n / (n - 1)))
    np.testing.assert_allclose(found.covariance, sampled, rtol=0.02)  # a little of what all states vary by is in it
    assert (np.diag(found.covariance) >= np.diag(sampled) - 1e-12).all()
    assert found.covariance[0, 1] > 0  # neighbours share texts
    errors = [one.top_error for one in ceilings_at(states, reads)]
    assert errors == pytest.approx(np.sqrt(np.diag(found.covariance)).tolist())


def reads_as(*texts: tuple[int, int]) -> HumanReads:
    """Of human texts: (their label, the label that was read)."""
    true, read = np.array(texts).T
    places = label_map().vectors()[read]
    return human_reads(true, places, places, label_map())


def test_few_human_texts_that_were_read_alike_by_chance_do_not_promise_that_all_will_be() -> None:
    reads = reads_as(*[(JOY, JOY)] * 3, *[(SADNESS, SADNESS)] * 40, *[(SADNESS, JOY)] * 20, (ANGER, ANGER))
    states = reads.angles_deg[[JOY, SADNESS, ANGER]]
    with np.errstate(all="raise"):
        joy, sadness, anger = ceilings_at(states, reads, reach_deg=1.0)
    cosine = math.cos(math.radians(states[0] - states[1]))
    spread = 40 * 20 / 60 / 59 * (1 - cosine) ** 2
    pooled = 59 * spread / 61
    assert [one.texts for one in (joy, sadness, anger)] == [3, 60, 1]
    assert sadness.top_error == pytest.approx(math.sqrt(spread / 60))
    assert joy.top_error == pytest.approx(math.sqrt(6 * pooled / 8 / 3))
    assert anger.top_error == pytest.approx(math.sqrt(pooled))


def test_human_texts_that_were_all_read_alike_tell_of_no_error() -> None:
    reads = reads_as(*[(JOY, SADNESS)] * 7)
    with np.errstate(all="raise"):
        (found,) = ceilings_at(reads.angles_deg[[JOY]], reads, reach_deg=1.0)
    assert math.isnan(found.top_error)
    assert math.isfinite(found.top)


def test_a_label_with_few_comments_that_were_read_alike_errs_as_others_do() -> None:
    true = np.array([JOY] * 3 + [SADNESS] * 60 + [ANGER])
    read = label_map().vectors()[[JOY] * 3 + [SADNESS] * 40 + [JOY] * 20 + [ANGER]]
    found = cosine_errors(true, read, label_map())
    spread = cosines(label_map().vectors()[true[3:63]], read[3:63]).var(ddof=1)
    assert found[SADNESS] == pytest.approx(math.sqrt(spread / 60))
    assert found[JOY] == pytest.approx(math.sqrt(6 * 59 * spread / 61 / 8 / 3))
    assert math.isnan(found[ANGER])
