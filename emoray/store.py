"""A run folder: its paths, its manifest, and how its files are written and read.

    RUN/run.json                                                  the manifest
    RUN/lanes.json                                                what each lane of the run under way does or waits for
    RUN/answers/model_folder=m-<m>/*.parquet                      one row per ask, as soon as it exists
    RUN/rows/reader_folder=r-<r>/model_folder=m-<m>/*.parquet     the scored rows
    RUN/tabs/                                                     what each actor may have spent (`emoray.tabs`)
    RUN/torn/                                                     what could not be read, for whoever wants to look
    RUN/report/

on any filesystem that pyarrow knows. Models and readers stand in the rows. The folders are Hive partitions, since Spark
looks into no others, but of columns that no row has and by values that look like no number and no date: readers that
know Hive partitions guess the types of what stands in a path, take it instead of the rows' own, and stumble where the
two differ. So they did over `model=<m>`, as folders were once called; a run keeps the names that it began with.

Three rules hold everything together:

* a file under its real name is whole (`put`), and never changes; names that begin with `.` or `_` do not count;
* a file that takes the place of others names them in its metadata, so that from the moment it exists they are
  ignored, whether or not anybody lived long enough to delete them;
* a key may occur in several rows (a crash, a second worker): on reading one counts, an answer before a failure,
  the first durable answer, the last failure. Files sort by the time they were begun, merged ones remember the
  times of their parts, compacted ones come first: who won once wins for ever.

Reading never writes. What cannot be read is skipped with a warning, and its cells are owed again; `Part.repair`
sets it aside.
"""

from __future__ import annotations

import base64
import errno
import io
import json
import logging
import mmap
import os
import re
import secrets
import stat
import tempfile
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from emoray import json_file, rows
from emoray.generations import Files
from emoray.printable import one_line
from emoray.resume import MONEY, Census, Keys, Places, Settled, Spent, Words, words

log = logging.getLogger(__name__)

ENDING = ".parquet"
LANES = "lanes.json"
TABS = "tabs"
_TORN = "torn"  # apart: Polars reads no folder that holds anything but Parquet
_BEGINNINGS = {"model": "model_folder=m-", "reader": "reader_folder=r-"}  # of the folders of a model, of a reader
_OLD_BEGINNINGS = {"model": "model=", "reader": "reader="}
_LONGEST_FOLDER = 255  # bytes that a filesystem gives a name
_VERSION = b"emoray.schema_version"
_NOTE = b"emoray.file"
_OBJECT_STORES = {"s3", "gcs", "abfs"}  # an object appears whole, when its upload is complete, or not at all
_WHOLE_READ = 8 << 20  # bytes: up to here a file is fetched in one request
_BATCH = 16_384  # rows
_KEY_BATCH = 262_144  # rows
_READS = 3  # of a small file, before it cannot be read
_LISTINGS = 20  # how often a reader looks again while a writer merges files under its eyes
STALE_NS = int(3600e9)  # a temporary file of this age belongs to nobody
_HALF = ".tmp-"  # in the name of a file that is being written
_MARK, _LOOK, _PROBE, _BALLAST = ".mark-", ".look-", ".probe-", ".ballast-"
_BALLAST_BYTES = 16 << 20  # room for some thousand answers
_SPOOLED = 64 << 20  # bytes: from here on a copy of a file waits on disk
_DECIDING = ("key", "outcome", "read_error")  # the columns that say which row counts
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_JOURNAL_NAME = re.compile(r"(?P<stamp>\d{8}T\d{6}\.\d{6})-(?P<writer>.+)-(?P<level>\d+)\.parquet")
_COMPACT_NAME = re.compile(r"compact-(?P<stamp>\d{8}T\d{6}\.\d{6})-(?P<writer>[0-9a-f]+)\.parquet")

_Found = TypeVar("_Found")


class StoreError(Exception):
    """One sentence: what is wrong, where, and what to do."""


class Denied(StoreError):
    """No space or no permission: trying again helps nobody before somebody has changed that."""


class Deleted(Denied):
    """The run folder is not there any more, and nobody makes it anew but a run that begins."""


class BrokenManifest(StoreError):
    """A run.json that says nothing: empty, cut, or no object."""


class Gone(Exception):
    """A file that was listed was merged meanwhile, or could not be read for a moment. Look again."""


class Torn(Exception):
    """A file that is no whole file of ours: cut, empty, corrupt or foreign."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name


@dataclass(frozen=True)
class RunFolder:
    """One run on any pyarrow filesystem. Making one opens nothing and writes nothing; it can be pickled."""

    uri: str  # a path, or a URI: /a/b, file:///a/b, s3://bucket/run?endpoint_override=…
    begun: bool = False  # a run is at work in it: on a local disk nothing is written where the folder has been deleted

    def exists(self) -> bool:
        with telling("look at", self.where("")):
            found: bool = self.fs.get_file_info(self.path()).type != pafs.FileType.NotFound
        return found

    def holds(self, relative: str) -> bool:
        """Whether there is such a file, as far as that can be told: a store that fails is no store that has lost it."""
        try:
            found: bool = self.fs.get_file_info(self.path(relative)).type != pafs.FileType.NotFound
        except OSError:
            return True
        return found

    def create(self) -> None:
        """Make the folder if it is not there; on a local disk for its owner only (0700)."""
        with telling("create", self.where("")):
            if _is_local(self.fs):
                _make_folder(Path(self.path()), Path(self.path()))
            else:
                self.fs.create_dir(self.path(), recursive=True)

    def manifest(self) -> dict[str, Any] | None:
        """What run.json says; None when there is none, BrokenManifest when it is broken."""
        raw = self.read_bytes("run.json")
        if raw is None:
            return None
        try:
            return json_file.read(dict[str, Any], raw)
        except json_file.BadJson as wrong:
            raise BrokenManifest(self._broken_manifest(str(wrong))) from None

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """On a local disk for its owner only (0600), until somebody gives it other rights: these it keeps."""
        data = (json.dumps(dict(manifest), indent=2, ensure_ascii=False) + "\n").encode()
        self.check_there()
        with telling("write", self.where("run.json")):
            put(self.fs, self.path("run.json"), lambda sink: sink.write(data), self.path(), mode=0o600)

    def set_aside_broken_manifest(self) -> None:
        """Moved to RUN/torn, for whoever wants to look."""
        try:
            self.manifest()
        except BrokenManifest:
            aside = f"{_TORN}/run.json-{secrets.token_hex(4)}"
            with telling("set aside", self.where("run.json")):
                self.fs.create_dir(self.path(_TORN), recursive=True)
                self.fs.move(self.path("run.json"), self.path(aside))

    def sweep(self, before_ns: int) -> None:
        """Delete what dead runs have left beside the parts: all marks of runs, and what is not whole and was written
        before `before_ns` (since 1970). For a run that holds the lease.
        """
        for place in ("", *(info.base_name for info in self.infos("") if info.type == pafs.FileType.Directory)):
            for info in self.infos(place):
                if info.is_file and _is_left(info, before_ns):
                    self.delete(f"{place}/{info.base_name}" if place else info.base_name)

    def lay_ballast(self) -> None:
        """Take some room on a local disk, for answers that come when it is full; no error where there is none."""
        if not _is_local(self.fs):
            return
        with suppress(OSError), Path(self.path(f"{_BALLAST}{secrets.token_hex(8)}")).open("wb") as ballast:
            ballast.write(bytes(_BALLAST_BYTES))

    def throw_ballast(self) -> bool:
        """Give that room back; whether there was any."""
        found = [info.base_name for info in self.infos("") if info.base_name.startswith(_BALLAST)]
        for name in found:
            self.delete(name)
        return bool(found)

    def answers(self, model: str) -> Part:
        return Part(self, f"answers/{self._folder('model', model)}", rows.SAID)

    def rows(self, reader: str, model: str) -> Part:
        return Part(self, f"rows/{self._folder('reader', reader)}/{self._folder('model', model)}", rows.SCORED)

    def models(self, within: str = "answers") -> list[str]:
        """The models that have answers here (or a folder in another place like that of answers), sorted."""
        return self._names(within, "model")

    def readers(self, within: str = "rows") -> list[str]:
        """The readers that have rows here (or a folder in another place like that of rows), sorted."""
        return self._names(within, "reader")

    def parts(self) -> list[Part]:
        """Every part that is there: the answers of each model, then the rows of each reader and model."""
        answered = [self.answers(model) for model in self.models()]
        read = [(reader, f"rows/{self._folder('reader', reader)}") for reader in self.readers()]
        return answered + [self.rows(reader, model) for reader, path in read for model in self._names(path, "model")]

    def write_text(self, relative: str, text: str) -> None:
        self.write_bytes(relative, text.encode("utf-8"))

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Whole or not at all; an older file of that name stays until the new one is durable."""
        self.check_there()
        with telling("write", self.where(relative)):
            put(self.fs, self.path(relative), lambda sink: sink.write(data), self.path())

    def check_there(self, relative: str = "") -> None:
        """Deleted where a run is at work in the folder, and it (or a file that it always holds) is not there."""
        if not (self.begun and _is_local(self.fs)):
            return
        try:
            os.lstat(self.path(relative))
        except (FileNotFoundError, NotADirectoryError):
            raise Deleted(deleted(self.shown)) from None
        except OSError:  # a disk that fails has lost nothing yet: what is written next says what is wrong
            return

    def read_bytes(self, relative: str) -> bytes | None:
        """None when there is no such file. A store may break off an answer that its client does not ask for again."""
        with telling("read", self.where(relative)):
            return self._read(relative, _READS)

    def _read(self, relative: str, reads: int) -> bytes | None:
        try:
            with self.fs.open_input_stream(self.path(relative), compression=None) as stream:
                data: bytes = b"" if self._is_empty(relative) else stream.read()
        except FileNotFoundError:
            return None
        except OSError:
            if reads == 1:
                raise
            return self._read(relative, reads - 1)
        return data

    def _is_empty(self, relative: str) -> bool:
        """Of an object store: S3 refuses to read from an empty object."""
        return not _is_local(self.fs) and self.fs.get_file_info(self.path(relative)).size == 0

    def delete(self, relative: str) -> None:
        """No error when it is not there."""
        with telling("delete", self.where(relative)), suppress(FileNotFoundError):
            self.fs.delete_file(self.path(relative))

    def infos(self, relative: str) -> list[Any]:
        """The pyarrow FileInfo of everything directly in a folder; [] when there is no such folder.

        pyarrow looks for the folder only after it could not list it, and raises when another made it in between.
        """
        selector = pafs.FileSelector(self.path(relative), allow_not_found=True)
        with telling("list", self.where(relative)):
            with suppress(FileNotFoundError):
                return list(self.fs.get_file_info(selector))
            return list(self.fs.get_file_info(selector))

    def path(self, relative: str = "") -> str:
        """The path inside the filesystem."""
        root = _opened(self.uri)[1]
        return f"{root}/{relative}" if relative else root

    def where(self, relative: str) -> str:
        """The place as a person names it; without the secrets that a URI may carry."""
        return f"{self.shown.rstrip('/')}/{relative}"

    @property
    def shown(self) -> str:
        """The folder as a person names it; without the secrets that a URI may carry."""
        return _shown(self.uri)

    @property
    def fs(self) -> Any:
        """The pyarrow filesystem; StoreError when the URI names none."""
        return _opened(self.uri)[0]

    def _names(self, relative: str, what: str) -> list[str]:
        begins = self._beginnings()[what]
        found = [folder.removeprefix(begins) for folder in self._folders(relative) if folder.startswith(begins)]
        return sorted(map(unquote, found))

    def _folder(self, what: str, name: str) -> str:
        """The folder of a model or a reader, safe on every filesystem."""
        quoted, room = quote(name, safe=""), _LONGEST_FOLDER - len(_BEGINNINGS[what])
        if not 0 < len(quoted) <= room:
            raise StoreError(
                f"the {what} name {name[:40]!r} cannot be a folder name, where it would take {len(quoted)} characters "
                f"(a letter beyond ASCII takes six or more): give it one of 1 to {room}"
            )
        return self._beginnings()[what] + quoted

    def _beginnings(self) -> Mapping[str, str]:
        """How the folders of models and readers begin here: a run keeps the names that it began with."""
        if (known := _KNOWN_BEGINNINGS.get(self.uri)) is not None:
            return known
        folders = [folder for place in ("answers", "rows") for folder in self._folders(place)]
        ways = (_BEGINNINGS, _OLD_BEGINNINGS)
        there = [way for way in ways if any(folder.startswith(tuple(way.values())) for folder in folders)]
        if len(there) > 1:
            raise StoreError(self._of_two_versions())
        return _KNOWN_BEGINNINGS.setdefault(self.uri, there[0]) if there else _BEGINNINGS

    def _folders(self, relative: str) -> list[str]:
        return [info.base_name for info in self.infos(relative) if info.type == pafs.FileType.Directory]

    def _of_two_versions(self) -> str:
        old, new = (" or ".join(f"{begins}…" for begins in way.values()) for way in (_OLD_BEGINNINGS, _BEGINNINGS))
        return (
            f"{self.where('')} holds folders of two versions of emoray, some called {old} and some {new}: keep either "
            "here, and move the others to a run folder of their own"
        )

    def _broken_manifest(self, why: str) -> str:
        return (
            f"{self.where('run.json')} is broken ({why}): put back a good copy, or run its spec once more with "
            "--extend, which makes a new one and takes of the answers here those that the spec asks for"
        )


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
class Note:
    """What a file's metadata says of it."""

    replaces: tuple[str, ...] = ()  # the names of the files that do not count once this one exists
    blocks: tuple[tuple[int, int], ...] = ()  # (stamp in µs, rows) of each part it was merged from, in its order
    dropped: Spent = field(default_factory=Spent)  # what the rows cost that a compaction left out
    taken: Files = field(default_factory=Files)  # what a compaction has in it, over all generations

    def metadata(self) -> dict[str, str]:
        packed = {"dropped": self.dropped.__dict__, "taken": self.taken.packed()}
        return {_NOTE.decode(): json.dumps(self.__dict__ | packed)}

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes]) -> Note:
        """ValueError when it is none."""
        data = json.loads(metadata.get(_NOTE, b"{}"))
        try:
            blocks = tuple((int(stamp), int(count)) for stamp, count in data.get("blocks", ()))
            taken = Files.unpacked(data.get("taken", {}))
            return cls(tuple(data.get("replaces", ())), blocks, Spent.told(data.get("dropped", {})), taken)
        except (TypeError, AttributeError, OverflowError) as wrong:
            raise ValueError(f"its note cannot be read: {wrong}") from None


@dataclass(frozen=True)
class Name:
    """A file's name, taken apart."""

    stamp: int  # µs since 1970
    writer: str
    level: int  # how often merged: 0, 1, 2 …; -1 compacted

    @classmethod
    def of(cls, name: str, mtime_ns: int = 0) -> Name:
        """Of a file that somebody named otherwise: as if written when it was last changed."""
        with suppress(ValueError):  # of a time that there is not
            if found := _COMPACT_NAME.fullmatch(name):
                return cls(_microseconds(found["stamp"]), found["writer"], -1)
            if found := _JOURNAL_NAME.fullmatch(name):
                return cls(_microseconds(found["stamp"]), found["writer"], int(found["level"]))
        return cls(mtime_ns // 1000, name, 0)

    def __str__(self) -> str:
        when = (_EPOCH + timedelta(microseconds=self.stamp)).strftime("%Y%m%dT%H%M%S.%f")
        stem = f"compact-{when}-{self.writer}" if self.level < 0 else f"{when}-{self.writer}-{self.level}"
        return stem + ENDING

    def when(self, stamp: int) -> int:
        """The place in time of a row of this file: compacted rows come first, writers of one microsecond do not tie."""
        whole = stamp * 1024 + zlib.crc32(self.writer.encode()) % 1024
        return whole - 2**62 if self.level < 0 else whole


@dataclass(frozen=True)
class Part:
    """One partition: a folder of files that together hold at most one *result* per key."""

    folder: RunFolder
    relative: str
    schema: pa.Schema  # of what is read; a column that a file lacks is null

    def files(self, *, prefix: str = "") -> list[str]:
        """The names of the files that could count, in the order of time."""
        return [info.base_name for info in self.infos() if info.base_name.startswith(prefix)]

    def settled(self) -> Settled:
        """The keys that have an answer (under rows/: one that was read). 16 bytes per key."""
        read: dict[str, tuple[Words, Words] | None] = {}
        for _ in range(_LISTINGS):
            with suppress(Gone):
                found = self._each(read, lambda keys: (keys.high[keys.good], keys.low[keys.good]))
                return Settled.of_parts([words for words in found.values() if words is not None])
        raise StoreError(self._restless())

    def tables(self, columns: Sequence[str] | None = None, batch_rows: int = _BATCH) -> Iterator[pa.Table]:
        """One row per key, in the order of files, in tables of about `batch_rows` rows.

        Memory is that of a batch plus about 60 bytes per key. A file that vanishes meanwhile was merged by its
        writer: its rows come from the merged one, none twice.
        """
        bad: set[str] = set()
        seen = Settled()
        in_vain = 0
        while in_vain < _LISTINGS:
            census = self.census(frozenset(bad)).without(seen)
            told = np.zeros(len(census.chosen), dtype=np.bool_)
            try:
                for table, ranks in self.rows_of(census, columns, batch_rows):
                    yield table
                    told[ranks] = True
            except Gone:
                in_vain = 0 if told.any() else in_vain + 1
            except Torn as torn:
                _warn(self, torn)
                bad.add(torn.name)
            else:
                return
            chosen = census.chosen[told]
            seen = seen.union(Settled.of_words(census.high[chosen], census.low[chosen]))
        raise StoreError(self._restless())

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All of it, one row per key, sorted by key: the same whatever the history of the folder."""
        names = self.schema.names if columns is None else list(columns)
        with_key = names if "key" in names else [*names, "key"]
        tables = list(self.tables(with_key))
        whole = pa.concat_tables(tables) if tables else self._schema_of(with_key).empty_table()
        del tables
        high, low = words(whole["key"])
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
            with suppress(Gone):
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

    def set_aside(self, torn: Torn) -> None:
        """Move a file away so that it no longer counts; its cells are owed again."""
        where = self.folder.where(self._aside(torn.name))
        log.warning("%s is set aside as %s, its cells are owed again: %s", self.where(torn.name), where, torn)
        self._move_aside(torn.name)

    def census(self, exclude: frozenset[str] = frozenset(), *, spent: bool = False) -> Census:
        """Which row of which file counts for each key, as of now."""
        read: dict[str, Keys | None] = {}
        for _ in range(_LISTINGS):
            with suppress(Gone):
                return _counted(self._each(read, lambda keys: keys, exclude, spent=spent))
        raise StoreError(self._restless())

    def rows_of(
        self, census: Census, columns: Sequence[str] | None = None, batch_rows: int = _BATCH
    ) -> Iterator[tuple[pa.Table, Places]]:
        """The rows that count, with the rank of each in the order of keys. Raises Gone or Torn when a file is."""
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

    def infos(self) -> list[Any]:
        """The pyarrow FileInfo of the files that could count, in the order of time."""
        found = [info for info in self.folder.infos(self.relative) if _could_count(info)]
        return sorted(found, key=_in_time)

    def open(self, info: Any) -> pq.ParquetFile:
        """A file of ours; Gone, Torn, or StoreError for one of another schema version."""
        with self.reading(info):
            file = _opened_file(self._source(info))
        if (found := file.metadata.metadata[_VERSION].decode(errors="replace")) not in rows.KNOWN_VERSIONS:
            known = " and ".join(map(repr, rows.KNOWN_VERSIONS))
            raise StoreError(
                f"{self.where(info.base_name)} has schema version {found!r}, and this emoray knows {known}: "
                "use the emoray that wrote it, or choose another run folder"
            )
        return file

    @contextmanager
    def reading(self, info: Any) -> Iterator[None]:
        """Tells a file that is torn from one that is gone, and from a disk or a network that fails (StoreError).

        Of a corrupt file pyarrow says what it says of a bad moment, so only what is wrong a second time is torn.
        """
        try:
            yield
        except FileNotFoundError:
            raise Gone(info.base_name) from None
        except MemoryError:
            raise
        except (ValueError, OSError, pa.ArrowException) as wrong:
            self._read_again(info)
            raise Gone(info.base_name) from wrong

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
        return f"{_TORN}/{self.relative}/{name}"

    def _each(
        self,
        read: MutableMapping[str, _Found | None],
        of: Callable[[Keys], _Found],
        exclude: frozenset[str] = frozenset(),
        *,
        spent: bool = False,
    ) -> dict[str, _Found | None]:
        """What `of` says of the keys of each file, in the order of time; None of a torn one.

        `read` remembers it: who is told that a file is Gone calls again, and reads what is new.
        """
        infos = {info.base_name: info for info in self.infos() if info.base_name not in exclude}

        def remember(name: str) -> None:
            try:
                read[name] = of(self._keys(infos[name], spent=spent))
            except Torn as torn:
                _warn(self, torn)
                read[name] = None

        with ThreadPoolExecutor(2 if _is_local(self.folder.fs) else 16) as pool:
            list(pool.map(remember, [name for name in infos if name not in read]))
        return {name: read[name] for name in infos}

    def _keys(self, info: Any, *, spent: bool) -> Keys:
        file = self.open(info)
        with self.reading(info), file:
            return _keys_of(file, info, (*_DECIDING, *(MONEY if spent else ())))

    def _selected(self, census: Census, schema: pa.Schema, batch_rows: int) -> Iterator[tuple[pa.Table, Places]]:
        infos = {info.base_name: info for info in self.infos()}
        for name, places, ranks in census.by_file():
            if name not in infos:
                raise Gone(name)
            file = self.open(infos[name])
            with self.reading(infos[name]), file:
                for table, some in _picked(file, places, schema, batch_rows):
                    yield table, ranks[some]

    def _source(self, info: Any) -> Any:
        fs, path = self.folder.fs, self.path(info.base_name)
        if info.size > _WHOLE_READ:
            return fs.open_input_file(path)
        with fs.open_input_stream(path, compression=None) as stream:
            return pa.BufferReader(stream.read_buffer())

    def _read_again(self, info: Any) -> None:
        """Gone or Torn when the file is; StoreError when the disk or the network fails."""
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED) as copy:
            with telling("read", self.where(info.base_name)):
                try:
                    with self.folder.fs.open_input_stream(self.path(info.base_name), compression=None) as stream:
                        while chunk := stream.read(_WHOLE_READ):
                            copy.write(chunk)
                except FileNotFoundError:
                    raise Gone(info.base_name) from None
            copy.seek(0)
            try:
                with _opened_file(copy) as file:
                    _keys_of(file, info, (*_DECIDING, *MONEY))
                    for batch in file.iter_batches(batch_size=_BATCH):
                        _fitted(pa.Table.from_batches([batch]), self.schema)
            except (ValueError, OSError, pa.ArrowException) as wrong:
                raise Torn(info.base_name, _one_line(wrong)) from None

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
                if info.base_name.startswith(".") and _HALF in info.base_name:
                    self.folder.delete(path)
                elif info.base_name.startswith(".compact-"):
                    with telling("delete", self.where(info.base_name)), suppress(FileNotFoundError):
                        self.folder.fs.delete_dir(self.folder.path(path))

    def _restless(self) -> str:
        return (
            f"the files of {self.where('')} changed or failed {_LISTINGS} times while they were read: "
            "try again when fewer writers are at work, or the store is well"
        )


def probe(folder: RunFolder, *, need_mb: float = 256) -> None:
    """StoreError when a run could not be written here: no permission, no space. Makes the folder."""
    folder.create()
    _try_writing(folder)
    if not _is_local(folder.fs):
        return
    with telling("look at", folder.where("")):
        disk = os.statvfs(folder.path())
    free_mb = disk.f_bavail * disk.f_frsize / 2**20
    if free_mb < need_mb:
        raise StoreError(
            f"only {free_mb:.0f} MB are free at {folder.where('')}, and {need_mb:.0f} MB are needed: "
            "free some, or choose another run folder"
        )


def leave_mark(folder: RunFolder, *, held: bool = True) -> str:
    """Write something that every node must then see (`missing_mark`); its name. `folder.delete` removes it.

    `held`: by who holds the lease, so that the next who does may remove it at once.
    """
    mark = f"{_MARK if held else _LOOK}{secrets.token_hex(8)}"
    folder.write_text(mark, "emoray was here\n")
    return mark


def missing_mark(folder: RunFolder, mark: str, *, node: str) -> str | None:
    """None when this node sees the mark and can write beside it; else a sentence for the user."""
    try:
        if folder.read_bytes(mark) is None:
            return (
                f"node {node} does not see {folder.where('')} as the driver does: "
                "choose a run folder that all nodes share (NFS, s3://…)"
            )
        _try_writing(folder)
    except StoreError as wrong:
        return f"on node {node}: {wrong}"
    return None


def _try_writing(folder: RunFolder) -> None:
    name = f"{_PROBE}{secrets.token_hex(8)}"
    folder.write_bytes(name, b"emoray\n")
    folder.delete(name)


def put(
    fs: Any, path: str, fill: Callable[[IO[bytes]], object], root: str | None = None, *, mode: int | None = None
) -> None:
    """Write a file whole or not at all; durable on return. `fill` writes it into what it is given; `root` is the run
    folder that it belongs to. A local file that is new gets the rights of `mode`, one that is there keeps its own;
    without `mode` the umask decides.

    Locally (and on NFS): temporary name, fsync, rename, fsync of the folder. On an object store: one put, from
    memory or a spooled file, by a thread that no signal reaches. Elsewhere (HDFS): temporary name and rename.
    """
    if _is_local(fs):
        _put_local(Path(path), fill, Path(root) if root else None, mode)
        return
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED) as spool:
        fill(spool)
        whole = _whole(spool)  # before anything is opened: an object is complete when its stream is closed, however
        _undisturbed(partial(_put_whole, fs, path, whole))


def _put_whole(fs: Any, path: str, whole: bytes | mmap.mmap) -> None:
    direct = fs.type_name in _OBJECT_STORES
    folder, _, name = path.rpartition("/")
    target = path if direct else f"{folder}/.{name}.tmp-{secrets.token_hex(4)}"
    if not direct:
        fs.create_dir(folder, recursive=True)
    with fs.open_output_stream(target, compression=None) as stream:
        stream.write(whole)
    if not direct:
        fs.move(target, path)


_UNDISTURBED = ThreadPoolExecutor(1, thread_name_prefix="put")  # one: puts of one object stay in their order


def _undisturbed(put: Callable[[], None]) -> None:
    """Signals interrupt the main thread alone, between any two steps: so it waits, and another does the work.

    What interrupts it is raised once the work is done. Who interrupts that too does not wait, and the work goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        put()
        return
    done = _UNDISTURBED.submit(put)
    try:
        done.exception()
    except BaseException:
        done.exception()
        raise
    done.result()


def _whole(spool: tempfile.SpooledTemporaryFile[bytes]) -> bytes | mmap.mmap:
    """All of it; what is large stays on disk."""
    if spool.tell() <= _SPOOLED:
        spool.seek(0)
        return spool.read()
    spool.flush()
    return mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ)


def encoded(table: pa.Table, note: Note | None = None) -> bytes:
    """A small table as the bytes of a file."""
    sink = io.BytesIO()
    with writer(sink, table.schema) as file:
        file.write_table(table)
        if note is not None:
            file.add_key_value_metadata(note.metadata())
    return sink.getvalue()


def writer(sink: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer with our settings: checksums on every page, the schema version in the metadata."""
    marked = schema.with_metadata({_VERSION: rows.SCHEMA_VERSION.encode()})
    return pq.ParquetWriter(
        sink,
        marked,
        compression="zstd",
        compression_level=1,
        write_page_checksum=True,
        write_statistics=["key"],
        use_dictionary=[field.name for field in schema if pa.types.is_string(field.type) and field.name not in _UNIQUE],
    )


_UNIQUE = {"key", "answer", "error", "reasoning"}  # columns in which a dictionary would save nothing


@contextmanager
def telling(doing: str, where: str) -> Iterator[None]:
    """Turns the errors of disks and networks into StoreError, one sentence each."""
    try:
        yield
    except (OSError, pa.ArrowException) as wrong:
        raise _complaint(doing, where, wrong) from wrong


def _complaint(doing: str, where: str, wrong: BaseException) -> StoreError:
    match getattr(wrong, "errno", None):
        case errno.ENOSPC | errno.EDQUOT:
            return Denied(
                f"there is no space left to {doing} {where}: free some and run the same command again, "
                "everything written so far is kept"
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            why = _one_line(wrong)
            return Denied(f"no permission to {doing} {where}: change it, or choose another run folder ({why})")
        case _:
            return StoreError(f"cannot {doing} {where}: {_one_line(wrong)}")


def deleted(shown: str) -> str:
    """What to say of a run folder that has gone under its run."""
    return (
        f"{shown} was deleted or moved away while this run wrote to it, so nothing more is asked: put it back and run "
        "the same command again, which otherwise begins anew"
    )


def _one_line(wrong: BaseException) -> str:
    return " ".join(str(wrong).split()) or type(wrong).__name__


def _put_local(
    path: Path, fill: Callable[[IO[bytes]], object], root: Path | None = None, mode: int | None = None
) -> None:
    _make_folder(path.parent, root or path.parent)
    part = path.parent / f".{path.name}.tmp-{secrets.token_hex(4)}"
    try:
        with part.open("wb") as sink:
            if mode is not None:
                os.fchmod(sink.fileno(), stat.S_IMODE(path.stat().st_mode) if path.exists() else mode)
            fill(sink)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(path)  # last, so a file under its real name is always whole
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _make_folder(folder: Path, root: Path) -> None:
    """So that it outlives a power cut, with all folders from `root` down to it, whoever made them: that one was found
    does not mean that whoever made it has come to make that durable.
    """
    if folder in _DURABLE and folder.is_dir():
        return
    missing = [one for one in (folder, *folder.parents) if not one.is_dir()]
    for one in reversed(missing):
        one.mkdir(mode=_rights(one, root), exist_ok=True)
    for one in dict.fromkeys([*missing, *(one for one in (folder, *folder.parents) if one.is_relative_to(root))]):
        if one.is_mount():  # what it is called there lies on no disk, and what lies around it may be no disk of ours
            continue
        with suppress(PermissionError):  # a folder that may be entered and not listed
            _sync_folder(one.parent)
    _DURABLE.add(folder)


def _rights(folder: Path, root: Path) -> int:
    """A run folder is its owner's; what comes into it later has the rights that somebody may have given it since."""
    if folder == root or not folder.is_relative_to(root):
        return 0o700 if folder == root else 0o777
    return stat.S_IMODE(folder.parent.stat().st_mode) & 0o777


_DURABLE: set[Path] = set()  # folders that this process has made sure of


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable, not only atomic."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _opened_file(source: Any) -> pq.ParquetFile:
    """Of any schema version; ValueError, OSError or ArrowException when it is no file of ours."""
    file = pq.ParquetFile(source, page_checksum_verification=True)
    metadata, names = file.metadata.metadata or {}, file.schema_arrow.names
    if _VERSION not in metadata or "key" not in names or "outcome" not in names:
        raise ValueError("it is Parquet, but not of emoray")
    if _stored_schema(metadata).names != names:
        raise ValueError("its footer is corrupt")
    return file


def _keys_of(file: pq.ParquetFile, info: Any, wanted: Sequence[str]) -> Keys:
    """The keys of a file and what decides which rows count; of the columns that are wanted and there."""
    columns = _columns_of(file, wanted)
    batches = file.iter_batches(batch_size=_KEY_BATCH, columns=columns)
    name, note = Name.of(info.base_name, info.mtime_ns), Note.of(file.metadata.metadata)
    blocks = note.blocks or ((name.stamp, file.metadata.num_rows),)
    when = np.repeat([name.when(stamp) for stamp, _ in blocks], [count for _, count in blocks])
    files = _files_of(info.base_name, name, [stamp for stamp, _ in blocks])
    return Keys.of(batches, when=when, replaces=note.replaces, dropped=note.dropped, files=files, taken=note.taken)


def _columns_of(file: pq.ParquetFile, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted columns that are there; a file is asked once, since it makes its schema anew each time."""
    there = set(file.schema_arrow.names)
    return [name for name in wanted if name in there]


def _files_of(own: str, name: Name, stamps: Sequence[int]) -> Files:
    """The smallest files that a file is, or was merged from; one of another kind is itself."""
    if name.level < 0 or name.writer == own:
        return Files(names=frozenset([own]))
    return Files.written(name.writer, stamps)


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


def _picked(
    file: pq.ParquetFile, places: Places, schema: pa.Schema, batch_rows: int
) -> Iterator[tuple[pa.Table, slice]]:
    """The rows at these places (ascending) of a file, with the slice of `places` that each table holds."""
    there = _columns_of(file, schema.names)
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        some = np.searchsorted(places, [start, stop])
        if some[0] == some[1]:
            start = stop
            continue
        for batch in file.iter_batches(batch_size=batch_rows, row_groups=[group], columns=there):
            first, last = np.searchsorted(places, [start, start + len(batch)])
            if first < last:
                inside = places[first:last] - start
                table = pa.Table.from_batches([batch])
                yield _fitted(table if len(inside) == len(batch) else table.take(inside), schema), slice(first, last)
            start += len(batch)


def _stored_schema(metadata: Mapping[bytes, bytes]) -> pa.Schema:
    """The schema as Arrow wrote it beside Parquet's own: a footer has no checksum, but it says its columns twice."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(metadata.get(b"ARROW:schema", b""))))


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """These columns in this order; nulls where a file has none."""
    if table.schema.equals(schema):
        return table.replace_schema_metadata(None)
    arrays = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _is_left(info: Any, before_ns: int) -> bool:
    """Whether a file beside the parts is nobody's any more."""
    name, written_ns = info.base_name, info.mtime_ns
    if name.startswith((_MARK, _BALLAST)):
        return True
    half = name.startswith((_LOOK, _PROBE)) or (name.startswith(".") and _HALF in name)
    return half and written_ns is not None and written_ns < before_ns


def _could_count(info: Any) -> bool:
    name: str = info.base_name
    return info.type == pafs.FileType.File and name.endswith(ENDING) and not name.startswith((".", "_"))


def _in_time(info: Any) -> tuple[bool, int, str]:
    name = Name.of(info.base_name, info.mtime_ns or 0)
    return name.level >= 0, name.stamp, info.base_name


def _microseconds(stamp: str) -> int:
    when = datetime.fromisoformat(stamp).replace(tzinfo=UTC)
    return (when - _EPOCH) // timedelta(microseconds=1)


def _is_sorted(high: Words, low: Words) -> bool:
    return bool(((high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] >= low[:-1]))).all())


def _is_local(fs: Any) -> bool:
    return bool(fs.type_name == "local")


def _warn(part: Part, torn: Torn) -> None:
    """Once: a command looks into a part several times."""
    sentence = f"{part.where(torn.name)} is skipped, its cells are owed again: {torn}"
    if sentence not in _SAID:
        _SAID.add(sentence)
        log.warning("%s", sentence)


_SAID: set[str] = set()  # of torn files, by this process


_QUERY_SECRETS = re.compile(r"([?&](?:client_secret|sig)=)[^&]*")  # of Azure; other stores take none there
_KEY_AND_SECRET = re.compile(r"//([^/:]*:.*|[^/]*)@", re.DOTALL)  # a secret of AWS may hold a /, where a URI must not


def without_secrets(uri: str, instead: str = "…@") -> str:
    """A URI less the key and secret that may stand before its @ or in its query; a path as it is."""
    if "://" not in uri:
        return uri
    return _QUERY_SECRETS.sub(r"\1…", _KEY_AND_SECRET.sub(f"//{instead}", uri))


def _shown(uri: str) -> str:
    return one_line(without_secrets(uri, "").split("?")[0] if "://" in uri else uri)


_KNOWN_BEGINNINGS: dict[str, Mapping[str, str]] = {}  # of the URIs in which there was something to see


@lru_cache(maxsize=64)
def _opened(uri: str) -> tuple[Any, str]:
    """The filesystem of a URI and the path in it."""
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        fs, path = pafs.FileSystem.from_uri(uri)
    except (OSError, ValueError, pa.ArrowException) as wrong:
        why = _one_line(wrong).replace(uri, _shown(uri))
        raise StoreError(f"{_shown(uri)!r} is no place that can be written to: {why}") from None
    if not path.strip("/"):
        raise StoreError(f"{_shown(uri)!r} is no place that can be written to: it names no folder")
    return fs, path.rstrip("/")
