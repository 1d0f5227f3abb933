"""A folder on any filesystem."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs as pafs

from emoray.run_folder.atomic_write import is_local, make_folder, put
from emoray.run_folder.errors import Deleted, StoreError, deleted, telling
from emoray.run_folder.locations import opened, shown_uri

READS = 3  # of a small file, before it cannot be read
BALLAST = ".ballast-"
_BALLAST_BYTES = 16 << 20  # room for some thousand answers


@dataclass(frozen=True)
class Directory:
    """A folder on any pyarrow filesystem, with its files. Making one opens and writes nothing; it can be pickled."""

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
            if is_local(self.fs):
                make_folder(Path(self.path()), Path(self.path()))
            else:
                self.fs.create_dir(self.path(), recursive=True)

    def write_text(self, relative: str, text: str) -> None:
        self.write_bytes(relative, text.encode("utf-8"))

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Whole or not at all; an older file of that name stays until the new one is durable."""
        self.check_there()
        with telling("write", self.where(relative)):
            put(self.fs, self.path(relative), lambda sink: sink.write(data), self.path())

    def check_there(self, relative: str = "") -> None:
        """Deleted where a run is at work in the folder, and it (or a file that it always holds) is not there."""
        if not (self.begun and is_local(self.fs)):
            return
        try:
            os.lstat(self.path(relative))
        except (FileNotFoundError, NotADirectoryError):
            raise Deleted(deleted(self.shown)) from None
        except OSError:  # a disk that fails has lost nothing yet: what is written next says what is wrong
            return

    def read_bytes(self, relative: str) -> bytes | None:
        """None when there is no such file. A store may break off an answer that its client does not ask for again."""
        if is_local(self.fs) and _is_special(self.path(relative)):
            raise StoreError(f"{self.where(relative)} is a pipe, a socket or a device, and no file: move it away")
        with telling("read", self.where(relative)):
            return self._read(relative, READS)

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
        return not is_local(self.fs) and self.fs.get_file_info(self.path(relative)).size == 0

    def delete(self, relative: str) -> None:
        """No error when it is not there."""
        with telling("delete", self.where(relative)), suppress(FileNotFoundError):
            self.fs.delete_file(self.path(relative))

    def infos(self, relative: str) -> list[pafs.FileInfo]:
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
        root = opened(self.uri)[1]
        return f"{root}/{relative}" if relative else root

    def where(self, relative: str) -> str:
        """The place as a person names it; without the secrets that a URI may carry."""
        return f"{self.shown.rstrip('/')}/{relative}"

    @property
    def shown(self) -> str:
        """The folder as a person names it; without the secrets that a URI may carry."""
        return shown_uri(self.uri)

    @property
    def fs(self) -> pafs.FileSystem:
        """The pyarrow filesystem; StoreError when the URI names none."""
        return opened(self.uri)[0]

    def lay_ballast(self) -> None:
        """Take some room on a local disk, for answers that come when it is full; no error where there is none."""
        if not is_local(self.fs):
            return
        with suppress(OSError), Path(self.path(f"{BALLAST}{secrets.token_hex(8)}")).open("wb") as ballast:
            ballast.write(bytes(_BALLAST_BYTES))

    def throw_ballast(self) -> bool:
        """Give that room back; whether there was any."""
        found = [info.base_name for info in self.infos("") if info.base_name.startswith(BALLAST)]
        for name in found:
            self.delete(name)
        return bool(found)


def _is_special(path: str) -> bool:
    """Whether reading might wait for ever."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
