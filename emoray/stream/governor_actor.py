"""The governor of an account as a named Ray actor, shared by all actors, lanes and jobs of a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError

from emoray.governor import Bucket, Lease, Ledger, Limits, News, Want
from emoray.spec import Account

NAMESPACE = "emoray"  # governors are found here whatever namespace a job runs in
IDLE_EXIT_S = 3600.0  # a governor that nobody asked for so long ends itself
_log = logging.getLogger(__name__)


class _GovernorActor:
    """The bucket with a clock. State is lost with the actor, and restored by what its holders say next."""

    def __init__(self, limits: Limits) -> None:
        self._bucket = Bucket(limits)
        self._asked_at = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    async def restate(self, limits: Limits, run: str | None, spent_usd: float) -> None:
        self._asked_at = time.monotonic()
        self._watch = self._watch or asyncio.create_task(_end_when_idle(self))
        self._bucket.restate(limits)
        if run is not None:
            self._bucket.began(run, spent_usd, self._asked_at)

    async def lease(self, holder: str, ledger: Ledger, want: Want, news: News) -> Lease:
        self._asked_at = time.monotonic()
        return self._bucket.lease(holder, ledger, want, news, self._asked_at)

    async def status(self) -> dict[str, float]:
        return self._bucket.status(time.monotonic())

    def idle_s(self) -> float:
        return time.monotonic() - self._asked_at


async def _end_when_idle(governor: _GovernorActor) -> None:
    while governor.idle_s() < IDLE_EXIT_S:
        await asyncio.sleep(60.0)
    ray.kill(ray.get_runtime_context().current_actor)


@dataclass
class SharedGovernor:
    """A handle on the governor called `name`; can be sent to any actor. Survives the governor's death."""

    name: str
    limits: Limits
    spent_usd: dict[str, float] = field(default_factory=dict)  # run -> before this job; for a governor born again
    _actor: Any = field(default=None, repr=False)

    async def lease(self, holder: str, ledger: Ledger, want: Want, news: News) -> Lease:
        try:
            granted: Lease = await self._handle().lease.remote(holder, ledger, want, news)
        except RayActorError:
            _log.warning("the governor %s died; starting it again", self.name)
            self._actor = None
            with suppress(RayActorError):  # its node died, and Ray does not know yet: the next lease tries again
                await asyncio.gather(*self._restatements())
            return Lease(0, wait_s=0.5)
        return granted

    def status(self) -> dict[str, float]:
        found: dict[str, float] = ray.get(self._handle().status.remote())
        return found

    def restate(self) -> SharedGovernor:
        """Tell the limits and sums of this handle, which replace older ones; returns itself."""
        ray.get(self._restatements())
        return self

    def _restatements(self) -> list[Any]:
        handle, runs = self._handle(), self.spent_usd.items() or ((None, 0.0),)
        return [handle.restate.remote(self.limits, run, spent) for run, spent in runs]

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
            self._actor = born.remote(self.limits)
        return self._actor


def account_governor(account: Account, run: str, spent_usd: float = 0.0) -> SharedGovernor:
    """The governor of an account, told its limits as they are now; the driver calls it once per run and account.

    `run` begins the names of the holders ("RUN/…"); `spent_usd` is what the run spent on this account before.
    """
    who = f"{account.base_url}\n{account.key_env}"
    name = f"governor-{hashlib.blake2b(who.encode(), digest_size=8).hexdigest()}"
    return SharedGovernor(name, Limits.of(account), {run: spent_usd}).restate()


def purse(run: str, budget_usd: float, spent_usd: float = 0.0) -> SharedGovernor:
    """The budget of a run over all accounts, as a governor that limits money only."""
    name = f"purse-{hashlib.blake2b(run.encode(), digest_size=8).hexdigest()}"
    return SharedGovernor(name, Limits(budget_usd=budget_usd), {run: spent_usd}).restate()
