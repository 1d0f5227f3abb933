"""How a rehearsed provider behaves, and what it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from emoray.rehearsal.batch_endpoint import BatchManners
from emoray.rehearsal.faults import Plan

Body = dict[str, Any]
Speaker = Callable[[Body], Awaitable[str]]


@dataclass(frozen=True)
class Manners:
    """How the provider behaves."""

    plan: Plan = field(default_factory=Plan)
    latency_s: float = 0.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst_s: float = 1.0  # seconds' worth of a limit that may come at once
    counts_reserved: bool = False  # tokens: prompt + max_tokens (as OpenAI admits) instead of what was used
    tells_limits: bool = True  # x-ratelimit-* headers
    retry_after_s: float = 0.05  # of the faults; a real limit says what it means
    slow_s: float = 1.0
    slots: int | None = None  # answers that are worked on at once; all others queue, also those nobody waits for now
    models: tuple[str, ...] = ()  # none: every id is known
    api_key: str | None = None  # any other is refused
    batch_polls: int = 2  # a batch is done when it was asked for so often
    batches: BatchManners = field(default_factory=BatchManners)


@dataclass
class Counters:
    """What happened, by key of the cell ("" where the client sent none)."""

    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)  # whole, well-formed answers
    statuses: Counter[int] = field(default_factory=Counter)
    billed: list[tuple[str, int, int]] = field(default_factory=list)  # of each answer: key, tokens asked, tokens said
    faults: Counter[str] = field(default_factory=Counter)
    seconds: Counter[int] = field(default_factory=Counter)  # second since the start -> admitted requests
    tokens: Counter[int] = field(default_factory=Counter)  # second since the start -> tokens admitted
    in_flight: int = 0
    peak_in_flight: int = 0

    @property
    def requests(self) -> int:
        return self.asked.total()

    def bill(self, key: str, answer: Body) -> None:
        """Notes what an answer was charged for; one whose usage is odd on purpose is charged for nothing."""
        usage = answer.get("usage") or {}
        asked, said = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if type(asked) is type(said) is int:
            self.billed.append((key, asked, said))

    def as_json(self) -> Body:
        """Sums; of the keys only how many there are, and the most often one was asked and answered."""
        return {
            "requests": self.requests,
            "keys": len(self.asked),
            "most_asked": max(self.asked.values(), default=0),
            "answered": self.answered.total(),
            "most_answered": max(self.answered.values(), default=0),
            "statuses": {str(status): n for status, n in self.statuses.items()},
            "faults": dict(self.faults),
            "seconds": [self.seconds[s] for s in range(max(self.seconds, default=-1) + 1)],
            "tokens": [self.tokens[s] for s in range(max(self.tokens, default=-1) + 1)],
            "peak_in_flight": self.peak_in_flight,
        }


class Limit:
    """A provider's limit: so many per minute, `burst_s` seconds' worth at once."""

    def __init__(self, per_minute: float, burst_s: float) -> None:
        self.per_minute = per_minute
        self._per_s = per_minute / 60.0
        self._burst = max(1.0, self._per_s * burst_s)
        self._level, self._at = self._burst, 0.0

    def admits(self, units: float, now: float) -> bool:
        self._level = min(self._burst, self._level + self._per_s * (now - self._at))
        self._at = now
        return self._level >= min(units, self._burst)

    def take(self, units: float) -> None:
        self._level -= units

    def wait_s(self, units: float) -> float:
        return max(0.0, (min(units, self._burst) - self._level) / self._per_s)

    def headers(self, of: str) -> dict[str, str]:
        return {
            f"x-ratelimit-limit-{of}": f"{self.per_minute:.0f}",
            f"x-ratelimit-remaining-{of}": str(max(0, int(self._level))),
            f"x-ratelimit-reset-{of}": f"{max(0.0, self._burst - self._level) / self._per_s:.3f}s",
        }
