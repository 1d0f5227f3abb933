"""What is written down of a batch, so that whoever submitted it may die."""

from __future__ import annotations

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

    def lose(self, batch: NotedBatch) -> None:
        """Notes that it has ended, and that what it may have cost brought nothing."""
        ...

    def forget(self, batch: NotedBatch) -> None: ...
