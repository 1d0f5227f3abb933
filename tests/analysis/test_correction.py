"""A few human labels take a reader's bias out of the means, and the intervals hold what they promise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats

from emoray.analysis.additive import Additive, one_line
from emoray.analysis.correction import (
    Labelled,
    corrected_differences,
    corrected_mean,
    corrected_means,
    corrected_questions,
)
from emoray.analysis.intervals import question_means
from emoray.study.circumplex import Array

MU = 0.4


def experiment(
    rng: np.random.Generator, *, questions: int = 10, asks: int = 60, labelled: int = 15, of_questions: int = 10
) -> tuple[Array, Array]:
    """What a biased, noisy reader reads of answers, and what people say of a few of them."""
    truth = MU + 0.15 * rng.standard_normal((questions, 1)) + 0.4 * rng.standard_normal((questions, asks))
    bias = -0.3 + 0.1 * rng.standard_normal((questions, 1))
    scores = truth + bias + 0.25 * rng.standard_normal((questions, asks))
    human = np.full_like(truth, np.nan)
    human[:of_questions, :labelled] = truth[:of_questions, :labelled] + 0.2 * rng.standard_normal(
        (of_questions, labelled)
    )
    return scores, human


def coverage(rng: np.random.Generator, runs: int = 1500, **design: int) -> tuple[float, float]:
    """How often the corrected and the raw 95 % interval hold the truth."""
    hits = np.zeros(2)
    for _ in range(runs):
        found = corrected_mean(*experiment(rng, **design))
        hits += [one.low <= MU <= one.high for one in (found.corrected, found.raw)]
    return float(hits[0] / runs), float(hits[1] / runs)


@pytest.mark.parametrize(
    "design",
    [
        {},
        {"labelled": 3},
        pytest.param({"of_questions": 5}, marks=pytest.mark.campaign),
        {"questions": 30, "of_questions": 12, "labelled": 5},
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says_and_the_readers_own_does_not(design: dict[str, int]) -> None:
    corrected, raw = coverage(np.random.default_rng(3), **design)
    assert 0.93 <= corrected <= 0.975
    assert raw < 0.3


def test_with_every_question_labelled_alike_it_is_nearly_students_t_on_corrected_question_means() -> None:
    """But for what the tuning of lambda costs."""
    scores, human = experiment(np.random.default_rng(1))
    found = corrected_mean(scores, human)
    assert 0.5 < found.tuned < 1
    per_question = found.tuned * scores.mean(axis=1) + np.nanmean(human - found.tuned * scores, axis=1)
    assert found.corrected.estimate == pytest.approx(per_question.mean())
    error = per_question.std(ddof=1) / math.sqrt(10)
    assert found.corrected.half_width == pytest.approx(2.262157 * error, rel=0.03)


def test_a_reader_that_knows_nothing_is_not_trusted_and_does_no_harm() -> None:
    rng, widths = np.random.default_rng(12), []
    for _ in range(100):
        scores, human = experiment(rng)
        found = corrected_mean(rng.permuted(scores.ravel()).reshape(scores.shape), human)
        widths.append((found.corrected.half_width, found.human.half_width, found.tuned))
    corrected, alone, trust = np.mean(widths, axis=0)
    assert trust < 0.2
    assert corrected < 1.05 * alone


def few_labels(rng: np.random.Generator, repetitions: int = 3) -> Labelled:
    """Some 22 of the answers to ten questions, spread over them by chance: scores of labels, skewed and with zeros."""
    skill = 0.75 + 0.11 * rng.standard_normal((10, 1))
    shape = (10, 12 * repetitions)
    truth = np.where(
        rng.random(shape) < skill, rng.choice([0.6, 0.9, 1.0], shape), rng.choice([-1.0, -0.5, 0.0, 0.5], shape)
    )
    truth *= rng.random(shape) < 0.85
    read = np.where(rng.random(shape) < 0.7, truth, rng.choice([-0.9, -0.3, 0.0, 0.7], shape))
    human = np.where(rng.random(shape) < 22 / truth.size, truth, np.nan)
    return Labelled(read.mean(axis=1), np.where(np.isnan(human), np.nan, read), human)


FEW = 0.85 * (0.75 * (0.6 + 0.9 + 1.0) / 3 + 0.25 * (-1.0) / 4)  # the mean of `few_labels`


def test_two_dozen_labels_a_model_hold_what_the_interval_promises() -> None:
    rng, hits = np.random.default_rng(13), 0
    for _ in range(500):
        one = few_labels(rng)
        found = corrected_questions(one.means, one.scores, one.human).corrected
        hits += found.low <= FEW <= found.high
    assert 0.92 <= hits / 500 <= 0.98


def test_corrected_models_that_are_equal_are_told_apart_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(14)
    found = [corrected_differences({"a": few_labels(rng), "b": few_labels(rng)})[0] for _ in range(300)]
    assert 0.02 <= np.mean([one.p <= 0.05 for one in found]) <= 0.08
    assert all((one.p <= 0.05) == (one.interval.low > 0 or one.interval.high < 0) for one in found)


def test_what_a_question_does_to_both_models_cancels_in_their_corrected_difference() -> None:
    rng = np.random.default_rng(15)
    hard = 0.5 * rng.standard_normal((10, 1))
    models = {}
    for name, mean in (("a", 0.6), ("b", 0.4)):
        truth = mean + hard + 0.1 * rng.standard_normal((10, 40))
        human = np.where(np.arange(40) < 10, truth, np.nan)
        models[name] = Labelled(truth.mean(axis=1) - 0.3, np.where(np.isnan(human), np.nan, truth - 0.3), human)
    (gap,) = corrected_differences(models)
    assert gap.interval.estimate == pytest.approx(0.2, abs=0.05)
    assert gap.interval.half_width < 0.1
    assert gap.p_holm == gap.p < 0.001


def test_raters_that_differ_widen_the_interval_as_a_sample_of_raters_does() -> None:
    """Three raters, each of whom reads everything higher or lower by 0.2 or so."""
    rng, hits, without = np.random.default_rng(16), 0, 0
    for _ in range(400):
        truth = MU + 0.1 * rng.standard_normal((10, 1)) + 0.3 * rng.standard_normal((10, 6))
        read = truth - 0.2 + 0.1 * rng.standard_normal(truth.shape)
        raters = truth + 0.2 * rng.standard_normal((3, 1, 1)) + 0.1 * rng.standard_normal((3, 10, 6))
        for by_rater in (raters, None):
            found = corrected_questions(read.mean(axis=1), read, raters.mean(axis=0), by_rater=by_rater).corrected
            inside = found.low <= MU <= found.high
            hits, without = (hits + inside, without) if by_rater is not None else (hits, without + inside)
    assert 0.92 <= hits / 400 <= 0.985
    assert without / 400 < 0.8


def test_what_the_fit_adds_to_the_mean_as_read_it_adds_to_the_corrected_one_as_far_as_that_is_trusted() -> None:
    scores, human = experiment(np.random.default_rng(17))  # every question with as many labels
    one = Labelled(scores.mean(axis=1), np.where(np.isnan(human), np.nan, scores), human)
    alone = corrected_questions(one.means, one.scores, one.human)
    wide = corrected_questions(one.means, one.scores, one.human, added=0.01)
    assert wide.corrected.estimate == alone.corrected.estimate
    t = [stats.t.ppf(0.975, freedom) for freedom in (8, 17)]  # eight, as lambda was found too, and nine more
    more = [(wide.corrected.half_width / t[0]) ** 2, (wide.corrected.half_width / t[1]) ** 2]
    assert more[0] < (alone.corrected.half_width / t[0]) ** 2 + alone.tuned**2 * 0.01 < more[1]
    unknown = corrected_questions(one.means, one.scores, one.human, added=math.nan).corrected
    assert math.isnan(unknown.low)
    gaps = [
        corrected_differences({"a": one, "b": replace(few_labels(np.random.default_rng(18)), added=added)})[0]
        for added in (0.0, 0.01)
    ]
    assert gaps[1].interval.half_width > gaps[0].interval.half_width
    assert gaps[1].p > gaps[0].p


def freedom(one: Labelled) -> float:
    """The degrees of freedom of a corrected mean, by how much wider it is at a higher level."""
    wide, narrow = (
        corrected_questions(one.means, one.scores, one.human, level).corrected.half_width for level in (0.95, 0.5)
    )
    ratio = wide / narrow
    return float(optimize.brentq(lambda df: stats.t.ppf(0.975, df) / stats.t.ppf(0.75, df) - ratio, 0.5, 100.0))


@pytest.mark.parametrize(
    ("slope", "trust", "left"), [(-1.0, 0.0, 8.0), (2.0, 1.0, 8.0), (0.5, 0.5, 8.0), (1.0, 1.0, 9.0)]
)
def test_what_lambda_costs_is_paid_wherever_it_was_found_in_the_labels(slope: float, trust: float, left: float) -> None:
    """Also where it is cut at 0 or 1; not of a perfect reader, whose lambda is no estimate."""
    rng = np.random.default_rng(20)
    scores = 0.1 * rng.standard_normal((10, 40))
    human = np.where(np.arange(40) < 8, slope * scores + 0.05 * rng.standard_normal((10, 1)) * (slope != 1.0), np.nan)
    one = Labelled(scores.mean(axis=1), np.where(np.isnan(human), np.nan, scores), human)
    assert corrected_questions(one.means, one.scores, one.human).tuned == pytest.approx(trust, abs=0.1)
    assert freedom(one) == pytest.approx(left, rel=1e-6)


def test_one_question_that_has_most_of_the_labels_leaves_few_degrees_of_freedom() -> None:
    """Questions hardly differ, so each weighs as many labels as it has: Kish's number of these is five."""
    counts = np.array([12] + [2] * 9)
    strays = 0.01 * np.array([1.0, -1.0] * 5)[:, None] + 0.2 * np.array([1.0, -1.0] * 6)
    human = np.where(np.arange(12) < counts[:, None], strays, np.nan)
    nothing = np.where(np.isnan(human), np.nan, 0.0)  # of a reader that always says the same: no lambda to be found
    assert freedom(Labelled(np.zeros(10), nothing, human)) == pytest.approx(30**2 / (12**2 + 9 * 2**2) - 1)


def test_a_perfect_reader_is_left_alone() -> None:
    scores, _ = experiment(np.random.default_rng(2))
    human = np.where(np.arange(60) < 10, scores, np.nan)
    found = corrected_mean(scores, human)
    assert found.shift == pytest.approx(0, abs=1e-12)
    assert found.tuned == 1
    assert (found.corrected.low, found.corrected.high) == pytest.approx((found.raw.low, found.raw.high))
    assert (found.labelled, found.questions) == (100, 10)


def test_many_readings_make_few_labels_go_further() -> None:
    rng = np.random.default_rng(4)
    widths = []
    for _ in range(200):
        truth = MU + 0.4 * rng.standard_normal((10, 200))
        scores = truth - 0.3 + 0.1 * rng.standard_normal(truth.shape)  # biased, but close
        human = np.where(np.arange(200) < 10, truth, np.nan)
        found = corrected_mean(scores, human)
        widths.append((found.corrected.half_width, found.human.half_width))
    corrected, alone = np.mean(widths, axis=0)
    assert corrected < 0.5 * alone


def test_where_people_said_nothing_there_is_nothing_to_say() -> None:
    scores, human = experiment(np.random.default_rng(5))
    nobody = corrected_mean(scores, np.full_like(human, np.nan))
    assert math.isnan(nobody.corrected.estimate)
    assert nobody.raw.estimate == pytest.approx(scores.mean())
    one = human.copy()
    one[1:] = np.nan
    single = corrected_mean(scores, one)
    assert not math.isnan(single.corrected.estimate)
    assert math.isnan(single.corrected.low)


def test_answers_that_nobody_could_read_are_left_out() -> None:
    scores, human = experiment(np.random.default_rng(6))
    scores[0, 0] = scores[3] = np.nan
    found = corrected_mean(scores, human)
    assert found.corrected.units == 9
    assert not math.isnan(found.corrected.low)


def test_people_alone_need_no_reader() -> None:
    scores, human = experiment(np.random.default_rng(6))
    whole = corrected_mean(scores, human)
    scores[0, 0] = scores[3] = np.nan
    found = corrected_mean(scores, human)
    assert (found.labelled, found.questions) == (150, 10)
    assert found.human == whole.human


@pytest.mark.parametrize("labelled", [3, 15])
def test_the_interval_holds_the_truth_where_people_and_reader_leave_out_other_answers(labelled: int) -> None:
    """Both find less direction in answers of low scores, the biased reader far less: so it is under `drop`."""
    rng = np.random.default_rng(11)
    truth = 0.3 + 0.15 * rng.standard_normal((4000, 1)) + 0.4 * rng.standard_normal((4000, 500))
    weight = seen_by_people(truth)
    mean = float(((truth * weight).sum(axis=1) / weight.sum(axis=1)).mean())
    hits, raw = 0, 0
    for _ in range(1500):
        truth = 0.3 + 0.15 * rng.standard_normal((10, 1)) + 0.4 * rng.standard_normal((10, 60))
        human = np.where(rng.random(truth.shape) < seen_by_people(truth), truth, np.nan)
        read = truth - 0.2 + 0.25 * rng.standard_normal(truth.shape)
        read[rng.random(truth.shape) > 1 / (1 + np.exp(-4 * (read + 0.3)))] = np.nan
        found = corrected_questions(question_means(read), read[:, :labelled], human[:, :labelled])
        hits += found.corrected.low <= mean <= found.corrected.high
        raw += found.raw.low <= mean <= found.raw.high
    assert 0.93 <= hits / 1500 <= 0.975
    assert raw / 1500 < 0.5


def seen_by_people(truth: Array) -> Array:
    """The chance that they find a direction in an answer."""
    return np.asarray(1 / (1 + np.exp(-2 * truth)))


def test_groups_are_corrected_each_by_itself() -> None:
    both = [experiment(np.random.default_rng(seed)) for seed in (7, 8)]
    found = corrected_means(np.stack([one[0] for one in both]), np.stack([one[1] for one in both]))
    assert found == [corrected_mean(*one) for one in both]


def test_means_of_questions_and_the_labelled_answers_alone_are_enough() -> None:
    scores, human = experiment(np.random.default_rng(9))
    few = ~np.isnan(human)
    found = corrected_questions(question_means(scores), np.where(few, scores, np.nan)[:, :15], human[:, :15])
    assert found.corrected == corrected_mean(scores, human).corrected
    assert found.raw.estimate == pytest.approx(scores.mean())


def test_the_reader_s_own_mean_is_the_one_that_other_tables_give_also_where_a_fit_filled_in() -> None:
    rng = np.random.default_rng(31)
    means = 0.9 + 0.3 * rng.standard_normal((10, 1)) + 0.2 * rng.standard_normal((10, 6))
    means[:5, 4:] = np.nan
    fit = Additive(means)
    lines = fit.lines(one_line(6))
    labels = np.where(rng.random((10, 3)) < 0.5, 0.5, np.nan)
    found = corrected_questions(fit.question_means, labels, labels, added=float(lines.added[0]))
    (there,) = lines.intervals(0.95)
    assert (found.raw.estimate, found.raw.low, found.raw.high) == pytest.approx((there.estimate, there.low, there.high))
    assert found.raw.high == 1.0
