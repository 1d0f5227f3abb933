"""One partition of a run folder: files that together hold at most one result per key, and how they are read.

The rules that hold them together stand at the head of this package.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from emoray.reasons import on_one_line
from emoray.run_folder import columns
from emoray.run_folder.atomic_write import HALF_WRITTEN, SPOOLED, STALE_NS, is_local, put
from emoray.run_folder.census import MONEY, Census, Keys, KeySet, Places, Spent, Words, split_keys
from emoray.run_folder.directory import Directory
from emoray.run_folder.errors import CorruptFile, FileVanished, StoreError, telling
from emoray.run_folder.file_names import SET_ASIDE, TABS, Name, could_count, in_time
from emoray.run_folder.generations import Files
from emoray.run_folder.parquet import BATCH, VERSION, WHOLE_READ, fitted, keys_of, opened_file, picked

log = logging.getLogger(__name__)
_LISTINGS = 20  # how often a reader looks again while a writer merges files under its eyes
_DECIDING = ("key", "outcome", "read_error")  # the columns that say which row counts

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Counts:
    """What is in a part. Money and tokens are all that was spent, also on what does not count."""

    answered: int = 0  # keys with an answer
    failed: Mapping[str, int] = field(default_factory=dict)  # keys without one, by the kind of their last failure
    spare: int = 0  # answers beyond the first of their key
    torn: int = 0  # files that cannot be read
    files: int = 0
    size_bytes: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    read_cost_usd: float = 0.0  # of judges
    last_write: datetime | None = None  # UTC


@dataclass(frozen=True)
class Partition:
    """One partition: a folder of files that together hold at most one *result* per key."""

    folder: Directory
    relative: str
    schema: pa.Schema  # of what is read; a column that a file lacks is null

    def files(self, *, prefix: str = "") -> list[str]:
        """The names of the files that could count, in the order of time."""
        return [info.base_name for info in self.infos() if info.base_name.startswith(prefix)]

    def settled(self) -> KeySet:
        """The keys that have an answer (under rows/: one that was read). 16 bytes per key."""
        read: dict[str, tuple[Words, Words] | None] = {}
        for _ in range(_LISTINGS):
            with suppress(FileVanished):
                found = self._each(read, lambda keys: (keys.high[keys.good], keys.low[keys.good]))
                return KeySet.of_parts([halves for halves in found.values() if halves is not None])
        raise StoreError(self._restless())

    def tables(self, columns: Sequence[str] | None = None, batch_rows: int = BATCH) -> Iterator[pa.Table]:
        """One row per key, in the order of files, in tables of about `batch_rows` rows.

        Memory is that of a batch plus about 60 bytes per key. A file that vanishes meanwhile was merged by its
        writer: its rows come from the merged one, none twice.
        """
        bad: set[str] = set()
        seen = KeySet()
        in_vain = 0
        while in_vain < _LISTINGS:
            census = self.census(frozenset(bad)).without(seen)
            told = np.zeros(len(census.chosen), dtype=np.bool_)
            try:
                for table, ranks in self.rows_of(census, columns, batch_rows):
                    yield table
                    told[ranks] = True
            except FileVanished:
                in_vain = 0 if told.any() else in_vain + 1
            except CorruptFile as torn:
                _warn(self, torn)
                bad.add(torn.name)
            else:
                return
            chosen = census.chosen[told]
            seen = seen.union(KeySet.of_words(census.high[chosen], census.low[chosen]))
        raise StoreError(self._restless())

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All of it, one row per key, sorted by key: the same whatever the history of the folder."""
        names = self.schema.names if columns is None else list(columns)
        with_key = names if "key" in names else [*names, "key"]
        tables = list(self.tables(with_key))
        whole = pa.concat_tables(tables) if tables else self._schema_of(with_key).empty_table()
        del tables
        high, low = split_keys(whole["key"])
        if not _is_sorted(high, low):
            whole = whole.take(np.lexsort((low, high)))
        return whole.select(names)

    def counts(self) -> Counts:
        """Cheap enough for `status`: reads keys, outcomes, tokens and money only; touches nothing."""
        census = self.census(spent=True)
        good = census.good[census.chosen]
        kinds = Counter(census.outcome[census.chosen[~good]].tolist())
        names = set(census.names)
        infos = [info for info in self.infos() if info.base_name in names]
        spent = census.all_spent
        return Counts(
            answered=int(good.sum()),
            failed={census.kinds[code]: count for code, count in sorted(kinds.items())},
            spare=spent.spare,
            torn=len(census.torn),
            files=len(infos),
            size_bytes=sum(info.size for info in infos),
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
            cost_usd=spent.cost_usd,
            read_cost_usd=spent.read_cost_usd,
            last_write=max((info.mtime for info in infos), default=None),
        )

    def spent(self) -> dict[str, Spent]:
        """What the rows of each file cost, of the files that count; holds no keys, and touches nothing."""
        return {name: one.spent for name, one in self.files_alone().items()}

    def files_alone(self) -> dict[str, Keys]:
        """The files that count, without their rows: what these cost, and what each file is, or was made of."""
        read: dict[str, Keys | None] = {}
        for _ in range(_LISTINGS):
            with suppress(FileVanished):
                found, _torn, _replaced = _counting(self._each(read, Keys.bare, spent=True))
                return found
        raise StoreError(self._restless())

    def repair(self, *, now_ns: int | None = None) -> list[str]:
        """Set aside what cannot be read (moved to RUN/torn, never deleted); their names.

        Also deletes what lies around: files whose successor exists, temporary files of the dead. For a run that
        holds the lease.
        """
        census = self.census()
        for name in census.torn:
            self._move_aside(name)
        for name in census.replaced:
            self.delete(name)
        if now_ns is not None:
            self.sweep(now_ns - STALE_NS)
        return census.torn

    def set_aside(self, torn: CorruptFile) -> None:
        """Move a file away so that it no longer counts; its cells are owed again."""
        where = self.folder.where(self._aside(torn.name))
        log.warning("%s is set aside as %s, its cells are owed again: %s", self.where(torn.name), where, torn)
        self._move_aside(torn.name)

    def census(self, exclude: frozenset[str] = frozenset(), *, spent: bool = False) -> Census:
        """Which row of which file counts for each key, as of now."""
        read: dict[str, Keys | None] = {}
        for _ in range(_LISTINGS):
            with suppress(FileVanished):
                return _counted(self._each(read, lambda keys: keys, exclude, spent=spent))
        raise StoreError(self._restless())

    def rows_of(
        self, census: Census, columns: Sequence[str] | None = None, batch_rows: int = BATCH
    ) -> Iterator[tuple[pa.Table, Places]]:
        """The rows that count, with the rank of each in the order of keys; FileVanished or CorruptFile if a file is."""
        schema = self._schema_of(self.schema.names if columns is None else columns)
        tables: list[pa.Table] = []
        ranks: list[Places] = []
        count = 0
        for table, some in self._selected(census, schema, batch_rows):
            tables.append(table)
            ranks.append(some)
            count += len(some)
            if count >= batch_rows:
                yield pa.concat_tables(tables), np.concatenate(ranks)
                tables, ranks, count = [], [], 0
        if tables:
            yield pa.concat_tables(tables), np.concatenate(ranks)

    def infos(self) -> list[pafs.FileInfo]:
        """The pyarrow FileInfo of the files that could count, in the order of time."""
        found = [info for info in self.folder.infos(self.relative) if could_count(info)]
        return sorted(found, key=in_time)

    def open(self, info: pafs.FileInfo) -> pq.ParquetFile:
        """A file of ours; FileVanished, CorruptFile, or StoreError for one of another schema version."""
        with self.reading(info):
            file = opened_file(self._source(info))
        if (found := file.metadata.metadata[VERSION].decode(errors="replace")) not in columns.KNOWN_VERSIONS:
            known = " and ".join(map(repr, columns.KNOWN_VERSIONS))
            raise StoreError(
                f"{self.where(info.base_name)} has schema version {found!r}, and this emoray knows {known}: "
                "use the emoray that wrote it, or choose another run folder"
            )
        return file

    @contextmanager
    def reading(self, info: pafs.FileInfo) -> Iterator[None]:
        """Tells a file that is torn from one that is gone, and from a disk or a network that fails (StoreError).

        Of a corrupt file pyarrow says what it says of a bad moment, so only what is wrong a second time is torn.
        """
        try:
            yield
        except FileNotFoundError:
            raise FileVanished(info.base_name) from None
        except MemoryError:
            raise
        except (ValueError, OSError, pa.ArrowException) as wrong:
            self._read_again(info)
            raise FileVanished(info.base_name) from wrong

    def write(self, name: str, fill: Callable[[IO[bytes]], object]) -> None:
        """A file, whole or not at all, durable on return."""
        self.folder.check_there("run.json")
        with telling("write", self.where(name)):
            put(self.folder.fs, self.path(name), fill, self.folder.path())

    def delete(self, name: str) -> None:
        self.folder.delete(f"{self.relative}/{name}")

    def path(self, name: str) -> str:
        return self.folder.path(f"{self.relative}/{name}")

    def where(self, name: str) -> str:
        return self.folder.where(f"{self.relative}/{name}")

    def _move_aside(self, name: str) -> None:
        aside = self.folder.path(self._aside(name))
        with telling("set aside", self.where(name)), suppress(FileNotFoundError):
            self.folder.fs.create_dir(aside.rpartition("/")[0], recursive=True)
            self.folder.fs.move(self.path(name), aside)

    def _aside(self, name: str) -> str:
        return f"{SET_ASIDE}/{self.relative}/{name}"

    def _each(
        self,
        read: MutableMapping[str, _Found | None],
        of: Callable[[Keys], _Found],
        exclude: frozenset[str] = frozenset(),
        *,
        spent: bool = False,
    ) -> dict[str, _Found | None]:
        """What `of` says of the keys of each file, in the order of time; None of a torn one.

        `read` remembers it: who is told that a file is gone calls again, and reads what is new.
        """
        infos = {info.base_name: info for info in self.infos() if info.base_name not in exclude}

        def remember(name: str) -> None:
            try:
                read[name] = of(self._keys(infos[name], spent=spent))
            except CorruptFile as torn:
                _warn(self, torn)
                read[name] = None

        with ThreadPoolExecutor(2 if is_local(self.folder.fs) else 16) as pool:
            list(pool.map(remember, [name for name in infos if name not in read]))
        return {name: read[name] for name in infos}

    def _keys(self, info: pafs.FileInfo, *, spent: bool) -> Keys:
        file = self.open(info)
        with self.reading(info), file:
            return keys_of(file, info, (*_DECIDING, *(MONEY if spent else ())))

    def _selected(self, census: Census, schema: pa.Schema, batch_rows: int) -> Iterator[tuple[pa.Table, Places]]:
        infos = {info.base_name: info for info in self.infos()}
        for name, places, ranks in census.by_file():
            if name not in infos:
                raise FileVanished(name)
            file = self.open(infos[name])
            with self.reading(infos[name]), file:
                for table, some in picked(file, places, schema, batch_rows):
                    yield table, ranks[some]

    def _source(self, info: pafs.FileInfo) -> pa.NativeFile:
        fs, path = self.folder.fs, self.path(info.base_name)
        if info.size > WHOLE_READ:
            return fs.open_input_file(path)
        with fs.open_input_stream(path, compression=None) as stream:
            return pa.BufferReader(stream.read_buffer())

    def _read_again(self, info: pafs.FileInfo) -> None:
        """FileVanished or CorruptFile when the file is; StoreError when the disk or the network fails."""
        with tempfile.SpooledTemporaryFile(max_size=SPOOLED) as copy:
            with telling("read", self.where(info.base_name)):
                try:
                    with self.folder.fs.open_input_stream(self.path(info.base_name), compression=None) as stream:
                        while chunk := stream.read(WHOLE_READ):
                            copy.write(chunk)
                except FileNotFoundError:
                    raise FileVanished(info.base_name) from None
            copy.seek(0)
            try:
                with opened_file(copy) as file:
                    keys_of(file, info, (*_DECIDING, *MONEY))
                    for batch in file.iter_batches(batch_size=BATCH):
                        fitted(pa.Table.from_batches([batch]), self.schema)
            except (ValueError, OSError, pa.ArrowException) as wrong:
                raise CorruptFile(info.base_name, on_one_line(wrong)) from None

    def _schema_of(self, columns: Sequence[str]) -> pa.Schema:
        return pa.schema([self.schema.field(name) for name in columns])

    def sweep(self, before_ns: int) -> None:
        """Delete what is not whole and was written before `before_ns` (since 1970), also of its tabs. For a run that
        holds the lease.
        """
        for place in (self.relative, f"{TABS}/{self.relative}"):
            for info in self.folder.infos(place):
                if info.mtime_ns is None or info.mtime_ns >= before_ns:
                    continue
                path = f"{place}/{info.base_name}"
                if info.base_name.startswith(".") and HALF_WRITTEN in info.base_name:
                    self.folder.delete(path)
                elif info.base_name.startswith(".compact-"):
                    with telling("delete", self.where(info.base_name)), suppress(FileNotFoundError):
                        self.folder.fs.delete_dir(self.folder.path(path))

    def _restless(self) -> str:
        return (
            f"the files of {self.where('')} changed or failed {_LISTINGS} times while they were read: "
            "try again when fewer writers are at work, or the store is well"
        )


def _counted(found: Mapping[str, Keys | None]) -> Census:
    """The census of files by their keys; None is a torn one."""
    counting, torn, replaced = _counting(found)
    return Census.of(counting, torn=torn, replaced=replaced)


def _counting(found: Mapping[str, Keys | None]) -> tuple[dict[str, Keys], list[str], list[str]]:
    """Of files by their keys (None is a torn one): those that count, the torn ones, and the replaced ones."""
    keys = {name: one for name, one in found.items() if one is not None}
    gone = {name for one in keys.values() for name in one.replaces} | _beside_compactions(keys) | _brought_back(keys)
    return (
        {name: one for name, one in keys.items() if name not in gone},
        [name for name in found if name not in keys],
        [name for name in keys if name in gone],
    )


def _beside_compactions(keys: Mapping[str, Keys]) -> set[str]:
    """Merges that ended while a compaction went on: it could not name them, but it took all that they merged."""
    levels = {name: Name.of(name).level for name, one in keys.items() if one.replaces}
    taken = [frozenset(keys[name].replaces) for name, level in levels.items() if level < 0]
    merged = [name for name, level in levels.items() if level > 0]
    return {name for name in merged if any(them.issuperset(keys[name].replaces) for them in taken)}


def _brought_back(keys: Mapping[str, Keys]) -> set[str]:
    """Files of an older generation beside what was made of them, perhaps by way of others that are not here."""
    compacted = Files.union(one.taken for one in keys.values())
    merged: defaultdict[str, list[tuple[int, Files]]] = defaultdict(list)
    for name, one in keys.items():
        if (level := Name.of(name).level) > 0:
            merged[Name.of(name).writer].append((level, one.files))
    return {name for name, one in keys.items() if compacted.has(one.files) or _merged(Name.of(name), one, merged)}


def _merged(name: Name, one: Keys, merged: Mapping[str, list[tuple[int, Files]]]) -> bool:
    return any(level > name.level >= 0 and files.has(one.files) for level, files in merged.get(name.writer, ()))


def _is_sorted(high: Words, low: Words) -> bool:
    return bool(((high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] >= low[:-1]))).all())


def _warn(part: Partition, torn: CorruptFile) -> None:
    """Once: a command looks into a part several times."""
    sentence = f"{part.where(torn.name)} is skipped, its cells are owed again: {torn}"
    if sentence not in _SAID:
        _SAID.add(sentence)
        log.warning("%s", sentence)


_SAID: set[str] = set()  # of torn files, by this process
