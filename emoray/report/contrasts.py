"""The contrasts of a run: those that its spec said before anything was asked, and those that somebody looked at after.

They are of the same means as all tables: by the report's rules for neutral readings and refusals, of the headline's
condition but for the factors that a contrast is of. A contrast is told of every model by every reader, or of every
reader where models are contrasted, and the other way round. Those said before and those looked at after are never of
one family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
class Line:
    """One contrast of one model by one reader."""

    contrast: Contrast
    planned: bool  # said before the run
    model: str | None  # None where models are contrasted
    reader: str | None  # None where readers are
    tested: Tested  # signed: a minus b
    family: int  # how many were corrected together
    doses: Doses | None = None  # of a trend by itself


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
    planned = [(one, True, who) for one in wanted.planned for who in book.whom(one)]
    every = planned + [(one, False, who) for one in wanted.explored for who in book.whom(one)]
    families: dict[tuple[str, bool], list[int]] = {}
    for place, (contrast, said_before, _) in enumerate(every):
        families.setdefault((contrast.family, said_before), []).append(place)
    found: dict[int, Line] = {}
    for places in families.values():
        members = [(book.estimate(*every[i][::2]), every[i][0].margin, _reach(every[i][0], book)) for i in places]
        for place, tested in zip(places, concluded(members, level), strict=True):
            contrast, said_before, (reader, model) = every[place]
            told = book.doses(contrast, (reader, model), level)
            found[place] = Line(contrast, said_before, model, reader, tested, len(places), told)
    return tuple(found[place] for place in range(len(every)))


def _reach(contrast: Contrast, book: _Book) -> float:
    """The farthest from 0 that a contrast of cosines can lie; of lengths nobody knows."""
    if contrast.of != "cosine":
        return math.inf
    weights = [book.weights(part) for part in contrast.parts]
    return math.prod(sum(map(abs, some)) for some in weights)


Whom = tuple[str | None, str | None]  # (reader, model)


@dataclass(frozen=True)
class _Book:
    tallies: Mapping[Who, Tally]
    headline: Condition
    tags: Mapping[str, frozenset[str]]

    def whom(self, contrast: Contrast) -> list[Whom]:
        """Of whom it is told."""
        names = [
            (("reader" not in contrast.factors and reader) or None, ("model" not in contrast.factors and model) or None)
            for reader, model in self.tallies
        ]
        return list(dict.fromkeys(names))

    def estimate(self, contrast: Contrast, who: Whom) -> Estimated:
        reader, model = who
        cells = [(1.0, _Cell(reader or "", model or "", self.headline.template, self.headline.intensity))]
        for part in contrast.parts:
            cells = [more for weight, cell in cells for more in self._spread(part, weight, cell)]
        tables = [self._table(cell, contrast) for _, cell in cells]
        return estimated(
            combined(tables, [weight for weight, _ in cells]),
            states=self._states(contrast),
            questions=self._questions(contrast),
            paired=len(cells) > 1,
        )

    def doses(self, contrast: Contrast, who: Whom, level: float) -> Doses | None:
        """None of what is no trend by itself."""
        if len(contrast.parts) > 1 or not contrast.parts[0].is_trend:
            return None
        reader, model = who
        cells = [_Cell(reader or "", model or "", self.headline.template, intensity) for intensity in self._intensities]
        reach = 1.0 if contrast.of == "cosine" else math.inf
        return doses(self._intensities, [self._table(cell, contrast) for cell in cells], level, reach=reach)

    def weights(self, part: Part) -> tuple[float, ...]:
        return slope_weights(self._intensities) if part.is_trend else (1.0, -1.0)

    def _spread(self, part: Part, weight: float, cell: _Cell) -> Iterator[tuple[float, _Cell]]:
        """What a part makes of one table; a group of states or of questions is a part of the table itself."""
        if part.factor in ("state", "tag"):
            yield weight, cell
            return
        levels = self._intensities if part.is_trend else (part.a, part.b)
        for share, level in zip(self.weights(part), levels, strict=True):
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
