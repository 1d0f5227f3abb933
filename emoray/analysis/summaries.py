"""The tables of a design: means with intervals by model, state, question, template and intensity.

Everywhere the same weights hold: a prompt (template × intensity × state × question) counts by the mean of its scored
answers, prompts weigh the same within a question, questions weigh the same. A prompt without any score is filled in by
what its question and its state come to elsewhere (`additive`), so a state that a provider filtered in some questions
shifts no weight to the others; how many there were stands beside every mean.

Rows arrive as a `Tally` with the axes of `AXES`, whose sums are named in `FIELDS`; see `score_values`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from emoray.analysis.additive import Additive, mean_interval, one_line
from emoray.analysis.calibration import OnHumanText
from emoray.analysis.intervals import (
    ASKED_AGAIN,
    Interval,
    bounded,
    pooled_variance,
    question_means,
    questions_asked_again,
    ratio_bounds,
    together,
)
from emoray.analysis.shuffled import Shuffled, shuffled_control
from emoray.analysis.tally import Level, Tally
from emoray.analysis.variance import Parts, effective_n, variance_bounds, variance_parts
from emoray.study.circumplex import Affect, Array
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import ceiling

AXES = ("template", "intensity", "state", "question")
Which = Literal["cosine", "expected"]  # the top-label score, or the expected one
GroupAxis = Literal["template", "intensity", "state", "question"]
Members = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Moments:
    """One score in the cells (questions, conditions, states); a condition is a template with an intensity."""

    counts: Array
    sums: Array
    squares: Array
    units: Array  # (questions, conditions, states, 2): sums of the read unit vectors

    @property
    def means(self) -> Array:
        """NaN where nothing was scored."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.sums / self.counts, dtype=np.float64)

    @property
    def within(self) -> Array:
        """Summed squared deviations from the cell's mean."""
        return np.maximum(self.squares - self.sums * np.nan_to_num(self.means), 0.0)

    @property
    def scored(self) -> int:
        return int(self.counts.sum())

    @property
    def spread(self) -> float:
        """The variance of single scores."""
        if not self.scored:
            return math.nan
        return float(self.squares.sum() / self.scored - (self.sums.sum() / self.scored) ** 2)

    @property
    def by_question(self) -> Array:
        """(questions, prompts): the matrix that intervals and paired differences take."""
        return _flat(self.means)

    @property
    def fit(self) -> Additive:
        return Additive(self.by_question)

    def interval(self, level: float) -> Interval:
        return mean_interval(self.by_question, level)


@dataclass(frozen=True, slots=True)
class Group:
    """One line of a table: all scores of one level of one axis."""

    level: Level
    scored: int
    cosine: Interval
    expected: Interval
    ceiling: float  # the mean over its prompts of the best top-label cosine that the label map allows
    read: Affect | None  # the mean place of the top labels; neutral counts as the origin
    expected_read: Affect | None  # the mean of the expected places
    missing: float = 0.0  # the share of its prompts that have no score and were filled in
    human: float = math.nan  # what the reader scores on human text of these states; NaN where that is not known
    of_human: float = math.nan  # the mean cosine as a share of it, over the states that have human text
    of_human_low: float = math.nan  # its interval carries the error of the human text as well
    of_human_high: float = math.nan

    @property
    def relative(self) -> float:
        """The mean cosine as a share of the ceiling; NaN where the map lets nothing above 0 be reached.

        Not above 1 where the score is the top label's, but for what rounding adds.
        """
        return self._of_ceiling(self.cosine.estimate)

    @property
    def relative_low(self) -> float:
        return self._of_ceiling(self.cosine.low)

    @property
    def relative_high(self) -> float:
        """Of a mean that is not known well it may lie above 1, where no label reaches."""
        return self._of_ceiling(self.cosine.high)

    def _of_ceiling(self, cosine: float) -> float:
        return cosine / self.ceiling if self.ceiling > 0 else math.nan


@dataclass(frozen=True)
class Whole:
    """What the scores of one model by one reader come to."""

    group: Group
    shuffled: Shuffled
    shuffled_expected: Shuffled
    parts: Parts
    effective_n: float
    effective_n_low: float = math.nan  # by what so few questions tell of the error of the mean
    effective_n_high: float = math.nan


def score_values(scores: Mapping[str, Array]) -> dict[str, npt.NDArray[np.generic]]:
    """The sums that tables need, from the SCORED columns of rows (NaN for "no value")."""
    values: dict[str, npt.NDArray[np.generic]] = {}
    length = np.hypot(scores["read_valence"], scores["read_arousal"])
    with np.errstate(invalid="ignore", divide="ignore"):
        top = {axis: scores[f"read_{axis}"] / length for axis in ("valence", "arousal")}
    soft = {axis: scores[f"resultant_{axis}"] for axis in ("valence", "arousal")}
    for which, prefix, units in (("cosine", "read", top), ("expected", "expected", soft)):
        score = scores["cosine" if which == "cosine" else "expected_cosine"]
        valence, arousal = scores[f"{prefix}_valence"], scores[f"{prefix}_arousal"]
        scored = ~np.isnan(score)
        values |= {
            f"{which}_n": scored,
            f"{which}_sum": score,
            f"{which}_squares": score**2,
            f"{which}_unit_valence": np.where(scored, units["valence"], np.nan),
            f"{which}_unit_arousal": np.where(scored, units["arousal"], np.nan),
            f"{which}_valence": np.where(scored, valence, np.nan),
            f"{which}_arousal": np.where(scored, arousal, np.nan),
        }
    return values


def moments(tally: Tally, which: Which) -> Moments:
    """One score of a tally with the four axes, as (questions, conditions, states)."""
    names = ("n", "sum", "squares", "unit_valence", "unit_arousal")
    counts, sums, squares, valence, arousal = (_cells(tally, f"{which}_{name}") for name in names)
    return Moments(counts, sums, squares, np.stack([valence, arousal], axis=-1))


def whole(
    tally: Tally,
    label_map: LabelMap,
    rng: np.random.Generator,
    *,
    level: float,
    shuffles: int,
    human: OnHumanText | None = None,
    identical: float = 0.0,
) -> Whole:
    """Everything about one model: its means, the shuffled control of either score, its variance parts.

    `identical` is the share of its answers that repeat an earlier one to the same prompt word for word.
    """
    top, soft = moments(tally, "cosine"), moments(tally, "expected")
    asked = _directions(tally.axis("state").levels)
    tables = _Tables(tally, label_map, level, human)
    worth = _effective_n(top, identical, level)
    return Whole(
        group=tables.whole,
        shuffled=shuffled_control(asked, _unit_means(top), rng, shuffles=shuffles, weights=_weights(top)),
        shuffled_expected=shuffled_control(asked, _unit_means(soft), rng, shuffles=shuffles, weights=_weights(soft)),
        parts=_parts(top),
        effective_n=worth[0],
        effective_n_low=worth[1],
        effective_n_high=worth[2],
    )


def groups(
    tally: Tally,
    axis: GroupAxis,
    label_map: LabelMap,
    *,
    level: float = 0.95,
    human: OnHumanText | None = None,
) -> tuple[Group, ...]:
    """One line per level of an axis. `human` is what the reader scores on human text, where it is known.

    Intervals are over questions, those of states moderated by one another (`additive.PRIOR_FREEDOM`); a single question
    has none of those, so the lines of the question axis say where the mean would lie if the same prompts were asked
    again. Lines of one axis average to the whole.
    """
    tables = _Tables(tally, label_map, level, human)
    if axis == "question":
        return tables.questions()
    levels, shape = tally.axis(axis).levels, [len(tally.axis(name).levels) for name in AXES[:3]]
    members = np.indices(shape)[AXES.index(axis)].ravel()[:, None] == np.arange(len(levels))
    return tables.groups(levels, members, moderated=axis == "state")


def overall(tally: Tally, label_map: LabelMap, *, level: float = 0.95, human: OnHumanText | None = None) -> Group:
    """The one line of a whole tally."""
    return _Tables(tally, label_map, level, human).whole


def state_by_question(tally: Tally) -> Array:
    """(states, questions) of mean cosines, conditions weighing the same; NaN where nothing was scored."""
    means = moments(tally, "cosine").means  # (questions, conditions, states)
    questions, conditions, states = means.shape
    cells = means.transpose(2, 0, 1).reshape(states * questions, conditions)
    return question_means(cells).reshape(states, questions)


def ceilings(states_deg: Iterable[Level], label_map: LabelMap) -> Array:
    """The best top-label cosine per state under a map; NaN for a state without a direction."""
    return np.array([ceiling(Affect.at(float(angle)), label_map) for angle in states_deg])


@dataclass(frozen=True)
class _Tables:
    """The lines of one tally; prompts are (template × intensity × state), in this order."""

    tally: Tally
    label_map: LabelMap
    level: float
    human: OnHumanText | None

    @cached_property
    def top(self) -> Moments:
        return moments(self.tally, "cosine")

    @cached_property
    def soft(self) -> Moments:
        return moments(self.tally, "expected")

    @cached_property
    def fits(self) -> tuple[Additive, Additive]:
        return self.top.fit, self.soft.fit

    @property
    def whole(self) -> Group:
        """All prompts in one line."""
        return self.groups(("all",), one_line(self.top.by_question.shape[1]))[0]

    def groups(self, levels: Sequence[Level], members: Members, *, moderated: bool = False) -> tuple[Group, ...]:
        """One per level; (prompts, levels) says which prompts it has."""
        top, soft = (fit.lines(members).intervals(self.level, moderated=moderated) for fit in self.fits)
        scored = _flat(self.top.counts).sum(axis=0) @ members
        missing = self.fits[0].missing(members)
        there = members & ~np.asarray(np.isnan(self.top.by_question).all(axis=0))[:, None]
        places = [self._places(which, members) for which in ("cosine", "expected")]
        known = None if self.human is None else self._known_places(members, moderated=moderated)
        return tuple(
            Group(
                level=name,
                scored=int(scored[place]),
                cosine=top[place],
                expected=soft[place],
                ceiling=_mean_of(self._ceilings[there[:, place]]),
                read=places[0][place],
                expected_read=places[1][place],
                missing=float(missing[place]),
                **({} if known is None else self._on_human_text(*known, place)),
            )
            for place, name in enumerate(levels)
        )

    def questions(self) -> tuple[Group, ...]:
        """One per question."""
        top, soft = (self._again(score, fit) for score, fit in zip((self.top, self.soft), self.fits, strict=True))
        scored = self.top.counts.sum(axis=(1, 2))
        asked = ~np.isnan(self.top.by_question)
        there = asked.any(axis=0)
        places = [self._places(which, None) for which in ("cosine", "expected")]
        return tuple(
            Group(
                level=name,
                scored=int(scored[place]),
                cosine=top[place],
                expected=soft[place],
                ceiling=_mean_of(self._ceilings[there]) if asked[place].any() else math.nan,
                read=places[0][place],
                expected_read=places[1][place],
                missing=float((~asked[place]).mean()) if asked[place].size else math.nan,
                **self._on_human_text_of(place),
            )
            for place, name in enumerate(self.tally.axis("question").levels)
        )

    def _again(self, score: Moments, fit: Additive) -> list[Interval]:
        variance, freedom = self._spread_again(score, fit, slice(None))
        answers = _flat(score.counts).sum(axis=1)
        columns = zip(fit.question_means, variance, freedom, answers, strict=True)
        return [bounded(float(m), float(v), float(f), self.level, int(n), ASKED_AGAIN) for m, v, f, n in columns]

    def _spread_again(self, score: Moments, fit: Additive, some: Members | slice) -> tuple[Array, Array]:
        """(questions,) variance of the means over some prompts, were they asked again, and its degrees of freedom.

        What a missing cell would have said is part of the doubt.
        """
        counts, within = _flat(score.counts), _flat(score.within)
        pooled = pooled_variance(counts.ravel(), within.ravel())
        asked = counts[:, some], within[:, some]
        return together(questions_asked_again(*asked, pooled), fit.of_missing(*asked))

    @cached_property
    def _states(self) -> npt.NDArray[np.int64]:
        """(prompts,): the place of each prompt's state."""
        conditions, states = self.top.counts.shape[1:]
        return np.tile(np.arange(states), conditions)

    @cached_property
    def _ceilings(self) -> Array:
        """(prompts,)"""
        return ceilings(self.tally.axis("state").levels, self.label_map)[self._states]

    def _places(self, which: Which, members: Members | None) -> list[Affect | None]:
        """The mean place of each line, neutral counting as the origin; of each question where no members are given."""
        counts, means = _cells(self.tally, f"{which}_n"), []
        for axis in ("valence", "arousal"):
            with np.errstate(invalid="ignore", divide="ignore"):
                fit = Additive(_flat(_cells(self.tally, f"{which}_{axis}") / counts))
            means.append(fit.question_means if members is None else fit.lines(members).means)
        return [
            None if math.isnan(v) or math.isnan(a) else Affect(float(v), float(a)) for v, a in zip(*means, strict=True)
        ]

    @cached_property
    def _felt(self) -> tuple[Array, Array]:
        """What human text scores, by prompt (prompts,), and the covariance (states, states)."""
        states = self.tally.axis("state").levels
        known = (
            {} if self.human is None else dict(zip(self.human.states_deg, range(len(self.human.means)), strict=True))
        )
        places = [known.get(float(state), -1) for state in states]
        if self.human is None or -1 in places:
            return np.full(len(self._states), math.nan), np.full((len(states),) * 2, math.nan)
        return self.human.means[places][self._states], self.human.covariance[np.ix_(places, places)]

    def _known_places(self, members: Members, *, moderated: bool) -> tuple[Members, Array, Array, Array]:
        """(prompts, lines) of those with human text and a score, and the means over these: what they vary by too."""
        scored = ~np.isnan(self.top.by_question).all(axis=0)
        some = members & (np.isfinite(self._felt[0]) & scored)[:, None]
        lines = self.fits[0].lines(some)
        return some, lines.means, *lines.variance(moderated=moderated)

    def _on_human_text(
        self, some: Members, means: Array, variance: Array, freedom: Array, place: int
    ) -> dict[str, float]:
        if not some[:, place].any():
            return {}
        return self._of_human(some[:, place], float(means[place]), float(variance[place]), float(freedom[place]))

    def _on_human_text_of(self, question: int) -> dict[str, float]:
        """Of one question, were its prompts asked again and other texts of people read."""
        felt, _ = self._felt
        some = np.isfinite(felt) & ~np.isnan(self.fits[0].completed[question])
        if not some.any():
            return {}
        mean = float(self.fits[0].completed[question, some].mean())
        variance, freedom = (float(one[question]) for one in self._felt_again)
        return self._of_human(some, mean, variance, freedom)

    @cached_property
    def _felt_again(self) -> tuple[Array, Array]:
        """(questions,) variance of the means over the prompts whose states have human text, and degrees of freedom."""
        some = np.isfinite(self._felt[0])
        return self._spread_again(self.top, Additive(self.top.by_question[:, some]), some)

    def _of_human(self, some: Members, mean: float, variance: float, freedom: float) -> dict[str, float]:
        felt, covariance = self._felt
        share = np.bincount(self._states, weights=some / some.sum(), minlength=len(covariance))
        used = share > 0
        human, error = float(felt[some].mean()), float(share[used] @ covariance[np.ix_(used, used)] @ share[used])
        low, high = ratio_bounds((mean, variance, freedom), (human, error), self.level)
        of_human = mean / human if human > 0 else math.nan
        return {"human": human, "of_human": of_human, "of_human_low": low, "of_human_high": high}


def _mean_of(values: Array) -> float:
    """Of those that there are: a state without a direction has no ceiling."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _effective_n(score: Moments, identical: float, level: float) -> tuple[float, float, float]:
    """With its bounds. The spread is that within states: what the states differ by is asked for, and no error."""
    freedom = score.counts.sum(axis=(0, 1)) - 1
    sums, squares = score.sums.sum(axis=(0, 1)), score.squares.sum(axis=(0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        about = np.where(freedom > 0, squares - sums**2 / (freedom + 1), 0.0)
    total = freedom[freedom > 0].sum()
    distinct = score.scored * (1.0 - (0.0 if math.isnan(identical) else identical))
    lines = score.fit.lines(one_line(score.by_question.shape[1])) if score.by_question.size else None
    if lines is None or not total:
        return math.nan, math.nan, math.nan
    variance, freedom = (float(one[0]) for one in lines.variance(moderated=False))
    errors = (variance, *reversed(variance_bounds(variance, freedom, level)))
    found = [effective_n(distinct, float(about.sum() / total), error) for error in errors]
    return found[0], found[1], found[2]


def _weights(score: Moments) -> Array:
    """(questions, conditions, states): of every prompt in the mean."""
    return score.fit.weights.reshape(score.counts.shape)


def _parts(score: Moments) -> Parts:
    """Per condition, then averaged: what a template changes is no part of question, state or repetition."""
    conditions = range(score.counts.shape[1])
    found = [
        variance_parts(score.counts[:, c], score.means[:, c], score.within[:, c])
        for c in conditions
        if score.counts[:, c].any()
    ]
    names = [column.name for column in fields(Parts)]
    return Parts(*(_mean([getattr(parts, name) for parts in found]) for name in names))


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _unit_means(score: Moments) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(score.units / score.counts[..., None], dtype=np.float64)


def _flat(cells: Array) -> Array:
    """(questions, conditions, states) -> (questions, prompts)."""
    questions, conditions, states = cells.shape
    return cells.reshape(questions, conditions * states)


def _directions(states_deg: Iterable[Level]) -> Array:
    asked = [Affect.at(float(angle)) for angle in states_deg]
    return np.array([(affect.valence, affect.arousal) for affect in asked], dtype=np.float64).reshape(-1, 2)


def _cells(tally: Tally, name: str) -> Array:
    """(templates, intensities, states, questions) -> (questions, conditions, states)."""
    array = tally.sums[name]
    templates, intensities, states, questions = array.shape
    return np.moveaxis(array, (3, 0, 1, 2), (0, 1, 2, 3)).reshape(questions, templates * intensities, states)
