"""A provider in virtual time: a limit by the minute, faults, and a bill for all that it has said, heard or not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from emoray.hosts.protocol import Ask
from emoray.hosts.request_loop import Tried
from emoray.hosts.tab import Sending
from emoray.spec.accounts import Price
from emoray.study.outcomes import Answer, Failure, FailureKind
from tests.simulation.virtual_time import Process, VirtualLoop

PRICE = Price(input=1000.0, output=1000.0)  # US dollars per million tokens: an answer costs cents
LONGEST = 20  # tokens of an answer
QUESTION = "How do you feel?"
DEAREST_USD = (
    len(QUESTION) * PRICE.input + LONGEST * PRICE.output
) / 1e6  # that a request may cost, before it is known
_WINDOW_S = 60.0
_WHEN = datetime(2026, 1, 1, tzinfo=UTC)
_PATIENCE_S = 20.0  # of a client


@dataclass
class Nature:
    """What a provider does in a night."""

    per_minute: int | None = None
    latency_s: float = 0.5
    fails: float = 0.0  # part of what it is asked that ends in a 500, which costs nothing
    hangs: float = 0.0  # part that is never answered, and paid all the same


@dataclass
class Provider:
    """Counts what it is asked, and what that costs."""

    world: VirtualLoop
    nature: Nature
    chance: Random
    charged_usd: float = 0.0
    sent: list[tuple[float, str]] = field(default_factory=list)  # when each request left its sender, for which cell
    refused: int = 0  # with 429

    def __post_init__(self) -> None:
        self._process = Process(self.world, "provider")
        self._taken: list[float] = []

    async def attempt(self, ask: Ask, sending: Sending) -> Tried:
        """One request of a client that waits for twenty seconds."""
        sending.begin()
        self.sent.append((self.world.time(), ask.key))
        reply: asyncio.Future[Tried] = self.world.create_future()
        self._process.later(self.chance.uniform(0.0, 0.05), lambda: self._receive(ask, reply))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await reply
        except TimeoutError:
            return self._tried(Failure(FailureKind.TIMEOUT, "no answer"), late=True)

    def _receive(self, ask: Ask, reply: asyncio.Future[Tried]) -> None:
        now = self.world.time()
        self._taken = [at for at in self._taken if at > now - _WINDOW_S]
        if self.nature.per_minute is not None and len(self._taken) >= self.nature.per_minute:
            self.refused += 1
            self._tell(
                reply, self._tried(Failure(FailureKind.RATE_LIMITED, "429", refused=True), told_s=1.0, free=True)
            )
            return
        self._taken.append(now)
        what = self.chance.random()
        if what < self.nature.fails:
            self._tell(reply, self._tried(Failure(FailureKind.OVERLOADED, "500", refused=True), free=True))
            return
        is_heard = what >= self.nature.fails + self.nature.hangs
        seconds = self.nature.latency_s * self.chance.uniform(0.5, 2.0)
        self._process.later(seconds, lambda: self._answer(ask, reply if is_heard else None))

    def _answer(self, ask: Ask, reply: asyncio.Future[Tried] | None) -> None:
        said = self.chance.randint(1, LONGEST)
        heard = max(1, len(ask.chat[0]["content"]) // 4)
        usd = (heard * PRICE.input + said * PRICE.output) / 1e6
        self.charged_usd += usd
        if reply is not None:
            answer = Answer("said", prompt_tokens=heard, completion_tokens=said, cost_usd=usd)
            self._tell(reply, self._tried(answer))

    def _tell(self, reply: asyncio.Future[Tried], tried: Tried) -> None:
        def arrive() -> None:
            if not reply.done():
                reply.set_result(tried)

        self._process.later(self.chance.uniform(0.0, 0.05), arrive)

    def _tried(
        self, outcome: Answer | Failure, *, told_s: float | None = None, free: bool = False, late: bool = False
    ) -> Tried:
        return Tried(outcome, _WHEN, 0.1, told_s=told_s, billable=not free, late=late)
