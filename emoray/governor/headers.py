"""What a provider's headers say of its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping

from emoray.governor import Heard
from emoray.retry import number


def heard(headers: Mapping[str, str]) -> Heard | None:
    """What `x-ratelimit-*` headers say; None where there are none."""
    (limit_requests, requests_left), (limit_tokens, tokens_left) = (_told(headers, of) for of in ("requests", "tokens"))
    reset_s = duration_s(headers.get("x-ratelimit-reset-requests"))
    says = Heard(limit_requests, requests_left, reset_s, limit_tokens, tokens_left)
    return None if says == Heard() else says


def _told(headers: Mapping[str, str], of: str) -> tuple[float | None, float | None]:
    """(limit, remaining); some servers tell a limit of 0 where they have none."""
    limit, remaining = (number(headers.get(f"x-ratelimit-{what}-{of}")) for what in ("limit", "remaining"))
    return (None, None) if limit == 0 else (limit, remaining)


_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def duration_s(text: str | None) -> float | None:
    """OpenAI's "6m0s", "8.64s", "12ms", or a plain number of seconds (Azure)."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[dhms])", text or "")
    return sum(float(n) * _UNITS_S[unit] for n, unit in parts) if parts else number(text)
