"""How fast a lane goes, and how long it will take: of what came of late, not of the time in which it started."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

RATE_S = 60.0  # the rate is that of the last minute,
LEFT_S = 600.0  # and the time left goes by ten minutes: answers come in blocks, and a minute may see none
_ENOUGH_S = 5.0  # before which a rate is a guess
_BETWEEN_S = 1.0  # two moments that are kept


@dataclass(frozen=True)
class _Moment:
    at: float  # seconds of a monotonic clock
    settled: int  # cells with an answer
    through: int  # cells with an answer or a failure: those that this attempt asks no more


@dataclass
class Pace:
    """Of one lane. It begins with the last moment at which nothing had come yet: to start is not to ask."""

    _moments: deque[_Moment] = field(default_factory=deque)

    def see(self, at: float, settled: int, failed: int) -> None:
        """So many cells have an answer, and so many a failure, at this second of a monotonic clock."""
        new = _Moment(at, settled, settled + failed)
        seen = self._moments
        if len(seen) == 1 and seen[0].through >= new.through:
            seen[0] = new
        elif not seen or at - seen[-1].at >= _BETWEEN_S:
            seen.append(new)
        while len(seen) > 2 and at - seen[1].at >= LEFT_S:
            seen.popleft()

    def per_minute(self, at: float, settled: int) -> float | None:
        """Answers in a minute, by the last one; None where that is not known yet."""
        first = self._since(at - RATE_S)
        return 60.0 * max(0, settled - first.settled) / (at - first.at) if first and _known(first, at) else None

    def seconds_left(self, at: float, total: int, settled: int, failed: int) -> float | None:
        """Until every cell has its answer or its failure; None where that is not known."""
        first, through = self._since(at - LEFT_S), settled + failed
        if first is None or not _known(first, at) or through <= first.through:
            return None
        return max(0, total - through) * (at - first.at) / (through - first.through)

    def _since(self, at: float) -> _Moment | None:
        """The last moment at or before that second, or the first of all."""
        return next(
            (one for one in reversed(self._moments) if one.at <= at), self._moments[0] if self._moments else None
        )


def _known(first: _Moment, at: float) -> bool:
    return at - first.at >= _ENOUGH_S
