"""How many rows travel to an actor together, and how many blocks it works on at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emoray.scheduling import demand
from emoray.scheduling.resources import Node, PoolSize
from emoray.spec.entry import AddedModel
from emoray.spec.models import Embedded, Hosted, Local, ModelEntry, Rehearsed, Scripted, Vllm
from emoray.spec.readers import JudgeReader, ReaderEntry

_ENGINE_ROWS = 16  # rows that travel to an engine together
_MANY = 1000  # rows in a block where answers come at once
_LEAST_CALLS = 4  # one or two blocks are being asked, as many wait for the disk
_MANY_CALLS = 16  # where a block is answered in less time than a commit, or a hitch of the disk, takes
_LISTENER_CALLS = 32  # two are being read; the others wait to be read together, or for the disk: blocks can be small


@dataclass(frozen=True)
class Pool:
    """The actors of a kind, and how they are fed."""

    crew: PoolSize
    block_rows: int  # rows that travel together
    calls: int  # blocks that one actor works on at once


def speakers(entry: ModelEntry, nodes: Sequence[Node] = ()) -> Pool:
    """The pool of a model's speakers."""
    crew, at_once = demand.speakers(entry, nodes), demand.in_flight(entry)
    match entry:
        case Embedded() | Local():
            return Pool(crew, at_once, _LEAST_CALLS)
        case Vllm():
            calls = _calls(at_once, _ENGINE_ROWS)  # a block waits for its longest answer: most of it is done
            return Pool(crew, _ENGINE_ROWS, calls)
        case Scripted():
            rows = _in_a_while(at_once, entry.latency_s) if entry.latency_s else 4 * _MANY
            return Pool(crew, rows, max(_MANY_CALLS, _calls(at_once, rows)))
        case Hosted(host="batch_api"):
            return Pool(crew, 50_000, 1)  # the more asks come together, the fewer batches
        case Rehearsed() | Hosted() | AddedModel():
            rows = max(1, at_once // 8)
            return Pool(crew, rows, _calls(at_once, rows))


def _in_a_while(in_flight: int, latency_s: float) -> int:
    """Rows that are answered in a tenth of a second, within bounds: fewer would cost more to carry than to ask."""
    return min(_MANY, max(1, in_flight // 8, int(in_flight * 0.1 / latency_s)))


def _calls(in_flight: int, rows: int) -> int:
    """Blocks at once that keep a host full while as many again and more wait for the disk and for Ray."""
    return max(_LEAST_CALLS, -(-6 * in_flight // rows))


def listeners(entry: ReaderEntry, nodes: Sequence[Node] = ()) -> Pool:
    """The pool of a reader's listeners; blocks come as the speakers made them. A judge is a speaker that listens."""
    calls = speakers(entry.model).calls if isinstance(entry, JudgeReader) else _LISTENER_CALLS
    return Pool(demand.listeners(entry, nodes), 0, calls)
