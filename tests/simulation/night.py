"""A night without Ray, threads or waiting: the real limiter, permits, request loop, journal, tabs, lease, lane state
and resume of emoray in one simulated world, in which processes die, stand still, and hear of each other late.

All chance is of one seed: a night that went wrong does so again.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from ray.exceptions import RayActorError

from emoray.hosts.permits import Permits
from emoray.hosts.protocol import Ask, Reply
from emoray.hosts.request_loop import Guess, RequestLoop
from emoray.rate_limits.local import CombinedLimiter
from emoray.rate_limits.protocol import Limits, Snapshot
from emoray.run_folder import lease as lease_module
from emoray.run_folder import partition, tabs
from emoray.run_folder.columns import ANSWERED
from emoray.run_folder.compaction import compact
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal, pause_s
from emoray.run_folder.lease import Lease, LeaseHeld
from emoray.run_folder.partition import Partition
from emoray.spec.accounts import Retry
from emoray.stream import limiter_actor
from emoray.stream.actor_context import COMMIT_S
from emoray.stream.lane_state import LaneState, Verdict
from emoray.stream.limiter_actor import SharedLimiter, _LimiterActor
from emoray.study.outcomes import Answer
from tests.simulation.provider import DEAREST_USD, LONGEST, PRICE, QUESTION, Nature, Provider
from tests.simulation.virtual_time import Process, VirtualLoop

ROWS = pa.schema([("key", pa.string()), ("outcome", pa.string()), ("answer", pa.string()), ("cost_usd", pa.float64())])
RETRY = Retry(attempts=4, timeout_s=20.0, first_wait_s=0.5, longest_wait_s=8.0)
HORIZON_S = 6 * 3600.0  # until then every night is over
_RUN = "run"
_BLOCK = 4  # cells
_BLOCKS_AT_ONCE = 2  # of an actor
_CLOCK_S = 1.8e9  # since 1970


@dataclass
class Plan:
    """What happens in a night."""

    cells: int
    actors: int
    in_flight: int
    nature: Nature
    budget_usd: float | None = None
    limits: Limits = field(default_factory=Limits)
    kills: Sequence[tuple[float, str]] = ()  # (when, what: actor, limiter, driver)
    stalls: Sequence[tuple[float, str, float]] = ()  # (when, what, for how long)
    jumps: Sequence[tuple[float, float]] = ()  # (when, by how much the clock of the wall)
    rivals: Sequence[float] = ()  # when somebody gives the same command once more
    messages_late_s: float = 0.02
    messages_lost: float = 0.0  # part of the replies of a limiter
    messages_doubled: float = 0.0

    @classmethod
    def drawn(cls, chance: Random) -> Plan:
        """One of very many."""
        per_minute = chance.choice([None, 30, 60, 120, 600])
        cells = chance.randint(4, 32)
        return cls(
            cells=cells,
            actors=chance.randint(1, 3),
            in_flight=chance.randint(1, 6),
            nature=Nature(
                per_minute, chance.choice([0.2, 1.0, 3.0]), chance.choice([0.0, 0.1]), chance.choice([0.0, 0.0, 0.05])
            ),
            budget_usd=chance.choice([None, 0.005 * cells, 0.01 * cells, 0.02 * cells]),
            limits=Limits(
                requests_per_minute=per_minute,
                concurrency=chance.choice([None, 4]),
            ),
            kills=_times(chance, 4, lambda: (chance.choice(["actor", "actor", "limiter", "driver"]),)),
            stalls=_times(chance, 2, lambda: (chance.choice(["actor", "driver", "limiter"]), chance.uniform(1, 40))),
            jumps=_times(chance, 1, lambda: (chance.choice([-7200.0, -60.0, 60.0, 7200.0]),)),
            rivals=[at for (at,) in _times(chance, 1, tuple)],
            messages_late_s=chance.choice([0.001, 0.02, 1.0]),
            messages_lost=chance.choice([0.0, 0.0, 0.05]),
            messages_doubled=chance.choice([0.0, 0.0, 0.05]),
        )


def _times(chance: Random, most: int, what: Callable[[], tuple[Any, ...]]) -> list[Any]:
    return [(chance.uniform(0.1, chance.choice([5.0, 40.0])), *what()) for _ in range(chance.randint(0, most))]


@dataclass
class Ledger:
    """What is there in the morning."""

    cells: int
    answered: int
    rows: int
    asked_again: int  # requests for answers that were said to be on disk
    charged_usd: float
    capped_usd: float  # charged while a budget held
    budget_usd: float | None
    left_usd: float  # of it, when nothing more was asked for want of money
    at_most_usd: float  # of it, which may be left then
    rows_usd: float
    lost_usd: float
    spare: int  # answers of cells that had one
    throttled: int  # requests that the provider refused because of its limit
    seconds: float
    bugs: list[str]

    @property
    def wrong(self) -> list[str]:
        """What is not as it must be; [] in a good night."""
        checks = [
            (bool(self.bugs), f"something raised: {self.bugs[:1]}"),
            (self.answered != self.cells, f"{self.cells - self.answered} cells have no answer"),
            (self.rows != self.answered, f"{self.rows - self.answered} cells have more than one row"),
            (self.spare > 0, f"{self.spare} cells were answered again that had a durable answer"),
            (self.asked_again > 0, f"{self.asked_again} requests were sent for answers that were on disk"),
            (
                self.charged_usd > self.rows_usd + self.lost_usd + 1e-9,
                f"${self.charged_usd:.6f} were charged, and rows (${self.rows_usd:.6f}) and what is booked "
                f"(${self.lost_usd:.6f}) are less",
            ),
            (
                self.budget_usd is not None and self.capped_usd > self.budget_usd + 1e-9,
                f"${self.capped_usd:.6f} were charged under a budget of ${self.budget_usd}",
            ),
            (self.left_usd > self.at_most_usd, f"${self.left_usd:.6f} of the budget were left, and nobody asked"),
            (self.throttled > 0, f"{self.throttled} requests were over the limit"),
            (self.seconds >= HORIZON_S, "the night has no end"),
        ]
        return [sentence for bad, sentence in checks if bad]


class Night:
    """One night in one folder."""

    def __init__(self, seed: int, folder: Path, plan: Plan | None = None) -> None:
        self.chance = Random(seed)
        self.plan = plan or Plan.drawn(self.chance)
        self.world = VirtualLoop()
        self.folder = RunFolder(str(folder))
        self.part = Partition(self.folder, "answers/model_folder=m-m", ROWS)
        self.provider = Provider(self.world, self.plan.nature, self.chance)
        self.keys = [f"{number:032x}" for number in range(1, self.plan.cells + 1)]
        self.durable: dict[str, float] = {}  # keys, and since when it is said that they are on disk
        self.capped_usd = self.left_usd = 0.0
        self.limiters: dict[str, LimiterProcess] = {}
        self.drivers: list[Driver] = []
        self._ahead_s = 0.0  # of the clock of the wall
        self._rivals = sorted(self.plan.rivals, reverse=True)

    def wall(self) -> float:
        return _CLOCK_S + self.world.time() + self._ahead_s

    def late(self) -> float:
        return self.chance.uniform(0.0, self.plan.messages_late_s)

    def spent(self) -> Ledger:
        """Runs it through; what is there afterwards."""
        with self._faked():
            for at, what in self.plan.kills:
                self.world.call_later(at, self._kill, what)
            for at, what, seconds in self.plan.stalls:
                self.world.call_later(at, self._stall, what, seconds)
            for at, seconds in self.plan.jumps:
                self.world.call_later(at, self._jump, seconds)
            budget_usd = self.plan.budget_usd
            if budget_usd is not None:
                self._until_done(budget_usd)
                self.capped_usd = self.provider.charged_usd
                if self.drivers[-1].is_out_of_money:
                    self.left_usd = budget_usd - self._spent_usd()
            self._until_done(None)
            self.world.let_pass(600.0)  # whoever still lives without a driver dies
            tabs.book(self.part, ended=tabs.NOBODY)
        return self._ledger()

    def _until_done(self, budget_usd: float | None) -> None:
        """The same command again and again, until a run of it ends well, or for want of money."""
        while self.world.time() < HORIZON_S:
            driver = self._started(budget_usd)
            while driver.is_at_work and self.world.time() < HORIZON_S:
                self.world.let_pass(0.5 if self._rivals else 5.0)
                if self._rivals and self.world.time() >= self._rivals[-1]:
                    self._rivals.pop()
                    self._started(budget_usd)
            if driver.ended and (not driver.owed() or (budget_usd is not None and driver.is_out_of_money)):
                return
            self.world.let_pass(self.chance.uniform(1.0, 40.0))

    def _started(self, budget_usd: float | None) -> Driver:
        driver = Driver(self, len(self.drivers), budget_usd)
        self.drivers.append(driver)
        driver.begin()
        if len([one for one in self.drivers if one.is_at_work]) > 1:
            self.world.wrong.append("two runs write at once")
        return driver

    def _spent_usd(self) -> float:
        """By what the folder says, as a run that begins sees it."""
        of_rows = sum(tabs.paid_usd(self.part, spent) for spent in self.part.spent().values())
        return of_rows + tabs.lost_usd(self.part)

    def _ledger(self) -> Ledger:
        table = self.part.read(["key", "outcome"])
        good = [row["key"] for row in table.to_pylist() if row["outcome"] == ANSWERED]
        return Ledger(
            cells=len(self.keys),
            answered=len(set(good)),
            rows=len(good),
            asked_again=sum(1 for at, key in self.provider.sent if at > self.durable.get(key, math.inf)),
            charged_usd=self.provider.charged_usd,
            capped_usd=self.capped_usd,
            budget_usd=self.plan.budget_usd,
            left_usd=self.left_usd,
            at_most_usd=DEAREST_USD * (1 + self.plan.in_flight * 2 * (len(self.plan.kills) + self.plan.actors)),
            rows_usd=sum(tabs.paid_usd(self.part, spent) for spent in self.part.spent().values()),
            lost_usd=tabs.lost_usd(self.part),
            spare=self.part.counts().spare,
            throttled=self.provider.refused,
            seconds=self.world.time(),
            bugs=self.world.wrong,
        )

    # ── what happens to it ─────────────────────────────────────────────────────────────────────────────────────────

    def _kill(self, what: str) -> None:
        for victim in self._victims(what):
            victim.die()

    def _stall(self, what: str, seconds: float) -> None:
        for victim in self._victims(what):
            victim.process.stand_still(seconds)

    def _jump(self, seconds: float) -> None:
        self._ahead_s += seconds

    def _victims(self, what: str) -> list[Any]:
        if what == "limiter":
            limiters = [limiter for limiter in self.limiters.values() if limiter.process.alive]
            return [self.chance.choice(limiters)] if limiters else []
        driver = next((one for one in self.drivers if one.is_at_work), None)
        if driver is None:
            return []
        if what == "driver":
            return [driver]
        living = [speaker for speaker in driver.speakers if speaker.process.alive]
        return [self.chance.choice(living)] if living else []

    @contextmanager
    def _faked(self) -> Iterator[None]:
        """Clocks and names are the night's, and each driver has a machine of its own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(limiter_actor, "time", SimpleNamespace(monotonic=self.world.time))
            patch.setattr(partition, "ThreadPoolExecutor", _OneByOne)
            patch.setattr(limiter_actor, "_end_when_idle", lambda _: _nothing())  # which asks Ray
            patch.setattr("secrets.token_hex", lambda size: f"{self.chance.getrandbits(8 * size):0{2 * size}x}")
            patch.setattr(lease_module, "_place", lambda: f"machine {len(self.drivers)}")
            asyncio.events._set_running_loop(self.world)
            try:
                yield
            finally:
                asyncio.events._set_running_loop(None)


class LimiterProcess:
    """The actor of an account, or of a run's budget."""

    def __init__(self, night: Night, name: str, run: str, limits: Limits, told: Snapshot) -> None:
        self.night, self.process = night, Process(night.world, name)
        self.actor = _LimiterActor(run, limits, told)

    def die(self) -> None:
        self.process.die()

    async def call(self, name: str, *arguments: Any) -> Any:
        """As Ray calls a method: late, twice, or its result lost on the way, which looks like death."""
        await asyncio.sleep(self.night.late())
        if not self.process.alive:
            raise RayActorError
        chance, plan = self.night.chance, self.night.plan
        told: asyncio.Future[Any] = self.night.world.create_future()

        async def run() -> None:
            result = await getattr(self.actor, name)(*arguments)
            if chance.random() < plan.messages_doubled:
                await getattr(self.actor, name)(*arguments)
            self.process.later(self.night.late(), lambda: None if told.done() else told.set_result(result))

        self.process.begin(run())
        while not told.done():
            if not self.process.alive or chance.random() < plan.messages_lost / 20:
                raise RayActorError
            await asyncio.wait([told], timeout=1.0)
        return told.result()


class Handle(SharedLimiter):
    """The handle that a run's actors have, on a limiter of the night in place of Ray's."""

    night: Night

    def _handle(self) -> Any:
        found = self.night.limiters.get(self.name)
        if found is None or not found.process.alive:
            found = LimiterProcess(self.night, self.name, self.run, self.limits, self._aged())
            self.night.limiters[self.name] = found
        return _Remote(found)


class _Remote:
    def __init__(self, limiter: LimiterProcess) -> None:
        self._limiter = limiter

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._limiter.call(name, *arguments))


class Driver:
    """One `run` command: takes the lease, finds what is owed, and has it asked by actors."""

    def __init__(self, night: Night, number: int, budget_usd: float | None) -> None:
        self.night, self.budget_usd = night, budget_usd
        self.attempt = f"a{number}"
        self.process = Process(night.world, self.attempt)
        self.lane = LaneState()
        self.speakers: list[Speaker] = []
        self.blocks: deque[list[str]] = deque()
        self.ended = self.over = False
        self._takes, self._is_doomed = False, False

    @property
    def is_at_work(self) -> bool:
        return self.process.alive and not self.over

    @property
    def is_out_of_money(self) -> bool:
        return "budget" in (self.lane.tally().down or "")

    def owed(self) -> list[str]:
        settled = self.night.part.settled()
        return [key for key, done in zip(self.night.keys, settled.has(self.night.keys), strict=True) if not done]

    def die(self) -> None:
        """Its actors follow when Ray notices, within some seconds; not while it waits for the lease."""
        if self._takes:
            self._is_doomed = True
            return
        self.process.die()
        for speaker in self.speakers:
            self.night.world.call_later(self.night.chance.uniform(0.0, 5.0), speaker.process.die)

    def begin(self) -> None:
        self._lease = Lease(self.night.folder, clock=self.night.wall, pause=self.night.world.let_pass)
        self._takes = True
        try:
            self._lease.take()
        except LeaseHeld:
            self.over = True
            return
        finally:
            self._takes = False
        self._beat()
        keys = self.owed()
        for first in range(0, len(keys), _BLOCK):
            self.blocks.append(keys[first : first + _BLOCK])
        self.lane.found(0, len(keys))
        self.lane.searched(0, 1)
        self.limiter = self._limiter()
        for number in range(self.night.plan.actors):
            self.hire(f"{number}")
        self.process.later(0.1, self._look)
        if self._is_doomed:
            self.die()

    def hire(self, actor: str) -> None:
        if self.lane.starting(actor):
            self.speakers.append(Speaker(self, actor))

    def gone(self, speaker: Speaker) -> None:
        """One died: Ray starts it again, and its blocks with it."""
        self.blocks.extend(speaker.blocks)
        self.speakers.remove(speaker)
        self.hire(speaker.actor)

    def _limiter(self) -> Any:
        """What accounts.access_of makes: the account's rates, and the run's budget."""
        account = self._handle("account", self.night.plan.limits, Snapshot())
        if self.budget_usd is None:
            return account
        spent_usd = self.night._spent_usd()
        budget = self._handle("budget", Limits(budget_usd=self.budget_usd), Snapshot({_RUN: spent_usd}))
        return CombinedLimiter(account, budget)

    def _handle(self, name: str, limits: Limits, told: Snapshot) -> Handle:
        handle = Handle(name, _RUN, limits, told)
        handle.night = self.night
        actor = handle._handle()._limiter
        actor.process.begin(actor.actor.restate(_RUN, limits, told.spent_usd))
        return handle

    def _beat(self) -> None:
        """The heart of the lease, which has a thread elsewhere."""
        if self.over:
            return
        try:
            self._lease.renew()
        except LeaseHeld:
            self.lane.close()
            self.lane.down("the lease is lost")
            return
        self.process.later(self._lease._beat_s, self._beat)

    def _look(self) -> None:
        """Five times a second, as Ray and the driver's own loop do."""
        for speaker in [one for one in self.speakers if not one.process.alive]:
            self.gone(speaker)
        tally = self.lane.tally()
        is_asked = tally.asked_out and not self.blocks
        if all(speaker.is_idle for speaker in self.speakers) and (is_asked or tally.down or not self.speakers):
            self._end()
            return
        self.process.later(0.2, self._look)

    def _end(self) -> None:
        for speaker in self.speakers:
            speaker.leave()
        if not self._lease.lost.is_set() and self.night.chance.random() < 0.5:
            tabs.book(self.night.part, ended=self.attempt)
            compact(self.night.part, clock=self.night.wall)
        self._lease.release()
        self.ended = self.over = True


class Speaker:
    """An actor that asks: what `GenerateActor` does, without Ray and without threads."""

    def __init__(self, driver: Driver, actor: str) -> None:
        self.driver, self.night, self.actor = driver, driver.night, actor
        self.process = Process(self.night.world, f"{driver.attempt}-{actor}")
        self.blocks: list[list[str]] = []
        self._permits: Permits | None = None
        self.process.begin(self._live())

    @property
    def is_idle(self) -> bool:
        return self.process.alive and not self.blocks

    def die(self) -> None:
        self.process.die()

    def leave(self) -> None:
        """As it is closed."""
        if self._permits is not None:  # else it has not begun yet
            self.process.begin(self._permits.leave())
        self.night.world.call_later(5.0, self.process.die)

    async def _live(self) -> None:
        night = self.night
        self._journal = _Journal(self)
        tab = tabs.PartTab(lambda: (night.part, self._journal.writer))
        holder = f"{_RUN}/{self._journal.writer}"
        self._permits = Permits(self.driver.limiter, holder, "m")
        self._loop = _Loop(
            night.provider.attempt,
            self._permits,
            in_flight=night.plan.in_flight,
            retry=RETRY,
            guess=Guess(PRICE),
            hopeless=lambda failure: failure.detail,
            at_end=_nothing,
            chance=night.chance,
            tab=tab,
        )
        for _ in range(_BLOCKS_AT_ONCE):
            self.process.begin(self._work())

    async def _work(self) -> None:
        while self.driver.is_at_work and self.driver.blocks:
            block = self.driver.blocks.popleft()
            self.blocks.append(block)
            await self._ask(block)
            self.blocks.remove(block)

    async def _ask(self, block: list[str]) -> None:
        """Until all of it has a reply that is on disk, or the lane ends."""
        lane, name = self.driver.lane, block[0]
        await asyncio.sleep(self.night.late())
        verdict = lane.begin(name, len(block))
        if verdict is Verdict.STOP:
            return
        owed = block
        if verdict is Verdict.RESUME:
            settled = self.night.part.settled().has(block)
            owed = [key for key, done in zip(block, settled, strict=True) if not done]
            lane.resumed(name, len(owed))
        inbox = _Inbox()
        self._loop._admit([_ask(key) for key in owed], inbox)  # type: ignore[arg-type]
        kept: list[Awaitable[None]] = []
        for _ in owed:
            reply = await inbox.queue.get()
            if reply is not None:
                kept.append(self._keep(name, reply))
        await asyncio.gather(*kept)
        if self._loop._down is not None:
            lane.down(str(self._loop._down))

    def _keep(self, block: str, reply: Reply) -> Awaitable[None]:
        """Into the journal at once; when it is durable the lane is told."""
        good = isinstance(reply.outcome, Answer)
        outcome = ANSWERED if isinstance(reply.outcome, Answer) else str(reply.outcome.kind)
        row = {"key": [reply.key], "outcome": [outcome], "answer": ["said" if good else None]}
        done = self._journal.append(pa.table(row | {"cost_usd": [reply.outcome.cost_usd]}, schema=ROWS))

        async def told() -> None:
            await asyncio.wrap_future(done)
            if good:
                self.night.durable.setdefault(reply.key, self.night.world.time())
            await asyncio.sleep(self.night.late())
            self.driver.lane.said(block, {"answered": int(good), "failed": {} if good else {outcome: 1}})

        return asyncio.ensure_future(told())


class _Loop(RequestLoop):
    """In the loop of the night."""

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._start(self._permits.keep())


class _Inbox:
    def __init__(self) -> None:
        self.abandoned = False
        self.queue: asyncio.Queue[Reply | None] = asyncio.Queue()

    def put(self, reply: Reply | None) -> None:
        self.queue.put_nowait(reply)


class _Journal(Journal):
    """Writes when its thread would: after a rest, and the disk takes its time."""

    def __init__(self, speaker: Speaker) -> None:
        self._process, self._night = speaker.process, speaker.night
        self._is_due, self._write_s = False, 0.0
        super().__init__(
            speaker.night.part, speaker.process.name, schema=ROWS, every_s=COMMIT_S, clock=speaker.night.wall
        )

    def _begin(self) -> None:
        self._merger = SimpleNamespace(submit=lambda what, *arguments: what(*arguments))  # type: ignore[assignment]

    def append(self, table: pa.Table) -> Future[None]:
        done = super().append(table)
        self._come()
        return done

    def _come(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            rest_s = pause_s(self._write_s, self._every_s)
            self._write_s = self._night.chance.expovariate(1 / 0.05)
            self._process.later(rest_s + self._write_s, self._turn)

    def _turn(self) -> None:
        self._is_due = False
        self._commit(self._taken())
        self._come()


class _OneByOne:
    """Threads that are none: what they do is done in order."""

    def __init__(self, *_: object) -> None:
        self.map = map

    def __enter__(self) -> _OneByOne:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _ask(key: str) -> Ask:
    return Ask(key, [{"role": "user", "content": QUESTION}], 1, None, None, LONGEST)


async def _nothing() -> None:
    pass
