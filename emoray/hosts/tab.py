"""What an actor writes down of its money before it sends a request, so that whoever outlives it knows what it owes."""

from __future__ import annotations

from typing import Protocol

from emoray.hosts.protocol import HostDown


class Charge(Protocol):
    """The money of one request. All methods belong to one event loop."""

    def sent(self) -> None:
        """Its first byte goes out next: what it may cost is written down when this returns.

        HostDown where it cannot be: then nothing may be sent.
        """
        ...

    async def over(self, usd: float) -> None:
        """It is over, sent or not, and cost so much."""
        ...


class Tab(Protocol):
    """The money of one actor: a total, never a list. All methods belong to one event loop."""

    async def may_cost(self, usd: float, /) -> Charge:
        """A request is to be sent that costs at most so much: returns when that could be written down as it is sent.

        HostDown where it cannot be.
        """
        ...


class NoTab:
    """Of requests that cost nothing, or nobody knows what."""

    async def may_cost(self, _: float, /) -> Charge:
        return self

    def sent(self) -> None:
        pass

    async def over(self, usd: float) -> None:
        pass


class Sending:
    """One request on its way: who sends it says so just before its first byte, and so it is known whether it went out.

    What cannot be written down is kept here: the libraries that a request goes through make of every exception one of
    their own.
    """

    def __init__(self, charge: Charge) -> None:
        self.begun = False
        self.wrong: HostDown | None = None
        self._charge = charge

    def begin(self) -> None:
        """See `Charge.sent`; once it was said it stays so, also where the same request is led to another place."""
        if self.begun:
            return
        try:
            self._charge.sent()
        except HostDown as wrong:
            self.wrong = wrong
            raise
        self.begun = True
