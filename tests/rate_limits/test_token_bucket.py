"""A bucket that fills with time, to the last unit, and whose turn it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.rate_limits.protocol import Request
from emoray.rate_limits.token_bucket import HEADROOM, Allowance, Rates, Turns, least, per_s

NOBODY = Request(0)


def allowance(rate: float | None = 10.0, *, taken: float = 0.0) -> Allowance:
    """One of so much a second at second 0; 10 have a burst of 5."""
    some = Allowance()
    some.refill(0.0)
    some.set(rate, 1.0)
    some.take(taken)
    return some


# ── what is in a bucket ──


def test_it_begins_with_half_a_seconds_worth() -> None:
    assert allowance().fit(1.0) == 5.0


def test_of_a_rate_below_two_a_second_one_may_be_asked_at_once() -> None:
    assert (allowance(0.5).burst, allowance(0.5).fit(1.0)) == (1.0, 1.0)


def test_it_fills_with_time_and_not_beyond_the_burst() -> None:
    some = allowance(taken=5.0)
    some.refill(0.25)
    assert some.level == pytest.approx(2.5)
    some.refill(0.5)
    assert some.level == pytest.approx(5.0)
    some.refill(60.0)
    assert some.level == 5.0


def test_a_debt_is_paid_off_before_anything_may_be_taken() -> None:
    some = allowance(taken=10.0)
    assert (some.level, some.fit(1.0)) == (-5.0, 0.0)
    some.refill(0.55)
    assert some.fit(1.0) == 0.0
    some.refill(0.65)
    assert some.fit(1.0) == 1.0


def test_a_clock_that_goes_back_gives_nothing_twice() -> None:
    some = allowance(taken=5.0)
    for now in (0.1, 0.0, 0.1):
        some.refill(now)
    assert some.level == pytest.approx(1.0)
    some.refill(0.2)
    assert some.level == pytest.approx(2.0)


def test_what_is_given_back_does_not_fill_it_beyond_the_burst() -> None:
    some = allowance(taken=1.0)
    some.take(-3.0)
    assert some.level == 5.0


def test_a_rate_that_falls_keeps_no_more_than_its_burst_and_one_that_rises_fills_nothing() -> None:
    some = allowance()
    some.set(4.0, 1.0)
    assert (some.burst, some.level) == (2.0, 2.0)
    some.set(10.0, 1.0)
    assert (some.burst, some.level) == (5.0, 2.0)


def test_a_limit_that_was_gone_and_comes_back_begins_full() -> None:
    some = allowance(taken=100.0)
    some.set(None, 1.0)
    some.take(100.0)
    some.cap(0.0, 0.0)
    assert some.fit(1.0) == float("inf")
    some.set(10.0, 1.0)
    assert some.level == 5.0


def test_time_without_a_limit_is_no_time_in_which_it_filled() -> None:
    some = allowance(None)
    some.refill(100.0)
    some.set(10.0, 1.0)
    some.take(5.0)
    some.refill(100.1)
    assert some.level == pytest.approx(1.0)


@pytest.mark.parametrize(("short_of_one", "fits"), [(1e-7, 1.0), (1e-5, 0.0)])
def test_what_is_missing_by_a_rounding_error_is_there(short_of_one: float, fits: float) -> None:
    assert allowance(taken=4.0 + short_of_one).fit(1.0) == fits


@pytest.mark.parametrize(("taken", "fits"), [(0.0, 1.0), (1e-7, 1.0), (0.1, 0.0)])
def test_one_that_is_larger_than_the_burst_waits_until_the_bucket_is_full(taken: float, fits: float) -> None:
    assert allowance(taken=taken).fit(7.0) == fits


def test_as_many_fit_as_there_are_after_what_is_left_for_others() -> None:
    assert allowance().fit(2.0) == 2.0
    assert allowance().fit(1.0, leaving=2.0) == 3.0
    assert allowance().fit(7.0, leaving=0.5) == 0.0
    assert allowance().fit(1.0, leaving=9.0) == 0.0


def test_what_takes_nothing_always_fits() -> None:
    assert allowance(taken=100.0).fit(0.0) == float("inf")


@pytest.mark.parametrize(
    ("each", "n", "found"),
    [
        (1.0, 0, 0.0),
        (1.0, 2, 2.0),
        (1.0, 100, 2.5),  # half the burst
        (4.0, 100, 4.0),  # but one at least
        (7.0, 1, 5.0),  # and no more than there can be
    ],
)
def test_whose_turn_it_is_finds_one_and_up_to_half_the_burst(each: float, n: int, found: float) -> None:
    assert allowance().claim(each, n) == found


@pytest.mark.parametrize(
    ("rate", "taken", "each", "n", "wait_s"),
    [
        (10.0, 5.0, 1.0, 1, 0.1),
        (10.0, 5.0, 1.0, 100, 0.1),  # one, which is a tenth of a second's worth
        (100.0, 50.0, 1.0, 100, 0.1),  # ten of them
        (100.0, 50.0, 1.0, 3, 0.03),  # or what is wanted
        (10.0, 5.0, 3.0, 2, 0.3),
        (10.0, 5.0, 7.0, 1, 0.5),  # until it is full
        (10.0, 10.0, 1.0, 1, 0.6),  # a debt first
        (10.0, 0.0, 1.0, 1, 0.0),
        (None, 0.0, 1.0, 1, 0.0),
    ],
)
def test_who_must_wait_is_told_how_long(rate: float | None, taken: float, each: float, n: int, wait_s: float) -> None:
    assert allowance(rate, taken=taken).wait_s(each, n) == pytest.approx(wait_s)


@given(taken=st.floats(0, 20), each=st.floats(0.01, 20), n=st.integers(1, 50))
def test_who_waited_as_long_as_told_can_take_one(taken: float, each: float, n: int) -> None:
    some = allowance(taken=taken)
    some.refill(some.wait_s(each, n) + 1e-9)
    assert some.fit(each) >= 1.0


def test_what_a_provider_says_is_left_binds_with_what_came_since() -> None:
    some = allowance()
    some.cap(1.0, age_s=0.2)
    assert some.level == pytest.approx(3.0)
    some.cap(100.0, age_s=0.0)
    assert some.level == pytest.approx(3.0)


# ── whose turn it is ──


def test_who_has_had_the_least_goes_first() -> None:
    turns = Turns()
    for name in ("a", "b"):
        turns.come(name, [])
    turns.take("a", 2.0)
    assert turns.order(["a", "b"]) == ["b", "a"]
    turns.take("b", 3.0)
    assert turns.order(["a", "b"]) == ["a", "b"]


def test_who_comes_new_is_no_further_behind_than_the_one_whose_turn_was_last_or_any_that_wait() -> None:
    turns = Turns()
    turns.come("a", [])
    for _ in range(3):
        turns.take("a", 2.0)  # the last turn was that of one who had had 4
    turns.come("b", [])
    turns.take("b", 1.0)
    assert turns.order(["a", "b"]) == ["b", "a"]  # 5 and 6
    turns.come("c", ["a", "b"])
    turns.take("c", 1.5)
    assert turns.order(["a", "b", "c"]) == ["b", "c", "a"]
    turns.come("d", [])
    turns.come("e", ["a"])
    turns.take("e", 0.5)
    assert turns.order(["e", "d"]) == ["d", "e"]


def test_one_that_waits_far_behind_lets_a_new_one_be_as_far_behind() -> None:
    turns = Turns()
    for name in ("old", "busy"):
        turns.come(name, [])
    for _ in range(5):
        turns.take("busy", 1.0)
    turns.come("new", ["old", "busy"])
    turns.take("new", 0.5)
    assert turns.order(["new", "old", "busy"]) == ["old", "new", "busy"]


def test_who_was_away_comes_back_with_what_it_had_and_no_further_behind_than_the_others() -> None:
    turns = Turns()
    for name in ("early", "late"):
        turns.come(name, [])
    turns.take("early", 9.0)
    for _ in range(4):
        turns.take("late", 2.0)
    turns.come("early", ["late"])
    assert turns.order(["early", "late"]) == ["late", "early"]  # 9 and 8
    for _ in range(4):
        turns.take("late", 2.0)
    turns.come("early", ["late"])
    turns.take("early", 1.0)
    assert turns.order(["early", "late"]) == ["early", "late"]  # it was brought to 14, where the last turn began


def test_who_is_forgotten_has_had_nothing_and_may_come_again() -> None:
    turns = Turns()
    for name in ("a", "b"):
        turns.come(name, [])
    turns.take("a", 7.0)
    turns.forget("a")
    turns.forget("nobody")
    turns.come("a", ["b"])
    assert turns.order(["a", "b"]) == ["a", "b"]


# ── requests and tokens together ──


def rates(requests: float | None, tokens: float | None) -> Rates:
    some = Rates()
    some.refill(requests, tokens, 0.0)
    some.turns.come("a", [])
    some.turns.come("b", [])
    return some


def test_both_rates_bind() -> None:
    assert rates(10.0, None).fit(Request(99, 10.0), NOBODY) == 5.0
    assert rates(None, 60.0).fit(Request(99, 10.0), NOBODY) == 3.0
    assert rates(10.0, 60.0).fit(Request(99, 10.0), NOBODY) == 3.0
    assert rates(None, None).fit(Request(99, 10.0), NOBODY) == float("inf")


def test_of_both_rates_as_much_is_left_as_the_first_in_turn_lacks() -> None:
    assert rates(10.0, None).fit(Request(99), Request(1)) == 4.0
    assert rates(10.0, None).fit(Request(99), Request(99)) == 2.0  # it finds half of the five
    assert rates(None, 60.0).fit(Request(99, 5.0), Request(1, 20.0)) == 2.0
    assert rates(None, 60.0).fit(Request(99, 5.0), Request(0, 20.0)) == 6.0


def test_the_slower_of_both_rates_says_how_long_to_wait() -> None:
    some = rates(10.0, 100.0)
    some.take("a", 5, 10.0)
    assert some.wait_s(Request(1, 10.0)) == pytest.approx(0.1)
    assert some.wait_s(Request(1, 30.0)) == pytest.approx(0.3)
    assert some.wait_s(Request(1, 1.0)) == pytest.approx(0.1)


def test_what_is_taken_is_gone_from_both_and_what_is_given_back_is_there_again() -> None:
    some = rates(10.0, 100.0)
    some.take("a", 2, 20.0)
    assert (some.requests.level, some.tokens.level) == (3.0, 10.0)
    some.give_back(1.0, 30.0)
    assert (some.requests.level, some.tokens.level) == (4.0, 40.0)
    some.give_back(0.0, -60.0)  # more were used than taken
    assert (some.requests.level, some.tokens.level) == (4.0, -20.0)


@pytest.mark.parametrize(
    ("requests", "tokens", "mine", "theirs"),
    [
        (10.0, None, (3, 0.0), (2, 0.0)),
        (10.0, 100.0, (1, 40.0), (3, 1.0)),  # 0.4 s of the tokens' time, 0.3 s of the requests'
        (10.0, 100.0, (4, 1.0), (1, 30.0)),
        (None, None, (3, 0.0), (2, 500.0)),  # where no rate is known, requests count
    ],
)
def test_a_turn_costs_the_time_of_the_rate_that_it_used_most(
    requests: float | None, tokens: float | None, mine: tuple[int, float], theirs: tuple[int, float]
) -> None:
    some = rates(requests, tokens)
    some.take("a", *mine)
    some.take("b", *theirs)
    assert some.turns.order(["a", "b"]) == ["b", "a"]


def test_both_rates_fill_with_time() -> None:
    some = rates(10.0, 100.0)
    some.take("a", 5, 10.0)
    some.refill(10.0, 100.0, 0.1)
    assert (some.requests.level, some.tokens.level) == pytest.approx((1.0, 10.0))


# ── a minute's limits ──


def test_the_least_of_the_limits_that_are_known_is_shared() -> None:
    assert least(None, 6.0, 4.0, share=0.5) == 2.0
    assert least(None, None, share=0.5) is None


def test_a_little_of_a_stated_rate_is_left_for_what_arrives_late() -> None:
    assert per_s(600.0) == pytest.approx(10.0 * HEADROOM)
    assert per_s(600.0, 0.5) == pytest.approx(5.0 * HEADROOM)
    assert per_s(None, 0.5) is None
