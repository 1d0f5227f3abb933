"""One account's limits, shared by every actor of every lane and job: a pure token bucket behind one async method.

A holder (an actor with requests to send) asks for permits in batches and says at the same time how it stands. What
it says of itself are totals, never differences, so that a lost, repeated or late message does no harm, and a
limiter that was started anew knows within one message per holder what it must know.

What a spec states holds for the account, while its run asks or until another states something: of several runs'
limits the tightest. What headers and 429s teach holds for the model that was asked: providers limit each by itself. A
permit is taken from both.

While several holders want more than there is, they take turns: who has had the least of its time goes first. A holder
waits for one thing at a time (its model's rates, a place among those in flight, or the account's rates), and only for
those who wait for the same.

    here       the seam: what a host calls, and what the two say to each other
    headers    what a provider's headers say of its limits
    rates      a token bucket, and turns
    models     what headers and 429s teach of one model
    day        the requests of the last 24 hours
    bucket     all limits of an account; `now` is an argument, nothing sleeps
    local      the limiter of one process; `emoray.stream.limiter_actor` has the one for a cluster
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from emoray.spec.accounts import Account

SILENCE_S = 15.0  # a holder that says nothing for longer is dead, and what it held is free again
SPEAK_S = 5.0  # so one that holds permits says something at least this often


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
class Request:
    """How many requests a holder could send now."""

    requests: int
    tokens_each: float = 0.0  # prompt and completion, as estimated
    usd_each: float = 0.0  # the most that one may cost
    model: str = ""  # its id; what the holder's news and returned permits are about, too


@dataclass(frozen=True, slots=True)
class Usage:
    """How a holder stands: totals since it began."""

    held: int = 0  # permits that are not finished: unused, or in flight
    reserved_usd: float = 0.0  # the most that they may still cost
    spent_usd: float = 0.0  # what the finished ones did cost
    finished: int = 0
    requests_back: int = 0  # permits returned unused
    tokens_back: float = 0.0  # tokens estimated minus tokens used; negative where more were used


@dataclass(frozen=True, slots=True)
class LimitHeaders:
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
class Feedback:
    """What a holder heard from the provider since it last spoke."""

    throttled: int = 0  # answers 429
    retry_after_s: float | None = None  # the longest that one of them asked for
    heard: LimitHeaders | None = None  # the latest,
    heard_age_s: float = 0.0  # so long ago


@dataclass(frozen=True, slots=True)
class Grant:
    granted: int  # requests that may be sent at once
    wait_s: float = 0.0  # when to ask again for the rest
    stop: str | None = None  # the budget would be passed: one sentence; nothing will be granted any more


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What no holder knows, should a bucket be lost. Totals by name: it may be told by many and more than once."""

    spent_usd: Mapping[str, float] = field(default_factory=dict)  # by run, or holder
    taken: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """The requests of the last 24 hours: (model, slot) -> (seconds since the slot began, requests)."""

    def aged(self, seconds: float) -> Snapshot:
        """The same, told so much later."""
        return replace(self, taken={slot: (age_s + seconds, n) for slot, (age_s, n) in self.taken.items()})


class RateLimiter(Protocol):
    """What a host knows of the limits."""

    async def lease(self, holder: str, ledger: Usage, want: Request, news: Feedback) -> Grant:
        """Permits for up to `want.requests` requests; a holder has one call open at a time.

        While it holds permits it calls at least every `SPEAK_S` seconds, if only with a want of 0.
        """
        ...
