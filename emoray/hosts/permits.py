"""A host's side of the limiter: one coroutine leases permits in batches, the requests take them one by one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from emoray.rate_limits.protocol import SPEAK_S, Feedback, LimitHeaders, RateLimiter, Request, Usage

_SHORTEST_TURN_S = 0.04  # so a host calls the limiter at most 25 times a second

_LEAVE_S = 2.0


class Permit(NamedTuple):
    """The right to send one request now, with what was set aside for it."""

    tokens: float
    usd: float


class NoMorePermits(Exception):
    """The budget would be passed: the limiter's sentence."""


class Permits:
    """Permits of one holder for one model. All methods belong to one event loop."""

    def __init__(self, limiter: RateLimiter, holder: str, model: str) -> None:
        self._limiter = limiter
        self._holder = holder
        self._model = model
        self._ledger = self._told = Usage()  # `_told` is what the limiter knows of it
        self._news = Feedback()
        self._heard_at = 0.0  # by the loop's clock (s), as is the next
        self._pause_ends = float("-inf")  # that a 429 asked for
        self._waiting: deque[tuple[asyncio.Future[Permit], float]] = deque()  # with the US dollars it may cost
        self._free: deque[Permit] = deque()
        self._needed = asyncio.Event()
        self._taken = 0  # since the last lease: about what the next turn will take
        self._short = True  # the last lease gave less than wanted, so nothing is leased ahead
        self._tokens_each = 0.0  # the latest estimate, which knows most
        self._largest_usd = 0.0
        self._ended: BaseException | None = None

    async def take(self, tokens: float, usd: float) -> Permit:
        """A permit for a request of about so many tokens that costs at most so much; NoMorePermits ends it all."""
        if self._ended is not None:
            raise self._ended
        self._taken += 1
        self._tokens_each, self._largest_usd = tokens, max(self._largest_usd, usd)
        if 2 * len(self._free) <= self._taken:
            self._needed.set()
        if self._free and not self._waiting and self._free[0].usd >= usd:
            return self._free.popleft()
        granted: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiting.append((granted, usd))
        self._needed.set()
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:  # it had got one
                self.unused(granted.result())
            raise

    def finish(self, permit: Permit, tokens: float | None, usd: float | None) -> None:
        """The request is over and used so much; None: not known, so what was set aside counts as used."""
        ledger = self._ledger
        self._ledger = replace(
            ledger,
            held=ledger.held - 1,
            finished=ledger.finished + 1,
            reserved_usd=ledger.reserved_usd - permit.usd if ledger.held > 1 else 0.0,  # no rounding dust remains
            spent_usd=ledger.spent_usd + (permit.usd if usd is None else usd),
            tokens_back=ledger.tokens_back + (0.0 if tokens is None else permit.tokens - tokens),
        )

    def unused(self, permit: Permit) -> None:
        """The request was not sent."""
        self._free.append(permit)

    def expect(self, tokens: float) -> None:
        """What a request takes, as answers teach it: whoever waits has an older estimate."""
        self._tokens_each = tokens

    def throttled(self, retry_after_s: float | None) -> None:
        """The provider said 429, and perhaps for how many seconds from now it wants to be left alone."""
        self._pause_ends = max(self._pause_ends, _now() + (retry_after_s or 0.0))
        self._news = replace(self._news, throttled=self._news.throttled + 1)
        self._needed.set()

    def heard(self, heard: LimitHeaders | None) -> None:
        """The provider said how its limits stand."""
        if heard is not None:
            self._news, self._heard_at = replace(self._news, heard=heard), _now()

    async def keep(self) -> None:
        """Lease until cancelled. What goes wrong here ends everything that waits."""
        try:
            while True:
                await self._turn()
        except Exception as wrong:  # handed on to every waiting request
            self.end(wrong)

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(SPEAK_S):  # wait_for can swallow a cancellation in Python 3.11
                await self._needed.wait()
        except TimeoutError:
            self._give_back(self._free)
            self._free = deque()
        self._needed.clear()
        if self._ledger.held or self._waiting or self._news != Feedback() or self._ledger != self._told:
            await asyncio.sleep(max(_SHORTEST_TURN_S, await self._lease()))

    async def _lease(self) -> float:
        """Ask once; returns seconds until it makes sense to ask again."""
        ahead = 0 if self._short or self._ended is not None else max(0, 2 * self._taken - len(self._free))
        news, self._news, self._taken = self._aged(), Feedback(), 0
        wanted = len(self._waiting) + ahead
        want = Request(wanted, self._tokens_each, self._largest_usd, self._model)
        self._told = self._ledger
        lease = await self._limiter.lease(self._holder, self._ledger, want, news)
        if lease.stop is not None:
            self.end(NoMorePermits(lease.stop))
            return 0.0
        self._short = lease.granted < wanted
        self._ledger = replace(
            self._ledger,
            held=self._ledger.held + lease.granted,
            reserved_usd=self._ledger.reserved_usd + lease.granted * want.usd_each,
        )
        self._free.extend([Permit(want.tokens_each, want.usd_each)] * lease.granted)
        self._hand_out()
        if not self._waiting:
            return 0.0
        self._needed.set()
        return lease.wait_s

    def _aged(self) -> Feedback:
        """The news as of now: a pause is counted from when it was heard, not from when it is told on."""
        news = self._news
        if news.heard is not None:
            news = replace(news, heard_age_s=_now() - self._heard_at)
        if news.throttled:
            news = replace(news, retry_after_s=max(0.0, self._pause_ends - _now()) or None)
        return news

    def _hand_out(self) -> None:
        while self._waiting and self._free:
            granted, usd = self._waiting[0]
            if granted.done():  # it was cancelled
                self._waiting.popleft()
            elif self._free[0].usd < usd:  # leased for cheaper asks: this one might cost more than was set aside
                self._give_back([self._free.popleft()])
            else:
                self._waiting.popleft()
                granted.set_result(self._free.popleft())

    def _give_back(self, unused: Collection[Permit]) -> None:
        """Permits that nobody took, or could take; the next lease tells the limiter."""
        held = self._ledger.held - len(unused)
        self._ledger = replace(
            self._ledger,
            held=held,
            reserved_usd=self._ledger.reserved_usd - sum(permit.usd for permit in unused) if held else 0.0,
            requests_back=self._ledger.requests_back + len(unused),
            tokens_back=self._ledger.tokens_back + sum(permit.tokens for permit in unused),
        )

    def end(self, wrong: BaseException) -> None:
        """Whoever waits for a permit, now or later, gets this instead."""
        self._ended = wrong
        for granted, _ in self._waiting:
            if not granted.done():
                granted.set_exception(wrong)
        self._waiting.clear()
        self._needed.set()  # nobody waits for what this one holds

    async def leave(self) -> None:
        """Tells the limiter at last how it all ended: nothing is in flight any more, so others need not wait."""
        self._give_back(self._free)
        self._free = deque()
        with contextlib.suppress(Exception):  # it may be gone, and notices a silence, too
            async with asyncio.timeout(_LEAVE_S):
                await self._limiter.lease(self._holder, self._ledger, Request(0, model=self._model), self._aged())


def _now() -> float:
    return asyncio.get_running_loop().time()
