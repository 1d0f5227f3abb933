"""A language model that reads: any host, a rubric, and an answer as JSON or none at all.

The judge sees a text and the rubric; that a state was asked for, and which, never reaches it: a reader is given texts.
A reply that is not what the rubric asks for is an error of that reading, never a zero.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from emoray.hosts import Ask, Host, HostDown, Reply
from emoray.readers import ReaderDown, Reading
from emoray.spec import Hosted, JudgeReader, ModelEntry, SamplingSpec
from emoray.study.circumplex import Affect
from emoray.study.outcomes import Answer

_RUBRICS = Path(__file__).parent / "rubrics"
_SCALES = {"valence": (-1.0, 1.0), "arousal": (-1.0, 1.0), "confidence": (0.0, 1.0)}
_SAMPLING = SamplingSpec(temperature=0.0, max_tokens=200)  # where the entry does not say
_GROUP = 16  # readings that are handed on together
_SHOWN = 120  # characters of a reply in an error
_SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "number"} for name in _SCALES},  # bounds are checked here: few providers know them
    "required": list(_SCALES),
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Rubric:
    """What the judge is told; `{text}` in `user` stands for the answer."""

    name: str
    system: str
    user: str
    mark: str  # "ours", or "user"
    sha: str  # of both texts, 8 hex digits

    def chat(self, text: str) -> list[dict[str, str]]:
        """The messages about one text, whose own braces mean nothing."""
        asked = self.user.replace("{text}", text)
        return [{"role": role, "content": said} for role, said in (("system", self.system), ("user", asked)) if said]


def sampling_of(entry: JudgeReader) -> SamplingSpec:
    """How a judge is asked: as its entry says, else without chance."""
    return entry.model.sampling or _SAMPLING


class Judge:
    """One language model behind any host. `read` may be called from several threads, as far as the host may."""

    def __init__(self, entry: JudgeReader, host: Host) -> None:
        """ReaderDown where the rubric cannot be used; the host is the judge's from here on."""
        self.name = entry.name
        self._entry, self._host, self._rubric = entry.model, host, rubric(entry)
        self._sampling = sampling_of(entry)
        self._down: ReaderDown | None = None

    @property
    def revision(self) -> str:
        """The model, as resolved, and the rubric."""
        model = f"{self._entry.id}@{self._host.revision}" if self._host.revision else self._entry.id
        return f"{model} rubric {self._rubric.name}@{self._rubric.sha}"

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Readings in the order of the texts; equal texts are asked once.

        ReaderDown where the host is broken or the money is spent, unless some replies came before: those are
        returned, the others as errors, and the next call raises.
        """
        found = dict(pair for group in self.read_each(texts) for pair in group)
        return [found[place] for place in range(len(texts))]

    def read_each(self, texts: Sequence[str]) -> Iterator[list[tuple[int, Reading]]]:
        """See `SlowReader`: groups of a few, so that hardly a paid reading is lost with this process."""
        if self._down is not None:
            raise self._down
        places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            places.setdefault(text, []).append(place)
        asks = [self._ask(text) for text in places]
        waiting = {ask.key: where for ask, where in zip(asks, places.values(), strict=True)}
        group: list[tuple[int, Reading]] = []
        for reply in self._replies(asks):
            group += _shared(waiting.pop(reply.key), _reading(reply))
            if len(group) >= _GROUP:
                yield group
                group = []
        missing = Reading(None, error=f"not judged: {self._down or 'the host gave no reply'}")
        group += [(place, missing) for where in waiting.values() for place in where]
        if group:
            yield group

    def close(self) -> None:
        self._host.close()

    def _replies(self, asks: list[Ask]) -> Iterator[Reply]:
        some = False
        try:
            for reply in self._host.generate(asks):
                some = True
                yield reply
        except HostDown as wrong:
            self._down = ReaderDown(f"reader {self.name!r}: {wrong}")
            if not some:
                raise self._down from wrong

    def _ask(self, text: str) -> Ask:
        """The same text, rubric and judge always give the same key and seed."""
        chat = self._rubric.chat(text)
        content = json.dumps([self._entry.id, self._sampling.model_dump(), chat], ensure_ascii=False)
        key = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
        sampling = self._sampling
        return Ask(key, chat, int(key[:8], 16) >> 1, sampling.temperature, sampling.top_p, sampling.max_tokens)


def rubric(entry: JudgeReader) -> Rubric:
    """The rubric of an entry: a shipped one by name, or the TOML text itself; ReaderDown where it cannot be used."""
    own = "\n" in entry.rubric
    if not own and entry.rubric not in shipped_rubrics():
        raise ReaderDown(
            f"reader {entry.name!r}: no rubric is called {entry.rubric!r}; there are {', '.join(shipped_rubrics())}"
        )
    try:
        data = tomllib.loads(entry.rubric if own else _shipped(entry.rubric))
    except tomllib.TOMLDecodeError as wrong:
        raise ReaderDown(f"reader {entry.name!r}: its rubric is no TOML: {wrong}") from None
    system, user = str(data.get("system", "")).strip(), str(data.get("user", "")).strip()
    if user.count("{text}") != 1:
        raise ReaderDown(f"reader {entry.name!r}: `user` of its rubric must say {{text}} once, where the answer goes")
    sha = hashlib.blake2b(f"{system}\0{user}".encode(), digest_size=4).hexdigest()
    return Rubric("own" if own else entry.rubric, system, user, "user" if own else data["mark"], sha)


def shipped_rubrics() -> tuple[str, ...]:
    """The names of the rubrics that ship with emoray."""
    return tuple(sorted(path.stem for path in _RUBRICS.glob("*.toml")))


def asked_of(entry: JudgeReader) -> ModelEntry:
    """The model entry as the host gets it: a hosted judge is asked for JSON, unless the entry says how itself."""
    model = entry.model
    if not isinstance(model, Hosted) or entry.structured == "none" or "response_format" in model.extra_body:
        return model
    schema = {"type": "json_schema", "json_schema": {"name": "reading", "strict": True, "schema": _SCHEMA}}
    form = schema if entry.structured == "json_schema" else {"type": "json_object"}
    return model.model_copy(update={"extra_body": {**model.extra_body, "response_format": form}})


def parsed(text: str) -> tuple[Affect, float]:
    """The affect and the confidence in a judge's reply; ValueError, with a reason, where it holds none.

    Words around the object are forgiven (a code fence, a sentence); a missing number or one off its scale is not.
    """
    said = _object(text)
    numbers = {name: _number(said, name) for name in _SCALES}
    return Affect(numbers["valence"], numbers["arousal"]), numbers["confidence"]


def _object(text: str) -> dict[str, Any]:
    """The first JSON object in a text."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except ValueError:
            start = text.find("{", start + 1)
        else:
            return dict(found)
    raise ValueError("holds no JSON object")


def _number(said: dict[str, Any], name: str) -> float:
    value, (low, high) = said.get(name), _SCALES[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"has no number for {name}" if name not in said else f"says {name} {value!r}")
    if not low <= value <= high:
        raise ValueError(f"says {name} {value:g}, outside {low:g} … {high:g}")
    return float(value)


def _reading(reply: Reply) -> Reading:
    outcome = reply.outcome
    if not isinstance(outcome, Answer):
        return Reading(None, error=f"{outcome.kind.value}: {outcome.detail}", cost_usd=outcome.cost_usd)
    try:
        affect, confidence = parsed(outcome.text)
    except ValueError as wrong:
        shown = " ".join(outcome.text.split())[:_SHOWN]
        return Reading(None, error=f"unparsed: the judge's reply {wrong}: {shown}", cost_usd=outcome.cost_usd)
    return Reading(None, affect=affect, confidence=confidence, cost_usd=outcome.cost_usd)


def _shared(places: list[int], reading: Reading) -> list[tuple[int, Reading]]:
    """The reading at the places of its text; only the first has cost money."""
    again = replace(reading, cost_usd=None if reading.cost_usd is None else 0.0)
    return [(place, again if number else reading) for number, place in enumerate(places)]


@cache
def _shipped(name: str) -> str:
    return (_RUBRICS / f"{name}.toml").read_text(encoding="utf-8")
