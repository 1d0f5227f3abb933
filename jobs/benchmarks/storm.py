"""Hosted models in a storm: what a server that misbehaves costs, beside the same server on a good day.

One host with 256 in flight asks a rehearsal provider (50 ms latency, no limit) twice: as it is, and while `share` of
the requests meet a fault, of every kind that leaves hope; hangs among them, so `timeout` is part of the time.

`requests_over_needed` is how many were sent for each that had to be: one per ask, and one more per fault, of which some
need none. `answered_twice` is how many whole answers were given that no reply holds, which is what nobody should pay
for; one that comes after the timeout is such. `lost` are asks without a reply.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmarks import api
from emoray.hosts.hosted_api import HostedApi
from emoray.hosts.protocol import Reply
from emoray.rate_limits.local import LocalLimiter
from emoray.spec.accounts import Account, Retry
from emoray.study.outcomes import Answer


@dataclass(frozen=True)
class _Weathered:
    """What came of the asks, and what the server counted."""

    replies: list[Reply]
    took_s: float
    cpu_s: float
    counters: dict[str, Any]

    @property
    def rps(self) -> float:
        return len(self.replies) / self.took_s

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_s / len(self.replies)

    @property
    def answers(self) -> int:
        return sum(isinstance(reply.outcome, Answer) for reply in self.replies)


def run(*, requests: int = 6000, share: float = 0.3, timeout: float = 5.0) -> dict[str, float]:
    """The same asks on a good day and in a storm; the ratios first."""
    calm = _weathered(requests, 0.0, timeout)
    storm = _weathered(requests, share, timeout)
    for reason, n in Counter(_ending(reply) for reply in storm.replies).most_common():
        print(f"{reason:18} {n:7,}")
    faults = sum(storm.counters["faults"].values())
    return {
        "rps_over_calm": storm.rps / calm.rps,
        "cpu_over_calm": storm.cpu_ms / calm.cpu_ms,
        "requests_over_needed": storm.counters["requests"] / (requests + faults),
        "answered_share": storm.answers / requests,
        "answered_twice": float(storm.counters["answered"] - storm.answers),
        "lost": float(requests - len({reply.key for reply in storm.replies})),
        "faults": float(faults),
        "storm_rps": storm.rps,
        "calm_rps": calm.rps,
        "storm_cpu_ms": storm.cpu_ms,
        "calm_cpu_ms": calm.cpu_ms,
    }


def _ending(reply: Reply) -> str:
    return "answer" if isinstance(reply.outcome, Answer) else reply.outcome.kind.value


def _weathered(requests: int, share: float, timeout_s: float) -> _Weathered:
    with api.server("--latency", str(api.LATENCY_S), "--storm", str(share)) as base_url:
        host = HostedApi(api.ENTRY, Account(base_url=base_url), Retry(timeout_s=timeout_s), LocalLimiter())
        cpu, began = time.process_time(), time.perf_counter()
        replies = list(host.generate(api.asks(requests)))
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        host.close()
        return _Weathered(replies, took_s, cpu_s, api.counters(base_url))
