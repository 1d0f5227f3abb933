"""`contrasts:` of a spec: what is to be held against what, said before anything is asked.

Every complaint is one sentence that starts with the place, such as `contrasts[0].a`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from emoray import hints
from emoray.hints import did_you_mean
from emoray.printable import cut
from emoray.study.conditions import Condition
from emoray.study.contrasts import (
    ORDERED,
    STATE_GROUPS,
    Contrast,
    FactorName,
    Level,
    Part,
    Score,
    in_group,
    of_entry,
    reach,
    said,
    tagged,
)
from emoray.study.experiment import Experiment


class BadContrast(ValueError):
    """A contrast that this experiment cannot tell anything of; the message is one sentence for its author."""


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


class _Entry(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class ConditionLevel(_Entry):
    """A template at an intensity."""

    template: Annotated[str, Field(max_length=4096), AfterValidator(_composed)]
    intensity: Annotated[float, Field(gt=0, le=1)]


_Number = Annotated[float, Field(ge=-1e12, le=1e12)]
_Given = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_composed)] | _Number | ConditionLevel


class FactorEntry(_Entry):
    """Level a against level b of a factor, or the trend over an ordered one."""

    factor: FactorName
    """tag: of questions; state: a half or quadrant of the circumplex; condition: a template at an intensity."""
    a: _Given | None = None
    """A name; a number for intensity; {template: …, intensity: …} for condition; pleasant, unpleasant, activated,
    deactivated, pleasant-activated, … for state.
    """
    b: _Given | None = None
    trend: Literal["linear"] | None = None
    """In place of a and b: the slope over all intensities, per 1 of intensity."""


class ContrastEntry(_Entry):
    """What the report is to tell: how far level a of a factor lies above level b, how steeply the score rises over an
    ordered factor, or how far one factor's difference depends on another.
    """

    factor: FactorName | None = None
    a: _Given | None = None
    b: _Given | None = None
    trend: Literal["linear"] | None = None
    interaction: Annotated[list[FactorEntry], Field(min_length=2, max_length=2)] | None = None
    """In place of factor: two factors; the first's difference at the second's a, minus that at its b."""
    of: Score = "cosine"
    """projection: the length of the reading along the direction asked for, which a cosine does not see."""
    margin: Annotated[float, Field(gt=0, le=1000)] | None = None
    """A difference below it would not matter: with it, two levels can be shown to be equivalent."""


@dataclass(frozen=True)
class Levels:
    """What an experiment has of every factor."""

    templates: tuple[str, ...]
    intensities: tuple[float, ...]
    models: tuple[str, ...]
    readers: tuple[str, ...]
    angles_deg: tuple[float, ...]
    questions: tuple[tuple[str, tuple[str, ...]], ...]  # id and tags
    headline: Condition | None = None

    @classmethod
    def of(cls, experiment: Experiment, readers: Sequence[str], headline: Condition | None = None) -> Levels:
        return cls(
            templates=tuple(one.name for one in experiment.templates),
            intensities=tuple(experiment.intensities),
            models=tuple(one.name for one in experiment.models),
            readers=tuple(readers),
            angles_deg=tuple(one.angle_deg for one in experiment.states),
            questions=tuple((one.id, one.tags) for one in experiment.questions),
            headline=headline,
        )

    @property
    def tags(self) -> dict[str, frozenset[str]]:
        return tagged(self.questions)

    def named(self, factor: FactorName) -> tuple[str | float, ...]:
        """The levels of a factor whose levels are listed; a condition's are its templates'."""
        match factor:
            case "template" | "condition":
                return self.templates
            case "intensity":
                return self.intensities
            case "tag":
                return tuple(self.tags)
            case "state":
                return tuple(STATE_GROUPS)
            case "model":
                return self.models
            case "reader":
                return self.readers


def checked(entries: Sequence[ContrastEntry], levels: Levels) -> tuple[Contrast, ...]:
    """The contrasts of a spec; BadContrast says what is wrong with the first that cannot be told."""
    if entries and len(levels.questions) < 2:
        raise BadContrast("contrasts: questions are the sample, and there is one only; ask two at least")
    found = [_contrast(f"contrasts[{place}]", entry, levels) for place, entry in enumerate(entries)]
    for (one, first), (other, second) in combinations(enumerate(found), 2):
        if same(first, levels) == same(second, levels):
            raise BadContrast(f"contrasts[{one}] and contrasts[{other}] are the same ({first}); keep one")
    return tuple(found)


def same(contrast: Contrast, levels: Levels) -> tuple[Any, ...]:
    """Equal for contrasts that tell the same, but for their sign and unit: two templates, or two intensities, are two
    conditions of the headline, a trend over two intensities is their difference, and groups are what they hold here.
    """
    both = {"template", "intensity"} <= set(contrast.factors)
    return frozenset(_ends(part, levels, alone=not both) for part in contrast.parts), contrast.of


def _ends(part: Part, levels: Levels, *, alone: bool) -> tuple[str, frozenset[Any]]:
    if part.factor in ("state", "tag"):
        return part.factor, frozenset(_held(part.factor, str(group), levels) for group in (part.a, part.b))
    ends = {part.a, part.b}
    if part.is_trend and len(levels.intensities) == 2:
        ends = set(levels.intensities)
    if alone and levels.headline and part.factor in ("template", "intensity") and None not in ends:
        return "condition", frozenset(_at(levels.headline, part.factor, level) for level in ends)
    return part.factor, frozenset(ends)


def _held(factor: FactorName, group: str, levels: Levels) -> frozenset[Any]:
    """The questions of a tag, or the states of a half or a quadrant."""
    if factor == "tag":
        return levels.tags.get(group, frozenset())
    return frozenset(angle for angle in levels.angles_deg if in_group(group, angle))


def _at(headline: Condition, factor: FactorName, level: Level | None) -> Condition:
    changed: dict[str, Any] = {factor: level}
    return replace(headline, **changed)


def _contrast(where: str, entry: ContrastEntry, levels: Levels) -> Contrast:
    parts = _parts(where, entry)
    for place, part in parts.items():
        _check(place, part, levels)
    _check_together(where, list(parts.values()))
    found = of_entry(entry.model_dump())
    _check_margin(where, found, levels)
    return found


def _check_margin(where: str, contrast: Contrast, levels: Levels) -> None:
    """That not every difference there can be lies within it."""
    farthest = reach(contrast, levels.intensities)
    if contrast.margin is not None and contrast.margin >= farthest:
        raise BadContrast(
            f"{where}.margin {contrast.margin:g} is not below {farthest:g}, and no such contrast of cosines can lie "
            "farther from 0, so all would be equivalent; give the largest difference that would not matter"
        )


def _parts(where: str, entry: ContrastEntry) -> dict[str, FactorEntry]:
    """Where each stands, and what it is."""
    alone = [name for name in ("factor", "a", "b", "trend") if getattr(entry, name) is not None]
    if entry.interaction is not None:
        if alone:
            raise BadContrast(f"{where} has an interaction and {alone[0]}; put {alone[0]} into one of its two factors")
        return {f"{where}.interaction[{place}]": part for place, part in enumerate(entry.interaction)}
    if entry.factor is None:
        raise BadContrast(f"{where}.factor is missing; give one, with a and b or a trend, or an interaction of two")
    return {where: FactorEntry(factor=entry.factor, a=entry.a, b=entry.b, trend=entry.trend)}


def _check_together(where: str, parts: Sequence[FactorEntry]) -> None:
    factors = [part.factor for part in parts]
    if len(set(factors)) < len(factors):
        raise BadContrast(f"{where}.interaction has {factors[0]} twice; an interaction is of two different factors")
    if "condition" in factors and {"template", "intensity"} & set(factors):
        raise BadContrast(f"{where}.interaction has condition, which holds template and intensity already; take these")


def _check(where: str, part: FactorEntry, levels: Levels) -> None:
    given = [name for name in ("a", "b") if getattr(part, name) is not None]
    if part.trend is not None:
        _check_trend(where, part.factor, given, levels)
        return
    if len(given) < 2:
        missing = "b" if given == ["a"] else "a"
        trend = ", or trend: linear" if part.factor in ORDERED and not given else ""
        raise BadContrast(f"{where}.{missing} is missing; a contrast of {part.factor} is of two levels, a and b{trend}")
    _check_several(where, part.factor, levels)
    for name in given:
        _check_level(f"{where}.{name}", part.factor, getattr(part, name), levels)
    _check_apart(where, of_entry(part.model_dump()).parts[0], levels)


def _check_trend(where: str, factor: FactorName, given: Sequence[str], levels: Levels) -> None:
    if given:
        raise BadContrast(f"{where} has a trend and {given[0]}; leave one of the two out")
    if factor not in ORDERED:
        raise BadContrast(f"{where}.trend: the levels of {factor} have no order; a trend is over {', '.join(ORDERED)}")
    _check_several(where, factor, levels)


_SETTING = {
    "template": "templates", "intensity": "intensities", "model": "models", "reader": "readers",
    "tag": "the questions' tags",
}  # fmt: skip


def _check_several(where: str, factor: FactorName, levels: Levels) -> None:
    """That there is something to hold against something."""
    if factor == "condition":
        if len(levels.templates) * len(levels.intensities) < 2:
            raise BadContrast(f"{where}: there is one condition only; add another to templates or intensities")
        return
    known = levels.named(factor)
    if factor == "tag" and not known:
        raise BadContrast(f"{where}: no question here has tags; write {{id: …, text: …, tags: […]}}")
    if len(known) < 2:
        raise BadContrast(
            f"{where}: there is one {factor} only ({said(known[0])}), and nothing to hold it against; add another to "
            f"{_SETTING[factor]}"
        )


def _check_level(where: str, factor: FactorName, level: Any, levels: Levels) -> None:
    if factor == "condition":
        _check_condition(where, level, levels)
        return
    if isinstance(level, ConditionLevel):
        raise BadContrast(f"{where} is a template at an intensity, which is a level of condition and not of {factor}")
    known = levels.named(factor)
    level = float(level) if factor == "intensity" and isinstance(level, int | float) else level
    if level not in known:
        raise BadContrast(f"{where}: {_shown(level)} is none of {_listed(known)}{_meant(level, known)}")
    if factor == "tag" and len(levels.tags[str(level)]) < 2:
        raise BadContrast(
            f"{where}: one question only has the tag {_shown(level)}, and questions are the sample; give it to two at "
            "least"
        )
    if factor == "state" and not any(in_group(str(level), angle) for angle in levels.angles_deg):
        raise BadContrast(f"{where}: none of the states is {level}; ask some that are")


def _check_condition(where: str, level: object, levels: Levels) -> None:
    if not isinstance(level, ConditionLevel):
        raise BadContrast(f"{where}: {_shown(level)} is no condition; write {{template: …, intensity: …}}")
    _check_level(f"{where}.template", "template", level.template, levels)
    _check_level(f"{where}.intensity", "intensity", level.intensity, levels)


def _check_apart(where: str, part: Part, levels: Levels) -> None:
    if part.a == part.b:
        raise BadContrast(f"{where} holds {said(part.a)} against itself; give two levels")
    if part.factor == "tag":
        _check_questions_apart(where, part, levels.tags)
    if part.factor == "state":
        shared = [x for x in levels.angles_deg if in_group(str(part.a), x) and in_group(str(part.b), x)]
        if shared:
            raise BadContrast(
                f"{where}: the state at {shared[0]:g}° is both {said(part.a)} and {said(part.b)}; take groups that "
                "share none"
            )


def _check_questions_apart(where: str, part: Part, tags: Mapping[str, frozenset[str]]) -> None:
    if shared := tags[said(part.a)] & tags[said(part.b)]:
        raise BadContrast(
            f"{where}: the question {min(shared)!r} has both tags, {said(part.a)} and {said(part.b)}; a contrast needs "
            "two groups of questions that share none"
        )


_LISTED = 20


def _shown(level: object) -> str:
    return cut(_exact(float(level)) if isinstance(level, int | float) else repr(level))


def _exact(level: str | float) -> str:
    """A number with all its digits, so that two that differ look different."""
    return repr(level) if isinstance(level, float) and float(said(level)) != level else said(level)


def _listed(known: Sequence[str | float]) -> str:
    names = ", ".join(_exact(level) for level in known[:_LISTED])
    return f"{names}, …" if len(known) > _LISTED else names


def _quoted(level: Level, known: Sequence[str | float]) -> str:
    """Of a number that stands for a name."""
    for name in known:
        with suppress(ValueError):
            if isinstance(name, str) and float(name) == level:
                return f'; {name} is a name, write "{name}", in quotes'
    return ""


def _meant(level: Level, known: Sequence[str | float]) -> str:
    if not isinstance(level, str):
        return _quoted(level, known)
    if all(isinstance(one, float) for one in known):
        meant = hints.numbers_meant(level, "angle", lambda number: float(number) in known)
        return f"; {level!r} is a text, write {meant[0]}" if meant else ""
    return did_you_mean(level, [str(one) for one in known])
