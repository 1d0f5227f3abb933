"""The tables of a design: means with intervals by model, state, question, template and intensity.

Everywhere the same weights hold: a prompt (template × intensity × state × question) counts by the mean of its scored
answers, prompts weigh the same within a question, questions weigh the same. So an answer that failed, or a state that a
provider filtered, shifts no weight to the others.

Rows arrive as a `Tally` with the axes of `AXES`, whose sums are named in `FIELDS`; see `score_values`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from emoray.analysis.intervals import Interval, asked_again_interval, question_means, t_interval
from emoray.analysis.shuffled import Shuffled, shuffled_control
from emoray.analysis.tally import Level, Tally
from emoray.analysis.variance import Parts, effective_n, variance_parts
from emoray.study.circumplex import Affect, Array
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import ceiling

AXES = ("template", "intensity", "state", "question")
Which = Literal["cosine", "expected"]  # the top-label score, or the expected one
GroupAxis = Literal["template", "intensity", "state", "question"]


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

    def interval(self, level: float) -> Interval:
        return t_interval(self.by_question, level)


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
    human: float = math.nan  # what the reader scores on human text of these states; NaN where that is not known
    of_human: float = math.nan  # the mean cosine as a share of it, over the states that have human text

    @property
    def relative(self) -> float:
        """The mean cosine as a share of the ceiling; NaN where the map lets nothing above 0 be reached."""
        return self.cosine.estimate / self.ceiling if self.ceiling > 0 else math.nan


@dataclass(frozen=True)
class Whole:
    """What the scores of one model by one reader come to."""

    group: Group
    shuffled: Shuffled
    shuffled_expected: Shuffled
    parts: Parts
    effective_n: float


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
    human: Mapping[float, float] | None = None,
) -> Whole:
    """Everything about one model: its means, the shuffled control of either score, its variance parts."""
    top, soft = moments(tally, "cosine"), moments(tally, "expected")
    asked = _directions(tally.axis("state").levels)
    return Whole(
        group=_group("all", tally, _tops(tally, label_map), level, human or {}),
        shuffled=shuffled_control(asked, _unit_means(top), rng, shuffles=shuffles),
        shuffled_expected=shuffled_control(asked, _unit_means(soft), rng, shuffles=shuffles),
        parts=_parts(top),
        effective_n=effective_n(top.scored, top.spread, question_means(top.by_question)),
    )


def groups(
    tally: Tally,
    axis: GroupAxis,
    label_map: LabelMap,
    *,
    level: float = 0.95,
    human: Mapping[float, float] | None = None,
) -> tuple[Group, ...]:
    """One line per level of an axis. `human` is the reader's ceiling on human text by state, where it is known.

    Intervals are over questions; a single question has none of those, so the lines of the question axis say where the
    mean would lie if the same prompts were asked again.
    """
    tops = _tops(tally, label_map)
    return tuple(_group(one, only, tops, level, human or {}, axis) for one, only in tally.each(axis))


def overall(
    tally: Tally, label_map: LabelMap, *, level: float = 0.95, human: Mapping[float, float] | None = None
) -> Group:
    """The one line of a whole tally."""
    return _group("all", tally, _tops(tally, label_map), level, human or {})


def state_by_question(tally: Tally) -> Array:
    """(states, questions) of mean cosines, conditions weighing the same; NaN where nothing was scored."""
    means = moments(tally, "cosine").means  # (questions, conditions, states)
    questions, conditions, states = means.shape
    cells = means.transpose(2, 0, 1).reshape(states * questions, conditions)
    return question_means(cells).reshape(states, questions)


def ceilings(states_deg: Iterable[Level], label_map: LabelMap) -> Array:
    """The best top-label cosine per state under a map; NaN for a state without a direction."""
    return np.array([ceiling(Affect.at(float(angle)), label_map) for angle in states_deg])


def _tops(tally: Tally, label_map: LabelMap) -> dict[Level, float]:
    """State -> its ceiling."""
    states = tally.axis("state").levels
    return dict(zip(states, ceilings(states, label_map).tolist(), strict=True))


def _group(
    name: Level,
    tally: Tally,
    tops: Mapping[Level, float],
    level: float,
    human: Mapping[float, float],
    axis: GroupAxis | None = None,
) -> Group:
    top, soft = moments(tally, "cosine"), moments(tally, "expected")
    single = axis == "question"
    states = tally.axis("state").levels
    felt = np.array([human.get(float(state), math.nan) for state in states])
    reached, on_human_text = _mean_where(np.isfinite(felt), top.means, top.means), _mean_of_states(felt, top.means)
    return Group(
        level=name,
        scored=top.scored,
        cosine=_again(top, level) if single else top.interval(level),
        expected=_again(soft, level) if single else soft.interval(level),
        ceiling=_mean_of_states(np.array([tops[state] for state in states]), top.means),
        read=_mean_place(tally, "cosine"),
        expected_read=_mean_place(tally, "expected"),
        human=on_human_text,
        of_human=reached / on_human_text if on_human_text > 0 else math.nan,
    )


def _mean_of_states(values: Array, means: Array) -> float:
    """The mean of one value per state, weighted as the (questions, conditions, states) means are; NaN left out."""
    return _mean_where(np.isfinite(values), means, np.broadcast_to(values, means.shape))


def _mean_where(states: npt.NDArray[np.bool_], means: Array, values: Array) -> float:
    """The mean of the values in the cells of some states that have a mean."""
    return t_interval(_flat(np.where(states & ~np.isnan(means), values, np.nan))).estimate


def _again(score: Moments, level: float) -> Interval:
    return asked_again_interval(score.counts.ravel(), score.means.ravel(), score.within.ravel(), level)


def _mean_place(tally: Tally, which: Which) -> Affect | None:
    """The mean place read, with the weights of the tables."""
    counts = _cells(tally, f"{which}_n")
    place = []
    for axis in ("valence", "arousal"):
        with np.errstate(invalid="ignore", divide="ignore"):
            means = _cells(tally, f"{which}_{axis}") / counts
        place.append(t_interval(_flat(means)).estimate)
    return None if any(map(math.isnan, place)) else Affect(*place)


def _parts(score: Moments) -> Parts:
    """Per condition, then averaged: what a template changes is no part of question, state or repetition."""
    conditions = range(score.counts.shape[1])
    found = [
        variance_parts(score.counts[:, c], score.means[:, c], score.within[:, c])
        for c in conditions
        if score.counts[:, c].any()
    ]
    names = ("question", "state", "interaction", "repetition")
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
