"""What a lane knows of itself while it runs: an actor that costs no CPU and holds no rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_STARTS = 5  # of one speaker, without a cell settled in between


class Verdict(Enum):
    """What a Speaker shall do with a block."""

    ASK = "ask"
    RESUME = "resume"  # the block was begun before: ask only what is not durable yet
    STOP = "stop"  # the lane is being stopped: ask nothing more


@dataclass
class Tally:
    """Counts since the lane began."""

    owed: int = 0  # cells that were found to be owed
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    read: dict[str, int] = field(default_factory=dict)  # rows per reader
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    speakers: int = 0  # actors that are ready
    stopping: str | None = None  # why
    down: str | None = None  # one sentence, where the lane cannot go on
    unsearched: int | None = None  # slices of the grid that may still hold owed cells; None before the first is through

    @property
    def asked_out(self) -> bool:
        """Whether every owed cell has been found and has its answer or failure."""
        return self.unsearched == 0 and self.settled >= self.owed

    @property
    def settled(self) -> int:
        return self.answered + sum(self.failed.values())


class LaneLedger:
    """The state behind the actor; see `ledger_of`."""

    def __init__(self) -> None:
        self._begun: set[str] = set()
        self._searched: set[int] = set()
        self._starts: Counter[str] = Counter()
        self._tally = Tally()

    def begin(self, block: str) -> Verdict:
        """A Speaker takes up the block that starts with this key."""
        if self._tally.stopping or self._tally.down:
            return Verdict.STOP
        verdict = Verdict.RESUME if block in self._begun else Verdict.ASK
        self._begun.add(block)
        return verdict

    def found(self, owed: int) -> bool:
        """A block of so many owed cells; False where the lane asks nothing more: a stop must not walk all the grid."""
        self._tally.owed += owed
        return not (self._tally.stopping or self._tally.down)

    def starting(self, speaker: str) -> bool:
        """A speaker starts, perhaps again: Ray restarts for ever. False where that has led to nothing too often."""
        self._starts[speaker] += 1
        if self._starts[speaker] > _STARTS:
            self.down(f"its actor died {_STARTS} times before another cell was settled; -v shows what Ray saw of it")
        return self._tally.down is None

    def searched(self, slice_: int, of: int) -> None:
        """A slice of the grid, one of so many, holds no more owed cells."""
        self._searched.add(slice_)
        self._tally.unsearched = of - len(self._searched)

    def ready(self) -> None:
        self._tally.speakers += 1

    def said(self, counts: Mapping[str, Any]) -> None:
        """Replies that are durable: `answered`, `failed` by kind, tokens and money."""
        self._starts.clear()
        self._tally.answered += counts["answered"]
        self._tally.failed.update(counts["failed"])
        self._tally.prompt_tokens += counts["prompt_tokens"]
        self._tally.completion_tokens += counts["completion_tokens"]
        self._tally.cost_usd += counts["cost_usd"]

    def read(self, reader: str, rows: int) -> None:
        self._tally.read[reader] = self._tally.read.get(reader, 0) + rows

    def stop(self, why: str) -> None:
        self._tally.stopping = self._tally.stopping or why

    def down(self, why: str) -> None:
        self._tally.down = self._tally.down or why

    def tally(self) -> Tally:
        return self._tally


def open_ledger() -> Any:
    """A fresh ledger, on the driver's own node: it must live exactly as long as the driver."""
    here = ray.get_runtime_context().get_node_id()
    affinity = NodeAffinitySchedulingStrategy(here, soft=False)
    return ray.remote(LaneLedger).options(num_cpus=0, scheduling_strategy=affinity).remote()
