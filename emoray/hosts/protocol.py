"""WHO SPEAKS: one file per place a model can live; all answer one protocol.

Everything above this seam is tested with `scripted`, which lives beside the real ones; one contract suite
(`tests/hosts/test_contract.py`) holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from emoray.errors import EmorayError
from emoray.study.outcomes import Reply
from emoray.study.prompts import Ask

__all__ = ["Ask", "Host", "HostDown", "Mortal", "OwnModel", "Reply", "Stoppable"]


class Host(Protocol):
    """A model that answers."""

    @property
    def name(self) -> str:
        """The host's kind, as in the column `host`."""
        ...

    @property
    def revision(self) -> str | None:
        """Of the model, as resolved."""
        ...

    @property
    def engine(self) -> str | None:
        """Software and version that ran the model, where we ran it."""
        ...

    @property
    def in_flight(self) -> int:
        """How many asks keep it busy."""
        ...

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Exactly one reply per ask, each as soon as it is there, in any order.

        May be called from several threads at once; then all calls together stay within `in_flight`. Failures are
        values. An exception means that the host itself is broken (HostDown) or has a bug.
        """
        ...

    def close(self) -> None:
        """Give back what the host holds (memory, connections). Asking afterwards is an error."""
        ...


@runtime_checkable
class OwnModel(Protocol):
    """A host that loads the model itself, and so knows more of it."""

    @property
    def defaults(self) -> Mapping[str, float | None]:
        """What holds where an ask leaves a setting open, by the names of `study.sampling.NEUTRAL`."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Sentences that whoever runs it should read."""
        ...


@runtime_checkable
class Stoppable(Protocol):
    """A host that can be told to send nothing more."""

    def stop(self, why: str) -> None:
        """What is in flight is still answered; then every `generate` ends in HostDown(why)."""
        ...


@runtime_checkable
class Mortal(Protocol):
    """A host whose engine may die, and whose process then ends with it."""

    def tell_of_death(self, tell: Callable[[str], None]) -> None:
        """`tell` hears why in half a sentence, just before the process ends; nothing where nobody knows."""
        ...


class HostDown(EmorayError):
    """The host cannot go on, and no ask can help: the message is one sentence with the cause and a hint."""


class BudgetSpent(HostDown):
    """The next ask might cost more than the budget has left: nothing is broken, and the rest stays owed."""
