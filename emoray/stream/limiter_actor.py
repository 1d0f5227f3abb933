"""The limiter of an account as a named Ray actor, shared by all actors, lanes, models and jobs of a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayActorError

from emoray.rate_limits.account_bucket import Bucket
from emoray.rate_limits.protocol import SPEAK_S, Feedback, Grant, Limits, Request, Snapshot, Usage
from emoray.spec.accounts import Account

NAMESPACE = "emoray"  # limiters are found here whatever namespace a job runs in
_PROTOCOL = 3  # of what is said to one: an older emoray may have left one on the cluster that understands another
IDLE_EXIT_S = 3600.0  # a limiter that nobody asked for so long ends itself, unless it counts the requests of a day
_log = logging.getLogger(__name__)


class _LimiterActor:
    """The bucket with a clock. State is lost with the actor, and restored by what its holders say next."""

    def __init__(self, run: str, limits: Limits, told: Snapshot) -> None:
        self._asked_at = time.monotonic()
        self._bucket = Bucket(limits, life=uuid.uuid4().hex[:8], run=run)
        self._bucket.remember(told, self._asked_at)
        self._watch: asyncio.Task[None] | None = None

    async def restate(self, run: str, limits: Limits, spent_usd: Mapping[str, float]) -> None:
        now = self._now()
        self._bucket.restate(limits, now, run)
        for spender, usd in spent_usd.items():
            self._bucket.began(spender, usd, now)

    async def remember(self, run: str, limits: Limits, told: Snapshot) -> None:
        now = self._now()
        self._bucket.restate(limits, now, run)
        self._bucket.remember(told, now)

    async def told(self) -> Snapshot:
        return self._bucket.told(time.monotonic())

    async def lease(self, holder: str, ledger: Usage, want: Request, news: Feedback) -> Grant:
        return self._bucket.lease(holder, ledger, want, news, self._now())

    async def status(self, model: str | None) -> dict[str, float]:
        return self._bucket.status(time.monotonic(), model)

    def is_idle(self) -> bool:
        now = time.monotonic()
        return now - self._asked_at >= IDLE_EXIT_S and not self._bucket.told(now).taken

    def _now(self) -> float:
        self._watch = self._watch or asyncio.create_task(_end_when_idle(self))  # there is no loop when it is born
        self._asked_at = time.monotonic()
        return self._asked_at


async def _end_when_idle(limiter: _LimiterActor) -> None:
    while not limiter.is_idle():
        await asyncio.sleep(60.0)
    ray.kill(ray.get_runtime_context().current_actor)


@dataclass
class SharedLimiter:
    """A handle on the limiter called `name`; can be sent to any actor. Survives the limiter's death.

    Every handle remembers what the limiter knows to be spent, by whom, and how many requests were taken in the last
    24 hours, and tells it to one that is born again: the money of lanes that have ended, and of actors that died with
    it, is not forgotten, and a day's limit not passed. It asks for that only where money or a day is limited.
    """

    name: str
    run: str  # whose limits these are
    limits: Limits
    told: Snapshot = field(default_factory=Snapshot)
    _told_at: float = field(default_factory=time.monotonic, repr=False)
    _actor: Any = field(default=None, repr=False)
    _asked_at: float = field(default=float("-inf"), repr=False)
    _heard_daily: bool = field(default=False, repr=False)  # a limit that headers told

    async def lease(self, holder: str, ledger: Usage, want: Request, news: Feedback) -> Grant:
        try:
            granted: Grant = await self._handle().lease.remote(holder, ledger, want, news)
            self._heard_daily |= news.heard is not None and news.heard.daily
            await self._remember()
        except RayActorError:
            _log.warning("the limiter %s died; starting it again", self.name)
            self._actor = None
            with suppress(RayActorError):  # its node died, and Ray does not know yet: the next lease tries again
                await self._handle().remember.remote(self.run, self.limits, self._aged())
            return Grant(0, wait_s=0.5)
        return granted

    def status(self, model: str | None = None) -> dict[str, float]:
        """For people; see `Bucket.status`."""
        found: dict[str, float] = ray.get(self._handle().status.remote(model))
        return found

    def restate(self) -> SharedLimiter:
        """Tell the limits and sums of this handle, which replace older ones; returns itself."""
        ray.get(self._handle().restate.remote(self.run, self.limits, self.told.spent_usd))
        return self

    async def _remember(self) -> None:
        limited = self._heard_daily or self.limits.requests_per_day is not None or self.limits.budget_usd is not None
        if limited and time.monotonic() - self._asked_at >= SPEAK_S:
            self._asked_at = time.monotonic()
            self.told, self._told_at = await self._handle().told.remote(), time.monotonic()

    def _aged(self) -> Snapshot:
        return self.told.aged(time.monotonic() - self._told_at)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "told": self._aged(), "_actor": None, "_asked_at": float("-inf")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _told_at=time.monotonic())  # another machine's clock

    def _handle(self) -> Any:
        if self._actor is None:
            # detached: it outlives the job that was first, for the others; without CPU, so that it fits anywhere
            born = ray.remote(_LimiterActor).options(
                name=self.name,
                namespace=NAMESPACE,
                get_if_exists=True,
                lifetime="detached",
                num_cpus=0,
                max_concurrency=256,
            )
            self._actor = born.remote(self.run, self.limits, self._aged())
        return self._actor


def account_limiter(account: Account, run: str) -> SharedLimiter:
    """The limiter of an account's rates, told what the spec of a run states; money has a budget for each run."""
    name = _name("limiter", account.base_url.rstrip("/"), account.key_env)
    return SharedLimiter(name, run, replace(Limits.of(account), budget_usd=None)).restate()


def run_budget(run: str, budget_usd: float, spent_usd: float = 0.0, *, account: str = "") -> SharedLimiter:
    """What a run may spend, on one account or over all, as a limiter that limits money only.

    `run` begins the names of the holders ("RUN/…"); `spent_usd` is what it spent before.
    """
    name = _name("run_budget", run, account)
    return SharedLimiter(name, run, Limits(budget_usd=budget_usd), Snapshot({run: spent_usd})).restate()


def _name(kind: str, *whose: str | None) -> str:
    told = f"{_PROTOCOL} {whose}"
    return f"{kind}-{hashlib.blake2b(told.encode(), digest_size=8).hexdigest()}"
