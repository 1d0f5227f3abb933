"""Waiting before asking again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.backoff import Backoff
from emoray.rate_limits.waits import retry_after_s

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
draws = st.floats(0, 1, exclude_max=True)


@given(attempt=st.integers(1, 10_000), draw=draws)
def test_a_wait_is_never_longer_than_the_longest_and_never_nothing(attempt: int, draw: float) -> None:
    wait = Backoff(first_s=0.5, longest_s=60.0).wait_s(attempt, draw)
    assert 0.25 <= wait <= 60.0


@given(attempt=st.integers(1, 30), draw=draws)
def test_waits_double_until_they_reach_the_longest(attempt: int, draw: float) -> None:
    backoff = Backoff(first_s=0.5, longest_s=60.0)
    here, there = backoff.wait_s(attempt, draw), backoff.wait_s(attempt + 1, draw)
    assert there == pytest.approx(min(2 * here, 60.0 * (0.5 + 0.5 * draw)))


@given(attempt=st.integers(1, 100), draw=draws, told=st.floats(0, 86_400))
def test_a_provider_that_says_how_long_is_never_asked_earlier_and_not_much_later(
    attempt: int, draw: float, told: float
) -> None:
    wait = Backoff(first_s=0.5, longest_s=60.0).wait_s(attempt, draw, told)
    assert told <= wait <= 1.1 * told + 0.05


def test_a_crowd_that_was_told_the_same_does_not_return_at_once() -> None:
    backoff = Backoff()
    assert backoff.wait_s(1, 0.0, 10.0) != backoff.wait_s(1, 0.9, 10.0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "inf"}, None),
        ({}, None),
    ],
)
def test_what_a_response_says_of_waiting_is_read_in_milliseconds_seconds_or_as_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_s(headers, NOON) == seconds
