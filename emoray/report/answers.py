"""What the page's browser of single answers holds, as JSON that does nothing by itself."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emoray.report import colours
from emoray.report.kept_answers import Browsed, short
from emoray.report.summary import Summary
from emoray.study.goemotions import DIRECT, LabelMap

_MOST_BYTES = 3_000_000  # of a run, as the page holds them
FLAGS = ("refused", "left the role", "cut at max_tokens")
SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")


def data(summary: Summary) -> dict[str, Any] | None:
    """What the browser shows, as plain JSON values; None where there are no answers."""
    design = summary.design
    states = {state.angle_deg: state.term for state in design.states}
    questions, templates = [one.id for one in design.questions], [one.name for one in design.templates]
    share = _MOST_BYTES // max(1, len(summary.browsed))
    kept = [one.kept.rows() for one in summary.browsed]
    told = [row for rows in kept for row in rows]
    states |= {row["state_deg"]: "" for row in told if row["state_deg"] not in states}  # answered, and not yet read
    levels = (list(states), _with(questions, told, "question_id"), _with(templates, told, "template"))
    lines = [
        line
        for number, (one, rows) in enumerate(zip(summary.browsed, kept, strict=True))
        for line in _affordable([[number, *_levels(row, levels), *_rest(one, row, summary)] for row in rows], share)
    ]
    if not lines:
        return None
    return {
        "models": [one.model for one in summary.browsed],
        "states": [[angle, term, colours.of_angle(angle)] for angle, term in states.items()],
        "questions": levels[1],
        "templates": levels[2],
        "flags": FLAGS,
        "readers": [_reader(name, summary.settings.map_of(name)) for name in summary.readers],
        "answers": lines,
        "of": sum(one.kept.of for one in summary.browsed),
    }


def said(told: Mapping[str, Any]) -> str:
    """How many of all answers the browser has, and which."""
    shown, of = len(told["answers"]), told["of"]
    if shown == of:
        return f"All {of:,} answers." if of > 1 else "The only answer."
    return (
        f"{shown:,} of {of:,} answers, those with the smallest hashes of their prompts: chosen by chance, as it were."
    )


def inert(told: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON without any character that HTML knows, so that nothing in it can end the element it stands in."""
    text = json.dumps(told, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def script_hash() -> str:
    """What the page's policy names its only script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()


def _with(names: list[str], rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    """Those of the design, and then what was answered and not yet read."""
    return list(dict.fromkeys([*names, *(row[column] for row in rows)]))


def _levels(row: Mapping[str, Any], levels: tuple[list[float], list[str], list[str]]) -> list[int]:
    states, questions, templates = levels
    return [states.index(row["state_deg"]), questions.index(row["question_id"]), templates.index(row["template"])]


def _rest(one: Browsed, row: Mapping[str, Any], summary: Summary) -> list[Any]:
    readings = [one.readings[name].found.get(row["key"]) if name in one.readings else None for name in summary.readers]
    flags = (row["refused"], row["role_break"], row["finish_reason"] == "length")
    bits = sum(1 << place for place, there in enumerate(flags) if there)
    return [row["intensity"], row["repetition"], bits, row["answer"], readings]


def _affordable(lines: list[list[Any]], most_bytes: int) -> list[list[Any]]:
    """The first so many as have room, as the page spells them: there `<` is six characters, and an emoji twelve."""
    sizes = np.cumsum([len(inert(line)) + 1 for line in lines])
    return lines[: int(np.searchsorted(sizes, most_bytes, side="right"))]


def _reader(name: str, label_map: LabelMap) -> dict[str, Any]:
    if label_map is DIRECT:  # its 360 places are no labels that any answer has
        return {"name": name, "labels": []}
    places = [
        [x.label, *([short(x.affect.valence), short(x.affect.arousal)] if x.affect else [])] for x in label_map.places
    ]
    return {"name": name, "labels": places}
