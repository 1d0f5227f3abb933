"""A speaker with fixed lines: the fake beside the real hosts, for rehearsals, benchmarks and tests."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from emoray.hosts import Ask, Reply
from emoray.spec import Scripted
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

GROUP = 64  # asks that are answered together


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
        self._places = threading.BoundedSemaphore(max(1, entry.in_flight // GROUP))

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Replies in groups, each group a latency after it was asked; all calls together hold `in_flight` at most."""
        waiting = list(asks)
        size = min(GROUP, self.in_flight)
        for start in range(0, len(waiting), size):
            with self._places:
                began = datetime.now(UTC)
                time.sleep(self._latency_s)
            for ask in waiting[start : start + size]:
                yield Reply(ask.key, self._say(ask), began, self._latency_s)

    def close(self) -> None:
        pass

    def _say(self, ask: Ask) -> Outcome:
        draw = random.Random(ask.seed)
        if draw.random() < self._fails:
            return Failure(FailureKind.OVERLOADED, "scripted: this ask fails")
        text = draw.choice(self._lines) if self._lines else f"{ask.chat[-1]['content']} ({ask.seed % 997})"
        return Answer(text, "stop", sum(len(m["content"].split()) for m in ask.chat), len(text.split()))
