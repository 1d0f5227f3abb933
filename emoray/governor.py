"""One account's limits, shared by every actor of every lane and job: a pure token bucket behind one async method.

A holder (an actor with requests to send) asks for permits in batches and says at the same time how it stands. What
it says of itself are totals, never differences, so that a lost, repeated or late message does no harm, and a
governor that was started anew knows within one message per holder what it must know.

While several holders want more than there is, they take turns: who has had the least of the account's time goes first.

    Bucket          the arithmetic; `now` is an argument, nothing sleeps
    Governor        the seam: what a host calls
    LocalGovernor   for one process; `emoray.stream.governor_actor` has the one for a cluster
    Both            an account's governor and the purse of a run
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from emoray.spec import Account

HEADROOM = 0.99  # of a stated rate: what arrives late in one window of the provider's counts in its next
BURST_S = 0.5  # seconds' worth of the rate that may be asked at once: with HEADROOM still < 100 % of any minute
SILENCE_S = 15.0  # a holder that says nothing for longer is dead, and what it held is free again
SPEAK_S = 5.0  # so one that holds permits says something at least this often
FIRST_IN_FLIGHT = 8  # until the first answer of an account without stated rates: its headers may tell them
_CUT, _CUT_EVERY_S, _LEAST_EASE = 0.8, 1.0, 0.1  # one burst of 429s is one event
_RECOVERY_PER_S = 0.02  # of the full rate
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.01, 5.0
_LATE_S = 1.0  # a holder that comes back later than it was told by so much has lost its turn
_DAY_S, _SLOT_S = 86_400.0, 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account allows; None: not stated."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    requests_per_day: float | None = None
    concurrency: int | None = None
    share: float = 1.0  # of all the above
    budget_usd: float | None = None

    @classmethod
    def of(cls, account: Account) -> Limits:
        return cls(
            account.requests_per_minute,
            account.tokens_per_minute,
            account.requests_per_day,
            account.concurrency,
            account.share,
            account.budget_usd,
        )


@dataclass(frozen=True, slots=True)
class Want:
    """How many requests a holder could send now."""

    requests: int
    tokens_each: float = 0.0  # prompt and completion, as estimated
    usd_each: float = 0.0  # the most that one may cost


@dataclass(frozen=True, slots=True)
class Ledger:
    """How a holder stands: totals since it began."""

    held: int = 0  # permits that are not finished: unused, or in flight
    reserved_usd: float = 0.0  # the most that they may still cost
    spent_usd: float = 0.0  # what the finished ones did cost
    finished: int = 0
    requests_back: int = 0  # permits returned unused
    tokens_back: float = 0.0  # tokens estimated minus tokens used; negative where more were used


@dataclass(frozen=True, slots=True)
class Heard:
    """What the headers of a response say of the limits; None: nothing."""

    limit_requests: float | None = None
    remaining_requests: float | None = None
    reset_requests_s: float | None = None
    limit_tokens: float | None = None
    remaining_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What a holder heard from the provider since it last spoke."""

    throttled: int = 0  # answers 429
    retry_after_s: float | None = None  # the longest that one of them asked for
    heard: Heard | None = None  # the latest


@dataclass(frozen=True, slots=True)
class Lease:
    granted: int  # requests that may be sent at once
    wait_s: float = 0.0  # when to ask again for the rest
    stop: str | None = None  # the budget would be passed: one sentence; nothing will be granted any more


class Governor(Protocol):
    """What a host knows of the limits."""

    async def lease(self, holder: str, ledger: Ledger, want: Want, news: News) -> Lease:
        """Permits for up to `want.requests` requests; a holder has one call open at a time.

        While it holds permits it calls at least every `SPEAK_S` seconds, if only with a want of 0.
        """
        ...


def heard(headers: Mapping[str, str]) -> Heard | None:
    """What `x-ratelimit-*` headers say; None where there are none."""
    (limit_requests, requests_left), (limit_tokens, tokens_left) = (_told(headers, of) for of in ("requests", "tokens"))
    reset_s = duration_s(headers.get("x-ratelimit-reset-requests"))
    says = Heard(limit_requests, requests_left, reset_s, limit_tokens, tokens_left)
    return None if says == Heard() else says


def _told(headers: Mapping[str, str], of: str) -> tuple[float | None, float | None]:
    """(limit, remaining); some servers tell a limit of 0 where they have none."""
    limit, remaining = (_number(headers.get(f"x-ratelimit-{what}-{of}")) for what in ("limit", "remaining"))
    return (None, None) if limit == 0 else (limit, remaining)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def duration_s(text: str | None) -> float | None:
    """OpenAI's "6m0s", "8.64s", "12ms", or a plain number of seconds (Azure)."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[dhms])", text or "")
    return sum(float(n) * _UNITS_S[unit] for n, unit in parts) if parts else _number(text)


class _Allowance:
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
        """How many of size `each` may be taken now; one larger than the burst waits until the level is full.

        `leaving`: somebody whose turn it is waits for one of that size, and finds it, and at least half the burst.
        """
        if self.per_s is None or each <= 0:
            return float("inf")
        level = self.level - (min(self.burst, max(leaving, self.burst / 2)) if leaving else 0.0)
        if each > self.burst:
            return 1.0 if level >= self.burst - 1e-6 else 0.0
        return max(0.0, (level + 1e-6) // each)

    def wait_s(self, units: float) -> float:
        if self.per_s is None:
            return 0.0
        return max(0.0, (min(units, self.burst) - self.level) / self.per_s)

    def take(self, units: float) -> None:
        if self.per_s is not None:
            self.level = min(self.burst, self.level - units)


class _Day:
    """Exactly so many in any 24 hours, counted in slots of five minutes."""

    def __init__(self) -> None:
        self.limit: float | None = None
        self._slots: deque[list[float]] = deque()  # [first second, how many]
        self._sum = 0.0

    def left(self, now: float) -> float:
        while self._slots and self._slots[0][0] + _SLOT_S + _DAY_S <= now:
            self._sum -= self._slots.popleft()[1]
        return float("inf") if self.limit is None else max(0.0, self.limit - self._sum)

    def take(self, n: float, now: float) -> None:
        if not self._slots or now - self._slots[-1][0] >= _SLOT_S:
            self._slots.append([now, 0.0])
        self._slots[-1][1] += n
        self._sum += n

    def give_back(self, n: float) -> None:
        """So many of the latest were not sent after all."""
        for slot in reversed(self._slots):
            back = min(n, slot[1])
            slot[1], self._sum, n = slot[1] - back, self._sum - back, n - back


class _Ease:
    """AIMD: a factor on every rate, cut at once on a 429 and restored slowly."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._cut_at = float("-inf")
        self._at: float | None = None

    def refill(self, now: float) -> None:
        if self._at is not None:
            self.factor = min(1.0, self.factor + _RECOVERY_PER_S * max(0.0, now - self._at))
        self._at = now

    def cut(self, now: float) -> bool:
        if now - self._cut_at < _CUT_EVERY_S:
            return False
        self._cut_at, self.factor = now, max(_LEAST_EASE, self.factor * _CUT)
        return True


@dataclass(slots=True)
class _Holder:
    ledger: Ledger
    seen_at: float
    had: float = 0.0  # of the account's time (s); where no rate is known, requests
    lacks: Want = Want(0)  # what it wanted and did not get
    back_by: float = float("-inf")  # until then it is waited for


class Bucket:
    """All limits of one account. Time is an argument: seconds of any clock that does not go back."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._requests, self._tokens, self._day, self._ease = _Allowance(), _Allowance(), _Day(), _Ease()
        self._holders: dict[str, _Holder] = {}
        self._turn = 0.0  # what the one had whose turn was last: a newcomer is no further behind
        self._before_usd: dict[str, float] = {}  # run, or a holder not heard of since -> spent before
        self._heard = Heard()
        self._found: float | None = None  # requests/s found by 429s where no rate is stated
        self._pace = _Pace()
        self._paused_until = float("-inf")
        self._largest_tokens = 1.0

    def restate(self, limits: Limits) -> None:
        """The limits as a spec states them now; what headers and 429s taught stays."""
        self.limits = limits

    def began(self, run: str, spent_usd: float, now: float) -> None:
        """A run starts (again) and has spent so much, by its journal: replaces what its earlier holders said.

        Not while one of them is alive: another lane of the run is at work, and what it says is newer.
        """
        mine = {name: holder for name, holder in self._holders.items() if _run_of(name) == run}
        if any(now - holder.seen_at <= SILENCE_S for holder in mine.values()):
            return
        self._before_usd = {name: usd for name, usd in self._before_usd.items() if _run_of(name) != run}
        self._before_usd[run] = spent_usd
        for name in mine:
            del self._holders[name]

    def told(self) -> dict[str, float]:
        """US dollars by the name of whoever spent them: what `remember` wants, should this bucket be lost."""
        return self._before_usd | {name: holder.ledger.spent_usd for name, holder in self._holders.items()}

    def remember(self, told: Mapping[str, float]) -> None:
        """What an earlier bucket of this account knew; totals, so it may be said by many and more than once."""
        for name, usd in told.items():
            if name in self._holders:
                continue  # it speaks for itself
            self._before_usd[name] = max(usd, self._before_usd.get(name, 0.0))

    def lease(self, holder: str, ledger: Ledger, want: Want, news: News, now: float) -> Lease:
        """Permits for up to `want.requests`, and when to ask for the rest."""
        self._largest_tokens = max(self._largest_tokens, want.tokens_each)
        self._refill(now)
        mine = self._book(holder, ledger, now)
        self._learn(news, now)
        if want.requests <= 0:
            return self._leased(mine, want, Lease(0, SPEAK_S), now)
        if now < self._paused_until:
            return self._leased(mine, want, Lease(0, _bounded(self._paused_until - now)), now)
        by_money = self._fit_money(want.usd_each)
        if by_money <= 0 and self._in_flight(now) == 0:  # else reserved money may come back
            return self._leased(mine, Want(0), Lease(0, stop=self._stop_sentence()), now)
        affordable = replace(want, requests=int(min(want.requests, by_money)))
        granted = int(min(affordable.requests, self._fit(mine, affordable, now)))
        self._take(mine, granted, want, now)
        wait_s = 0.0 if granted == want.requests else self._wait_s(want, granted, now)
        return self._leased(mine, affordable, Lease(granted, wait_s), now)

    def status(self, now: float) -> dict[str, float]:
        """For people: the present rates per minute (absent: no limit), and what is in flight and spent."""
        self._refill(now)
        rates = {"requests_per_minute": self._requests.per_s, "tokens_per_minute": self._tokens.per_s}
        return {name: per_s * 60 for name, per_s in rates.items() if per_s is not None} | {
            "ease": self._ease.factor,
            "in_flight": float(self._in_flight(now)),
            "paused_s": max(0.0, self._paused_until - now),
            "spent_usd": self.spent_usd,
        }

    @property
    def spent_usd(self) -> float:
        return sum(self._before_usd.values()) + sum(h.ledger.spent_usd for h in self._holders.values())

    # ── what may be granted ────────────────────────────────────────────────────────────────────────────────────────

    def _fit(self, mine: _Holder, want: Want, now: float) -> float:
        if mine.back_by < now:
            mine.had = max(mine.had, self._turn)
        waiting = [h for h in self._holders.values() if h is not mine and now <= h.back_by]
        slots, share = self._slots(mine, waiting, now)
        first = min((h for h in waiting if h.ledger.held < share), key=lambda h: h.had, default=mine)
        if first.had >= mine.had:
            rates = min(self._requests.fit(1.0), self._tokens.fit(want.tokens_each))
        else:
            slots -= 1
            of_tokens = self._tokens.fit(want.tokens_each, leaving=first.lacks.tokens_each)
            rates = min(self._requests.fit(1.0, leaving=1.0), of_tokens)
        return max(0.0, min(rates, slots, self._day.left(now)))

    def _slots(self, mine: _Holder, waiting: Sequence[_Holder], now: float) -> tuple[float, float]:
        """(more that may be in flight for this one, how many each of those who want more may count on)."""
        at_once = self._at_once()
        if at_once is None:
            return float("inf"), float("inf")
        free = max(0, at_once - self._in_flight(now))
        share, odd = divmod(free + sum(h.ledger.held for h in (mine, *waiting)), 1 + len(waiting))
        return min(free, share + (odd > 0) - mine.ledger.held), max(1, share)

    def _at_once(self) -> int | None:
        """How many may be in flight; None: as many as there are."""
        if self.limits.concurrency is not None:
            return max(1, int(self.limits.concurrency * self.limits.share))
        unknown = self._requests.per_s is None and self._tokens.per_s is None
        nothing_yet = all(h.ledger.finished == 0 for h in self._holders.values())
        return FIRST_IN_FLIGHT if unknown and nothing_yet else None

    def _fit_money(self, usd_each: float) -> float:
        if self.limits.budget_usd is None:
            return float("inf")
        # what a dead holder had reserved counts as spent: nobody knows how much of it was
        left = self.limits.budget_usd - self.spent_usd - sum(h.ledger.reserved_usd for h in self._holders.values())
        if usd_each <= 0:
            return float("inf") if left > 0 else 0.0
        return max(0.0, (left + 1e-12) // usd_each)

    def _stop_sentence(self) -> str:
        return (
            f"the budget of {self.limits.budget_usd:g} USD would be passed by the next request "
            f"({self.spent_usd:.4f} USD are spent); raise budget_usd, or --max-cost, to go on"
        )

    def _wait_s(self, want: Want, granted: int, now: float) -> float:
        """Until about a tenth of a second's worth of permits is there, or what is wanted if that is less."""
        if self._day.left(now) < 1:
            return _LONGEST_WAIT_S
        rest = want.requests - granted
        requests = min(rest, max(1.0, (self._requests.per_s or 0.0) * 0.1))
        tokens = min(rest * want.tokens_each, max(want.tokens_each, (self._tokens.per_s or 0.0) * 0.1))
        return _bounded(max(self._requests.wait_s(requests), self._tokens.wait_s(tokens), 0.05))

    # ── bookkeeping ────────────────────────────────────────────────────────────────────────────────────────────────

    def _refill(self, now: float) -> None:
        self._ease.refill(now)
        self._day.limit = _least(self.limits.requests_per_day, self._heard_per_day(), share=self.limits.share)
        per_minute = _least(self.limits.requests_per_minute, self._heard_per_minute(), share=self.limits.share)
        tokens = _least(self.limits.tokens_per_minute, self._heard.limit_tokens, share=self.limits.share)
        if self._found is not None:
            self._found = self._pace.grown(self._found, now)
        self._requests.refill(now)
        self._tokens.refill(now)
        self._requests.set(self._found if per_minute is None else self._eased(per_minute), 1.0)
        self._tokens.set(None if tokens is None else self._eased(tokens), 1.0)

    def _eased(self, per_minute: float) -> float:
        return per_minute / 60.0 * HEADROOM * self._ease.factor

    def _book(self, holder: str, ledger: Ledger, now: float) -> _Holder:
        known = self._holders.setdefault(holder, _Holder(ledger, now))
        self._before_usd.pop(holder, None)
        requests_back = float(ledger.requests_back - known.ledger.requests_back)
        self._requests.take(-requests_back)
        self._day.give_back(requests_back)
        self._tokens.take(-(ledger.tokens_back - known.ledger.tokens_back))
        known.ledger, known.seen_at = ledger, now
        return known

    def _take(self, mine: _Holder, granted: int, want: Want, now: float) -> None:
        if not granted:
            return
        self._requests.take(granted)
        self._tokens.take(granted * want.tokens_each)
        self._day.take(granted, now)
        self._pace.count(granted, now)
        self._turn = max(self._turn, mine.had)
        mine.had += granted * self._time_of(want)
        mine.ledger = replace(
            mine.ledger,
            held=mine.ledger.held + granted,
            reserved_usd=mine.ledger.reserved_usd + granted * want.usd_each,
        )

    def _time_of(self, want: Want) -> float:
        """How long (s) one request keeps the account's rates busy; 1 where none is known."""
        taken = ((1.0, self._requests.per_s), (want.tokens_each, self._tokens.per_s))
        return max((units / per_s for units, per_s in taken if per_s is not None), default=1.0)

    @staticmethod
    def _leased(mine: _Holder, want: Want, lease: Lease, now: float) -> Lease:
        mine.lacks = replace(want, requests=want.requests - lease.granted)
        mine.back_by = now + lease.wait_s + _LATE_S if mine.lacks.requests else float("-inf")
        return lease

    def _in_flight(self, now: float) -> int:
        return sum(h.ledger.held for h in self._holders.values() if now - h.seen_at <= SILENCE_S)

    # ── learning ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _learn(self, news: News, now: float) -> None:
        if news.heard is not None:
            self._listen(news.heard)
            self._refill(now)
            self._cap(news.heard)
        if news.throttled:
            self._throttle(news.retry_after_s, now)

    def _listen(self, says: Heard) -> None:
        was = self._heard
        self._heard = replace(
            says,
            limit_requests=_first(says.limit_requests, was.limit_requests),
            limit_tokens=_first(says.limit_tokens, was.limit_tokens),
            # a reset beyond two minutes shows that the limit is a day's; once seen, it stays one
            reset_requests_s=max(was.reset_requests_s or 0.0, says.reset_requests_s or 0.0),
        )

    def _cap(self, says: Heard) -> None:
        """Others may use the account: never count on more than the provider says is left."""
        if says.remaining_requests is not None and self._heard_per_day() is None:
            self._requests.level = min(self._requests.level, says.remaining_requests)
        if says.remaining_tokens is not None:
            self._tokens.level = min(self._tokens.level, says.remaining_tokens)

    def _heard_per_day(self) -> float | None:
        return self._heard.limit_requests if (self._heard.reset_requests_s or 0.0) > 120.0 else None

    def _heard_per_minute(self) -> float | None:
        return self._heard.limit_requests if self._heard_per_day() is None else None

    def _throttle(self, retry_after_s: float | None, now: float) -> None:
        self._paused_until = max(self._paused_until, now + (retry_after_s or 0.0))
        stated = self.limits.requests_per_minute or self._heard_per_minute()
        if self._ease.cut(now) and stated is None:
            self._found = self._pace.cut(self._found, now)
        self._refill(now)


class _Pace:
    """How fast permits were taken lately: the rate to start from where a 429 is all that is known of a limit."""

    def __init__(self) -> None:
        self._taken: deque[tuple[float, int]] = deque()
        self._base = 1.0  # requests/s at the last cut
        self._at = 0.0

    def count(self, n: int, now: float) -> None:
        self._taken.append((now, n))
        while self._taken and self._taken[0][0] < now - 5.0:
            self._taken.popleft()

    def cut(self, present: float | None, now: float) -> float:
        since = now - self._taken[0][0] if self._taken else 1.0
        seen = sum(n for _, n in self._taken) / max(1.0, since)
        self._base, self._at = max(1.0, min(seen, present or seen)), now
        return max(1.0, self._base * _CUT)

    def grown(self, rate: float, now: float) -> float | None:
        """A fiftieth of the rate at the cut per second; at four times that rate the limit is forgotten."""
        rate += self._base * _RECOVERY_PER_S * max(0.0, now - self._at)
        self._at = max(now, self._at)
        return None if rate > 4 * self._base else rate


class LocalGovernor:
    """A governor for the hosts of one process; from any thread and event loop."""

    def __init__(self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.bucket = Bucket(limits or Limits())
        self._clock = clock
        self._lock = threading.Lock()

    async def lease(self, holder: str, ledger: Ledger, want: Want, news: News) -> Lease:
        with self._lock:
            return self.bucket.lease(holder, ledger, want, news, self._clock())


class Both:
    """An account's governor and a run's purse: what is granted, both have granted."""

    def __init__(self, account: Governor, purse: Governor) -> None:
        self._account = account
        self._purse = purse

    async def lease(self, holder: str, ledger: Ledger, want: Want, news: News) -> Lease:
        # the purse first: what it reserves too much, the next ledger corrects; a rate once taken is gone
        money = await self._purse.lease(holder, ledger, want, News())
        if money.stop is not None:
            return money
        paid = replace(want, requests=min(want.requests, money.granted))
        permits = await self._account.lease(holder, ledger, paid, news)
        return permits if paid.requests == want.requests or permits.stop else replace(permits, wait_s=money.wait_s)


def _run_of(holder: str) -> str:
    """Holders are named RUN/anything."""
    return holder.rpartition("/")[0]


def _least(*limits: float | None, share: float) -> float | None:
    stated = [limit for limit in limits if limit is not None]
    return min(stated) * share if stated else None


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _bounded(wait_s: float) -> float:
    return min(_LONGEST_WAIT_S, max(_SHORTEST_WAIT_S, wait_s))
