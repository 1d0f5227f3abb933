"""The page: one self-contained file. What a model wrote is text in it, never markup; only its own script runs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from unicodedata import category

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import emoray
from emoray.analysis.summaries import Group, GroupAxis
from emoray.printable import printable
from emoray.refusals import judged
from emoray.report import answers, colours, contrast_section, figures, first_screen, sections, to_copy
from emoray.report.about_run import Drawn
from emoray.report.phrasing import (
    UNKNOWN,
    condition,
    counted,
    earlier,
    headline,
    listed,
    named,
    neutral,
    number,
    p_value,
    percent,
    raters,
    refusals,
    settings_line,
    several,
    with_bounds,
    with_interval,
)
from emoray.report.read_run import Example
from emoray.report.shown import EXAMPLES, MODELS, READERS, ROWS, Shown, more, panels_each, shown
from emoray.report.summary import Comparison, ModelSummary, Scores, Summary
from emoray.report.tables import level_name, of_ceiling, of_human
from emoray.study import paper, russell
from emoray.study.sampling import ASKED, NEUTRAL

_HERE = Path(__file__).parent
_LONGEST = 420  # characters of an example answer
_STAND_INS = {"embedded": "a small model that ships with emoray", "scripted": "fixed lines and no model at all"}


def page(summary: Summary) -> str:
    """The whole page."""
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    environment.filters["capitalise"] = lambda text: text[:1].upper() + text[1:]
    design = summary.design
    content: dict[str, Any] = {
        "summary": summary,
        "css": Markup((_HERE / "page.css").read_text(encoding="utf-8"))
        + Markup(first_screen.shades() + first_screen.tabs(len(summary.readers))),
        "figure_readers": READERS if design.states else 0,
        "headline": _unbroken(headline(summary)),
        "settings": settings_line(summary.settings),
        "neutral": neutral(summary.settings),
        "level": percent(summary.settings.level),
        "read_by": several(summary.readers) or "nobody yet",
        "cautions": _cautions(summary),
        "readers": [_reader(summary, name) for name in summary.readers],
        "notes": _notes(summary),
        "several_conditions": design.several_conditions,
        "condition": condition(summary),
        "counted": counted(summary),
        "conditions": sections.conditions(summary),
        "refusals": sections.refusals(summary),
        "refusal": refusals(summary.settings.refusals),
        "order": sections.order(summary),
        "maps": sections.maps(summary),
        "looks": sections.looks(summary),
        "directions": sections.directions(summary),
        "comparisons": _families(summary.comparisons),
        "claims": sections.claims(summary),
        "contrasts": contrast_section.contrasts(summary),
        "frozen": summary.settings.frozen,
        "agreement": sections.agreement(summary),
        "corrections": sections.corrections(summary),
        "corrected_pairs": [_family(one) for one in summary.corrected_pairs[:MODELS]],
        "raters": raters(summary.raters),
        "human_labels": sections.human_labels(summary),
        "beside": sections.beside(summary),
        "missing": sections.missing(summary),
        "time": sections.time(summary),
        "validated": sections.validated(summary),
        "spread": shown([_spread(summary, one) for one in summary.models], "tables/models.csv"),
        "planning": sections.planning(summary),
        "failures": _failures(summary),
        "endings": _endings(summary),
        "flags": _flags(summary),
        "examples": _examples(summary),
        "browser": _browser(summary),
        "script": Markup(answers.SCRIPT),
        "script_hash": answers.script_hash(),
        "to_copy": {
            "methods": to_copy.methods(summary),
            "limitations": to_copy.limitations(summary),
            "bibtex": to_copy.bibtex(summary),
        },
        "sent": to_copy.sent(summary),
        "paper": _paper(summary),
        "provenance": _provenance(summary),
        "citation": paper.CITATION,
        "version": emoray.__version__,
        "circle_key": _circle_key(),
        "states_key": _states_key(human_text=sections.validated(summary)),
    }
    content["sections"] = _sections(content)
    return printable(environment.get_template("page.html.jinja").render(content)) + "\n"


# ── readers, models, panels ────────────────────────────────────────────────────────────────────────────────────────


def _reader(summary: Summary, name: str) -> dict[str, Any]:
    models = summary.of_reader(name)
    return {
        "name": name,
        "forest": first_screen.forest(name, models) if models else None,
        "by_state": first_screen.by_state(models, summary.design),
        "by_question": first_screen.by_question(models, summary.design),
        "variants": _variants(name, models),
        "panels": _panels(summary, models, summary.readers.index(name)),
        "states": _pivot(summary, models, "state"),
        "questions": _pivot(summary, models, "question"),
        "templates": _pivot(summary, models, "template"),
        "intensities": _pivot(summary, models, "intensity"),
    }


def _panels(summary: Summary, models: Sequence[ModelSummary], place: int) -> list[dict[str, Any]]:
    if not summary.design.states or place >= READERS:
        return []
    least, grid = figures.lowest(models), figures.Grid.of(models, summary.design)
    some = models[: panels_each(len(summary.readers))]
    return [_panel(summary, one, f"{place}-{i}", least, grid) for i, one in enumerate(some)]


def _notes(summary: Summary) -> dict[str, str]:
    """What the panels do not show one by one, by section."""
    design, first = summary.design, summary.of_reader(summary.readers[0]) if summary.readers else ()
    grid = figures.Grid.of(first, design).note if first and design.states else ""
    said = {"circumplex": figures.grouped_states(design), "states": figures.thinned_states(design), "questions": grid}
    missing = [_without_panels(summary, len(first))]
    return {name: " ".join(filter(None, [*missing, note])) for name, note in said.items()}


def _without_panels(summary: Summary, models: int) -> str:
    readers, each = len(summary.readers), panels_each(len(summary.readers))
    counts = [f"the first {each:,} of {models:,} models"] if models > each else []
    counts += [f"the first {READERS:,} of {readers:,} readers"] if readers > READERS else []
    if not counts:
        return ""
    further = (
        f" The files in figures/ go on over further pages ({figures.MOST_PAGES} at most)." if models > each else ""
    )
    return f"Drawn here: {' and '.join(counts)}; the numbers of all are in tables/.{further}"


def _variants(reader: str, models: Sequence[ModelSummary]) -> list[dict[str, Any]]:
    return [_variant(f"Read by {reader}", [(one, one.scores) for one in models])]


def _variant(caption: str, models: Sequence[tuple[ModelSummary, Scores]]) -> dict[str, Any]:
    models, rest = models[:ROWS], len(models) - ROWS
    least = min([0.0, *(_finite(scores.whole.group.cosine.low) for _, scores in models)])
    least = math.floor(least * 5) / 5
    return {
        "caption": caption,
        "human": any(math.isfinite(scores.whole.group.of_human) for _, scores in models),
        "scale": _scale(least),
        "more": more([("", rest)], "tables/models.csv"),
        "lines": [
            {
                "model": one.model,
                "answers": f"{one.counts.answers:,}",
                "failed": f"{one.counts.failures:,}",
                "cosine": with_interval(scores.whole.group.cosine),
                "strip": _strip(scores, least),
                "relative": of_ceiling(scores.whole.group),
                "of_human": of_human(scores.whole.group),
                "expected": with_interval(scores.whole.group.expected),
                "shuffled": f"{number(scores.whole.shuffled.mean)} (p {_p(scores.whole.shuffled.p)})",
            }
            for one, scores in models
        ],
    }


def _p(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") or text == UNKNOWN else f"= {text}"


def _panel(summary: Summary, one: ModelSummary, name: str, least: float, grid: figures.Grid) -> dict[str, Any]:
    design, label_map = summary.design, summary.settings.map_of(one.reader)
    cosine = with_interval(one.scores.whole.group.cosine)
    who = f"{one.model}, read by {one.reader}"
    circle = figures.single(lambda axes: figures.circle(axes, one, design, label_map), (3.4, 3.4))
    tall = min(figures.MOST_STATES, len(design.states))
    states = figures.single(lambda axes: figures.state_lines(axes, one, design, least), (3.6, 0.6 + 0.23 * tall))
    said = f"Mean cosine {cosine}. By state: {_in_words(one.scores.states)}."
    return {
        "model": one.model,
        "cosine": cosine,
        "circle": Markup(figures.inline_svg(circle, f"c{name}", f"Circumplex of {who}. {said}")),
        "states": Markup(figures.inline_svg(states, f"s{name}", f"Mean cosine by state of {who}. {said}")),
        "heat": first_screen.heat(one.model, grid.rows, grid.columns, grid.means(one.scores.state_by_question)),
    }


def _in_words(groups: Sequence[Group]) -> str:
    if len(groups) > figures.MOST_STATES:
        return "in the table below"
    return ", ".join(f"{level_name(group)}° {number(group.cosine.estimate)}" for group in groups)


def _pivot(summary: Summary, models: Sequence[ModelSummary], axis: GroupAxis) -> dict[str, Any]:
    names = {
        "state": ("State", "Mean cosine by state, as a table"),
        "question": ("Question", "Mean cosine by question, as a table"),
        "template": ("Template", f"Mean cosine by template{_at(summary, 'intensity')}"),
        "intensity": ("Intensity", f"Mean cosine by intensity{_at(summary, 'template')}"),
    }
    left_out = [("models", len(models) - MODELS)]
    models = models[:MODELS]
    lines = list(zip(*(_lines(one.scores, axis) for one in models), strict=True))
    level, title = names[axis]
    return {
        "more": more([(_FILES[axis], len(lines) - ROWS), *left_out], f"tables/{_FILES[axis]}.csv"),
        "level": level,
        "title": title,
        "capped": axis == "state",
        "human": any(math.isfinite(one.scores.whole.group.human) for one in models),
        "models": [one.model for one in models],
        "lines": [
            {
                **_level(summary, axis, place),
                "human": number(groups[0].human),
                "cells": [with_interval(group.cosine) for group in groups],
            }
            for place, groups in enumerate(lines[:ROWS])
        ],
    }


def _at(summary: Summary, what: Literal["template", "intensity"]) -> str:
    """Of which intensity the lines by template are, or of which template those by intensity."""
    chosen = summary.design.headline
    if chosen is None:
        return ""
    return f", at intensity {chosen.intensity:g}" if what == "intensity" else f", with template {chosen.template}"


_FILES: dict[GroupAxis, str] = {
    "state": "states", "question": "questions", "template": "templates", "intensity": "intensities",
}  # fmt: skip


def _lines(scores: Scores, axis: GroupAxis) -> tuple[Group, ...]:
    match axis:
        case "state":
            return scores.states
        case "question":
            return scores.questions
        case "template":
            return scores.templates
        case "intensity":
            return scores.intensities


def _level(summary: Summary, axis: GroupAxis, place: int) -> dict[str, Any]:
    design = summary.design
    match axis:
        case "state":
            state = design.states[place]
            shown = {"name": f"{state.angle_deg:g}°", "note": state.term, "ceiling": number(state.ceiling)}
            return {**shown, "colour": colours.of_angle(state.angle_deg)}
        case "question":
            question = design.questions[place]
            return {"name": question.id, "note": f"{_excerpt(question.text)} ({question.mark})", "colour": None}
        case "template":
            one = design.templates[place]
            return {"name": one.name, "note": f"{one.mark}, control" if one.control else one.mark, "colour": None}
        case "intensity":
            return {"name": f"{design.intensities[place]:g}", "note": "", "colour": None}


# ── small drawings in tables and keys ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Ruler:
    """A cosine as a place on a strip 160 wide."""

    least: float

    def __call__(self, cosine: float) -> str:
        return f"{4 + 152 * (min(1.0, max(self.least, cosine)) - self.least) / (1 - self.least):.1f}"


def _strip(scores: Scores, least: float) -> Markup:
    """The interval as a bar, the mean as a dot, zero and the shuffled 95th percentile as lines."""
    x, top, chance = _Ruler(least), scores.whole.group.cosine, scores.whole.shuffled.p95
    if math.isnan(top.estimate):
        return Markup("")
    parts = [f'<path d="M{x(0)} 0V20" stroke="var(--faint)"/>']
    if math.isfinite(chance):
        parts.append(f'<path d="M{x(chance)} 3V17" stroke="var(--muted)" stroke-width="1.5"/>')
    if math.isfinite(top.low):
        bar = 'stroke="var(--accent)" stroke-width="4" stroke-linecap="round" opacity=".45"'
        parts.append(f'<path d="M{x(top.low)} 10H{x(top.high)}" {bar}/>')
    parts.append(f'<circle cx="{x(top.estimate)}" cy="10" r="4" fill="var(--accent)"/>')
    return Markup(f'<svg viewBox="0 0 160 20" aria-hidden="true">{"".join(parts)}</svg>')


def _scale(least: float) -> Markup:
    x = _Ruler(least)
    style = 'font-size="13" fill="var(--muted)" font-family="var(--sans)"'
    marks = [least, 0.0, 0.5, 1.0] if least < -0.3 else [0.0, 0.5, 1.0]
    texts = [
        f'<text x="{x(at)}" y="12" text-anchor="{_anchor(at, least)}" {style}>{number(at, 1)}</text>' for at in marks
    ]
    return Markup(f'<svg viewBox="0 0 160 15" role="img" aria-label="scale of the bars">{"".join(texts)}</svg>')


def _anchor(at: float, least: float) -> str:
    return "start" if at == least else "end" if at == 1 else "middle"


def _circle_key() -> Markup:
    return _key(
        ('<circle cx="12" cy="6" r="5" fill="var(--muted)"/>', "asked"),
        ('<circle cx="12" cy="6" r="3.4" fill="var(--muted)"/>', "read, by the most probable label"),
        (
            '<circle cx="12" cy="6" r="3" fill="none" stroke="var(--muted)" stroke-width="1.4"/>',
            "read, by all probabilities",
        ),
        (
            '<path d="M1 6H23" stroke="var(--ceiling)" stroke-width="1.4" stroke-dasharray="5 3"/>',
            "ceiling of the label map",
        ),
    )


def _states_key(*, human_text: bool) -> Markup:
    human = [('<path d="M12 0V12" stroke="var(--ink)" stroke-width="1.2"/>', "what the reader scores on human text")]
    return _key(
        (
            '<path d="M2 6H22" stroke="var(--muted)" stroke-width="2.6" stroke-linecap="round"/>'
            '<circle cx="12" cy="6" r="3.6" fill="var(--muted)"/>',
            "mean cosine and its interval over questions",
        ),
        ('<circle cx="12" cy="6" r="3" fill="none" stroke="var(--muted)" stroke-width="1.4"/>', "expected cosine"),
        ('<path d="M12 0V12" stroke="var(--ceiling)" stroke-width="1.8"/>', "ceiling"),
        *(human if human_text else []),
        (
            '<rect y="1" width="24" height="10" fill="var(--faint)" opacity=".55"/>',
            "states shuffled, 5th to 95th percentile",
        ),
    )


def _key(*entries: tuple[str, str]) -> Markup:
    return Markup("").join(
        Markup(f'<span><svg viewBox="0 0 24 12" aria-hidden="true">{drawing}</svg>{text}</span>')
        for drawing, text in entries
    )


# ── the other tables ───────────────────────────────────────────────────────────────────────────────────────────────


def _cautions(summary: Summary) -> list[str]:
    """What must be known before the numbers are quoted."""
    cautions = []
    for host, what in _STAND_INS.items():
        names = [one.model for one in _once(summary) if host in one.hosts]
        if names:
            verb = "is" if len(names) == 1 else "are"
            cautions.append(
                f"{listed(names)} {verb} {what}: for trying and testing, no evidence about language models."
            )
    cautions += sections.kinships(summary)
    cautions += [f"The reader {reader} is left out: {why}." for reader, why in summary.left_out.items()]
    cautions += [
        f"Up to ${usd:,.2f} was spent on answers of {model}, or readings of them, that nobody has: they were under way "
        "when a process died, or their file was lost."
        for model, usd in summary.lost_usd.items()
    ]
    cautions += [earlier(summary)] if summary.earlier else []
    questions = len(summary.design.questions)
    if questions == 1:
        cautions.append("One question was asked: nothing can be said about other questions, and no interval is given.")
    return cautions


def _once(summary: Summary) -> list[ModelSummary]:
    """Each model once, whatever the number of readers."""
    return list({one.model: one for one in reversed(summary.models)}.values())[::-1]


def _families(comparisons: Sequence[Comparison]) -> Shown:
    left_out = more([("families of pairs", len(comparisons) - MODELS)], "tables/differences.csv")
    return Shown([_family(one) for one in comparisons[:MODELS]], left_out)


def _family(family: Comparison) -> dict[str, Any]:
    what = {
        "models": "Models, read by",
        "readers": "Readers of",
        "templates": "Templates of",
        "corrected models": "Models, read by people and",
    }[family.of]
    return {
        "name": f"{what} {family.within}",
        "more": more(
            [("pairs", len(family.differences) - ROWS)],
            f"tables/{'corrected_' if family.of == 'corrected models' else ''}differences.csv",
        ),
        "lines": [
            {
                "a": one.a,
                "b": one.b,
                "difference": with_interval(one.interval),
                "p": p_value(one.p),
                "holm": p_value(one.p_holm),
            }
            for one in family.differences[:ROWS]
        ],
    }


def _spread(summary: Summary, one: ModelSummary) -> dict[str, Any]:
    whole = one.scores.whole
    shares = sections.shares(whole.parts)
    worth = with_bounds(whole.effective_n, whole.effective_n_low, whole.effective_n_high, 0)
    rows = [f"{whole.group.scored:,}", worth, percent(one.identical, 1)]
    return {
        "model": named(summary, one.model, one.reader),
        "by": sections.by(summary, one),
        "cells": [*shares, *rows],
    }


def _failures(summary: Summary) -> dict[str, Any]:
    every = _once(summary)
    models = every[:MODELS]
    kinds = sorted({kind for one in every for kind in one.failures})
    said = [
        (model, kind, text) for model, texts in summary.failure_texts.items() for kind, text in sorted(texts.items())
    ]
    return {
        "more": more([("models", len(every) - MODELS)], "summary.json"),
        "more_said": more([("", len(said) - ROWS)], "what `emoray status` says"),
        "models": [one.model for one in models],
        "lines": [
            {"name": kind.replace("_", " "), "cells": [f"{one.failures.get(kind, 0):,}" for one in models]}
            for kind in kinds
        ],
        "said": [{"model": model, "kind": kind.replace("_", " "), "text": text} for model, kind, text in said[:ROWS]],
    }


def _endings(summary: Summary) -> Shown:
    models = [one.model for one in _once(summary)][:MODELS]
    lines = [
        {"name": _excerpt(word), "cells": [f"{counts.get(model, 0):,}" for model in models]}
        for word, counts in summary.odd_endings.items()
    ]
    return shown(lines, "summary.json")


def _flags(summary: Summary) -> dict[str, Any]:
    names = (
        "Answers",
        "Refused",
        "Left the role",
        "Cut at max_tokens",
        "Read as neutral",
        "Longer than the reader reads",
        "Not readable",
    )
    lines = []
    for one in summary.models[:ROWS]:
        n = one.counts
        cells = (n.answers, n.refused, n.role_breaks, n.cut, n.neutral, n.read_truncated, n.unread)
        lines.append({"model": named(summary, one.model, one.reader), "cells": [f"{cell:,}" for cell in cells]})
    return {"names": names, "lines": lines, "more": more([("", len(summary.models) - ROWS)], "tables/models.csv")}


def _browser(summary: Summary) -> dict[str, Any] | None:
    """Single answers, as the page's script shows them; None where there are none."""
    told = answers.data(summary)
    return {"said": answers.said(told), "data": Markup(answers.inert(told))} if told else None


def _examples(summary: Summary) -> Shown:
    terms = {state.angle_deg: state.term for state in summary.design.states}
    first = summary.readers[0] if summary.readers else ""
    order = {one.model: place for place, one in enumerate(_once(summary))}
    found = sorted(
        (e for e in summary.examples if e.reader == first), key=lambda e: (order[e.model], e.state_deg, e.key)
    )
    groups = [(model, list(some)) for model, some in groupby(found, key=lambda example: example.model)]
    return Shown(
        [
            {
                "name": model,
                "lines": [_example(one, terms) for one in some[:EXAMPLES]],
                "more": more([("", len(some) - EXAMPLES)], "summary.json"),
            }
            for model, some in groups[:MODELS]
        ],
        more([("models", len(groups) - MODELS)], "summary.json"),
    )


def _example(one: Example, terms: dict[float, str]) -> dict[str, Any]:
    strength = "" if one.intensity == 1 else f", intensity {one.intensity:g}"
    flags = [name for name, there in (("refused", one.refused), ("left the role", one.role_break)) if there]
    cosine = f"cosine {number(one.cosine)}" if one.cosine is not None else "no score"
    return {
        "asked": f"{one.state_deg:g}° {terms.get(one.state_deg, '')}{strength}",
        "question": f"{one.question_id}, {one.template}",
        "colour": colours.of_angle(one.state_deg),
        "answer": _excerpt(one.answer),
        "reading": ", ".join([_reading(one), cosine, *flags]),
    }


def _reading(one: Example) -> str:
    if one.label is not None:
        return f"read as {one.label} ({percent(one.probability or 0.0)})"
    if one.felt_valence is None or one.felt_arousal is None:
        return "not read"
    return f"read at valence {number(one.felt_valence)}, arousal {number(one.felt_arousal)}"


def _excerpt(text: str) -> str:
    """The beginning of an answer, without characters that no page may hold."""
    clean = "".join(character for character in text if character == "\n" or category(character) != "Cc")
    return clean if len(clean) <= _LONGEST else clean[:_LONGEST].rsplit(" ", 1)[0] + " …"


def _paper(summary: Summary) -> list[dict[str, str]]:
    """What is known of the paper's results and design, beside what this run has."""
    design = summary.design
    first = summary.of_reader(summary.readers[0]) if summary.readers else ()
    means = [one.scores.whole.group.cosine.estimate for one in first if one.scores.whole.group.scored]
    quoted = sum(question.mark == "quoted" for question in design.questions)
    prompts = len(design.states) * len(design.questions) * len(design.templates) * len(design.intensities)
    asked = max((one.counts.asked for one in summary.models), default=0)
    low, high = paper.MODEL_MEANS.value
    rows: list[tuple[str, paper.Fact[Any], str, str]] = [
        ("Mean cosine of several models", paper.MODEL_MEANS, f"{low} to {high}", _range(means)),
        (
            "Highest cosine named",
            paper.BEST_COSINE,
            f"about {paper.BEST_COSINE.value}",
            number(max(means)) if means else UNKNOWN,
        ),
        ("Classifier", paper.CLASSIFIER, paper.CLASSIFIER.value, several(summary.readers) or UNKNOWN),
        (
            "Its accuracy, 28 labels",
            paper.CLASSIFIER_ACCURACY,
            percent(paper.CLASSIFIER_ACCURACY.value, 1),
            "see emoray validate",
        ),
        (
            "Its mean cosine, true to read label",
            paper.CLASSIFIER_MEAN_COSINE,
            f"{paper.CLASSIFIER_MEAN_COSINE.value:.3f}",
            "see emoray validate",
        ),
        ("Models", paper.MODELS, ", ".join(paper.MODELS.value), several([one.model for one in _once(summary)])),
        ("States", paper.STATES, str(paper.STATES.value), str(len(design.states))),
        ("Questions", paper.QUESTIONS, str(paper.QUESTIONS.value), f"{len(design.questions)}, {quoted} of them quoted"),
        (
            "Answers per prompt",
            paper.REPETITIONS,
            str(paper.REPETITIONS.value),
            number(asked / prompts, 1).removesuffix(".0") if prompts else UNKNOWN,
        ),
    ]
    return [
        {"what": what, "theirs": theirs, "mark": fact.mark, "where": fact.where, "here": here}
        for what, fact, theirs, here in rows
    ]


def _range(means: Sequence[float]) -> str:
    if not means:
        return UNKNOWN
    return number(means[0]) if len(means) == 1 else f"{number(min(means))} to {number(max(means))}"


def _provenance(summary: Summary) -> Shown:
    design, chosen = summary.design, summary.settings
    models = _once(summary)
    lines = [
        ("Label map", chosen.label_map.name, chosen.label_map.mark, chosen.label_map.source),
        *(
            ("Label map", f"of {name}", own.mark, f"{own.source}{'; moved' if name in chosen.moved else ''}")
            for name, own in chosen.own_maps.items()
        ),
        ("Neutral rule", f"a neutral reading {neutral(chosen)}", "ours", "the paper's rule is unknown"),
        ("Russell's angles", f"28 terms; disputed: {_disputed()}", "secondary", russell.SOURCE),
    ]
    lines += [
        ("Template", one.name, one.mark, "a control, which enters no mean" if one.control else "")
        for one in design.templates[:ROWS]
    ]
    lines += [("Question", f"{one.id}: {_excerpt(one.text)}", one.mark, "") for one in design.questions[:ROWS]]
    lines += [
        ("Reader", name, "ours", _revisions(summary.of_reader(name)[0].reader_revisions))
        for name in summary.readers[:ROWS]
    ]
    lines += [
        (
            "Model",
            f"{one.model} ({one.model_id})" if one.model_id else one.model,
            "ours",
            f"{', '.join(one.hosts)} {_revisions(one.model_revisions)}",
        )
        for one in models[:ROWS]
    ]
    lines += [("Sampling", how, "ours", f"of {of}; the paper's is unknown") for how, of in _samplings(summary).items()]
    lines += [
        (
            "Refusals",
            f"an answer that declines the task {refusals(chosen.refusals)}",
            "ours",
            f"{_detector()}; how the paper scored them is unknown",
        ),
        ("Intervals, shuffled control", "see above", "ours", "the paper's tests are unknown"),
    ]
    counts = {
        "templates": design.templates,
        "questions": design.questions,
        "readers": summary.readers,
        "models": models,
    }
    left_out = more([(what, len(of) - ROWS) for what, of in counts.items()], "summary.json")
    return Shown(
        [{"what": what, "value": value, "mark": mark, "why": why} for what, value, mark, why in lines], left_out
    )


def _detector() -> str:
    """How well refusals and role breaks are found."""
    found = judged()
    figures = (("refusals", found.refusals), ("role breaks", found.role_breaks))
    said = [
        f"of {of.of} {what} it finds {of.both}, and {of.both} of the {of.flagged} that it flags are some "
        f"(precision {with_bounds(of.precision, *of.precision_interval, 3)}, "
        f"recall {with_bounds(of.recall, *of.recall_interval, 3)})"
        for what, of in figures
    ]
    return (
        f"flagged by a detector of ours; on {found.answers} labelled answers that were held out ({found.held_out}; "
        f"95 % intervals by Wilson), {' and '.join(said)}"
    )


def _samplings(summary: Summary) -> dict[str, str]:
    """Sampling -> the models that were asked so, both as they are said."""
    models: dict[str, list[str]] = {}
    for one in _once(summary):
        for sampling in one.samplings:
            settings = {name: "the host's own" if x is None else f"{x:g}" for name, x in asdict(sampling).items()}
            how = ", ".join(f"{name} {x}" for name, x in settings.items())
            models.setdefault(f"{how}{_beside(summary.drawn.get(one.model, ()))}", []).append(one.model)
    return {how: listed(of) for how, of in models.items()}


def _beside(drawn: Sequence[Drawn]) -> str:
    """What shaped a model's answers beside the settings that are columns, and whose defaults those were."""
    shaping = [{name: one[name] for name in _SHAPING if one.get(name, NEUTRAL[name]) != NEUTRAL[name]} for one in drawn]
    said = [", ".join(f"{name} {x:g}" for name, x in some.items()) for some in shaping if some]
    whose = [_MODELS_OWN] if any(one.get("defaults") == "model" for one in drawn) else []
    return "".join(f"; {part}" for part in [*(["; later ".join(said)] if said else []), *whose])


_SHAPING = tuple(name for name in NEUTRAL if name not in ASKED)
_MODELS_OWN = "what the spec leaves open as the model's own generation_config says"


def _disputed() -> str:
    """frustrated 141° or 141.1°, …: the first is used."""
    return ", ".join(
        f"{term} {' or '.join(f'{angle:g}°' for angle in angles)}" for term, angles in russell.DISPUTED.items()
    )


def _revisions(revisions: Sequence[str]) -> str:
    return f"revision {', '.join(revisions)}" if revisions else "revision not known"


def _sections(content: dict[str, Any]) -> list[tuple[str, str]]:
    sections = [
        ("models", "Models", True),
        ("circumplex", "Circumplex", True),
        ("states", "States", True),
        ("questions", "Questions", True),
        ("conditions", "Templates", content["several_conditions"]),
        ("differences", "Differences", content["comparisons"].lines),
        ("contrasts", "Contrasts", content["contrasts"]),
        ("frozen", "Frozen plan", content["frozen"]),
        ("claims", "Claims", content["claims"]),
        ("agreement", "Agreement", content["agreement"]),
        ("corrections", "People", content["corrections"].lines),
        ("spread", "Spread", True),
        ("time", "Time", content["time"]),
        ("failures", "Failures", True),
        ("examples", "Answers", content["examples"].lines),
        ("paper", "The paper", True),
        ("method", "Method", True),
    ]
    return [(id_, name) for id_, name, there in sections if there]


def _unbroken(text: str) -> str:
    """The same text, in which no line ends inside short brackets or before a unit."""
    inside = re.sub(r"\[[^\]]{,24}\]|\([^)]{,24}\)", lambda found: found[0].replace(" ", "\u00a0"), text)
    return inside.replace(" [", "\u00a0[").replace(" %", "\u00a0%")


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
