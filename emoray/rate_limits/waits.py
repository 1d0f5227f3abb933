"""The waits that providers tell of, in headers and bodies: seconds, durations, dates."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime


def retry_after_s(headers: Mapping[str, str], now: datetime, ours: datetime | None = None) -> float | None:
    """What a response says of waiting: `retry-after-ms`, or `retry-after` in any of the forms of `wait_s`."""
    in_ms = number(headers.get("retry-after-ms"))
    return in_ms / 1000.0 if in_ms is not None else wait_s(headers.get("retry-after"), now, ours)


def their_now(headers: Mapping[str, str], now: datetime) -> datetime:
    """What time it is by the clock of who answered, which may be off; `now` where it does not say."""
    told = headers.get("date")
    return _http_date(told) or _iso_date(told) or now


def wait_s(text: str | None, now: datetime, ours: datetime | None = None) -> float | None:
    """Seconds from `now`: of a number of seconds, a duration ("6m0s", "12ms", "30 seconds", "PT1M"), a date (of HTTP,
    or of ISO 8601 with its zone), or a moment in seconds or milliseconds since 1970. None for anything else; 0 for
    what is past.

    `now` is by the clock of who answered (`their_now`), by which HTTP's dates are meant, and `ours` by our own: a
    moment that somebody behind him tells may be meant by either, so it is the sooner one that is still to come.
    """
    if text is None:
        return None
    plain = number(text)
    if plain is not None:
        return plain if plain < _EPOCH_S else _until(_since_1970(plain), now, ours or now)
    duration = _ISO.sub("", text.strip().lower())
    if _DURATION.fullmatch(duration):
        return sum(float(n) * _UNITS_S[unit] for n, unit in _PART.findall(duration))
    when = _http_date(text)
    if when is not None:
        return max(0.0, (when - now).total_seconds())
    moment = _iso_date(text)
    return None if moment is None else _until(moment.timestamp(), now, ours or now)


def _until(moment: float, theirs: datetime, ours: datetime) -> float:
    by_theirs, by_ours = moment - theirs.timestamp(), moment - ours.timestamp()
    if -_WHOLE_S <= by_theirs <= 0.0:
        return 0.0  # it is now, however far their clock is off
    return min((wait for wait in (by_theirs, by_ours) if wait > 0.0), default=0.0)


_WHOLE_S = 1.0  # a Date tells no parts of a second
_EPOCH_S = 1e9  # 2001 in seconds since 1970, or a wait of 31 years: nobody asks for that
_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_WHOLE = r"(?:(?<=d)ays?|(?<=h)(?:ou)?rs?|(?<=m)in(?:ute)?s?|(?<=s)ec(?:ond)?s?)?"
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*(ms|[dhms]){_WHOLE}", re.ASCII)
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+", re.ASCII)
_ISO = re.compile(r"^pt?(?=\d)|(?<=\dd)t(?=\d)")  # PT1M30S, P1DT2H


def _since_1970(value: float) -> float:
    """In seconds, whatever finer unit it is in: a moment of this century has ten digits before the point."""
    while value >= 100 * _EPOCH_S:
        value /= 1000.0
    return value


def _http_date(text: str | None) -> datetime | None:
    try:
        when = email.utils.parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _iso_date(text: str | None) -> datetime | None:
    """None without a zone: it is mostly the vendor's own, eight hours off."""
    try:
        when = datetime.fromisoformat(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return when if when.tzinfo else None


def number(text: str | None) -> float | None:
    """A number in a header: finite and not negative; None for anything else."""
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if 0.0 <= value < float("inf") else None
