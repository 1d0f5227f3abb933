"""What the batches of one host reserve and spend, told to a limiter of money."""

from __future__ import annotations

import asyncio
import threading

from emoray.hosts.batch_record import NotedBatch
from emoray.hosts.protocol import BudgetSpent
from emoray.rate_limits.protocol import Feedback, Grant, RateLimiter, Request, Usage


class BatchBudget:
    """Totals by the token of a batch; safe from several threads."""

    def __init__(self, limiter: RateLimiter | None, holder: str) -> None:
        self._limiter, self._holder = limiter, holder
        self._reserved: dict[str, float] = {}
        self._settled: set[str] = set()  # several calls may wait for the same batch
        self._paid: set[str] = set()  # those of them that cost something: all of their answers are in the total
        self._spent_usd = 0.0
        self._lock = threading.Lock()

    def reserve(self, batch: NotedBatch) -> None:
        """Sets aside the most that a batch may cost; BudgetSpent where the budget does not have it."""
        with self._lock:
            lease = self._tell(Request(1, usd_each=batch.usd))
            if not lease.granted:
                much = f"a batch of {len(batch.keys)} cells may cost {batch.usd:.2f} USD, more than the budget has left"
                raise BudgetSpent(lease.stop or f"{much}; raise budget_usd, or --max-cost, to go on")
            self._reserved[batch.token] = batch.usd

    def hold(self, token: str, usd: float) -> None:
        """The same for a batch that is under way already, whatever the budget has left."""
        with self._lock:
            if token not in self._settled:
                self._reserved[token] = usd
                self._tell(Request(0))

    def settle(self, token: str, usd: float) -> None:
        with self._lock:
            if token not in self._settled:
                self._settled.add(token)
                self._paid |= {token} if usd else set()
                self._reserved.pop(token, None)
                self._spend(usd)

    def spend(self, token: str, usd: float) -> None:
        """For an answer of a batch that had ended before; nothing where another call of this host has paid for all."""
        with self._lock:
            if token not in self._paid:
                self._spend(usd)

    def _spend(self, usd: float) -> None:
        self._spent_usd += usd
        self._tell(Request(0))

    def _tell(self, want: Request) -> Grant:
        if self._limiter is None:
            return Grant(want.requests)
        held, reserved = len(self._reserved), sum(self._reserved.values())
        # finished=1: who has no rate needs no slow start
        ledger = Usage(held, reserved, self._spent_usd, finished=1)
        return asyncio.run(self._limiter.lease(self._holder, ledger, want, Feedback()))
