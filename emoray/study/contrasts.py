"""What a contrast of an experiment is of: two levels of a factor, a trend over one, or what two factors do together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from emoray.study.conditions import Condition, controls_of, headline_of

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

    @property
    def varies(self) -> FactorName:
        """Of two conditions that differ in one factor only, that one."""
        if not isinstance(self.a, Condition) or not isinstance(self.b, Condition):
            return self.factor
        if self.a.intensity == self.b.intensity:
            return "template"
        return "intensity" if self.a.template == self.b.template else "condition"

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
        return " × ".join(sorted(part.varies for part in self.parts))

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


@dataclass(frozen=True, slots=True)
class Meaning:
    """What contrasts leave open and a spec decides: of whom, by what rules, at what else they are."""

    headline: Condition | None
    tags: Mapping[str, frozenset[str]]
    intensities: tuple[float, ...]
    models: tuple[str, ...]
    readers: tuple[str, ...]
    rules: Mapping[str, Any]  # by which readings are scored: neutral, refusals, and where labels lie

    def of(self, contrast: Contrast) -> tuple[Any, ...]:
        """What of it a contrast depends on, beside the rules."""
        tags = [self.tags.get(str(tag)) for part in contrast.parts if part.factor == "tag" for tag in (part.a, part.b)]
        trend = any(part.is_trend for part in contrast.parts)
        factors = {"template", "intensity"} if "condition" in contrast.factors else set(contrast.factors)
        kept = {name: getattr(self.headline, name, None) for name in ("template", "intensity") if name not in factors}
        return kept, tags, sorted(self.intensities) if trend else None


def meaning(described: Mapping[str, Any]) -> dict[str, Any]:
    """Of the contrasts of a run, by what its manifest says of its spec; plain JSON values, as `meant` reads them."""
    spec = described.get("spec") or {}
    names = [str(entry["name"]) for entry in spec.get("templates") or () if isinstance(entry, Mapping)]
    seen = [Condition(name, float(level)) for name in names for level in spec.get("intensities") or ()]
    marks = (described.get("marks") or {}).get("templates", {})
    headline = headline_of(spec, seen, controls_of(spec, marks, names))
    readers = {str(entry["name"]): entry.get("label_map") for entry in spec.get("readers") or ()}
    return {
        "headline": headline and {"template": headline.template, "intensity": headline.intensity},
        "tags": {tag: sorted(ids) for tag, ids in tags_of(spec).items()},
        "intensities": [float(level) for level in spec.get("intensities") or ()],
        "models": [str(entry["name"]) for entry in spec.get("models") or ()],
        "readers": list(readers),
        "rules": {
            "neutral": spec.get("neutral", "zero"),
            "refusals": spec.get("refusals", "zero"),
            "labels": _places((described.get("label_map") or {}).get("labels") or {}),
            "own_labels": {name: _places(own) for name, own in readers.items() if isinstance(own, Mapping)},
        },
    }


def meant(kept: Mapping[str, Any]) -> Meaning:
    """By what `meaning` gave."""
    headline = kept.get("headline")
    return Meaning(
        headline and Condition(str(headline["template"]), float(headline["intensity"])),
        {str(tag): frozenset(ids) for tag, ids in (kept.get("tags") or {}).items()},
        tuple(kept.get("intensities") or ()),
        tuple(kept.get("models") or ()),
        tuple(kept.get("readers") or ()),
        kept.get("rules") or {},
    )


def by_when(manifest: Mapping[str, Any]) -> tuple[tuple[Contrast, ...], tuple[Contrast, ...]]:
    """The contrasts of a run that were said before it had any answer, whatever its spec says now, and those that came
    later: others, and the same where they now mean something else.

    Under other rules none is what was said. Of an emoray that did not write down what they meant, all came later.
    """
    every, first = of_spec(manifest.get("spec") or {}), of_spec({"contrasts": manifest.get("contrasts_first")})
    before, now = manifest.get("contrasts_meant"), meaning(manifest)
    if before is None or not _share_rules(meant(before), meant(now)):
        return (), tuple(dict.fromkeys((*first, *every)))
    same = {one for one in first if meant(before).of(one) == meant(now).of(one)}
    return first, tuple(one for one in every if one not in same)


def _share_rules(first: Meaning, now: Meaning) -> bool:
    """Of the readers that were there at first."""
    own, later = ({name: one.rules.get("own_labels", {}).get(name) for name in first.readers} for one in (first, now))
    still = set(first.readers) & set(now.readers)  # one that the spec no longer has keeps its map
    rest = all(first.rules.get(name) == now.rules.get(name) for name in ("neutral", "refusals", "labels"))
    return rest and all(own[name] == later[name] for name in still)


def _places(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Without the reasons."""
    return {
        label: {name: value for name, value in place.items() if name != "reason"}
        if isinstance(place, Mapping)
        else place
        for label, place in labels.items()
    }


def tags_of(spec: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """The ids of the questions that have each tag, by a run's spec, as its manifest has it."""
    entries = [entry for entry in spec.get("questions") or () if isinstance(entry, Mapping)]
    return tagged([(str(entry["id"]), entry.get("tags") or ()) for entry in entries])


def tagged(questions: Sequence[tuple[str, Sequence[str]]]) -> dict[str, frozenset[str]]:
    """Tag -> the ids that have it, from (id, tags)."""
    tags = dict.fromkeys(tag for _, some in questions for tag in some)
    return {tag: frozenset(name for name, some in questions if tag in some) for tag in tags}


def slope_weights(levels: Sequence[float]) -> tuple[float, ...]:
    """What a straight line's slope takes of each level, per unit of the levels; two at least, all different."""
    about = np.asarray(levels, dtype=np.float64) - np.mean(levels)
    return tuple((about / (about @ about)).tolist())


def weights(part: Part, intensities: Sequence[float]) -> tuple[float, ...]:
    """Of the levels of a part; a trend is over these intensities."""
    return slope_weights(intensities) if part.is_trend else (1.0, -1.0)


def reach(contrast: Contrast, intensities: Sequence[float]) -> float:
    """The farthest from 0 that a contrast of cosines can lie; of lengths nobody knows, infinity."""
    if contrast.of != "cosine":
        return math.inf
    return math.prod(sum(map(abs, weights(part, intensities))) for part in contrast.parts)


def in_group(group: str, angle_deg: float) -> bool:
    """Whether a state lies in a half or a quadrant, and not on its border; KeyError for an unknown one."""
    turn = math.radians(angle_deg)
    signs = zip(STATE_GROUPS[group], (math.cos(turn), math.sin(turn)), strict=True)
    return all(sign == 0 or sign * coordinate > _BORDER for sign, coordinate in signs)


def _level(value: Any) -> Level | None:
    if isinstance(value, Mapping):
        return Condition(str(value["template"]), float(value["intensity"]))
    return value if isinstance(value, str) or value is None else float(value)
