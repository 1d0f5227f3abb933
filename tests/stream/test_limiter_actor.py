"""One limiter per account for all jobs of a cluster."""

from __future__ import annotations

import asyncio
import pickle
import uuid

import pytest
import ray

from emoray.rate_limits.protocol import Feedback, Grant, LimitHeaders, Request, Snapshot, Usage
from emoray.rate_limits.token_bucket import HEADROOM
from emoray.spec.accounts import Account
from emoray.stream.limiter_actor import SharedLimiter, account_limiter, run_budget
from tests.programs import until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("two_cpus")]


def account(**limits: float) -> Account:
    """One that no other test has."""
    return Account.model_validate({"base_url": f"http://127.0.0.1/{uuid.uuid4().hex}", "key_env": "LAB_KEY", **limits})


def account_like(other: Account, requests_per_minute: float) -> Account:
    return other.model_copy(update={"requests_per_minute": requests_per_minute})


def ask(
    limiter: SharedLimiter, holder: str, want: Request, ledger: Usage | None = None, news: Feedback | None = None
) -> Grant:
    return asyncio.run(limiter.lease(holder, ledger or Usage(), want, news or Feedback()))


def test_two_jobs_on_one_account_share_its_limits() -> None:
    lab = account(concurrency=10)
    one, two = account_limiter(lab, "monday"), account_limiter(lab, "tuesday")
    assert ask(one, "monday/1", Request(7)).granted == 7
    assert ask(two, "tuesday/1", Request(7)).granted == 3


def per_minute(limiter: SharedLimiter) -> float:
    return round(limiter.status()["requests_per_minute"] / HEADROOM)


def test_the_limits_of_the_latest_spec_hold_and_those_of_every_run_at_work() -> None:
    lab = account(requests_per_minute=600)
    first = account_limiter(lab, "monday")
    ask(first, "monday/1", Request(0))
    account_limiter(account_like(lab, 6000.0), "tuesday")
    assert per_minute(first) == 600
    account_limiter(account_like(lab, 3000.0), "monday")
    assert per_minute(first) == 3000


def test_every_run_tells_a_limiter_that_was_born_again_its_limits() -> None:
    lab = account(requests_per_minute=600)
    monday, tuesday = account_limiter(lab, "monday"), account_limiter(account_like(lab, 6000.0), "tuesday")
    ask(monday, "monday/1", Request(0))
    revived(tuesday, "tuesday/1", Usage())
    assert per_minute(tuesday) == 6000
    while ask(monday, "monday/1", Request(0)).wait_s == 0.5:
        pass
    assert per_minute(tuesday) == 600


def test_another_key_is_another_account() -> None:
    lab = account(concurrency=10)
    other = lab.model_copy(update={"key_env": "HOME_KEY"})
    ask(account_limiter(lab, "a"), "a/1", Request(10))
    assert ask(account_limiter(other, "a"), "a/1", Request(10)).granted == 10


def test_a_handle_can_be_sent_and_its_name_tells_no_key() -> None:
    limiter = account_limiter(account(concurrency=10), "a")
    copy = pickle.loads(pickle.dumps(limiter))
    ask(limiter, "a/1", Request(9))
    assert ask(copy, "a/2", Request(9)).granted == 1
    assert "LAB_KEY" not in limiter.name


def revived(limiter: SharedLimiter, holder: str, ledger: Usage) -> None:
    """The limiter dies, which takes a moment; a holder notices, and it is started again."""
    ray.kill(limiter._handle())
    until(lambda: ask(limiter, holder, Request(0), ledger).wait_s == 0.5)
    until(lambda: ask(limiter, holder, Request(0), ledger).wait_s != 0.5)


def test_a_limiter_that_died_is_born_again_and_told_what_matters() -> None:
    limiter = account_limiter(account(concurrency=10), "a")
    ledger = Usage(held=4, finished=9)
    ask(limiter, "a/1", Request(0), ledger)
    revived(limiter, "a/1", ledger)
    assert limiter.status()["in_flight"] == 4


def test_a_purse_that_died_is_born_again_and_knows_what_lanes_that_have_ended_spent_and_the_killed_may_have() -> None:
    run = uuid.uuid4().hex
    money = run_budget(run, budget_usd=5.0, spent_usd=1.0)
    ask(money, f"{run}/ended", Request(0), Usage(spent_usd=2.0, finished=9))
    ask(money, f"{run}/killed", Request(0), Usage(held=1, reserved_usd=0.25, spent_usd=0.5, finished=9))
    mine = Usage(spent_usd=0.5, finished=9)
    still = pickle.loads(pickle.dumps(money))
    ask(still, f"{run}/1", Request(0), mine)
    revived(still, f"{run}/1", mine)
    ask(still, f"{run}/1", Request(0), mine)
    assert still.status()["spent_usd"] == pytest.approx(4.25)


def test_whoever_starts_a_purse_again_tells_it_what_was_spent() -> None:
    run = uuid.uuid4().hex
    money = run_budget(run, budget_usd=5.0, spent_usd=4.0)
    stranger = pickle.loads(pickle.dumps(money))  # an actor that has not asked yet
    ray.kill(money._handle())
    wait_for_death(money)
    assert ask(stranger, f"{run}/2", Request(10, usd_each=0.5), Usage(finished=1)).granted == 2


def wait_for_death(limiter: SharedLimiter) -> None:
    until(lambda: limiter.name not in {named["name"] for named in ray.util.list_named_actors(all_namespaces=True)})


def test_a_colleague_without_a_budget_does_not_lift_mine() -> None:
    lab = account(budget_usd=1.0)
    mine = run_budget("monday" + uuid.uuid4().hex, 1.0)
    account_limiter(lab.model_copy(update={"budget_usd": None}), "tuesday")
    assert ask(mine, "monday/1", Request(100, usd_each=0.25), Usage(finished=1)).granted == 4


def test_a_slash_at_the_end_of_its_address_makes_no_other_account() -> None:
    lab = account(concurrency=10)
    slash = lab.model_copy(update={"base_url": f"{lab.base_url}/"})
    assert account_limiter(slash, "a").name == account_limiter(lab, "a").name


def test_one_limiter_learns_for_each_model_what_headers_tell() -> None:
    limiter = account_limiter(account(share=0.5), "a")
    for model, told in (("gpt-4", 600), ("gpt-4o", 6000)):
        ask(limiter, f"a/{model}", Request(0, model=model), news=Feedback(heard=LimitHeaders(limit_requests=told)))
    assert limiter.status("gpt-4")["requests_per_minute"] == pytest.approx(300 * HEADROOM)
    assert limiter.status("gpt-4o")["requests_per_minute"] == pytest.approx(3000 * HEADROOM)


@pytest.mark.parametrize("limits", [{"requests_per_day": 10}, {}])
def test_the_requests_of_a_day_survive_their_limiter(limits: dict[str, float]) -> None:
    day = Feedback() if limits else Feedback(heard=LimitHeaders(limit_requests=10, reset_requests_s=43_200))
    limiter = pickle.loads(pickle.dumps(account_limiter(account(**limits), "a")))
    ledger = Usage(finished=9)
    assert ask(limiter, "a/1", Request(7, model="m"), ledger, day).granted == 7
    elsewhere = pickle.loads(pickle.dumps(limiter))
    revived(elsewhere, "a/1", ledger)
    assert ask(elsewhere, "b/1", Request(10, model="m"), ledger, day).granted == 3


def test_a_limiter_that_limits_neither_money_nor_a_day_is_not_asked_what_it_knows() -> None:
    limiter = account_limiter(account(requests_per_minute=600), "a")
    ask(limiter, "a/1", Request(7), Usage(spent_usd=1.0))
    assert limiter.told == Snapshot()


def test_a_run_has_one_purse() -> None:
    run = uuid.uuid4().hex
    money = run_budget(run, budget_usd=1.0, spent_usd=0.4)
    assert ask(money, f"{run}/1", Request(100, usd_each=0.1), Usage(finished=1)).granted == 6
    assert ask(run_budget(run, 1.0, 0.4), f"{run}/2", Request(100, usd_each=0.1), Usage(finished=1)).granted == 0


def test_a_run_that_is_resumed_on_a_standing_cluster_counts_what_it_spent_once() -> None:
    run = uuid.uuid4().hex
    money = run_budget(run, budget_usd=10.0, account="lab")
    ask(money, f"{run}/1", Request(0), Usage(spent_usd=5.0, finished=9))
    resumed = run_budget(run, 10.0, 5.0, account="lab")
    assert resumed.name == money.name
    assert resumed.status()["spent_usd"] == 5.0
