"""Answers for which a run folder has no room: on another disk of this machine, from where a run takes them in.

    PLACE/<digest of the run folder's path>/<attempt>/answers/model_folder=m-<m>/*.parquet

Places are, in this order, EMORAY_SPILL_DIR alone where it is set, else the user's state folder and the temporary ones.
A file keeps the name that it has in the run folder, so that however often it is taken in, it is there once. What an
attempt has put aside belongs to the run that knows this attempt: a folder that was begun anew under the same name takes
nothing of it, and one that was moved meanwhile does. A copy knows the attempts of its original: while that lies where
PLACE/<digest>/.origin says, it alone takes them.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from emoray.run_folder import json_file
from emoray.run_folder.atomic_write import put
from emoray.run_folder.errors import StoreError, telling
from emoray.run_folder.folder import RunFolder

_SET = "EMORAY_SPILL_DIR"
_RUN = re.compile("[0-9a-f]{16}")  # of whose path this is the digest
_ORIGIN = ".origin"  # says that path
_OTHERS = "they are those of {origin}, of which this run folder is a copy; resume that run, or delete it"


@dataclass(frozen=True)
class Spill:
    """Where one attempt at a run puts aside what it cannot write."""

    folder: RunFolder
    attempt: str

    def keep(self, relative: str, data: bytes) -> Path:
        """Durable on return: the folder of this attempt that has it. StoreError where no place has room."""
        wrong = StoreError("there is no place to put answers aside")
        for place in places():
            target = _of(place, self.folder) / self.attempt
            try:
                with telling("write", str(target)):
                    _check_own(place)
                    _say_origin(target.parent, self.folder)
                    put(_LOCAL.fs, str(target / relative), lambda sink: sink.write(data), str(place))
            except StoreError as full:
                wrong = full
            else:
                return target
        raise wrong


@dataclass(frozen=True)
class TakenIn:
    """What became of what lay on this machine for a run."""

    files: int = 0
    left: tuple[str, ...] = ()  # folders of attempts that the run does not know
    wrong: str = ""  # why there may be more, in a sentence

    def __add__(self, other: TakenIn) -> TakenIn:
        left = tuple(dict.fromkeys(self.left + other.left))  # two that share a place see the same
        return TakenIn(self.files + other.files, left, self.wrong or other.wrong)


def take_in(folder: RunFolder, attempts: Collection[str]) -> TakenIn:
    """Moves what these attempts have put aside on this machine into the run folder, wherever that was then; for a run
    that holds the lease.
    """
    taken = TakenIn()
    for place in dict.fromkeys([*places(), *_usual()]):  # another may have been chosen since
        here = _children(_of(place, folder))
        taken += TakenIn(left=tuple(sorted(str(aside) for aside in here if aside.name not in attempts)))
        for aside in sorted({*(aside for aside in here if aside.name in attempts), *_elsewhere(place, attempts)}):
            try:
                origin = "" if aside in here else _still_at(aside, folder)
                taken += TakenIn(wrong=_OTHERS.format(origin=origin)) if origin else TakenIn(_moved(aside, folder))
            except StoreError as wrong:
                taken += TakenIn(wrong=str(wrong))
    return taken


def _elsewhere(place: Path, attempts: Collection[str]) -> Iterator[Path]:
    """What these attempts put aside when their run folder was called otherwise, or lay elsewhere."""
    for run in _children(place):
        if _RUN.fullmatch(run.name):
            yield from (aside for aside in _children(run) if aside.name in attempts)


def _still_at(aside: Path, folder: RunFolder) -> str:
    """Where the run folder that put these aside still lies, so that `folder` is a copy; empty where it was moved."""
    try:
        kind, _, path = (aside.parent / _ORIGIN).read_text().partition(" ")
    except (OSError, UnicodeError):  # an older emoray told none
        return ""
    if kind not in {"local", folder.fs.type_name}:
        return path  # in a store that cannot be asked from here
    fs = _LOCAL.fs if kind == "local" else folder.fs
    return path if not _is_same(fs, path, folder) and _knows(fs, path, aside.name) else ""


def _is_same(fs: pafs.FileSystem, path: str, folder: RunFolder) -> bool:
    """Whether it is one folder of a local disk under two paths, mounted twice for example."""
    with suppress(OSError):
        return fs.type_name == folder.fs.type_name == "local" and Path(path).samefile(folder.path())
    return False


def _knows(fs: pafs.FileSystem, path: str, attempt: str) -> bool:
    """Whether a run folder that knows the attempt is there, or may be."""
    try:
        with fs.open_input_stream(f"{path}/run.json", compression=None) as stream:
            found = json_file.read(_Attempts, stream.read())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, json_file.BadJson):
        return True
    return any(one.get("id") == attempt for one in found.attempts)


@dataclass(frozen=True)
class _Attempts:
    """What a manifest says of them."""

    attempts: list[dict[str, Any]] = field(default_factory=list)


def _say_origin(run: Path, folder: RunFolder) -> None:
    """Durable before what it is the origin of."""
    if not (run / _ORIGIN).is_file():
        put(_LOCAL.fs, str(run / _ORIGIN), lambda sink: sink.write(_path(folder).encode()), str(run.parent))


def places() -> list[Path]:
    """Where to put aside, the best first."""
    if chosen := os.environ.get(_SET):
        return [Path(chosen).expanduser().absolute()]
    return _usual()


def _usual() -> list[Path]:
    """Without anybody's choice."""
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    shared = dict.fromkeys(["/var/tmp", tempfile.gettempdir()])
    mine = [Path(folder) / f"emoray-spilled-{os.getuid()}" for folder in shared if Path(folder).is_dir()]
    with suppress(RuntimeError):  # nobody has a home
        return [state.expanduser().absolute() / "emoray" / "spilled", *mine]
    return mine


_LOCAL = RunFolder("/")


def _check_own(place: Path) -> None:
    """PermissionError where the place is somebody else's: it lies where all may write, under a name that all know."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.lstat()
    if place.is_symlink() or found.st_uid != os.geteuid():
        raise PermissionError(f"{place} is not this user's own")


def _of(place: Path, folder: RunFolder) -> Path:
    """However its URI is spelled, or linked to; runs of one path in two stores are told apart by their attempts."""
    return place / hashlib.blake2b(_path(folder).encode(), digest_size=8).hexdigest()


def _path(folder: RunFolder) -> str:
    """The kind of its filesystem, and where it is there; without the secrets of a URI."""
    path = os.path.realpath(folder.path()) if folder.fs.type_name == "local" else folder.path()
    return f"{folder.fs.type_name} {path}"


def _children(folder: Path) -> list[Path]:
    with suppress(OSError):
        if folder.lstat().st_uid == os.geteuid():
            return [child for child in folder.iterdir() if child.is_dir() and not child.is_symlink()]
    return []


def _moved(aside: Path, folder: RunFolder) -> int:
    """How many files. Each is whole in the run folder before it is deleted here.

    Two nodes may share a place, a home for example: what is not there any more, another has taken in meanwhile.
    """
    count = 0
    for file in sorted(_whole_files(aside)):
        data: bytes | None = None
        with telling("read", str(file)), suppress(FileNotFoundError):
            data = file.read_bytes()
        if data is None:
            continue
        folder.write_bytes(file.relative_to(aside).as_posix(), data)
        with telling("delete", str(file)), suppress(FileNotFoundError):
            file.unlink()
            count += 1
    _remove_empty(aside)
    return count


def _whole_files(aside: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(aside):
        yield from (Path(parent) / name for name in names if not name.startswith("."))


def _remove_empty(aside: Path) -> None:
    for parent, _, _ in os.walk(aside, topdown=False):
        with suppress(OSError):
            Path(parent).rmdir()
    if not _children(aside.parent):
        with suppress(OSError):
            (aside.parent / _ORIGIN).unlink()
    with suppress(OSError):
        aside.parent.rmdir()
