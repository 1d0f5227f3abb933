"""The contrasts of a run: those that its spec said before anything was asked, and those that somebody looked at after.

They are of the same means as all tables: by the report's rules for neutral readings and refusals, of the headline's
condition but for the factors that a contrast is of. A contrast is told of every model by every reader, or of every
reader where models are contrasted, and the other way round. Those said before and those looked at after are never of
one family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
)
from emoray.analysis.tally import Tally
from emoray.report.agreement import Who
from emoray.study.circumplex import Array
from emoray.study.conditions import Condition
from emoray.study.contrasts import Contrast, FactorName, Level, Meaning, Part, in_group, meant, reach, weights


@dataclass(frozen=True)
class Wanted:
    """What is to be contrasted."""

    planned: tuple[Contrast, ...] = ()
    explored: tuple[Contrast, ...] = ()
    first: Meaning = field(default_factory=lambda: meant({}))  # what the planned ones mean
    now: Meaning = field(default_factory=lambda: meant({}))

    def __bool__(self) -> bool:
        return bool(self.planned or self.explored)

    @property
    def projections(self) -> bool:
        """Whether any is of the length of readings."""
        return any(one.of == "projection" for one in (*self.planned, *self.explored))

    def under_other_rules(self) -> Wanted:
        """None is then what was said before the run."""
        return replace(self, planned=(), explored=tuple(dict.fromkeys((*self.planned, *self.explored))))


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
    headline: Condition | None = None  # of which it is, but for its own factors

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
    level: float,
) -> tuple[Line, ...]:
    """Contrast by contrast, then reader by reader, as they stand in `tallies`, which share their axes.

    Those said before the run are told, and corrected, of all that it was to have, asked or not, and as they were meant
    then; of a model or a reader that came later they are looked at after. `headline` is that of all else here.
    """
    if headline is None:
        return ()
    books = {
        True: _Book(tallies, wanted.first.headline or headline, wanted.first),
        False: _Book(tallies, headline, wanted.now),
    }
    every = _every(wanted, books)
    families: dict[tuple[str, bool], list[_Told]] = {}
    for one in every:
        families.setdefault((one.contrast.family, one.planned), []).append(one)
    lines = {
        line.told: line for (_, planned), family in families.items() for line in books[planned].lines(family, level)
    }
    return tuple(lines[one] for one in every)


def _every(wanted: Wanted, books: Mapping[bool, _Book]) -> list[_Told]:
    planned = [_Told(one, True, *who) for one in wanted.planned for who in books[True].whom_planned(one)]
    told = [
        _Told(one, False, *who)
        for one in (*wanted.planned, *wanted.explored)
        for who in books[False].whom(one)
        if one in wanted.explored or _Told(one, True, *who) not in planned
    ]
    return list(dict.fromkeys([*planned, *told]))


@dataclass(frozen=True)
class _Book:
    tallies: Mapping[Who, Tally]
    headline: Condition
    meaning: Meaning

    def whom(self, contrast: Contrast) -> list[tuple[str | None, str | None]]:
        """(reader, model) of whom it is told."""
        return _without(contrast, list(self.tallies))

    def whom_planned(self, contrast: Contrast) -> list[tuple[str | None, str | None]]:
        """Of those that were there when it was said, also where nothing of them is."""
        first = [(reader, model) for reader in self.meaning.readers for model in self.meaning.models]
        there = [who for who in self.tallies if who in first]
        return _without(contrast, [*there, *(who for who in first if who not in there)])

    def lines(self, family: Sequence[_Told], level: float) -> Iterator[Line]:
        """Of contrasts that are corrected for one another."""
        members = [(self._estimate(one), one.contrast.margin, reach(one.contrast, self._intensities)) for one in family]
        for one, tested in zip(family, concluded(members, level), strict=True):
            doses_of = self._doses(one, level)
            yield Line(one.contrast, one.planned, one.model, one.reader, tested, len(family), doses_of, self.headline)

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

    def _spread(self, part: Part, weight: float, cell: _Cell) -> Iterator[tuple[float, _Cell]]:
        """What a part makes of one table; a group of states or of questions is a part of the table itself."""
        if part.factor in ("state", "tag"):
            yield weight, cell
            return
        levels = self._intensities if part.is_trend else (part.a, part.b)
        for share, level in zip(weights(part, self._intensities), levels, strict=True):
            yield weight * share, _at(cell, part.factor, level)

    @property
    def _intensities(self) -> tuple[float, ...]:
        """Of the spec, asked or not yet; of a run without one those that were asked."""
        return self.meaning.intensities or tuple(float(level) for level in self._any.axis("intensity").levels)

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
                a, b = (self.meaning.tags.get(str(tag), frozenset()) for tag in (part.a, part.b))
                return _flags(name in a for name in ids), _flags(name in b for name in ids)
        return None


def _without(contrast: Contrast, pairs: Sequence[Who]) -> list[tuple[str | None, str | None]]:
    """(reader, model) without what is contrasted, each once."""
    reader_too, model_too = "reader" not in contrast.factors, "model" not in contrast.factors
    return list(
        dict.fromkeys((reader if reader_too else None, model if model_too else None) for reader, model in pairs)
    )


def _at(cell: _Cell, factor: FactorName, level: Level | None) -> _Cell:
    """The same table at another level of one factor."""
    if isinstance(level, Condition):
        return replace(cell, template=level.template, intensity=level.intensity)
    changed: dict[str, Any] = {factor: level}
    return replace(cell, **changed)


def _flags(values: Iterator[bool]) -> Flags:
    return np.array(list(values), dtype=np.bool_)
