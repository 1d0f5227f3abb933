"""How many asks are with a server at once: no more than it answers in time.

A server with a few slots queues what it is sent, and answers nothing of it in time once the queue is longer than the
timeout. So a lane begins with a few, and sends more as far as answers stay well within the timeout even if the server
were to work off one after the other. What is late because of a queue cuts the number to what was answered in time;
one late ask among many quick ones is an accident.

A server that refuses what it has no slot for, instead of queuing it, is known by refusals at once while others are
under way: then no more are sent than those. From there a lane feels its way up, a step after each round of answers; a
step that was refused is tried again after twice as many rounds, and each that was not is followed by one twice as wide.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

FIRST = 8
_QUEUED = 1 / 3  # of the timeout: until answers take so long, it does not matter whether the server queues
_TOO_SLOW = 0.8  # of it: more at once would be late
_SLOW, _QUEUE_SHOWS = 1 / 2, 0.2  # if so large a part of what ended lately took so long or was late, there is a queue
_SPREAD = 2.5  # the slowest of the first few to the quickest: more is a queue's
_FEW_REFUSED = 1  # beside the part of them that is an accident
_MOST_ROUNDS = 32  # of answers between two steps
_GREW, _AS_QUICK = 1.5, 1.25  # so many times as many, in not even so many times the time: the server does not queue


class _Ended(NamedTuple):
    at: float
    answered: bool
    slow: bool


class Places:
    """Places for asks under way, `most` of them at the most. Belongs to one event loop, and so do its times (s)."""

    def __init__(self, most: int, timeout_s: float) -> None:
        self.limit = min(most, FIRST)
        self._most, self._timeout_s = most, timeout_s
        self._taken, self._under_way, self._peak = 0, 0, 0
        self._again: deque[asyncio.Future[None]] = deque()  # before the others: their answers are the nearest
        self._line: deque[asyncio.Future[None]] = deque()
        self._held_until: float | None = None
        self._took: list[float] = []  # the seconds of answers asked since the limit is what it is
        self._since = self._cut_at = float("-inf")
        self._least_mean = float("inf")
        self._before: tuple[int, float] | None = None  # how many were under way then, and the mean seconds of answers
        self._lately: deque[_Ended] = deque(maxlen=max(64, 2 * most))  # of the last timeout
        self._turned, self._served = 0.0, 0.0  # refusals and answers of late
        self._turned_at = float("-inf")
        self._step: int | None = None  # by how much the limit may grow; None: by any number
        self._rounds, self._patience = 1, 1  # of answers until the next step; after the next one that is refused

    async def enter(self, *, again: bool = False) -> None:
        """Waits for a place, before all new asks where it was put off and asks `again`; who gets one must `leave`."""
        if not self._again and not self._line and self._free():
            self._taken += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._again if again else self._line).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it had got one
                self.leave()
            raise

    def leave(self) -> None:
        self._taken -= 1
        self._let_in()

    def asked(self) -> None:
        """An ask is sent."""
        self._under_way += 1
        self._peak = max(self._peak, self._under_way)

    def over(self) -> None:
        """It is over, however it ended."""
        self._under_way -= 1

    def answered(self, asked_at: float, now: float) -> None:
        """The model has answered."""
        took_s = now - asked_at
        self._ended(_Ended(now, answered=True, slow=took_s > _SLOW * self._timeout_s))
        self.go_on()
        self._count(served=1)
        if asked_at >= self._since:
            self._took.append(took_s)
            if len(self._took) >= self._rounds * min(self.limit, self._peak):
                self._grow(now)

    def late(self, asked_at: float, now: float) -> None:
        """The timeout has passed without an answer."""
        self._ended(_Ended(now, answered=False, slow=True))
        slow = sum(one.slow for one in self._lately)
        if asked_at < self._cut_at or slow < _QUEUE_SHOWS * len(self._lately):
            return
        in_time = sum(one.answered for one in self._lately)
        self._set(min(self.limit, in_time) // 2, now)
        self._cut_at, self._before = now, (self._most, 0.0)

    def turned_away(self, asked_at: float, now: float) -> None:
        """It was refused at once, as a server does that has no slot free."""
        self._count(turned=1)
        in_one_burst = asked_at < self._turned_at
        about = self._turned + self._served + self._under_way
        if not in_one_burst and self._turned <= _FEW_REFUSED + _QUEUE_SHOWS * about:
            return
        if not self._under_way:  # so it is not that there are too many
            self._patience = self._rounds = 1
            self._set(max(self.limit, FIRST), now)
            return
        if not in_one_burst:
            self._patience = min(_MOST_ROUNDS, 2 * self._patience)
            self._rounds, self._step, self._turned_at = self._patience, 1, now
            self._turned = self._served = 0.0
        self._set(min(self.limit, self._under_way), now)

    def _count(self, *, turned: int = 0, served: int = 0) -> None:
        """Older ones count for less and less."""
        self._turned, self._served = self._turned + turned, self._served + served
        if self._turned + self._served > max(64, 2 * self.limit):
            self._turned, self._served = self._turned / 2, self._served / 2

    def hold(self, until: float) -> None:
        """One at a time, and not before `until`, until something is answered."""
        self._held_until = until
        asyncio.get_running_loop().call_at(until, self._let_in)

    def go_on(self) -> None:
        if self._held_until is not None:
            self._held_until = None
            self._let_in()

    def _grow(self, now: float) -> None:
        """After as many answers as there are places: more of them, where that makes no answer late."""
        took = sorted(self._took)
        slowest, mean = max(took[int(0.9 * (len(took) - 1))], 1e-6), sum(took) / len(took)
        quick = slowest <= _QUEUED * self._timeout_s
        if not quick and len(took) < FIRST:
            return  # to try with more may cost a late one: not after every answer
        peak = max(1, min(self._peak, self.limit))  # after a cut more than that are still under way
        was, self._before = self._before, (peak, mean)
        self._least_mean = min(self._least_mean, mean)
        if quick:
            more = int(peak * _QUEUED * self._timeout_s / slowest)
        elif slowest <= _SPREAD * took[0] if was is None else peak >= _GREW * was[0] and mean <= _AS_QUICK * was[1]:
            more = 2 * self.limit
        else:
            in_time = slowest * (1 + 1 / peak) <= _TOO_SLOW * self._timeout_s
            more = self.limit + (in_time or mean <= _AS_QUICK * self._least_mean)
        if self._step is not None:
            more = min(more, self._stepped())
        self._set(max(self.limit, more), now)

    def _stepped(self) -> int:
        """The limit after the next step; after a round in which nothing was refused it may be twice as wide."""
        step = self._step or 1
        wider = self._rounds == 1
        self._patience = 1 if wider else self._patience
        self._step, self._rounds = (2 * step if wider else step), 1
        self._turned = self._served = 0.0
        if self.limit + step >= self._most:
            self._step = None
        return self.limit + step

    def _set(self, limit: int, now: float) -> None:
        self.limit, self._since = max(1, min(self._most, limit)), now
        self._took.clear()
        self._peak = self._under_way
        self._let_in()

    def _ended(self, one: _Ended) -> None:
        self._lately.append(one)
        while self._lately[0].at < one.at - self._timeout_s:
            self._lately.popleft()

    def _free(self) -> bool:
        if self._held_until is None:
            return self._taken < self.limit
        return self._taken < 1 and asyncio.get_running_loop().time() >= self._held_until

    def _let_in(self) -> None:
        while (self._again or self._line) and self._free():
            place = (self._again or self._line).popleft()
            if not place.done():  # nobody waits for it any more
                self._taken += 1
                place.set_result(None)
