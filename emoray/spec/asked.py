"""What is asked: states, templates, questions, and the condition of the headline, as a spec writes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
)

from emoray import hints
from emoray.printable import cut
from emoray.spec.base import Angle, Huge, Intensity, Name, Section, Text, Word, or_one
from emoray.study import goemotions, russell


def _angle_of(state: Any) -> Any:
    """The angle of one of Russell's terms; what is no text stays."""
    if isinstance(state, dict) and len(state) == 1 and (alone := next(iter(state))) in ("angle", "term", "label"):
        raise ValueError(f"must be the {alone} itself, got {cut(repr(state))}; write {cut(str(state[alone]))}")
    if not isinstance(state, str):
        return state
    term = russell.plain_term(state)
    if term not in russell.ANGLES_DEG:
        raise ValueError(_no_term(state))
    return russell.ANGLES_DEG[term]


def _no_term(word: str) -> str:
    """Names near terms, by spelling and by the label of that name."""
    meant = hints.numbers_meant(word, "angle", lambda angle: abs(float(angle)) <= 360)
    if meant and "," not in word:
        return f"{word!r} is a text; write {meant[0]}"
    several = [term.strip() for term in word.split(",")]
    if len(several) > 1:
        return f"{word!r} is one text; write [{', '.join(several)}]"
    places = {place.label: place.affect for place in goemotions.label_map().places}
    label = places.get(goemotions.plain_label(word))
    near = [russell.nearest_term(label.angle_deg)] if label else russell.near_terms(word)
    said = f"nearest: {', '.join(near)}" if near else f"there are {', '.join(russell.ANGLES_DEG)}"
    return f"{word!r} is none of Russell's terms; {said}; an angle in degrees or a count of states does as well"


class StatePair(Section):
    """A state by its coordinates."""

    valence: Annotated[float, Field(ge=-1, le=1)]
    """-1 unpleasant … 1 pleasant"""
    arousal: Annotated[float, Field(ge=-1, le=1)]
    """-1 asleep … 1 aroused"""


_Term = Annotated[str, Field(json_schema_extra={"enum": list(russell.ANGLES_DEG)})]
StateEntry = Annotated[Angle | StatePair, BeforeValidator(_angle_of, json_schema_input_type=Angle | StatePair | _Term)]


StatesInput = (
    Annotated[int, Field(ge=1, le=3600)]
    | Annotated[list[Angle | StatePair | _Term], Field(min_length=1, max_length=3600)]
    | _Term
)


def as_states(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class TemplateText(Section):
    """A template of your own; fields in braces: {question}, {valence}, {arousal}, {words}, {verbal}, {scenario}.

    Braces that are text are doubled: {{ and }}.
    """

    name: Name
    system: Text = ""
    """The system message; empty sends none."""
    user: Text
    """The user message."""
    control: bool | None = None
    """A control enters no mean; left open, a template whose texts tell nothing of the state is one."""


class HeadlineSpec(Section):
    """The condition that the headline, the ranking, and every mean of the report are of."""

    template: Word | None = None
    """By name; left open, the first template that is no control."""
    intensity: Intensity | None = None
    """Left open, the highest."""


def as_headline(value: Any) -> Any:
    return {"template": value} if isinstance(value, str) else value


class QuestionText(Section):
    """A question of your own."""

    id: Name
    text: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    tags: Annotated[list[Name], Field(max_length=100), or_one(Name, 100)] = []
    """What kind of question it is, to be held against another in `contrasts`."""


class CanariesSpec(Section):
    """Asked at temperature 0 where the model takes one; rows with `canary` true, which count in no mean."""

    every: Huge = 500
    """Cells of a model between two rounds."""
    prompts: Annotated[int, Field(ge=1, le=1000)] = 4
    """Prompts of the grid per round; the same ones each time."""
