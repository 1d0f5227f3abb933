"""The limiter of one process, and two limiters as one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from emoray.rate_limits.account_bucket import Bucket
from emoray.rate_limits.protocol import Feedback, Grant, Limits, RateLimiter, Request, Usage


class LocalLimiter:
    """A limiter for the hosts of one process; from any thread and event loop."""

    def __init__(self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.bucket = Bucket(limits or Limits())
        self._clock = clock
        self._lock = threading.Lock()

    async def lease(self, holder: str, ledger: Usage, want: Request, news: Feedback) -> Grant:
        with self._lock:
            return self.bucket.lease(holder, ledger, want, news, self._clock())


class CombinedLimiter:
    """An account's limiter and a run's budget: what is granted, both have granted."""

    def __init__(self, account: RateLimiter, budget: RateLimiter) -> None:
        self._account = account
        self._budget = budget

    async def lease(self, holder: str, ledger: Usage, want: Request, news: Feedback) -> Grant:
        # the budget first: what it reserves too much, the next ledger corrects; a rate once taken is gone
        money = await self._budget.lease(holder, ledger, want, Feedback())
        if money.stop is not None:
            return money
        paid = replace(want, requests=min(want.requests, money.granted))
        permits = await self._account.lease(holder, ledger, paid, news)
        return permits if paid.requests == want.requests or permits.stop else replace(permits, wait_s=money.wait_s)
