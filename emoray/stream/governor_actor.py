"""The governor of an account as a named Ray actor, shared by all actors, lanes and jobs of a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayActorError

from emoray.governor import SPEAK_S, Bucket, Lease, Ledger, Limits, News, Want
from emoray.spec import Account

NAMESPACE = "emoray"  # governors are found here whatever namespace a job runs in
IDLE_EXIT_S = 3600.0  # a governor that nobody asked for so long ends itself
_log = logging.getLogger(__name__)


class _GovernorActor:
    """The bucket with a clock. State is lost with the actor, and restored by what its holders say next."""

    def __init__(self, limits: Limits, told_usd: dict[str, float]) -> None:
        self._bucket = Bucket(limits)
        self._bucket.remember(told_usd)
        self._asked_at = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    async def restate(self, limits: Limits, spent_usd: dict[str, float]) -> None:
        now = self._now()
        self._bucket.restate(limits)
        for run, usd in spent_usd.items():
            self._bucket.began(run, usd, now)

    async def remember(self, told_usd: dict[str, float]) -> None:
        self._bucket.remember(told_usd)

    async def told(self) -> dict[str, float]:
        return self._bucket.told()

    async def lease(self, holder: str, ledger: Ledger, want: Want, news: News) -> Lease:
        return self._bucket.lease(holder, ledger, want, news, self._now())

    async def status(self) -> dict[str, float]:
        return self._bucket.status(time.monotonic())

    def idle_s(self) -> float:
        return time.monotonic() - self._asked_at

    def _now(self) -> float:
        self._watch = self._watch or asyncio.create_task(_end_when_idle(self))  # there is no loop when it is born
        self._asked_at = time.monotonic()
        return self._asked_at


async def _end_when_idle(governor: _GovernorActor) -> None:
    while governor.idle_s() < IDLE_EXIT_S:
        await asyncio.sleep(60.0)
    ray.kill(ray.get_runtime_context().current_actor)


@dataclass
class SharedGovernor:
    """A handle on the governor called `name`; can be sent to any actor. Survives the governor's death.

    Every handle remembers what the governor knows to be spent, and by whom, and tells it to one that is born again:
    the money of lanes that have ended, and of actors that died with it, is not forgotten.
    """

    name: str
    limits: Limits
    spent_usd: dict[str, float] = field(default_factory=dict)  # by run or holder
    _actor: Any = field(default=None, repr=False)
    _remembered_at: float = field(default=float("-inf"), repr=False)

    async def lease(self, holder: str, ledger: Ledger, want: Want, news: News) -> Lease:
        try:
            granted: Lease = await self._handle().lease.remote(holder, ledger, want, news)
            await self._remember()
        except RayActorError:
            _log.warning("the governor %s died; starting it again", self.name)
            self._actor = None
            with suppress(RayActorError):  # its node died, and Ray does not know yet: the next lease tries again
                await self._handle().remember.remote(self.spent_usd)
            return Lease(0, wait_s=0.5)
        return granted

    def status(self) -> dict[str, float]:
        found: dict[str, float] = ray.get(self._handle().status.remote())
        return found

    def restate(self) -> SharedGovernor:
        """Tell the limits and sums of this handle, which replace older ones; returns itself."""
        ray.get(self._handle().restate.remote(self.limits, self.spent_usd))
        return self

    async def _remember(self) -> None:
        if self.limits.budget_usd is not None and time.monotonic() - self._remembered_at >= SPEAK_S:
            self._remembered_at = time.monotonic()
            self.spent_usd = await self._handle().told.remote()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_actor": None}

    def _handle(self) -> Any:
        if self._actor is None:
            # detached: it outlives the job that was first, for the others; without CPU, so that it fits anywhere
            born = ray.remote(_GovernorActor).options(
                name=self.name,
                namespace=NAMESPACE,
                get_if_exists=True,
                lifetime="detached",
                num_cpus=0,
                max_concurrency=256,
            )
            self._actor = born.remote(self.limits, self.spent_usd)
        return self._actor


def account_governor(account: Account, model: str = "") -> SharedGovernor:
    """The governor of an account's rates, told its limits as they are now; money has a purse for each run.

    Where a spec states no limits, headers and 429s teach them, and providers have those for each `model` (its id).
    """
    limits = replace(Limits.of(account), budget_usd=None)
    stated = limits != Limits(share=limits.share)
    who = f"{account.base_url.rstrip('/')}\n{account.key_env}\n{'' if stated else model}"
    name = f"governor-{hashlib.blake2b(who.encode(), digest_size=8).hexdigest()}"
    return SharedGovernor(name, limits).restate()


def purse(run: str, budget_usd: float, spent_usd: float = 0.0, *, account: str = "") -> SharedGovernor:
    """What a run may spend, on one account or over all, as a governor that limits money only.

    `run` begins the names of the holders ("RUN/…"); `spent_usd` is what it spent before.
    """
    name = f"purse-{hashlib.blake2b(f'{run} {account}'.encode(), digest_size=8).hexdigest()}"
    return SharedGovernor(name, Limits(budget_usd=budget_usd), {run: spent_usd}).restate()
