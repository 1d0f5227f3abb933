"""What an actor writes down of its money before it sends a request, so that whoever outlives it knows what it owes."""

from __future__ import annotations

from typing import Protocol


class Tab(Protocol):
    """The money of one actor: a total, never a list. All methods belong to one event loop."""

    async def may_cost(self, usd: float) -> None:
        """A request is about to be sent that costs at most so much: written down when this returns.

        HostDown where it cannot be: then nothing may be sent.
        """
        ...

    async def did_cost(self, at_most: float, usd: float) -> None:
        """It is over, and cost so much."""
        ...


class NoTab:
    """Of requests that cost nothing, or nobody knows what."""

    async def may_cost(self, usd: float) -> None:
        pass

    async def did_cost(self, at_most: float, usd: float) -> None:
        pass
