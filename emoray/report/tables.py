"""The tables: for a terminal, as CSV (exact numbers) and as LaTeX (numbers as they are said)."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emoray.analysis.summaries import Group
from emoray.report.summary import ModelSummary, Scores, Summary, exact
from emoray.report.words import neutral, number, p_value, percent, settings_line, with_interval

Cell = str | int | float | None
WIDTH = 100  # columns of a terminal


@dataclass(frozen=True)
class Table:
    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    said_columns: tuple[str, ...]
    said_rows: tuple[tuple[str, ...], ...]


_MEASURES = (
    "scored", "cosine", "cosine_low", "cosine_high", "ceiling", "of_ceiling",
    "expected_cosine", "expected_cosine_low", "expected_cosine_high",
)  # fmt: skip
_SAID_MEASURES = ("scored", "mean cosine", "ceiling", "of ceiling", "expected cosine")


def tables(summary: Summary) -> tuple[Table, ...]:
    """Models, states, questions, templates, intensities, differences; with and, where any refused, without refusals."""
    return (
        _models(summary),
        _groups(summary, "states", "state_deg", lambda scores: scores.states),
        _groups(summary, "questions", "question", lambda scores: scores.questions),
        _groups(summary, "templates", "template", lambda scores: scores.templates),
        _groups(summary, "intensities", "intensity", lambda scores: scores.intensities),
        _differences(summary),
    )


def as_csv(table: Table) -> str:
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(table.columns)
    lines.writerows([[_exact(cell) for cell in row] for row in table.rows])
    return out.getvalue()


def as_latex(table: Table) -> str:
    """A table for booktabs; the caption says what the numbers depend on."""
    head = " & ".join(latex(column) for column in table.said_columns)
    body = [" & ".join(latex(cell) for cell in row) + " \\\\" for row in table.said_rows]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{latex(table.caption)}}}",
        f"\\begin{{tabular}}{{{''.join(_alignments(table))}}}",
        "\\toprule",
        f"{head} \\\\",
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    """Text in which no character means anything to LaTeX."""
    special = {c: f"\\{c}" for c in "&%$#_{}"}
    special |= {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    special |= {"−": "$-$", "–": "--", "<": "$<$", ">": "$>$"}
    return "".join(special.get(character, character) for character in text)


def terminal_table(summary: Summary) -> str:
    """One line per model and reader, at most 100 columns wide, and below what the numbers depend on."""
    several = len(summary.readers) > 1
    names = ("model", "reader") if several else ("model",)
    head = (*names, "answers", "failed", "mean cosine", "of ceiling", "expected", "shuffled")
    lines = [head, *(_terminal_line(one, several) for one in summary.models)]
    widths = _fitting([max(len(line[i]) for line in lines) for i in range(len(head))], len(names))
    texts = [_aligned(line, widths, len(names)) for line in lines]
    return "\n".join([texts[0], "─" * len(texts[0]), *texts[1:], *textwrap.wrap(_terminal_note(summary), WIDTH)])


def _terminal_line(one: ModelSummary, several: bool) -> tuple[str, ...]:
    whole = one.scores.whole
    return (
        one.model,
        *((one.reader,) if several else ()),
        f"{one.counts.answers:,}",
        f"{one.counts.failures:,}",
        with_interval(whole.group.cosine),
        percent(whole.group.relative),
        with_interval(whole.group.expected),
        number(whole.shuffled.mean),
    )


def _terminal_note(summary: Summary) -> str:
    chosen = summary.settings
    reader = f"read by {summary.readers[0]}, " if len(summary.readers) == 1 else ""
    return (
        f"[{percent(chosen.level)} over questions], {reader}label map {chosen.label_map.name} "
        f"({chosen.label_map.mark}), neutral {neutral(chosen)}"
    )


def _fitting(widths: list[int], names: int) -> list[int]:
    """The same widths, the names shortened as far as the line asks for it; the widest name first."""
    widths = list(widths)
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and max(widths[:names]) > 8:
        widths[widths.index(max(widths[:names]))] -= 1
    return widths


def _aligned(line: Sequence[str], widths: Sequence[int], names: int) -> str:
    cells = [text if len(text) <= w else text[: w - 1] + "…" for text, w in zip(line, widths, strict=True)]
    left = [text.ljust(w) for text, w in zip(cells[:names], widths, strict=False)]
    return "  ".join([*left, *(text.rjust(w) for text, w in zip(cells[names:], widths[names:], strict=True))])


def _models(summary: Summary) -> Table:
    columns = (
        "reader", "model", "refusals", "asked", "answers", "failures", "refused", "role_breaks", "cut", "read",
        "unread", "read_truncated", "neutral", "identical", *_MEASURES, "shuffled_mean", "shuffled_p95", "shuffled_p",
        "effective_n", "variance_question", "variance_state", "variance_interaction", "variance_repetition",
    )  # fmt: skip
    variants = [(one, kept, scores) for one in summary.models for kept, scores in _variants(one)]
    return Table(
        "models",
        f"Mean cosine by model. Settings: {settings_line(summary.settings)}.",
        columns,
        tuple(_model_row(*variant) for variant in variants),
        ("model", "reader", "refusals", "answers", "failed", *_SAID_MEASURES, "shuffled", "p"),
        tuple(_model_said(*variant) for variant in variants),
    )


def _model_row(one: ModelSummary, refusals: str, scores: Scores) -> tuple[Cell, ...]:
    counts, whole, parts = one.counts, scores.whole, scores.whole.parts
    counted = (
        counts.asked, counts.answers, counts.failures, counts.refused, counts.role_breaks, counts.cut, counts.read,
        counts.unread, counts.read_truncated, counts.neutral, one.identical,
    )  # fmt: skip
    control = (whole.shuffled.mean, whole.shuffled.p95, whole.shuffled.p, whole.effective_n)
    variances = (parts.question, parts.state, parts.interaction, parts.repetition)
    return (one.reader, one.model, refusals, *counted, *_measures(whole.group), *control, *variances)


def _model_said(one: ModelSummary, refusals: str, scores: Scores) -> tuple[str, ...]:
    control = scores.whole.shuffled
    counted = (f"{one.counts.answers:,}", f"{one.counts.failures:,}")
    last = (number(control.mean), p_value(control.p))
    return (one.model, one.reader, refusals, *counted, *_said_measures(scores.whole.group), *last)


def _groups(summary: Summary, name: str, level: str, lines: Callable[[Scores], Sequence[Group]]) -> Table:
    found = [
        ((one.model, one.reader, refusals), group)
        for one in summary.models
        for refusals, scores in _variants(one)
        for group in lines(scores)
    ]
    of = level.removesuffix("_deg")
    over = " Intervals here: the same prompts asked again." if name == "questions" else ""
    return Table(
        name,
        f"Mean cosine by {of}. Settings: {settings_line(summary.settings)}.{over}",
        ("model", "reader", "refusals", level, *_MEASURES),
        tuple((*who, group.level, *_measures(group)) for who, group in found),
        ("model", "reader", "refusals", of, *_SAID_MEASURES),
        tuple((*who, level_name(group), *_said_measures(group)) for who, group in found),
    )


def _differences(summary: Summary) -> Table:
    found = [(family, one) for family in summary.comparisons for one in family.differences]
    return Table(
        "differences",
        f"Paired differences of mean cosines over questions, a minus b; p after Holm holds for the whole family. "
        f"Settings: {settings_line(summary.settings)}.",
        ("of", "within", "a", "b", "difference", "low", "high", "p", "p_holm"),
        tuple(
            (f.of, f.within, d.a, d.b, d.interval.estimate, d.interval.low, d.interval.high, d.p, d.p_holm)
            for f, d in found
        ),
        ("of", "within", "a", "b", "difference", "p", "p (Holm)"),
        tuple((f.of, f.within, d.a, d.b, with_interval(d.interval), p_value(d.p), p_value(d.p_holm)) for f, d in found),
    )


def level_name(group: Group) -> str:
    """A state in degrees, an intensity as a number, a name as it is."""
    return f"{group.level:g}" if isinstance(group.level, float) else str(group.level)


def _variants(one: ModelSummary) -> list[tuple[str, Scores]]:
    left_out = [("left out", one.without_refusals)] if one.without_refusals is not None else []
    return [("included", one.scores), *left_out]


def _measures(group: Group) -> tuple[Cell, ...]:
    top, soft = group.cosine, group.expected
    ceiling = (group.ceiling, group.relative)
    return (group.scored, top.estimate, top.low, top.high, *ceiling, soft.estimate, soft.low, soft.high)


def _said_measures(group: Group) -> tuple[str, ...]:
    ceiling = (number(group.ceiling), percent(group.relative))
    return (f"{group.scored:,}", with_interval(group.cosine), *ceiling, with_interval(group.expected))


def _alignments(table: Table) -> list[str]:
    """The columns of numbers to the right, the names before them to the left."""
    names = next(i for i, name in enumerate(table.said_columns) if name in ("answers", "scored", "difference"))
    return ["l" if i < names else "r" for i in range(len(table.said_columns))]


def _exact(cell: Cell) -> Cell:
    return exact(cell) if isinstance(cell, float) else cell
