"""What a lane knows of itself while it runs: an actor that costs no CPU and holds no rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_STARTS = 5


class Verdict(Enum):
    """What a GenerateActor or a ReadActor shall do with a block."""

    BEGIN = "begin"
    RESUME = "resume"  # the block was begun before: do only what is not durable yet
    STOP = "stop"  # the lane is being stopped: do nothing more


@dataclass
class LaneCounts:
    """Counts since the lane began."""

    owed: int = 0  # cells that were found to be owed
    begun: int = 0  # of them, those that a speaker took up
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    read: dict[str, int] = field(default_factory=dict)  # rows per reader
    speakers: int = 0  # actors that are ready
    started: bool = False  # some actor has begun to, so Ray has a process for it
    loading: list[str] = field(default_factory=list)  # readers whose actors load what they need; "": the speakers
    stopping: str | None = None  # why
    closed: bool = False  # stopped, and nothing more is read either
    down: str | None = None  # one sentence, where the lane cannot go on
    full: bool = False  # because the run folder does not take what was paid for
    aside: Counter[str] = field(default_factory=Counter)  # rows that were put aside, by the folder that has them
    lost: int = 0  # rows that were paid for, and for which there was no place at all
    lost_usd: float = 0.0
    defaults: dict[str, float | None] | None = None  # of a model that its host loaded: what no ask says
    notes: list[tuple[str, str]] = field(default_factory=list)  # (reader, or "" of the model; a sentence to be read)
    unsearched: int | None = None  # slices of the grid that may still hold owed cells; None before the first is through

    @property
    def asked_out(self) -> bool:
        """Whether every cell that is still asked has been found and has its answer or failure."""
        if self.stopping:
            return self.settled >= self.begun
        return self.unsearched == 0 and self.settled >= self.owed

    @property
    def settled(self) -> int:
        return self.answered + sum(self.failed.values())

    @property
    def unwritten(self) -> str:
        """What became of what the run folder did not take, to be said behind what ended the lane."""
        aside = "{:,} rows were put aside in {}, from where a run takes them in"
        told = [aside.format(rows, where) for where, rows in self.aside.items()]
        if self.lost:
            told.append(f"{self.lost:,} rows that cost ${self.lost_usd:,.4f} could be kept nowhere and are lost")
        return "".join(f"; {one}" for one in told)


@dataclass
class _Block:
    """What has been counted of a block that a speaker began."""

    cells: int
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)


class LaneState:
    """The state behind the actor; see `open_lane_state`.

    What Ray runs twice, for a killed actor or a lost node, counts once: or `asked_out` would never come true, and a
    lane would hold its engines' GPUs until all is read.
    """

    def __init__(self, starts: int = _STARTS) -> None:
        """`starts` are how often one actor may, without a cell settled (or read) in between."""
        self._most_starts = starts
        self._pass = 0
        self._begun: dict[str, int] = {}  # blocks, and in which pass the last time
        self._open: dict[str, _Block] = {}  # of the blocks begun, those with cells that have no answer yet
        self._found = Counter[int]()  # owed cells by slice of the grid
        self._searched: set[int] = set()
        self._starts: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by reader; "": the speakers
        self._loading: defaultdict[str, set[str]] = defaultdict(set)  # actors, by reader; "": the speakers
        self._last_failure: dict[str, str] = {}  # by reader, since it read; "": of a speaker, since a cell was settled
        self._tally = LaneCounts()

    def another_pass(self) -> None:
        """The grid is gone through from its start; what is still owed will be found again."""
        self._tally.owed = self._tally.begun = self._tally.settled
        self._tally.unsearched = None
        self._pass += 1
        for of_one_pass in (self._open, self._found, self._searched):
            of_one_pass.clear()

    def begin(self, block: str, cells: int) -> Verdict:
        """A GenerateActor takes up the block of so many cells that starts with this key."""
        if self._tally.stopping or self._tally.down:
            return Verdict.STOP
        known = self._begun.get(block) == self._pass
        verdict = self._begin(block)
        if not known:
            self._tally.begun += cells
            self._open[block] = _Block(cells)
        return verdict

    def resumed(self, block: str, owed: int) -> None:
        """So many cells of a block that was begun before have no answer yet, and are asked again. The others have one,
        which whoever died may not have told; what failed is asked again.
        """
        if one := self._open.get(block):
            self._tally.failed -= one.failed
            one.failed.clear()
            self._count(block, one.cells - owed - one.answered, {})

    def begin_reading(self, reader: str, block: str) -> Verdict:
        """A ReadActor takes up the block that starts with this key."""
        return self._begin(f"{reader} {block}") if self.reads_on() else Verdict.STOP

    def reads_on(self) -> bool:
        """Whether answers that were there before are still to be read."""
        return not self._tally.closed

    def found(self, slice_: int, owed: int) -> bool:
        """So many owed cells so far in a slice of the grid; False where the lane asks nothing more, and the rest of the
        slice need not be walked.
        """
        new = max(0, owed - self._found[slice_])
        self._found[slice_] += new
        self._tally.owed += new
        return not (self._tally.stopping or self._tally.down)

    def starting(self, actor: str, reader: str = "") -> bool:
        """A speaker, or an actor of a reader, starts, perhaps again: Ray restarts for ever. False where that has led to
        nothing too often, and for a speaker of a lane that is over.
        """
        self._tally.started = True
        self._starts[reader][actor] += 1
        if self._starts[reader][actor] > self._most_starts:
            who, cell = (f"the actor of {reader}", "read") if reader else ("its actor", "settled")
            why = self._last_failure.get(reader) or "-v shows what Ray saw of it"
            self.down(f"{who} died {self._most_starts} times before another cell was {cell}; {why}")
            return False
        self._loading[reader].add(actor)
        return bool(reader) or self._tally.down is None

    def cannot_start(self, why: str) -> bool:
        """Whether that ends the lane; where a speaker was ready before, it may be this node, or this moment."""
        self._last_failure[""] = why
        if not self._tally.speakers:
            self.down(why)
        return not self._tally.speakers

    def dying(self, why: str, reader: str = "") -> None:
        """A speaker, or an actor of a reader, that was ready ends with its engine; Ray starts it again."""
        self._last_failure[reader] = why

    def searched(self, slice_: int, of: int) -> None:
        """A slice of the grid, one of so many, holds no more owed cells."""
        self._searched.add(slice_)
        self._tally.unsearched = of - len(self._searched)

    def ready(
        self,
        actor: str = "",
        reader: str = "",
        defaults: Mapping[str, float | None] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """It has what it needs: its engine, its weights. Who loaded a model tells what is to be known of it, and a
        speaker what holds where asks are silent.
        """
        self._loading[reader].discard(actor)
        self._tally.speakers += not reader
        self._tally.defaults = self._tally.defaults or (dict(defaults) if defaults else None)
        self._tally.notes += [(reader, note) for note in notes if (reader, note) not in self._tally.notes]

    def said(self, block: str, counts: Mapping[str, Any]) -> None:
        """Replies to a block that are durable: `answered`, and `failed` by kind."""
        self._starts[""].clear()
        self._last_failure.pop("", None)
        self._count(block, counts["answered"], counts["failed"])

    def read(self, reader: str, rows: int) -> None:
        self._starts[reader].clear()
        self._last_failure.pop(reader, None)
        self._tally.read[reader] = self._tally.read.get(reader, 0) + rows

    def stop(self, why: str) -> None:
        """Nothing more is asked."""
        self._tally.stopping = self._tally.stopping or why

    def close(self) -> None:
        """Nothing more is read of what was there before, and no judge is asked anything new."""
        self._tally.closed = True

    def down(self, why: str) -> None:
        self._tally.down = self._tally.down or why

    def full(self, why: str) -> None:
        """The run folder does not take what was paid for."""
        self._tally.full = self._tally.closed = True
        self.down(why)

    def put_aside(self, where: str, rows: int) -> None:
        """So many rows lie in another folder, from which a run takes them in."""
        self._tally.aside[where] += rows

    def lost(self, rows: int, usd: float) -> None:
        """So many rows, which have cost so much, could be kept nowhere."""
        self._tally.lost += rows
        self._tally.lost_usd += usd

    def tally(self) -> LaneCounts:
        self._tally.loading = [reader for reader, actors in self._loading.items() if actors]
        return self._tally

    def _count(self, block: str, answered: int, failed: Mapping[str, int]) -> None:
        self._tally.answered += answered
        self._tally.failed.update(failed)
        if one := self._open.get(block):
            one.answered += answered
            one.failed.update(failed)
            if one.answered >= one.cells:
                del self._open[block]

    def _begin(self, block: str) -> Verdict:
        verdict = Verdict.RESUME if block in self._begun else Verdict.BEGIN
        self._begun[block] = self._pass
        return verdict


def open_lane_state(starts: int = _STARTS) -> Any:
    """A fresh LaneState, on the driver's own node: it must live exactly as long as the driver."""
    here = ray.get_runtime_context().get_node_id()
    affinity = NodeAffinitySchedulingStrategy(here, soft=False)
    return ray.remote(LaneState).options(num_cpus=0, scheduling_strategy=affinity).remote(starts)
