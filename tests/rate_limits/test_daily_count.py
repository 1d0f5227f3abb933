"""The requests of the last 24 hours, held against a plain list of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.rate_limits.daily_count import Day

DAY_S, SLOT_S = 86_400.0, 300.0
STEPS = st.lists(st.tuples(st.floats(0, 40_000), st.integers(-30, 50)), max_size=30)


@given(STEPS)
def test_a_request_counts_until_its_five_minutes_are_a_day_old_and_what_is_returned_was_never_asked(
    steps: list[tuple[float, int]],
) -> None:
    day, now = Day("life"), 0.0
    taken: dict[float, float] = {}  # by the beginning of its five minutes
    for pause_s, n in steps:
        now += pause_s
        day.pass_by(now)
        taken = {began: count for began, count in taken.items() if began + SLOT_S + DAY_S > now}
        if n >= 0:
            day.take(n, now)
            began = now // SLOT_S * SLOT_S
            taken[began] = taken.get(began, 0.0) + n
        else:
            day.give_back(-n, now)
            for began in sorted(taken, reverse=True):
                back = min(-n, taken[began])
                taken[began] -= back
                n += int(back)
        assert day.requests == sum(taken.values())
    assert sorted(day.told(now).values()) == sorted((now - began, count) for began, count in taken.items() if count)


def test_giving_back_less_than_nothing_is_taking() -> None:
    day = Day("life")
    day.take(5, 10.0)
    day.give_back(-3, 400.0)
    assert day.requests == 8
    assert sorted(day.told(400.0).values()) == [(100.0, 3), (400.0, 5)]


def test_giving_back_nothing_changes_nothing() -> None:
    day = Day("life")
    day.give_back(0, 10.0)
    assert (day.requests, day.told(10.0)) == (0.0, {})


def test_what_is_told_is_named_by_the_life_that_counted_it() -> None:
    day = Day("mine")
    day.take(5, 650.0)
    assert day.told(700.0) == {"mine/2": (100.0, 5.0)}
    assert day.told(650.0 + DAY_S + SLOT_S) == {}


def test_what_another_life_counted_is_remembered_once_and_the_most_of_what_is_told() -> None:
    day = Day("mine")
    assert not day.remembers
    for requests in (5.0, 7.0, 6.0):
        day.remember("other/2", 100.0, requests, 1000.0)
    assert (day.requests, day.remembers) == (7.0, True)
    day.remember("another/2", 100.0, 1.0, 1000.0)
    assert day.requests == 8.0


def test_what_this_life_counted_is_told_by_nobody_else() -> None:
    day = Day("mine")
    day.take(5, 650.0)
    day.remember("mine/2", 0.0, 50.0, 700.0)
    assert (day.requests, day.remembers) == (5, False)
    day.remember("mine too/2", 0.0, 50.0, 700.0)
    assert day.requests == 55


def test_of_two_ages_that_are_told_of_the_same_requests_the_greater_is_nearer_to_the_truth() -> None:
    day = Day("mine")
    for age_s in (100.0, 400.0, 200.0):
        day.remember("other/2", age_s, 5.0, 1000.0)
    assert day.told(1000.0) == {"other/2": (400.0, 5.0)}


@pytest.mark.parametrize(("now", "left"), [(600.0 + DAY_S + SLOT_S - 1.0, 3.0), (600.0 + DAY_S + SLOT_S, 2.0)])
def test_the_oldest_leave_first(now: float, left: float) -> None:
    day = Day("life")
    day.take(1, 600.0)
    day.take(2, 1000.0)
    day.pass_by(now)
    assert day.requests == left
    day.pass_by(1000.0 + DAY_S + SLOT_S)
    assert day.requests == 0
