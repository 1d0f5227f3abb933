"""WHO READS: text in, Reading out; all readers answer one protocol and pass one contract suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from emoray.errors import EmorayError
from emoray.study.scoring import Reading

__all__ = ["Reader", "ReaderDown", "Reading", "SlowReader", "TellingReader"]


class Reader(Protocol):
    """A judge of texts."""

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str | None:
        """Of its model, as resolved."""
        ...

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """One reading per text, in the same order; a text's reading does not depend on its neighbours."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class SlowReader(Reader, Protocol):
    """A reader whose readings cost money or minutes: each should be kept as soon as it is there."""

    def read_each(self, texts: Sequence[str]) -> Iterator[list[tuple[int, Reading]]]:
        """The same readings in groups as they come, each with the place of its text; together one per text."""
        ...


@runtime_checkable
class TellingReader(Reader, Protocol):
    """A reader that has loaded a model, and so knows more of it."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences that whoever runs it should read."""
        ...


class ReaderDown(EmorayError):
    """The reader cannot go on, and no text can help: the message is one sentence with the cause and a hint."""
