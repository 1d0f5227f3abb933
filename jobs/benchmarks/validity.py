"""Do the intervals and tests of a report hold what they promise? Simulated experiments whose truth is known.

Ten questions are drawn from four thousand; the twelve states are fixed. Every answer is one of the 28 labels, so scores
are discrete and skewed; neutral is read in 10 to 30 % of the answers, more often at low arousal. Questions differ, and
suit some states better than others (three worlds); 3 % of the answers are missing, and in half of the designs a filter
takes all answers to 240° … 300° in half of the questions. People label two dozen answers a model, and then four times
as many. What is held against the truth is the report's own code. Every share stands with its Monte Carlo error.
`--experiments 300` is quick; `--out docs/validity.md` writes the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import scipy.special

from emoray.analysis import drift as drifts
from emoray.analysis.additive import Additive, one_line
from emoray.analysis.calibration import HumanReads, on_human_text
from emoray.analysis.circular import Direction, directions, v_test
from emoray.analysis.concord import order_p
from emoray.analysis.correction import Corrected, Labelled, corrected_differences, corrected_questions
from emoray.analysis.intervals import (
    Interval,
    padded,
    pooled_variance,
    question_means,
    questions_asked_again,
    ratio_bounds,
    t_bounds,
    together,
)
from emoray.analysis.looking import level_at, spent
from emoray.analysis.paired import differences, holm
from emoray.analysis.shuffled import shuffled_control
from emoray.analysis.simultaneous import Fitted, p_all_above, p_any_above
from emoray.study.circumplex import Array, around_the_circle
from emoray.study.goemotions import NEUTRAL, label_map

LEVEL = 0.95
QUESTIONS, STATES = 10, 12
_POPULATION = 4000
_CHUNK = 250  # experiments at a time
_PEOPLE = 50  # of them that people label, which takes longer than all else
_LABELS = (24, 96)  # answers of a model that people label, alike from every state
_FILTERED = slice(8, 11)  # 240°, 270°, 300°
_REPETITIONS = (1, 3, 20, 200)
_LOOKS = (1, 2, 3, 5, 8, 12, 16, 20)  # answers per prompt at each look
Codes = np.typing.NDArray[np.int64]
_FAMILY = "drift, 18 tests as a family"
_TESTS = (
    "states shuffled", "V-test of one state", "paired difference", "3 paired differences as a family",
    "the best of nine models", "drift, slope", "drift, step", _FAMILY,
)  # fmt: skip


_MORE_TESTS = (
    "change of texts", "order of six models by three readers", "V-tests of twelve states as a family",
    "every model above, one of which is not",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """How far questions lie apart, and how differently they suit the states; standard deviations of cell means."""

    questions: float
    interaction: float

    @property
    def name(self) -> str:
        return f"{self.questions:.2f} / {self.interaction:.2f}"


WORLDS = (World(0.06, 0.08), World(0.11, 0.09), World(0.18, 0.10))


@dataclass(frozen=True)
class Design:
    """One experiment: the world, the neutral rule, answers per prompt, and what is missing."""

    world: World
    neutral: str  # zero or drop
    repetitions: int
    missing: str  # random or state

    @property
    def name(self) -> str:
        return f"{self.world.name}, {self.neutral}, {self.repetitions} per prompt, missing {_MISSING[self.missing]}"


_MISSING = {"random": "at random", "state": "by state"}


@dataclass
class Shares:
    """How often something held, by experiment."""

    held: list[Array] = field(default_factory=list)

    def add(self, inside: Array) -> None:
        """(experiments,) or (experiments, lines) of held or not; NaN where there was no interval."""
        self.held.append(np.nanmean(np.asarray(inside, dtype=np.float64).reshape(len(inside), -1), axis=1))

    @property
    def experiments(self) -> int:
        return sum(map(len, self.held))

    @property
    def share(self) -> float:
        return float(np.nanmean(np.concatenate(self.held)))

    @property
    def error(self) -> float:
        """Monte Carlo: experiments are independent, lines of one are not."""
        each = np.concatenate(self.held)
        return float(np.nanstd(each) / math.sqrt(max(1, int(np.isfinite(each).sum()))))


# ── the worlds ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Model:
    """What a model says to four thousand questions: the chances of the labels, and the cell means under either rule."""

    chances: Array  # (questions, states, labels)
    truth: Mapping[str, Array]  # rule -> (questions, states)


def cosines_of_labels() -> Array:
    """(states, labels); neutral has no direction, and counts 0."""
    vectors = _vectors()
    asked = np.array([(state.valence, state.arousal) for state in around_the_circle(STATES)])
    return np.asarray(np.nan_to_num(asked @ (vectors / np.hypot(*vectors.T)[:, None]).T))


def models(world: World, rng: np.random.Generator) -> tuple[Model, Model]:
    """Two models (or one under two templates) that find the same questions hard, by and large."""
    shared = rng.standard_normal((_POPULATION, 1))
    both = [math.sqrt(0.5) * (shared + rng.standard_normal((_POPULATION, 1))) for _ in range(2)]
    first, second = (_model(world, level, hard, rng) for level, hard in zip((0.62, 0.55), both, strict=True))
    return first, second


def _model(world: World, level: float, hard: Array, rng: np.random.Generator) -> Model:
    cosines = cosines_of_labels()
    near, elsewhere = _chances(8.0 * cosines), _chances(np.full(cosines.shape, 1.0))
    arousal = np.sin(np.radians(np.arange(STATES) * 360.0 / STATES))
    neutral = np.clip((0.2 - 0.1 * arousal) * np.exp(0.2 * rng.standard_normal((_POPULATION, STATES))), 0.02, 0.5)
    gain = ((near - elsewhere) * cosines).sum(axis=1) * (0.8 + 0.1 * arousal)
    strays = world.questions * hard + world.interaction * rng.standard_normal((_POPULATION, STATES))
    skill = np.clip(level + 0.1 * arousal + strays / gain, 0.0, 1.0)[..., None]
    chances = (1.0 - neutral[..., None]) * (skill * near + (1.0 - skill) * elsewhere)
    chances[..., NEUTRAL] = neutral
    mean = (chances * cosines).sum(axis=2)
    return Model(chances, {"zero": mean, "drop": mean / (1.0 - neutral)})


def _chances(strengths: Array) -> Array:
    """Soft-max over the placed labels."""
    powers = np.exp(strengths)
    powers[:, NEUTRAL] = 0.0
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Cells:
    """Experiments of one model under one rule: (experiments, questions, states)."""

    counts: Array
    means: Array
    within: Array


def _asked(rng: np.random.Generator, experiments: int, repetitions: int, missing: str) -> np.typing.NDArray[np.int64]:
    """How many answers of each cell came back."""
    asked = rng.binomial(repetitions, 0.97, size=(experiments, QUESTIONS, STATES))
    if missing == "state":
        half = rng.permuted(np.tile(np.arange(QUESTIONS) < QUESTIONS // 2, (experiments, 1)), axis=1)
        asked[..., _FILTERED] *= ~half[..., None]
    return asked


def _cells(labels: Array, cosines: Array, neutral: str) -> Cells:
    labels = labels.copy()
    if neutral == "drop":
        labels[..., NEUTRAL] = 0
    counts = labels.sum(axis=-1)
    sums, squares = (np.einsum("eqsl,sl->eqs", labels, power) for power in (cosines, cosines**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts
    return Cells(counts, means, np.maximum(squares - sums * np.nan_to_num(means), 0.0))


# ── what is held against the truth ──────────────────────────────────────────────────────────────────────────────────


def coverages(
    world: World, repetitions: int, missing: str, experiments: int, rng: np.random.Generator
) -> dict[str, dict[str, Shares]]:
    """Neutral rule -> what -> how often its 95 % interval holds the truth."""
    pair, cosines = models(world, rng), cosines_of_labels()
    found: dict[str, dict[str, Shares]] = {"zero": {}, "drop": {}}
    for start in range(0, experiments, _CHUNK):
        n = min(_CHUNK, experiments - start)
        drawn = rng.integers(_POPULATION, size=(n, QUESTIONS))
        labels = [
            rng.multinomial(_asked(rng, n, repetitions, missing), model.chances[drawn]).astype(np.float64)
            for model in pair
        ]
        reads = [_human_reads(rng) for _ in range(n)]
        people = [_people(one[:_PEOPLE], rng) for one in labels]
        found["zero"].setdefault("direction of states", Shares()).add(_directions(labels[0][:_PEOPLE], pair[0]))
        for neutral, shares in found.items():
            first, second = (_cells(said, cosines, neutral) for said in labels)
            truth = [model.truth[neutral] for model in pair]
            for what, inside in _held(first, second, truth, drawn, reads, neutral):
                shares.setdefault(what, Shares()).add(inside)
            for what, inside in _corrected(people, [one.mean() for one in truth], neutral):
                shares.setdefault(what, Shares()).add(inside)
    return found


def steady(repetitions: int, experiments: int, rng: np.random.Generator) -> dict[str, Shares]:
    """The same of the questions of a model that says nearly always the same: 90 to 100 % of a cell's answers."""
    model = models(WORLDS[1], rng)[0]
    chances = _usually(model, 0.9 + 0.1 * rng.random((_POPULATION, STATES)), rng)
    drawn = rng.integers(_POPULATION, size=(experiments, QUESTIONS))
    found = Shares()
    found.add(_asked_again(chances, drawn, repetitions, rng))
    return {f"{repetitions} answers per prompt": found}


def unequal(repetitions: int, experiments: int, rng: np.random.Generator) -> dict[str, Shares]:
    """The same where half of the questions have one answer nearly always (97 %), and half leave much open (40 %)."""
    half = _POPULATION // 2
    share = np.where(np.arange(_POPULATION) < half, 0.97, 0.4)[:, None].repeat(STATES, axis=1)
    chances = _usually(models(WORLDS[1], rng)[0], share, rng)
    places = rng.integers(half, size=(experiments, QUESTIONS)) + np.where(np.arange(QUESTIONS) % 2, half, 0)
    held = _asked_again(chances, places, repetitions, rng)
    found = {"nearly always the same": Shares(), "much is open": Shares()}
    for place, one in enumerate(found.values()):
        one.add(held[:, place::2])
    return {f"{repetitions} answers per prompt, of questions where {what}": one for what, one in found.items()}


def _usually(model: Model, share: Array, rng: np.random.Generator) -> Array:
    """(questions, states, labels) of chances: one label's in a `share` (questions, states), else as the model's are."""
    usual = np.eye(model.chances.shape[2])[rng.permuted(model.chances, axis=0).argmax(axis=2)]
    return np.asarray(share[..., None] * usual + (1.0 - share[..., None]) * model.chances)


def _asked_again(chances: Array, drawn: Codes, repetitions: int, rng: np.random.Generator) -> Array:
    """(experiments, questions) of whether the interval of a question holds the mean of its very prompts."""
    cosines, held = cosines_of_labels(), []
    truth = (chances * cosines).sum(axis=2).mean(axis=1)
    for some in np.array_split(drawn, max(1, len(drawn) // _CHUNK)):
        labels = rng.multinomial(_asked(rng, len(some), repetitions, "random"), chances[some]).astype(np.float64)
        cells = _cells(labels, cosines, "zero")
        held.append(_questions(cells, Additive(cells.means), truth[some]))
    return np.concatenate(held)


def _held(
    first: Cells,
    second: Cells,
    truth: list[Array],
    drawn: np.typing.NDArray[np.int64],
    reads: list[HumanReads],
    neutral: str,
) -> Iterator[tuple[str, Array]]:
    whole, each = one_line(STATES), np.eye(STATES, dtype=np.bool_)
    fit = Additive(first.means)
    mean = truth[0].mean()
    yield "mean", _inside(fit, whole, np.array([mean]))
    yield "states", _inside(fit, each, truth[0].mean(axis=0), moderated=True)
    gaps = Additive(first.means - second.means)
    yield "difference", _inside(gaps, whole, np.array([mean - truth[1].mean()]), paired=True)
    both = Additive(np.concatenate([first.means, second.means], axis=2))
    templates = np.repeat(np.eye(2, dtype=np.bool_), STATES, axis=0)
    yield "conditions", _inside(both, templates, np.array([one.mean() for one in truth]))
    yield "mean over conditions", _inside(both, one_line(2 * STATES), np.array([np.mean([x.mean() for x in truth])]))
    yield "of human text", _of_human(fit, truth[0].mean(axis=0), reads, neutral)
    if (first.counts > 1).any():
        yield "questions, asked again", _questions(first, fit, truth[0][drawn].mean(axis=2))
    yield (
        "plain means of questions",
        _within(*t_bounds(question_means(first.means.reshape(-1, STATES)).reshape(len(drawn), -1)), mean),
    )
    yield "rows as independent", _rows(first, mean)


def _inside(
    fit: Additive,
    members: np.typing.NDArray[np.bool_],
    truth: Array,
    *,
    moderated: bool = False,
    paired: bool = False,
) -> Array:
    lines = fit.lines(members)
    variance, freedom = lines.variance(moderated=moderated, paired=paired)
    return _holds(lines.means, variance, freedom, truth)


def _holds(means: Array, variance: Array, freedom: Array, truth: Array, level: float = LEVEL) -> Array:
    """1 or 0; NaN without an interval."""
    reach = scipy.special.stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance)
    return np.where(np.isnan(reach), np.nan, np.abs(means - truth) <= reach + 1e-12)


def _within(_: Array, low: Array, high: Array, truth: float) -> Array:
    return np.asarray((low <= truth) & (truth <= high), dtype=np.float64)


def _questions(cells: Cells, fit: Additive, truth: Array) -> Array:
    flat = [one.reshape(len(one), -1) for one in (cells.counts, cells.within)]
    again = questions_asked_again(cells.counts, cells.within, pooled_variance(*flat))
    variance, freedom = together(again, fit.of_missing(cells.counts, cells.within))
    return _holds(fit.question_means, variance, freedom, truth)


def _rows(cells: Cells, truth: float) -> Array:
    n, sums = (one.sum(axis=(1, 2)) for one in (cells.counts, cells.counts * np.nan_to_num(cells.means)))
    mean = sums / n
    squares = (cells.within + cells.counts * np.nan_to_num(cells.means - mean[:, None, None]) ** 2).sum(axis=(1, 2))
    return _holds(mean, squares / (n - 1) / n, n - 1.0, np.asarray(truth))


# ── where readings point ────────────────────────────────────────────────────────────────────────────────────────────


def _directions(labels: Array, model: Model) -> Array:
    """(experiments, states) of whether the interval of the bias holds the true one."""
    vectors = np.nan_to_num(_vectors())
    units = vectors / np.maximum(np.hypot(*vectors.T), 1e-9)[:, None]
    directed = 1.0 - model.chances[..., NEUTRAL]
    truth = np.degrees(np.arctan2(*((model.chances @ units) / directed[..., None]).mean(axis=0).T[::-1]))
    counts, states = (
        labels.sum(axis=-1) - labels[..., NEUTRAL],
        [float(state) for state in range(0, 360, 360 // STATES)],
    )
    found = [directions(states, sums, n, LEVEL) for sums, n in zip(labels @ units, counts, strict=True)]
    return np.array([[_points(one, at) for one, at in zip(some, truth, strict=True)] for some in found])


def _points(one: Direction, truth_deg: float) -> float:
    if math.isnan(one.bias.low):
        return math.nan
    turn = (truth_deg - one.mean_deg + 180.0) % 360.0 - 180.0
    return float(one.bias.low <= one.bias.estimate + turn <= one.bias.high)


# ── corrected by people ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Read:
    """The answers of one experiment, in the order in which people would label them; (answers,) each."""

    question: Codes
    state: Codes
    said: Codes  # the label that people read
    read: Codes  # the label that the reader reads
    place: Codes  # 0 for the answer of its state that is labelled first


def _people(labels: Array, rng: np.random.Generator) -> list[Read]:
    """What a middling reader makes of (experiments, questions, states, labels) of answers."""
    return [_answers(one.astype(np.int64), rng) for one in labels]


def _answers(counts: Codes, rng: np.random.Generator) -> Read:
    question, state, said = (
        np.repeat(one.ravel(), counts.ravel()).astype(np.int64) for one in np.indices(counts.shape)
    )
    wrong = rng.random(len(said)) < _WRONG
    read = np.where(wrong, rng.integers(counts.shape[2], size=len(said)), said)
    order = np.lexsort((rng.random(len(said)), state))
    first = np.searchsorted(state[order], np.arange(STATES))
    place = np.empty(len(said), dtype=np.int64)
    place[order] = np.arange(len(said)) - first[state[order]]
    return Read(question, state, said, read, place)


def _labelled(one: Read, labels: int, neutral: str) -> Labelled:
    """As the report makes it of a run and a file of labels."""
    cosines = cosines_of_labels()
    if neutral == "drop":
        cosines[:, NEUTRAL] = np.nan
    people, reader = cosines[one.state, one.said], cosines[one.state, one.read]
    cells, there = one.question * STATES + one.state, ~np.isnan(reader)
    sums, counts = (np.bincount(cells[there], each, QUESTIONS * STATES) for each in (reader[there], None))
    with np.errstate(invalid="ignore", divide="ignore"):
        fit = Additive((sums / counts).reshape(QUESTIONS, STATES))
    mine = [np.flatnonzero((one.place < labels // STATES) & (one.question == at)) for at in range(QUESTIONS)]
    scores, human = (padded([list(column[some]) for some in mine]) for column in (reader, people))
    return Labelled(fit.question_means, scores, human, added=float(fit.lines(one_line(STATES)).added[0]))


def _corrected(people: list[list[Read]], truth: list[float], neutral: str) -> Iterator[tuple[str, Array]]:
    for labels in _LABELS:
        pairs = [[_labelled(one, labels, neutral) for one in pair] for pair in zip(*people, strict=True)]
        means = [_corrected_mean(pair[0]).corrected for pair in pairs]
        yield f"corrected, {labels} labels", _hold(means, truth[0])
        gaps = [corrected_differences({"a": a, "b": b}, LEVEL)[0].interval for a, b in pairs]
        yield f"corrected difference, {labels} labels", _hold(gaps, truth[0] - truth[1])


def _corrected_mean(one: Labelled) -> Corrected:
    return corrected_questions(one.means, one.scores, one.human, LEVEL, added=one.added)


def _hold(intervals: list[Interval], truth: float) -> Array:
    return np.array([np.nan if math.isnan(one.low) else one.low <= truth <= one.high for one in intervals])


# ── what the reader scores on human text ────────────────────────────────────────────────────────────────────────────


_WRONG = 0.4  # of a middling reader's readings are drawn at random


@cache
def _vectors() -> Array:
    return label_map().vectors()


def _read_chances() -> Array:
    """(true labels, read labels) of a middling reader."""
    n = len(_vectors())
    return np.asarray((1 - _WRONG) * np.eye(n) + _WRONG / n)


def _texts() -> np.typing.NDArray[np.int64]:
    """Human texts per true label, as unequal as GoEmotions' are."""
    return np.array([12 + 9 * (label % 7) for label in range(len(_vectors()))])


def _human_reads(rng: np.random.Generator) -> HumanReads:
    return _reads(rng.multinomial(_texts(), _read_chances()).astype(np.float64))


def _reads(read: Array) -> HumanReads:
    """From (true labels, read labels) counts."""
    vectors = _vectors()
    units = np.nan_to_num(vectors / np.hypot(*vectors.T)[:, None])
    squares = np.column_stack([units[:, 0] ** 2, units[:, 0] * units[:, 1], units[:, 1] ** 2])
    angles = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360.0
    directed = read.sum(axis=1) - read[:, NEUTRAL]
    top, twice = read @ units, read @ squares
    return HumanReads(angles, read.sum(axis=1).astype(np.int64), directed.astype(np.int64), top, top, twice, twice)


def _of_human(fit: Additive, truth: Array, reads: list[HumanReads], neutral: str) -> Array:
    states = np.arange(STATES) * 360.0 / STATES
    expected = on_human_text(states, _reads(_texts()[:, None] * _read_chances()), neutral).means  # type: ignore[arg-type]
    known = np.isfinite(expected)
    lines = fit.lines(known[:, None])
    variance, freedom = (one[:, 0] for one in lines.variance(moderated=False))
    ratio, held = truth[known].mean() / expected[known].mean(), []
    for place, one in enumerate(reads):
        human = on_human_text(states, one, neutral)  # type: ignore[arg-type]
        share = known / known.sum()
        below = (
            float(human.means[known].mean()),
            float(share[known] @ human.covariance[np.ix_(known, known)] @ share[known]),
        )
        low, high = ratio_bounds(
            (float(lines.means[place, 0]), float(variance[place]), float(freedom[place])), below, LEVEL
        )
        held.append(low <= ratio <= high)
    return np.array(held, dtype=np.float64)


# ── tests where nothing is to be found ──────────────────────────────────────────────────────────────────────────────


def false_alarms(experiments: int, rng: np.random.Generator) -> dict[str, Shares]:
    """What -> how often a test at 5 % finds something where there is nothing."""
    found = {name: Shares() for name in _TESTS}
    asked = np.array([(state.valence, state.arousal) for state in around_the_circle(STATES)])
    for _ in range(experiments):
        said = rng.normal(0.2, 0.4, (QUESTIONS, 1, 1, 2)) + rng.normal(0, 0.3, (QUESTIONS, 1, STATES, 2))
        found["states shuffled"].add(np.array([shuffled_control(asked, said, rng, shuffles=199).p <= 0.05]))
        found["V-test of one state"].add(np.array([v_test(360.0 * rng.random(QUESTIONS), 90.0)[1] <= 0.05]))
    for pair, three, nine in _alike(max(1, experiments // 2), rng):
        found["paired difference"].add(np.array([pair <= 0.05]))
        found["3 paired differences as a family"].add(np.array([three <= 0.05]))
        found["the best of nine models"].add(np.array([nine <= 0.05]))
    hours = np.linspace(0.0, 8.0, 20)
    for _ in range(max(1, experiments // 4)):
        lines = [drifts.drift(rng.normal(0, 0.2, (20, 4)), hours, rng) for _ in range(9)]
        family, _ = drifts.one_family([one for one in lines if one])
        for name, ps in (
            ("drift, slope", [one.per_hour_p for one in family]),
            ("drift, step", [one.step_p for one in family]),
            (_FAMILY, [min(p for one in family for p in (one.per_hour_p_holm, one.step_p_holm))]),
        ):
            found[name].add(np.array([[p <= 0.05 for p in ps]]))
    return found


def more_false_alarms(experiments: int, rng: np.random.Generator) -> dict[str, Shares]:
    """The same of the other tests of a report: of texts, of orders, of many directions, and of claims on all models."""
    found = {name: Shares() for name in _MORE_TESTS}
    hours = np.linspace(0.0, 8.0, 20)
    for _ in range(max(1, experiments // 4)):
        voices = rng.integers(3, size=(20, 12))
        same = (voices[:, None] == voices[None, :]).mean(axis=2)
        change = drifts.change(same, hours, rng, shuffles=199)
        found["change of texts"].add(np.array([change is not None and change.p <= 0.05]))
        found["order of six models by three readers"].add(np.array([order_p(rng.normal(size=(3, 6))) <= 0.05]))
    for _ in range(experiments):
        states = [v_test(360.0 * rng.random(QUESTIONS), float(at))[1] for at in range(0, 360, 360 // STATES)]
        found["V-tests of twelve states as a family"].add(np.array([min(holm(states)) <= 0.05]))
        means = rng.normal([0.0, 0.5, 0.6], 0.1, (QUESTIONS, 3))
        found["every model above, one of which is not"].add(np.array([p_all_above(means) <= 0.05]))
    return found


def _alike(experiments: int, rng: np.random.Generator) -> Iterator[tuple[float, float, float]]:
    """Of models that are all the same: p of one pair, the least of three after Holm, and of one above the truth."""
    model, cosines = models(WORLDS[1], rng)[0], cosines_of_labels()
    truth = float(model.truth["zero"].mean())
    for _ in range(experiments):
        chances = model.chances[rng.integers(_POPULATION, size=QUESTIONS)]
        said = rng.multinomial(_asked(rng, 9, 3, "random"), chances[None]).astype(np.float64)
        means = _cells(said, cosines, "zero").means
        apart = differences({str(place): one for place, one in enumerate(means[:3])}, LEVEL)
        fits = Additive(means)
        lines = fits.lines(one_line(STATES))
        fitted = Fitted(lines.added[:, 0], lines.variance(moderated=False)[1][:, 0])
        yield apart[0].p, min(one.p_holm for one in apart), p_any_above(fits.question_means.T - truth, fitted)


# ── looking again and again ─────────────────────────────────────────────────────────────────────────────────────────


def looking(experiments: int, rng: np.random.Generator) -> dict[str, Shares]:
    """What -> how often an interval of some look leaves out the truth: who stops as soon as one does is then wrong.

    Eight looks at a run that grows by answers (the questions stay), and at one that grows by questions.
    """
    model, cosines = models(WORLDS[1], rng)[0], cosines_of_labels()
    found: dict[str, Shares] = {}
    for start in range(0, experiments, _CHUNK):
        n = min(_CHUNK, experiments - start)
        for neutral, truth in model.truth.items():
            for growing, fits in (("answers", _by_answers), ("questions", _by_questions)):
                tables = fits(model, neutral, cosines, n, rng)
                for how, levels in _LEVELS.items():
                    out = _ever_out(tables, levels, float(truth.mean()))
                    found.setdefault(f"{growing} are added, {neutral}, {how}", Shares()).add(out)
    return found


_LEVELS = {
    "each look as if the only one": [LEVEL] * len(_LOOKS),
    "the intervals that are offered": [LEVEL] + [level_at(look, LEVEL) for look in range(2, len(_LOOKS) + 1)],
}


def _ever_out(tables: list[Array], levels: list[float], truth: float) -> Array:
    out = np.zeros(len(tables[0]))
    for means, level in zip(tables, levels, strict=True):
        line = Additive(means).lines(one_line(STATES))
        out = np.maximum(out, _holds(line.means, *line.variance(moderated=False), np.asarray(truth), level)[:, 0] == 0)
    return out


def stopping(experiments: int, rng: np.random.Generator) -> dict[str, Shares]:
    """What -> how often the interval leaves out the truth at the wave that `emoray run --until` makes the last one."""
    model, cosines = models(WORLDS[1], rng)[0], cosines_of_labels()
    found: dict[str, Shares] = {}
    for start in range(0, experiments, _CHUNK):
        n = min(_CHUNK, experiments - start)
        for neutral, truth in model.truth.items():
            tables = _by_answers(model, neutral, cosines, n, rng, _WAVES)
            reach, wrong = _at_each(tables, float(truth.mean()))
            for share in (0.5, 0.2, 0.05):
                ends = reach <= np.quantile(reach[1], share)
                ends[-1] = True
                last = ends.argmax(axis=0)
                told = f"{neutral}, as narrow as {share:.0%} are after the second wave"
                found.setdefault(told, Shares()).add(wrong[last, np.arange(n)])
    return found


_WAVES = tuple(range(4, 41, 4))  # answers per prompt at the end of each


def _at_each(tables: list[Array], truth: float) -> tuple[Array, Array]:
    """(waves, experiments) of half-widths, and whether the truth is left out."""
    reaches, wrong = [], []
    for means in tables:
        line = Additive(means).lines(one_line(STATES))
        variance, freedom = (one[:, 0] for one in line.variance(moderated=False))
        reach = scipy.special.stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(variance)
        reaches.append(reach)
        wrong.append(np.abs(line.means[:, 0] - truth) > reach)
    return np.stack(reaches), np.stack(wrong)


def _by_answers(
    model: Model, neutral: str, cosines: Array, n: int, rng: np.random.Generator, looks: Sequence[int] = _LOOKS
) -> list[Array]:
    """(experiments, questions, states) of means at each look."""
    drawn = rng.integers(_POPULATION, size=(n, QUESTIONS))
    labels, before, found = np.zeros((n, QUESTIONS, STATES, model.chances.shape[2])), 0, []
    for answers in looks:
        labels += rng.multinomial(_asked(rng, n, answers - before, "random"), model.chances[drawn])
        before = answers
        found.append(_cells(labels, cosines, neutral).means)
    return found


def _by_questions(model: Model, neutral: str, cosines: Array, n: int, rng: np.random.Generator) -> list[Array]:
    """Ten more at each look, three answers to each prompt."""
    drawn, found = rng.integers(_POPULATION, size=(n, len(_LOOKS), QUESTIONS)), []
    for look in range(len(_LOOKS)):
        labels = rng.multinomial(_asked(rng, n, 3, "random"), model.chances[drawn[:, look]])
        found.append(_cells(labels.astype(np.float64), cosines, neutral).means)
    return [np.concatenate(found[: look + 1], axis=1) for look in range(len(_LOOKS))]


# ── the program ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Found:
    """All that was simulated."""

    designs: Mapping[Design, Mapping[str, Shares]]
    steady: Mapping[str, Shares]
    alarms: Mapping[str, Shares]
    looks: Mapping[str, Shares]
    stops: Mapping[str, Shares]

    @property
    def whats(self) -> list[str]:
        return list(dict.fromkeys(what for shares in self.designs.values() for what in shares))

    @property
    def over_designs(self) -> dict[tuple[str, str], Shares]:
        """(neutral rule, what) -> the experiments of all designs together, which are independent."""
        pooled: dict[tuple[str, str], Shares] = {}
        for design, shares in self.designs.items():
            for what, one in shares.items():
                pooled.setdefault((design.neutral, what), Shares()).held.extend(one.held)
        return pooled


def run(experiments: int = 2000, seed: int = 1, out: str = "") -> dict[str, float]:
    """The lowest and highest coverage of each kind of interval over all designs, and the shares of false alarms."""
    found = simulated(experiments, seed)
    if out:
        contrasts = import_module(f"{__package__}.contrasts")  # which begins with this file's worlds
        told = contrasts.section(contrasts.simulated(experiments, seed), experiments, seed)
        Path(out).write_text(_page(found, experiments, seed) + told, encoding="utf-8")
    return _figures(found)


def simulated(experiments: int, seed: int) -> Found:
    """Prints as it goes: the whole takes a while."""
    found: dict[Design, dict[str, Shares]] = {}
    for world, repetitions, missing in product(WORLDS, _REPETITIONS, _MISSING):
        rules = coverages(world, repetitions, missing, experiments, np.random.default_rng([seed, len(found)]))
        for neutral, shares in rules.items():
            design = Design(world, neutral, repetitions, missing)
            found[design] = shares
            print(f"\n{design.name}")
            print("\n".join(f"  {what:<28}{_said(one)}" for what, one in shares.items()), flush=True)
    sure: dict[str, Shares] = {}
    for repetitions in (3, 5, 20):
        sure |= steady(repetitions, experiments, np.random.default_rng([seed, repetitions]))
    for repetitions in (3, 5, 20):
        sure |= unequal(repetitions, experiments, np.random.default_rng([seed, repetitions]))
    print("\nQuestions of a model that says nearly always the same, asked again")
    print("\n".join(f"  {what:<28}{_said(one)}" for what, one in sure.items()))
    alarms = false_alarms(experiments, np.random.default_rng(seed))
    alarms |= more_false_alarms(experiments, np.random.default_rng([seed, len(_MORE_TESTS)]))
    print("\nFalse alarms of tests at 5 %")
    print("\n".join(f"  {what:<28}{_said(one)}" for what, one in alarms.items()))
    looks = looking(experiments, np.random.default_rng([seed, len(_LOOKS)]))
    print(f"\nTruths left out at some of {len(_LOOKS)} looks")
    print("\n".join(f"  {what:<66}{_said(one)}" for what, one in looks.items()))
    stops = stopping(experiments, np.random.default_rng([seed, len(_WAVES)]))
    print("\nTruths left out where --until ended a run")
    print("\n".join(f"  {what:<66}{_said(one)}" for what, one in stops.items()))
    return Found(found, sure, alarms, looks, stops)


def _figures(found: Found) -> dict[str, float]:
    figures: dict[str, float] = {}
    for what in found.whats:
        some = [shares[what].share for shares in found.designs.values() if what in shares]
        figures |= {f"{what}, lowest": round(min(some), 4), f"{what}, highest": round(max(some), 4)}
    for kind, of in (
        ("false alarms: ", found.alarms),
        ("steady, ", found.steady),
        ("looks: ", found.looks),
        ("until: ", found.stops),
    ):
        figures |= {f"{kind}{what}": round(one.share, 4) for what, one in of.items()}
    return figures


def _said(one: Shares) -> str:
    return f"{100 * one.share:5.1f} ± {100 * one.error:.1f} %"


def _page(found: Found, experiments: int, seed: int) -> str:
    whats, pooled = found.whats, found.over_designs
    head = ["questions / interaction", "neutral", "answers per prompt", "missing", *whats]
    rows = [
        [design.world.name, design.neutral, str(design.repetitions), _MISSING[design.missing]]
        + [_said(shares[what]).strip() if what in shares else "–" for what in whats]
        for design, shares in found.designs.items()
    ]
    rows += [
        ["all together", rule, "", ""]
        + [_said(pooled[rule, what]).strip() if (rule, what) in pooled else "–" for what in whats]
        for rule in ("zero", "drop")
    ]
    lines = [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]
    tests, always, often, until = (
        "\n".join(f"| {what} | {_said(one).strip()} |" for what, one in some.items())
        for some in (found.alarms, found.steady, found.looks, found.stops)
    )
    return _TEXT.format(
        experiments=experiments,
        seed=seed,
        table="\n".join(lines),
        tests=tests,
        always=always,
        often=often,
        until=until,
        spent=100 * spent(LEVEL),
    )


_TEXT = """# What the intervals hold

How often a nominal 95 % interval holds the truth, in simulated experiments whose truth is known, with its Monte Carlo
error. Anyone can make this page:

    python jobs/benchmark.py validity --experiments {experiments} --seed {seed} --out docs/validity.md

Ten questions are drawn from four thousand; the twelve states are fixed. Every answer is one of the 28 labels, so scores
are discrete and skewed; neutral is read in 10 to 30 % of the answers, more often at low arousal. The first column is
how far apart questions lie, and how differently they suit the states (standard deviations of cell means; within a cell
about 0.42). *Missing at random*: 3 % of the answers. *By state*: besides, a filter takes all answers to 240°, 270° and
300° in half of the questions.

- *mean*, *states*, *conditions*: over questions, as the report gives them. *difference*: of two models, paired by
  prompt; by state, each has lost other questions, so that few prompts are common to both, and the interval is careful.
  *of human text*: the ratio, with the error of the human text.
- *direction of states*: the bias of where the answers to a state point (a fifth of the experiments).
- *corrected*: by so many answers of each model that people have labelled, as `emoray sample` draws them, with a reader
  that reads four of ten answers at random; a mean, and the paired difference of two (a fifth of the experiments). Of
  two dozen labels the rule *drop* leaves some twenty: what they correct holds a little less than it says (*all
  together*).
- *questions, asked again*: where the mean of one question's prompts would lie; one answer per prompt cannot tell.
- *by state* under *drop*: that rule magnifies what a question is at low arousal, where more is neutral, and there the
  filter took it. A question's effect is then not the same in all states, as the fit that fills the gaps takes it to be,
  and intervals hold 93 to 95 %.
- *plain means of questions* and *rows as independent* are what the report does **not** do: Student's t on the means of
  what came back, and on single answers. What rows hold depends on the design: little where questions differ much and
  answers are many.

{table}

*Questions, asked again*, of a model that gives nearly always the same answer to a prompt (90 to 100 % of the time), and
of one that does so at half of the questions and leaves much open at the others. What the answers to a question vary by
is drawn towards what all questions' do, as far as these differ by chance alone. Where questions are very unlike,
something of the others stays in each: those that leave much open hold a little less than they say, and those that have
nearly always the same answer more.

| design | holds |
| --- | --- |
{always}

How often a test at 5 % finds something where there is nothing (the tests of drift of nine lines are one family; the
two of a line ask the same rounds, and count once):

| test | |
| --- | --- |
{tests}

How often an interval of the mean leaves out the truth at *some* of eight looks. Who goes on until one does, and stops
then, is wrong as often. Answers are added to the same ten questions (1, 2, 3, 5, 8, 12, 16, 20 per prompt), or ten
questions at a time. The intervals that the report offers from the second look on spend α · 6 / (π² k²) at the k-th: all
of them together hold at 95 % by Bonferroni's inequality, whatever the looks have to do with one another and however
many there will be. The first look has the plain 95 % interval alone. Who stops there as soon as it shows what was hoped
for has spent 5 % at it: counting it, some look is wrong {spent:.0f} % of the time at most. More is not claimed: a look
that no attempt and no report of the run tells of is not counted.

| looks | wrong at some look |
| --- | --- |
{often}

Where `emoray run --until` ended a run: how often the plain 95 % interval leaves out the truth there. The same questions
are asked in waves of four answers to each prompt, up to 40, and no more once the half-width is what is wished: what
half, a fifth or a twentieth of all runs have after the second wave.

| rule | wrong where it ended |
| --- | --- |
{until}
"""
