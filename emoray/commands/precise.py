"""How many repetitions, or questions, make every model's interval as narrow as is wished, and what they cost.

What is foreseen rests on how far answers spread: in a pilot, as its report tells it, or as the shipped priors take it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from emoray.analysis.planning import half_width, needed_questions, needed_repetitions
from emoray.analysis.variance import Parts
from emoray.analysis.without_nan import without_nan
from emoray.commands.estimate import Size
from emoray.errors import UserError
from emoray.plurals import count
from emoray.spec.study import Study

PRIORS = Parts(question=0.11**2, state=math.nan, interaction=0.09**2, repetition=0.42**2)
WHOSE = (
    "shipped priors, ours: the middle one of the three worlds in which docs/validity.md tries the intervals, whose "
    "questions lie 0.11 apart, their suiting of states 0.09, answers to one prompt 0.42 (standard deviations); "
    "measure yours with --pilot RUN"
)


@dataclass(frozen=True)
class Line:
    """Of one headline: a model's mean by one reader. Widths are expected, and NaN where nothing tells them."""

    model: str
    reader: str
    basis: str  # pilot or priors
    parts: Parts
    as_planned: float  # half-width of the spec's design
    floor: float  # with these questions, however often they are asked
    repetitions: int | None  # with these questions; None: no number suffices, or it is not known
    questions: int | None  # with these repetitions; None: not known

    def text(self, precision: float, questions: int, repetitions: int) -> str:
        """`a, read by r (pilot): ±0.031 as planned; …`"""
        who = f"{self.model}, read by {self.reader} ({self.basis})"
        takes = f"±{precision:g} takes {self._repetitions(questions)}, or {self._questions(repetitions)}"
        return f"{who}: {self._width(questions)} as planned; {takes}"

    def _width(self, questions: int) -> str:
        if questions < 2:
            return "no interval, of one question,"
        return "an unknown interval" if math.isnan(self.as_planned) else f"±{self.as_planned:.3f}"

    def _repetitions(self, questions: int) -> str:
        asked = count(questions, "question")
        if self.repetitions is not None:
            return f"{count(self.repetitions, 'repetition')} of the {asked}"
        if math.isnan(self.floor):
            return f"more than {asked}" if questions < 2 else "repetitions that nobody can tell (the pilot had one)"
        return f"more than {asked}: however often they are asked, it stays ±{self.floor:.3f}"

    def _questions(self, repetitions: int) -> str:
        if self.questions is None:
            return "questions that nobody can tell"
        return f"{count(self.questions, 'question')} at {count(repetitions, 'repetition')}"


@dataclass(frozen=True)
class Design:
    """A design in which every headline is narrow enough, and what it takes in all."""

    questions: int
    repetitions: int
    size: Size  # of all models, with nothing asked yet

    def text(self) -> str:
        """`10 questions × 24 repetitions: 2,880 cells: …`"""
        return f"{count(self.questions, 'question')} × {count(self.repetitions, 'repetition')}: {self.size.text()}"


@dataclass(frozen=True)
class Precise:
    precision: float
    states: int
    questions: int
    repetitions: int
    basis: str
    lines: tuple[Line, ...]
    by_repetitions: Design | None  # None where no number of repetitions suffices for all, or it is not known
    by_questions: Design | None  # None where it is not known

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return dict(without_nan(asdict(self)))

    def text(self) -> str:
        """For a terminal."""
        asked = f"{count(self.states, 'state')} × {count(self.questions, 'question')}"
        lines = [f"for every mean ±{self.precision:g} (95 % intervals over questions), of {asked}:", ""]
        lines += [f"  {line.text(self.precision, self.questions, self.repetitions)}" for line in self.lines]
        more = self.by_repetitions.text() if self.by_repetitions else self._no_repetitions()
        other = self.by_questions.text() if self.by_questions else "not known: give a pilot with two repetitions"
        lines += ["", f"  all by repetitions: {more}", f"  all by questions:   {other}", f"  spread: {self.basis}"]
        return "\n".join(lines)

    def _no_repetitions(self) -> str:
        if any(math.isnan(line.floor) for line in self.lines) and self.questions > 1:
            return "not known: give a pilot with two repetitions"
        return f"no number of them is enough with {count(self.questions, 'question')}"


def precise(study: Study, precision: float, pilot: str | None, whole: Size) -> Precise:
    """What brings every model's mean, by every reader, to ± `precision`; `whole` is what all of the study takes.

    UserError where `pilot` is no run folder, or has none of the study's models and readers.
    """
    known = _of_pilot(pilot) if pilot else {}
    asked = [(model.name, reader.name) for model in study.spec.models for reader in study.spec.readers]
    if pilot and not any(who in known for who in asked):
        raise UserError(f"{pilot} has scored none of {_names(asked)}; give a run of these models and readers")
    e = study.experiment
    states, questions, repetitions = len(e.states), len(e.questions), e.repetitions
    lines = tuple(_line(who, known.get(who), (states, questions, repetitions), precision) for who in asked)
    many, other = _most([line.repetitions for line in lines]), _most([line.questions for line in lines])
    return Precise(
        precision, states, questions, repetitions,
        _basis(pilot, lines),
        lines,
        None if many is None else Design(questions, many, _times(whole, many / repetitions)),
        None if other is None else Design(other, repetitions, _times(whole, other / questions)),
    )  # fmt: skip


def _of_pilot(place: str) -> Mapping[tuple[str, str], Parts | None]:
    """Whom it has scored, and how far; None where one question, or one state, does not tell."""
    from emoray.notebook.run import load

    found = load(place).found
    scored = {(one.model, one.reader): one.scores.whole.parts for one in found.models}
    return {who: None if math.isnan(parts.question) else parts for who, parts in scored.items()}


def _line(who: tuple[str, str], seen: Parts | None, design: tuple[int, int, int], precision: float) -> Line:
    states, questions, repetitions = design
    parts = PRIORS if seen is None else seen
    return Line(
        *who,
        "priors" if seen is None else "pilot",
        parts,
        half_width(parts, states, questions, repetitions),
        half_width(parts, states, questions, math.inf),
        needed_repetitions(parts, states, questions, precision),
        needed_questions(parts, states, repetitions, precision),
    )


def _most(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return max(known) if len(known) == len(numbers) else None


def _times(whole: Size, factor: float) -> Size:
    """What a design with so many times the cells takes; canaries count as if they grew with it."""
    return replace(
        whole,
        cells=round(whole.cells * factor),
        at_least_s=whole.at_least_s * factor,
        disk_bytes=whole.disk_bytes * factor,
        usd=whole.usd * factor,
    )


def _basis(pilot: str | None, lines: tuple[Line, ...]) -> str:
    bases = {line.basis for line in lines}
    seen = [f"pilot {pilot}"] if "pilot" in bases else []
    return "; elsewhere ".join(seen + ([WHOSE] if "priors" in bases else []))


def _names(asked: list[tuple[str, str]]) -> str:
    return ", ".join(f"{model} by {reader}" for model, reader in asked)
