"""How often a run has been looked at, and what its numbers are worth for that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emoray.analysis.intervals import Interval
from emoray.analysis.looking import alpha_at, level_at
from emoray.analysis.summaries import moments
from emoray.analysis.tally import Tally
from emoray.report.about_run import AboutAttempt


@dataclass(frozen=True)
class Valid:
    """A mean with an interval that holds however often the run is looked at."""

    reader: str
    model: str
    cosine: Interval


@dataclass(frozen=True)
class Looks:
    """This report is look number `look`; attempts that added answers are looks, and so are reports in between."""

    look: int
    attempts: int  # that added answers
    answers: tuple[int, ...]  # how many there were at each report that is known of, this one last
    alpha: float  # a p below it holds under looking
    means: tuple[Valid, ...]
    until: float | None = None  # half-width at which the last waves of asking were to end


def looked(last: bytes | None) -> list[int]:
    """How many answers there were at each report before, as the last summary.json says; none where there is no such."""
    try:
        kept = json.loads(last or b"{}")
        if kept and "looks" not in kept:  # of an earlier emoray, which counted none: it is one itself
            return [sum({one["model"]: int(one["counts"]["answers"]) for one in kept["models"]}.values())]
        return [int(count) for count in (kept.get("looks") or {}).get("answers", [])]
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):  # torn, or edited by hand
        return []


def looks_of(
    attempts: Sequence[AboutAttempt],
    answers: int,
    earlier: Sequence[int],
    tallies: Mapping[tuple[str, str], Tally],
    level: float,
) -> Looks:
    """`answers` are there now, `earlier` were there when the run was reported on before."""
    counts = (*sorted({count for count in earlier if 0 < count < answers}), answers)
    adding = _adding(attempts)
    look = max(1, adding, len(counts))
    held = level_at(look, level)
    means = tuple(
        Valid(reader, model, moments(tally.without("refused"), "cosine").interval(held))
        for (reader, model), tally in tallies.items()
    )
    rules = [attempt.until for attempt in attempts if attempt.until is not None]
    return Looks(look, adding, counts, alpha_at(look, level), means, rules[-1] if rules else None)


def _adding(attempts: Sequence[AboutAttempt]) -> int:
    """How many attempts added answers, by what they say at their end, or by what the next one found."""
    found = [attempt.settled_before for attempt in attempts]
    return sum(
        attempt.added or (place + 1 < len(found) and found[place + 1] > found[place])
        for place, attempt in enumerate(attempts)
    )
