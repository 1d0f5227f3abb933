"""What the page opens with, and its maps: finished numbers as places on a line, and as shades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from emoray.analysis.summaries import Group
from emoray.report import colours
from emoray.report.names import apart
from emoray.report.phrasing import UNKNOWN, number, with_interval
from emoray.report.shown import MODELS, more
from emoray.report.summary import Design, ModelSummary
from emoray.study import paper

_MOST_COLUMNS = 36  # of a map
_LONGEST_COLUMN = 28  # characters above a column
_STEPS = 20  # shades either side of nothing


def forest(reader: str, models: Sequence[ModelSummary]) -> dict[str, Any]:
    """Every model on one line from the lowest bound to 1, beside chance, its ceiling and the paper's band."""
    shown = models[:MODELS]
    least = _least(shown)
    marked = any(math.isfinite(one.scores.whole.shuffled.p95) for one in shown)
    return {
        "title": f"Mean cosine between the state asked for and the state read, by {reader}",
        "ticks": [{"at": _at(tick, least), "text": number(tick, 1)} for tick in _ticks(least)],
        "lines": [_line(name, one, least) for name, one in zip(apart([m.model for m in shown]), shown, strict=True)],
        "key": _key(chance=marked),
        "more": more([("models", len(models) - MODELS)], "tables/models.csv"),
    }


def by_state(models: Sequence[ModelSummary], design: Design) -> dict[str, Any] | None:
    """Models by states; None of nothing asked."""
    names = [f"{state.angle_deg:g}° {state.term}" for state in design.states]
    return _by("state", "states", names, [(one.model, one.scores.states) for one in models])


def by_question(models: Sequence[ModelSummary], design: Design) -> dict[str, Any] | None:
    """Models by questions; None of nothing asked."""
    names = [question.id for question in design.questions]
    return _by("question", "questions", names, [(one.model, one.scores.questions) for one in models])


def heat(title: str, rows: Sequence[str], columns: Sequence[str], cells: Any, note: str = "") -> dict[str, Any]:
    """`cells` is (rows, columns) of cosines, NaN where nothing was scored."""
    return {
        "title": title,
        "columns": apart(columns, _LONGEST_COLUMN),
        "lines": [
            {"name": name, "cells": [_cell(float(value)) for value in line]}
            for name, line in zip(rows, cells, strict=True)
        ],
        "note": note,
    }


def shades() -> str:
    """The style sheet's classes for cosines, in steps of 0.05, for light and dark; letters are told apart on each."""
    light = "".join(_rule(step, colours.DIVERGING) for step in range(-_STEPS, _STEPS + 1))
    dark = "".join(_rule(step, colours.DIVERGING_DARK) for step in range(-_STEPS, _STEPS + 1))
    return f"{light}@media screen and (prefers-color-scheme: dark){{{dark}}}"


def tabs(readers: int) -> str:
    """The style sheet's rules by which one reader is shown on a screen; on paper all are."""
    if readers < 2:
        return ""
    rules = [f"body:has(#reader-{at}:checked) .by:not(.by-{at}){{display:none}}" for at in range(readers)]
    return f"@media screen{{{''.join(rules)}}}"


def _least(models: Sequence[ModelSummary]) -> float:
    """The next fifth below all that is drawn, and never above 0."""
    shown = [value for one in models for value in _drawn(one) if math.isfinite(value)]
    return max(-1.0, math.floor(min([0.0, *shown]) * 5) / 5)


def _drawn(one: ModelSummary) -> tuple[float, ...]:
    whole = one.scores.whole
    return whole.group.cosine.low, whole.group.cosine.estimate, whole.group.expected.estimate, whole.shuffled.p95


def _ticks(least: float) -> list[float]:
    return [tick for tick in (-1.0, -0.5, 0.0, 0.5, 1.0) if tick >= least]


def _at(value: float, least: float) -> str:
    """Percent of the line's length, with room for what stands at its ends."""
    return f"{2 + 96 * (min(1.0, max(least, value)) - least) / (1 - least):.2f}"


def _line(name: str, one: ModelSummary, least: float) -> dict[str, Any]:
    return {"name": name, "said": with_interval(one.scores.whole.group.cosine), "marks": _marks(one, least)}


def _marks(one: ModelSummary, least: float) -> list[dict[str, str]]:
    """From the back to the front."""
    group, chance = one.scores.whole.group, one.scores.whole.shuffled.p95
    spans = [
        ("paper", *paper.MODEL_MEANS.value),
        ("chance", min(0.0, chance), max(0.0, chance)),
        ("bar", group.cosine.low, group.cosine.high),
    ]
    points = [
        ("zero", 0.0),
        ("ceiling", group.ceiling),
        ("expected", group.expected.estimate),
        ("mean", group.cosine.estimate),
    ]
    drawn = [_span(kind, low, high, least) for kind, low, high in spans if math.isfinite(low + high)]
    return drawn + [{"kind": kind, "at": _at(x, least), "wide": ""} for kind, x in points if math.isfinite(x)]


def _span(kind: str, low: float, high: float, least: float) -> dict[str, str]:
    wide = float(_at(high, least)) - float(_at(low, least))
    return {"kind": kind, "at": _at(low, least), "wide": f"{wide:.2f}"}


def _key(*, chance: bool) -> list[dict[str, str]]:
    marks = [
        ("mean", "mean cosine and its interval"),
        ("expected", "expected cosine"),
        ("ceiling", "ceiling of the label map"),
        *([("chance", "states shuffled, up to the 95th percentile")] if chance else []),
        ("paper", f"the paper’s models ({paper.MODEL_MEANS.mark})"),
    ]
    return [{"kind": kind, "text": text} for kind, text in marks]


def _by(
    what: str, plural: str, names: Sequence[str], models: Sequence[tuple[str, Sequence[Group]]]
) -> dict[str, Any] | None:
    if not names or not models:
        return None
    every = max(1, -(-len(names) // _MOST_COLUMNS))
    thinned = f"{len(names[::every]):,} of {len(names):,} {plural} are shown; all stand in tables/{plural}.csv."
    left_out = more([("models", len(models) - MODELS)], f"tables/{plural}.csv")
    rows = [name for name, _ in models[:MODELS]]
    cells = [[group.cosine.estimate for group in groups[::every]] for _, groups in models[:MODELS]]
    note = " ".join(filter(None, [thinned if every > 1 else "", left_out]))
    return heat(f"Mean cosine by model and {what}", apart(rows), names[::every], cells, note)


def _cell(value: float) -> dict[str, str]:
    if not math.isfinite(value):
        return {"shade": "h", "text": UNKNOWN}
    text = number(value).replace("0.", ".", 1)
    return {"shade": f"h h{round(max(-1.0, min(1.0, value)) * _STEPS) + _STEPS}", "text": text}


def _rule(step: int, palette: tuple[str, str, str]) -> str:
    """One shade, and whichever of black and white stands out on it: at 4.5 or more, as one of the two always does."""
    cold, nothing, warm = palette
    shade = colours.between(nothing, warm if step > 0 else cold, abs(step) / _STEPS)
    return f".h{step + _STEPS}{{background:{shade};color:{colours.letters_on(shade)}}}"
