"""How numbers and results are said, alike in tables, figures and page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from emoray.analysis.intervals import Interval
from emoray.report.summary import ModelSummary, Settings, Summary

UNKNOWN = "–"


def number(value: float, places: int = 2) -> str:
    """With a real minus sign; a dash for what is not known."""
    if not math.isfinite(value):
        return UNKNOWN
    rounded = round(value, places) + 0.0  # no minus before a zero
    return f"{rounded:.{places}f}".replace("-", "−")


def with_interval(interval: Interval, places: int = 2) -> str:
    """0.73 [0.69, 0.77], or 0.73 [–] where the data cannot tell."""
    if not math.isfinite(interval.estimate):
        return UNKNOWN
    known = math.isfinite(interval.low)
    bounds = f"{number(interval.low, places)}, {number(interval.high, places)}" if known else UNKNOWN
    return f"{number(interval.estimate, places)} [{bounds}]"


def percent(share: float, places: int = 0) -> str:
    return f"{share * 100:.{places}f} %".replace("-", "−") if math.isfinite(share) else UNKNOWN


def p_value(p: float) -> str:
    if not math.isfinite(p):
        return UNKNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(n: int, noun: str) -> str:
    """1 model, 1,200 answers."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def neutral(settings: Settings) -> str:
    return "scores 0" if settings.neutral == "zero" else "is left out"


def settings_line(settings: Settings) -> str:
    """What every number depends on, in one line."""
    chosen = settings.label_map
    return (
        f"label map {chosen.name} ({chosen.mark}), a neutral reading {neutral(settings)}, "
        f"{percent(settings.level)} intervals over questions (Student's t), {settings.shuffles:,} shuffles"
    )


def headline(summary: Summary) -> str:
    """The result in a sentence or two."""
    scored = [one for one in summary.models if one.scores.whole.group.scored]
    if not scored:
        waiting = sum({one.model: one.counts.answers for one in summary.models}.values())
        return f"Nothing has been scored yet: {count(waiting, 'answer')} to read."
    field = [one for one in scored if one.reader == scored[0].reader]
    best, last = field[0], field[-1]
    if len(field) == 1:
        start = (
            f"Asked for {count(len(summary.design.states), 'emotional state')}, {best.model} was read as expressing "
        )
        return f"{start}them with a mean cosine of {_score(best)}. {_control(best)}"
    start = f"Of {len(field)} models, {best.model} came closest to the emotional states that it was asked for: "
    return f"{start}mean cosine {_score(best)}; {last.model} stayed farthest, {_mean(last)}. {_control(best)}"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _score(one: ModelSummary) -> str:
    return f"{_mean(one)}, {percent(one.scores.whole.group.relative)} of what the label map allows"


def _mean(one: ModelSummary) -> str:
    return with_interval(one.scores.whole.group.cosine)


def _control(one: ModelSummary) -> str:
    control = one.scores.whole.shuffled
    if not math.isfinite(control.p):
        return ""
    p = p_value(control.p)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    what = f"with the states shuffled, its answers score {number(control.mean)} ({p})."
    return f"That cannot be told from chance: {what}" if control.p > 0.05 else what[0].upper() + what[1:]
