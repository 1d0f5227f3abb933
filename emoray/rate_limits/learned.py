"""What headers and 429s taught of one model of an account, and what it took."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from emoray.rate_limits.daily_count import Day
from emoray.rate_limits.protocol import Feedback, LimitHeaders, Limits
from emoray.rate_limits.token_bucket import Rates, least, per_s

_CUT, _LEAST_EASE = 0.8, 0.1
_BURST_OF_429S_S = 1.0  # what is refused within it is one event
_QUIET_S = 30.0  # after it an event may be an accident,
_JITTER = 0.0015  # and so is any while no more than this part of what was asked meanwhile is refused
_FEWEST = 100.0  # requests a second: where fewer are asked, one that is refused is no larger a part of them
_RECOVERY_PER_S = 0.02  # of the rate that was cut; after a quiet while, of the full one


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


class Model:
    """One model of the account: what headers and 429s taught of it, and what it took."""

    def __init__(self, life: str) -> None:
        self.rates, self.day, self.ease = Rates(), Day(life), _Ease()
        self.paused_until = float("-inf")
        self._heard = LimitHeaders()
        self._found = _Found()

    def refill(self, stated: Limits, now: float) -> None:
        self.ease.refill(now)
        self._found.refill(now)
        self.day.pass_by(now)
        requests, tokens = (per_s(known, self.ease.factor) for known in self._known(stated))
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

    def learn(self, news: Feedback, stated: Limits, now: float) -> None:
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
            least(stated.requests_per_minute, heard_requests, share=stated.share),
            least(stated.tokens_per_minute, self._heard.limit_tokens, share=stated.share),
        )

    def _listen(self, says: LimitHeaders) -> None:
        was = self._heard
        self._heard = replace(
            says,
            limit_requests=_first(says.limit_requests, was.limit_requests),
            limit_tokens=_first(says.limit_tokens, was.limit_tokens),
            # once a limit was seen to be a day's, it stays one
            reset_requests_s=max(was.reset_requests_s or 0.0, says.reset_requests_s or 0.0),
        )

    def _cap(self, says: LimitHeaders, age_s: float) -> None:
        """Others may use the account: never count on more than the provider said was left, and what came since."""
        if says.remaining_requests is not None and not self._heard.daily:
            self.rates.requests.cap(says.remaining_requests, age_s)
        if says.remaining_tokens is not None:
            self.rates.tokens.cap(says.remaining_tokens, age_s)

    def _throttle(self, news: Feedback, stated: Limits, now: float) -> None:
        self.paused_until = max(self.paused_until, now + (news.retry_after_s or 0.0))
        requests, tokens = self._known(stated)
        known = requests is not None or tokens is not None
        if self.ease.refused(news.throttled, now, known=known) and requests is None:
            self._found.cut(self.ease.pace(now), now)
        self.refill(stated, now)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
