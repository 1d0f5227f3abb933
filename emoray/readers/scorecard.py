"""The figures of a validated reader as a file, and what a later report takes from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoray import __version__
from emoray.analysis.calibration import HumanReads
from emoray.errors import UserError
from emoray.readers.validation import Validation
from emoray.spec.readers import GoEmotionsReader, ReaderEntry, reads_as
from emoray.study.circumplex import Array
from emoray.study.goemotions import LABELS, LabelMap

FORMAT = 2  # of a saved file
_UNMOVED = ("temperature", "activation")  # settings of a classifier that leave the order of its labels as it is


# ── a saved file ───────────────────────────────────────────────────────────────────────────────────────────────────


def saved(found: Validation, entry: ReaderEntry, revision: str | None, data: str, label_map: LabelMap) -> str:
    """The figures as a file, with what a report needs to know whose they are."""
    whose = {"name": entry.name, "revision": revision, "reads_as": _reads_as(entry)}
    places = {place.label: place.affect and asdict(place.affect) for place in label_map.places}
    head = {"format": FORMAT, "emoray": __version__, "reader": whose, "data": data}
    whole = head | {"label_map": {"name": label_map.name, "places": places}, **found.as_json()}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def human_text(
    path: str | Path, readers: Sequence[ReaderEntry], label_map: LabelMap
) -> tuple[tuple[str, ...], HumanReads]:
    """A saved file: the names of the run's readers that it is about, and what they made of human text.

    UserError where it is no such file, of none of the readers, or made with another label map than the report's.
    """
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        whose, places, reads = _Whose(**kept["reader"]), kept["label_map"]["places"], _reads_of(kept["reads"])
        known = kept["format"] == FORMAT
    except OSError as wrong:
        raise UserError(f"{path}: cannot be read ({wrong.strerror}); `emoray validate … --save` writes one") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        known = False
    if not known:
        raise UserError(f"{path}: is no file that `emoray validate … --save` of this emoray wrote")
    other = {entry.name: _differences(whose, entry) for entry in readers}
    names = tuple(name for name, settings in other.items() if not settings)
    if not names:
        there = " and ".join(f"{name} ({', '.join(settings)})" for name, settings in other.items())
        raise UserError(f"{path}: is about the reader {whose.name!r}, from which those of this run differ: {there}")
    if places != {place.label: place.affect and asdict(place.affect) for place in label_map.places}:
        raise UserError(
            f"{path}: was made with the label map {kept['label_map'].get('name')!r}, and this report places labels by "
            f"{label_map.name!r}; validate once more with --label-map"
        )
    return names, reads


@dataclass(frozen=True)
class _Whose:
    """Of which reader a saved file is."""

    name: str
    revision: str | None  # of its model, as resolved
    reads_as: Mapping[str, Any]


def _differences(whose: _Whose, entry: ReaderEntry) -> list[str]:
    """The settings by which an entry reads otherwise than the reader of a file, whatever the two are called.

    A revision differs only where both are known; the file's is, as it was asked for and as it was resolved.
    """
    ours, theirs = _reads_as(entry), whose.reads_as
    if ours["kind"] != theirs.get("kind"):
        return ["kind"]
    pinned, known = ours.get("revision"), {theirs.get("revision"), whose.revision} - {None}
    other_revision = pinned and known and pinned not in known
    return [name for name in ours if (other_revision if name == "revision" else ours[name] != theirs.get(name))]


def _reads_as(entry: ReaderEntry) -> dict[str, Any]:
    """`reads_as` as JSON has it, less what leaves every top label as it is, and with where its own labels lie."""
    unmoved = _UNMOVED if isinstance(entry, GoEmotionsReader) else ()
    own = {"label_map": entry.label_map} if isinstance(entry, GoEmotionsReader) else {}
    decides = {name: value for name, value in (reads_as(entry) | own).items() if name not in unmoved}
    as_json: dict[str, Any] = json.loads(json.dumps(decides, default=lambda section: section.model_dump()))
    return as_json


def _reads_of(lines: Sequence[Mapping[str, Any]]) -> HumanReads:
    if [line["label"] for line in lines] != list(LABELS):
        raise ValueError("other labels than GoEmotions'")
    angles = np.array([math.nan if line["angles_deg"] is None else line["angles_deg"] for line in lines])
    texts, directed = (np.array([line[name] for line in lines], dtype=np.int64) for name in ("texts", "directed"))
    top, expected = (np.array([line[name] for line in lines], dtype=np.float64) for name in ("top", "expected"))
    if top.shape != (len(LABELS), 2) or expected.shape != top.shape:
        raise ValueError("no unit vectors")
    return HumanReads(angles, texts, directed, top, expected, *(_squares(lines, f"{name}_squares") for name in _SCORES))


_SCORES = ("top", "expected")


def _squares(lines: Sequence[Mapping[str, Any]], name: str) -> Array:
    """Of a file that an earlier emoray wrote they are not known: its ceilings have no error."""
    found = np.array([line.get(name, [math.nan] * 3) for line in lines], dtype=np.float64)
    if found.shape != (len(LABELS), 3):
        raise ValueError("no squares of unit vectors")
    return found
