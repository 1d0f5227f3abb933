"""The section of the page on contrasts: a sentence each, a table, and all of them in one figure."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from emoray.report import contrast_words, dose, figures, forest
from emoray.report.contrasts import Line
from emoray.report.phrasing import UNKNOWN, named, with_interval
from emoray.report.shown import ROWS, more
from emoray.report.summary import Summary

_TITLES = {True: "Said before the run", False: "Exploratory: looked at after the run"}


def contrasts(summary: Summary) -> dict[str, Any] | None:
    """None where there are none."""
    if not summary.contrasts:
        return None
    said = dict(zip(map(id, summary.contrasts), contrast_words.sentences(summary), strict=True))
    parts = {planned: [one for one in summary.contrasts if one.planned == planned] for planned in (True, False)}
    drawn = summary.contrasts[: forest.MOST]
    rest = more([("contrasts", len(summary.contrasts) - len(drawn))], "figures/")
    return {
        "groups": [_group(summary, _TITLES[planned], lines, said) for planned, lines in parts.items() if lines],
        "families": contrast_words.family(summary.contrasts),
        "drawing": _drawing(drawn, said),
        "doses": _doses(summary),
        "note": f"Drawn here: the first {len(drawn):,}; {rest}" if rest else "",
    }


def _group(summary: Summary, title: str, lines: list[Line], said: dict[int, str]) -> dict[str, Any]:
    return {
        "title": title,
        "sentences": [said[id(line)] for line in lines[:ROWS]],
        "lines": [
            {
                "what": str(line.contrast),
                "condition": contrast_words.condition(line, summary),
                "whom": _whom(summary, line),
                "cells": contrast_words.figures_of(line),
                "verdict": line.tested.verdict,
            }
            for line in lines[:ROWS]
        ],
        "more": more([("contrasts", len(lines) - ROWS)], "tables/contrasts.csv"),
    }


def _doses(summary: Summary) -> dict[str, Any] | None:
    """The response to every intensity; None where no trend is told of."""
    every = dose.trends(summary.contrasts)
    if not every:
        return None
    drawn = every[: dose.MOST]
    figure = figures.single(lambda axes: dose.curves(axes, drawn), (6.4, 3.6))
    said = "Means by the intensity that was asked for, one line for each trend."
    return {
        "levels": [f"{level:g}" for level in every[0].doses.levels] if every[0].doses else [],
        "lines": [
            {
                "what": line.contrast.of,
                "whom": _whom(summary, line),
                "cells": [with_interval(mean) for mean in line.doses.means],
                "steps": contrast_words.steps(line.doses),
            }
            for line in every[:ROWS]
            if line.doses
        ],
        "drawing": Markup(figures.inline_svg(figure, "doses", said)),
        "more": more([("trends", len(every) - ROWS)], "summary.json"),
    }


def _whom(summary: Summary, line: Line) -> str:
    if line.model and line.reader:
        return named(summary, line.model, line.reader)
    return line.model or line.reader or UNKNOWN


def _drawing(lines: tuple[Line, ...], said: dict[int, str]) -> Markup:
    figure = figures.single(lambda axes: forest.rows(axes, lines), forest.size_of(lines))
    return Markup(figures.inline_svg(figure, "contrasts", f"Contrasts. {'. '.join(said[id(one)] for one in lines)}."))
