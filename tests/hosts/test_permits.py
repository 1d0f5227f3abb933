"""What a lane's permits tell the limiter, and in which order its asks are sent; by a clock that is set by hand."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from emoray.hosts.permits import Permits
from emoray.hosts.places import FIRST
from emoray.hosts.protocol import Ask
from emoray.hosts.request_loop import Guess, RequestLoop, Tried
from emoray.hosts.tab import Sending
from emoray.rate_limits.local import LocalLimiter
from emoray.rate_limits.protocol import Feedback, Grant, LimitHeaders, Request, Usage
from emoray.spec.accounts import Retry
from emoray.study.outcomes import Answer, Failure, FailureKind
from tests.hosts.test_hosted_api import asks


class Skipping(asyncio.SelectorEventLoop):
    """Where nothing is ready, its clock goes to what comes next at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        self._select, selector.select = selector.select, self._skip

    def time(self) -> float:
        return self.now

    def _skip(self, timeout: float | None) -> Any:
        if timeout is None:  # a thread has the next word
            return self._select(0.05)
        self.now += timeout + 1e-6 if timeout > 0 else 0.0
        return self._select(0)


class Recording:
    def __init__(self) -> None:
        self.news: list[Feedback] = []

    async def lease(self, _holder: str, _ledger: Usage, want: Request, news: Feedback) -> Grant:
        self.news.append(news)
        return Grant(want.requests)


def told(*steps: tuple[float, float | None], after_s: float) -> Feedback:
    """What the limiter hears `after_s` of 429s at these times (s), each with the seconds that it told."""

    async def refused(loop: Skipping) -> None:
        permits.heard(LimitHeaders(limit_requests=60))
        for at, retry_after_s in steps:
            loop.now = at
            permits.throttled(retry_after_s)
        loop.now += after_s
        await permits.leave()

    limiter = Recording()
    permits = Permits(limiter, "run/1", "m")
    loop = Skipping()
    loop.run_until_complete(refused(loop))
    loop.close()
    return limiter.news[0]


@pytest.mark.parametrize(
    ("steps", "after_s", "left_s"),
    [
        ([(0.0, 5.0)], 0.0, 5.0),
        ([(0.0, 5.0)], 2.0, 3.0),
        ([(0.0, 5.0)], 5.0, None),
        ([(0.0, 5.0)], 6.0, None),
        ([(0.0, None)], 1.0, None),
        ([(0.0, 5.0), (1.0, 9.0), (2.0, 1.0), (3.0, None)], 1.0, 6.0),  # of several the one that ends last
        ([(0.0, 9.0), (8.0, 5.0)], 1.0, 4.0),
    ],
)
def test_a_pause_is_counted_from_when_it_was_heard_and_not_from_when_it_is_told_on(
    steps: list[tuple[float, float | None]], after_s: float, left_s: float | None
) -> None:
    news = told(*steps, after_s=after_s)
    assert news.throttled == len(steps)
    assert news.retry_after_s == (None if left_s is None else pytest.approx(left_s))
    assert news.heard_age_s == pytest.approx(steps[-1][0] + after_s)


def test_a_lane_refused_at_every_first_try_has_answers_soon_and_waits_no_longer_than_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It once took 133 s, of them 91 until the first answer: news of a pause came late, and retries stood last."""
    loop, tries, answered, began = Skipping(), Counter[str](), list[float](), list[float]()

    async def attempt(ask: Ask, _: Sending) -> Tried:
        tries[ask.key] += 1
        began.append(loop.now)  # until the first ask is there its clock may have gone anywhere
        await asyncio.sleep(0.01)
        now = datetime.now(UTC)
        if tries[ask.key] == 1:
            return Tried(Failure(FailureKind.RATE_LIMITED, "429", refused=True), now, 0.01, 1.0, billable=False)
        answered.append(loop.now)
        return Tried(Answer("yes", "stop", 20, 5), now, 0.01)

    async def at_end() -> None:
        pass

    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loop)
    asking = RequestLoop(
        attempt,
        Permits(LocalLimiter(clock=lambda: loop.now), "run/1", "m"),
        in_flight=256,
        retry=Retry(attempts=8, first_wait_s=0.05, longest_wait_s=1.0),
        guess=Guess(None),
        hopeless=str,
        at_end=at_end,
        chance=random.Random(0),
    )
    replies = list(asking.generate(asks(60)))
    asking.close()
    assert [reply.attempts for reply in replies] == [2] * 60
    assert answered[0] - began[0] < 2 * FIRST
    assert answered[-1] - began[0] < 105.0
