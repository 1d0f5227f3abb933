"""A speaker with fixed lines: the fake beside the real hosts, for rehearsals, benchmarks and tests."""

from __future__ import annotations

import heapq
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from emoray.hosts.protocol import Ask, Reply
from emoray.hosts.reasoning import no_answer, tags_of
from emoray.spec.models import Scripted
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

_GROUP = 64  # asks that are answered together, at most
_GROUPS = 8  # at once, at least


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
        self._tags = tags_of(entry.reasoning_tags)
        self._size = min(_GROUP, max(1, entry.in_flight // _GROUPS))
        # of each ask in flight, the time (monotonic, s) at which its place is free again: a heap
        self._free_at = [0.0] * entry.in_flight
        self._lock = threading.Lock()

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Replies in groups, each group a latency after it was asked; all calls together hold `in_flight` at most.

        When a group is asked is planned as it comes, so a thread that wakes up late makes no place wait.
        """
        words: dict[int, int] = {}  # of each chat; repetitions share one
        for due, group in [(self._due(len(group)), group) for group in self._groups(asks)]:
            time.sleep(max(0.0, due - time.monotonic()))
            began = datetime.now(UTC) - timedelta(seconds=time.monotonic() - due + self._latency_s)
            for ask in group:
                yield Reply(ask.key, self._say(ask, words), began, self._latency_s)

    def close(self) -> None:
        pass

    def _groups(self, asks: Iterable[Ask]) -> Iterator[list[Ask]]:
        waiting = iter(asks)
        while group := list(islice(waiting, self._size)):
            yield group

    def _due(self, asks: int) -> float:
        """When the next group, of so many asks, is answered (monotonic, s): a latency after as many places are free."""
        if not self._latency_s:
            return time.monotonic()
        with self._lock:
            free = [heapq.heappop(self._free_at) for _ in range(asks)]
            due = max(time.monotonic(), free[-1]) + self._latency_s
            for _ in free:
                heapq.heappush(self._free_at, due)
        return due

    def _say(self, ask: Ask, words: dict[int, int]) -> Outcome:
        draw = zlib.crc32(b"%d" % ask.seed)
        if draw < self._fails * (1 << 32):
            return Failure(FailureKind.OVERLOADED, "scripted: this ask fails")
        text = self._lines[draw % len(self._lines)] if self._lines else f"{ask.chat[-1]['content']} ({ask.seed % 997})"
        prompt_tokens = words.get(id(ask.chat))
        if prompt_tokens is None:
            prompt_tokens = words[id(ask.chat)] = sum(len(turn["content"].split()) for turn in ask.chat)
        reasoning, answer = self._tags.split(text)
        if not answer.strip():
            return no_answer(reasoning, cut=False, word="stop")
        tokens = text.count(" ") + 1
        return Answer(answer, "stop", prompt_tokens, tokens, reasoning=reasoning, finish_reason_raw="stop")
