"""When a machine stood still: a thread that wants little, ten times a second, and notes by how much it was late.

"Durable within a second" is a promise about a machine that runs. One with more to do than it has cores, or whose disk
is busy, keeps the journal of an answer waiting as long as it keeps this thread.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

_EVERY_S = 0.1
_HARDLY_LATE_S = 0.02  # what any machine may take to wake a thread and to write a page
_WORK = bytes(1 << 18)


class Stall(NamedTuple):
    """From when to when a machine did not get on, in seconds of the clock of who asked."""

    began: float
    ended: float


class Heartbeat:
    """Beats from `start` or `__enter__` until `__exit__`, or as long as its process; at the niceness of that.

    `clock` is in seconds and only goes on.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, work: Callable[[], float] | None = None) -> None:
        """`work` does what a beat does, and returns the seconds of computing that it took."""
        self._clock, self._work = clock, work or _Page().turn
        self._stalls: list[Stall] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @property
    def stalls(self) -> list[Stall]:
        """All until now, one after the other."""
        return list(self._stalls)

    def start(self) -> Self:
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self.beaten(self._over.wait):
            pass

    def beaten(self, rest: Callable[[float], bool]) -> bool:
        """One beat: a rest and a little work. What it took beyond both was a stall; returns what `rest` did."""
        began = self._clock()
        over = rest(_EVERY_S)
        computed_s = self._work()
        ended = self._clock()
        late_s = ended - began - _EVERY_S - computed_s
        if late_s > _HARDLY_LATE_S and not over:
            self._stalls.append(Stall(ended - late_s, ended))
        return over


class _Page:
    """What a journal does, in small: it computes, writes, and waits for the disk."""

    def __init__(self) -> None:
        self._file: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (it ends with this object)

    def turn(self) -> float:
        began = time.thread_time()
        digest = hashlib.sha256(_WORK).digest()
        os.pwrite(self._file.fileno(), digest, 0)
        os.fsync(self._file.fileno())
        return time.thread_time() - began


def stood_still_s(stalls: Sequence[Stall], since: float, until: float) -> float:
    """For how many of the seconds between two times."""
    return sum(max(0.0, min(stall.ended, until) - max(stall.began, since)) for stall in stalls)
