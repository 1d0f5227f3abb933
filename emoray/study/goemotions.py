"""The 28 GoEmotions labels and where each lies on Russell's plane.

The labels are Demszky et al. 2020 (arXiv 2005.00547). No published table places them on the plane, and the
paper's own table is unknown: every shipped map is *ours*, a data file in `label_maps/` with a reason per label.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoray.study import russell
from emoray.study.circumplex import Affect, Array, cosine, midpoint_deg

LABELS: tuple[str, ...] = (
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
    "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy",
    "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral",
)  # fmt: skip
NEUTRAL = LABELS.index("neutral")  # 27: the label without a direction

_SAME = 0.9999  # cosine of 0.8°: of numbers rounded to two places
_MAPS = Path(__file__).parent / "label_maps"


@dataclass(frozen=True)
class Place:
    """Where one label lies; `affect` is None for a label without a direction."""

    label: str
    affect: Affect | None
    reason: str


@dataclass(frozen=True)
class LabelMap:
    """A placement of labels on the plane, in the order of a reader's probabilities."""

    name: str
    mark: str  # "ours", or "user"
    source: str
    places: tuple[Place, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(place.label for place in self.places)

    @property
    def affects(self) -> tuple[tuple[str, Affect | None], ...]:
        """All that a score knows of the map."""
        return tuple((place.label, place.affect) for place in self.places)

    def vectors(self) -> Array:
        """(labels, 2) of (valence, arousal); NaN rows where a label has no direction."""
        return np.array(
            [(p.affect.valence, p.affect.arousal) if p.affect else (np.nan, np.nan) for p in self.places],
            dtype=np.float64,
        )


DIRECT = LabelMap(
    "direct",
    "ours",
    "no label map: the reader gives valence and arousal itself, so no direction is out of its reach",
    tuple(Place(f"{angle}°", Affect.at(angle), "") for angle in range(360)),
)


class BadLabelMap(ValueError):
    """A label map that cannot be used; the message is one sentence for its author."""


def shipped_maps() -> tuple[str, ...]:
    """The names of the maps that ship with emoray; the first is the default."""
    names = sorted(path.stem for path in _MAPS.glob("*.toml"))
    return ("russell", *(name for name in names if name != "russell"))


def label_map(name: str = "russell") -> LabelMap:
    """A shipped map by name; BadLabelMap for an unknown one."""
    path = _MAPS / f"{name}.toml"
    if name not in shipped_maps():
        raise BadLabelMap(f"no label map is called {name!r}; there are {', '.join(shipped_maps())}")
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return label_map_from(data["labels"], name=name, mark=data["mark"], source=data["source"])


def label_map_from(
    entries: Mapping[str, Any],
    *,
    name: str,
    mark: str = "user",
    source: str = "",
    labels: Sequence[str] | None = LABELS,
) -> LabelMap:
    """A map from one entry per label.

    An entry says where the label lies in one of four ways: `term` (one of Russell's, or several whose circular
    midpoint is meant), `angle` (degrees), `valence` and `arousal`, or `none = true`; `reason` is optional.
    All `labels` must be there, and no other; with None the map is of a set of its own.
    """
    labels = tuple(entries) if labels is None else labels
    if what := _unlike(entries, labels):
        wanted = "the 28 GoEmotions labels" if labels == LABELS else ", ".join(labels)
        raise BadLabelMap(f"label map {name!r} {what}; it must place exactly {wanted}")
    places = tuple(Place(label, _place(name, label, entries[label]), _reason(entries[label])) for label in labels)
    if all(place.affect is None for place in places):
        raise BadLabelMap(f"label map {name!r} gives no label a direction")
    return LabelMap(name, mark, source, places)


def canonical_label(spelling: str) -> str | None:
    """The GoEmotions label meant by a model's own spelling (`Joy`, `LABEL_17`, `17`), or None."""
    word = plain_label(spelling)
    if word in LABELS:
        return word
    number = re.fullmatch(r"(?:label_?)?(\d+)", word)
    if number and int(number[1]) < len(LABELS):
        return LABELS[int(number[1])]
    return None


def plain_label(spelling: str) -> str:
    """The same label however it is spelled: `Self-Pity` and `self_pity` are one."""
    return spelling.strip().lower().replace("-", "_").replace(" ", "_")


def _unlike(entries: Mapping[str, Any], labels: Sequence[str]) -> str:
    """How the labels of a map differ from those that it must place, a typo first; "" where they do not."""
    missing = [label for label in labels if label not in entries]
    extra = [label for label in entries if label not in labels]
    for label in extra:
        if meant := difflib.get_close_matches(plain_label(label), missing or labels, 1):
            return f"has the unknown label {label!r} (did you mean {meant[0]!r}?)"
    told = [f"misses {', '.join(missing)}"] if missing else []
    told += [f"has the unknown label {extra[0]!r}"] if extra else []
    return " and ".join(told)


def _place(name: str, label: str, entry: Any) -> Affect | None:
    if not isinstance(entry, Mapping):
        raise BadLabelMap(f"label map {name!r}: {label} needs a term, an angle, or valence and arousal, got {entry!r}")
    said = dict(_places(name, label, entry))
    if not said:
        raise BadLabelMap(f"label map {name!r}: {label} needs a term, an angle, or valence and arousal{_typo(entry)}")
    (first, place), *others = said.items()
    for other, elsewhere in others:
        if not _agree(place, elsewhere):
            raise BadLabelMap(
                f"label map {name!r}: {label} is told to lie in two places, by {first} and by {other}; keep one"
            )
    return place


def _places(name: str, label: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, Affect | None]]:
    """By each of the ways in which an entry says where its label lies; None for a label without a direction."""
    if str(entry.get("none")).strip().lower() in ("true", "yes", "1"):  # a CSV says it as text
        yield "none: true", None
    if "term" in entry:
        yield "term", _at_terms(name, label, entry["term"])
    if "angle" in entry:
        yield "angle", Affect.at(_number(name, label, "angle", entry["angle"]))
    if "valence" in entry and "arousal" in entry:
        v, a = (_number(name, label, axis, entry[axis]) for axis in ("valence", "arousal"))
        if abs(v) > 1 or abs(a) > 1:
            raise BadLabelMap(f"label map {name!r}: {label} lies at ({v:g}, {a:g}), outside -1 … 1")
        yield "valence with arousal", Affect(v, a)


def _agree(place: Affect | None, other: Affect | None) -> bool:
    """Whether two ways of saying it mean one direction, but for rounding."""
    if place is None or other is None:
        return place is other
    return cosine(place, other) > _SAME


def _typo(entry: Mapping[str, Any]) -> str:
    """The setting of an entry that is nearly one of the known."""
    known = ("term", "angle", "valence", "arousal", "none", "reason")
    for word in (str(word) for word in entry if word not in known):
        if meant := difflib.get_close_matches(word.lower(), known, 1):
            return f"; it has {word!r}, did you mean {meant[0]!r}?"
    return ""


def _at_terms(name: str, label: str, terms: Any) -> Affect:
    chosen = terms if isinstance(terms, list) else [terms]
    for term in chosen:
        if not isinstance(term, str) or term not in russell.ANGLES_DEG:
            near = russell.near_terms(term) if isinstance(term, str) else []
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadLabelMap(f"label map {name!r}: {label} names {term!r}, which is none of Russell's 28 terms{hint}")
    try:
        return Affect.at(midpoint_deg([russell.ANGLES_DEG[term] for term in chosen]))
    except ValueError:
        raise BadLabelMap(f"label map {name!r}: the terms of {label}, {chosen!r}, have no midpoint") from None


def _number(name: str, label: str, field: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise BadLabelMap(f"label map {name!r}: {field} of {label} must be a number, got {value!r}")
    return number


def _reason(entry: Any) -> str:
    return str(entry.get("reason", ""))
