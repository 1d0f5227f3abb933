"""The actors that read: a reader and its journal."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError

from emoray.hosts.protocol import HostDown, Mortal
from emoray.readers.factory import reader_of
from emoray.readers.protocol import Reader, ReaderDown, Reading, SlowReader, TellingReader
from emoray.reasons import cause, is_failure, raised_at
from emoray.run_folder import columns
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.run_folder.tabs import PartTab
from emoray.spec.readers import JudgeReader, ReaderEntry
from emoray.stream.actor_context import (
    COMMIT_S,
    Work,
    access_of_actor,
    actor_id,
    block_name,
    check_node,
    day_of_run,
    is_across_nodes,
    still_owed,
    wait_for,
    writer_name,
)
from emoray.stream.generate import LAST_WORDS_S, log
from emoray.stream.refuge import LaneRefuge
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import Rules

_SEATS = 2  # threads inside a reader: one computes, the other tokenizes
_TOGETHER = 2048  # rows that a reader gets at once, where so many wait: more would only idle a GPU at the start


class ReadActor:
    """Reads with one reader. Answers in; the scored rows become durable; the same answers out."""

    def __init__(self, entry: ReaderEntry, work: Work, label_map: LabelMap, rules: Rules, *, careful: bool) -> None:
        """`careful` of what it begins, for blocks that cost money or can wait: an answer that has just been received is
        otherwise read even when the run is told to stop.
        """
        self._work, self._label_map, self._rules, self._careful = work, label_map, rules, careful
        self._reader = self._started(entry)
        self._together = _ReadBatcher()
        self._part = RunFolder(work.run, begun=True).rows(entry.name, work.model)
        paid = isinstance(entry, JudgeReader)  # any other reads again for nothing
        refuge = LaneRefuge(self._part, work.attempt, work.ledger) if paid else None
        self._journal = Journal(self._part, writer_name(work), schema=columns.SCORED, every_s=COMMIT_S, refuge=refuge)

    def __call__(self, block: pa.Table) -> pa.Table:
        """What cannot go on ends its lane without an exception, as with a GenerateActor."""
        if block.num_rows == 0 or self._reader is None:
            return block
        try:
            owed = self._owed(self._reader, block)
            wait_for(self._kept(self._reader, owed) if owed.num_rows else [])
        except (ReaderDown, StoreError) as wrong:
            ray.get(self._work.ledger.down.remote(str(wrong)))
        except BaseException as wrong:  # which nobody foresaw
            ray.get(self._work.ledger.down.remote(_unforeseen(self._reader.name, wrong)))
        else:
            self._work.ledger.read.remote(self._reader.name, owed.num_rows)
        return block

    def _started(self, entry: ReaderEntry) -> Reader | None:
        os.umask(self._work.umask)
        ledger = self._work.ledger
        if not ray.get(ledger.starting.remote(actor_id(), entry.name)):
            return None
        try:
            check_node(self._work)
            tab = PartTab(lambda: (self._part, self._journal.writer))
            access = access_of_actor(self._work, lambda lane: lane.read.get(entry.name, 0), tab)
            reader = reader_of(entry, access, day_of_run(self._work), across_nodes=is_across_nodes())
        except (HostDown, ReaderDown, StoreError) as wrong:
            ray.get(ledger.down.remote(str(wrong)))
            return None
        except BaseException as wrong:  # which nobody foresaw
            ray.get(ledger.down.remote(_unforeseen(entry.name, wrong)))
            return None
        if isinstance(reader, Mortal):
            reader.tell_of_death(lambda why: ray.get(ledger.dying.remote(why, entry.name), timeout=LAST_WORDS_S))
        ledger.ready.remote(actor_id(), entry.name, None, reader.notes if isinstance(reader, TellingReader) else ())
        return reader

    def _owed(self, reader: Reader, block: pa.Table) -> pa.Table:
        """What of the block is to be read."""
        if not self._careful:
            return block
        verdict = ray.get(self._work.ledger.begin_reading.remote(reader.name, block_name(block)))
        return still_owed(block, verdict, self._part)

    def _kept(self, reader: Reader, block: pa.Table) -> list[Future[None]]:
        """Reads the block; done when its rows are durable."""
        if isinstance(reader, SlowReader):
            return [self._keep(reader, block.take(places), readings) for places, readings in _heard_each(reader, block)]
        return [self._together.read(block, partial(self._read, reader))]

    def _read(self, reader: Reader, block: pa.Table) -> Future[None]:
        return self._keep(reader, block, _heard(reader, block["answer"].to_pylist()))

    def _keep(self, reader: Reader, block: pa.Table, readings: Sequence[Reading | None]) -> Future[None]:
        felt = columns.with_readings(block, readings, reader=reader.name, revision=reader.revision)
        return self._journal.append(columns.scored(felt, self._label_map, *self._rules))


class _ReadBatcher:
    """Reads blocks that wait as one: a reader sorts what it gets by length, so the more it gets the better."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._seats = threading.Semaphore(_SEATS)

    def read(self, block: pa.Table, read: Callable[[pa.Table], Future[None]]) -> Future[None]:
        """What `read` returns for the block and those that waited with it; raises what it raises."""
        mine = _Waiting(block)
        self._waiting.append(mine)
        with self._seats:
            if together := self._taken():  # else whoever had the seat before has taken mine along
                _read_as_one(together, read)
        return mine.durable.result()

    def _taken(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        with suppress(IndexError):
            while sum(one.block.num_rows for one in taken) < _TOGETHER:
                taken.append(self._waiting.popleft())
        return taken


@dataclass
class _Waiting:
    """A block that waits to be read; `durable` is there once it was."""

    block: pa.Table
    durable: Future[Future[None]] = field(default_factory=Future)


def _read_as_one(together: list[_Waiting], read: Callable[[pa.Table], Future[None]]) -> None:
    try:
        durable = read(pa.concat_tables([one.block for one in together]))
    except BaseException as wrong:  # whoever waits must hear of it
        for one in together:
            one.durable.set_exception(wrong)
        return
    for one in together:
        one.durable.set_result(durable)


def _unforeseen(reader: str, wrong: BaseException) -> str:
    """In a sentence; raises what is Ray's own, or an order to end."""
    if isinstance(wrong, RayError) or not is_failure(wrong):
        raise wrong
    log.error("reader %r failed", reader, exc_info=wrong)
    return (
        f"reader {reader!r} failed: {cause(wrong)} (at {raised_at(wrong)}); this is a fault of emoray: please report it"
    )


def _heard(reader: Reader, texts: list[Any]) -> list[Reading | None]:
    """The reading of every row; None where there is no answer to read."""
    there = [place for place, text in enumerate(texts) if text is not None]
    found: list[Reading | None] = [None] * len(texts)
    for place, reading in zip(there, reader.read([texts[place] for place in there]), strict=True):
        found[place] = reading
    return found


def _heard_each(reader: SlowReader, block: pa.Table) -> Iterator[tuple[list[int], list[Reading | None]]]:
    """Places and readings of all rows, as they come."""
    texts = block["answer"].to_pylist()
    there = [place for place, text in enumerate(texts) if text is not None]
    silent = [place for place, text in enumerate(texts) if text is None]
    if silent:
        yield silent, [None] * len(silent)
    for group in reader.read_each([texts[place] for place in there]):
        yield [there[place] for place, _ in group], [reading for _, reading in group]
