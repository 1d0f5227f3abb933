"""How numbers and results are said, alike in tables, figures and page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from emoray.analysis.agreement import Conclusion
from emoray.analysis.intervals import Interval
from emoray.report.agreement import Agreement
from emoray.report.summary import ModelSummary, Settings, Summary
from emoray.study.scoring import RefusalRule

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


def share_with_interval(share: float, low: float, high: float) -> str:
    """78 % [71, 84], or 78 % [–] where the data cannot tell."""
    if not math.isfinite(share):
        return UNKNOWN
    bounds = f"{number(100 * low, 0)}, {number(100 * high, 0)}" if math.isfinite(low) else UNKNOWN
    return f"{percent(share)} [{bounds}]"


def share_with_error(share: float, error: float) -> str:
    """12 % ± 3, one standard error."""
    return percent(share) + (f" ± {number(100 * error, 0)}" if math.isfinite(share) and math.isfinite(error) else "")


def p_value(p: float) -> str:
    if not math.isfinite(p):
        return UNKNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(n: int, noun: str) -> str:
    """1 model, 1,200 answers."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def ordinal(n: int) -> str:
    """2nd, 11th, 23rd."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{ending}"


def neutral(settings: Settings) -> str:
    return "scores 0" if settings.neutral == "zero" else "is left out"


def refusals(rule: RefusalRule) -> str:
    return {"zero": "scores 0", "drop": "is left out", "as_read": "scores as it was read"}[rule]


def label_maps(settings: Settings) -> str:
    moved = f", the labels of {' and '.join(settings.moved)} moved" if settings.moved else ""
    return f"label map {settings.label_map.name} ({settings.label_map.mark}){moved}"


def settings_line(settings: Settings) -> str:
    """What every number depends on, in one line."""
    return (
        f"{label_maps(settings)}, a neutral reading {neutral(settings)}, a refusal "
        f"{refusals(settings.refusals)}, {percent(settings.level)} intervals over questions (Student's t), "
        f"{settings.shuffles:,} shuffles"
    )


def headline(summary: Summary) -> str:
    """The result in a sentence or two, and of which condition it is where there are several."""
    of = condition(summary)
    return f"{_result(summary)} {of[0].upper()}{of[1:]}.".strip() if of else _result(summary)


def condition(summary: Summary) -> str:
    """Of which condition every number is that says no other; empty where there is but one."""
    chosen = summary.design.headline
    if chosen is None or not summary.design.several_conditions:
        return ""
    control = ", a control" if chosen.template in summary.design.controls else ""
    return f"all of it with template {chosen.template}{control}, at intensity {chosen.intensity:g}"


def _result(summary: Summary) -> str:
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


def named(summary: Summary, model: str, reader: str) -> str:
    """A model; and by whom it was read, where there are several readers."""
    return f"{model}, read by {reader}" if len(summary.readers) > 1 else model


def hours(value: float) -> str:
    """Since the first round: 2:05 h, or minutes where it is less than one hour."""
    minutes = round(value * 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


_ALARM = 0.05  # of all tests of drift in a report together


def time_sentence(summary: Summary) -> str:
    """Whether any model changed while it was asked."""
    watched = [(one.model, drift) for one in summary.watched for _, drift in one.drifts]
    moved = {model for model, drift in watched if min(drift.per_hour_p_holm, drift.step_p_holm) < _ALARM}
    moved |= {night.model for night in summary.nights if night.canary_texts and night.canary_texts.p_holm < _ALARM}
    changed = [night.model for night in summary.nights if night.voice_changed]
    said = [f"The provider of {listed(changed)} returned another model id in the middle."] if changed else []
    signed = [night.model for night in summary.nights if night.fingerprint_changed and not night.voice_changed]
    said += [f"The provider of {listed(signed)} returned another fingerprint from some moment on."] if signed else []
    tested = bool(watched) or any(night.canary_texts for night in summary.nights)
    if moved:
        said.append(
            f"Something changed in {listed(sorted(moved))} while it was asked (p < {_ALARM:g} for all tests together)."
        )
    elif tested:
        said.append("No model is seen to have changed while it was asked.")
    else:
        said.append("Too few rounds to tell whether a model changed meanwhile; canaries in the spec would tell.")
    apart = [one.model for one in summary.nights if any(one.apart(other) for other in summary.nights)]
    if apart:
        said.append(f"Of {listed(apart)} not all were asked at the same time: what differs may also be the hour.")
    return " ".join(said)


_GOOD, _LEAST = 0.8, 0.667  # of alpha: Krippendorff's own advice (2004)


def agreement(found: Agreement) -> str:
    """How far the readers agree, for a person who knows none of the measures."""
    alpha = number(found.alpha)
    if not math.isfinite(found.alpha):
        trust = "nothing varies in what they read, so their agreement cannot be told"
    elif found.alpha >= _GOOD:
        trust = f"they agree well on single answers (Krippendorff’s α {alpha})"
    elif found.alpha >= _LEAST:
        trust = f"they agree on single answers well enough for tentative conclusions (Krippendorff’s α {alpha})"
    else:
        trust = f"they agree too little for any single reading to be relied on (Krippendorff’s α {alpha}; 0.80 is good)"
    readers = f"The readers {listed(found.readers)} had the same answers before them: {trust}."
    return f"{readers} {_order(found)}{_conclusions(found)}"


def standing(conclusion: Conclusion) -> str:
    """What becomes of a conclusion when the reader changes."""
    if len(conclusion.told) < 2:
        return "cannot be told"
    match sorted(set(conclusion.told)):
        case ["yes"]:
            return "holds under every reader"
        case ["no"]:
            return "holds under no reader"
        case ["open"]:
            return "open under every reader"
        case ["open", "yes"]:
            return "not every reader is sure"
        case ["no", "open"]:
            return "no reader is sure, some say no"
        case _:
            return "the readers contradict one another"


def _order(found: Agreement) -> str:
    if not math.isfinite(found.ranks):
        return ""
    w = f"(Kendall’s W {number(found.ranks)}, where 1 is the same order and 0 none in common)"
    if found.ranks >= 1 - 1e-9:
        return f"They put the models into the same order {w}. "
    return f"They do not put the models into quite the same order {w}. "


def _conclusions(found: Agreement) -> str:
    """Of the paper's conclusions and of the run's own."""
    standings = [standing(one.conclusion) for one in found.claims]
    told = [one for one in standings if one != "cannot be told"]
    hold = sum(one == "holds under every reader" for one in told)
    paper = (
        f"Of the {count(len(told), 'conclusion')} of the paper that this run can put to the test, {hold} "
        f"{'holds' if hold == 1 else 'hold'} whoever reads"
        if told
        else "None of the paper’s conclusions can be put to the test here"
    )
    if not math.isfinite(found.surviving):
        return f"{paper}."
    own = "Of what any reader concludes of this run’s own models"
    return f"{paper}. {own}, all readers conclude {percent(found.surviving)} alike."


_MOST_NAMES = 20  # in a sentence


def listed(names: Sequence[str]) -> str:
    """a, b and c; of very many, the first and how many others."""
    if len(names) > _MOST_NAMES:
        return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - _MOST_NAMES + 1:,} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def several(names: Sequence[str]) -> str:
    """a, b, c; of very many, the first and how many others."""
    return ", ".join(names) if len(names) <= _MOST_NAMES else listed(names)


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
