"""The limits of an account."""

import asyncio
import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.rate_limits.account_bucket import FIRST_IN_FLIGHT, GONE_S, Bucket
from emoray.rate_limits.headers import heard
from emoray.rate_limits.local import CombinedLimiter, LocalLimiter
from emoray.rate_limits.protocol import SILENCE_S, Feedback, Grant, LimitHeaders, Limits, Request, Usage
from emoray.rate_limits.token_bucket import BURST_S, HEADROOM

QUIET = Feedback()
NOTHING = Request(0)
THIRST = Request(1000)


@dataclass
class Holder:
    """An honest holder: it books what it was granted and says so."""

    bucket: Bucket
    name: str = "run/one"
    ledger: Usage = field(default_factory=Usage)
    grants: list[tuple[float, int]] = field(default_factory=list)
    model: str = ""

    def ask(self, want: Request, now: float, news: Feedback = QUIET) -> Grant:
        want = replace(want, model=self.model)
        lease = self.bucket.lease(self.name, self.ledger, want, news, now)
        self.ledger = replace(
            self.ledger,
            held=self.ledger.held + lease.granted,
            reserved_usd=self.ledger.reserved_usd + lease.granted * want.usd_each,
        )
        self.grants.append((now, lease.granted))
        return lease

    def finish(self, n: int, *, tokens_back: float = 0.0, usd: float = 0.0, reserved: float = 0.0) -> None:
        self.ledger = replace(
            self.ledger,
            held=self.ledger.held - n,
            finished=self.ledger.finished + n,
            tokens_back=self.ledger.tokens_back + tokens_back,
            spent_usd=self.ledger.spent_usd + usd,
            reserved_usd=self.ledger.reserved_usd - reserved,
        )

    def drink(self, seconds: float, start: float = 0.0, want: Request = THIRST) -> int:
        """Ask as told to for so long, finishing everything at once; how many were granted."""
        now, total = start, 0
        while now < start + seconds:
            lease = self.ask(want, now)
            self.finish(lease.granted)
            total += lease.granted
            now += max(0.01, lease.wait_s)
        return total


def worst_window(grants: list[tuple[float, int]], per_s: float) -> float:
    """The most that any window granted beyond rate × seconds."""
    before = accumulate((n for _, n in grants), initial=0)
    opened = list(accumulate((so_far - per_s * at for so_far, (at, _) in zip(before, grants, strict=False)), min))
    granted = accumulate(n for _, n in grants)
    return max(so_far - per_s * at - least for so_far, (at, _), least in zip(granted, grants, opened, strict=True))


steps = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 400), st.floats(0, 3), st.integers(0, 3)), max_size=40
)


@settings(deadline=None)
@given(steps=steps, per_minute=st.floats(1, 60_000))
def test_no_window_ever_grants_more_requests_than_burst_plus_rate_times_seconds(
    steps: list[tuple[str, int, float, int]], per_minute: float
) -> None:
    bucket, now = Bucket(Limits(requests_per_minute=per_minute)), 0.0
    holders = {name: Holder(bucket, name) for name in "abc"}
    grants: list[tuple[float, int]] = [(0.0, 0)]
    for name, wanted, pause, throttled in steps:
        now += pause
        lease = holders[name].ask(Request(wanted), now, Feedback(throttled, 0.1 if throttled else None))
        grants.append((now, lease.granted))
    per_s = per_minute / 60
    assert worst_window(grants, per_s * HEADROOM) <= max(1.0, per_s * BURST_S) + 1e-3


@settings(deadline=None)
@given(steps=steps, per_minute=st.floats(100, 1e6), each=st.floats(1, 2000))
def test_no_window_ever_grants_more_tokens_than_burst_plus_rate_times_seconds(
    steps: list[tuple[str, int, float, int]], per_minute: float, each: float
) -> None:
    bucket, now = Bucket(Limits(tokens_per_minute=per_minute)), 0.0
    holders = {name: Holder(bucket, name) for name in "abc"}
    grants: list[tuple[float, int]] = [(0.0, 0)]
    for name, wanted, pause, _ in steps:
        now += pause
        grants.append((now, holders[name].ask(Request(wanted, each), now).granted))
    tokens = [(at, int(n * each)) for at, n in grants]
    per_s = per_minute / 60
    assert worst_window(tokens, per_s * HEADROOM) <= max(each, per_s * BURST_S) + len(steps) + 1


@settings(deadline=None)
@given(steps=steps, stated=st.floats(1, 60_000), told=st.tuples(st.floats(1, 60_000), st.floats(1, 60_000)))
def test_no_window_ever_grants_more_than_burst_plus_rate_times_seconds_of_the_account_and_of_each_model(
    steps: list[tuple[str, int, float, int]], stated: float, told: tuple[float, float]
) -> None:
    bucket, now = Bucket(Limits(requests_per_minute=stated)), 0.0
    models = {"a": "x", "b": "x", "c": "y"}
    limits = {model: LimitHeaders(limit_requests=limit) for model, limit in zip("xy", told, strict=True)}
    holders = {name: Holder(bucket, name, model=model) for name, model in models.items()}
    for holder in holders.values():
        holder.ask(NOTHING, 0.0, Feedback(heard=limits[holder.model]))
    for name, wanted, pause, throttled in steps:
        now += pause
        holders[name].ask(Request(wanted), now, Feedback(throttled, heard=limits[models[name]]))
    for model, per_minute in (("x", min(stated, told[0])), ("y", min(stated, told[1])), (None, stated)):
        grants = [at for holder in holders.values() if model in (None, holder.model) for at in holder.grants]
        per_s = per_minute / 60
        assert worst_window(sorted(grants), per_s * HEADROOM) <= max(1.0, per_s * BURST_S) + 1e-3


@settings(deadline=None, max_examples=30)
@given(per_minute=st.integers(60, 60_000))
def test_a_minute_of_thirst_gets_at_least_98_and_never_more_than_100_percent_of_the_limit(per_minute: int) -> None:
    holder = Holder(Bucket(Limits(requests_per_minute=per_minute)))
    holder.drink(10.0)
    granted = holder.drink(60.0, start=10.0)
    assert 0.98 * per_minute - 1 <= granted <= per_minute + 1


def test_two_holders_share_one_limit() -> None:
    bucket = Bucket(Limits(requests_per_minute=600))
    one, two = Holder(bucket, "run/one"), Holder(bucket, "other run/two")
    total = 0
    for tick in range(600):
        for holder in (one, two):
            total += holder.ask(Request(50), tick / 10).granted
    assert total <= 600


def test_a_share_leaves_the_rest_for_colleagues() -> None:
    holder = Holder(Bucket(Limits(requests_per_minute=1000, share=0.7)))
    holder.drink(5.0)
    assert holder.drink(60.0, start=5.0) <= 700


def test_a_request_larger_than_the_burst_is_granted_when_the_level_is_full_and_paid_off_afterwards() -> None:
    holder = Holder(Bucket(Limits(tokens_per_minute=600)))  # 10 a second, 5 at once
    assert holder.ask(Request(1, 100.0), 0.0).granted == 1
    assert holder.ask(Request(1, 100.0), 5.0).granted == 0
    assert holder.ask(Request(1, 100.0), 11.0).granted == 1


def test_estimated_tokens_are_corrected_to_real_ones() -> None:
    holder = Holder(Bucket(Limits(tokens_per_minute=60_000)))  # 495 at once
    assert holder.ask(Request(10, 100.0), 0.0).granted == 4
    holder.finish(4, tokens_back=4 * 90.0)
    assert holder.ask(Request(10, 100.0), 0.0).granted == 4
    holder.finish(4, tokens_back=4 * -100.0)
    assert holder.ask(Request(1, 100.0), 0.5).granted == 0


def test_never_more_are_in_flight_than_the_account_allows() -> None:
    bucket = Bucket(Limits(concurrency=10))
    one, two = Holder(bucket, "a/1"), Holder(bucket, "a/2")
    assert one.ask(Request(8), 0.0).granted == 8
    assert two.ask(Request(8), 0.0).granted == 2
    one.finish(5)
    one.ask(NOTHING, 1.0)
    assert two.ask(Request(8), 1.0).granted == 5


def test_what_a_dead_holder_held_is_free_again_and_what_it_reserved_counts_as_spent() -> None:
    bucket = Bucket(Limits(concurrency=10, budget_usd=10.0))
    dead, alive = Holder(bucket, "a/dead"), Holder(bucket, "a/alive")
    assert dead.ask(Request(10, usd_each=0.6), 0.0).granted == 10
    assert alive.ask(Request(10, usd_each=0.5), SILENCE_S / 2).granted == 0
    assert alive.ask(Request(10, usd_each=0.5), SILENCE_S + 1).granted == 8  # 10.00 - 6.00 = 8 × 0.50
    dead.finish(10, usd=1.0, reserved=6.0)  # it was only slow
    dead.ask(NOTHING, SILENCE_S + 2)
    assert alive.ask(Request(100, usd_each=0.5), SILENCE_S + 2).granted == 2


def test_a_holder_may_be_killed_and_born_again_under_another_name_without_losing_the_rate() -> None:
    bucket = Bucket(Limits(requests_per_minute=600))
    grants = [(float(life), Holder(bucket, f"a/{life}").ask(Request(100), float(life)).granted) for life in range(20)]
    assert worst_window(grants, 10 * HEADROOM) <= 10 * BURST_S


def test_at_most_so_many_requests_in_any_day() -> None:
    holder = Holder(Bucket(Limits(requests_per_minute=60_000, requests_per_day=500)))
    assert holder.drink(60.0) == 500
    assert holder.drink(3600.0, start=80_000.0) == 0
    assert holder.drink(600.0, start=86_400.0 + 60.0) == 500


def test_permits_that_were_returned_unused_are_no_part_of_the_day() -> None:
    holder = Holder(Bucket(Limits(requests_per_day=100)), ledger=Usage(finished=1))
    for minute in range(20):
        granted = holder.ask(Request(10), 60.0 * minute).granted
        assert granted == 10
        holder.ledger = replace(holder.ledger, held=0, requests_back=holder.ledger.requests_back + granted)


def test_a_message_that_comes_late_changes_nothing_of_the_day() -> None:
    holder = Holder(Bucket(Limits(requests_per_day=20)), ledger=Usage(finished=1))
    assert holder.ask(Request(10), 0.0).granted == 10
    early = holder.ledger
    holder.ledger = replace(early, held=0, requests_back=10)
    assert holder.ask(Request(10), 1.0).granted == 10
    holder.bucket.lease(holder.name, early, NOTHING, QUIET, 2.0)
    assert holder.ask(Request(100), 3.0).granted == 10


def test_permits_that_are_returned_later_are_taken_from_the_latest() -> None:
    bucket = Bucket(Limits(requests_per_day=100))
    holder = Holder(bucket, ledger=Usage(finished=1))
    holder.ask(Request(10), 0.0)
    holder.ask(Request(5), 1000.0)
    holder.ledger = replace(holder.ledger, held=3, requests_back=12)
    holder.ask(NOTHING, 2000.0)
    assert bucket.taken_today(2000.0) == 3
    assert bucket.taken_today(86_400.0 + 500.0) == 0


def test_of_a_days_requests_too_a_share_is_left_for_colleagues() -> None:
    assert Holder(Bucket(Limits(requests_per_day=40, share=0.5)), ledger=Usage(finished=1)).drink(60.0) == 20


def test_a_days_limit_that_headers_tell_of_one_model_is_that_ones() -> None:
    bucket = Bucket(Limits(share=0.5))
    day = Feedback(heard=LimitHeaders(limit_requests=40, reset_requests_s=43_200))
    few, many = (Holder(bucket, f"run/{model}", Usage(finished=1), model=model) for model in ("few", "many"))
    assert few.ask(THIRST, 0.0, day).granted == 20
    assert many.ask(THIRST, 0.0).granted == 1000
    assert few.ask(THIRST, 80_000.0).granted == 0


def test_the_requests_of_a_day_outlive_their_limiter_whoever_tells_them_and_however_often() -> None:
    day = Limits(requests_per_day=100)
    lost = Bucket(day, life="lost")
    one, two = (Holder(lost, f"run/{model}", Usage(finished=1), model=model) for model in ("one", "two"))
    one.ask(Request(30), 0.0)
    early = lost.told(60.0)
    two.ask(Request(30), 4000.0)
    late = lost.told(4060.0)
    reborn = Bucket(day, life="reborn")  # another machine: its clock shows something else
    for told in (late, early.aged(4000.0), late):
        reborn.remember(told, 500.0)
    assert reborn.taken_today(500.0) == 60
    three = Holder(reborn, "run/3", Usage(finished=1), model="one")
    assert three.ask(THIRST, 500.0).granted == 40
    reborn.remember(reborn.told(500.0), 500.0)
    reborn.remember(late.aged(10.0), 510.0)
    assert reborn.taken_today(510.0) == 100
    again = Bucket(day, life="again")
    again.remember(reborn.told(510.0).aged(20.0), 90_000.0)
    assert again.taken_today(90_000.0) == 100
    assert again.taken_today(90_000.0 + 86_400.0 + 300.0 - 4090.0) == 70  # what was taken first is a day old
    assert again.taken_today(90_000.0 + 86_400.0 + 300.0) == 0


def test_what_was_long_under_way_makes_the_requests_of_a_day_no_younger() -> None:
    lost, reborn = Bucket(Limits(requests_per_day=100), life="lost"), Bucket(Limits(), life="reborn")
    Holder(lost, ledger=Usage(finished=1)).ask(Request(30), 0.0)
    told = lost.told(0.0)
    reborn.remember(told, 50.0)
    reborn.remember(told.aged(50.0), 50.0)
    reborn.remember(told, 60.0)
    assert reborn.taken_today(86_400.0 + 299.0) == 30
    assert reborn.taken_today(86_400.0 + 300.0) == 0


def test_of_what_it_counted_itself_a_limiter_knows_best() -> None:
    bucket = Bucket(Limits(requests_per_day=100), life="mine")
    holder = Holder(bucket, ledger=Usage(finished=1))
    holder.ask(Request(10), 0.0)
    told = bucket.told(0.0)
    holder.ledger = replace(holder.ledger, held=0, requests_back=10)
    holder.ask(NOTHING, 1.0)
    bucket.remember(told, 2.0)
    assert bucket.taken_today(2.0) == 0


def test_requests_are_told_only_where_a_days_number_is_limited() -> None:
    without, told = Bucket(Limits(requests_per_minute=600)), Bucket(Limits())
    Holder(without, ledger=Usage(finished=1)).ask(Request(5), 0.0)
    assert not without.told(0.0).taken
    day = Feedback(heard=LimitHeaders(limit_requests=20, reset_requests_s=43_200))
    Holder(told, ledger=Usage(finished=1), model="m").ask(Request(5), 0.0, day)
    assert [requests for _, requests in told.told(0.0).taken.values()] == [5]
    reborn = Bucket(Limits(), life="reborn")  # no header told it yet
    reborn.remember(told.told(0.0), 0.0)
    assert reborn.told(0.0).taken == told.told(0.0).taken


def crowd(
    limits: Limits,
    each: Sequence[float],
    *,
    wanted: int = 256,
    latency_s: float = 1.0,
    seconds: float = 60.0,
    models: Sequence[str] = ("",),
    told: Mapping[str, LimitHeaders] = {},
) -> list[list[tuple[float, int]]]:
    """What holders, who always want more and ask when they are told to, are granted: (time, requests) of each.

    `models` are theirs in turn, `told` what the headers of each tell.
    """
    bucket = Bucket(limits)
    holders = [Holder(bucket, f"run/{i}", Usage(finished=1), model=models[i % len(models)]) for i in range(len(each))]
    under_way: list[list[tuple[float, int]]] = [[] for _ in each]
    turns = [(0.01 * i, i) for i in range(len(each))]
    while turns[0][0] < seconds:
        now, i = heapq.heappop(turns)
        holders[i].finish(sum(n for end, n in under_way[i] if end <= now))
        under_way[i] = [(end, n) for end, n in under_way[i] if end > now]
        news = Feedback(heard=told.get(holders[i].model))
        lease = holders[i].ask(Request(wanted - holders[i].ledger.held, each[i]), now, news)
        under_way[i].append((now + latency_s, lease.granted))
        heapq.heappush(turns, (now + max(0.04, lease.wait_s), i))
    return [[(at, n) for at, n in holder.grants if n] for holder in holders]


def longest_wait(grants: list[tuple[float, int]], seconds: float = 60.0) -> float:
    times = [0.0, *(at for at, _ in grants), seconds]
    return max(later - earlier for earlier, later in pairwise(times))


@settings(deadline=None, max_examples=15)
@given(per_minute=st.floats(20_000, 1e6), each=st.lists(st.floats(10, 2000), min_size=1, max_size=5))
def test_holders_who_want_more_than_there_is_take_turns_share_it_evenly_and_leave_nothing(
    per_minute: float, each: list[float]
) -> None:
    grants = crowd(Limits(tokens_per_minute=per_minute), each, wanted=100_000)
    tokens = [sum(n for _, n in of) * size for of, size in zip(grants, each, strict=True)]
    per_s, refill = per_minute / 60 * HEADROOM, per_minute / 60 * BURST_S
    one = max(*each, refill)  # what a turn takes at most
    for of in grants:
        assert longest_wait(of) <= (len(each) + 1) * 2 * one / per_s
    assert max(tokens) - min(tokens) <= 3 * one
    assert sum(tokens) >= 0.99 * per_s * 60 - 2 * one


def per_minute(grants: list[tuple[float, int]], after: float = 10.0, seconds: float = 60.0) -> float:
    """Once what came at once at the beginning is over."""
    return sum(n for at, n in grants if at >= after) / (seconds - after) * 60


def limit(requests: float) -> LimitHeaders:
    return LimitHeaders(limit_requests=requests)


@settings(deadline=None, max_examples=8)
@given(x=st.integers(600, 30_000), y=st.integers(600, 30_000))
def test_two_models_with_limits_of_their_own_fill_them_at_once_under_an_account_that_allows_both(
    x: int, y: int
) -> None:
    wide = Limits(requests_per_minute=1.02 * (x + y))
    grants = crowd(wide, [0.0] * 4, wanted=2000, models=["x", "y"], told={"x": limit(x), "y": limit(y)})
    of_x, of_y = (sum(per_minute(grants[i]) for i in range(model, 4, 2)) for model in (0, 1))
    assert of_x == pytest.approx(0.99 * x, rel=0.01)
    assert of_y == pytest.approx(0.99 * y, rel=0.01)


@pytest.mark.parametrize(
    ("stated", "x", "y", "of_x", "of_y"),
    [
        (3000, 6000, 6000, 1485, 1485),
        (3000, 6000, 2000, 1485, 1485),
        (3000, 6000, 600, 2376, 594),
        (30_000, 60_000, 120, 29_581, 119),
    ],
)
def test_an_account_that_allows_less_than_its_models_together_is_shared_by_halves_and_what_one_cannot_use_is_the_others(
    stated: float, x: float, y: float, of_x: float, of_y: float
) -> None:
    told = {"x": limit(x), "y": limit(y)}
    grants = crowd(Limits(requests_per_minute=stated), [0.0] * 2, wanted=2000, models=["x", "y"], told=told)
    assert per_minute(grants[0]) == pytest.approx(of_x, rel=0.015)
    assert per_minute(grants[1]) == pytest.approx(of_y, rel=0.04)


def test_a_model_with_a_low_limit_gets_all_of_it_however_many_want_more_of_the_account() -> None:
    models = ["slow", *["fast"] * 20]
    grants = crowd(Limits(requests_per_minute=30_000), [0.0] * 21, models=models, told={"slow": limit(120)})
    assert per_minute(grants[0]) >= 0.96 * 120


def test_one_that_could_use_little_for_long_does_not_keep_out_the_others_when_it_can_use_more() -> None:
    bucket = Bucket(Limits(requests_per_minute=6000))
    slow, fast = (Holder(bucket, f"run/{model}", Usage(finished=1), model=model) for model in ("slow", "fast"))
    for tick in range(2400):
        now = tick * 0.05
        slow.ask(Request(100), now, Feedback(heard=limit(60 if now < 60 else 6000)))
        fast.ask(Request(100), now)
    of_slow, of_fast = (sum(n for at, n in of.grants if 60 <= at < 65) for of in (slow, fast))
    assert of_slow + of_fast == pytest.approx(5 * 99, abs=50)
    assert min(of_slow, of_fast) >= 0.35 * 5 * 99


def test_who_waits_for_one_permit_of_the_account_holds_no_more_back_than_one() -> None:
    bucket = Bucket(Limits(requests_per_minute=6000))
    fast, slow = (Holder(bucket, f"run/{model}", model=model) for model in ("fast", "slow"))
    assert fast.ask(THIRST, 0.0).granted == 49  # half a second's
    assert slow.ask(THIRST, 0.0, Feedback(heard=limit(60))).granted == 0
    assert fast.ask(THIRST, 0.5).granted == 48


def test_who_waits_for_one_place_holds_no_more_of_them_back() -> None:
    bucket = Bucket(Limits(concurrency=20))
    fast, slow = (Holder(bucket, f"run/{model}", model=model) for model in ("fast", "slow"))
    assert fast.ask(THIRST, 0.0).granted == 20
    assert slow.ask(THIRST, 0.0, Feedback(heard=limit(60))).granted == 0
    fast.finish(15)
    assert fast.ask(THIRST, 0.1).granted == 14


def test_holders_of_one_model_take_turns_whatever_another_model_does() -> None:
    told = {"x": limit(600), "y": limit(6000)}
    grants = crowd(Limits(requests_per_minute=12_000), [0.0] * 6, models=["x", "y"], told=told)
    for model in (0, 1):
        counts = [sum(n for _, n in of) for of in grants[model::2]]
        assert sum(counts) == pytest.approx((600, 6000)[model], rel=0.03)
        assert max(counts) - min(counts) <= 0.05 * max(counts)


def test_a_model_that_waits_for_its_own_rate_keeps_no_places_from_another() -> None:
    grants = crowd(Limits(concurrency=20), [0.0] * 2, models=["slow", "fast"], told={"slow": limit(60)})
    slow, fast = (per_minute(of) for of in grants)
    assert slow == pytest.approx(59, abs=7)
    assert fast >= 0.9 * (20 - 1) * 60


def test_429s_and_pauses_of_one_model_leave_another_as_it_was() -> None:
    bucket = Bucket(Limits(requests_per_minute=6000))
    hit, well = Holder(bucket, "run/1", model="hit"), Holder(bucket, "run/2", model="well")
    for second in range(20):
        hit.ask(Request(10), float(second), Feedback(5, retry_after_s=100.0))
        hit.finish(hit.ledger.held)
    assert well.drink(60.0, start=20.0) >= 0.98 * 6000
    assert bucket.status(80.0, "well")["ease"] == 1.0
    assert bucket.status(20.0, "hit")["ease"] < 0.5
    assert bucket.status(80.0)["paused_s"] == bucket.status(80.0, "hit")["paused_s"] == pytest.approx(39.0)


def test_what_headers_say_is_left_of_one_model_binds_that_one_and_comes_back_with_time() -> None:
    bucket = Bucket(Limits(requests_per_minute=6000))
    one, other = Holder(bucket, "run/1", model="one"), Holder(bucket, "run/2", model="other")
    assert one.ask(Request(40), 0.0, Feedback(heard=LimitHeaders(remaining_requests=3))).granted == 3
    assert other.ask(Request(40), 0.0).granted == 40
    later = Feedback(heard=LimitHeaders(remaining_requests=0), heard_age_s=0.1)
    assert one.ask(Request(40), 1.0, later).granted == 9  # 99 a second


@pytest.mark.parametrize("places", [1, 3, 8])
@pytest.mark.parametrize("lanes", [2, 5])
def test_no_lane_keeps_the_places_of_an_account_to_itself(places: int, lanes: int) -> None:
    grants = crowd(Limits(concurrency=places), [0.0] * lanes)
    counts = [sum(n for _, n in of) for of in grants]
    assert min(counts) >= 0.9 * max(counts)
    assert all(longest_wait(of) <= 2 * lanes for of in grants)
    assert sum(counts) >= 0.85 * places * 60


def test_who_died_while_it_was_its_turn_holds_nobody_up() -> None:
    bucket = Bucket(Limits(requests_per_minute=60))
    dead, alive = Holder(bucket, "run/dead"), Holder(bucket, "run/alive")
    alive.ask(THIRST, 0.0)
    assert dead.ask(THIRST, 0.1).granted == 0
    assert alive.ask(THIRST, 1.2).granted == 0  # it was the other's turn
    assert alive.ask(THIRST, 5.0).granted == 1


def test_a_rate_changed_in_the_spec_takes_effect() -> None:
    bucket = Bucket(Limits(requests_per_minute=600))
    holder = Holder(bucket)
    holder.drink(5.0)
    bucket.restate(Limits(requests_per_minute=6000), 5.0)
    assert holder.drink(60.0, start=5.0) >= 0.98 * 6000
    bucket.restate(Limits(requests_per_minute=60), 65.0)
    assert holder.drink(60.0, start=70.0) <= 61


def rpm(bucket: Bucket, now: float) -> float | None:
    rate = bucket.status(now).get("requests_per_minute")
    return None if rate is None else round(rate / HEADROOM)


def test_a_colleague_who_states_nothing_lifts_no_limit_of_a_run_at_work() -> None:
    bucket = Bucket(Limits(requests_per_minute=600, share=0.7), run="mine")
    Holder(bucket, "mine/1").ask(NOTHING, 0.0)
    bucket.restate(Limits(concurrency=5), 1.0, "theirs")
    assert (rpm(bucket, 1.0), bucket.limits.concurrency) == (420, 5)


def test_of_several_runs_at_work_the_tightest_limits_hold_whoever_came_last() -> None:
    for first, last in ((600, 6000), (6000, 600)):
        bucket = Bucket(Limits(requests_per_minute=first), run="a")
        bucket.restate(Limits(requests_per_minute=last), 0.0, "b")
        for name in ("a/1", "b/1"):
            Holder(bucket, name).ask(NOTHING, 0.0)
        assert rpm(bucket, 1.0) == 600


def test_the_limits_of_a_run_that_has_ended_do_not_hold_but_the_latest_do_until_another_states_some() -> None:
    bucket = Bucket(Limits(requests_per_minute=600), run="a")
    bucket.restate(Limits(requests_per_minute=6000), 0.0, "b")
    Holder(bucket, "a/1").ask(NOTHING, 0.0)
    assert [rpm(bucket, now) for now in (SILENCE_S, SILENCE_S + 1.0)] == [600, 6000]
    Holder(bucket, "a/2").ask(NOTHING, 100.0)  # resumed by a new actor
    assert rpm(bucket, 101.0) == 600


def test_a_changed_spec_of_a_run_replaces_what_it_stated_before() -> None:
    bucket = Bucket(Limits(requests_per_minute=600, concurrency=3), run="a")
    Holder(bucket, "a/1").ask(NOTHING, 0.0)
    bucket.restate(Limits(requests_per_minute=6000), 1.0, "a")
    assert (rpm(bucket, 1.0), bucket.limits.concurrency) == (6000, None)


def test_who_is_long_gone_is_forgotten_but_for_the_money_that_is_or_may_be_spent() -> None:
    bucket = Bucket(Limits(budget_usd=10.0), run="a")
    for n in range(50):
        Holder(bucket, f"a/{n}", Usage(held=1, reserved_usd=0.05, spent_usd=0.1)).ask(NOTHING, float(n))
    bucket.restate(Limits(budget_usd=10.0), GONE_S + 25.0, "a")
    assert len(bucket._holders) == 25
    late = Holder(bucket, "a/0", Usage(spent_usd=0.2, finished=1))  # it lives after all, and speaks for itself
    assert late.ask(Request(1000, usd_each=0.1), GONE_S + 26.0).granted == int((10.0 - 0.2 - 49 * 0.15) / 0.1)


def test_a_429_pauses_as_long_as_the_provider_says_cuts_the_rate_at_once_and_restores_it_slowly() -> None:
    holder = Holder(Bucket(Limits(requests_per_minute=6000)))
    holder.drink(10.0)
    assert holder.ask(Request(10), 10.0, Feedback(10, retry_after_s=2.5)).granted == 0
    assert holder.ask(Request(10), 12.4).granted == 0
    assert holder.ask(Request(10), 12.6).granted > 0
    soon = holder.drink(2.0, start=12.6)
    late = holder.drink(2.0, start=60.0)
    assert soon < 0.95 * late
    assert late >= 0.98 * 200


@pytest.mark.parametrize(("refused", "ease"), [(1, 0.98), (5, 0.9), (10, 0.8), (50, 0.8)])
@pytest.mark.parametrize("stated", [600, 6000])
def test_a_burst_of_429s_is_one_event_and_costs_twice_the_part_that_was_refused_but_never_more_than_a_fifth(
    stated: float, refused: int, ease: float
) -> None:
    at_once, by_and_by = Bucket(Limits(requests_per_minute=stated)), Bucket(Limits(requests_per_minute=stated))
    for bucket in (at_once, by_and_by):
        Holder(bucket).drink(10.0)
    Holder(at_once, "run/2").ask(Request(1), 10.0, Feedback(refused))
    for n in range(refused):
        Holder(by_and_by, f"run/{n}").ask(Request(1), 10.0 + n / 1000, Feedback(1))
    assert at_once.status(10.0)["ease"] == pytest.approx(ease, abs=0.01)
    assert by_and_by.status(10.0 + refused / 1000)["ease"] == pytest.approx(ease, abs=0.01)


def test_a_second_burst_soon_after_shows_a_lower_limit_and_costs_a_fifth_and_one_much_later_does_not() -> None:
    bucket = Bucket(Limits(requests_per_minute=6000))
    holder = Holder(bucket)
    eases = []
    for at in (10.0, 25.0, 95.0):
        holder.drink(10.0, start=at - 10.0)
        holder.ask(Request(1), at, Feedback(3))
        eases.append(bucket.status(at)["ease"])
    assert eases == pytest.approx([0.94, 0.8, 0.94], abs=0.01)


def asked_of_a_provider(
    stated: float, true: float, *, unlucky: float = 0.0, seconds: float = 300.0
) -> tuple[float, float]:
    """(part of the true limit that was used, part of the requests answered 429) where no header tells the limit.

    `unlucky` is the part of the requests that is refused whatever the limit.
    """
    holder, chance = Holder(Bucket(Limits(requests_per_minute=stated)), ledger=Usage(finished=1)), random.Random(7)
    per_s = true / 60
    level, now, throttled, admitted, refused = per_s, 0.0, 0, 0, 0
    while now < seconds:
        lease = holder.ask(Request(100_000), now, Feedback(throttled) if throttled else QUIET)
        holder.finish(lease.granted)
        throttled = sum(chance.random() < unlucky for _ in range(lease.granted))
        throttled = max(throttled, lease.granted - int(level))
        level -= lease.granted - throttled
        admitted, refused = admitted + lease.granted - throttled, refused + throttled
        wait_s = max(0.04, lease.wait_s)
        level, now = min(per_s, level + per_s * wait_s), now + wait_s
    return admitted / (per_s * seconds), refused / (admitted + refused)


@pytest.mark.parametrize("stated", [600, 6000, 30_000])
@pytest.mark.parametrize("unlucky", [0.0, 1 / 3000])
def test_a_limit_that_is_as_stated_is_filled_even_where_few_requests_among_many_are_refused(
    stated: float, unlucky: float
) -> None:
    used, refused = asked_of_a_provider(stated, stated, unlucky=unlucky)
    assert used >= 0.98
    assert refused <= 0.002


@pytest.mark.parametrize("stated", [6000, 30_000])
@pytest.mark.parametrize("part", [0.95, 0.7, 0.4])
def test_a_limit_that_is_lower_than_stated_is_found(stated: float, part: float) -> None:
    used, refused = asked_of_a_provider(stated, part * stated)
    assert used >= 0.95
    assert refused <= 0.02


def test_however_many_429s_come_a_tenth_of_the_rate_remains() -> None:
    bucket = Bucket(Limits(requests_per_minute=6000))
    holder = Holder(bucket)
    for second in range(200):
        holder.ask(Request(1), float(2 * second), Feedback(1))
    assert bucket.status(400.0)["requests_per_minute"] >= 590


def test_a_limit_that_429s_show_is_left_slowly_and_forgotten_after_a_quiet_while() -> None:
    bucket = Bucket(Limits(requests_per_minute=6000))
    for second in range(20):
        Holder(bucket).ask(Request(1), float(second), Feedback(1))
    assert bucket.status(29.0)["ease"] == pytest.approx(0.125, abs=0.01)
    assert bucket.status(100.0)["ease"] == 1.0


def test_where_no_rate_is_stated_the_first_429_teaches_one() -> None:
    bucket = Bucket(Limits())
    holder = Holder(bucket)
    for tick in range(100):  # 100 a second for five seconds and more
        holder.ask(Request(10), tick / 10)
        holder.finish(10)
    holder.ask(NOTHING, 10.0, Feedback(1))
    assert bucket.status(10.0)["requests_per_minute"] == pytest.approx(0.8 * 6000, rel=0.1)
    assert "requests_per_minute" not in bucket.status(10_000.0)


def test_until_the_first_answer_only_a_few_are_in_flight_where_no_rate_is_stated() -> None:
    holder = Holder(Bucket(Limits()))
    assert holder.ask(Request(256), 0.0).granted == FIRST_IN_FLIGHT
    holder.finish(1)
    assert holder.ask(Request(256), 0.1).granted == 256
    assert Holder(holder.bucket, "run/2", model="another").ask(Request(256), 0.2).granted == FIRST_IN_FLIGHT


def test_headers_correct_a_spec_that_promises_too_much_and_never_raise_one_that_promises_little() -> None:
    for stated, told, real in ((6000.0, 600.0, 600.0), (600.0, 6000.0, 600.0)):
        bucket = Bucket(Limits(requests_per_minute=stated))
        Holder(bucket).ask(Request(1), 0.0, Feedback(heard=LimitHeaders(limit_requests=told)))
        assert bucket.status(0.0)["requests_per_minute"] == pytest.approx(real * HEADROOM)


def test_headers_alone_are_enough_to_know_the_limits() -> None:
    bucket = Bucket(Limits(share=0.5))
    Holder(bucket).ask(Request(1), 0.0, Feedback(heard=LimitHeaders(limit_requests=600, limit_tokens=90_000)))
    status = bucket.status(0.0)
    assert status["requests_per_minute"] == pytest.approx(300 * HEADROOM)
    assert status["tokens_per_minute"] == pytest.approx(45_000 * HEADROOM)


def test_a_reset_of_more_than_two_minutes_shows_that_a_limit_is_a_days() -> None:
    bucket = Bucket(Limits())
    holder = Holder(bucket)
    holder.ask(
        Request(1),
        0.0,
        Feedback(heard=LimitHeaders(limit_requests=200, remaining_requests=100, reset_requests_s=43_200)),
    )
    assert "requests_per_minute" not in bucket.status(0.0)
    holder.finish(1)
    assert holder.ask(Request(1000), 1.0).granted <= 200


def test_never_more_is_counted_on_than_the_provider_says_is_left() -> None:
    holder = Holder(Bucket(Limits(requests_per_minute=6000)))
    assert holder.ask(Request(40), 0.0, Feedback(heard=LimitHeaders(remaining_requests=3))).granted == 3


def test_asking_stops_before_the_budget_is_passed_and_not_while_reserved_money_may_come_back() -> None:
    holder = Holder(Bucket(Limits(budget_usd=1.0)))
    assert holder.ask(Request(100, usd_each=0.3), 0.0).granted == 3
    waiting = holder.ask(Request(1, usd_each=0.3), 0.1)
    assert waiting.granted == 0
    assert waiting.stop is None
    holder.finish(3, usd=0.3, reserved=0.9)
    assert holder.ask(Request(100, usd_each=0.3), 0.2).granted == 2
    holder.finish(2, usd=0.55, reserved=0.6)
    stopped = holder.ask(Request(1, usd_each=0.3), 0.3)
    assert stopped.granted == 0
    assert stopped.stop is not None
    assert "budget of 1 USD" in stopped.stop
    assert "raise budget_usd, or --max-cost" in stopped.stop


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1), st.booleans()), max_size=40))
def test_whatever_requests_really_cost_the_budget_is_never_passed(
    steps: list[tuple[int, float, bool]],
) -> None:
    bucket = Bucket(Limits(budget_usd=2.0))
    holders = [Holder(bucket, "a/1"), Holder(bucket, "a/2")]
    for now, (wanted, part, first) in enumerate(steps):
        holder = holders[first]
        lease = holder.ask(Request(wanted, usd_each=0.1), float(now))
        if lease.granted:
            holder.finish(lease.granted, usd=lease.granted * 0.1 * part, reserved=lease.granted * 0.1)
    assert sum(holder.ledger.spent_usd for holder in holders) <= 2.0 + 1e-9


def test_what_a_run_spent_before_counts_and_is_not_counted_twice() -> None:
    bucket = Bucket(Limits(budget_usd=1.0))
    Holder(bucket, "run/1", Usage(spent_usd=0.4)).ask(NOTHING, 0.0)
    Holder(bucket, "other/1", Usage(spent_usd=0.1)).ask(NOTHING, 0.0)
    bucket.began("run", 0.4, now=SILENCE_S + 1)  # restarted: its own journal says so
    assert bucket.spent_usd == pytest.approx(0.5)


def test_a_second_lane_of_a_run_does_not_count_again_what_the_first_one_says() -> None:
    bucket = Bucket(Limits(budget_usd=1.0))
    bucket.began("run", 0.2, now=0.0)
    first = Holder(bucket, "run/1", Usage(spent_usd=0.3))
    first.ask(NOTHING, 1.0)
    bucket.began("run", 0.45, now=2.0)  # the journal already has half of what the first lane spent
    first.ask(NOTHING, 3.0)
    assert bucket.spent_usd == pytest.approx(0.5)


def test_a_limiter_born_again_knows_what_its_holders_spent_after_one_message_each() -> None:
    reborn = Bucket(Limits(requests_per_minute=600, budget_usd=1.0))
    holder = Holder(reborn, "run/1", Usage(held=3, spent_usd=0.7, finished=100, tokens_back=1e6, requests_back=50))
    holder.ask(NOTHING, 0.0)
    assert reborn.spent_usd == 0.7
    assert reborn.status(0.0)["in_flight"] == 3
    assert holder.ask(Request(1000), 0.0).granted <= 5  # old corrections fill nothing


def test_what_is_remembered_of_a_lost_limiter_counts_once_whoever_tells_it_and_however_often() -> None:
    lost = Bucket(Limits(budget_usd=10.0))
    lost.began("run", 1.0, now=0.0)
    ended, alive = Holder(lost, "run/ended", Usage(spent_usd=2.0)), Holder(lost, "run/1", Usage(spent_usd=0.5))
    ended.ask(NOTHING, 1.0)
    early = lost.told(1.0)
    alive.ask(NOTHING, 2.0)
    reborn = Bucket(Limits(budget_usd=10.0))
    for told in (lost.told(2.0), early, lost.told(2.0)):
        reborn.remember(told, 2.0)
    assert reborn.spent_usd == pytest.approx(3.5)
    alive.bucket, alive.ledger = reborn, replace(alive.ledger, spent_usd=0.7)
    alive.ask(NOTHING, 3.0)
    reborn.remember(lost.told(3.0), 3.0)
    assert reborn.spent_usd == pytest.approx(3.7)
    reborn.began("run", 3.0, now=100.0)  # all are gone, and the journal knows best
    assert reborn.spent_usd == pytest.approx(3.0)


def test_a_repeated_message_does_no_harm() -> None:
    bucket = Bucket(Limits(tokens_per_minute=60_000, budget_usd=1.0))
    ledger = Usage(held=2, spent_usd=0.1, tokens_back=50.0, finished=5)
    for now in (0.0, 0.0, 0.0):
        bucket.lease("run/1", ledger, NOTHING, QUIET, now)
    assert bucket.spent_usd == 0.1
    assert bucket.status(0.0)["in_flight"] == 2


def test_a_run_has_a_budget_over_all_its_accounts() -> None:
    budget = LocalLimiter(Limits(budget_usd=1.0))
    accounts = [CombinedLimiter(LocalLimiter(Limits(requests_per_minute=6000)), budget) for _ in range(2)]
    ledger = Usage(finished=1)

    async def spend() -> list[int]:
        want = Request(4, usd_each=0.2)
        return [(await account.lease(f"run/{i}", ledger, want, QUIET)).granted for i, account in enumerate(accounts)]

    assert asyncio.run(spend()) == [4, 1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8.64s", 8.64), ("6m0s", 360), ("12ms", 0.012), ("1h2m3s", 3723), ("1d", 86_400), ("20", 20), ("soon", None)],
)
def test_resets_are_read_as_openai_and_azure_write_them(text: str, seconds: float | None) -> None:
    says = heard({"x-ratelimit-reset-requests": text, "x-ratelimit-limit-requests": "5"})
    assert says is not None
    assert says.reset_requests_s == (None if seconds is None else pytest.approx(seconds))


def test_a_server_that_tells_a_limit_of_zero_tells_none() -> None:
    says = heard({"x-ratelimit-limit-requests": "0", "x-ratelimit-limit-tokens": "0"})
    holder = Holder(Bucket(Limits()), ledger=Usage(finished=1))
    assert holder.ask(Request(5, 10.0), 0.0, Feedback(heard=says)).granted == 5
    assert holder.ask(Request(5, 10.0), 0.1).granted == 5


def test_headers_without_limits_say_nothing() -> None:
    assert heard({"content-type": "application/json"}) is None
