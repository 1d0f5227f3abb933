"""A language model that reads: any host, a rubric, and an answer as JSON or none at all.

The judge sees a text and the rubric; that a state was asked for, and which, never reaches it: a reader is given texts.
A reply that is not what the rubric asks for is asked for again with another seed, and in the end an error of that
reading, never a zero.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from emoray.hosts.protocol import Ask, Host, HostDown, Mortal, OwnModel, Reply
from emoray.readers.protocol import ReaderDown, Reading
from emoray.spec.accounts import Retry
from emoray.spec.entry import SamplingSpec
from emoray.spec.models import Hosted, ModelEntry, Vllm
from emoray.spec.readers import JudgeReader
from emoray.study import rubrics
from emoray.study.circumplex import Affect
from emoray.study.outcomes import Answer
from emoray.study.rubrics import BadRubric, Rubric

_SCALES = {"valence": (-1.0, 1.0), "arousal": (-1.0, 1.0), "confidence": (0.0, 1.0)}
_SAMPLING = SamplingSpec(temperature=0.0, max_tokens=200)  # where the entry does not say
_RETRY = Retry()  # where the run does not say
_GROUP = 16  # readings that are handed on together
_SHOWN = 120  # characters of a reply in an error
_UNPARSED = "unparsed"
_ENDLESS = (math.inf, -math.inf)
_SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "number"} for name in _SCALES},  # bounds are checked here: few providers know them
    "required": list(_SCALES),
    "additionalProperties": False,
}
_BOUNDED = _SCHEMA | {
    "properties": {name: {"type": "number", "minimum": low, "maximum": high} for name, (low, high) in _SCALES.items()}
}


def sampling_of(entry: JudgeReader) -> SamplingSpec:
    """How a judge is asked: as its entry says, else without chance."""
    return entry.model.sampling or _SAMPLING


class Judge:
    """One language model behind any host. `read` may be called from several threads, as far as the host may."""

    def __init__(self, entry: JudgeReader, host: Host, retry: Retry = _RETRY) -> None:
        """ReaderDown where the rubric cannot be used; the host is the judge's from here on."""
        self.name = entry.name
        self._attempts = retry.refused_attempts
        self._entry, self._host, self._rubric = entry.model, host, rubric(entry)
        self._sampling = sampling_of(entry)
        self._down: ReaderDown | None = None
        self.notes = list(host.notes) if isinstance(host, OwnModel) else []

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
        self._check_up()
        places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            places.setdefault(text, []).append(place)
        owed: dict[str, Reading | None] = dict.fromkeys(places)  # text -> what was made of its last reply
        for attempt in range(self._attempts):
            asked = [text for text, unparsed in owed.items() if unparsed or not attempt]
            for group in self._settled(owed, asked, attempt):
                yield [pair for text, reading in group for pair in _shared(places[text], reading)]
            if self._down is not None or not owed:
                break
        if len(owed) == len(places) and not any(owed.values()):
            self._check_up()
        missing = Reading(None, error=f"not judged: {self._down or 'the host gave no reply'}")
        if owed:
            yield [pair for text, last in owed.items() for pair in _shared(places[text], last or missing)]

    def tell_of_death(self, tell: Callable[[str], None]) -> None:
        """As `Mortal`, where its host is one."""
        if isinstance(self._host, Mortal):
            self._host.tell_of_death(tell)

    def close(self) -> None:
        self._host.close()

    def _check_up(self) -> None:
        if self._down is not None:
            raise self._down

    def _settled(
        self, owed: dict[str, Reading | None], asked: Sequence[str], attempt: int
    ) -> Iterator[list[tuple[str, Reading]]]:
        """Asks once; what is settled is no longer owed, and handed on in groups.

        Settled is also a reply that is no reading twice over: whoever says the same under another seed will go on so.
        """
        asks = [self._ask(text, attempt) for text in asked]
        text_of = {ask.key: text for ask, text in zip(asks, asked, strict=True)}
        group: list[tuple[str, Reading]] = []
        for reply in self._replies(asks):
            text = text_of[reply.key]
            before = owed[text]
            owed[text] = reading = _and_paid(_reading(reply), before)
            if not _unparsed(reading) or (before and before.error == reading.error):
                group.append((text, reading))
                del owed[text]
            if len(group) >= _GROUP:
                yield group
                group = []
        if group:
            yield group

    def _replies(self, asks: list[Ask]) -> Iterator[Reply]:
        """Ends where the host is down, and remembers why."""
        try:
            yield from self._host.generate(asks)
        except HostDown as wrong:
            self._down = ReaderDown(f"reader {self.name!r}: {wrong}")

    def _ask(self, text: str, attempt: int) -> Ask:
        """The same text, rubric and judge always give the same keys and seeds, one for each attempt."""
        chat = self._rubric.chat(text)
        asked = [self._entry.id, self._sampling.model_dump(), chat, *([attempt] if attempt else [])]
        content = json.dumps(asked, ensure_ascii=False)
        key = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
        sampling = self._sampling
        return Ask(key, chat, int(key[:8], 16) >> 1, sampling.temperature, sampling.top_p, sampling.max_tokens)


def rubric(entry: JudgeReader) -> Rubric:
    """The rubric of an entry; ReaderDown where it cannot be used."""
    try:
        return rubrics.rubric(entry.rubric)
    except BadRubric as wrong:
        raise ReaderDown(f"reader {entry.name!r}: {wrong}") from None


def asked_of(entry: JudgeReader) -> ModelEntry:
    """The model entry as the host gets it: asked for JSON where the host can be, unless the entry says how itself."""
    model, by_schema = entry.model, entry.structured == "json_schema"
    if entry.structured == "none":
        return model
    if isinstance(model, Hosted) and "response_format" not in model.extra_body:
        schema = {"type": "json_schema", "json_schema": {"name": "reading", "strict": True, "schema": _SCHEMA}}
        form = schema if by_schema else {"type": "json_object"}
        return model.model_copy(update={"extra_body": {**model.extra_body, "response_format": form}})
    if isinstance(model, Vllm) and not model.structured_outputs:
        return model.model_copy(
            update={"structured_outputs": {"json": _BOUNDED} if by_schema else {"json_object": True}}
        )
    return model


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
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
        else:
            return dict(found)
    raise ValueError("holds no JSON object")


def _number(said: dict[str, Any], name: str) -> float:
    value, (low, high) = said.get(name), _SCALES[name]
    told = f"says {name} {value!r}"[:_SHOWN]
    if isinstance(value, bool) or not isinstance(value, int | float) or value in _ENDLESS or value != value:
        raise ValueError(told if name in said else f"has no number for {name}")
    if not low <= value <= high:
        raise ValueError(f"{told}, outside {low:g} … {high:g}")
    return float(value)


def _reading(reply: Reply) -> Reading:
    outcome = reply.outcome
    if not isinstance(outcome, Answer):
        return Reading(None, error=f"{outcome.kind.value}: {outcome.detail}", cost_usd=outcome.cost_usd)
    try:
        affect, confidence = parsed(outcome.text)
    except ValueError as wrong:
        shown = " ".join(outcome.text.split())[:_SHOWN]
        return Reading(None, error=f"{_UNPARSED}: the judge's reply {wrong}: {shown}", cost_usd=outcome.cost_usd)
    return Reading(None, affect=affect, confidence=confidence, cost_usd=outcome.cost_usd)


def _unparsed(reading: Reading) -> bool:
    return reading.error is not None and reading.error.startswith(_UNPARSED)


def _and_paid(reading: Reading, before: Reading | None) -> Reading:
    """The reading, at the cost of the attempts before it, too."""
    known = [one.cost_usd for one in (reading, before) if one is not None and one.cost_usd is not None]
    return replace(reading, cost_usd=sum(known) if known else None)


def _shared(places: list[int], reading: Reading) -> list[tuple[int, Reading]]:
    """The reading at the places of its text; only the first has cost money."""
    again = replace(reading, cost_usd=None if reading.cost_usd is None else 0.0)
    return [(place, again if number else reading) for number, place in enumerate(places)]
