"""A contrast in one sentence: who expresses more than whom, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from emoray.analysis.contrasts import Doses
from emoray.analysis.intervals import Interval
from emoray.plurals import count
from emoray.report.contrasts import Line
from emoray.report.phrasing import p_value, percent, with_interval
from emoray.report.summary import Summary
from emoray.study.contrasts import Contrast, Part, said

_MOST_LINES = 20  # for a terminal


def sentences(summary: Summary) -> list[str]:
    """One per contrast and whom it is told of, in their order."""
    return [sentence(line, several_readers=len(summary.readers) > 1) for line in summary.contrasts]


def terminal_lines(summary: Summary) -> list[str]:
    """The same for a terminal, exploratory ones marked; of very many, the first and where the others are."""
    told = [
        f"{text}{_aside(condition(line, summary))}{'' if line.planned else ' (exploratory)'}"
        for line, text in zip(summary.contrasts, sentences(summary), strict=True)
    ]
    rest = len(told) - _MOST_LINES
    return [*told[:_MOST_LINES], *([f"{count(rest, 'more contrast')} in tables/contrasts.csv"] if rest > 0 else [])]


def _aside(text: str) -> str:
    return f" ({text})" if text else ""


def sentence(line: Line, *, several_readers: bool = False) -> str:
    """`words express more than parameters, by 0.08 [0.03, 0.13] for Llama3 8B`"""
    found, whom = line.tested.interval, _whom(line, several_readers=several_readers)
    unit = " per 1 of intensity" if any(part.is_trend for part in line.contrast.parts) else ""
    told = len(line.contrast.parts) == 1 and line.contrast.parts[0].is_trend  # which score it is
    by = " (projection)" if line.contrast.of == "projection" and not told else ""
    if not math.isfinite(found.estimate):
        return f"{_question(line.contrast)}{by} cannot be told{whom}: {_why(line)}"
    match line.tested.verdict:
        case "more" | "less" as verdict:
            size = _with_digits(found if verdict == "more" else _turned(found))
            return f"{_claim(line.contrast, verdict)}{by}, by {size}{unit}{whom}"
        case "equivalent":
            within = f"within ±{line.tested.margin:g}" if line.tested.margin else ""
            inner = line.tested.interval_of_equivalence
            at = f" ({percent(inner.level)} interval)"
            return f"{_alike(line.contrast)}{by}, {within}: {_with_digits(inner)}{at}{unit}{whom}"
        case "undecided":
            return f"{_question(line.contrast)}{by} is undecided: {_with_digits(found)}{unit}{whom}"


def _why(line: Line) -> str:
    means = [] if line.doses is None else zip(line.doses.levels, line.doses.means, strict=True)
    missing = ", ".join(f"{level:g}" for level, mean in means if not math.isfinite(mean.estimate))
    return f"nothing was scored at intensity {missing}" if missing else "too little was scored on both sides"


def condition(line: Line, summary: Summary) -> str:
    """Of which template and intensity it is, where it is of neither and there are several; "" else."""
    design, headline, factors = summary.design, line.headline, line.contrast.factors
    if headline is None or "condition" in factors:
        return ""
    with_template = "template" not in factors and len(design.templates) > 1
    at_intensity = "intensity" not in factors and len(design.intensities) > 1
    parts = [f"template {headline.template}"] if with_template else []
    parts += [f"intensity {headline.intensity:g}"] if at_intensity else []
    return ", ".join(parts)


def family(lines: Sequence[Line]) -> str:
    """How many were corrected together, and what of."""
    sizes = {(line.contrast.family, line.planned): line.family for line in lines}
    said_before = [
        f"{count(n, 'contrast')} of {name}{'' if planned else ', looked at after'}"
        for (name, planned), n in sizes.items()
    ]
    return "; ".join(said_before)


_PLACES, _MOST_PLACES = 2, 10


def _with_digits(found: Interval) -> str:
    """With as many digits as it takes that nothing which is not 0 looks like it."""
    told = [x for x in (found.estimate, found.low, found.high) if math.isfinite(x) and x != 0]
    places = (p for p in range(_PLACES, _MOST_PLACES) if all(round(x, p) for x in told))
    return with_interval(found, next(places, _PLACES))


def _turned(found: Interval) -> Interval:
    return replace(found, estimate=-found.estimate, low=-found.high, high=-found.low)


def _whom(line: Line, *, several_readers: bool) -> str:
    model = f" for {line.model}" if line.model else ""
    return f"{model}, read by {line.reader}" if line.reader and several_readers else model


def _claim(contrast: Contrast, how: str) -> str:
    if len(contrast.parts) > 1:
        return _depends(contrast, how)
    (part,) = contrast.parts
    if part.is_trend:
        return f"the {contrast.of} {'rises' if how == 'more' else 'falls'} with {part.factor}"
    subject, verb, other = _words(part)
    return f"{subject} {verb} {how} than {other}"


def _alike(contrast: Contrast) -> str:
    if len(contrast.parts) > 1:
        return _depends(contrast, "alike")
    (part,) = contrast.parts
    if part.is_trend:
        return f"the {contrast.of} stays level with {part.factor}"
    subject, verb, other = _words(part, together=True)
    return f"{subject} and {other} {verb} alike"


def _question(contrast: Contrast) -> str:
    if len(contrast.parts) > 1:
        first, second = contrast.parts
        return f"whether {_gap(first)} depends on {_over(second)}"
    (part,) = contrast.parts
    if part.is_trend:
        return f"whether the {contrast.of} rises or falls with {part.factor}"
    subject, verb, other = _words(part)
    return f"whether {subject} {verb} more or less than {other}"


def _depends(contrast: Contrast, how: str) -> str:
    """Of an interaction: what the first's difference does over the second."""
    first, second = contrast.parts
    if second.is_trend:
        does = {"more": "rises", "less": "falls", "alike": "stays level"}[how]
        return f"{_gap(first)} {does} with {second.factor}"
    a, b = _places(second)
    if how == "alike":
        return f"{_gap(first)} is alike {a} and {b}"
    return f"{_gap(first)} is {'higher' if how == 'more' else 'lower'} {a} than {b}"


def _gap(part: Part) -> str:
    """A difference, as a noun."""
    return f"the slope over {part.factor}" if part.is_trend else f"the difference {said(part.a)} − {said(part.b)}"


def _over(part: Part) -> str:
    if part.is_trend:
        return part.factor
    return f"{part.factor} ({said(part.a)} or {said(part.b)})"


def _places(part: Part) -> tuple[str, str]:
    """Where a difference is looked at."""
    before, after = {
        "template": ("with", ""), "intensity": ("at intensity", ""), "condition": ("with", ""),
        "tag": ("in", " questions"), "state": ("for", " states"), "model": ("for", ""), "reader": ("by", ""),
    }[part.factor]  # fmt: skip
    return f"{before} {said(part.a)}{after}", f"{before} {said(part.b)}{after}"


def _words(part: Part, *, together: bool = False) -> tuple[str, str, str]:
    """Who, does what, than whom; `together` both do it."""
    a, b = said(part.a), said(part.b)
    match part.factor:
        case "template" | "condition":
            return a, "express", b
        case "intensity":
            return f"intensity {a}", "express" if together else "expresses", f"intensity {b}"
        case "tag":
            return f"answers to {a} questions", "express", f"those to {b} questions"
        case "state":
            return f"{a} states", "are expressed", f"{b} ones"
        case "model":
            return a, "express" if together else "expresses", b
        case "reader":
            return a, "read" if together else "reads", b


def figures_of(line: Line) -> tuple[str, ...]:
    """Difference, p, p after Holm, margin and p of equivalence, for people."""
    tested = line.tested
    margin = f"±{tested.margin:g}" if tested.margin else ""
    alike = p_value(tested.p_equivalent_holm) if margin else ""
    return _with_digits(tested.interval), p_value(tested.p), p_value(tested.p_holm), margin, alike


_SHOWN = 0.05  # of one step after the other: each is tested at this level


def steps(doses: Doses) -> str:
    """Whether the response goes one way at every step; more than a slope says."""
    for p, how in ((doses.p_rises, "rises"), (doses.p_falls, "falls")):
        if p <= _SHOWN:
            return f"{how} at every step (p {p_value(p)})" if p < 0.001 else f"{how} at every step (p = {p_value(p)})"
    return "not shown to go one way at every step"
