"""How long to wait before asking again: pure, time and chance are arguments."""

from __future__ import annotations

from dataclasses import dataclass

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
