"""What a provider's headers say of its limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from emoray.rate_limits.protocol import LimitHeaders
from emoray.rate_limits.waits import number, their_now, wait_s

_DAY_S = 86_400.0


def heard(headers: Mapping[str, str], now: datetime | None = None) -> LimitHeaders | None:
    """What `x-ratelimit-*` headers say; None where there are none."""
    limit_requests, requests_left = _told(headers, "requests")
    limit_tokens, tokens_left = _told(headers, "tokens")
    reset = headers.get("x-ratelimit-reset-requests", headers.get("x-ratelimit-reset-requests-minute"))
    reset_s = None
    if reset is not None:
        now = now or datetime.now(UTC)
        reset_s = wait_s(reset, their_now(headers, now), now)
    elif limit_requests is None:  # Cerebras
        limit_requests, requests_left = (number(headers.get(f"x-ratelimit-{of}-requests-day")) for of in _OF)
        reset_s = None if limit_requests is None else _DAY_S
    says = LimitHeaders(limit_requests, requests_left, reset_s, limit_tokens, tokens_left)
    return None if says == LimitHeaders() else says


def until_reset_s(headers: Mapping[str, str], now: datetime, told_s: float | None) -> float | None:
    """How long a limit lasts that a refusal speaks of, by its headers: a day's, of which nothing is left, or where
    nothing else was told (`told_s`) whatever limit it is; None where they do not say.
    """
    there = their_now(headers, now)
    for of in ("requests-day", "tokens-day"):
        if number(headers.get(f"x-ratelimit-remaining-{of}")) == 0:
            return _first(wait_s(headers.get(f"x-ratelimit-reset-{of}"), there, now), _DAY_S)
    resets = [wait_s(headers.get(name), there, now) for name in ("x-ratelimit-reset", "ratelimit-reset")]
    return _first(*resets) if told_s is None else None


_OF = ("limit", "remaining")


def _told(headers: Mapping[str, str], of: str) -> tuple[float | None, float | None]:
    """(limit, remaining); some servers tell a limit of 0 where they have none."""
    limit, remaining = (
        _first(number(headers.get(f"x-ratelimit-{what}-{of}")), number(headers.get(f"x-ratelimit-{what}-{of}-minute")))
        for what in _OF
    )
    return (None, None) if limit == 0 else (limit, remaining)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
