"""Rows become cells: sums per cell of a design, which add up over tables of any size and in any order.

A `Tally` holds named sums over the cells of named axes (template, intensity, state, question, …). Two tallies of
different rows add; the axes grow to the union of what both have seen. So ten million rows need the memory of one
batch and of the design, and parts may be tallied anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emoray.study.circumplex import Array

Level = str | float | bool


@dataclass(frozen=True)
class Factor:
    """A column of few distinct values: row i has `levels[codes[i]]`."""

    levels: tuple[Level, ...]
    codes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: Sequence[Level] | npt.NDArray[np.generic]) -> Factor:
        levels, codes = np.unique(np.asarray(values), return_inverse=True)
        return cls(tuple(levels.tolist()), codes.astype(np.int64))


@dataclass(frozen=True)
class Axis:
    name: str
    levels: tuple[Level, ...]  # each once

    def places(self, levels: Sequence[Level]) -> list[int]:
        """Where these levels stand; in one pass, as questions may be ten thousand."""
        place_of = {level: place for place, level in enumerate(self.levels)}
        return [place_of[level] for level in levels]


@dataclass(frozen=True)
class Tally:
    """Sums per cell; every array of `sums` has one dimension per axis."""

    axes: tuple[Axis, ...]
    sums: Mapping[str, Array]

    @classmethod
    def of(cls, factors: Mapping[str, Factor], values: Mapping[str, npt.NDArray[np.generic]]) -> Tally:
        """Tally rows: each row belongs to one level of every factor; NaN values add nothing."""
        axes = tuple(Axis(name, tuple(sorted(set(factor.levels)))) for name, factor in factors.items())
        shape = tuple(len(axis.levels) for axis in axes)
        codes = [_codes(factor, axis) for factor, axis in zip(factors.values(), axes, strict=True)]
        cells = np.ravel_multi_index(codes, shape) if all(shape) else np.zeros(0, dtype=np.int64)
        size = int(np.prod(shape))
        return cls(axes, {name: _sum(cells, column, size).reshape(shape) for name, column in values.items()})

    def __add__(self, other: Tally) -> Tally:
        if self.axes == other.axes:
            return Tally(self.axes, {name: self.sums[name] + other.sums[name] for name in self.sums})
        axes = tuple(_union(mine, theirs) for mine, theirs in zip(self.axes, other.axes, strict=True))
        return self.over(axes) + other.over(axes)

    def over(self, axes: tuple[Axis, ...]) -> Tally:
        """The same sums on wider axes, 0 where nothing was seen; every level of ours must be among theirs."""
        places = [wide.places(mine.levels) for mine, wide in zip(self.axes, axes, strict=True)]
        shape = tuple(len(axis.levels) for axis in axes)
        return Tally(axes, {name: _spread(array, places, shape) for name, array in self.sums.items()})

    def axis(self, name: str) -> Axis:
        return self.axes[self._at(name)]

    def without(self, name: str, *, level: Level | None = None) -> Tally:
        """One axis less: summed over all its levels, or only `level` of it."""
        at = self._at(name)
        rest = self.axes[:at] + self.axes[at + 1 :]
        if level is None:
            return Tally(rest, {key: np.asarray(array.sum(axis=at)) for key, array in self.sums.items()})
        if level not in self.axes[at].levels:
            shape = tuple(len(axis.levels) for axis in rest)
            return Tally(rest, {key: np.zeros(shape) for key in self.sums})
        place = self.axes[at].levels.index(level)
        return Tally(rest, {key: np.asarray(array.take(place, axis=at)) for key, array in self.sums.items()})

    def only(self, name: str, level: Level) -> Tally:
        """The sums of one level, its axis kept with that level alone."""
        at = self._at(name)
        return self._only(at, self.axes[at].levels.index(level))

    def among(self, name: str, levels: Sequence[Level]) -> Tally:
        """The sums of some levels, in their order here."""
        at, mine = self._at(name), self.axis(name)
        places = mine.places(levels)
        axes = (*self.axes[:at], Axis(name, tuple(levels)), *self.axes[at + 1 :])
        return Tally(axes, {key: array.take(places, axis=at) for key, array in self.sums.items()})

    def each(self, name: str) -> Iterator[tuple[Level, Tally]]:
        """Each level of an axis and the sums of it alone, in their order."""
        at = self._at(name)
        for place, level in enumerate(self.axes[at].levels):
            yield level, self._only(at, place)

    def _only(self, at: int, place: int) -> Tally:
        mine = self.axes[at]
        axes = (*self.axes[:at], Axis(mine.name, (mine.levels[place],)), *self.axes[at + 1 :])
        return Tally(axes, {key: array.take([place], axis=at) for key, array in self.sums.items()})

    def _at(self, name: str) -> int:
        return next(place for place, axis in enumerate(self.axes) if axis.name == name)


def _codes(factor: Factor, axis: Axis) -> npt.NDArray[np.int64]:
    return np.array(axis.places(factor.levels), dtype=np.int64)[factor.codes]


def _sum(cells: npt.NDArray[np.int64], column: npt.NDArray[np.generic], size: int) -> Array:
    weights = np.nan_to_num(np.asarray(column, dtype=np.float64), nan=0.0)
    return np.bincount(cells, weights=weights, minlength=size).astype(np.float64)


def _union(mine: Axis, theirs: Axis) -> Axis:
    if mine.name != theirs.name:
        raise ValueError(f"the axes {mine.name} and {theirs.name} do not match")
    return Axis(mine.name, tuple(sorted({*mine.levels, *theirs.levels})))


def _spread(array: Array, places: list[list[int]], shape: tuple[int, ...]) -> Array:
    whole = np.zeros(shape)
    whole[np.ix_(*places)] = array
    return whole
