"""How long to wait before asking again: pure, time and chance are arguments."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_DOUBLINGS = 60  # beyond this, 2**n is longer than any wait and would overflow a float one day


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first_s` up to `longest_s`, each with jitter, so that a crowd does not return at once."""

    first_s: float = 0.5
    longest_s: float = 60.0

    def wait_s(self, attempt: int, draw: float, told_s: float | None = None) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1); `draw` is chance in [0, 1).

        A provider that says how long (`told_s`) is obeyed: never earlier, and a little later to spread the crowd.
        """
        bound = min(self.longest_s, self.first_s * 2.0 ** min(attempt - 1, _DOUBLINGS))
        if told_s is not None:
            return told_s + draw * min(bound, 0.1 * told_s + 0.05)
        return bound * (0.5 + 0.5 * draw)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """What a response says of waiting: `retry-after-ms`, or `retry-after` in seconds or as a date; None if nothing."""
    in_ms = number(headers.get("retry-after-ms"))
    if in_ms is not None:
        return in_ms / 1000.0
    text = headers.get("retry-after")
    in_s = number(text)
    if in_s is not None or text is None:
        return in_s
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())


def number(text: str | None) -> float | None:
    """A number in a header: finite and not negative; None for anything else."""
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if 0.0 <= value < float("inf") else None
