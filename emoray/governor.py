"""One account's limits, shared by every actor of every lane and job: a pure token bucket behind one async method.

A holder (an actor with requests to send) asks for permits in batches and says at the same time how it stands. What
it says of itself are totals, never differences, so that a lost, repeated or late message does no harm, and a
governor that was started anew knows within one message per holder what it must know.

What a spec states holds for the account, while its run asks or until another states something: of several runs'
limits the tightest. What headers and 429s teach holds for the model that was asked: providers limit each by itself. A
permit is taken from both.

While several holders want more than there is, they take turns: who has had the least of its time goes first. A holder
waits for one thing at a time (its model's rates, a place among those in flight, or the account's rates), and only for
those who wait for the same.

    Bucket          the arithmetic; `now` is an argument, nothing sleeps
    Governor        the seam: what a host calls
    LocalGovernor   for one process; `emoray.stream.governor_actor` has the one for a cluster
    Both            an account's governor and the purse of a run
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from emoray.spec import Account

HEADROOM = 0.99  # of a stated rate: what arrives late in one window of the provider's counts in its next
BURST_S = 0.5  # seconds' worth of the rate that may be asked at once: with HEADROOM still < 100 % of any minute
SILENCE_S = 15.0  # a holder that says nothing for longer is dead, and what it held is free again
GONE_S = 3600.0  # and after so long it is forgotten, but for its money
SPEAK_S = 5.0  # so one that holds permits says something at least this often
FIRST_IN_FLIGHT = 8  # until the first answer of a model without known rates: its headers may tell them
_CUT, _LEAST_EASE = 0.8, 0.1
_BURST_OF_429S_S = 1.0  # what is refused within it is one event
_QUIET_S = 30.0  # after it an event may be an accident,
_JITTER = 0.0015  # and so is any while no more than this part of what was asked meanwhile is refused
_FEWEST = 100.0  # requests a second: where fewer are asked, one that is refused is no larger a part of them
_RECOVERY_PER_S = 0.02  # of the rate that was cut; after a quiet while, of the full one
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

    @classmethod
    def tightest(cls, of: Collection[Limits]) -> Limits:
        """Of each limit the least that one of them states."""

        def least(name: str) -> Any:
            return min((n for limits in of if (n := getattr(limits, name)) is not None), default=None)

        return cls(*(least(each.name) for each in fields(cls)))


@dataclass(frozen=True, slots=True)
class Want:
    """How many requests a holder could send now."""

    requests: int
    tokens_each: float = 0.0  # prompt and completion, as estimated
    usd_each: float = 0.0  # the most that one may cost
    model: str = ""  # its id; what the holder's news and returned permits are about, too


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

    @property
    def daily(self) -> bool:
        """Whether the limit of requests is a day's: a minute's is reset sooner."""
        return (self.reset_requests_s or 0.0) > 120.0


@dataclass(frozen=True, slots=True)
class News:
    """What a holder heard from the provider since it last spoke."""

    throttled: int = 0  # answers 429
    retry_after_s: float | None = None  # the longest that one of them asked for
    heard: Heard | None = None  # the latest,
    heard_age_s: float = 0.0  # so long ago


@dataclass(frozen=True, slots=True)
class Lease:
    granted: int  # requests that may be sent at once
    wait_s: float = 0.0  # when to ask again for the rest
    stop: str | None = None  # the budget would be passed: one sentence; nothing will be granted any more


@dataclass(frozen=True, slots=True)
class Told:
    """What no holder knows, should a bucket be lost. Totals by name: it may be told by many and more than once."""

    spent_usd: Mapping[str, float] = field(default_factory=dict)  # by run, or holder
    taken: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """The requests of the last 24 hours: (model, slot) -> (seconds since the slot began, requests)."""

    def aged(self, seconds: float) -> Told:
        """The same, told so much later."""
        return replace(self, taken={slot: (age_s + seconds, n) for slot, (age_s, n) in self.taken.items()})


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


class _Turns:
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


class _Rates:
    """Requests and tokens a second, for which holders take turns."""

    def __init__(self) -> None:
        self.requests, self.tokens, self.turns = _Allowance(), _Allowance(), _Turns()

    def refill(self, requests_per_s: float | None, tokens_per_s: float | None, now: float) -> None:
        for allowance, per_s in ((self.requests, requests_per_s), (self.tokens, tokens_per_s)):
            allowance.refill(now)
            allowance.set(per_s, 1.0)

    def fit(self, want: Want, first: Want) -> float:
        """How many may be taken now; `first`: what somebody lacks whose turn it is, and finds."""
        return min(
            self.requests.fit(1.0, leaving=self.requests.claim(1.0, first.requests)),
            self.tokens.fit(want.tokens_each, leaving=self.tokens.claim(first.tokens_each, first.requests)),
        )

    def wait_s(self, want: Want) -> float:
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


@dataclass(slots=True)
class _Slot:
    began: float
    requests: float = 0.0

    @property
    def end(self) -> float:
        """When all of it is a day old."""
        return self.began + _SLOT_S + _DAY_S


class _Day:
    """The requests of the last 24 hours, in slots of five minutes."""

    def __init__(self, life: str) -> None:
        self.requests = 0.0
        self.remembers = False  # another life's
        self._life = life
        self._slots: dict[str, _Slot] = {}  # by name, which begins with the life that counted it
        self._next_end = float("inf")

    def pass_by(self, now: float) -> None:
        if now < self._next_end:
            return
        self._slots = {name: slot for name, slot in self._slots.items() if slot.end > now}
        self.requests = sum(slot.requests for slot in self._slots.values())
        self._next_end = min((slot.end for slot in self._slots.values()), default=float("inf"))

    def take(self, n: float, now: float) -> None:
        number = int(now // _SLOT_S)
        self._add(self._slots.setdefault(f"{self._life}/{number}", _Slot(number * _SLOT_S)), n)

    def give_back(self, n: float, now: float) -> None:
        """So many of the latest were not sent after all; fewer than 0, where a message came late."""
        if n < 0:
            self.take(-n, now)
        elif n > 0:
            for slot in sorted(self._slots.values(), key=lambda slot: -slot.began):
                back = min(n, slot.requests)
                self._add(slot, -back)
                n -= back

    def told(self, now: float) -> dict[str, tuple[float, float]]:
        self.pass_by(now)
        return {name: (now - slot.began, slot.requests) for name, slot in self._slots.items() if slot.requests}

    def remember(self, name: str, age_s: float, requests: float, now: float) -> None:
        if name.startswith(f"{self._life}/"):
            return  # nobody knows better
        self.remembers = True
        slot = self._slots.setdefault(name, _Slot(now - age_s))
        slot.began = min(slot.began, now - age_s)  # what was long under way seems younger than it is
        self._add(slot, max(0.0, requests - slot.requests))

    def _add(self, slot: _Slot, n: float) -> None:
        slot.requests += n
        self.requests += n
        self._next_end = min(self._next_end, slot.end)


class _Ease:
    """AIMD: a factor on a model's rates, cut at once on 429s and restored slowly.

    The 429s of one second are one event. One alone in a while, or few among very many requests, are an accident, as
    of a request that came a little early: they cost twice the part that was refused. All others show a lower limit.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self._at: float | None = None
        self._seconds: deque[_Second] = deque()  # of the last while
        self._event = _Event(float("-inf"))
        self._latest = float("-inf")  # 429

    def refill(self, now: float) -> None:
        if self._at is not None:
            full = 1.0 if now - self._latest >= _QUIET_S else self._event.before
            self.factor = min(1.0, self.factor + full * _RECOVERY_PER_S * max(0.0, now - self._at))
        self._at = now

    def took(self, n: int, now: float) -> None:
        self._second(now).taken += n

    def refused(self, n: int, now: float, *, known: bool) -> bool:
        """Cut; whether an event shows a limit that did not before. `known`: the rate is stated, or headers told it."""
        if now - self._event.began >= _BURST_OF_429S_S:
            self._event = _Event(now, self.factor, alone=now - self._latest >= _QUIET_S)
        self._latest = now
        self._second(now).refused += n
        event = self._event
        event.refused += n
        if known and not event.shows_limit and (event.alone or self._few()):
            self._cut(max(_CUT, 1.0 - 2.0 * event.refused / max(_FEWEST, self.pace(now))))
            return False
        self._cut(_CUT)
        first, event.shows_limit = not event.shows_limit, True
        return first

    def pace(self, now: float) -> float:
        """Requests taken per second, lately."""
        taken = [second for second in self._seconds if second.taken]
        lately = [second for second in taken if second.began >= taken[-1].began - 5.0]
        return sum(second.taken for second in lately) / max(1.0, now - lately[0].began) if lately else 0.0

    def _few(self) -> bool:
        taken = sum(second.taken for second in self._seconds)
        return sum(second.refused for second in self._seconds) <= _JITTER * taken

    def _cut(self, part: float) -> None:
        self.factor = max(_LEAST_EASE, min(self.factor, self._event.before * part))

    def _second(self, now: float) -> _Second:
        if not self._seconds or now - self._seconds[-1].began >= 1.0:
            self._seconds.append(_Second(now))
        while self._seconds[0].began < now - _QUIET_S:
            self._seconds.popleft()
        return self._seconds[-1]


@dataclass(slots=True)
class _Second:
    began: float
    taken: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Event:
    """The 429s of one second."""

    began: float
    before: float = 1.0  # the factor
    alone: bool = False
    refused: int = 0
    shows_limit: bool = False


class _Found:
    """Requests/s where a 429 is all that is known of a limit: begins with how many were taken lately."""

    def __init__(self) -> None:
        self.per_s: float | None = None
        self._base = 1.0  # at the last cut
        self._at = 0.0

    def cut(self, pace: float, now: float) -> None:
        self._base, self._at = max(1.0, min(pace, self.per_s or pace)), now
        self.per_s = max(1.0, self._base * _CUT)

    def refill(self, now: float) -> None:
        """A fiftieth of the rate at the cut per second; at four times that rate the limit is forgotten."""
        if self.per_s is not None:
            grown = self.per_s + self._base * _RECOVERY_PER_S * max(0.0, now - self._at)
            self.per_s = None if grown > 4 * self._base else grown
        self._at = max(now, self._at)


class _Model:
    """One model of the account: what headers and 429s taught of it, and what it took."""

    def __init__(self, life: str) -> None:
        self.rates, self.day, self.ease = _Rates(), _Day(life), _Ease()
        self.paused_until = float("-inf")
        self._heard = Heard()
        self._found = _Found()

    def refill(self, stated: Limits, now: float) -> None:
        self.ease.refill(now)
        self._found.refill(now)
        self.day.pass_by(now)
        requests, tokens = (_per_s(known, self.ease.factor) for known in self._known(stated))
        self.rates.refill(self._found.per_s if requests is None else requests, tokens, now)

    @property
    def per_day(self) -> float | None:
        """As headers told it."""
        return self._heard.limit_requests if self._heard.daily else None

    def left_today(self, share: float) -> float:
        return float("inf") if self.per_day is None else max(0.0, self.per_day * share - self.day.requests)

    def take(self, holder: str, n: int, tokens_each: float, now: float) -> None:
        self.rates.take(holder, n, tokens_each)
        self.day.take(n, now)
        self.ease.took(n, now)

    def learn(self, news: News, stated: Limits, now: float) -> None:
        if news.heard is not None:
            self._listen(news.heard)
            self.refill(stated, now)
            self._cap(news.heard, news.heard_age_s)
        if news.throttled:
            self._throttle(news, stated, now)

    def _known(self, stated: Limits) -> tuple[float | None, float | None]:
        """Requests and tokens a minute that this model may take at most: stated or heard, whichever is less."""
        heard_requests = None if self._heard.daily else self._heard.limit_requests
        return (
            _least(stated.requests_per_minute, heard_requests, share=stated.share),
            _least(stated.tokens_per_minute, self._heard.limit_tokens, share=stated.share),
        )

    def _listen(self, says: Heard) -> None:
        was = self._heard
        self._heard = replace(
            says,
            limit_requests=_first(says.limit_requests, was.limit_requests),
            limit_tokens=_first(says.limit_tokens, was.limit_tokens),
            # once a limit was seen to be a day's, it stays one
            reset_requests_s=max(was.reset_requests_s or 0.0, says.reset_requests_s or 0.0),
        )

    def _cap(self, says: Heard, age_s: float) -> None:
        """Others may use the account: never count on more than the provider said was left, and what came since."""
        if says.remaining_requests is not None and not self._heard.daily:
            self.rates.requests.cap(says.remaining_requests, age_s)
        if says.remaining_tokens is not None:
            self.rates.tokens.cap(says.remaining_tokens, age_s)

    def _throttle(self, news: News, stated: Limits, now: float) -> None:
        self.paused_until = max(self.paused_until, now + (news.retry_after_s or 0.0))
        requests, tokens = self._known(stated)
        known = requests is not None or tokens is not None
        if self.ease.refused(news.throttled, now, known=known) and requests is None:
            self._found.cut(self.ease.pace(now), now)
        self.refill(stated, now)


@dataclass(slots=True)
class _Holder:
    ledger: Ledger
    seen_at: float
    model: str
    lacks: Want = Want(0)  # what it wanted and did not get,
    waits_for: object = None  # for want of these rates, or of a place
    back_by: float = float("-inf")  # until then it is waited for


_PLACES = object()  # among those in flight
_NOTHING = Want(0)


class Bucket:
    """All limits of one account. Time is an argument: seconds of any clock that does not go back."""

    def __init__(self, limits: Limits, life: str = "", run: str = "") -> None:
        """`life` tells what this bucket counted from what an earlier one did, and told it."""
        self.limits = limits
        self._stated = {run: (limits, float("inf"))}  # and when, which a birth does not know; the latest is the last
        self._life = life
        self._rates = _Rates()  # the account's
        self._models: dict[str, _Model] = {}
        self._holders: dict[str, _Holder] = {}
        self._before_usd: dict[str, float] = {}  # run, or a holder not heard of since -> spent before

    def restate(self, limits: Limits, now: float, run: str = "") -> None:
        """The limits as the spec of a run states them now; what headers and 429s taught stays."""
        self._stated.pop(run, None)
        self._stated[run] = limits, now
        self._forget(now)
        self._hold(now)

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
            self._drop(name)

    def told(self, now: float) -> Told:
        """What `remember` wants, should this bucket be lost. Requests only where their number in a day is limited."""
        return Told(
            self._before_usd | {name: holder.ledger.spent_usd for name, holder in self._holders.items()},
            {
                (name, slot): told
                for name, model in self._models.items()
                if self.limits.requests_per_day is not None or model.per_day is not None or model.day.remembers
                for slot, told in model.day.told(now).items()
            },
        )

    def remember(self, told: Told, now: float) -> None:
        """What an earlier bucket of this account knew."""
        for name, usd in told.spent_usd.items():
            if name in self._holders:
                continue  # it speaks for itself
            self._before_usd[name] = max(usd, self._before_usd.get(name, 0.0))
        for (name, slot), (age_s, requests) in told.taken.items():
            self._model(name).day.remember(slot, age_s, requests, now)

    def lease(self, holder: str, ledger: Ledger, want: Want, news: News, now: float) -> Lease:
        """Permits for up to `want.requests`, and when to ask for the rest."""
        model = self._model(want.model)
        self._refill(now, model)
        mine = self._book(holder, ledger, want.model, now)
        model.learn(news, self.limits, now)
        if want.requests <= 0:
            return self._leased(mine, Lease(0, SPEAK_S), None, _NOTHING, now)
        if now < model.paused_until:
            return self._leased(mine, Lease(0, _bounded(model.paused_until - now)), None, _NOTHING, now)
        by_money = self._fit_money(want.usd_each)
        if by_money <= 0 and self._in_flight(self._of(None), now) == 0:  # else reserved money may come back
            return self._leased(mine, Lease(0, stop=self._stop_sentence()), None, _NOTHING, now)
        affordable = replace(want, requests=int(min(want.requests, by_money)))
        granted, waits_for, lacks = self._fit(holder, affordable, now)
        if granted:
            self._take(holder, granted, want, now)
        rest = replace(want, requests=want.requests - granted)
        return self._leased(mine, Lease(granted, self._wait_s(rest, now)), waits_for, lacks, now)

    def status(self, now: float, model: str | None = None) -> dict[str, float]:
        """For people: the present rates per minute (absent: no limit), and what is in flight and spent.

        Of one model; None: of all together, and of the rates, eases and pauses the tightest.
        """
        found = list(self._models.values()) if model is None else [self._model(model)]
        self._refill(now, *found)
        all_rates = [self._rates, *(each.rates for each in found)]
        told = {
            "requests_per_minute": _least(*(rates.requests.per_s for rates in all_rates), share=60.0),
            "tokens_per_minute": _least(*(rates.tokens.per_s for rates in all_rates), share=60.0),
            "ease": min((each.ease.factor for each in found), default=1.0),
            "in_flight": float(self._in_flight(self._of(model), now)),
            "paused_s": max([0.0, *(each.paused_until - now for each in found)]),
        }
        return {name: value for name, value in told.items() if value is not None} | {"spent_usd": self.spent_usd}

    @property
    def holders(self) -> int:
        """How many it knows, alive or not."""
        return len(self._holders)

    @property
    def spent_usd(self) -> float:
        return sum(self._before_usd.values()) + sum(h.ledger.spent_usd for h in self._holders.values())

    def taken_today(self, now: float) -> float:
        """Requests of the last 24 hours, of all models."""
        for model in self._models.values():
            model.day.pass_by(now)
        return sum(model.day.requests for model in self._models.values())

    # ── what may be granted ────────────────────────────────────────────────────────────────────────────────────────

    def _fit(self, holder: str, want: Want, now: float) -> tuple[int, object, Want]:
        """(how many, what this holder waits for then, how many it lacks there)."""
        model, mine = self._models[want.model], self._holders[holder]
        waiting = {name: h for name, h in self._holders.items() if name != holder and now <= h.back_by}
        n = int(min(want.requests, model.left_today(self.limits.share), self._left_today(now)))
        waits_for, lacks = None, _NOTHING
        for gate in (model.rates, _PLACES, self._rates):
            turns = self._turns(gate)
            if mine.waits_for is None or mine.back_by < now or self._turns(mine.waits_for) is not turns:
                turns.come(holder, [name for name, h in waiting.items() if self._turns(h.waits_for) is turns])
            others = {name: h for name, h in waiting.items() if h.waits_for is gate}
            if isinstance(gate, _Rates):
                first = turns.order((holder, *others))[0]
                fit = gate.fit(want, _NOTHING if first == holder else others[first].lacks)
            else:
                fit = self._places(holder, others, now)
            if fit < n:
                waits_for, lacks, n = gate, replace(want, requests=n - int(fit)), int(fit)
        return n, waits_for, lacks

    def _turns(self, gate: object) -> _Turns:
        return gate.turns if isinstance(gate, _Rates) else self._rates.turns

    def _places(self, holder: str, waiting: Mapping[str, _Holder], now: float) -> float:
        """How many more this one may have in flight: its share or what all leave, after those whose turn it is."""
        sharing = {holder: self._holders[holder], **waiting}
        at_once, among = self._at_once(sharing[holder].model)
        if at_once is None:
            return float("inf")
        free = max(0, at_once - self._in_flight(among, now))
        share = math.ceil((free + sum(h.ledger.held for h in sharing.values())) / len(sharing))
        more = {name: share - h.ledger.held for name, h in sharing.items()}
        order = self._rates.turns.order(sharing)
        claims = [max(0, min(more[name], sharing[name].lacks.requests)) for name in order if name != holder]
        left, left_by_all = free - sum(claims[: order.index(holder)]), free - sum(claims)
        return max(0, min(left, max(more[holder], left_by_all)))

    def _at_once(self, name: str) -> tuple[int | None, Collection[_Holder]]:
        """How many may be in flight (None: as many as there are), and of whom."""
        if self.limits.concurrency is not None:
            return max(1, int(self.limits.concurrency * self.limits.share)), self._of(None)
        rates, among = self._models[name].rates, self._of(name)
        unknown = rates.requests.per_s is None and rates.tokens.per_s is None
        nothing_yet = all(h.ledger.finished == 0 for h in among)
        return FIRST_IN_FLIGHT if unknown and nothing_yet else None, among

    def _left_today(self, now: float) -> float:
        if self.limits.requests_per_day is None:
            return float("inf")
        return max(0.0, self.limits.requests_per_day * self.limits.share - self.taken_today(now))

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

    def _wait_s(self, rest: Want, now: float) -> float:
        model = self._models[rest.model]
        if rest.requests == 0:
            return 0.0
        if min(model.left_today(self.limits.share), self._left_today(now)) < 1:
            return _LONGEST_WAIT_S
        return _bounded(max(model.rates.wait_s(rest), self._rates.wait_s(rest), 0.05))

    # ── bookkeeping ────────────────────────────────────────────────────────────────────────────────────────────────

    def _model(self, name: str) -> _Model:
        if name not in self._models:
            self._models[name] = _Model(self._life)
        return self._models[name]

    def _of(self, model: str | None) -> Collection[_Holder]:
        """The holders of a model; None: all."""
        return [holder for holder in self._holders.values() if model in (None, holder.model)]

    def _hold(self, now: float) -> None:
        """The limits are the latest, and those of all runs that are at work."""
        *earlier, latest = self._stated
        holders = self._holders.items() if earlier else ()
        at_work = {_run_of(name) for name, holder in holders if now - holder.seen_at <= SILENCE_S}
        self.limits = Limits.tightest([self._stated[run][0] for run in (latest, *at_work.intersection(earlier))])

    def _forget(self, now: float) -> None:
        """Those long gone, so that a governor that stands for months stays small."""
        for name, holder in list(self._holders.items()):
            if now - holder.seen_at > GONE_S:
                self._before_usd[name] = holder.ledger.spent_usd + holder.ledger.reserved_usd
                self._drop(name)
        runs = {_run_of(name) for name in self._holders}
        for run, (_, at) in list(self._stated.items()):
            if now - at > GONE_S and run not in runs:
                del self._stated[run]

    def _drop(self, name: str) -> None:
        del self._holders[name]
        for rates in (self._rates, *(model.rates for model in self._models.values())):
            rates.turns.forget(name)

    def _refill(self, now: float, *models: _Model) -> None:
        self._hold(now)
        requests = _least(self.limits.requests_per_minute, share=self.limits.share)
        tokens = _least(self.limits.tokens_per_minute, share=self.limits.share)
        self._rates.refill(_per_s(requests), _per_s(tokens), now)
        for model in models:
            model.refill(self.limits, now)

    def _book(self, holder: str, ledger: Ledger, name: str, now: float) -> _Holder:
        known = self._holders.setdefault(holder, _Holder(ledger, now, name))
        self._before_usd.pop(holder, None)
        requests_back = float(ledger.requests_back - known.ledger.requests_back)
        tokens_back = ledger.tokens_back - known.ledger.tokens_back
        model = self._models[name]
        for rates in (self._rates, model.rates):
            rates.give_back(requests_back, tokens_back)
        model.day.give_back(requests_back, now)
        known.ledger, known.seen_at, known.model = ledger, now, name
        return known

    def _take(self, holder: str, granted: int, want: Want, now: float) -> None:
        self._rates.take(holder, granted, want.tokens_each)
        self._models[want.model].take(holder, granted, want.tokens_each, now)
        mine = self._holders[holder]
        mine.ledger = replace(
            mine.ledger,
            held=mine.ledger.held + granted,
            reserved_usd=mine.ledger.reserved_usd + granted * want.usd_each,
        )

    @staticmethod
    def _leased(mine: _Holder, lease: Lease, waits_for: object, lacks: Want, now: float) -> Lease:
        mine.waits_for, mine.lacks = waits_for, lacks
        mine.back_by = float("-inf") if waits_for is None else now + lease.wait_s + _LATE_S
        return lease

    @staticmethod
    def _in_flight(holders: Collection[_Holder], now: float) -> int:
        return sum(h.ledger.held for h in holders if now - h.seen_at <= SILENCE_S)


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


def _per_s(per_minute: float | None, ease: float = 1.0) -> float | None:
    return None if per_minute is None else per_minute / 60.0 * HEADROOM * ease


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _bounded(wait_s: float) -> float:
    return min(_LONGEST_WAIT_S, max(_SHORTEST_WAIT_S, wait_s))
