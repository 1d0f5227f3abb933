"""The prompts that the generator learns to follow: the shipped templates through the real code, and other wordings."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from emoray.study.circumplex import Affect
from emoray.study.experiment import Cell, Model, Question, State
from emoray.study.prompts import FIELDS, messages_of, number, shipped_questions, shipped_templates, template
from training.corpus import Subject, compose, expand, topics

INTENSITIES = (1.0, 0.75, 0.5, 0.25)
SPELLINGS = ("{name}={value}", "{name} = {value}", "{name} {value}", "{name}: {value}", "{name} of {value}")
NOBODY = Model("embedded", "embedded")
Chat = list[dict[str, str]]


@dataclass(frozen=True)
class Ask:
    """One prompt and several answers to it."""

    chat: Chat
    answers: tuple[str, ...]


def asks(rng: random.Random, answers: int) -> Iterator[Ask]:
    """Endless prompts, each with `answers` answers composed for its state."""
    while True:
        subject = draw_subject(rng)
        state = None if rng.random() < 0.1 else draw_state(rng)
        name = "none" if state is None else draw_template(state, rng)
        chat = draw_chat(name, state or Affect(0.0, 0.0), subject, rng)
        yield Ask(chat, tuple(compose(state, subject, rng) for _ in range(answers)))


def draw_state(rng: random.Random) -> Affect:
    """60 % on the twelve states of the paper, 40 % anywhere; most at full intensity, a few without any."""
    angle = 30.0 * rng.randrange(12) if rng.random() < 0.6 else rng.uniform(0, 360)
    luck = rng.random()
    if luck < 0.03:
        return Affect(0.0, 0.0)
    if luck < 0.6:
        return Affect.at(angle)
    return Affect.at(angle, rng.choice(INTENSITIES[1:]) if luck < 0.9 else rng.uniform(0.1, 1.0))


def draw_template(state: Affect, rng: random.Random) -> str:
    """Numbers are the hardest to learn and the paper's own form, so they come most often."""
    weights = {name: 3.0 if name == "parameters" else 1.0 for name in shipped_templates() if name != "none"}
    if state.intensity == 0:
        weights = {"parameters": 3.0, "verbal": 1.0}  # a term or a scene always has a direction
    return rng.choices(list(weights), list(weights.values()))[0]


def draw_subject(rng: random.Random) -> Subject:
    """Two thirds the shipped questions as they stand, the rest in other words or about other things."""
    luck = rng.random()
    if luck < 0.2:
        thing = rng.choice(topics()["subjects"])
        return Subject(rng.choice(topics()["asks"]).format(subject=thing), "anything", (thing,))
    question = rng.choice(list(shipped_questions().values()))
    text = question.text if luck < 0.85 else rng.choice(topics()["paraphrases"][question.id])
    return Subject(text, question.id, tuple(topics()["phrases"][question.id]))


def draw_chat(name: str, state: Affect, subject: Subject, rng: random.Random) -> Chat:
    """The shipped wording in six of ten prompts; else another wording, now and then without a system message."""
    cell = cell_of(name, state, subject)
    if rng.random() < 0.6:
        return messages_of(cell)
    if name == "none" and rng.random() < 0.3:
        return [{"role": "user", "content": subject.question}]
    system = other_wording(name, cell, rng)
    if rng.random() < 0.15:
        return [{"role": "user", "content": f"{system}\n{subject.question}"}]
    return [{"role": "system", "content": system}, {"role": "user", "content": subject.question}]


def cell_of(name: str, state: Affect, subject: Subject) -> Cell:
    question = Question(subject.id, subject.question)
    return Cell(NOBODY, template(name), State(state, state.angle_deg), 1.0, question, 0)


def other_wording(name: str, cell: Cell, rng: random.Random) -> str:
    kind = rng.choice(["parameters", "words"]) if name == "words_and_parameters" else name
    fields = {field: fill(cell) for field, fill in FIELDS.items()} | number_fields(cell.asked, rng)
    return expand(rng.choice(wordings()[kind]), rng).format(**fields)


def number_fields(state: Affect, rng: random.Random) -> dict[str, str]:
    """The two coordinates in either order and several spellings."""
    spelling = rng.choice(SPELLINGS)
    both = [("arousal", number(state.arousal)), ("valence", number(state.valence))]
    if rng.random() < 0.5:
        both.reverse()
    first, second = (spelling.format(name=name, value=value) for name, value in both)
    return {"first": first, "second": second}


@cache
def wordings() -> dict[str, list[str]]:
    text = Path(__file__).with_name("wordings.yaml").read_text(encoding="utf-8")
    content: dict[str, list[str]] = yaml.safe_load(text)
    return content
