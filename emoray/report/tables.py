"""The tables: for a terminal, as CSV (exact numbers) and as LaTeX (numbers as they are said)."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from emoray.analysis.agreement import Pair
from emoray.analysis.correction import Corrected
from emoray.analysis.drift import Drift
from emoray.analysis.intervals import Interval
from emoray.analysis.simultaneous import Rank
from emoray.analysis.summaries import Group
from emoray.plurals import count
from emoray.report.agreement import Agreement
from emoray.report.conditions import Weighed
from emoray.report.contrast_words import condition as contrast_condition
from emoray.report.contrast_words import figures_of, sentences
from emoray.report.names import apart
from emoray.report.phrasing import (
    condition,
    counted,
    hours,
    label_maps,
    neutral,
    number,
    p_value,
    percent,
    said_direction,
    said_rank,
    settings_line,
    share_with_interval,
    standing,
    with_interval,
)
from emoray.report.summary import Comparison, ModelSummary, Scores, Summary, exact

Cell = str | int | float | None
WIDTH = 100  # columns of what is no terminal


@dataclass(frozen=True)
class Table:
    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    said_columns: tuple[str, ...]
    said_rows: tuple[tuple[str, ...], ...]


_MEASURES = (
    "scored", "missing", "cosine", "cosine_low", "cosine_high", "ceiling", "of_ceiling", "of_ceiling_low",
    "of_ceiling_high", "human_text", "of_human_text", "of_human_text_low", "of_human_text_high", "expected_cosine",
    "expected_cosine_low", "expected_cosine_high",
)  # fmt: skip
# the first column of numbers of a table
_NUMBERS = (
    "answers", "read", "scored", "difference", "labelled", "correlation", "rounds", "mean cosine", "directed",
    "elevation",
)  # fmt: skip


def tables(summary: Summary) -> tuple[Table, ...]:
    """Models, states, questions, templates, intensities, differences; where any refused, under each rule for refusals.

    Conditions where there are several; what refusals and failures weigh, where there are any. The paper's claims where
    anything was read, agreement and conclusions where there are several readers, corrections and their differences
    where people labelled some answers, drift where prompts were asked often enough to see one.
    """
    several = (_agreement(summary.agreement), _conclusions(summary.agreement)) if summary.agreement else ()
    claimed = (_claims(summary),) if summary.claims else ()
    contrasted = (_contrasts(summary),) if summary.contrasts else ()
    corrected = (_corrections(summary), _corrected_pairs(summary)) if summary.corrections else ()
    moved = (_drifts(summary),) if any(one.drifts for one in summary.watched) else ()
    return (
        _models(summary),
        _groups(summary, "states", "state_deg", lambda scores: scores.states),
        _groups(summary, "questions", "question", lambda scores: scores.questions),
        _groups(summary, "templates", "template", lambda scores: scores.templates),
        _groups(summary, "intensities", "intensity", lambda scores: scores.intensities),
        _differences(summary),
        *((_conditions(summary),) if summary.design.several_conditions else ()),
        *((_refusals(summary),) if any(one.counts.refused or one.counts.failures for one in summary.models) else ()),
        *((_maps(summary),) if summary.by_maps else ()),
        *((_directions(summary), _profiles(summary)) if summary.directions else ()),
        *claimed,
        *contrasted,
        *several,
        *corrected,
        *moved,
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


def terminal_table(summary: Summary, width: int = WIDTH) -> str:
    """One line per model and reader, at most `width` columns wide, and below what the numbers depend on.

    Names are shortened as far as that takes, and stay apart; on a narrow terminal the last numbers are left out.
    """
    several = len(summary.readers) > 1
    names = ("model", "reader") if several else ("model",)
    head = (*names, "answers", "failed", "mean cosine", "of ceiling", "expected", "shuffled")
    lines = [head, *(_terminal_line(one, several) for one in summary.models)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    while len(widths) > len(names) + 3 and _narrowest(widths, len(names)) > width:
        widths.pop()
    fitted = _fitting(widths, len(names), width)
    columns = [_apart(column, w) for column, w in zip(zip(*lines, strict=True), fitted, strict=False)]
    texts = [_aligned(line, fitted, len(names)) for line in zip(*columns, strict=True)]
    note = textwrap.wrap(_terminal_note(summary), width)
    return "\n".join([texts[0], "─" * len(texts[0]), *texts[1:], *note])


def _apart(column: Sequence[str], width: int) -> list[str]:
    """Texts of at most this width; two that are not the same never look the same."""
    distinct = list(dict.fromkeys(column))
    shown = dict(zip(distinct, apart(distinct, width), strict=True))
    return [shown[text] for text in column]


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
    means = condition(summary, "means")
    rest = "".join(f", {part}" for part in (f"refusals: {chosen.refusals}", means, counted(summary)) if part)
    return f"[{percent(chosen.level)} over questions], {reader}{label_maps(chosen)}, neutral {neutral(chosen)}{rest}"


_SHORTEST = 8  # columns of a name


def _fitting(widths: list[int], names: int, width: int) -> list[int]:
    """The same widths, the names shortened as far as the line asks for it; the widest name first."""
    widths = list(widths)
    while _wide(widths) > width and max(widths[:names]) > _SHORTEST:
        widths[widths.index(max(widths[:names]))] -= 1
    return widths


def _wide(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _narrowest(widths: Sequence[int], names: int) -> int:
    return _wide([*(min(one, _SHORTEST) for one in widths[:names]), *widths[names:]])


def _aligned(line: Sequence[str], widths: Sequence[int], names: int) -> str:
    left = [text.ljust(w) for text, w in zip(line[:names], widths, strict=False)]
    return "  ".join([*left, *(text.rjust(w) for text, w in zip(line[names:], widths[names:], strict=True))])


def _models(summary: Summary) -> Table:
    columns = (
        "reader", "model", "refusals", "asked", "answers", "failures", "refused", "role_breaks", "cut", "read",
        "unread", "read_truncated", "neutral", "identical", *_MEASURES, "shuffled_mean", "shuffled_p95", "shuffled_p",
        "effective_n", "effective_n_low", "effective_n_high",
        "variance_question", "variance_state", "variance_interaction", "variance_repetition",
        "variance_question_error", "variance_state_error", "variance_interaction_error", "variance_repetition_error",
        "rank", "rank_low", "rank_high",
    )  # fmt: skip
    places = {(one.reader, one.model): one.rank for one in summary.ranks}
    variants = [(one, kept, scores) for one in summary.models for kept, scores in _variants(summary, one)]
    return Table(
        "models",
        " ".join(filter(None, [f"Mean cosine by model. Settings: {settings_line(summary.settings)}.", _of(summary)])),
        columns,
        tuple((*_model_row(*variant), *_place_cells(variant[0], variant[2], places)) for variant in variants),
        ("model", "reader", "refusals", "answers", "failed", *_said_columns(summary), "shuffled", "p"),
        tuple(_model_said(*variant, on_human_text=_validated(summary)) for variant in variants),
    )


def _of(summary: Summary) -> str:
    """Of which conditions the columns are; "" where there is but one."""
    means = condition(summary, "Means")
    return f"{means}; {counted(summary)}." if means else ""


def _model_row(one: ModelSummary, refusals: str, scores: Scores) -> tuple[Cell, ...]:
    counts, whole, parts = one.counts, scores.whole, scores.whole.parts
    counted = (
        counts.asked, counts.answers, counts.failures, counts.refused, counts.role_breaks, counts.cut, counts.read,
        counts.unread, counts.read_truncated, counts.neutral, one.identical,
    )  # fmt: skip
    worth = (whole.effective_n, whole.effective_n_low, whole.effective_n_high)
    control = (whole.shuffled.mean, whole.shuffled.p95, whole.shuffled.p, *worth)
    variances = (
        parts.question, parts.state, parts.interaction, parts.repetition, parts.question_error, parts.state_error,
        parts.interaction_error, parts.repetition_error,
    )  # fmt: skip
    return (one.reader, one.model, refusals, *counted, *_measures(whole.group), *control, *variances)


def _place_cells(one: ModelSummary, scores: Scores, places: Mapping[tuple[str, str], Rank]) -> tuple[Cell, Cell, Cell]:
    """Place, and from which to which it may be; only of the scores that the report is about."""
    rank = places.get((one.reader, one.model)) if scores is one.scores else None
    return (None, None, None) if rank is None else (rank.place, rank.low, rank.high)


def _model_said(one: ModelSummary, refusals: str, scores: Scores, *, on_human_text: bool) -> tuple[str, ...]:
    control = scores.whole.shuffled
    counted = (f"{one.counts.answers:,}", f"{one.counts.failures:,}")
    last = (number(control.mean), p_value(control.p))
    measures = _said_measures(scores.whole.group, on_human_text=on_human_text)
    return (one.model, one.reader, refusals, *counted, *measures, *last)


def _groups(summary: Summary, name: str, level: str, lines: Callable[[Scores], Sequence[Group]]) -> Table:
    found = [
        ((one.model, one.reader, refusals), group)
        for one in summary.models
        for refusals, scores in _variants(summary, one)
        for group in lines(scores)
    ]
    of = level.removesuffix("_deg")
    over = " Intervals here: the same prompts asked again." if name == "questions" else ""
    return Table(
        name,
        f"Mean cosine by {of}. Settings: {settings_line(summary.settings)}.{over}",
        ("model", "reader", "refusals", level, *_MEASURES),
        tuple((*who, group.level, *_measures(group)) for who, group in found),
        ("model", "reader", "refusals", of, *_said_columns(summary)),
        tuple(
            (*who, level_name(group), *_said_measures(group, on_human_text=_validated(summary))) for who, group in found
        ),
    )


def _conditions(summary: Summary) -> Table:
    found = [((one.model, one.reader), line) for one in summary.models for line in said_conditions(one)]
    return Table(
        "conditions",
        "Mean cosine by condition: each template at each intensity, by itself. "
        f"Settings: {settings_line(summary.settings)}.",
        ("model", "reader", "template", "intensity", "control", *_MEASURES),
        tuple(
            (*who, template, intensity, control, *_measures(group))
            for who, (template, intensity, control, group) in found
        ),
        ("model", "reader", "template", "intensity", "control", *_said_columns(summary)),
        tuple(
            (
                *who, template, f"{intensity:g}" if intensity else "", control,
                *_said_measures(group, on_human_text=_validated(summary)),
            )
            for who, (template, intensity, control, group) in found
        ),
    )  # fmt: skip


def said_conditions(one: ModelSummary) -> list[tuple[str, float | None, str, Group]]:
    """Template, intensity, whether it is a control, and the scores; a mean over conditions last, and called so."""
    lines = [(c.template, c.intensity, "control" if c.control else "", c.group) for c in one.conditions]
    over = one.over_conditions
    return [*lines, *([("mean over all but controls", None, "", over)] if over else [])]


def _refusals(summary: Summary) -> Table:
    found = [((one.model, one.reader), one.weighed) for one in summary.models]
    return Table(
        "refusals",
        "What refusals and failures weigh: the mean cosine where a refused answer scores 0 (zero), is left out (drop), "
        "or scores as it was read (as read), and where every failed ask scores the least that an answer can (worst). "
        f"Settings: {settings_line(summary.settings)}.",
        (
            "model", "reader", "read", "refused", "failures",
            *(f"{name}{end}" for name in ("zero", "drop", "as_read", "worst") for end in ("", "_low", "_high")),
        ),
        tuple((*who, *_counted(one), *(x for mean in _means(one) for x in _bounds(mean))) for who, one in found),
        ("model", "reader", "read", "refused", "failed", "zero", "drop", "as read", "worst"),
        tuple((*who, *said_refusals(one)) for who, one in found),
    )  # fmt: skip


def said_refusals(weighed: Weighed) -> tuple[str, ...]:
    """Read, refused and failed of the headline's condition, and the four means, for people."""
    return (*(f"{n:,}" for n in _counted(weighed)), *map(with_interval, _means(weighed)))


def _counted(weighed: Weighed) -> tuple[int, ...]:
    return (weighed.read, weighed.refused, weighed.failed)


def _means(weighed: Weighed) -> tuple[Interval, ...]:
    return (weighed.zero, weighed.drop, weighed.as_read, weighed.worst)


def _differences(summary: Summary) -> Table:
    what = "Paired differences of mean cosines over questions, a minus b; p after Holm holds for the whole family."
    return _pairs("differences", what, summary.comparisons, summary)


def _corrected_pairs(summary: Summary) -> Table:
    what = "Paired differences of corrected means, a minus b; p after Holm holds for all pairs of a reader."
    return _pairs("corrected_differences", what, summary.corrected_pairs, summary)


def _pairs(name: str, what: str, families: Sequence[Comparison], summary: Summary) -> Table:
    found = [(family, one) for family in families for one in family.differences]
    return Table(
        name,
        f"{what} Settings: {settings_line(summary.settings)}.",
        ("of", "within", "a", "b", "difference", "low", "high", "p", "p_holm"),
        tuple(
            (f.of, f.within, d.a, d.b, d.interval.estimate, d.interval.low, d.interval.high, d.p, d.p_holm)
            for f, d in found
        ),
        ("of", "within", "a", "b", "difference", "p", "p (Holm)"),
        tuple((f.of, f.within, d.a, d.b, with_interval(d.interval), p_value(d.p), p_value(d.p_holm)) for f, d in found),
    )


def _agreement(found: Agreement) -> Table:
    return Table(
        "agreement",
        "Agreement of readers on the same answers. Krippendorff's alpha of all readers "
        f"{with_interval(found.alpha_interval)} (directions in single answers), Kendall's W of the order of models "
        f"{with_interval(found.ranks_interval)} (0 by chance, p {p_value(found.ranks_p)}).",
        ("model", "a", "b", "answers", "correlation", "cell_correlation", "circular_correlation", "mean_turn_deg"),
        tuple(
            (on.model, p.first, p.second, p.answers, p.correlation, p.cell_correlation, p.circular, p.mean_turn_deg)
            for on, p in ((on, on.pair) for on in found.pairs)
        ),
        ("model", "a", "b", "answers", "r, answers", "r, cells", "circular r, angles", "mean turn"),
        tuple((on.model, on.pair.first, on.pair.second, *said_pair(on.pair)) for on in found.pairs),
    )


def said_pair(pair: Pair) -> tuple[str, ...]:
    """Answers, correlations of answers, cells and angles, and the mean turn, for people."""
    turn = "–" if math.isnan(pair.mean_turn_deg) else f"{pair.mean_turn_deg:.0f}°"
    return (f"{pair.answers:,}", number(pair.correlation), number(pair.cell_correlation), number(pair.circular), turn)


def _maps(summary: Summary) -> Table:
    found = [((one.label_map, one.reader, one.model), one) for one in summary.by_maps]
    return Table(
        "maps",
        "The same readings under every shipped label map: mean cosines, and ranks with the places not ruled out. "
        f"Settings, but for the map: {settings_line(summary.settings)}.",
        ("label_map", "reader", "model", "cosine", "cosine_low", "cosine_high", "rank", "rank_low", "rank_high"),
        tuple((*who, *_bounds(one.cosine), one.rank.place, one.rank.low, one.rank.high) for who, one in found),
        ("label map", "reader", "model", "mean cosine", "rank"),
        tuple((*who, with_interval(one.cosine), said_rank(one.rank)) for who, one in found),
    )


def _directions(summary: Summary) -> Table:
    found = [
        ((one.reader, one.model), state, p)
        for one in summary.directions
        for state, p in zip(one.states, one.p_holm, strict=True)
    ]
    return Table(
        "directions",
        "Where the answers to each state were read, questions as the sample; p of the V-test against the state asked "
        f"for after Holm for all states of a model. Settings: {settings_line(summary.settings)}.",
        (
            "reader",
            "model",
            "state_deg",
            "directed",
            "mean_deg",
            "resultant_length",
            "bias_deg",
            "bias_low",
            "bias_high",
            "v",
            "p",
            "p_holm",
        ),
        tuple(
            (*who, d.asked_deg, d.directed, d.mean_deg, d.length, *_bounds(d.bias), d.v, d.p, p) for who, d, p in found
        ),
        ("reader", "model", "state", "directed", "mean direction", "resultant length", "bias", "p (Holm)"),
        tuple((*who, f"{d.asked_deg:g}", *said_direction(d, p)) for who, d, p in found),
    )


def _profiles(summary: Summary) -> Table:
    found = [((one.reader, one.model), one.profile) for one in summary.directions if one.profile is not None]
    waves = [(who, (p.elevation, p.amplitude, p.displacement), p.fit) for who, p in found]
    names = ("elevation", "amplitude", "displacement_deg")
    return Table(
        "profiles",
        "The wave of the mean cosines around the circle (structural summary), questions as the sample. "
        f"Settings: {settings_line(summary.settings)}.",
        ("reader", "model", *(f"{name}{end}" for name in names for end in ("", "_low", "_high")), "fit"),
        tuple((*who, *(bound for one in wave for bound in _bounds(one)), fit) for who, wave, fit in waves),
        ("reader", "model", "elevation", "amplitude", "displacement", "fit"),
        tuple((*who, *(with_interval(one) for one in wave), number(fit)) for who, wave, fit in waves),
    )


def _claims(summary: Summary) -> Table:
    lines = [
        (one.conclusion.what, one.mark, one.test, reader, verdict, one.p.get(reader, math.nan))
        for one in summary.claims
        for reader, verdict in one.conclusion.verdicts.items()
    ]
    return Table(
        "claims",
        "The paper's conclusions, put to this run; their tests are ours, one-sided over questions, p after Holm for "
        f"all of this table together. Settings: {settings_line(summary.settings)}.",
        ("conclusion", "mark", "test", "reader", "verdict", "p_holm"),
        tuple(lines),
        ("conclusion", "mark", "reader", "verdict", "p (Holm)"),
        tuple((what, mark, reader, verdict, p_value(p)) for what, mark, _, reader, verdict, p in lines),
    )


def _contrasts(summary: Summary) -> Table:
    lines, said = summary.contrasts, sentences(summary)
    who = [
        (
            "yes" if one.planned else "no",
            str(one.contrast),
            contrast_condition(one, summary),
            one.model,
            one.reader,
        )
        for one in lines
    ]
    return Table(
        "contrasts",
        "Contrasts, a minus b, or the slope per 1 of intensity; p and p of equivalence (two one-sided tests against "
        "the margin) after Holm hold for all contrasts of the same factors, those said before the run and those looked "
        "at after apart, and the two kinds of p apart; intervals are of one contrast each. Settings: "
        f"{settings_line(summary.settings)}.",
        (
            "planned", "contrast", "condition", "model", "reader", "difference", "low", "high", "p", "p_holm", "margin",
            "p_equivalent", "p_equivalent_holm", "family", "verdict", "sentence",
        ),
        tuple(
            (
                *names, *_bounds(t.interval), t.p, t.p_holm, t.margin, t.p_equivalent, t.p_equivalent_holm, one.family,
                t.verdict, text,
            )
            for names, one, t, text in zip(who, lines, [one.tested for one in lines], said, strict=True)
        ),
        (
            "said before", "contrast", "model", "reader", "difference", "p", "p (Holm)", "margin", "p equivalent",
            "verdict",
        ),
        tuple(
            (names[0], names[1], names[3] or "", names[4] or "", *figures_of(one), one.tested.verdict)
            for names, one in zip(who, lines, strict=True)
        ),
    )  # fmt: skip


def _conclusions(found: Agreement) -> Table:
    """The paper's conclusions, with their marks, and the run's own, which are ours."""
    lines = [(one.conclusion, one.mark, one.test) for one in found.claims]
    lines += [(one, "ours", "of this run") for one in found.conclusions]
    verdicts = [tuple(one.verdicts.get(reader, "unknown") for reader in found.readers) for one, _, _ in lines]
    return Table(
        "conclusions",
        "Do the conclusions survive a change of reader? The paper's with the mark of how firmly they are known; their "
        "tests, and the conclusions of this run, are ours.",
        ("conclusion", "mark", "test", *found.readers, "survives"),
        tuple(
            (one.what, mark, test, *said, standing(one))
            for (one, mark, test), said in zip(lines, verdicts, strict=True)
        ),
        ("conclusion", "mark", *found.readers, "survives"),
        tuple((one.what, mark, *said, standing(one)) for (one, mark, _), said in zip(lines, verdicts, strict=True)),
    )


def _corrections(summary: Summary) -> Table:
    found = [((one.reader, one.model), one.corrected) for one in summary.corrections]
    columns = (
        "reader", "model", "labelled", "questions", "cosine", "cosine_low", "cosine_high", "shift", "corrected",
        "corrected_low", "corrected_high", "human", "human_low", "human_high", "lambda", "raters",
    )  # fmt: skip
    return Table(
        "corrections",
        f"Mean cosines corrected by {count(len(summary.settings.human_labels), 'human label')} (prediction-powered "
        f"inference; the intervals carry the error of the sample of questions and that of the labels). "
        f"Settings: {settings_line(summary.settings)}.",
        columns,
        tuple(
            (
                *who,
                c.labelled,
                c.questions,
                *_bounds(c.raw),
                c.shift,
                *_bounds(c.corrected),
                *_bounds(c.human),
                c.tuned,
                c.raters,
            )
            for who, c in found
        ),
        ("reader", "model", "labelled", "questions", "as read", "corrected", "people alone", "lambda"),
        tuple((*who, *said_correction(c)) for who, c in found),
    )


def _drifts(summary: Summary) -> Table:
    lines = [((one.reader, one.model, by), found) for one in summary.watched for by, found in one.drifts]
    return Table(
        "drift",
        "Movement of the cosines over rounds of the same prompts; p by permutation of the rounds, after Holm for all "
        "tests of drift in the report. "
        f"Settings: {settings_line(summary.settings)}.",
        (
            "reader",
            "model",
            "by",
            "rounds",
            "hours",
            "per_hour",
            "per_hour_p",
            "per_hour_p_holm",
            "step",
            "step_at_hours",
            "step_p",
            "step_p_holm",
        ),
        tuple(
            (
                *who,
                d.rounds,
                d.hours,
                d.per_hour,
                d.per_hour_p,
                d.per_hour_p_holm,
                d.step,
                d.step_at,
                d.step_p,
                d.step_p_holm,
            )
            for who, d in lines
        ),
        ("reader", "model", "by", "rounds", "per hour", "p (Holm)", "step", "at", "p (Holm)"),
        tuple((*who, *said_drift(found)) for who, found in lines),
    )


def said_drift(found: Drift) -> tuple[str, ...]:
    """Rounds, slope and its p, the largest step, when, and its p, for people; p after Holm."""
    slope = (number(found.per_hour, 3), p_value(found.per_hour_p_holm))
    return (f"{found.rounds:,}", *slope, number(found.step), hours(found.step_at), p_value(found.step_p_holm))


def said_correction(found: Corrected) -> tuple[str, ...]:
    """Labelled answers, their questions, the three means and lambda, for people."""
    means = map(with_interval, (found.raw, found.corrected, found.human))
    return (f"{found.labelled:,}", f"{found.questions:,}", *means, number(found.tuned))


def _bounds(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def of_ceiling(group: Group) -> str:
    """The share that is reached, with its interval, for people."""
    return share_with_interval(group.relative, group.relative_low, group.relative_high)


def of_human(group: Group) -> str:
    """The same of what human text scores."""
    return share_with_interval(group.of_human, group.of_human_low, group.of_human_high)


def level_name(group: Group) -> str:
    """A state in degrees, an intensity as a number, a name as it is."""
    return f"{group.level:g}" if isinstance(group.level, float) else str(group.level)


def _variants(summary: Summary, one: ModelSummary) -> list[tuple[str, Scores]]:
    """By the rule for refusals, the report's own first."""
    return [(summary.settings.refusals, one.scores), *one.otherwise.items()]


def _measures(group: Group) -> tuple[Cell, ...]:
    top, soft = group.cosine, group.expected
    ceilings = (group.ceiling, group.relative, group.relative_low, group.relative_high)
    human = (group.human, group.of_human, group.of_human_low, group.of_human_high)
    return (group.scored, group.missing, *_bounds(top), *ceilings, *human, *_bounds(soft))


def _validated(summary: Summary) -> bool:
    """Whether it is known of some reader here what it scores on human text."""
    return any(reader in summary.settings.human_text for reader in summary.readers)


def _said_columns(summary: Summary) -> tuple[str, ...]:
    human = ("human text", "of human text") if _validated(summary) else ()
    return ("scored", "mean cosine", "ceiling", "of ceiling", *human, "expected cosine")


def _said_measures(group: Group, *, on_human_text: bool) -> tuple[str, ...]:
    ceiling = (number(group.ceiling), of_ceiling(group))
    human = (number(group.human), of_human(group)) if on_human_text else ()
    return (f"{group.scored:,}", with_interval(group.cosine), *ceiling, *human, with_interval(group.expected))


def _alignments(table: Table) -> list[str]:
    """The columns of numbers to the right, the names before them to the left."""
    columns = len(table.said_columns)
    names = next((i for i, name in enumerate(table.said_columns) if name in _NUMBERS), columns)
    return ["l" if i < names else "r" for i in range(columns)]


def _exact(cell: Cell) -> Cell:
    return exact(cell) if isinstance(cell, float) else cell
