"""Single answers for the page's browser: all of a small run, of a large one those whose keys are smallest."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from emoray.report import colours
from emoray.run_folder import columns
from emoray.study.goemotions import LabelMap

if TYPE_CHECKING:
    from emoray.report.summary import Summary

MOST = 4_000  # answers of a run
_MOST_BYTES = 3_000_000  # of a run, as the page holds them
_SAID = (
    "key", "state_deg", "question_id", "template", "intensity", "repetition", "answer", "refused", "role_break",
    "finish_reason", "prompt_sha", "question",
)  # fmt: skip
_FELT = ("key", "label", "cosine", "felt_valence", "felt_arousal")
FLAGS = ("refused", "left the role", "cut at max_tokens")
SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")


@dataclass
class Kept:
    """Of one model's answers the `most` whose keys are smallest, whatever order they come in."""

    most: int = 0
    of: int = 0  # answers there were
    table: pa.Table | None = None

    def add(self, answers: pa.Table) -> None:
        self.of += answers.num_rows
        if self.most and answers.num_rows:
            new = self._wanted(answers.select(list(_SAID)))
            both = pa.concat_tables([self.table, new]) if self.table else new
            self.table = both.sort_by("key").slice(0, self.most).combine_chunks()

    def keys(self) -> pa.Array:
        return self.table["key"].combine_chunks() if self.table else pa.array([], pa.string())

    def rows(self) -> list[dict[str, Any]]:
        return self.table.to_pylist() if self.table else []

    def _wanted(self, answers: pa.Table) -> pa.Table:
        """Those that may be among the smallest: the others need not be sorted."""
        if self.table is None or self.table.num_rows < self.most:
            return answers
        return answers.filter(pc.less(answers["key"], self.table["key"][-1]))


@dataclass
class Readings:
    """What one reader read in the answers that are kept."""

    wanted: pa.Array
    labels: tuple[str, ...]
    found: dict[str, list[Any]] = field(default_factory=dict)  # by key: label, cosine, place, thousandths by label

    def add(self, scored: pa.Table) -> None:
        some = scored.filter(pc.is_in(scored["key"], self.wanted)) if len(self.wanted) else scored.slice(0, 0)
        if some.num_rows:
            read = columns.probabilities(some, self.labels)
            for row, of_labels in zip(some.select(list(_FELT)).to_pylist(), read, strict=True):
                self.found[row["key"]] = self._one(row, of_labels)

    def _one(self, row: Mapping[str, Any], of_labels: npt.NDArray[np.float32]) -> list[Any]:
        label = self.labels.index(row["label"]) if row["label"] in self.labels else -1
        place = [row["felt_valence"], row["felt_arousal"]]
        thousandths = [] if np.isnan(of_labels).any() else np.rint(of_labels * 1000).astype(int).tolist()
        return [label, _short(row["cosine"]), None if None in place else [_short(x) for x in place], thousandths]


@dataclass(frozen=True)
class Browsed:
    """The answers of one model that the page holds, and what every reader read in them."""

    model: str
    kept: Kept
    readings: Mapping[str, Readings]  # by reader


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
    places = [
        [x.label, *([_short(x.affect.valence), _short(x.affect.arousal)] if x.affect else [])] for x in label_map.places
    ]
    return {"name": name, "labels": places}


def _short(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 3)
