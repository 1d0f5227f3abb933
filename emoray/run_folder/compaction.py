"""Many small files become one large one: one row per key, sorted by key.

Safe to kill at any moment. The new file names those it replaces, and its rows are counted before it does; it is
written whole before the first of them is deleted, and from the moment it exists they do not count. A compaction that
died before that has done nothing; one that died after it is finished by the next (or by `Partition.repair`). Rows
that do not count are left out, but what they cost is kept in the new file's metadata. What was paid for all of them is
noted beside it (`emoray.run_folder.tabs`), should it ever be lost.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from emoray.child_process import die_with
from emoray.home import environment, module
from emoray.run_folder.census import Census, Places, Spent
from emoray.run_folder.errors import CorruptFile, FileVanished, StoreError, telling
from emoray.run_folder.file_names import Name, Note
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.parquet import writer
from emoray.run_folder.partition import Partition
from emoray.run_folder.tabs import note_paid

_MEMORY_MB = 256
_ROW_GROUP = 65_536  # rows
_BATCH = 16_384  # rows read at a time
_SIDE_BY_SIDE = 2  # parts
_LITTLE = 1 << 20  # bytes of files that are compacted where they are: a process costs a second
_ENDED = "the process that compacted {where} ended with {code}: nothing is lost, `emoray compact` goes on"
_RETRIES = 5  # as often may a writer that is still alive merge files under our eyes


@dataclass(frozen=True)
class Compaction:
    """What a compaction did."""

    files_before: int
    files_after: int
    rows: int  # one per key
    left_out: int  # rows that did not count: spare copies, failures that were made good


def compact(
    part: Partition,
    *,
    clock: Callable[[], float] = time.time,
    memory_mb: int = _MEMORY_MB,
    step: Callable[[str], None] = lambda _: None,
) -> Compaction:
    """One sorted file instead of many. For a run that holds the lease; readers may go on reading.

    Holds a small multiple of `memory_mb` (four times at most) plus 60 bytes per key; parts that do not fit are
    sorted by way of temporary files, in the run folder if it is on a local disk. What cannot be read is set aside.
    StoreError when a disk fails; then nothing is lost. `step` is told of each step as it ends.
    """
    for _ in range(_RETRIES):
        part.repair(now_ns=int(clock() * 1e9))
        step("repaired")
        try:
            return _compact(part, clock, memory_mb, step)
        except FileVanished:  # merged meanwhile by its writer
            continue
        except CorruptFile as torn:  # corrupt deep inside, where a repair does not look
            if spent := part.spent().get(torn.name):
                note_paid(part, torn.name, spent)
            part.set_aside(torn)
    raise StoreError(f"the files of {part.where('')} changed while they were compacted: end the run that writes them")


def compact_apart(parts: Sequence[Partition]) -> None:
    """`compact`, in a process of its own where there is much: its memory goes with it, and it dies with this process.

    So no compaction outlives the lease it was begun under. StoreError as of `compact`.
    """
    if sys.platform != "linux" or sum(info.size or 0 for part in parts for info in part.infos()) <= _LITTLE:
        for part in parts:
            compact(part)
        return
    child = subprocess.Popen(
        [*module("emoray.run_folder.compaction"), str(os.getpid())],
        stdin=subprocess.PIPE,  # what to compact: a URI may hold secrets, and everybody can read a command line
        stdout=subprocess.PIPE,
        env=environment(),
        start_new_session=True,  # Ctrl-C at a terminal is for us
    )
    wanted = [[part.folder.uri, part.folder.begun, part.relative] for part in parts]
    said, _ = child.communicate(json.dumps(wanted).encode())
    if child.returncode:
        raise StoreError(said.decode().strip() or _ENDED.format(where=parts[0].folder.where(""), code=child.returncode))


def _compact_for(parent: int) -> int:
    """The other end of `compact_apart`."""
    die_with(parent)
    wanted = [(RunFolder(uri, begun=begun), relative) for uri, begun, relative in json.load(sys.stdin)]
    try:
        parts = [part for run, relative in wanted for part in run.parts() if part.relative == relative]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as threads:
            list(threads.map(lambda part: compact(part, memory_mb=_MEMORY_MB // _SIDE_BY_SIDE), parts))
    except StoreError as wrong:
        print(wrong)
        return 1
    return 0


def _compact(part: Partition, clock: Callable[[], float], memory_mb: int, step: Callable[[str], None]) -> Compaction:
    census = part.census(spent=True)
    rows = len(census.chosen)
    left_out = len(census.high) - rows
    if not census.names or (len(census.names) == 1 and Name.of(census.names[0]).level < 0):
        deque(part.rows_of(census, None, _BATCH), maxlen=0)  # its checksums: nobody else looks at all of its columns
        for one in census.names:
            note_paid(part, one, census.all_spent, instead_of=census.replaced, taken=census.taken)
        return Compaction(len(census.names), len(census.names), rows, left_out)
    name, replaces = str(_name(census, clock)), (*census.names, *census.replaced)
    step("planned")
    with _scratch(part) as scratch:
        part.write(name, lambda sink: _fill(sink, part, census, replaces, memory_mb << 20, scratch))
    _check(part, name)
    note_paid(part, name, census.all_spent, instead_of=replaces)
    step("written")
    for old in replaces:
        part.delete(old)
        step("deleted")
    return Compaction(len(census.names), 1, rows, left_out)


def _name(census: Census, clock: Callable[[], float]) -> Name:
    """Later than every compacted file there is, even when the clock has jumped back."""
    there = [Name.of(name) for name in census.names]
    last = max((name.stamp for name in there if name.level < 0), default=0)
    return Name(max(int(clock() * 1e6), last + 1), secrets.token_hex(4), -1)


def _fill(
    sink: IO[bytes], part: Partition, census: Census, replaces: tuple[str, ...], budget: int, scratch: Path
) -> None:
    """Every row that counts; only then is it said what they replace."""
    kept, count = Spent(), 0
    with writer(sink, part.schema) as out:
        for table in _in_order(part.rows_of(census, None, _BATCH), budget, scratch):
            kept += Spent.of(table)
            count += len(table)
            out.write_table(table, row_group_size=_ROW_GROUP)
        if count != len(census.chosen):
            expected = len(census.chosen)
            raise StoreError(f"{part.where('')} gave {count:,} rows of {expected:,}: its small files are kept")
        note = Note(replaces=replaces, dropped=census.all_spent.minus(kept), taken=census.taken)
        out.add_key_value_metadata(note.metadata())


def _check(part: Partition, name: str) -> None:
    """That what replaces everything is there; CorruptFile when it is not whole."""
    info = next((info for info in part.infos() if info.base_name == name), None)
    if info is None:
        raise StoreError(f"{part.where(name)} is not there after it was written: the small files beside it are kept")
    part.open(info).close()


def _in_order(found: Iterator[tuple[pa.Table, Places]], budget: int, scratch: Path) -> Iterator[pa.Table]:
    """Tables in the order of ranks, holding `budget` bytes or little more at a time."""
    held: list[pa.Table] = []
    for table, ranks in found:
        held.append(table.append_column(_RANK, pa.array(ranks)))
        if sum(one.nbytes for one in held) > budget:
            break
    else:
        if held:
            yield _by_rank(pa.concat_tables(held))
        return
    spill = _Spill(scratch, max(1, sum(map(len, held)) // 2))  # half: sorting needs the same again
    for table in held:
        spill.add(table)
    held.clear()
    for table, ranks in found:
        spill.add(table.append_column(_RANK, pa.array(ranks)))
    yield from spill.in_order()


_RANK = "rank of the key"


class _Spill:
    """Rows by ranges of rank, in one temporary file each."""

    def __init__(self, scratch: Path, rows_each: int) -> None:
        self._scratch = scratch
        self._rows_each = rows_each
        self._open = ExitStack()
        self._files: dict[int, pa.ipc.RecordBatchStreamWriter] = {}

    def add(self, table: pa.Table) -> None:
        ranges = table[_RANK].to_numpy() // self._rows_each
        for number in np.unique(ranges).tolist():
            self._file(number, table.schema).write_table(table.filter(pa.array(ranges == number)).combine_chunks())

    def in_order(self) -> Iterator[pa.Table]:
        self._open.close()
        for number in sorted(self._files):
            with pa.OSFile(str(self._path(number))) as source:
                yield _by_rank(pa.ipc.open_stream(source).read_all())

    def _file(self, number: int, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
        if number not in self._files:
            sink = self._open.enter_context(pa.OSFile(str(self._path(number)), "wb"))
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._files[number] = self._open.enter_context(pa.ipc.new_stream(sink, schema, options=options))
        return self._files[number]

    def _path(self, number: int) -> Path:
        return self._scratch / f"{number}.arrow"


def _by_rank(table: pa.Table) -> pa.Table:
    return table.take(np.argsort(table[_RANK].to_numpy())).drop_columns([_RANK])


@contextmanager
def _scratch(part: Partition) -> Iterator[Path]:
    """A folder for what does not fit into memory: hidden in the part on a local disk, else the system's."""
    beside = part.path("") if part.folder.fs.type_name == "local" else None
    with telling("make room in", part.where("")):
        folder = tempfile.TemporaryDirectory(prefix=".compact-", dir=beside, ignore_cleanup_errors=True)
    with folder as path:
        yield Path(path)


if __name__ == "__main__":
    sys.exit(_compact_for(int(sys.argv[1])))
