"""A speaker with fixed lines: the fake beside the real hosts, for rehearsals, benchmarks and tests."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from emoray.hosts import Ask, Reply
from emoray.spec import Scripted
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome


class ScriptedHost:
    """Answers with a line that the seed chooses, after a latency, failing as often as it is told."""

    name = "scripted"
    revision = None
    engine = None

    def __init__(self, entry: Scripted) -> None:
        self.in_flight = entry.in_flight
        self._lines = tuple(entry.lines)
        self._latency_s = entry.latency_s
        self._fails = entry.fails

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Replies in groups of at most `in_flight`, each group a latency after it was asked."""
        waiting = list(asks)
        while waiting:
            now, waiting = waiting[: self.in_flight], waiting[self.in_flight :]
            began = datetime.now(UTC)
            time.sleep(self._latency_s)
            for ask in now:
                yield Reply(ask.key, self._say(ask), began, self._latency_s)

    def close(self) -> None:
        pass

    def _say(self, ask: Ask) -> Outcome:
        draw = random.Random(ask.seed)
        if draw.random() < self._fails:
            return Failure(FailureKind.OVERLOADED, "scripted: this ask fails")
        text = draw.choice(self._lines) if self._lines else f"{ask.chat[-1]['content']} ({ask.seed % 997})"
        return Answer(text, "stop", sum(len(m["content"].split()) for m in ask.chat), len(text.split()))
