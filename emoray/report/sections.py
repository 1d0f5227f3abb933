"""What the sections of the page show that only some runs have: several readers, human labels, other settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, groupby
from typing import Any

from markupsafe import Markup

from emoray.analysis.drift import Change
from emoray.analysis.paper_claims import Claim
from emoray.analysis.planning import enough_repetitions, half_width
from emoray.analysis.summaries import Group
from emoray.analysis.variance import Parts
from emoray.plurals import count
from emoray.report import figures
from emoray.report.agreement import ALL, Agreement
from emoray.report.phrasing import (
    UNKNOWN,
    alone,
    hours,
    label_maps,
    listed,
    looks_sentence,
    named,
    neutral,
    number,
    ordinal,
    p_value,
    percent,
    said_direction,
    said_profile,
    said_rank,
    share_with_error,
    standing,
    time_sentence,
    with_interval,
)
from emoray.report.phrasing import agreement as agreement_sentence
from emoray.report.phrasing import refusals as refusal
from emoray.report.shown import PANELS_EACH, READERS, ROWS, Shown, more, shown
from emoray.report.summary import ModelSummary, Settings, Summary
from emoray.report.tables import (
    level_name,
    said_conditions,
    said_correction,
    said_drift,
    said_pair,
    said_refusals,
)
from emoray.report.timeline import Timeline

_VERDICTS = {"yes": "yes", "no": "no", "open": "open", "unknown": "–"}
_SEEN_BY = {"canaries": "canaries", "cells": "all cells"}


def agreement(summary: Summary) -> dict[str, Any] | None:
    """How far the readers agree; None for fewer than two."""
    found = summary.agreement
    if found is None:
        return None
    return {
        "sentence": agreement_sentence(found),
        "readers": found.readers,
        "answers": f"{found.answers:,}",
        "sampled": found.sampled,
        "pairs": [
            {
                "model": model,
                "lines": [{"who": f"{on.pair.first}, {on.pair.second}", "cells": said_pair(on.pair)} for on in some],
            }
            for model, some in groupby(found.pairs[:ROWS], key=lambda on: on.model)
        ],
        "more_pairs": more([("", len(found.pairs) - ROWS)], "tables/agreement.csv"),
        "all": ALL,
        "panels": _panels(summary, found),
        "conclusions": [
            {"what": one.what, "verdicts": _verdicts(found, one.verdicts), "standing": standing(one)}
            for one in found.conclusions[:ROWS]
        ],
        "more_conclusions": more([("", len(found.conclusions) - ROWS)], "tables/conclusions.csv"),
    }


def claims(summary: Summary) -> dict[str, Any] | None:
    """What the paper concludes, under every reader; None where nothing was read."""
    if not summary.claims:
        return None
    readers = list(summary.claims[0].conclusion.verdicts)
    title = "What the paper concludes, put to this run"
    if len(readers) > 1:
        title = "Do the paper’s conclusions survive the change of reader?"
    return {"title": title, "readers": readers, "lines": [_claim(one, readers) for one in summary.claims]}


def order(summary: Summary) -> dict[str, Any] | None:
    """The ranks of the models under every reader; None where there is nothing to order."""
    readers = list(dict.fromkeys(one.reader for one in summary.ranks))[:READERS]
    models = list(dict.fromkeys(one.model for one in summary.ranks))
    places = {(one.reader, one.model): said_rank(one.rank) for one in summary.ranks}
    if len(models) < 2:
        return None
    lines = [
        {"model": model, "cells": [places.get((reader, model), UNKNOWN) for reader in readers]}
        for model in models[:ROWS]
    ]
    return {"readers": readers, "lines": lines, "more": more([("", len(models) - ROWS)], "tables/models.csv")}


def maps(summary: Summary) -> dict[str, Any] | None:
    """Means and ranks under every shipped map; None without a reader of the 28 labels."""
    names = list(dict.fromkeys(one.label_map for one in summary.by_maps))
    found = {(one.label_map, one.reader, one.model): one for one in summary.by_maps}
    who = list(dict.fromkeys((one.reader, one.model) for one in summary.by_maps))
    if not who:
        return None
    lines = []
    for reader, model in who[:ROWS]:
        mine = [found.get((name, reader, model)) for name in names]
        cells = [(with_interval(one.cosine), said_rank(one.rank)) if one else (UNKNOWN, UNKNOWN) for one in mine]
        lines.append({"name": named(summary, model, reader), "cells": [cell for both in cells for cell in both]})
    return {"names": names, "lines": lines, "more": more([("", len(who) - ROWS)], "tables/maps.csv")}


def looks(summary: Summary) -> dict[str, Any] | None:
    """What the means are worth at this look; None where it is the first and no rule stopped it."""
    found = summary.looks
    if found is None or (found.look < 2 and found.until is None):
        return None
    once = {(one.reader, one.model): one.scores.whole.group.cosine for one in summary.models}
    lines = [
        {
            "name": named(summary, one.model, one.reader),
            "cells": (with_interval(once[one.reader, one.model]), with_interval(one.cosine)),
        }
        for one in found.means
    ]
    return {
        "caption": f"This is the {ordinal(found.look)} look at this run",
        "lines": lines[:ROWS],
        "more": more([("", len(lines) - ROWS)], "summary.json"),
        "sentence": looks_sentence(found, summary.settings.level),
    }


def directions(summary: Summary) -> dict[str, Any]:
    """Circular statistics, model by model."""
    groups = [
        {
            "name": named(summary, one.model, one.reader),
            "lines": [
                {"state": f"{state.asked_deg:g}°", "cells": said_direction(state, p)}
                for state, p in zip(one.states[:ROWS], one.p_holm, strict=False)
            ],
            "more": more([("states", len(one.states) - ROWS)], "tables/directions.csv"),
            "profile": said_profile(one.profile),
        }
        for one in summary.directions[:PANELS_EACH]
    ]
    left_out = more([("models", len(summary.directions) - PANELS_EACH)], "tables/directions.csv")
    return {"groups": groups, "more": left_out}


def corrections(summary: Summary) -> Shown:
    """The means as read and as people correct them."""
    lines = [
        {
            "name": named(summary, one.model, one.reader),
            "cells": said_correction(one.corrected),
            "shift": number(one.corrected.shift),
        }
        for one in summary.corrections
    ]
    return shown(lines, "tables/corrections.csv")


def beside(summary: Summary) -> dict[str, Any] | None:
    """The means under the run's own settings, where this report was asked for under others."""
    own = summary.settings.beside
    if own is None:
        return None
    return {
        "here": _rules(summary.settings),
        "own": _rules(own),
        "lines": [
            {
                "name": named(summary, one.model, one.reader),
                "cells": (with_interval(one.here), with_interval(one.own)),
            }
            for one in summary.beside[:ROWS]
        ],
        "more": more([("", len(summary.beside) - ROWS)], "summary.json"),
    }


def by(summary: Summary, one: ModelSummary) -> int:
    """The place of the reader, behind whose tab a line stands."""
    return summary.readers.index(one.reader)


def refusals(summary: Summary) -> Shown:
    """The means under every rule for refusals, and the worst that failures could be; where there is either."""
    lines = [
        {
            "name": named(summary, one.model, one.reader),
            "by": by(summary, one),
            "cells": said_refusals(one.weighed),
        }
        for one in summary.models
        if any(some.counts.refused or some.counts.failures for some in summary.models)
    ]
    return shown(lines, "tables/refusals.csv")


def conditions(summary: Summary) -> Shown:
    """Each condition by itself."""
    lines = [
        {
            "name": named(summary, one.model, one.reader),
            "by": by(summary, one),
            "condition": ", ".join(filter(None, [template, f"{intensity:g}" if intensity else "", control])),
            "cells": (f"{group.scored:,}", with_interval(group.cosine), with_interval(group.expected)),
        }
        for one in summary.models
        for template, intensity, control, group in said_conditions(one)
    ]
    return shown(lines if summary.design.several_conditions else [], "tables/conditions.csv")


def planning(summary: Summary) -> Shown:
    """What more asking would buy, of every model whose spread is known."""
    design, level = summary.design, summary.settings.level
    states = len(design.states)
    lines = []
    for one in summary.models[:ROWS]:
        parts, questions = one.scores.whole.parts, one.scores.whole.group.cosine.units
        prompts = states * questions
        repetitions = one.scores.whole.group.scored / prompts if prompts else 0.0
        if not parts.interaction >= 0 or questions < 2:
            continue
        if not parts.told_apart:
            repetitions = 1.0  # and what is missing is chance
        asks = (
            (questions, repetitions),
            (questions, 2 * repetitions),
            (questions, math.inf),
            (2 * questions, repetitions),
        )
        widths = [half_width(parts, states, *ask, level) for ask in asks]
        enough = enough_repetitions(parts, states)
        cells = [*(number(width, 3) for width in widths), UNKNOWN if enough is None else f"{enough:,}"]
        lines.append({"model": named(summary, one.model, one.reader), "by": by(summary, one), "cells": cells})
    left_out = more([("models", len(summary.models) - ROWS)], "the shares of tables/models.csv")
    return Shown(lines, left_out)


def time(summary: Summary) -> dict[str, Any] | None:
    """When the models were asked, and whether they changed meanwhile; None where nothing can be told of it."""
    several = len(summary.readers) > 1
    drifts = [
        {"model": one.model, "reader": one.reader if several else "", "by": _SEEN_BY[by], "cells": said_drift(found)}
        for one in summary.watched
        for by, found in one.drifts
    ]
    texts = [
        {"model": night.model, "cells": _change(night.canary_texts)} for night in summary.nights if night.canary_texts
    ]
    voices = [line for night in summary.nights for line in _voices(night)]
    if not (drifts or texts or voices or summary.lasted):
        return None
    return {
        "sentence": time_sentence(summary),
        "drawing": _timeline(summary) if summary.lasted else None,
        "drifts": shown(drifts, "tables/drift.csv"),
        "tests": f"{2 * len(drifts) + len(texts)} tests",
        "texts": shown(texts, "summary.json"),
        "voices": shown(voices, "summary.json"),
    }


def _change(found: Change) -> tuple[str, ...]:
    return (f"{found.rounds:,}", percent(found.alike), percent(found.contrast), hours(found.at), p_value(found.p_holm))


def _voices(night: Timeline) -> list[dict[str, Any]]:
    """Only where a provider said anything."""
    return [
        {
            "model": night.model,
            "names": (voice.returned_model or UNKNOWN, voice.system_fingerprint or UNKNOWN),
            "cells": (f"{voice.answers:,}", *(moment[:19].replace("T", " ") for moment in (voice.first, voice.last))),
        }
        for voice in night.voices
        if voice.returned_model or voice.system_fingerprint
    ]


def _timeline(summary: Summary) -> Markup:
    first = next(figures.timelines(summary.nights))
    return Markup(
        figures.inline_svg(first.figure, "timeline", f"Answers of every model over time. {first.note}".strip())
    )


def kinships(summary: Summary) -> list[str]:
    """Which judges judge their own kin."""
    return [
        f"The judge {reader} is of the same family as {listed([one.model for one in some])} ({family}): judges are "
        "kinder to their kin, so read these scores beside those of another reader."
        for (reader, family), some in _by_judge(summary)
    ]


def validated(summary: Summary) -> bool:
    """Whether it is known of some reader here what it scores on human text."""
    return any(reader in summary.settings.human_text for reader in summary.readers)


def missing(summary: Summary) -> Shown:
    """The share of prompts without a score that the means fill in, whole and by state, where there are any."""
    lines = [
        {"name": named(summary, one.model, one.reader), "cells": (percent(one.scores.whole.group.missing, 1), by_state)}
        for one in summary.models
        if (by_state := _missing_by_state(one.scores.states))
    ]
    return shown(lines, "tables/states.csv")


_MOST_MISSING = 6  # states named


def _missing_by_state(states: Sequence[Group]) -> str:
    """The worst first."""
    some = sorted((one for one in states if one.missing > 0), key=lambda one: -one.missing)
    said = ", ".join(f"{level_name(one)}° {percent(one.missing)}" for one in some[:_MOST_MISSING])
    return f"{said}, …" if len(some) > _MOST_MISSING else said


def shares(parts: Parts) -> list[str]:
    """Of the variance of single scores, with standard errors: state, question, interaction, repetition."""
    names = ("state", "question", "interaction", "repetition")
    if not parts.total > 0:
        return [UNKNOWN] * len(names)
    found = {
        name: share_with_error(getattr(parts, name) / parts.total, getattr(parts, f"{name}_error") / parts.total)
        for name in names
    }
    if not parts.told_apart and found["interaction"] != UNKNOWN:
        found["interaction"] += ", with repetition"
    return list(found.values())


def human_labels(summary: Summary) -> str:
    return count(len(summary.settings.human_labels), "answer")


def _by_judge(summary: Summary) -> list[tuple[tuple[str, str], list[Any]]]:
    ordered = sorted(summary.kinships, key=lambda one: (one.reader, one.family))
    return [(who, list(some)) for who, some in groupby(ordered, key=lambda one: (one.reader, one.family))]


def _claim(claim: Claim, readers: Sequence[str]) -> dict[str, Any]:
    verdicts = [claim.conclusion.verdicts.get(reader, "unknown") for reader in readers]
    p_values = [p_value(claim.p.get(reader, math.nan)) for reader in readers]
    said = [
        (_VERDICTS[verdict], "" if p == UNKNOWN else f"p {p}") for verdict, p in zip(verdicts, p_values, strict=True)
    ]
    return {
        "what": claim.conclusion.what,
        "mark": claim.mark,
        "where": claim.where,
        "test": claim.test,
        "verdicts": said,
        "standing": standing(claim.conclusion) if len(readers) > 1 else alone(claim.conclusion),
    }


def _verdicts(found: Agreement, verdicts: Any) -> list[str]:
    return [_VERDICTS[verdicts.get(reader, "unknown")] for reader in found.readers]


def _panels(summary: Summary, found: Agreement) -> Shown:
    pairs = list(combinations(found.readers, 2))
    panels = [
        {"who": f"{first}, {second}", "drawing": _panel(summary, f"agreement-{place}", first, second)}
        for place, (first, second) in enumerate(pairs[:PANELS_EACH])
    ]
    left_out = more([("pairs", len(pairs) - PANELS_EACH)], "tables/agreement.csv")
    return Shown(panels, " ".join(filter(None, [left_out, figures.thinned_dots(summary)])))


def _panel(summary: Summary, name: str, first: str, second: str) -> Markup:
    said = f"Mean cosine of every state and model, by {first} and by {second}: one against the other."
    drawn = figures.single(lambda axes: figures.side_by_side(axes, summary, first, second), (3.4, 3.4))
    return Markup(figures.inline_svg(drawn, name, said))


def _rules(settings: Settings) -> str:
    return f"{label_maps(settings)}, a neutral reading {neutral(settings)}, a refusal {refusal(settings.refusals)}"
