"""What a contrast of an experiment is of: two levels of a factor, a trend over one, or what two factors do together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from emoray.study.conditions import Condition

FactorName = Literal["template", "intensity", "condition", "tag", "state", "model", "reader"]
Score = Literal["cosine", "projection"]
Level = str | float | Condition
FACTORS: tuple[FactorName, ...] = get_args(FactorName)
ORDERED: tuple[FactorName, ...] = ("intensity",)  # whose levels are numbers, so that a score may rise with them

# the half, or the quadrant, of the circumplex: the signs of valence and arousal, 0 for either
STATE_GROUPS: Mapping[str, tuple[int, int]] = {
    "pleasant": (1, 0),
    "unpleasant": (-1, 0),
    "activated": (0, 1),
    "deactivated": (0, -1),
    "pleasant-activated": (1, 1),
    "pleasant-deactivated": (1, -1),
    "unpleasant-activated": (-1, 1),
    "unpleasant-deactivated": (-1, -1),
}
_BORDER = 1e-9  # of a coordinate: a state that lies between two halves is in neither


@dataclass(frozen=True, slots=True)
class Part:
    """Level `a` against level `b` of a factor; of a trend both are None."""

    factor: FactorName
    a: Level | None = None
    b: Level | None = None

    @property
    def is_trend(self) -> bool:
        return self.a is None

    def __str__(self) -> str:
        return f"trend over {self.factor}" if self.is_trend else f"{self.factor}: {said(self.a)} − {said(self.b)}"


@dataclass(frozen=True, slots=True)
class Contrast:
    """One part, or the interaction of two: how far the first differs between the levels of the second."""

    parts: tuple[Part, ...]
    of: Score = "cosine"
    margin: float | None = None  # below which a difference would not matter, in the unit of the contrast

    @property
    def factors(self) -> tuple[FactorName, ...]:
        return tuple(part.factor for part in self.parts)

    @property
    def family(self) -> str:
        """Contrasts of the same factors are corrected for one another."""
        return " × ".join(sorted(self.factors))

    def __str__(self) -> str:
        what = " × ".join(f"({part})" for part in self.parts) if len(self.parts) > 1 else str(self.parts[0])
        return what if self.of == "cosine" else f"{what}, of the {self.of}"


def said(level: Level | None) -> str:
    """A level for a person: a name, a number, or a template at its intensity."""
    if isinstance(level, Condition):
        return f"{level.template} at {level.intensity:g}"
    return f"{level:g}" if isinstance(level, float) else str(level)


def of_entry(entry: Mapping[str, Any]) -> Contrast:
    """By an entry of a spec, as its manifest has it."""
    inside = entry.get("interaction") or [entry]
    parts = tuple(Part(one["factor"], _level(one.get("a")), _level(one.get("b"))) for one in inside)
    return Contrast(parts, entry.get("of") or "cosine", entry.get("margin"))


def of_spec(spec: Mapping[str, Any]) -> tuple[Contrast, ...]:
    """By a run's spec, as its manifest has it; none of a run from before there were any."""
    return tuple(of_entry(entry) for entry in spec.get("contrasts") or ())


def by_when(manifest: Mapping[str, Any]) -> tuple[tuple[Contrast, ...], tuple[Contrast, ...]]:
    """Of a run's contrasts those that were said before it had any answer, and those that came later."""
    every = of_spec(manifest.get("spec") or {})
    first = of_spec({"contrasts": manifest.get("contrasts_first")})
    return tuple(one for one in every if one in first), tuple(one for one in every if one not in first)


def tags_of(spec: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """The ids of the questions that have each tag, by a run's spec, as its manifest has it."""
    entries = [entry for entry in spec.get("questions") or () if isinstance(entry, Mapping)]
    return tagged([(str(entry["id"]), entry.get("tags") or ()) for entry in entries])


def tagged(questions: Sequence[tuple[str, Sequence[str]]]) -> dict[str, frozenset[str]]:
    """Tag -> the ids that have it, from (id, tags)."""
    tags = dict.fromkeys(tag for _, some in questions for tag in some)
    return {tag: frozenset(name for name, some in questions if tag in some) for tag in tags}


def in_group(group: str, angle_deg: float) -> bool:
    """Whether a state lies in a half or a quadrant, and not on its border; KeyError for an unknown one."""
    turn = math.radians(angle_deg)
    signs = zip(STATE_GROUPS[group], (math.cos(turn), math.sin(turn)), strict=True)
    return all(sign == 0 or sign * coordinate > _BORDER for sign, coordinate in signs)


def _level(value: Any) -> Level | None:
    if isinstance(value, Mapping):
        return Condition(str(value["template"]), float(value["intensity"]))
    return value if isinstance(value, str) or value is None else float(value)
