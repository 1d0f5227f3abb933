"""Ctrl-C and SIGTERM: once to stop asking and keep all, twice to stop at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # Ray takes seconds to import: what is wrong, and what is waited for, is said before
    pass


class Interruption:
    """Ctrl-C and SIGTERM. While lanes run the first is acted on by whoever watches: Ray and stderr are no places for a
    handler, which may interrupt either of them in the middle; the second ends the process at once. At any other time
    it ends the attempt with the command that resumes.
    """

    def __init__(self, command: str) -> None:
        self.asked = False
        self._command, self._watched = command, False
        self._before: dict[signal.Signals, Any] = {}  # who heard them

    def __call__(self, number: int, _: FrameType | None) -> None:
        if not self._watched:
            raise KeyboardInterrupt
        if self.asked:
            os.write(sys.stderr.fileno(), f"\nnot waiting; resume with: {self._command}\n".encode())
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.asked = True

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # signals reach no other
            self._before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, KeyboardInterrupt):
            print(f"\nemoray: interrupted\nresume with: {self._command}", file=sys.stderr)
        return isinstance(error, KeyboardInterrupt)

    @contextmanager
    def left_to_watch(self) -> Iterator[None]:
        """While the lanes run."""
        self._watched = True
        try:
            yield
        finally:
            self._watched = False
