"""Agreement of readers: chance is 0, independent errors are no disagreement of another kind, and intervals hold."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from emoray.analysis.agreement import krippendorff_alpha
from emoray.analysis.concord import direction_alpha, order_agreement, order_interval, order_p, score_alpha
from emoray.study.circumplex import Array

NAN = math.nan


def readings(rng: np.random.Generator, questions: int, answers: int, spread_deg: Array) -> tuple[Array, Array]:
    """Two readers that err independently around each answer's direction, by how much depends on the question."""
    truth = rng.choice(np.arange(0.0, 360.0, 30.0), size=(questions, answers, 1))
    angles = truth + spread_deg[:, None, None] * rng.standard_normal((questions, answers, 2))
    return angles.reshape(-1, 2) % 360, np.repeat(np.arange(questions), answers)


def test_alpha_of_directions_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    angles = rng.uniform(0, 360, (12, 3))
    angles[2, 0] = angles[5, 1] = angles[7, 1] = angles[7, 2] = NAN
    lines = [row[~np.isnan(row)] for row in angles if (~np.isnan(row)).sum() > 1]
    every = np.concatenate(lines)

    def apart(some: Array) -> float:
        return sum(2 * (1 - math.cos(math.radians(a - b))) for a, b in itertools.combinations(some, 2))

    seen = sum(apart(line) / (len(line) - 1) for line in lines) / len(every)
    expected = apart(every) / len(every) / (len(every) - 1)
    found = direction_alpha(angles, np.arange(12) % 4)
    assert found.estimate == pytest.approx(1 - seen / expected, abs=1e-12)


def test_alpha_of_directions_is_krippendorffs_for_intervals_on_the_two_coordinates() -> None:
    rng = np.random.default_rng(2)
    angles = np.radians(rng.uniform(0, 360, (50, 2)))
    both = [of(angles) for of in (np.cos, np.sin)]
    spread = [float(np.var(one, ddof=1)) for one in both]
    weighted = sum(krippendorff_alpha(one) * of for one, of in zip(both, spread, strict=True)) / sum(spread)
    assert direction_alpha(np.degrees(angles), np.zeros(50)).estimate == pytest.approx(weighted, abs=1e-12)


def test_alpha_of_scores_is_krippendorffs_for_intervals() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(0.7, 0.2, (60, 1)) + rng.normal(0.0, 0.2, (60, 3))
    scores[rng.random(scores.shape) < 0.2] = np.nan
    found = score_alpha(scores, np.arange(60) % 6)
    assert found.estimate == pytest.approx(krippendorff_alpha(scores), abs=1e-12)
    assert found.low < found.estimate < found.high < 1
    assert math.isnan(score_alpha(np.full((4, 2), 0.3), np.arange(4)).estimate)


def test_the_interval_of_the_alpha_of_scores_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(600):
        true = np.repeat(rng.normal(0.0, 0.3, 12), 20) + rng.normal(0.0, 0.4, 240)
        found = score_alpha(true[:, None] + rng.normal(0.0, 0.5, (240, 2)), np.repeat(np.arange(12), 20))
        inside += found.low <= 0.5 <= found.high  # .25 of what questions and answers vary by, and as much of error
    assert 0.92 <= inside / 600 <= 0.975


def test_alpha_of_one_voice_is_one_and_of_noise_about_zero() -> None:
    rng = np.random.default_rng(3)
    angles = rng.uniform(0, 360, (3000, 1))
    questions = np.arange(3000) % 10
    same = direction_alpha(np.repeat(angles, 2, axis=1), questions)
    assert (same.estimate, same.low, same.high) == (1.0, 1.0, 1.0)
    noise = direction_alpha(rng.uniform(0, 360, (3000, 2)), questions)
    assert noise.low < 0 < noise.high
    assert abs(noise.estimate) < 0.06
    assert math.isnan(direction_alpha(np.full((4, 2), 30.0), questions[:4]).estimate)
    assert math.isnan(direction_alpha(angles[:1], questions[:1]).estimate)


def test_the_interval_of_alpha_holds_what_it_promises() -> None:
    """Questions differ in how clear they are; the truth is that of very many of them."""
    rng = np.random.default_rng(4)
    truth = direction_alpha(*readings(rng, 4000, 60, rng.uniform(15.0, 55.0, 4000))).estimate
    hits = 0
    for _ in range(500):
        found = direction_alpha(*readings(rng, 10, 24, rng.uniform(15.0, 55.0, 10)))
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 500 <= 0.98


def test_the_order_is_corrected_for_chance() -> None:
    rng = np.random.default_rng(5)
    means = rng.standard_normal((3, 7))
    rhos = [stats.spearmanr(means[i], means[j]).statistic for i in range(3) for j in range(i)]
    assert order_agreement(means) == pytest.approx(np.mean(rhos), abs=1e-12)
    drawn = [order_agreement(one) for one in rng.standard_normal((1000, 3, 7))]
    assert abs(np.mean(drawn)) < 0.03
    assert math.isnan(order_agreement(means[:1]))
    assert math.isnan(order_agreement(means[:, :1]))


def test_the_p_of_an_order_is_exact_for_few_models_and_near_friedmans_for_many() -> None:
    same = np.tile(np.arange(4.0), (2, 1))
    assert order_p(same) == pytest.approx(1 / 24)
    assert order_p(np.stack([same[0], -same[0]])) == 1.0
    means = np.random.default_rng(6).standard_normal((5, 12)) + np.linspace(0, 1.2, 12)
    assert order_p(means) == pytest.approx(stats.friedmanchisquare(*means.T).pvalue, abs=0.02)
    assert math.isnan(order_p(means[:, :1]))


def test_readers_that_know_nothing_of_one_another_seldom_agree_by_the_p() -> None:
    found = np.array([order_p(one) for one in np.random.default_rng(7).standard_normal((200, 2, 5))])
    assert 0.01 <= (found <= 0.05).mean() <= 0.08


def test_the_interval_of_an_order_says_how_little_a_few_questions_tell() -> None:
    rng = np.random.default_rng(8)
    clear = np.linspace(0, 0.6, 5)[None, :, None] + 0.02 * rng.standard_normal((3, 5, 10))
    sure = order_interval(clear)
    assert (sure.estimate, sure.low, sure.high) == (1.0, 1.0, 1.0)
    vague = order_interval(clear + 0.6 * rng.standard_normal((3, 5, 10)))
    assert vague.low < vague.estimate < vague.high <= 1.0
    assert vague.high - vague.low > 0.3
    assert math.isnan(order_interval(clear[:, :, :1]).low)
