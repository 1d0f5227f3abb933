"""Readers of the same answers: measures against textbook values and independent libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emoray.analysis.agreement import (
    Conclusion,
    circular_correlation,
    conclusions,
    correlation,
    difference,
    krippendorff_alpha,
    mean_turn_deg,
    pairs,
    rank_agreement,
    rank_correlation,
    surviving_share,
)
from emoray.analysis.paired import differences

NAN = math.nan
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", C: four observers, twelve units
FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def test_alpha_is_krippendorffs_own_example() -> None:
    assert krippendorff_alpha(FOUR_OBSERVERS, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(FOUR_OBSERVERS, "interval") == pytest.approx(0.849, abs=5e-4)


def test_alpha_is_one_for_one_voice_and_nothing_where_nothing_can_differ() -> None:
    same = np.repeat(np.arange(5.0)[:, None], 3, axis=1)
    assert krippendorff_alpha(same) == krippendorff_alpha(same, "nominal") == 1.0
    assert math.isnan(krippendorff_alpha(np.ones((4, 2))))
    assert math.isnan(krippendorff_alpha(np.array([[1.0, NAN], [NAN, 2.0]])))


def test_alpha_of_noise_is_about_zero() -> None:
    rng = np.random.default_rng(1)
    assert abs(krippendorff_alpha(rng.standard_normal((4000, 3)))) < 0.03
    assert abs(krippendorff_alpha(rng.integers(5, size=(4000, 3)).astype(float), "nominal")) < 0.03


@given(shift=st.floats(-1e6, 1e6), scale=st.floats(0.01, 100))
def test_alpha_does_not_care_about_the_scale(shift: float, scale: float) -> None:
    moved = krippendorff_alpha(FOUR_OBSERVERS * scale + shift)
    assert moved == pytest.approx(krippendorff_alpha(FOUR_OBSERVERS), abs=1e-6)


def test_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal(50)
    b = a + rng.standard_normal(50)
    assert correlation(a, b) == pytest.approx(stats.pearsonr(a, b).statistic)
    tied = np.round(b)
    assert rank_correlation(a, tied) == pytest.approx(stats.spearmanr(a, tied).statistic)
    assert correlation(np.append(a, NAN), np.append(b, 1.0)) == pytest.approx(correlation(a, b))
    assert math.isnan(correlation(a[:2], b[:2]))
    assert math.isnan(correlation(a, np.ones(50)))


def test_angles_that_turn_together_correlate_whatever_their_zero() -> None:
    rng = np.random.default_rng(3)
    for a in (rng.uniform(0, 360, 400), rng.uniform(0, 144, 400)):  # all around, and of a mean direction
        assert circular_correlation(a, (a + 200) % 360) == pytest.approx(1)
        assert circular_correlation(a, -a % 360) == pytest.approx(-1)
        assert abs(circular_correlation(a, rng.permutation(a))) < 0.15
    assert math.isnan(circular_correlation(a, np.full(400, 77.0)))
    assert mean_turn_deg(np.array([350.0, 10.0, NAN]), np.array([10.0, 350.0, 3.0])) == 20


def test_readers_of_evenly_spread_states_agree_whatever_the_noise_and_the_zero() -> None:
    """Twelve evenly spread states have no mean direction; readers that each err by 20 degrees agree by e^(-2 s^2)."""
    asked = np.tile(np.arange(0.0, 360.0, 30.0), 100)
    for seed in range(20):
        a, b = asked + 20 * np.random.default_rng(seed).standard_normal((2, len(asked)))
        found = circular_correlation(a, b)
        assert found == pytest.approx(math.exp(-2 * math.radians(20) ** 2), abs=0.05)
        assert circular_correlation(a + 111, b) == pytest.approx(found)
        assert circular_correlation(a, b - 37) == pytest.approx(found)
        assert circular_correlation(b, a) == pytest.approx(found)


def test_the_circular_correlation_is_that_of_all_pairs_of_answers() -> None:
    a, b = np.radians(np.random.default_rng(7).uniform(0, 360, (2, 30)))
    i, j = np.triu_indices(30, 1)
    x, y = np.sin(a[i] - a[j]), np.sin(b[i] - b[j])
    by_pairs = (x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum())
    assert circular_correlation(np.degrees(a), np.degrees(b)) == pytest.approx(by_pairs)


def test_pairs_of_readers_say_how_they_agree_on_answers_and_on_cells() -> None:
    rng = np.random.default_rng(4)
    cells = np.repeat(np.arange(40), 10)
    truth = rng.standard_normal(40)[cells]
    scores = np.stack([truth + rng.standard_normal(400) for _ in range(3)], axis=1)
    scores[7, 1] = NAN
    found = pairs(["x", "y", "z"], scores, np.degrees(np.arctan(scores)), cells)
    assert [(one.first, one.second, one.answers) for one in found] == [
        ("x", "y", 399),
        ("x", "z", 400),
        ("y", "z", 399),
    ]
    assert all(one.cell_correlation > one.correlation + 0.2 for one in found)
    means = scores[:, [0, 2]].reshape(40, 10, 2).mean(axis=1)
    assert found[1].cell_correlation == pytest.approx(stats.pearsonr(*means.T).statistic)


def test_kendalls_w_is_one_for_one_order_and_follows_the_mean_rank_correlation() -> None:
    rng = np.random.default_rng(5)
    order = np.arange(6.0)
    assert rank_agreement(np.stack([order, 2 * order, order**3])) == pytest.approx(1)
    assert rank_agreement(np.stack([order, order[::-1]])) == pytest.approx(0)
    means = rng.standard_normal((4, 9))
    rhos = [stats.spearmanr(means[i], means[j]).statistic for i in range(4) for j in range(i)]
    assert rank_agreement(means) == pytest.approx((np.mean(rhos) * 3 + 1) / 4)
    assert math.isnan(rank_agreement(means[:1]))


def test_a_conclusion_survives_when_every_reader_draws_it() -> None:
    rng = np.random.default_rng(6)
    noise = 0.02 * rng.standard_normal((5, 10, 1))
    found = conclusions(
        {
            "one": {"good": 0.6 + noise[0], "fair": 0.3 + noise[1], "poor": noise[2]},
            "two": {"good": 0.5 + noise[3], "fair": 0.7 + noise[4], "poor": noise[2]},
        }
    )
    by_name = {one.what: one for one in found}
    assert by_name["good expresses the states"].survives
    assert dict(by_name["poor expresses the states"].verdicts) == {"one": "open", "two": "open"}
    assert dict(by_name["good above fair"].verdicts) == {"one": "yes", "two": "no"}
    assert not by_name["good above fair"].survives
    assert by_name["fair above poor"].survives
    assert not by_name["poor expresses the states"].survives  # what nobody concludes is no conclusion
    assert surviving_share(found) == pytest.approx(4 / 5)


def test_of_many_pairs_only_those_are_told_apart_that_holms_correction_leaves() -> None:
    rng = np.random.default_rng(8)
    models = {f"m{i}": rng.standard_normal((10, 12)) for i in range(12)}
    verdicts = {one.what: one.verdicts["r"] for one in conclusions({"r": models}) if " above " in one.what}
    for one in differences(models):
        assert (verdicts[f"{one.a} above {one.b}"] == "open") == (one.p_holm > 0.05)
    assert min(one.p for one in differences(models)) < 0.05
    assert set(verdicts.values()) == {"open"}


def test_an_order_of_two_models_is_the_same_whichever_a_reader_met_first() -> None:
    noise = np.linspace(-0.02, 0.02, 5)[:, None]
    good, poor = 0.6 + noise, 0.1 - noise
    *_, order = conclusions({"one": {"good": good, "poor": poor}, "two": {"poor": poor, "good": good}})
    assert order == Conclusion("good above poor", {"one": "yes", "two": "yes"})


def test_a_reader_that_has_not_read_a_model_has_no_verdict() -> None:
    (single,) = conclusions({"one": {"a": np.full((5, 1), 0.5)}, "two": {}})
    assert single == Conclusion("a expresses the states", {"one": "yes", "two": "unknown"})
    assert not single.survives
    assert math.isnan(surviving_share([single]))


def test_readers_differ_by_a_paired_difference_over_questions() -> None:
    a = np.array([0.5, 0.7, 0.2])
    found = difference(a, a - 0.1)
    assert found.estimate == pytest.approx(0.1)
    assert found.half_width == pytest.approx(0, abs=1e-12)
