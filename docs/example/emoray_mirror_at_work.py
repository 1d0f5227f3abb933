"""Imported by the actors alone, so heavy libraries may be imported here."""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from emoray_mirror import Mirror, Punctuation

from emoray.hosts.protocol import Ask, Reply
from emoray.readers.protocol import Reading
from emoray.study.circumplex import Affect
from emoray.study.outcomes import Answer


class MirrorHost:
    """Gives every question back. What a host promises stands in `emoray.hosts.protocol.Host`."""

    name = "mirror"
    revision = None
    engine = None

    def __init__(self, entry: Mirror) -> None:
        self.in_flight = entry.in_flight
        self._mark = entry.mark

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        for ask in asks:
            began, start = datetime.now(UTC), time.monotonic()
            text = ask.chat[-1]["content"] + self._mark
            answer = Answer(text, "stop", None, None, finish_reason_raw="stop")
            yield Reply(ask.key, answer, began, time.monotonic() - start)

    def close(self) -> None:
        pass


class PunctuationReader:
    """Exclamation is pleasure, a question is tension. What a reader promises: `emoray.readers.protocol.Reader`."""

    revision = None

    def __init__(self, entry: Punctuation) -> None:
        self.name = entry.name

    def read(self, texts: Sequence[str]) -> list[Reading]:
        return [Reading(None, affect=Affect(*_felt(text))) for text in texts]

    def close(self) -> None:
        pass


def _felt(text: str) -> tuple[float, float]:
    return ("!" in text) - 0.5, ("?" in text) - 0.5
