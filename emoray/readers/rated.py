"""A reader against people's valence and arousal, in the columns of EmoBank (Buechel & Hahn 2017): how near are they?

The data are not shipped (CC BY-SA): give `emobank.csv`, or a table of single ratings with one line per rating, by which
it is also known how well people agree with one another.
"""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emoray.analysis.concordance import Bounded, Concordance, concordance, one_against_the_others
from emoray.analysis.without_nan import without_nan
from emoray.errors import UserError
from emoray.plurals import count
from emoray.readers.protocol import Reader, Reading
from emoray.study.circumplex import Array
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import expectation

_LEAST, _MIDDLE, _MOST = 1.0, 3.0, 5.0  # the self-assessment manikin's five figures
_AXES = ("valence", "arousal")
_CHUNK = 2048


@dataclass(frozen=True)
class Rated:
    """Texts with ratings on -1 … 1; `of` says of which text each rating is."""

    texts: tuple[str, ...]
    ratings: Array  # (ratings, 2) of valence and arousal
    of: npt.NDArray[np.int64]  # (ratings,)

    @property
    def means(self) -> Array:
        """(texts, 2)"""
        n = np.bincount(self.of, minlength=len(self.texts))
        sums = [np.bincount(self.of, weights=column, minlength=len(self.texts)) for column in self.ratings.T]
        return np.asarray(np.stack(sums, axis=1) / n[:, None], dtype=np.float64)

    def first(self, n: int | None) -> Rated:
        kept = self.of < (len(self.texts) if n is None else n)
        return Rated(self.texts[:n], self.ratings[kept], self.of[kept])


@dataclass(frozen=True)
class OnAxis:
    """A reader on one axis, beside one person against others."""

    axis: str
    reader: Concordance
    people: Concordance | None  # None without single ratings


@dataclass(frozen=True)
class Against:
    """All that people's ratings say of a reader."""

    texts: int
    unread: int
    undirected: int  # read as having no place: a classifier's neutral counts as the middle
    axes: tuple[OnAxis, ...]
    cost_usd: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For programs; what is not known is null."""
        found: dict[str, Any] = without_nan(asdict(self))
        return found


def is_rated(path: str | Path) -> bool:
    """Whether a file has EmoBank's columns."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return {"v", "a", "text"} <= {name.strip().lower() for name in next(csv.reader(file), [])}
    except (OSError, ValueError, csv.Error):
        return False


def rated(path: str | Path) -> Rated:
    """The texts of a CSV with the columns id, V, A and text, rated from 1 to 5; lines of one id are of one text.

    Other columns (split, D) are not looked at; where there is no id, each text is its own. UserError for a line that
    cannot be used.
    """
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        lines = [{(name or "").strip().lower(): value for name, value in line.items()} for line in csv.DictReader(file)]
    places: dict[str, int] = {}
    texts: list[str] = []
    ratings: list[list[float]] = []
    of: list[int] = []
    for number, line in enumerate(lines, start=2):
        text = (line.get("text") or "").strip()
        if not text:
            raise UserError(f"{path}: line {number} has no text")
        name = (line.get("id") or "").strip() or text
        if name not in places:
            places[name] = len(texts)
            texts.append(text)
        ratings.append([_rating(f"{path}: line {number}", line, column) for column in ("v", "a")])
        of.append(places[name])
    if not texts:
        raise UserError(f"{path}: holds no rated texts")
    return Rated(tuple(texts), np.array(ratings), np.array(of, dtype=np.int64))


def compare(reader: Reader, people: Rated, own_map: LabelMap) -> Against:
    """What people's ratings say of a reader; of a classifier, by the probability-weighted place of its labels.

    UserError where it can read nothing.
    """
    readings: list[Reading] = []
    for start in range(0, len(people.texts), _CHUNK):
        readings += reader.read(people.texts[start : start + _CHUNK])
    if all(one.error is not None for one in readings):
        raise UserError(f"reader {reader.name!r} could not read a text: {readings[0].error}")
    places = np.array([_place(one, own_map) for one in readings])
    unread = np.array([one.error is not None for one in readings])
    undirected = np.isnan(places).any(axis=1) & ~unread
    places[undirected] = 0.0
    axes = [
        OnAxis(axis, concordance(people.means[:, at], places[:, at]), _people(people, at))
        for at, axis in enumerate(_AXES)
    ]
    cost = sum(one.cost_usd or 0.0 for one in readings)
    return Against(len(readings), int(unread.sum()), int(undirected.sum()), tuple(axes), cost)


def whole_table(name: str, found: Against) -> str:
    """For people."""
    lines = [
        f"{name} on {count(found.texts, 'text')} that people rated for valence and arousal (1 to 5, as −1 to 1)",
        f"  {'':<26}{'Pearson r':>22}{'concordance':>22}{'mean error':>22}",
    ]
    for one in found.axes:
        lines.append(f"  {one.axis:<26}{_said(one.reader)}")
        if one.people is not None:
            lines.append(f"  {'  one person and others':<26}{_said(one.people)}")
    lines += [f"  not readable   {count(found.unread, 'text')}"] if found.unread else []
    lines += [f"  no direction   {count(found.undirected, 'text')}, counted as the middle"] if found.undirected else []
    lines += [f"  cost           ${found.cost_usd:,.2f}"] if found.cost_usd else []
    lines += [
        "  brackets: 95 % for other texts of the kind; concordance is Lin's, 1 only where the values are the same"
    ]
    return "\n".join(lines)


def _people(people: Rated, at: int) -> Concordance | None:
    return one_against_the_others(people.ratings[:, at], people.of)


def _place(one: Reading, own_map: LabelMap) -> tuple[float, float]:
    if one.affect is not None:
        return one.affect.valence, one.affect.arousal
    if one.probabilities is None:
        return math.nan, math.nan
    valence, arousal = expectation(one.probabilities[None, :], own_map.vectors())[0]
    return float(valence), float(arousal)


def _rating(where: str, line: dict[str, str], column: str) -> float:
    try:
        value = float(line.get(column) or "nan")
    except ValueError:
        value = math.nan
    if not _LEAST <= value <= _MOST:
        raise UserError(f"{where} needs a rating from 1 to 5 under {column.upper()}, got {line.get(column)!r}")
    return (value - _MIDDLE) / (_MOST - _MIDDLE)


def _said(found: Concordance) -> str:
    return "".join(f"{_figure(one):>22}" for one in (found.pearson, found.concordance, found.error))


def _figure(one: Bounded) -> str:
    if math.isnan(one.estimate):
        return "–"
    bounds = "–" if math.isnan(one.low) else f"{one.low:.3f}, {one.high:.3f}"
    return f"{one.estimate:.3f} [{bounds}]"
