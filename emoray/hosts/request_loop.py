"""Many asks at once: a loop in a thread of its own, permits, retries, and replies as they come.

What one attempt is, the vendor's edge says (`hosted_api`). A slow ask keeps its own place and nobody else's; one that
waits to be asked again keeps none. How many places there are, the server's answers say (`places`); whether what it
refuses ends the lane, what it did before (`belief`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import random
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path

from emoray.backoff import Backoff
from emoray.hosts.belief import Belief, Verdict
from emoray.hosts.permits import NoMorePermits, Permit, Permits
from emoray.hosts.places import Places
from emoray.hosts.protocol import Ask, BudgetSpent, HostDown, Reply
from emoray.hosts.tab import Charge, NoTab, Sending, Tab
from emoray.spec.accounts import Price, Retry
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

MOST_TOKENS = 4096  # assumed longest answer where the spec sets no max_tokens
_REFUSED = frozenset(
    {FailureKind.BAD_REQUEST, FailureKind.CONTEXT_LENGTH, FailureKind.CONTENT_FILTERED, FailureKind.EMPTY}
)  # perhaps a whim of the provider's, perhaps for good
_GENERATED = frozenset({FailureKind.EMPTY, FailureKind.CONTENT_FILTERED, FailureKind.MALFORMED})
_PUT_OFF = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED})
_CHUNK = 64  # asks handed to the loop at once
_CLOSE_S = 10.0
_YOUNG = 20_000  # objects more than were freed, before the collector looks through them: those of 256 asks are fewer
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt: what came of it, and for how long the provider wants to be left alone."""

    outcome: Outcome
    asked_at: datetime
    latency_s: float
    told_s: float | None = None
    billable: bool = True  # False: the provider refused it, or never saw it
    late: bool = False  # our patience has ended, or a gateway's
    turned_away: bool = False  # refused at once, as by a server that has no slot free

    @property
    def generated(self) -> bool:
        """Whether the model said something, of whatever use."""
        return isinstance(self.outcome, Answer) or (self.billable and self.outcome.kind in _GENERATED)

    @property
    def refused(self) -> bool:
        """Whether asking again is likely to bring the same: each of these costs an attempt, and some cost money."""
        outcome = self.outcome
        return isinstance(outcome, Failure) and (outcome.kind in _REFUSED or self.generated)


class RequestLoop:
    """Asks up to `in_flight` at once, from any number of threads."""

    def __init__(
        self,
        attempt: Callable[[Ask, Sending], Awaitable[Tried]],
        permits: Permits,
        *,
        in_flight: int,
        retry: Retry,
        guess: Guess,
        hopeless: Callable[[Failure], str],  # the sentence that ends the lane
        at_end: Callable[[], Awaitable[None]],
        chance: random.Random,  # for jitter only
        had_answers: Callable[[], bool] = lambda: False,  # the lane, from whichever actor
        tab: Tab | None = None,
    ) -> None:
        self._tab = tab or NoTab()
        self._attempt, self._permits, self._hopeless, self._at_end = attempt, permits, hopeless, at_end
        self._in_flight, self._retry, self._chance = in_flight, retry, chance
        self._backoff = Backoff(retry.first_wait_s, retry.longest_wait_s)
        self._guess = guess
        self._belief = Belief(retry.attempts, had_answers)
        self._places = Places(in_flight, retry.timeout_s)
        self._down: HostDown | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._begin()

    def _begin(self) -> None:
        """In a loop of its own, in a thread of its own; a simulation has one loop for all that happens in it."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="asking", daemon=True)
        self._thread.start()

    # ── the callers' threads ───────────────────────────────────────────────────────────────────────────────────────

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """A reply per ask as each is there; once the lane has stopped: HostDown, after all that is under way."""
        if self._closed:
            raise RuntimeError("this host is closed")
        waiting, inbox = iter(asks), _Inbox(self._loop)
        try:
            while True:
                self._feed(waiting, inbox)
                if not inbox.expected:
                    break
                yield from inbox.get()
        finally:
            inbox.abandoned = True  # where the caller left early, what was not sent yet never will be
        if self._down is not None:
            raise type(self._down)(*self._down.args)
        if self._closed:
            raise RuntimeError("this host was closed while it was asked")

    def stop(self, why: str) -> None:
        """Nothing more is sent; what is in flight is still received."""
        if not self._closed:
            self._loop.call_soon_threadsafe(self._halt, HostDown(why))

    def close(self) -> None:
        """What is in flight is given up."""
        if not self._closed:
            self._closed = True
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_CLOSE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_S)

    def _feed(self, waiting: Iterator[Ask], inbox: _Inbox) -> None:
        """Keep twice as many with the loop as may be in flight, so that it always has a next one."""
        ahead = 2 * self._in_flight
        if 4 * inbox.expected > 3 * ahead:
            return
        while self._down is None and not self._closed and inbox.expected < ahead:
            asks = list(islice(waiting, min(_CHUNK, ahead - inbox.expected)))
            if not asks:
                return
            inbox.expected += len(asks)
            self._loop.call_soon_threadsafe(self._admit, asks, inbox)

    # ── the loop's thread ──────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._start(self._permits.keep())
        try:
            self._loop.run_forever()
        finally:  # whoever still waits must see that it is over
            self._loop.close()

    def _admit(self, asks: list[Ask], inbox: _Inbox) -> None:
        for ask in asks:
            if self._closed:
                inbox.put(None)
            else:
                self._start(self._settle(ask, inbox))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work, loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._permits.leave()
        await self._at_end()

    async def _settle(self, ask: Ask, inbox: _Inbox) -> None:
        """Ends in exactly one thing put into the inbox: a reply, or None (never asked, or nobody knows)."""
        reply = None
        try:
            reply = await self._ask(ask, inbox)
        except HostDown as down:
            self._halt(down)
        except Exception as bug:
            self._halt(HostDown(unforeseen(bug)))
        finally:
            inbox.put(reply)

    async def _ask(self, ask: Ask, inbox: _Inbox) -> Reply | None:
        made: list[Tried] = []
        while not (self._stopped.is_set() or inbox.abandoned):
            tried = await self._once(ask, inbox, again=bool(made) and _was_put_off(made[-1]))
            if tried is None:
                break
            made.append(tried)
            if not self._again(made):
                break
            await self._nap(self._backoff.wait_s(len(made), self._chance.random(), tried.told_s))
        return _reply(ask.key, made) if made else None

    def _again(self, made: Sequence[Tried]) -> bool:
        """Whether another attempt may bring an answer, and the spec allows it."""
        if isinstance(made[-1].outcome, Answer) or self._stopped.is_set() or len(made) >= self._retry.attempts:
            return False
        return not made[-1].refused or sum(tried.refused for tried in made) < self._retry.refused_attempts

    async def _once(self, ask: Ask, inbox: _Inbox, *, again: bool) -> Tried | None:
        """One attempt, in a place and with a permit; None where the lane stopped before."""
        await self._places.enter(again=again)
        try:
            if self._stopped.is_set() or inbox.abandoned:
                return None
            tokens, at_most = self._guess.of(ask)
            permit = await self._permits.take(tokens, at_most)
            return await self._permitted(ask, permit, at_most)
        except NoMorePermits as spent:
            self._halt(BudgetSpent(str(spent)))
            return None
        finally:
            self._places.leave()

    async def _permitted(self, ask: Ask, permit: Permit, at_most: float) -> Tried | None:
        """The attempt, which costs that many US dollars `at_most`; whatever happens in it, the permit comes back."""
        if self._stopped.is_set():
            self._permits.unused(permit)
            return None
        try:
            charge = await self._tab.may_cost(at_most)
        except BaseException:
            self._permits.unused(permit)
            raise
        if self._stopped.is_set():  # meanwhile
            self._permits.unused(permit)
            await charge.over(0.0)
            return None
        self._places.asked()
        sending = Sending(charge)
        try:
            asked_at = self._loop.time()
            tried = await self._tried(ask, sending)
            tokens = self._guess.counted(ask, tried.outcome) if tried.billable else 0.0
            await charge.over(tried.outcome.cost_usd or 0.0)
        except BaseException:
            await self._give_back(permit, charge, sending)
            raise
        finally:
            self._places.over()
        self._permits.finish(permit, tokens, tried.outcome.cost_usd or 0.0)
        self._hear(ask, tried, asked_at)
        return tried

    async def _tried(self, ask: Ask, sending: Sending) -> Tried:
        """The attempt, at the most that it may have cost where nobody says how much that was."""
        tried = await self._attempt(ask, sending)
        if sending.wrong is not None:
            raise sending.wrong
        if tried.billable and tried.outcome.cost_usd is None:
            return replace(tried, outcome=self._guess.billed(ask, tried.outcome))
        return tried

    async def _give_back(self, permit: Permit, charge: Charge, sending: Sending) -> None:
        """Of an attempt that was broken off."""
        if sending.begun:  # so it was perhaps sent
            self._permits.finish(permit, None, None)
        else:
            self._permits.unused(permit)
            await charge.over(0.0)

    def _hear(self, ask: Ask, tried: Tried, asked_at: float) -> None:
        """What an attempt teaches."""
        outcome, now = tried.outcome, self._loop.time()
        if isinstance(outcome, Answer):
            self._guess.learn(ask, outcome)
            self._permits.expect(self._guess.of(ask)[0])
        elif outcome.kind is FailureKind.RATE_LIMITED:
            self._permits.throttled(tried.told_s)
        if tried.generated:
            self._places.answered(asked_at, now)
        elif tried.late:
            self._places.late(asked_at, now)
        elif tried.turned_away:
            self._places.turned_away(asked_at, now)
        self._judge(ask, tried, asked_at, now)

    def _judge(self, ask: Ask, tried: Tried, asked_at: float, now: float) -> None:
        """Whether the lane goes on."""
        outcome = tried.outcome
        if isinstance(outcome, Answer):
            self._belief.answered()
            return
        match self._belief.refused(ask.key, outcome, asked_at, now, told_s=tried.told_s):
            case Verdict.END:
                self._halt(HostDown(self._hopeless(outcome)))
            case Verdict.DOUBT:
                self._places.hold(now + self._backoff.wait_s(self._belief.doubts, self._chance.random()))
            case Verdict.GO_ON:
                pass

    def _halt(self, wrong: HostDown) -> None:
        if self._down is None:
            self._down = wrong
            self._stopped.set()
            self._places.go_on()
            self._permits.end(NoMorePermits(str(wrong)))

    async def _nap(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._stopped.wait()


class Guess:
    """Tokens and money of an ask before it is answered, from what earlier answers took."""

    def __init__(self, price: Price | None, *, reserves: bool = False) -> None:
        """`reserves`: the provider counts max_tokens of every request, however short the answer."""
        self._price, self._reserves = price, reserves
        self._answers = 0
        self._per_char = 0.25  # prompt tokens, as in English text
        self._most_per_char = 0.0
        self._completion = 0.0

    def of(self, ask: Ask) -> tuple[float, float]:
        """(tokens expected, US dollars at most); money is 0 where the price is unknown."""
        chars, longest = _chars(ask), _longest(ask)
        learned = self._answers and not self._reserves
        expected = chars * self._per_char + (min(longest, self._completion * 1.1) if learned else longest)
        if self._price is None:
            return expected, 0.0
        prompt = chars * (self._most_per_char * 1.25 if self._answers >= 20 else 1.0)
        return expected, (prompt * self._price.input + longest * self._price.output) / 1e6

    def counted(self, ask: Ask, outcome: Outcome) -> float | None:
        """Tokens that the provider counted for an attempt; None: nobody knows."""
        if isinstance(outcome, Failure) or outcome.prompt_tokens is None or outcome.completion_tokens is None:
            return None
        return outcome.prompt_tokens + (_longest(ask) if self._reserves else float(outcome.completion_tokens))

    def billed(self, ask: Ask, outcome: Outcome) -> Outcome:
        """With the most that it may have cost where nobody says how much that was.

        So the sum over the rows, which a resumed run's budget starts from, is never too low.
        """
        if outcome.cost_usd is not None or self._price is None:
            return outcome
        return replace(outcome, cost_usd=self.of(ask)[1])

    def learn(self, ask: Ask, answer: Answer) -> None:
        if answer.prompt_tokens is None or answer.completion_tokens is None:
            return
        self._answers += 1
        weight = max(0.02, 1.0 / self._answers)
        per_char = answer.prompt_tokens / max(1, _chars(ask))
        self._per_char += weight * (per_char - self._per_char)
        self._completion += weight * (answer.completion_tokens - self._completion)
        self._most_per_char = max(self._most_per_char, per_char)


class _Inbox:
    """Replies on their way from the loop to one caller: one wake-up per turn of the loop, not per reply."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.expected = 0  # the caller's count
        self.abandoned = False
        self._loop = loop
        self._arrived: list[Reply | None] = []
        self._queue: queue.SimpleQueue[list[Reply | None]] = queue.SimpleQueue()

    def put(self, reply: Reply | None) -> None:
        if not self._arrived:
            self._loop.call_soon(self._flush)
        self._arrived.append(reply)

    def _flush(self) -> None:
        arrived, self._arrived = self._arrived, []
        self._queue.put(arrived)

    def get(self) -> list[Reply]:
        """The next replies; waits for at least one."""
        arrived = self._next()
        self.expected -= len(arrived)
        return [reply for reply in arrived if reply is not None]

    def _next(self) -> list[Reply | None]:
        while True:
            try:
                return self._queue.get(timeout=5.0)
            except queue.Empty:
                if self._loop.is_closed():
                    raise RuntimeError("this host was closed while it was asked") from None


@cache
def spare_the_collector() -> None:
    """Once in a process, before its first host is made: neither an ask nor a failed one leaves cycles, and looking for
    them took a quarter of what an ask cost.

    Whatever is there already, what was imported above all, is never looked through again; so no key and no connection
    may be among it.
    """
    first, *others = gc.get_threshold()
    gc.set_threshold(max(first, _YOUNG) if first else 0, *others)
    gc.collect()
    gc.freeze()


def unforeseen(bug: BaseException) -> str:
    """Type and place of an exception: its text may hold what nobody should see."""
    frames = traceback.extract_tb(bug.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    places = [f"{Path(frame.filename).relative_to(_PACKAGE.parent)}:{frame.lineno}" for frame in ours[-1:]]
    if frames and (not ours or frames[-1] is not ours[-1]):
        path = Path(frames[-1].filename)
        places.append(f"{path.parent.name}/{path.name}:{frames[-1].lineno}")
    where = ", from ".join(reversed(places)) or "a place that is not known"
    return f"an ask ended in what emoray does not foresee, a {type(bug).__name__} at {where}: please report it"


def _was_put_off(tried: Tried) -> bool:
    """Whether the ask itself was not looked at; what is late or wrong with one ask keeps no new one waiting."""
    return isinstance(tried.outcome, Failure) and tried.outcome.kind in _PUT_OFF


def _reply(key: str, made: Sequence[Tried]) -> Reply:
    """The last attempt, at the cost of all: an answer that came at the third try cost what the first two did, too."""
    last = made[-1]
    if len(made) == 1:
        return Reply(key, last.outcome, last.asked_at, last.latency_s)
    known = [tried.outcome.cost_usd for tried in made if tried.outcome.cost_usd is not None]
    outcome = replace(last.outcome, cost_usd=sum(known) if known else None)
    return Reply(key, outcome, last.asked_at, last.latency_s, len(made))


def _longest(ask: Ask) -> float:
    return float(ask.max_tokens or MOST_TOKENS)


def _chars(ask: Ask) -> int:
    return sum(len(message["content"]) for message in ask.chat)
