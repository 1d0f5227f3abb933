"""Templates, questions, and what a cell becomes: a Prompt with a key.

Templates (`templates/*.toml`), questions (`questions/*.toml`) and scenarios are data files, each with a mark. The
literal wording of the paper's prompt is unknown, so every template is *ours*; the form of `parameters` follows what
is known of it (a role in the system message, two numbers of up to three decimals, the question as user message).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import string
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from emoray.study import russell
from emoray.study.circumplex import Affect, angle_between_deg
from emoray.study.experiment import Cell, Grid, Question, Sampling, Template

_T = TypeVar("_T")
_HERE = Path(__file__).parent
_SCENES = {  # read with the module: Ray may unpack a job's folder anew under its actors
    float(scene["angle"]): str(scene["text"])
    for scene in tomllib.loads((_HERE / "scenarios.toml").read_text(encoding="utf-8"))["scenes"]
}
KEY_VERSION = 1  # part of every key: a change of what a key covers must change all keys
_DOUBLED = re.compile(r"\{\{\s*question\s*\}\}")  # as Jinja writes it
_SINGLE = "; {{question}} is the word in braces, write {question}"
_SHOWN = 40  # characters of an unknown field, to a person
SEED_BITS = 31  # the narrowest provider takes a signed 32-bit seed


@dataclass(frozen=True, slots=True)
class Prompt:
    """One ask, ready for a host."""

    cell: Cell
    messages: str  # JSON: [{"role": …, "content": …}, …]
    sha: str  # of the messages, 16 hex digits
    key: str  # 128 bits in hex, of everything that decides the ask
    seed: int  # 0 … 2^31 - 1, from the key

    @property
    def chat(self) -> list[dict[str, str]]:
        return list(json.loads(self.messages))


@dataclass(frozen=True, slots=True)
class Ask:
    """What a host needs to know of a cell."""

    key: str
    chat: list[dict[str, str]]  # [{"role": "system" | "user", "content": …}, …]
    seed: int  # 0 … 2^31 - 1
    temperature: float | None  # None: the provider's own default
    top_p: float | None
    max_tokens: int | None


class BadPrompt(ValueError):
    """A template or question set that cannot be used; the message is one sentence for its author."""


def render(cell: Cell) -> Prompt:
    """The prompt of one cell; the same cell has the same key in every process and on every machine."""
    return _Rendering.of(cell).prompt(cell)


def prompts(grid: Grid, start: int = 0, stop: int | None = None) -> Iterator[Prompt]:
    """The prompts at places start … stop of a grid's asking order; each distinct text is rendered once."""
    texts: dict[tuple[int, bool], _Rendering] = {}
    for index in range(start, len(grid) if stop is None else min(stop, len(grid))):
        place = grid.place(index)
        cell, text = grid.cell(*place), (place.prompt, place.canary)
        if text not in texts:
            texts[text] = _Rendering.of(cell)
        yield texts[text].prompt(cell)


@dataclass(frozen=True, slots=True)
class _Rendering:
    """What the repetitions of one prompt share."""

    messages: str
    sha: str
    prefix: Any  # a blake2b that has seen everything but the repetition

    @classmethod
    def of(cls, cell: Cell) -> _Rendering:
        messages = _canonical(messages_of(cell))
        asked = {
            "v": KEY_VERSION,
            "model": [cell.model.name, cell.model.id, dict(cell.model.identity)],
            "messages": messages,
            "sampling": _sampling(cell.model.sampling),
            "affect": [round(cell.asked.valence, 6), round(cell.asked.arousal, 6)],
        }
        if cell.canary:
            asked["canary"] = True
        prefix = hashlib.blake2b(_canonical(asked).encode(), digest_size=16)
        return cls(messages, hashlib.blake2b(messages.encode(), digest_size=8).hexdigest(), prefix)

    def prompt(self, cell: Cell) -> Prompt:
        whole = self.prefix.copy()
        whole.update(b"\n%d" % cell.repetition)
        digest: bytes = whole.digest()
        seed = int.from_bytes(digest[:4], "big") >> (32 - SEED_BITS)
        return Prompt(cell, self.messages, self.sha, digest.hex(), seed)


def messages_of(cell: Cell) -> list[dict[str, str]]:
    """The chat messages of a cell."""
    fields = {name: fill(cell) for name, fill in FIELDS.items()}
    texts = (("system", cell.template.system), ("user", cell.template.user))
    return [{"role": role, "content": text.strip().format_map(fields)} for role, text in texts if text.strip()]


def number(x: float) -> str:
    """Up to three decimals without trailing zeros, as in the paper's example: 0.866, -0.5, 0."""
    text = f"{x:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def verbal(affect: Affect) -> str:
    """The two coordinates in words: "very high arousal, unpleasant"."""
    return f"{_arousal_words(affect.arousal)}, {_valence_words(affect.valence)}"


def words(affect: Affect) -> str:
    """Russell's nearest term with an adverb of degree: "very excited"."""
    return f"{_degree(affect.intensity)} {russell.nearest_term(affect.angle_deg)}"


def scenario(affect: Affect) -> str:
    """The shipped situation nearest in angle, and how strongly it is felt."""
    nearest = min(_SCENES, key=lambda angle: abs(angle_between_deg(affect.angle_deg, angle)))
    return f"{_SCENES[nearest]} {_strength(affect.intensity)}"


FIELDS: dict[str, Callable[[Cell], str]] = {
    "question": lambda cell: cell.question.text,
    "valence": lambda cell: number(cell.asked.valence),
    "arousal": lambda cell: number(cell.asked.arousal),
    "words": lambda cell: words(cell.asked),
    "verbal": lambda cell: verbal(cell.asked),
    "scenario": lambda cell: scenario(cell.asked),
}
_OF_THE_STATE = FIELDS.keys() - {"question"}


def asks_no_state(system: str, user: str) -> bool:
    """Whether the texts of a template tell nothing of the state, so that what is read was not asked for."""
    fields = {field for text in (system, user) for _, field, _, _ in string.Formatter().parse(text)}
    return not fields & _OF_THE_STATE


def check_template(template: Template) -> Template:
    """The same template, or BadPrompt: every field must be known and bare, and the question must be asked."""
    used: set[str] = set()
    dressed: list[str] = []
    for text in (template.system, template.user):
        try:
            parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
        except ValueError as wrong:
            raise BadPrompt(
                f"template {template.name!r}: {wrong}; write {{{{ and }}}} for braces in the text"
            ) from None
        used |= {str(field) for _, field, _, _ in parts}
        dressed += [str(field) for _, field, form, conversion in parts if form or conversion]
    unknown = sorted(used - FIELDS.keys())
    if unknown:
        raise BadPrompt(f"template {template.name!r} has the unknown field {_unknown(unknown[0])}")
    if dressed:
        raise BadPrompt(f"template {template.name!r} formats the field {dressed[0]}; write it bare: {{{dressed[0]}}}")
    if "question" not in used:
        raise BadPrompt(
            f"template {template.name!r} never asks: {{question}} is in neither its system nor its user text"
            f"{_SINGLE if _DOUBLED.search(template.system + template.user) else ''}"
        )
    return template


def _unknown(field: str) -> str:
    """An unknown field in its braces, and what to write in its place."""
    meant = difflib.get_close_matches(field.strip().lower(), FIELDS, 1)
    near = f" (did you mean {{{meant[0]}}}?)" if meant else ""
    short = field if len(field) <= _SHOWN else f"{field[:_SHOWN]}…"
    return f"{{{short}}}{near}; known are {_braced(FIELDS)}; write {{{{ and }}}} for braces in the text"


def shipped_templates() -> tuple[str, ...]:
    """The names of the templates that ship with emoray."""
    return tuple(sorted(path.stem for path in (_HERE / "templates").glob("*.toml")))


def template(name: str) -> Template:
    """A shipped template; BadPrompt for an unknown name."""
    if name not in shipped_templates():
        raise BadPrompt(f"no template is called {name!r}; there are {', '.join(shipped_templates())}")
    data = _toml(_HERE / "templates" / f"{name}.toml")
    return check_template(
        Template(name, data.get("system", ""), data["user"], data["mark"], data.get("control", False))
    )


@cache
def shipped_questions() -> dict[str, Question]:
    """The shipped questions by id, in the order of their file: the paper's two known ones, then ours."""
    data = _toml(_HERE / "questions" / "paper.toml")
    return {q["id"]: Question(q["id"], q["text"], q["mark"]) for q in data["questions"]}


@cache
def question_sets() -> dict[str, tuple[Question, ...]]:
    """The shipped sets of questions beside the paper's, by name; each question has its set's name as a tag."""
    files = sorted(path for path in (_HERE / "questions").glob("*.toml") if path.stem != "paper")
    return {path.stem: _tagged(_toml(path), path.stem) for path in files}


def _tagged(data: dict[str, Any], tag: str) -> tuple[Question, ...]:
    return tuple(Question(q["id"], q["text"], q["mark"], (tag,)) for q in data["questions"])


def _degree(intensity: float) -> str:
    return _step(round(intensity, 6), "a little", "somewhat", "quite", "very")


def _strength(intensity: float) -> str:
    level = round(intensity, 6)  # a length computed from coordinates: 0.625 may come back as 0.6249999999997
    return "You feel it " + _step(level, "only faintly.", "to some degree.", "strongly.", "with all your being.")


def _arousal_words(x: float) -> str:
    level = _level(x)
    return "neutral arousal" if level is None else f"{level}{'high' if x > 0 else 'low'} arousal"


def _valence_words(x: float) -> str:
    level = _level(x)
    return "neither pleasant nor unpleasant" if level is None else f"{level}{'pleasant' if x > 0 else 'unpleasant'}"


def _level(x: float) -> str | None:
    """The adverb of a coordinate; None near zero, where it has no sign worth telling."""
    return _step(abs(x), None, "slightly ", "", "very ", at=(0.1, 0.4, 0.7))


def _step(x: float, *names: _T, at: tuple[float, ...] = (0.375, 0.625, 0.875)) -> _T:
    """The name of the interval that x falls in; a bound belongs to the interval above it."""
    return names[sum(x >= bound for bound in at)]


def _sampling(sampling: Sampling) -> dict[str, Any]:
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}


def _canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _braced(names: dict[str, Any]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
