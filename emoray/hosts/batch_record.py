"""What is written down of a batch, so that whoever submitted it may die."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class NotedBatch:
    """A batch as it is written down."""

    token: str  # ours, in the batch's metadata
    model: str  # the model's name in the spec
    keys: tuple[str, ...]  # the cells it asks
    noted_at: str  # UTC, ISO
    id: str | None = None  # the provider's; None: about to be made
    ended: bool = False  # all its replies were handed on once, or the provider no longer knows it
    usd: float = 0.0  # the most that it may cost
    file: str | None = None  # the id of its input file
    waits_for: str | None = None  # where something keeps it from going on; without an id: it was not made yet
    aside: int = 0  # lines of its results that are no cell's
    unanswered: tuple[str, ...] | None = None  # its cells that brought no answer when it ended; None: nobody noted
    lost: tuple[str, ...] = ()  # the cells that it may have been paid for in vain, once the provider no longer knew it

    @property
    def made(self) -> bool:
        """Whether there is such a batch, as far as is known."""
        return self.id is not None or self.waits_for is None


class BatchBook(Protocol):
    """Where batches are written down."""

    def note(self, batch: NotedBatch) -> None:
        """Durable when this returns; replaces what was noted of the same token."""
        ...

    def noted(self) -> list[NotedBatch]: ...

    def end(self, batch: NotedBatch) -> None:
        """Notes that all its replies were handed on, so that their rows tell what it cost."""
        ...

    def lose(self, batch: NotedBatch, owed: Collection[str]) -> None:
        """Notes that it has ended, and that what it may have cost for the cells still owed brought nothing."""
        ...

    def find(self, batch: NotedBatch, came: Collection[str]) -> None:
        """Notes that these cells of a batch that was lost came after all: their rows tell what they cost."""
        ...

    def forget(self, batch: NotedBatch) -> None: ...
