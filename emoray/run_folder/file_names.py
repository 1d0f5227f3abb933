"""The names of a partition's files, what they tell, and the note inside that says which files they replace."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pyarrow import fs as pafs

from emoray.run_folder.census import Spent
from emoray.run_folder.generations import Files

ENDING = ".parquet"
TABS = "tabs"
SET_ASIDE = "torn"  # apart: Polars reads no folder that holds anything but Parquet
_NOTE = b"emoray.file"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_JOURNAL_NAME = re.compile(r"(?P<stamp>\d{8}T\d{6}\.\d{6})-(?P<writer>.+)-(?P<level>\d+)\.parquet")
_COMPACT_NAME = re.compile(r"compact-(?P<stamp>\d{8}T\d{6}\.\d{6})-(?P<writer>[0-9a-f]+)\.parquet")


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


def could_count(info: pafs.FileInfo) -> bool:
    name: str = info.base_name
    return info.type == pafs.FileType.File and name.endswith(ENDING) and not name.startswith((".", "_"))


def in_time(info: pafs.FileInfo) -> tuple[bool, int, str]:
    name = Name.of(info.base_name, info.mtime_ns or 0)
    return name.level >= 0, name.stamp, info.base_name


def _microseconds(stamp: str) -> int:
    when = datetime.fromisoformat(stamp).replace(tzinfo=UTC)
    return (when - _EPOCH) // timedelta(microseconds=1)


def files_of(own: str, name: Name, stamps: Sequence[int]) -> Files:
    """The smallest files that a file is, or was merged from; one of another kind is itself."""
    if name.level < 0 or name.writer == own:
        return Files(names=frozenset([own]))
    return Files.written(name.writer, stamps)
