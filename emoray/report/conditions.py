"""Of which cells a number is: the headline's condition, each by itself, and what refusals and failures weigh."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from emoray.analysis.calibration import OnHumanText
from emoray.analysis.intervals import Interval
from emoray.analysis.summaries import Group, GroupAxis, moments, overall
from emoray.analysis.tally import Axis, Tally
from emoray.report.read_run import under
from emoray.study.conditions import Condition
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import RefusalRule

REFUSAL_RULES: tuple[RefusalRule, ...] = ("zero", "drop", "as_read")
LEAST = -1.0  # the least that an answer can score


@dataclass(frozen=True)
class OneCondition:
    """The mean of one model by one reader under one template at one intensity."""

    template: str
    intensity: float
    control: bool
    group: Group


@dataclass(frozen=True)
class Weighed:
    """The headline's mean under every rule for refusals, and with every failed ask at the least score."""

    zero: Interval
    drop: Interval
    as_read: Interval
    worst: Interval  # by the rule chosen, failed asks at -1
    read: int  # answers of the headline's condition
    refused: int  # of these
    failed: int  # asks of the headline's condition


def focus(tally: Tally, condition: Condition | None) -> Tally:
    """The sums of one condition, the axes kept."""
    if condition is None:
        return tally
    return tally.only("template", condition.template).only("intensity", condition.intensity)


def has(tally: Tally, condition: Condition) -> bool:
    """Whether its axes know the condition."""
    there = (tally.axis("template").levels, tally.axis("intensity").levels)
    return condition.template in there[0] and condition.intensity in there[1]


def by_template(tally: Tally, condition: Condition | None) -> Tally:
    """Every template, at the headline's intensity."""
    return tally if condition is None else tally.only("intensity", condition.intensity)


def by_intensity(tally: Tally, condition: Condition | None) -> Tally:
    """Every intensity, with the headline's template."""
    return tally if condition is None else tally.only("template", condition.template)


def with_level(axis: Axis, level: str | float) -> Axis:
    return axis if level in axis.levels else Axis(axis.name, (*axis.levels, level))


def each_alone(
    tally: Tally, axis: GroupAxis, label_map: LabelMap, level: float, human: OnHumanText | None
) -> tuple[Group, ...]:
    """One line per level of an axis, each fitted to its own cells alone: no other level fills in what it lacks."""
    return tuple(
        replace(overall(only, label_map, level=level, human=human), level=one) for one, only in tally.each(axis)
    )


def conditions(
    tally: Tally, controls: Collection[str], label_map: LabelMap, level: float, human: OnHumanText | None
) -> tuple[OneCondition, ...]:
    """Each by itself, controls too; `tally` has the axes of a design."""
    return tuple(
        OneCondition(str(group.level), float(intensity), group.level in controls, group)
        for intensity, only in tally.each("intensity")
        for group in each_alone(only, "template", label_map, level, human)
    )


def over_conditions(
    tally: Tally, controls: Collection[str], label_map: LabelMap, level: float, human: OnHumanText | None
) -> Group | None:
    """The mean over all conditions that are no control; None where there are fewer than two."""
    told = [name for name in tally.axis("template").levels if name not in controls]
    if len(told) * len(tally.axis("intensity").levels) < 2:
        return None
    return overall(tally.among("template", told), label_map, level=level, human=human)


def weighed(scores: Tally, failed: Tally, chosen: RefusalRule, level: float) -> Weighed:
    """`scores` as they were read, with the axis `refused`; `failed` counts asks on the other axes."""
    means = {rule: _mean(under(scores, rule), level) for rule in REFUSAL_RULES}
    kept = under(scores, chosen).without("refused")
    refused = scores.without("refused", level=True)
    return Weighed(
        **means,
        worst=_worst(kept, failed, level),
        read=int(kept.sums["read"].sum()),
        refused=int(refused.sums["read"].sum()),
        failed=int(failed.sums["n"].sum()),
    )


def _mean(tally: Tally, level: float) -> Interval:
    return moments(tally.without("refused"), "cosine").interval(level)


def _worst(tally: Tally, failed: Tally, level: float) -> Interval:
    n = failed.sums["n"]
    more = {"cosine_n": n, "cosine_sum": LEAST * n, "cosine_squares": LEAST**2 * n}
    sums = {name: array + more.get(name, 0.0) for name, array in tally.sums.items()}
    return moments(Tally(tally.axes, sums), "cosine").interval(level)
