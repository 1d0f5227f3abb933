"""The host of a rehearsal: drives an engine that can be killed, as a local model behaves."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from emoray.home import environment, module
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.hosts.reasoning import Tags, no_answer, tags_of
from emoray.spec.models import Rehearsed
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

MODULE = "emoray.rehearsal.engine"  # by which its process is known


class RehearsedHost:
    """Drives one engine. May be asked from several threads; the engine holds the limit on what is in flight."""

    name = "rehearsed"
    revision = None
    engine = "emoray rehearsal"

    def __init__(self, entry: Rehearsed) -> None:
        self.in_flight = entry.in_flight
        self._tags = tags_of(entry.reasoning_tags)
        self._closed = False
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[queue.SimpleQueue[Reply], float, datetime]] = {}
        self._process = subprocess.Popen(
            [*module(MODULE), entry.base_url, entry.id, str(entry.in_flight)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        threading.Thread(target=self._listen, name="engine", daemon=True).start()

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """A reply per ask, each as soon as it is there."""
        replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        sent = sum(self._send(ask, replies) for ask in asks)
        for _ in range(sent):
            yield replies.get()

    def close(self) -> None:
        self._closed = True
        self._process.kill()
        self._process.wait()

    def _send(self, ask: Ask, replies: queue.SimpleQueue[Reply]) -> int:
        if self._closed:
            raise HostDown("the engine was closed")
        with self._lock:
            self._waiting[ask.key] = (replies, time.monotonic(), datetime.now(UTC))
            if self._process.stdin is not None:
                self._process.stdin.write(json.dumps(asdict(ask)) + "\n")
        return 1

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            said = json.loads(line)
            replies, began, asked_at = self._waiting.pop(said["key"])
            replies.put(Reply(said["key"], _outcome(said, self._tags), asked_at, time.monotonic() - began))
        if not self._closed:
            os._exit(1)  # a dead engine is a dead process: Ray starts another, and asks again what is owed


def _outcome(said: dict[str, Any], tags: Tags) -> Outcome:
    if "text" not in said:
        return Failure(FailureKind.ENGINE, said["wrong"])
    reasoning, text = tags.split(said["text"])
    word, tokens = said["finish"], (said["prompt_tokens"], said["completion_tokens"])
    if not text.strip():
        return no_answer(reasoning, cut=word == "length", word=word)
    return Answer(text, word, *tokens, reasoning=reasoning, finish_reason_raw=word)
