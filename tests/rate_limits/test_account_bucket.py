"""All limits of an account: what is granted, when to ask again, and what people are shown."""

from __future__ import annotations

import asyncio

import pytest

from emoray.rate_limits.account_bucket import FIRST_IN_FLIGHT, GONE_S, Bucket
from emoray.rate_limits.local import CombinedLimiter, LocalLimiter
from emoray.rate_limits.protocol import SILENCE_S, SPEAK_S, Feedback, Grant, LimitHeaders, Limits, Request, Usage
from emoray.rate_limits.token_bucket import HEADROOM
from emoray.spec.accounts import Account

QUIET = Feedback()
KNOWN = Usage(finished=1)  # a holder that has had an answer


def ask(
    bucket: Bucket, requests: int, now: float, holder: str = "run/1", ledger: Usage = KNOWN, news: Feedback = QUIET,
    **want: object,
) -> Grant:  # fmt: skip
    return bucket.lease(holder, ledger, Request(requests, **want), news, now)  # type: ignore[arg-type]


# ── what is stated ──


def test_an_account_of_a_spec_states_each_of_its_limits() -> None:
    account = Account(
        requests_per_minute=1.0, tokens_per_minute=2.0, requests_per_day=3.0, concurrency=4, share=0.5, budget_usd=6.0
    )
    assert Limits.of(account) == Limits(1.0, 2.0, 3.0, 4, 0.5, 6.0)


def test_of_several_limits_each_is_the_least_that_is_stated() -> None:
    some = [Limits(1.0, None, 30.0, 4, 0.5, None), Limits(10.0, 2.0, 3.0, None, 0.9, None), Limits(None, 20.0)]
    assert Limits.tightest(some) == Limits(1.0, 2.0, 3.0, 4, 0.5, None)


# ── when to ask again ──


def test_who_wants_nothing_says_something_before_it_is_taken_for_dead() -> None:
    assert ask(Bucket(Limits()), 0, 0.0) == Grant(0, SPEAK_S)
    assert SPEAK_S < SILENCE_S


def test_who_got_all_it_wanted_may_ask_at_once() -> None:
    assert ask(Bucket(Limits(requests_per_minute=600)), 4, 0.0) == Grant(4, 0.0)


def test_who_got_less_asks_again_when_a_tenth_of_a_seconds_worth_is_there() -> None:
    found = ask(Bucket(Limits(requests_per_minute=600)), 100, 0.0)
    assert found.granted == 4
    assert found.wait_s == pytest.approx(0.05)  # there is almost one more
    slow = ask(Bucket(Limits(requests_per_minute=6)), 2, 0.0)
    assert (slow.granted, slow.wait_s) == (1, 5.0)  # never longer than five seconds


def test_a_model_waits_as_long_as_the_slower_of_its_rates_and_the_accounts() -> None:
    bucket = Bucket(Limits(requests_per_minute=60))
    told = Feedback(heard=LimitHeaders(limit_requests=30))
    assert ask(bucket, 1, 0.0, model="m", news=told).granted == 1
    assert ask(bucket, 1, 0.5, model="m").wait_s == pytest.approx((1 - 0.5 * 0.495) / 0.495)


def test_who_waits_for_a_place_looks_twenty_times_a_second() -> None:
    bucket = Bucket(Limits(concurrency=2))
    assert ask(bucket, 3, 0.0) == Grant(2, 0.05)


def test_a_pause_is_waited_out_in_steps_of_five_seconds_at_most() -> None:
    bucket = Bucket(Limits())
    assert ask(bucket, 1, 0.0, news=Feedback(1, retry_after_s=7.0)) == Grant(0, 5.0)
    assert ask(bucket, 1, 5.0) == Grant(0, 2.0)
    assert ask(bucket, 1, 6.999) == Grant(0, 0.01)
    assert ask(bucket, 1, 7.0).granted == 1


def test_when_the_day_is_used_up_one_looks_every_five_seconds() -> None:
    bucket = Bucket(Limits(requests_per_day=3))
    assert ask(bucket, 5, 0.0) == Grant(3, 5.0)
    told = Feedback(heard=LimitHeaders(limit_requests=2, reset_requests_s=43_200))
    assert ask(Bucket(Limits()), 5, 0.0, news=told) == Grant(2, 5.0)


# ── places ──


def test_of_an_accounts_places_a_share_is_left_to_colleagues_and_one_is_always_ours() -> None:
    assert ask(Bucket(Limits(concurrency=10, share=0.55)), 99, 0.0).granted == 5
    assert ask(Bucket(Limits(concurrency=10, share=0.05)), 99, 0.0).granted == 1


def test_the_first_few_are_of_a_model_and_where_one_of_its_rates_is_known_there_are_as_many_as_it_allows() -> None:
    new = Usage()
    assert ask(Bucket(Limits()), 99, 0.0, ledger=new).granted == FIRST_IN_FLIGHT
    assert ask(Bucket(Limits(requests_per_minute=60_000)), 99, 0.0, ledger=new).granted == 99
    assert ask(Bucket(Limits(tokens_per_minute=60_000)), 99, 0.0, ledger=new, tokens_each=1.0).granted == 99
    both = Bucket(Limits())
    assert ask(both, 5, 0.0, "run/1", new).granted == 5
    assert ask(both, 5, 0.0, "run/2", new).granted == FIRST_IN_FLIGHT - 5


def test_places_are_shared_alike_and_what_one_does_not_want_is_the_others() -> None:
    bucket = Bucket(Limits(concurrency=10))
    assert ask(bucket, 99, 0.0, "run/1").granted == 10
    for name in ("run/2", "run/3"):
        assert ask(bucket, 99, 0.0, name).granted == 0
    assert ask(bucket, 99, 0.1, "run/1", Usage(held=4, finished=7)).granted == 0  # the two others lack three each
    assert ask(bucket, 1, 0.1, "run/2").granted == 1
    assert ask(bucket, 99, 0.1, "run/3").granted == 5  # of the nine others, half; four are held by the first


def test_who_is_silent_holds_its_places_for_a_while() -> None:
    for now, free in ((SILENCE_S, 0), (SILENCE_S + 0.1, 3)):
        bucket = Bucket(Limits(concurrency=3))
        assert ask(bucket, 3, 0.0, "run/1").granted == 3
        assert ask(bucket, 3, now, "run/2").granted == free


# ── money ──


def test_what_costs_nothing_is_granted_until_the_budget_is_spent() -> None:
    for spent, granted in ((0.99, 5), (1.0, 0)):
        bucket = Bucket(Limits(budget_usd=1.0))
        found = ask(bucket, 5, 0.0, ledger=Usage(finished=1, spent_usd=spent))
        assert (found.granted, found.stop is None) == (granted, granted > 0)


def test_as_many_are_granted_as_the_budget_pays_and_not_one_less_for_a_rounding_error() -> None:
    bucket = Bucket(Limits(budget_usd=0.3))
    assert ask(bucket, 9, 0.0, usd_each=0.1).granted == 3  # 0.3 // 0.1 is 2


def test_when_the_budget_is_spent_it_is_said_with_what_was_spent() -> None:
    bucket = Bucket(Limits(budget_usd=2.5))
    assert ask(bucket, 1, 0.0, ledger=Usage(spent_usd=2.45, finished=1), usd_each=0.1) == Grant(
        0,
        stop="the budget of 2.5 USD would be passed by the next request (2.4500 USD are spent); "
        "raise budget_usd, or --max-cost, to go on",
    )


def test_nothing_is_stopped_while_another_holders_reserved_money_may_come_back() -> None:
    bucket = Bucket(Limits(budget_usd=1.0))
    assert ask(bucket, 5, 0.0, "run/1", usd_each=0.5).granted == 2
    found = ask(bucket, 5, 1.0, "run/2", usd_each=0.5)
    assert (found.granted, found.stop) == (0, None)
    assert ask(bucket, 5, SILENCE_S + 1.0, "run/2", usd_each=0.5).stop is not None  # nobody will give it back


def test_a_run_that_begins_anew_is_believed_what_it_spent_once_its_holders_are_silent() -> None:
    for now, spent in ((SILENCE_S, 0.5), (SILENCE_S + 0.1, 0.3)):
        bucket = Bucket(Limits(budget_usd=1.0))
        ask(bucket, 0, 0.0, "run/1", Usage(spent_usd=0.4))
        ask(bucket, 0, 0.0, "other/1", Usage(spent_usd=0.1))
        bucket.began("run", 0.2, now)
        assert bucket.spent_usd == pytest.approx(spent)


def test_a_run_that_begins_anew_forgets_what_its_own_lost_holders_spent_and_no_other_runs() -> None:
    bucket = Bucket(Limits())
    lost = Bucket(Limits())
    ask(lost, 0, 0.0, "run/1", Usage(spent_usd=0.4))
    ask(lost, 0, 0.0, "other/1", Usage(spent_usd=0.1))
    bucket.remember(lost.told(0.0), 0.0)
    bucket.began("run", 0.2, 0.0)
    assert bucket.told(0.0).spent_usd == {"other/1": 0.1, "run": 0.2}


# ── who has gone ──


@pytest.mark.parametrize(("now", "known"), [(GONE_S, 1), (GONE_S + 1.0, 0)])
def test_who_was_silent_for_an_hour_is_forgotten_when_a_spec_is_stated(now: float, known: int) -> None:
    bucket = Bucket(Limits(), run="run")
    ask(bucket, 0, 0.0, "run/1", Usage(held=2, reserved_usd=0.25, spent_usd=0.5))
    bucket.restate(Limits(), now, "other")
    assert len(bucket._holders) == known
    assert bucket.told(now).spent_usd == {"run/1": 0.75}  # nobody knows how much of what it had reserved was spent


def test_limits_of_runs_that_nobody_has_heard_of_for_an_hour_are_forgotten() -> None:
    bucket = Bucket(Limits(), run="first")
    bucket.restate(Limits(requests_per_minute=1.0), 0.0, "long gone")
    bucket.restate(Limits(requests_per_minute=2.0), 0.0, "at work")
    ask(bucket, 0, GONE_S, "at work/1")
    bucket.restate(Limits(requests_per_minute=3.0), GONE_S, "new")
    assert list(bucket._stated) == ["first", "long gone", "at work", "new"]
    bucket.restate(Limits(requests_per_minute=3.0), GONE_S + 1.0, "new")
    assert list(bucket._stated) == ["first", "at work", "new"]


def test_who_was_forgotten_comes_back_as_a_new_one() -> None:
    bucket = Bucket(Limits(requests_per_minute=600))
    for second in range(20):
        ask(bucket, 100, float(second), "run/1")
    bucket.restate(Limits(requests_per_minute=600), GONE_S + 100.0)
    assert ask(bucket, 100, GONE_S + 100.0, "run/2").granted == 4
    assert ask(bucket, 100, GONE_S + 100.0, "run/1").granted == 0


# ── what people are shown ──


def test_the_status_of_an_account_is_of_all_its_models_and_of_the_rates_the_tightest() -> None:
    bucket = Bucket(Limits(requests_per_minute=600, tokens_per_minute=6000))
    tight = Feedback(throttled=1, retry_after_s=3.0, heard=LimitHeaders(limit_requests=60, limit_tokens=60_000))
    ask(bucket, 0, 0.0, "run/1", Usage(held=2, spent_usd=0.5), model="tight", news=tight)
    ask(bucket, 0, 0.0, "run/2", Usage(held=3, spent_usd=0.25), model="wide")
    ease = bucket.status(0.0, "tight")["ease"]
    assert ease < 1.0
    assert bucket.status(1.0) == pytest.approx(
        {
            "requests_per_minute": 60 * HEADROOM * (ease + 0.02),
            "tokens_per_minute": 6000 * HEADROOM * (ease + 0.02),
            "ease": ease + 0.02,
            "in_flight": 5.0,
            "paused_s": 2.0,
            "spent_usd": 0.75,
        }
    )
    assert bucket.status(1.0, "wide") == pytest.approx(
        {
            "requests_per_minute": 600 * HEADROOM,
            "tokens_per_minute": 6000 * HEADROOM,
            "ease": 1.0,
            "in_flight": 3.0,
            "paused_s": 0.0,
            "spent_usd": 0.75,
        }
    )


def test_an_account_without_limits_shows_none() -> None:
    assert Bucket(Limits()).status(0.0) == {"ease": 1.0, "in_flight": 0.0, "paused_s": 0.0, "spent_usd": 0.0}


# ── the limiter of a process ──


def test_a_limiter_of_one_process_asks_its_clock() -> None:
    now = [100.0]
    limiter = LocalLimiter(Limits(requests_per_minute=600), clock=lambda: now[0])
    want = Request(100)
    assert asyncio.run(limiter.lease("run/1", KNOWN, want, QUIET)).granted == 4
    now[0] = 100.2
    assert asyncio.run(limiter.lease("run/1", KNOWN, want, QUIET)).granted == 2
    assert asyncio.run(LocalLimiter().lease("run/1", KNOWN, want, QUIET)) == Grant(100)


class Recorded:
    """A limiter that answers what it is told to, and remembers what it was asked."""

    def __init__(self, answer: Grant) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Usage, Request, Feedback]] = []

    async def lease(self, holder: str, ledger: Usage, want: Request, news: Feedback) -> Grant:
        self.asked.append((holder, ledger, want, news))
        return self.answer


def both(permits: Grant, money: Grant, want: Request, news: Feedback = QUIET) -> tuple[Grant, Recorded, Recorded]:
    account, budget = Recorded(permits), Recorded(money)
    return asyncio.run(CombinedLimiter(account, budget).lease("run/1", KNOWN, want, news)), account, budget


def test_what_the_budget_grants_is_asked_of_the_account_which_alone_hears_the_news() -> None:
    news, want = Feedback(throttled=1), Request(9, 10.0, 0.1, "m")
    found, account, budget = both(Grant(3, 0.5), Grant(5, 0.25), want, news)
    assert budget.asked == [("run/1", KNOWN, want, QUIET)]
    assert account.asked == [("run/1", KNOWN, Request(5, 10.0, 0.1, "m"), news)]
    assert found == Grant(3, 0.25)  # for the rest the budget is asked first


def test_where_the_budget_grants_all_the_account_says_when_to_come_back() -> None:
    found, account, _ = both(Grant(3, 0.5), Grant(9, 0.25), Request(9))
    assert (found, account.asked[0][2]) == (Grant(3, 0.5), Request(9))


def test_a_budget_that_is_empty_stops_before_the_account_is_asked() -> None:
    found, account, _ = both(Grant(3), Grant(0, stop="empty"), Request(9))
    assert (found, account.asked) == (Grant(0, stop="empty"), [])


def test_what_the_account_stops_is_stopped_whatever_the_budget_has() -> None:
    found, _, _ = both(Grant(0, 1.0, "over"), Grant(5, 0.25), Request(9))
    assert found == Grant(0, 1.0, "over")
