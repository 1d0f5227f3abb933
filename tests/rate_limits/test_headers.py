"""What a provider's headers say of its limits."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from emoray.rate_limits.headers import heard
from emoray.rate_limits.protocol import LimitHeaders
from emoray.rate_limits.waits import wait_s


def test_each_header_is_read_into_its_place() -> None:
    assert heard(
        {
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-remaining-requests": "499",
            "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-limit-tokens": "30000",
            "x-ratelimit-remaining-tokens": "29000",
            "x-ratelimit-reset-tokens": "6s",
        }
    ) == LimitHeaders(500.0, 499.0, 0.12, 30_000.0, 29_000.0)


def test_what_a_header_does_not_say_is_not_known() -> None:
    assert heard({"x-ratelimit-remaining-tokens": "7"}) == LimitHeaders(remaining_tokens=7.0)


def test_what_is_left_of_a_limit_of_zero_is_of_no_limit() -> None:
    zero = {"x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "0"}
    assert heard(zero) is None
    assert heard(zero | {"x-ratelimit-limit-requests": "5"}) == LimitHeaders(limit_requests=5.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1d2h3m4.5s6ms", 86_400 + 7200 + 180 + 4.5 + 0.006), ("0.5", 0.5), ("", None), (None, None)],
)
def test_a_duration_is_the_sum_of_its_parts(text: str | None, seconds: float | None) -> None:
    assert wait_s(text, datetime.now(UTC)) == (None if seconds is None else pytest.approx(seconds))
