"""How numbers and results are said, alike in tables, figures and page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from emoray.analysis.agreement import Conclusion
from emoray.analysis.circular import Direction, Profile
from emoray.analysis.intervals import Interval
from emoray.analysis.looking import spent
from emoray.analysis.simultaneous import Rank
from emoray.plurals import count
from emoray.report.agreement import Agreement
from emoray.report.looks import Looks
from emoray.report.order import Ranked, fair
from emoray.report.people import Raters
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
    return with_bounds(interval.estimate, interval.low, interval.high, places)


def with_bounds(estimate: float, low: float, high: float, places: int = 2) -> str:
    """The same of what is no mean over questions."""
    if not math.isfinite(estimate):
        return UNKNOWN
    bounds = f"{number(low, places)}, {number(high, places)}" if math.isfinite(low) else UNKNOWN
    return f"{number(estimate, places)} [{bounds}]"


def percent(share: float, places: int = 0) -> str:
    return f"{number(share * 100, places)} %" if math.isfinite(share) else UNKNOWN


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


def condition(summary: Summary, what: str = "all of it") -> str:
    """Of which condition every number is that says no other, or those that are named; empty where there is but one."""
    chosen = summary.design.headline
    if chosen is None or not summary.design.several_conditions:
        return ""
    control = ", a control" if chosen.template in summary.design.controls else ""
    return f"{what} with template {chosen.template}{control}, at intensity {chosen.intensity:g}"


def counted(summary: Summary) -> str:
    """Of what the counts of answers, failures and flags are, where the means beside them are of one condition."""
    return "answers, failures and flags are counted in all conditions" if condition(summary) else ""


def _result(summary: Summary) -> str:
    scored = [one for one in summary.models if one.scores.whole.group.scored]
    if not scored:
        waiting = sum({one.model: one.counts.answers for one in summary.models}.values())
        return f"Nothing has been scored yet: {count(waiting, 'answer')} to read."
    if len({one.model for one in scored}) == 1:
        return _of_one_model(summary, scored)
    if len({one.reader for one in scored}) == 1:
        return f"{_leaders(summary, scored)}{_last(summary, scored)}. {_controls(summary, scored)}"
    return _by_every_reader(summary, scored)


def earlier(summary: Summary) -> str:
    """What the numbers of an old run are, and which they cannot be."""
    return (
        f"{count(sum(summary.earlier.values()), 'answer')} of {listed(list(summary.earlier))} were kept by an earlier "
        "emoray, whose reports gave other numbers: here their readings are scored anew and refusals found anew in "
        "their texts, and CHANGELOG.md says what else changed. Such rows do not tell what a provider itself declared a "
        "refusal, so refusals are those that the texts show; nor how often the run was looked at, so looks are those "
        "that are known; and what `emoray validate` saved then gives a share of human text without an interval."
    )


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
    alpha, low, high = (
        f"Krippendorff’s α {with_interval(found.alpha_interval)}",
        found.alpha_interval.low,
        found.alpha_interval.high,
    )
    if not math.isfinite(found.alpha):
        trust = "nothing varies in what they read, so their agreement cannot be told"
    elif low >= _GOOD:
        trust = f"they agree well on single answers ({alpha})"
    elif low >= _LEAST:
        trust = f"they agree on single answers well enough for tentative conclusions ({alpha})"
    elif high < _LEAST:
        trust = f"they agree too little for any single reading to be relied on ({alpha}; 0.80 is good)"
    else:
        trust = f"these questions cannot tell whether they agree enough on single answers ({alpha}; 0.80 is good)"
    readers = f"The readers {listed(found.readers)} had the same answers before them: {trust}."
    return f"{readers} {_order(found)}{_conclusions(found)}"


def said_direction(found: Direction, p_holm: float) -> tuple[str, ...]:
    """Readings with a direction, their mean direction, resultant length, bias and the V-test's p, for people."""
    middle = f"{number(found.mean_deg, 0)}°" if math.isfinite(found.mean_deg) else UNKNOWN
    return (f"{found.directed:,}", middle, number(found.length), with_interval(found.bias, 0), p_value(p_holm))


def said_profile(found: Profile | None) -> str:
    """The structural summary in a sentence; "" where there is none."""
    if found is None:
        return ""
    return (
        f"The scores rise and fall around the circle by a wave of amplitude {with_interval(found.amplitude)} that is "
        f"highest at {with_interval(found.displacement, 0)} degrees (elevation {with_interval(found.elevation)}); it "
        f"explains {percent(found.fit)} of how states differ."
    )


def looks_sentence(found: Looks, level: float) -> str:
    """What looking again does to p-values and intervals."""
    attempts, states = count(found.attempts, "attempt"), count(len(found.answers), "state")
    return until_sentence(found.until) + (
        f"{attempts} added answers, and reports are known of {states} of the run. Every other interval and p on this "
        "page takes this look as the only one: who goes on until one of them shows what was hoped for is wrong more "
        f"often. At this look, a p below {p_value(found.alpha)} holds however often the run is looked at, and so do "
        "the intervals of the last column (α · 6 / (π² k²) for the k-th look). Who took the plain interval at the "
        f"first look is wrong at some look {percent(spent(level))} of the time at most."
    )


def until_sentence(half_width: float | None) -> str:
    """The stopping rule under which intervals were made; "" where there was none."""
    if half_width is None:
        return ""
    return (
        f"Stopping rule: answers were asked in waves until the interval of every mean was ±{half_width:g} or narrower, "
        "or no repetitions or money were left (--until); all intervals here were made under it. It looks at widths "
        "alone: simulated, the plain 95 % interval of a mean leaves out the truth about as often as without it "
        "(docs/validity.md). "
    )


def said_rank(rank: Rank) -> str:
    """1, or 2 [1, 3] where other places are possible."""
    return f"{rank.place}" if rank.low == rank.high else f"{rank.place} [{rank.low}, {rank.high}]"


def alone(conclusion: Conclusion) -> str:
    """What becomes of a conclusion under the only reader that there is."""
    (verdict,) = conclusion.verdicts.values()
    return {"yes": "holds", "no": "does not hold", "open": "is open"}.get(verdict, "cannot be told")


def raters(found: Raters | None) -> str:
    """How far people agree who read the same answers; "" where none did."""
    if found is None:
        return ""
    who = listed(found.names) if found.names else f"Up to {found.most} people"
    alpha = f"Krippendorff’s α of the directions that they read is {with_interval(found.alpha)} (0.80 is good)"
    return f"{who} read the same answers, {found.answers:,} of them: {alpha}."


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
    p = p_value(found.ranks_p)
    by_chance = f"p {p}" if p.startswith("<") else f"p = {p}"
    w = f"(Kendall’s W {with_interval(found.ranks_interval)} where 1 is the same order and 0 is chance, {by_chance})"
    doubt = "" if found.ranks_p <= 0.05 else ", which readers that know nothing of one another may do as well"
    if found.ranks >= 1 - 1e-9:
        return f"They put the models into the same order {w}{doubt}. "
    if doubt:
        return f"Their orders of the models cannot be told from chance {w}. "
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


_MOST_READERS = 4  # in the headline


def _of_one_model(summary: Summary, scored: Sequence[ModelSummary]) -> str:
    """By every reader, as far as a sentence holds them."""
    first, rest = scored[0], scored[1:]
    start = f"Asked for {count(len(summary.design.states), 'emotional state')}, {first.model} was read as expressing "
    by = f" by {first.reader}" if rest else ""
    others = [f"{_mean(one)} by {one.reader}" for one in rest[: _MOST_READERS - 1]]
    others += [f"others by {count(len(rest) + 1 - _MOST_READERS, 'more reader')}"] if len(rest) >= _MOST_READERS else []
    said = "".join(f"; {one}" for one in others)
    control = _control(first) if not rest else f"Read by {first.reader}: {_control(first)}"
    return f"{start}them with a mean cosine of {_score(first)}{by}{said}. {control}"


def _by_every_reader(summary: Summary, scored: Sequence[ModelSummary]) -> str:
    """Who leads under each reader, alike ones together."""
    fields = {reader: _field(scored, reader) for reader in dict.fromkeys(one.reader for one in scored)}
    alike: dict[tuple[str, ...], list[str]] = {}
    for reader, field in fields.items():
        alike.setdefault(tuple(sorted(_top(summary, field))), []).append(reader)
    first = fields[next(iter(fields))]
    if len(alike) == 1:
        start = f"Whoever reads ({listed(list(fields))}): {_lower(_leaders(summary, first))}, read by {first[0].reader}"
        return f"{start}{_last(summary, first)}. {_controls(summary, first)}"
    parts = [
        f"read by {listed(some)}, {_lower(_leaders(summary, fields[some[0]]))}"
        for some in list(alike.values())[:_MOST_READERS]
    ]
    parts += [f"{count(len(alike) - _MOST_READERS, 'more reading')} of it below"] if len(alike) > _MOST_READERS else []
    return f"The readers do not put the same models first: {'; '.join(parts)}."


def _field(scored: Sequence[ModelSummary], reader: str) -> list[ModelSummary]:
    return [one for one in scored if one.reader == reader]


def _top(summary: Summary, field: Sequence[ModelSummary]) -> list[str]:
    return [one.model for one in _places(summary, field) if one.first] or [one.model for one in field]


def _places(summary: Summary, field: Sequence[ModelSummary]) -> list[Ranked]:
    return [one for one in summary.ranks if one.reader == field[0].reader]


def _leaders(summary: Summary, field: Sequence[ModelSummary]) -> str:
    """Who came closest, where that is told; else among whom it is not."""
    top = _top(summary, field)
    best = [one for one in field if one.model in top]
    if len(field) == 1:
        return f"{best[0].model} alone was read, with a mean cosine of {_score(best[0])}"
    if len(best) == 1:
        start = f"Of {len(field)} models, {best[0].model} came closest to the emotional states that it was asked for: "
        return f"{start}mean cosine {_score(best[0])}"
    low = number(best[-1].scores.whole.group.cosine.estimate)
    means = f"mean cosines {low} to {number(best[0].scores.whole.group.cosine.estimate)}"
    if len(best) == len(field):
        return f"Of {len(field)} models, {listed([one.model for one in best])} are not told apart: {means}"
    return f"Of {len(field)} models, {listed([one.model for one in best])} are not told apart at the top: {means}"


def _last(summary: Summary, field: Sequence[ModelSummary]) -> str:
    """Who stayed farthest, where that is told; nothing where it may be one of those at the top."""
    places = _places(summary, field)
    last = [one.model for one in places if one.last]
    if not last or any(one.first and one.last for one in places):
        return ""
    if len(last) == 1:
        return f"; {last[0]} stayed farthest, {_mean(next(one for one in field if one.model == last[0]))}"
    return f"; {listed(last)} are not told apart at the bottom"


def _controls(summary: Summary, field: Sequence[ModelSummary]) -> str:
    """The shuffled control of who is at the top; p is corrected for all models that might have stood there."""
    p = fair({one.model: one.scores.whole.shuffled.p for one in field})
    top = _top(summary, field)
    best = [one for one in field if one.model in top and math.isfinite(p[one.model])]
    if len(best) < 2:
        return _control(best[0], p[best[0].model]) if best else ""
    last = max(best, key=lambda one: p[one.model])
    return f"Of these, {last.model} is the least sure. {_control(last, p[last.model])}"


def _lower(sentence: str) -> str:
    return f"of {sentence.removeprefix('Of ')}" if sentence.startswith("Of ") else sentence


def _score(one: ModelSummary) -> str:
    return f"{_mean(one)}, {percent(one.scores.whole.group.relative)} of what the label map allows"


def _mean(one: ModelSummary) -> str:
    return with_interval(one.scores.whole.group.cosine)


def _control(one: ModelSummary, p_holm: float | None = None) -> str:
    """`p_holm` where this model was chosen among several."""
    control = one.scores.whole.shuffled
    told = control.p if p_holm is None else p_holm
    if not math.isfinite(told):
        return ""
    p = p_value(told)
    p = (f"p {p}" if p.startswith("<") else f"p = {p}") + ("" if p_holm is None else ", after Holm for all models")
    what = f"with the states shuffled, its answers score {number(control.mean)} ({p})."
    return f"That cannot be told from chance: {what}" if told > 0.05 else what[0].upper() + what[1:]
