"""Whether the Ray under a run lives.

When the raylet beside a driver dies, or the head, Ray ends the driver some seconds or a minute later, from inside and
without a word. So both are watched, and what is to be said is said before.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import ray

from emoray.stream.entrance import host_and_port
from emoray.stream.nodes import command_of

_EVERY_S = 0.25
_LOOK_S = 5.0  # between two looks at the head of a cluster, which may be on its way back
_HEAD_S = 45.0  # without it; Ray's own patience is a minute
_TRY_S = 3.0
_TOLD_S = 10.0  # to write down what happened, on a store that may not answer

Alive = Callable[[], bool]
_RAYLET = "the raylet beside it, which runs its actors, is dead (out of memory, or killed)"
_HEAD = "the head of its cluster (gcs_server) is dead (out of memory, or killed), or out of reach"


@contextmanager
def vigil(lost: Callable[[str], object], code: int) -> Iterator[None]:
    """While inside, `lost` is called with a clause when Ray has died, and the process ends with `code`."""
    over = threading.Event()
    threading.Thread(target=_watch, args=(over, dict(_signs()), lost, code), name="vigil", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(over: threading.Event, signs: Mapping[str, Alive], lost: Callable[[str], object], code: int) -> None:
    while not over.wait(_EVERY_S):
        dead = next((what for what, alive in signs.items() if not alive()), None)
        if dead and not over.is_set():
            telling = threading.Thread(target=lost, args=(dead,), daemon=True)
            telling.start()
            telling.join(_TOLD_S)
            os._exit(code)


def _signs() -> Iterator[tuple[str, Alive]]:
    """What must live, and how to see that it does."""
    node = ray._private.worker._global_node
    ours = {kind: infos[0].process for kind, infos in node.all_processes.items()}
    if raylet := ours.get("raylet"):
        yield _RAYLET, lambda: raylet.poll() is None
    elif pid := _listens(node.raylet_socket_name):
        yield _RAYLET, lambda: _runs(pid)
    if head := ours.get("gcs_server"):
        yield _HEAD, lambda: head.poll() is None
    else:
        yield _HEAD, _Reached(*host_and_port(node.gcs_address))


def _listens(path: str) -> int | None:
    """The process that listens at a socket of this machine (Linux)."""
    with suppress(OSError, AttributeError), socket.socket(socket.AF_UNIX) as there:
        there.connect(path)
        pid: int = struct.unpack("3i", there.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid if command_of(pid) else None
    return None


def _runs(pid: int) -> bool:
    """Also where that cannot be told for a moment: too many open files are no death (Linux)."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True


class _Reached:
    """Whether somebody listens at an address, or did not long ago."""

    def __init__(self, host: str, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._where, self._clock = (host, port), clock
        self._heard = self._looked = clock()

    def __call__(self) -> bool:
        now = self._clock()
        if now - self._looked >= _LOOK_S:
            self._looked = now
            with suppress(OSError):
                socket.create_connection(self._where, _TRY_S).close()
                self._heard = self._clock()
        return now - self._heard < _HEAD_S
