"""Rates: a bucket that fills with time, and the turns of those who want more than is in it."""

from __future__ import annotations

from collections.abc import Iterable

from emoray.rate_limits.protocol import Request

HEADROOM = 0.99  # of a stated rate: what arrives late in one window of the provider's counts in its next
BURST_S = 0.5  # seconds' worth of the rate that may be asked at once: with HEADROOM still < 100 % of any minute


class Allowance:
    """`per_s` units a second, up to `burst` at once; may fall into debt, and never fills beyond the burst."""

    def __init__(self) -> None:
        self.per_s: float | None = None  # None: without limit
        self.burst = 1.0
        self.level = 1.0
        self._at: float | None = None

    def set(self, per_s: float | None, least_burst: float) -> None:
        if per_s is None:
            self.per_s = None
            return
        first = self.per_s is None
        self.per_s, self.burst = per_s, max(least_burst, per_s * BURST_S)
        self.level = self.burst if first else min(self.level, self.burst)

    def refill(self, now: float) -> None:
        if self.per_s is not None and self._at is not None:
            self.level = min(self.burst, self.level + self.per_s * max(0.0, now - self._at))
        self._at = now if self._at is None else max(now, self._at)

    def fit(self, each: float, leaving: float = 0.0) -> float:
        """How many of size `each` may be taken now, `leaving` so much for others.

        One larger than the burst waits until the level is full.
        """
        if self.per_s is None or each <= 0:
            return float("inf")
        level = self.level - leaving
        if each > self.burst:
            return 1.0 if level >= self.burst - 1e-6 else 0.0
        return max(0.0, (level + 1e-6) // each)

    def claim(self, each: float, n: float) -> float:
        """What somebody finds whose turn it is and who wants `n`: one, and up to half the burst."""
        return min(self.burst, max(each, min(each * n, self.burst / 2))) if n else 0.0

    def wait_s(self, each: float, n: float) -> float:
        """Until about a tenth of a second's worth is there, or what is wanted if that is less."""
        if self.per_s is None:
            return 0.0
        units = min(each * n, max(each, self.per_s * 0.1))
        return max(0.0, (min(units, self.burst) - self.level) / self.per_s)

    def take(self, units: float) -> None:
        if self.per_s is not None:
            self.level = min(self.burst, self.level - units)

    def cap(self, level: float, age_s: float) -> None:
        """It was no higher so long ago."""
        if self.per_s is not None:
            self.level = min(self.level, level + self.per_s * age_s)


class Turns:
    """How much everybody has had of something; who has had the least goes first."""

    def __init__(self) -> None:
        self._had: dict[str, float] = {}  # of its time (s), by holder; where no rate is known, requests
        self._latest = 0.0  # what the one had whose turn was last

    def come(self, holder: str, waiting: Iterable[str]) -> None:
        """It begins to wait, and is no further behind than they, or the one whose turn was last."""
        least = min((self._latest, *(self._had[other] for other in waiting)))
        self._had[holder] = max(self._had.get(holder, 0.0), least)

    def order(self, holders: Iterable[str]) -> list[str]:
        return sorted(holders, key=self._had.__getitem__)

    def take(self, holder: str, time_s: float) -> None:
        self._latest = max(self._latest, self._had[holder])
        self._had[holder] += time_s

    def forget(self, holder: str) -> None:
        self._had.pop(holder, None)


class Rates:
    """Requests and tokens a second, for which holders take turns."""

    def __init__(self) -> None:
        self.requests, self.tokens, self.turns = Allowance(), Allowance(), Turns()

    def refill(self, requests_per_s: float | None, tokens_per_s: float | None, now: float) -> None:
        for allowance, per_s in ((self.requests, requests_per_s), (self.tokens, tokens_per_s)):
            allowance.refill(now)
            allowance.set(per_s, 1.0)

    def fit(self, want: Request, first: Request) -> float:
        """How many may be taken now; `first`: what somebody lacks whose turn it is, and finds."""
        return min(
            self.requests.fit(1.0, leaving=self.requests.claim(1.0, first.requests)),
            self.tokens.fit(want.tokens_each, leaving=self.tokens.claim(first.tokens_each, first.requests)),
        )

    def wait_s(self, want: Request) -> float:
        return max(self.requests.wait_s(1.0, want.requests), self.tokens.wait_s(want.tokens_each, want.requests))

    def take(self, holder: str, n: int, tokens_each: float) -> None:
        taken = ((1.0, self.requests.per_s), (tokens_each, self.tokens.per_s))
        self.turns.take(holder, n * max((units / per_s for units, per_s in taken if per_s is not None), default=1.0))
        self.requests.take(n)
        self.tokens.take(n * tokens_each)

    def give_back(self, requests: float, tokens: float) -> None:
        """`tokens` is negative where more were used than taken."""
        self.requests.take(-requests)
        self.tokens.take(-tokens)


def least(*limits: float | None, share: float) -> float | None:
    stated = [limit for limit in limits if limit is not None]
    return min(stated) * share if stated else None


def per_s(per_minute: float | None, ease: float = 1.0) -> float | None:
    return None if per_minute is None else per_minute / 60.0 * HEADROOM * ease
