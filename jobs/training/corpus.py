"""The authored corpus, and how an answer is put together from it.

A tone file holds sentences of one direction of the circle; `(a|b)` in a sentence stands for a choice and `{topic}` for
what the answer is about. Nobody's classifier took part in writing, choosing or weighting a sentence.
"""

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from emoray.study.circumplex import Affect

FOLDER = Path(__file__).parents[2] / "emoray" / "embedded" / "corpus"
CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
CONCENTRATION = 12.0  # of the von Mises weight of a tone around the asked angle: about ±17°
LENGTHS = {1: 0.08, 2: 0.22, 3: 0.32, 4: 0.24, 5: 0.14}  # sentences per answer, and how often
SHAPES = {
    1: ("line",),
    2: ("opener line", "line closer"),
    3: ("opener line closer", "opener line line", "line closer closer"),
    4: ("opener line line closer", "opener line closer closer"),
    5: ("opener line closer line closer", "opener opener line line closer"),
}


@dataclass(frozen=True)
class Tone:
    """Sentences of one direction; `about` holds lines by question id, and under `anything` lines with `{topic}`."""

    angle: float | None  # degrees; None for the matter-of-fact sentences
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    mild: tuple[str, ...]
    about: dict[str, tuple[str, ...]]

    def sentences(self) -> Iterator[str]:
        yield from itertools.chain(self.openers, self.closers, self.mild, *self.about.values())


@dataclass(frozen=True)
class Subject:
    """What is asked about: a question and the ways to name its topic in an answer."""

    question: str
    id: str  # of a shipped question; `anything` for all others
    phrases: tuple[str, ...]


@cache
def tones() -> tuple[Tone, ...]:
    """The twelve tones, 0° … 330°."""
    return tuple(_tone(path) for path in sorted(FOLDER.glob("[0-9]*.yaml")))


@cache
def matter_of_fact() -> Tone:
    return _tone(FOLDER / "matter_of_fact.yaml")


@cache
def topics() -> dict[str, Any]:
    """Phrases and paraphrases of the shipped questions; subjects and ways to ask for the others."""
    content: dict[str, Any] = _yaml(FOLDER / "topics.yaml")
    return content


def compose(state: Affect | None, subject: Subject, rng: random.Random) -> str:
    """One answer in a state, or matter-of-fact where there is none; one to five different sentences."""
    length = rng.choices(list(LENGTHS), list(LENGTHS.values()))[0]
    kinds = rng.choice(SHAPES[length]).split()
    strengths = _strengths(0.0 if state is None else state.intensity, len(kinds), rng)
    said: list[str] = []
    for kind, strength in zip(kinds, strengths, strict=True):
        tone = matter_of_fact() if state is None or strength == "none" else near(state.angle_deg, rng)
        said.append(_another(tone, "mild" if strength == "mild" else kind, subject, said, rng))
    return " ".join(said)


def near(angle_deg: float, rng: random.Random) -> Tone:
    """A tone drawn around an angle, so that any angle of the circle has its own mixture."""
    weights = [math.exp(CONCENTRATION * math.cos(math.radians(angle_deg - (t.angle or 0.0)))) for t in tones()]
    return rng.choices(tones(), weights)[0]


def expand(sentence: str, rng: random.Random) -> str:
    """The sentence with one alternative of every choice."""
    while choice := CHOICE.search(sentence):
        sentence = sentence[: choice.start()] + rng.choice(choice[1].split("|")) + sentence[choice.end() :]
    return _tidy(sentence)


def every_expansion(sentence: str) -> Iterator[str]:
    """All the ways to choose."""
    choice = CHOICE.search(sentence)
    if choice is None:
        yield _tidy(sentence)
        return
    for alternative in choice[1].split("|"):
        yield from every_expansion(sentence[: choice.start()] + alternative + sentence[choice.end() :])


def _strengths(intensity: float, count: int, rng: random.Random) -> list[str]:
    """How strongly each sentence feels: at intensity 1 all do, at 0.5 a third is matter-of-fact, at 0 all are."""
    none, mild = (1 - min(intensity, 1.0)) ** 1.5, 1.2 * intensity * (1 - min(intensity, 1.0))
    weights = [none, mild, max(0.0, 1 - none - mild)]
    drawn = rng.choices(["none", "mild", "full"], weights, k=count)
    if intensity > 0.1 and set(drawn) == {"none"}:
        drawn[rng.randrange(count)] = "mild" if intensity < 0.6 else "full"
    return drawn


def _another(tone: Tone, kind: str, subject: Subject, said: Sequence[str], rng: random.Random) -> str:
    """A sentence of this kind that has not been said yet."""
    while True:
        sentence = expand(rng.choice(_pool(tone, kind, subject, rng)), rng)
        sentence = capital(sentence.replace("{topic}", rng.choice(subject.phrases)))
        if sentence not in said:
            return sentence


def _pool(tone: Tone, kind: str, subject: Subject, rng: random.Random) -> Sequence[str]:
    match kind:
        case "opener":
            return tone.openers
        case "closer":
            return tone.closers
        case "mild":
            return tone.mild
        case _:
            own = tone.about.get(subject.id, ()) if subject.id != "anything" else ()
            return own if own and rng.random() < 0.6 else tone.about["anything"]


def _tone(path: Path) -> Tone:
    content = _yaml(path)
    about = {question: tuple(lines) for question, lines in content["about"].items()}
    openers, closers, mild = (tuple(content.get(part, ())) for part in ("openers", "closers", "mild"))
    return Tone(content.get("angle"), openers, closers, mild, about)


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _tidy(sentence: str) -> str:
    return re.sub(r" +([,.!?])", r"\1", re.sub(r" {2,}", " ", sentence)).strip()


def capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
