"""Russell's circumplex: affect as a point on the plane of valence and arousal.

Angles are in degrees, counter-clockwise from pleasure: 0 pleasant, 90 aroused, 180 unpleasant, 270 sleepy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NO_DIRECTION = 1e-9  # a shorter vector is the origin: it has no angle, and a cosine with it is undefined


@dataclass(frozen=True, slots=True)
class Affect:
    """A point on the plane; on the unit circle it is an emotional state at full intensity."""

    valence: float  # -1 unpleasant … 1 pleasant
    arousal: float  # -1 asleep … 1 aroused

    @classmethod
    def at(cls, angle_deg: float, intensity: float = 1.0) -> Affect:
        """The point at an angle (degrees) and a distance from the origin (0 … 1)."""
        turn = math.radians(angle_deg)
        return cls(_clean(intensity * math.cos(turn)), _clean(intensity * math.sin(turn)))

    @property
    def angle_deg(self) -> float:
        """The direction in [0, 360); NaN at the origin, which has none."""
        if self.intensity < NO_DIRECTION:
            return math.nan
        return round(math.degrees(math.atan2(self.arousal, self.valence)), 9) % 360.0

    @property
    def intensity(self) -> float:
        """The distance from the origin; 1 on the unit circle."""
        return math.hypot(self.valence, self.arousal)

    def scaled(self, by: float) -> Affect:
        """The same direction, `by` times as far from the origin."""
        return Affect(_clean(self.valence * by), _clean(self.arousal * by))


def around_the_circle(n: int) -> tuple[Affect, ...]:
    """n evenly spaced unit vectors, counter-clockwise from (1, 0); n = 12 gives the paper's states."""
    if n < 1:
        raise ValueError(f"a circle needs at least one state, got {n}")
    return tuple(Affect.at(360.0 * i / n) for i in range(n))


def cosine(a: Affect, b: Affect) -> float:
    """The cosine of the angle between two affects, -1 … 1; NaN where either has no direction."""
    return float(cosines(np.array([[a.valence, a.arousal]]), np.array([[b.valence, b.arousal]]))[0])


def cosines(a: Array, b: Array) -> Array:
    """Row-wise cosines of two (n, 2) arrays of (valence, arousal); NaN where a row has no direction."""
    dots = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(_points(a) & _points(b), dots / (_lengths(a) * _lengths(b)), np.nan)
    return np.clip(ratio, -1.0, 1.0)


def cosines_with(a: Array, vectors: Array, nothing: float = math.nan) -> Iterator[Array]:
    """(n,) cosines of (n, 2) rows with each of (k, 2) vectors in turn, as `cosines` has them.

    `nothing` stands where one has no direction. What all of them share is found once.
    """
    points, lengths, (v, w) = _points(a), _lengths(a), np.ascontiguousarray(a.T)
    everywhere = bool(points.all())
    for vector, length, directed in zip(vectors, _lengths(vectors), _points(vectors), strict=True):
        if not directed:
            yield np.full(len(a), nothing)
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = (v * vector[0] + w * vector[1]) / (lengths * length)
        np.clip(ratio, -1.0, 1.0, out=ratio)
        yield ratio if everywhere else np.where(points, ratio, nothing)


def directions(a: Array) -> Array:
    """(n, 2) of length 1; NaN rows where there is no direction."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(_points(a)[..., None], a / _lengths(a)[..., None], np.nan)


def angle_between_deg(a_deg: float, b_deg: float) -> float:
    """The signed turn from a to b in degrees, in (-180, 180]; positive is counter-clockwise."""
    turn = (b_deg - a_deg) % 360.0
    return turn - 360.0 if turn > 180.0 else turn


def angle_errors_deg(asked: Array, read: Array) -> Array:
    """Signed turns (degrees, (-180, 180]) from asked to read, both (n, 2); NaN where a row has no direction."""
    cross = asked[..., 0] * read[..., 1] - asked[..., 1] * read[..., 0]
    dot = asked[..., 0] * read[..., 0] + asked[..., 1] * read[..., 1]
    turns = np.degrees(np.arctan2(cross, dot))
    turns = np.where(turns <= -180.0, 180.0, turns)
    return np.where(_points(asked) & _points(read), turns, np.nan)


def midpoint_deg(angles_deg: list[float]) -> float:
    """The circular mean of some angles, in [0, 360)."""
    turns = np.radians(np.asarray(angles_deg, dtype=np.float64))
    middle = Affect(float(np.cos(turns).sum()), float(np.sin(turns).sum()))
    if math.isnan(middle.angle_deg):
        raise ValueError(f"the angles {angles_deg} cancel one another and have no midpoint")
    return middle.angle_deg


def _lengths(a: Array) -> Array:
    """(n, 2) -> (n,); with sqrt, which every machine rounds alike, and not hypot, which they do not."""
    return np.asarray(np.sqrt(a[..., 0] * a[..., 0] + a[..., 1] * a[..., 1]), dtype=np.float64)


def _points(a: Array) -> npt.NDArray[np.bool_]:
    """Which rows have a direction; NaN rows have none. (n, 2) -> (n,)"""
    return np.asarray(_lengths(a) >= NO_DIRECTION, dtype=np.bool_)


def _clean(x: float) -> float:
    """Twelve decimals: cos(90°) is 0 and not 6e-17, so that equal states have equal keys on every machine."""
    return round(x, 12) + 0.0
