"""A run folder held by its lease while an attempt is at work, and given up where it is lost."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from emoray.run_folder.atomic_write import STALE_NS
from emoray.run_folder.errors import Deleted, StoreError, deleted
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import Lease
from emoray.run_folder.run_json import Attempt, Manifest


@contextmanager
def leased(folder: RunFolder) -> Iterator[Lease]:
    """The right to write to a folder that all nodes see, in which nothing is torn and nothing left by the dead."""
    from emoray.stream import cluster

    cluster.check_folder(folder)
    began_ns = time.time_ns()
    with Lease(folder) as lease:
        for part in folder.parts():
            part.repair(now_ns=began_ns)
        folder.sweep(began_ns - STALE_NS)
        folder.lay_ballast()
        try:
            yield lease
        finally:
            if not lease.lost.is_set():
                with suppress(StoreError):
                    _sweep(folder, began_ns)


def _sweep(folder: RunFolder, began_ns: int) -> None:
    """What was begun before this run is nobody's any more when it ends."""
    folder.sweep(began_ns)
    for part in folder.parts():
        part.sweep(began_ns)


@contextmanager
def guarded(folder: RunFolder, lease: Lease) -> Iterator[None]:
    """While lanes run: where somebody deletes the folder, its lease is lost at once and not at the next beat."""
    over, look_s = threading.Event(), 0.5 if folder.fs.type_name == "local" else _FAR_LOOK_S

    def look() -> None:
        missed = 0
        while missed < 2 and not over.wait(look_s):
            missed = 0 if folder.holds("run.json") else missed + 1
        if missed == 2:
            lease.lost.set()

    thread = threading.Thread(target=look, name="guard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


_FAR_LOOK_S = 3.0  # an object store wants a request for each look


def lost_ray(folder: RunFolder, whole: Manifest, attempt: Attempt, lease: Lease, command: str, why: str) -> None:
    """Says and writes down that Ray has died under this run; from a thread, while the others may wait for Ray."""
    print(f"emoray: this run cannot go on: {why}; what it received is kept\nresume with: {command}", file=sys.stderr)
    attempt.end, attempt.ended = f"died: {why}", datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(StoreError, RuntimeError):  # the attempt may change while it is written
        if not lease.lost.is_set():
            folder.write_manifest(whole.as_json())
            lease.release()


def check_held(lease: Lease, folder: RunFolder) -> None:
    if why := _taken(lease, folder):
        raise why


def is_gone(folder: RunFolder) -> bool:
    return not folder.holds("run.json")


def _taken(lease: Lease, folder: RunFolder) -> StoreError | None:
    """Why the folder is not ours any more."""
    if not lease.lost.is_set():
        return None
    if is_gone(folder):
        return Deleted(deleted(folder.shown))
    return StoreError(
        f"another run took over {folder.shown}, or it was out of reach for long: this run stopped, and what it "
        "received is kept"
    )
