"""One governor per account for all jobs of a cluster."""

from __future__ import annotations

import asyncio
import pickle
import uuid

import pytest
import ray

from emoray.governor import HEADROOM, Lease, Ledger, News, Want
from emoray.spec import Account
from emoray.stream.governor_actor import SharedGovernor, account_governor, purse

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("two_cpus")]


def account(**limits: float) -> Account:
    """One that no other test has."""
    return Account.model_validate({"base_url": f"http://127.0.0.1/{uuid.uuid4().hex}", "key_env": "LAB_KEY", **limits})


def ask(governor: SharedGovernor, holder: str, want: Want, ledger: Ledger | None = None) -> Lease:
    return asyncio.run(governor.lease(holder, ledger or Ledger(), want, News()))


def test_two_jobs_on_one_account_share_its_limits() -> None:
    lab = account(concurrency=10)
    one, two = account_governor(lab, run="monday"), account_governor(lab, run="tuesday")
    assert ask(one, "monday/1", Want(7)).granted == 7
    assert ask(two, "tuesday/1", Want(7)).granted == 3


def test_the_limits_of_the_latest_spec_hold() -> None:
    lab = account(requests_per_minute=600)
    first = account_governor(lab, run="monday")
    account_governor(lab.model_copy(update={"requests_per_minute": 6000.0}), run="tuesday")
    assert first.status()["requests_per_minute"] == pytest.approx(6000 * HEADROOM)


def test_another_key_is_another_account() -> None:
    lab = account(concurrency=10)
    other = lab.model_copy(update={"key_env": "HOME_KEY"})
    ask(account_governor(lab, run="a"), "a/1", Want(10))
    assert ask(account_governor(other, run="a"), "a/1", Want(10)).granted == 10


def test_a_handle_can_be_sent_and_its_name_tells_no_key() -> None:
    governor = account_governor(account(concurrency=10), run="a")
    copy = pickle.loads(pickle.dumps(governor))
    ask(governor, "a/1", Want(9))
    assert ask(copy, "a/2", Want(9)).granted == 1
    assert "LAB_KEY" not in governor.name


def test_a_governor_that_died_is_born_again_and_told_what_matters() -> None:
    governor = account_governor(account(concurrency=10, budget_usd=5.0), run="a", spent_usd=1.0)
    ledger = Ledger(held=4, spent_usd=0.5, finished=9)
    ask(governor, "a/1", Want(0), ledger)
    ray.kill(governor._handle())
    while ask(governor, "a/1", Want(0), ledger).wait_s == 0.5:  # noticed, and started again
        pass
    status = governor.status()
    assert status["spent_usd"] == pytest.approx(1.5)
    assert status["in_flight"] == 4


def test_a_run_has_one_purse() -> None:
    run = uuid.uuid4().hex
    money = purse(run, budget_usd=1.0, spent_usd=0.4)
    assert ask(money, f"{run}/1", Want(100, usd_each=0.1), Ledger(finished=1)).granted == 6
    assert ask(purse(run, 1.0, 0.4), f"{run}/2", Want(100, usd_each=0.1), Ledger(finished=1)).granted == 0
