"""One governor per account for all jobs of a cluster."""

from __future__ import annotations

import asyncio
import pickle
import uuid

import pytest
import ray

from emoray.rate_limits.protocol import Heard, Lease, Ledger, News, Told, Want
from emoray.rate_limits.token_bucket import HEADROOM
from emoray.spec.accounts import Account
from emoray.stream.limiter_actor import SharedGovernor, account_governor, purse
from tests.programs import until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("two_cpus")]


def account(**limits: float) -> Account:
    """One that no other test has."""
    return Account.model_validate({"base_url": f"http://127.0.0.1/{uuid.uuid4().hex}", "key_env": "LAB_KEY", **limits})


def account_like(other: Account, requests_per_minute: float) -> Account:
    return other.model_copy(update={"requests_per_minute": requests_per_minute})


def ask(
    governor: SharedGovernor, holder: str, want: Want, ledger: Ledger | None = None, news: News | None = None
) -> Lease:
    return asyncio.run(governor.lease(holder, ledger or Ledger(), want, news or News()))


def test_two_jobs_on_one_account_share_its_limits() -> None:
    lab = account(concurrency=10)
    one, two = account_governor(lab, "monday"), account_governor(lab, "tuesday")
    assert ask(one, "monday/1", Want(7)).granted == 7
    assert ask(two, "tuesday/1", Want(7)).granted == 3


def per_minute(governor: SharedGovernor) -> float:
    return round(governor.status()["requests_per_minute"] / HEADROOM)


def test_the_limits_of_the_latest_spec_hold_and_those_of_every_run_at_work() -> None:
    lab = account(requests_per_minute=600)
    first = account_governor(lab, "monday")
    ask(first, "monday/1", Want(0))
    account_governor(account_like(lab, 6000.0), "tuesday")
    assert per_minute(first) == 600
    account_governor(account_like(lab, 3000.0), "monday")
    assert per_minute(first) == 3000


def test_every_run_tells_a_governor_that_was_born_again_its_limits() -> None:
    lab = account(requests_per_minute=600)
    monday, tuesday = account_governor(lab, "monday"), account_governor(account_like(lab, 6000.0), "tuesday")
    ask(monday, "monday/1", Want(0))
    revived(tuesday, "tuesday/1", Ledger())
    assert per_minute(tuesday) == 6000
    while ask(monday, "monday/1", Want(0)).wait_s == 0.5:
        pass
    assert per_minute(tuesday) == 600


def test_another_key_is_another_account() -> None:
    lab = account(concurrency=10)
    other = lab.model_copy(update={"key_env": "HOME_KEY"})
    ask(account_governor(lab, "a"), "a/1", Want(10))
    assert ask(account_governor(other, "a"), "a/1", Want(10)).granted == 10


def test_a_handle_can_be_sent_and_its_name_tells_no_key() -> None:
    governor = account_governor(account(concurrency=10), "a")
    copy = pickle.loads(pickle.dumps(governor))
    ask(governor, "a/1", Want(9))
    assert ask(copy, "a/2", Want(9)).granted == 1
    assert "LAB_KEY" not in governor.name


def revived(governor: SharedGovernor, holder: str, ledger: Ledger) -> None:
    """The governor dies, which takes a moment; a holder notices, and it is started again."""
    ray.kill(governor._handle())
    until(lambda: ask(governor, holder, Want(0), ledger).wait_s == 0.5)
    until(lambda: ask(governor, holder, Want(0), ledger).wait_s != 0.5)


def test_a_governor_that_died_is_born_again_and_told_what_matters() -> None:
    governor = account_governor(account(concurrency=10), "a")
    ledger = Ledger(held=4, finished=9)
    ask(governor, "a/1", Want(0), ledger)
    revived(governor, "a/1", ledger)
    assert governor.status()["in_flight"] == 4


def test_a_purse_that_died_is_born_again_and_knows_what_lanes_that_have_ended_spent_and_the_killed_may_have() -> None:
    run = uuid.uuid4().hex
    money = purse(run, budget_usd=5.0, spent_usd=1.0)
    ask(money, f"{run}/ended", Want(0), Ledger(spent_usd=2.0, finished=9))
    ask(money, f"{run}/killed", Want(0), Ledger(held=1, reserved_usd=0.25, spent_usd=0.5, finished=9))
    mine = Ledger(spent_usd=0.5, finished=9)
    still = pickle.loads(pickle.dumps(money))
    ask(still, f"{run}/1", Want(0), mine)
    revived(still, f"{run}/1", mine)
    ask(still, f"{run}/1", Want(0), mine)
    assert still.status()["spent_usd"] == pytest.approx(4.25)


def test_whoever_starts_a_purse_again_tells_it_what_was_spent() -> None:
    run = uuid.uuid4().hex
    money = purse(run, budget_usd=5.0, spent_usd=4.0)
    stranger = pickle.loads(pickle.dumps(money))  # an actor that has not asked yet
    ray.kill(money._handle())
    wait_for_death(money)
    assert ask(stranger, f"{run}/2", Want(10, usd_each=0.5), Ledger(finished=1)).granted == 2


def wait_for_death(governor: SharedGovernor) -> None:
    until(lambda: governor.name not in {named["name"] for named in ray.util.list_named_actors(all_namespaces=True)})


def test_a_colleague_without_a_budget_does_not_lift_mine() -> None:
    lab = account(budget_usd=1.0)
    mine = purse("monday" + uuid.uuid4().hex, 1.0)
    account_governor(lab.model_copy(update={"budget_usd": None}), "tuesday")
    assert ask(mine, "monday/1", Want(100, usd_each=0.25), Ledger(finished=1)).granted == 4


def test_a_slash_at_the_end_of_its_address_makes_no_other_account() -> None:
    lab = account(concurrency=10)
    slash = lab.model_copy(update={"base_url": f"{lab.base_url}/"})
    assert account_governor(slash, "a").name == account_governor(lab, "a").name


def test_one_governor_learns_for_each_model_what_headers_tell() -> None:
    governor = account_governor(account(share=0.5), "a")
    for model, told in (("gpt-4", 600), ("gpt-4o", 6000)):
        ask(governor, f"a/{model}", Want(0, model=model), news=News(heard=Heard(limit_requests=told)))
    assert governor.status("gpt-4")["requests_per_minute"] == pytest.approx(300 * HEADROOM)
    assert governor.status("gpt-4o")["requests_per_minute"] == pytest.approx(3000 * HEADROOM)


@pytest.mark.parametrize("limits", [{"requests_per_day": 10}, {}])
def test_the_requests_of_a_day_survive_their_governor(limits: dict[str, float]) -> None:
    day = News() if limits else News(heard=Heard(limit_requests=10, reset_requests_s=43_200))
    governor = pickle.loads(pickle.dumps(account_governor(account(**limits), "a")))
    ledger = Ledger(finished=9)
    assert ask(governor, "a/1", Want(7, model="m"), ledger, day).granted == 7
    elsewhere = pickle.loads(pickle.dumps(governor))
    revived(elsewhere, "a/1", ledger)
    assert ask(elsewhere, "b/1", Want(10, model="m"), ledger, day).granted == 3


def test_a_governor_that_limits_neither_money_nor_a_day_is_not_asked_what_it_knows() -> None:
    governor = account_governor(account(requests_per_minute=600), "a")
    ask(governor, "a/1", Want(7), Ledger(spent_usd=1.0))
    assert governor.told == Told()


def test_a_run_has_one_purse() -> None:
    run = uuid.uuid4().hex
    money = purse(run, budget_usd=1.0, spent_usd=0.4)
    assert ask(money, f"{run}/1", Want(100, usd_each=0.1), Ledger(finished=1)).granted == 6
    assert ask(purse(run, 1.0, 0.4), f"{run}/2", Want(100, usd_each=0.1), Ledger(finished=1)).granted == 0


def test_a_run_that_is_resumed_on_a_standing_cluster_counts_what_it_spent_once() -> None:
    run = uuid.uuid4().hex
    money = purse(run, budget_usd=10.0, account="lab")
    ask(money, f"{run}/1", Want(0), Ledger(spent_usd=5.0, finished=9))
    resumed = purse(run, 10.0, 5.0, account="lab")
    assert resumed.name == money.name
    assert resumed.status()["spent_usd"] == 5.0
