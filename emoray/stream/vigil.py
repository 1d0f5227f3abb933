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

from emoray.processes import command_of
from emoray.stream.entrance import host_and_port

_EVERY_S = 0.25
_PATIENCE = "gcs_rpc_server_reconnect_timeout_s"  # as long Ray does without the head of its cluster, before it ends
_RAYS_OWN_S = 60.0
_AHEAD_S = 15.0  # so much before Ray ends this process, it does so itself; a quarter where Ray has little patience
_LOOK_S = 5.0  # between two looks at the head of a cluster, which may be on its way back
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
    if head := ours.get("gcs_server"):
        yield _HEAD, lambda: head.poll() is None
        yield _RAYLET, lambda: ours["raylet"].poll() is None
        return
    pid, where = _listens(node.raylet_socket_name), host_and_port(node.gcs_address)
    there = _Reached(*where, patience_s=_patience_s(pid))
    if pid is None:
        yield _HEAD, there
        return
    yield _HEAD, lambda: there() and (_runs(pid) or there.now())  # `ray start` ends the raylet of a head that died
    yield _RAYLET, lambda: _runs(pid)


def _patience_s(raylet: int | None) -> float:
    """Seconds for which this process and the raylet beside it do without the head. What the cluster was started with
    holds for both, else the environment of each.
    """
    told = ray._private.state.state.get_system_config()
    if _PATIENCE in told:
        return float(told[_PATIENCE])
    beside = _environment(raylet) if raylet else {}
    return min(map(_patience_in, filter(None, [os.environ, beside])))


def _patience_in(environment: Mapping[str, str]) -> float:
    with suppress(ValueError):
        return float(environment.get(f"RAY_{_PATIENCE}", _RAYS_OWN_S))
    return _RAYS_OWN_S


def _environment(pid: int) -> dict[str, str]:
    """What a process was started with; nothing where it is somebody else's (Linux)."""
    with suppress(OSError):
        raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        return dict(one.split("=", 1) for one in raw.split("\0") if "=" in one)
    return {}


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
    """Whether somebody listens at an address, or did not long ago: Ray's patience has not come near its end."""

    def __init__(self, host: str, port: int, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._where, self._clock = (host, port), clock
        self._bears_s = patience_s - min(_AHEAD_S, patience_s / 4)
        self._look_s = min(_LOOK_S, patience_s / 12)
        self._heard = self._looked = clock()

    def __call__(self) -> bool:
        now = self._clock()
        if now - self._looked >= self._look_s:
            self._looked = now
            if self.now():
                self._heard = self._clock()
        return now - self._heard < self._bears_s

    def now(self) -> bool:
        """Whether somebody does at this moment."""
        with suppress(OSError):
            socket.create_connection(self._where, min(_TRY_S, self._look_s)).close()
            return True
        return False
