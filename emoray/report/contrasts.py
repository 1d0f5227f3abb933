"""The contrasts of a run: those that its spec said before anything was asked, and those that somebody looked at after.

They are of the same means as all tables: by the report's rules for neutral readings and refusals, of the headline's
condition but for the factors that a contrast is of. A contrast is told of every model by every reader, or of every
reader where models are contrasted, and the other way round. Those said before and those looked at after are never of
one family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emoray.analysis.contrasts import (
    Doses,
    Estimated,
    Flags,
    Tested,
    combined,
    concluded,
    doses,
    estimated,
    size_of,
    slope_weights,
)
from emoray.analysis.tally import Tally
from emoray.report.agreement import Who
from emoray.study.circumplex import Array
from emoray.study.conditions import Condition
from emoray.study.contrasts import Contrast, FactorName, Level, Part, in_group


@dataclass(frozen=True)
class Wanted:
    """What is to be contrasted."""

    planned: tuple[Contrast, ...] = ()
    explored: tuple[Contrast, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.planned or self.explored)

    @property
    def projections(self) -> bool:
        """Whether any is of the length of readings."""
        return any(one.of == "projection" for one in (*self.planned, *self.explored))


@dataclass(frozen=True)
class _Told:
    contrast: Contrast
    planned: bool
    reader: str | None
    model: str | None


@dataclass(frozen=True)
class Line:
    """One contrast of one model by one reader."""

    contrast: Contrast
    planned: bool  # said before the run
    model: str | None  # None where models are contrasted
    reader: str | None  # None where readers are
    tested: Tested  # signed: a minus b
    family: int  # how many were corrected together
    doses: Doses | None = None  # of a trend by itself

    @property
    def told(self) -> _Told:
        return _Told(self.contrast, self.planned, self.reader, self.model)


@dataclass(frozen=True)
class _Cell:
    """One table of means."""

    reader: str
    model: str
    template: str
    intensity: float


def contrasts(
    tallies: Mapping[Who, Tally],
    wanted: Wanted,
    headline: Condition | None,
    tags: Mapping[str, frozenset[str]],
    level: float,
) -> tuple[Line, ...]:
    """Contrast by contrast, then reader by reader, as they stand in `tallies`, which share their axes.

    `tags` are the ids of the questions by tag.
    """
    if headline is None:
        return ()
    book = _Book(tallies, headline, tags)
    kinds = ((True, wanted.planned), (False, wanted.explored))
    every = [_Told(one, planned, *who) for planned, some in kinds for one in some for who in book.whom(one)]
    families: dict[tuple[str, bool], list[_Told]] = {}
    for one in every:
        families.setdefault((one.contrast.family, one.planned), []).append(one)
    lines = {line.told: line for family in families.values() for line in book.lines(family, level)}
    return tuple(lines[one] for one in every)


@dataclass(frozen=True)
class _Book:
    tallies: Mapping[Who, Tally]
    headline: Condition
    tags: Mapping[str, frozenset[str]]

    def whom(self, contrast: Contrast) -> list[tuple[str | None, str | None]]:
        """(reader, model) of whom it is told."""
        names = [
            (("reader" not in contrast.factors and reader) or None, ("model" not in contrast.factors and model) or None)
            for reader, model in self.tallies
        ]
        return list(dict.fromkeys(names))

    def lines(self, family: Sequence[_Told], level: float) -> Iterator[Line]:
        """Of contrasts that are corrected for one another."""
        members = [(self._estimate(one), one.contrast.margin, self._reach(one.contrast)) for one in family]
        for one, tested in zip(family, concluded(members, level), strict=True):
            yield Line(one.contrast, one.planned, one.model, one.reader, tested, len(family), self._doses(one, level))

    def _estimate(self, told: _Told) -> Estimated:
        contrast, cells = told.contrast, [(1.0, self._cell(told))]
        for part in contrast.parts:
            cells = [more for weight, cell in cells for more in self._spread(part, weight, cell)]
        tables, weights = [self._table(cell, contrast) for _, cell in cells], [weight for weight, _ in cells]
        return estimated(
            combined(tables, weights),
            states=self._states(contrast),
            questions=self._questions(contrast),
            paired=len(cells) > 1,
            size=size_of(tables, weights),
        )

    def _cell(self, told: _Told) -> _Cell:
        """Where all begins: the headline's condition."""
        return _Cell(told.reader or "", told.model or "", self.headline.template, self.headline.intensity)

    def _doses(self, told: _Told, level: float) -> Doses | None:
        """None of what is no trend by itself."""
        contrast, levels = told.contrast, self._intensities
        if len(contrast.parts) > 1 or not contrast.parts[0].is_trend:
            return None
        tables = [self._table(replace(self._cell(told), intensity=x), contrast) for x in levels]
        return doses(levels, tables, level, reach=1.0 if contrast.of == "cosine" else math.inf)

    def _reach(self, contrast: Contrast) -> float:
        """The farthest from 0 that a contrast of cosines can lie; of lengths nobody knows."""
        if contrast.of != "cosine":
            return math.inf
        return math.prod(sum(map(abs, self._weights(part))) for part in contrast.parts)

    def _weights(self, part: Part) -> tuple[float, ...]:
        return slope_weights(self._intensities) if part.is_trend else (1.0, -1.0)

    def _spread(self, part: Part, weight: float, cell: _Cell) -> Iterator[tuple[float, _Cell]]:
        """What a part makes of one table; a group of states or of questions is a part of the table itself."""
        if part.factor in ("state", "tag"):
            yield weight, cell
            return
        levels = self._intensities if part.is_trend else (part.a, part.b)
        for share, level in zip(self._weights(part), levels, strict=True):
            yield weight * share, _at(cell, part.factor, level)

    @property
    def _intensities(self) -> tuple[float, ...]:
        return tuple(float(level) for level in self._any.axis("intensity").levels)

    @property
    def _any(self) -> Tally:
        return next(iter(self.tallies.values()))

    def _table(self, cell: _Cell, contrast: Contrast) -> Array:
        """(questions, states) of means; NaN where nothing was scored."""
        tally = self.tallies.get((cell.reader, cell.model))
        templates, intensities = (self._any.axis(name).levels for name in ("template", "intensity"))
        if tally is None or cell.template not in templates or cell.intensity not in intensities:
            return np.full([len(self._any.axis(name).levels) for name in ("question", "state")], math.nan)
        place = templates.index(cell.template), intensities.index(cell.intensity)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = tally.sums[f"{contrast.of}_sum"][place] / tally.sums[f"{contrast.of}_n"][place]
        return np.asarray(found.T)

    def _states(self, contrast: Contrast) -> tuple[Flags, Flags] | None:
        angles = [float(level) for level in self._any.axis("state").levels]
        for part in contrast.parts:
            if part.factor == "state":
                return _flags(in_group(str(part.a), x) for x in angles), _flags(
                    in_group(str(part.b), x) for x in angles
                )
        return None

    def _questions(self, contrast: Contrast) -> tuple[Flags, Flags] | None:
        ids = [str(level) for level in self._any.axis("question").levels]
        for part in contrast.parts:
            if part.factor == "tag":
                a, b = (self.tags.get(str(tag), frozenset()) for tag in (part.a, part.b))
                return _flags(name in a for name in ids), _flags(name in b for name in ids)
        return None


def _at(cell: _Cell, factor: FactorName, level: Level | None) -> _Cell:
    """The same table at another level of one factor."""
    if isinstance(level, Condition):
        return replace(cell, template=level.template, intensity=level.intensity)
    changed: dict[str, Any] = {factor: level}
    return replace(cell, **changed)


def _flags(values: Iterator[bool]) -> Flags:
    return np.array(list(values), dtype=np.bool_)
