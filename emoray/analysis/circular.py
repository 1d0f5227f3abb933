"""Directions on the circumplex: where readings point, how closely they keep together, and how far they miss.

Angles are in degrees. Readings of one question resemble one another, so tests and intervals take questions as the
sample: one direction, or one vector, per question.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoray.analysis import student
from emoray.analysis.additive import squeezed
from emoray.analysis.intervals import OVER_QUESTIONS, Interval, within
from emoray.study.circumplex import NO_DIRECTION, Array

_LEAST_STATES = 4  # of a profile: three have no fit to judge


@dataclass(frozen=True)
class Direction:
    """Where the readings of answers to one state point."""

    asked_deg: float
    directed: int  # readings that have a direction
    mean_deg: float  # 0 … 360; NaN where readings cancel or there are none
    length: float  # mean resultant length: 1 where all point alike, 0 where they cancel
    bias: Interval  # the mean direction less the one asked for, -180 … 180, positive counter-clockwise
    v: float  # of the questions' mean directions; see `v_test`
    p: float


@dataclass(frozen=True)
class Profile:
    """A wave of one period through scores around the circle: Gurtman's structural summary, with questions as sample."""

    elevation: Interval  # the mean over states
    amplitude: Interval  # how far the wave rises above it
    displacement: Interval  # degrees, where it is highest: 0 … 360, and bounds around it
    fit: float  # the share of the spread over states that the wave explains


def mean_direction(angles_deg: Array) -> tuple[float, float]:
    """(mean direction, mean resultant length) of some angles, NaN ones left out; NaN direction where they cancel."""
    turns = np.radians(angles_deg[~np.isnan(angles_deg)])
    if not len(turns):
        return math.nan, math.nan
    return _polar(np.array([np.cos(turns).mean(), np.sin(turns).mean()]))


def v_test(angles_deg: Array, towards_deg: float) -> tuple[float, float]:
    """(V, p) of the V-test: do the angles, which know nothing of one another, cluster around a given direction?

    V is the resultant's component along that direction, in angles; its p is one-sided, of the normal approximation of
    V √(2/n) (Greenwood & Durand 1955; Batschelet 1981). NaN without angles.
    """
    known = angles_deg[~np.isnan(angles_deg)]
    if not len(known):
        return math.nan, math.nan
    v = float(np.cos(np.radians(known - towards_deg)).sum())
    return v, 0.5 * math.erfc(v / math.sqrt(len(known)))


def directions(states_deg: Sequence[float], sums: Array, directed: Array, level: float = 0.95) -> list[Direction]:
    """Of every state: (questions, states, 2) sums and (questions, states) counts, as `direction` has them of one.

    How far questions stray across a state's direction is drawn towards what it is in all states, as the variances of
    the states' means are: few labels are all alike by chance, and would promise that others will be.
    """
    each = range(len(states_deg))
    own = [_strays(_by_question(sums[:, at], directed[:, at])) for at in each]
    variances, freedom = (np.array(column) for column in zip(*own, strict=True)) if own else (np.zeros(0),) * 2
    across = np.stack(squeezed(variances, freedom), axis=-1)
    return [direction(states_deg[at], sums[:, at], directed[:, at], level, tuple(across[at])) for at in each]


def direction(
    asked_deg: float,
    sums: Array,
    directed: Array,
    level: float = 0.95,
    across: tuple[float, float] | None = None,
) -> Direction:
    """Where the readings of one state point, by (questions, 2) sums of `directed` (questions,) read unit vectors.

    A question counts by the mean of its directed readings, all questions alike. The interval of the bias is that of the
    part across the mean direction (delta method, Student's t); where it reaches half a turn, the bounds are NaN.
    `across`: the variance of that part and its degrees of freedom, where more than this state tells of them.
    """
    vectors = _by_question(sums, directed)
    if not len(vectors):
        nothing = Interval(math.nan, math.nan, math.nan, level, 0, OVER_QUESTIONS)
        return Direction(asked_deg, 0, math.nan, math.nan, nothing, math.nan, math.nan)
    mean_deg, length = _polar(vectors.mean(axis=0))
    angles = np.array([_polar(vector)[0] for vector in vectors])
    bias = (mean_deg - asked_deg + 180.0) % 360.0 - 180.0
    low, high = (bias + bound for bound in _across(vectors, level, across))
    return Direction(
        asked_deg,
        int(directed.sum()),
        mean_deg,
        length,
        Interval(bias, low, high, level, len(vectors), OVER_QUESTIONS),
        *v_test(angles, asked_deg),
    )


def profile(states_deg: Array, scores: Array, level: float = 0.95) -> Profile | None:
    """The structural summary of (questions, states) mean scores, NaN where there is none.

    Each question's wave is fitted by least squares to the states that it has; for evenly spread states that is the
    closed form 2/n Σ score cos (Gurtman 1992; Wright et al. 2009). None with fewer than four states in every question.
    """
    waves = np.array([_wave(states_deg, line) for line in scores if (~np.isnan(line)).sum() >= _LEAST_STATES])
    if not len(waves):
        return None
    elevation = _mean(waves[:, 0], level)
    vectors = waves[:, 1:]
    displacement, amplitude = _polar(vectors.mean(axis=0))
    turn = math.radians(displacement) if not math.isnan(displacement) else 0.0
    along = _mean(vectors @ np.array([math.cos(turn), math.sin(turn)]), level)
    low, high = (displacement + bound for bound in _across(vectors, level))
    units = len(waves)
    return Profile(
        within(elevation),  # a wave that is fitted to some of the states may rise above what a cosine can be
        Interval(amplitude, float(np.maximum(0.0, along.low)), along.high, level, units, OVER_QUESTIONS),
        Interval(displacement, low, high, level, units, OVER_QUESTIONS),
        _fit(states_deg, scores),
    )


def _wave(states_deg: Array, scores: Array) -> Array:
    """(3,): elevation, and the wave's cosine and sine parts."""
    there = ~np.isnan(scores)
    found, *_ = np.linalg.lstsq(_basis(states_deg[there]), scores[there], rcond=None)
    return np.asarray(found, dtype=np.float64)


def _fit(states_deg: Array, scores: Array) -> float:
    """Of the states' means over questions."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nansum(scores, axis=0) / (~np.isnan(scores)).sum(axis=0)
    there = ~np.isnan(means)
    rest = means[there] - _basis(states_deg[there]) @ _wave(states_deg, means)
    spread = float(((means[there] - means[there].mean()) ** 2).sum())
    return 1.0 - float((rest**2).sum()) / spread if spread > 1e-15 else math.nan


def _basis(states_deg: Array) -> Array:
    turns = np.radians(states_deg)
    return np.column_stack([np.ones(len(turns)), np.cos(turns), np.sin(turns)])


def _mean(values: Array, level: float) -> Interval:
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Interval(mean, math.nan, math.nan, level, n, OVER_QUESTIONS)
    reach = student.quantile((1 + level) / 2, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - reach, mean + reach, level, n, OVER_QUESTIONS)


def _by_question(sums: Array, directed: Array) -> Array:
    """(questions with any directed reading, 2) of their means."""
    there = directed > 0
    return np.asarray(sums[there] / directed[there, None])


def _strays(vectors: Array) -> tuple[float, float]:
    """The variance of some vectors across the direction of their mean, and its degrees of freedom; NaN without one."""
    mean = vectors.mean(axis=0) if len(vectors) > 1 else np.zeros(2)
    length = math.hypot(*mean)
    if length < NO_DIRECTION:
        return math.nan, math.nan
    return float((vectors @ np.array([-mean[1], mean[0]]) / length).var(ddof=1)), len(vectors) - 1.0


def _across(vectors: Array, level: float, strays: tuple[float, float] | None = None) -> tuple[float, float]:
    """How far, in degrees, the direction of the mean of some vectors may lie to either side; NaN where anywhere."""
    variance, freedom = strays or _strays(vectors)
    if math.isnan(variance):
        return math.nan, math.nan
    length = math.hypot(*vectors.mean(axis=0))
    reach = student.quantile((1 + level) / 2, freedom) * math.sqrt(variance / len(vectors))
    turn = math.degrees(math.atan2(reach, length)) if reach < length else math.nan
    return -turn, turn


def _polar(vector: Array) -> tuple[float, float]:
    """(angle in degrees, length); NaN angle of no direction."""
    length = math.hypot(*vector)
    return (math.degrees(math.atan2(vector[1], vector[0])) % 360.0 if length >= NO_DIRECTION else math.nan), length
