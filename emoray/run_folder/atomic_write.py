"""Files that are there whole or not at all: on local disks, on NFS and in object stores."""

from __future__ import annotations

import mmap
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from pyarrow import fs as pafs

_OBJECT_STORES = {"s3", "gcs", "abfs"}  # an object appears whole, when its upload is complete, or not at all
STALE_NS = int(3600e9)  # a temporary file of this age belongs to nobody
HALF_WRITTEN = ".tmp-"  # in the name of a file that is being written
SPOOLED = 64 << 20  # bytes: from here on a copy of a file waits on disk


def put(
    fs: pafs.FileSystem,
    path: str,
    fill: Callable[[IO[bytes]], object],
    root: str | None = None,
    *,
    mode: int | None = None,
) -> None:
    """Write a file whole or not at all; durable on return. `fill` writes it into what it is given; `root` is the run
    folder that it belongs to. A local file that is new gets the rights of `mode`, one that is there keeps its own;
    without `mode` the umask decides.

    Locally (and on NFS): temporary name, fsync, rename, fsync of the folder. On an object store: one put, from
    memory or a spooled file, by a thread that no signal reaches. Elsewhere (HDFS): temporary name and rename.
    """
    if is_local(fs):
        _put_local(Path(path), fill, Path(root) if root else None, mode)
        return
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED) as spool:
        fill(spool)
        whole = _whole(spool)  # before anything is opened: an object is complete when its stream is closed, however
        _undisturbed(partial(_put_whole, fs, path, whole))


def _put_whole(fs: pafs.FileSystem, path: str, whole: bytes | mmap.mmap) -> None:
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
    if spool.tell() <= SPOOLED:
        spool.seek(0)
        return spool.read()
    spool.flush()
    return mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ)


def _put_local(
    path: Path, fill: Callable[[IO[bytes]], object], root: Path | None = None, mode: int | None = None
) -> None:
    make_folder(path.parent, root or path.parent)
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


def make_folder(folder: Path, root: Path) -> None:
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


def is_local(fs: pafs.FileSystem) -> bool:
    return bool(fs.type_name == "local")
