"""How a rehearsed provider behaves, and what it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emoray.rehearsal.faults import Plan

Body = dict[str, Any]
Speaker = Callable[[Body], Awaitable[str]]


def _as_it_is(said: object) -> Any:
    return said


@dataclass(frozen=True)
class BatchBehaviour:
    """How the batch endpoint behaves, where it does not do as OpenAI's does on a good day."""

    words: Mapping[str, str] = field(default_factory=dict)  # its own spelling of a status
    file_polls: int = 0  # an input file is pending until it was asked for so often
    strict_files: bool = False  # that is not said when it comes, but no batch can be made of it
    late_polls: int = 0  # so many polls after its end a batch does not name its files
    late_contents: int = 0  # so many times the content of a file of results is not there
    finalizing_polls: int = 0  # so many polls it is finalizing before it is completed
    unknown_polls: int = 0  # so many polls a batch is unknown after it was made
    most_enqueued: int | None = None  # lines of all open batches; one more fails, as token_limit_exceeded
    no_queue: bool = False  # that is said with a 429 when it is made instead
    lost_creates: int = 0  # so many times a batch is made and the answer is an error
    endpoints: bool = True  # False: 404 for everything
    lists: bool = True
    one_page: bool = True  # False: the same page for ever
    echoes: bool = True  # metadata
    spoils: Callable[[bytes], bytes] = _as_it_is  # a file of results, as it is fetched
    says: Callable[[Body], Any] = _as_it_is  # a batch, as it is told; may be anything
    lines: Callable[[Body], Body] = _as_it_is  # each result


@dataclass(frozen=True)
class Behaviour:
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
    batches: BatchBehaviour = field(default_factory=BatchBehaviour)


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
