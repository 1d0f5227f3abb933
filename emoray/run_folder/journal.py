"""Durable append by group commit: what has been appended is on disk soon, and the caller is told when.

One thread writes. While it writes, what arrives waits together and goes into the next file; after a write it rests so
that it writes about a quarter of the time at most, never longer than `every_s`, and not at all when many rows wait, or
when one has waited so long that it would be durable later than after twice `every_s`. So a lone row is durable within
milliseconds on a local disk, and a stream of them makes some ten files a second there and two a second on a slow
store. A store that fails is insisted on for about a minute: what waits has been paid for. Where even that is in vain,
or a disk is full, a journal with a `Refuge` makes room, or puts the rows aside, or holds them for ten minutes. A
second thread merges every sixty small files into a larger one.
"""

from __future__ import annotations

import itertools
import logging
import random
import re
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from emoray.backoff import Backoff
from emoray.run_folder.errors import FileVanished, NoSpaceOrPermission, StoreError
from emoray.run_folder.file_names import Name, Note
from emoray.run_folder.parquet import encoded, writer
from emoray.run_folder.partition import Partition

log = logging.getLogger(__name__)

_MERGE = 60  # files
_SMALL = 8 << 20  # bytes: a file of this size is left as it is
_GROUP = 65_536  # rows written at once
_SHARE = 3  # a rest is this many times as long as the write before it
_INSISTING = Backoff(first_s=0.5, longest_s=20.0)
_TRIES = 9  # with the waits between them about a minute
_GATHER_S = 0.002  # before the first write: what is appended in one breath goes together


_HELD_S = 600.0  # so long are rows held in memory that have no place at all
_HELD_TRY_S = 5.0


class Refuge(Protocol):
    """What a journal turns to for rows that cost money, where its part does not take them."""

    def trouble(self, why: str) -> None:
        """Rows cannot be written; told of each group of them, before anything else is tried."""
        ...

    def make_room(self) -> bool:
        """Give back what was kept free for this; whether there was any."""
        ...

    def keep(self, name: str, data: bytes, table: pa.Table) -> str:
        """Put a file of these rows aside, durably; where. StoreError where that cannot be."""
        ...

    def lost(self, table: pa.Table) -> None:
        """Nothing took these rows in all that time."""
        ...


class PutAside(StoreError):
    """Rows are durable, but not in their part: whoever runs the run again takes them in."""


@dataclass(frozen=True)
class _Written:
    name: Name
    size: int  # bytes


@dataclass(frozen=True)
class _Waiting:
    table: pa.Table
    done: Future[None]
    since: float  # by the monotonic clock


class Journal:
    """Appends tables to a part, durably. One per actor and part; `append` may be called from any thread.

    `writer` names the actor, for people; what makes file names unique is added. `clock` (seconds since 1970) only
    orders files: when it jumps back, names go on from the last one. `pause` (seconds) and `draw` (chance in [0, 1)) are
    of the waits between tries. `refuge` is for rows that nobody can have again for nothing.
    """

    def __init__(
        self,
        part: Partition,
        writer: str,
        *,
        schema: pa.Schema,
        every_s: float = 1.0,
        max_rows: int = 8192,
        merge_files: int = _MERGE,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], object] = time.sleep,
        draw: Callable[[], float] = random.random,
        refuge: Refuge | None = None,
    ) -> None:
        if odd := [name for name in schema.names if name not in part.schema.names]:
            raise ValueError(f"a part that does not know the columns {odd} would lose them")
        self._part = part
        self._schema = schema
        self._every_s = every_s
        self._max_rows = max_rows
        self._merge_files = merge_files
        self._clock = clock
        self._pause = pause
        self._draw = draw
        self._refuge = refuge
        self._held_s = 0.0  # since a write succeeded
        self._writer = f"{in_name(writer)}_{secrets.token_hex(4)}"
        self._last_stamp = max((Name.of(i.base_name, i.mtime_ns or 0).stamp for i in part.infos()), default=0)
        self._news = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._hurry = False
        self._closed = False
        self._small: dict[int, list[_Written]] = defaultdict(list)  # by level; only the merger's after the start
        self._begin()

    def _begin(self) -> None:
        """With threads that write and merge; a simulation has none."""
        self._merger = ThreadPoolExecutor(1, thread_name_prefix="journal-merge")
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    @property
    def writer(self) -> str:
        """Its name in those of its files; no other journal has it."""
        return self._writer

    def append(self, table: pa.Table) -> Future[None]:
        """Done when the rows are durable; StoreError through the future when they cannot be: at once where the disk is
        full or forbids it, after a minute of tries where it fails otherwise. With a refuge: PutAside where that has
        them, StoreError when they are lost.

        After an error the journal goes on: later rows are tried afresh. ValueError when the columns are wrong.
        """
        waiting = _Waiting(table.select(self._schema.names).cast(self._schema), Future(), time.monotonic())
        waiting.done.set_running_or_notify_cancel()  # what was said cannot be unsaid: the future takes no cancel
        with self._news:
            if self._closed:
                raise ValueError("the journal is closed")
            self._waiting.append(waiting)
            self._news.notify()
        return waiting.done

    def flush(self) -> None:
        """Wait until all that was appended before is durable, or has failed."""
        with self._news:
            dones = [one.done for one in self._waiting]
            self._hurry = True
            self._news.notify()
        for done in dones:
            done.exception()

    def close(self) -> None:
        """Commit what is left and end the threads. Twice is no error."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()
        self._merger.shutdown()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        write_s = 0.0
        while (group := self._next(write_s)) is not None:
            began = time.monotonic()
            self._commit(group)
            write_s = time.monotonic() - began

    def _next(self, write_s: float) -> list[_Waiting] | None:
        """What goes into the next file, once there is something and the rest after a write of so long is over; None at
        the end.
        """
        wrote = time.monotonic()
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            began, oldest = time.monotonic(), self._waiting[0].since
            rest_s = wrote - began + pause_s(write_s, self._every_s, waited_s=wrote - oldest)
            self._news.wait_for(self._urgent, timeout=max(_GATHER_S, rest_s))
            return self._taken()

    def _taken(self) -> list[_Waiting]:
        """The first that wait, at most about 65,000 rows of them."""
        ends = itertools.accumulate(len(one.table) for one in self._waiting)
        count = 1 + sum(1 for end in ends if end < _GROUP)
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._hurry = self._hurry and bool(self._waiting)
        return group

    def _urgent(self) -> bool:
        return self._closed or self._hurry or sum(len(one.table) for one in self._waiting) >= self._max_rows

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            written = self._write(pa.concat_tables([one.table for one in group]))
        except Exception as wrong:  # whatever it is, whoever waits must hear of it
            failed = wrong if isinstance(wrong, StoreError) else StoreError(f"cannot write answers: {wrong}")
            failed.__cause__ = wrong if failed is not wrong else wrong.__cause__
            for one in group:
                one.done.set_exception(failed)
            return
        for one in group:
            one.done.set_result(None)
        self._merger.submit(self._note, written)

    def _write(self, table: pa.Table) -> _Written:
        name = Name(self._stamp(), self._writer, 0)
        data = encoded(table.combine_chunks())
        try:
            self._insist(str(name), data)
        except StoreError as wrong:
            if self._refuge is None:
                raise
            self._rescue(self._refuge, str(name), data, table, wrong)
        self._held_s = 0.0
        return _Written(name, len(data))

    def _rescue(self, refuge: Refuge, name: str, data: bytes, table: pa.Table, wrong: StoreError) -> None:
        """Returns once the file is in the part after all; PutAside, or what was wrong when the rows are lost."""
        refuge.trouble(str(wrong))
        if refuge.make_room() and self._written(name, data):
            return
        while True:
            if where := _kept(refuge, name, data, table):
                raise PutAside(f"{wrong} (what could not be written is in {where})") from wrong
            if self._held_s >= _HELD_S:
                refuge.lost(table)
                raise wrong
            self._held_s += _HELD_TRY_S
            self._pause(_HELD_TRY_S)
            if self._written(name, data):
                return

    def _written(self, name: str, data: bytes) -> bool:
        try:
            self._part.write(name, lambda sink: sink.write(data))
        except StoreError:
            return False
        return True

    def _insist(self, name: str, data: bytes) -> None:
        """Writes a file; under the same name again and again where the store fails, so that it is there once."""
        insist(lambda: self._part.write(name, lambda sink: sink.write(data)), pause=self._pause, draw=self._draw)

    def _stamp(self) -> int:
        """µs since 1970, later than every name that was there when we began and every one of ours."""
        self._last_stamp = max(int(self._clock() * 1e6), self._last_stamp + 1)
        return self._last_stamp

    def _note(self, written: _Written) -> None:
        """Merge when enough small files of a level are there; never an error, the answers are safe as they are."""
        if written.size >= _SMALL:
            return
        level = self._small[written.name.level]
        level.append(written)
        if len(level) < self._merge_files:
            return
        some, level[:] = list(level), []
        try:
            merged = merge(self._part, [one.name for one in some])
        except Exception:  # a compaction may have taken them, the disk may be full: they stay as they are
            log.warning("%s: small files were not merged", self._part.where(""), exc_info=True)
            return
        self._note(merged)


def _kept(refuge: Refuge, name: str, data: bytes, table: pa.Table) -> str:
    """Where; "" where nothing takes it."""
    try:
        return refuge.keep(name, data, table)
    except StoreError:
        return ""


def insist(
    write: Callable[[], object], *, pause: Callable[[float], object], draw: Callable[[], float], tries: int = _TRIES
) -> None:
    """Writes again where the store fails, for about a minute; StoreError then, at once for want of space or rights.

    `pause` (seconds) and `draw` (chance in [0, 1)) are of the waits between tries.
    """
    for attempt in itertools.count(1):
        try:
            write()
        except StoreError as wrong:
            if isinstance(wrong, NoSpaceOrPermission) or attempt == tries:
                raise
            wait_s = _INSISTING.wait_s(attempt, draw())
            log.warning("%s (tried again in %.1f s)", wrong, wait_s)
            pause(wait_s)
        else:
            return


def in_name(writer: str) -> str:
    """How a writer is called in the names of its files."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", writer)[:80]


def pause_s(write_s: float, every_s: float, *, waited_s: float = 0.0) -> float:
    """How long to gather after a write that took so long, when the oldest of what waits has waited so long.

    So that, if the next write takes as long as the last, what waits is durable within 2 `every_s`; a store that needs
    longer than that is given no rest.
    """
    left_s = 2 * every_s - waited_s - write_s
    return max(_GATHER_S, min(every_s, _SHARE * write_s, left_s))


def merge(part: Partition, names: list[Name], *, step: Callable[[str], None] = lambda _: None) -> _Written:
    """Files of one writer become one file of the next level: written whole first, then the small ones deleted."""
    merged = Name(names[0].stamp, names[0].writer, names[0].level + 1)
    sizes: list[int] = []

    def fill(sink: IO[bytes]) -> None:
        _pour(part, names, sink)
        sizes.append(sink.tell())

    part.write(str(merged), fill)
    step("written")
    for name in names:
        part.delete(str(name))
        step("deleted")
    return _Written(merged, sizes[-1])


def _pour(part: Partition, names: list[Name], sink: IO[bytes]) -> None:
    """All rows of all files in their order, and in the note what they were."""
    blocks: list[tuple[int, int]] = []
    out: pq.ParquetWriter | None = None
    for table in _coalesced(_whole(part, name, blocks) for name in names):
        out = out or writer(sink, table.schema)
        out.write_table(table)
    if out is None:
        raise ValueError("nothing to merge")
    out.add_key_value_metadata(Note(tuple(map(str, names)), tuple(blocks)).metadata())
    out.close()


def _whole(part: Partition, name: Name, blocks: list[tuple[int, int]]) -> pa.Table:
    """A file's rows; its blocks are added to `blocks`."""
    info: pafs.FileInfo = part.folder.fs.get_file_info(part.path(str(name)))
    if info.type != pafs.FileType.File:
        raise FileVanished(str(name))
    file = part.open(info)
    with part.reading(info), file:
        table = file.read().replace_schema_metadata(None)
        blocks += Note.of(file.metadata.metadata).blocks or ((name.stamp, len(table)),)
    return table


def _coalesced(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= _GROUP:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
