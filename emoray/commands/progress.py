"""The one line per lane that a person awake at 3 a.m. can use."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeGuard

from emoray.commands.pace import Pace
from emoray.printable import one_line

QUIET_EVERY_S = 30.0
_COLUMNS = 120  # of a terminal that does not say


@dataclass(frozen=True)
class Standing:
    """How far a lane is."""

    total: int
    before: int  # settled by earlier attempts
    settled: int  # those included
    failed: int
    read: int  # by every reader, of this attempt
    note: str = ""
    waits: str = ""  # what it waits for, where nothing has come yet
    kinds: Mapping[str, int] = field(default_factory=dict)  # of the failures


class Progress:
    """A live block of lines on a terminal; elsewhere a line per lane every 30 seconds, and one per thing waited for."""

    def __init__(self, stream: TextIO | None = None, *, clock: float | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._began = time.monotonic() if clock is None else clock
        self._lines = 0
        self._last = self._began
        self._told: set[str] = set()  # what has been waited for
        self._draws = threading.RLock()  # lanes log from threads of their own
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)  # by lane

    def wait(self, what: str) -> None:
        """Says what is being waited for before there are lanes; the time of lanes begins after it."""
        if self._live:
            self._draw([f"{what} …"])
        else:
            self._tell(what)

    def begin(self) -> None:
        """The lanes begin now."""
        self._began = self._last = time.monotonic()

    def show(self, standings: Mapping[str, Standing], *, now: float | None = None, last: bool = False) -> None:
        """Shows the lanes, if it is time to."""
        now = time.monotonic() if now is None else now
        for name, standing in standings.items():
            self._paces[name].see(now, standing.settled, standing.failed)
        if not (self._live or last):
            for standing in standings.values():
                self._tell(standing.waits)
        if not (self._live or last or now - self._last >= QUIET_EVERY_S):
            return
        self._last = now
        width = max((len(name) for name in standings), default=0)
        self._draw([self.line(name, one, now, width, over=last) for name, one in standings.items()])

    def _tell(self, waits: str) -> None:
        """Once: whoever reads it later reads all of it."""
        if waits and waits not in self._told:
            self._told.add(waits)
            self._stream.write(f"{waits} …\n")
            self._stream.flush()

    def _draw(self, lines: list[str]) -> None:
        with self._draws:
            self._redraw(lines)

    def _redraw(self, lines: list[str]) -> None:
        if self._live and self._lines:
            self._back()
        if self._live:  # a line that wraps would be two, and the way back too short
            lines = [one_line(line)[: _columns(self._stream) - 1] for line in lines]
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._lines = len(lines)

    def _back(self) -> None:
        """To the first line, and clear what was there."""
        getattr(self._stream, "steer", self._stream.write)(f"\x1b[{self._lines}F\x1b[J")

    def say(self, sentence: str) -> None:
        """A line that stays, above the lanes."""
        with self._draws:
            if self._live and self._lines:
                self._back()
                self._lines = 0
            self._stream.write(f"{sentence}\n")
            self._stream.flush()

    @contextmanager
    def says_what_is_logged(self) -> Iterator[None]:
        """What is logged on a terminal meanwhile stays above the lanes too; the next lines would be drawn over it."""
        handlers = [one for one in logging.getLogger().handlers if self._live and _is_on_a_terminal(one)]
        before = [handler.setStream(_Above(self)) for handler in handlers]
        try:
            yield
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                handler.setStream(stream)

    def line(self, name: str, standing: Standing, now: float, width: int = 0, *, over: bool = False) -> str:
        """`llama-8b  settled 84,210 of 120,000  failed 31  412/min  1 h 27 min left  read 83,990  31 overloaded`.

        What a narrow terminal cuts comes last. The rate is that of the last minute, and once it is `over` that of the
        whole; the time left is that of the cells that have neither answer nor failure. What is read is told where it
        lags behind what was answered.
        """
        words = [
            f"{name:<{width}}",
            f"settled {standing.settled:,} of {standing.total:,}",
            f"failed {standing.failed:,}",
            *(self._whole(standing, now) if over else self._pace(name, standing, now)),
            _lagging(standing),
            by_kind(standing.kinds),
            standing.note,
        ]
        return "  ".join(word for word in words if word)

    def _whole(self, standing: Standing, now: float) -> list[str]:
        per_minute = 60.0 * (standing.settled - standing.before) / max(now - self._began, 1e-9)
        return [f"{per_minute:,.0f}/min"] if per_minute >= 1 else []

    def _pace(self, name: str, standing: Standing, now: float) -> list[str]:
        pace = self._paces[name]
        rate = pace.per_minute(now, standing.settled)
        left = pace.seconds_left(now, standing.total, standing.settled, standing.failed)
        words = [f"{rate:,.0f}/min"] if rate and rate >= 1 else []
        return [*words, f"{duration(left)} left"] if left else words


class _Above(io.TextIOBase):
    """Where a handler of logging writes, one record at a time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write(self, text: str) -> int:
        self._progress.say(text.removesuffix("\n"))
        return len(text)


def _is_on_a_terminal(handler: logging.Handler) -> TypeGuard[logging.StreamHandler[Any]]:
    return isinstance(handler, logging.StreamHandler) and handler.stream.isatty()


def _lagging(standing: Standing) -> str:
    """`read 83,990`, of an attempt that resumes `read 240 now`; nothing where all that was answered is read."""
    if standing.read >= standing.settled - standing.before:
        return ""
    return f"read {standing.read:,}{' now' if standing.before else ''}"


def _columns(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def by_kind(counts: Mapping[str, int]) -> str:
    """`31 overloaded, 2 timeout`"""
    return ", ".join(f"{n:,} {kind}" for kind, n in counts.items())


def duration(seconds: float) -> str:
    """In the two largest units: 1 h 27 min, 3 min 20 s, 45 s."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60} s" if s % 60 else f"{s // 60} min"
    minutes, hours = round(s / 60), round(s / 3600)
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 1440 else f"{hours // 24} d {hours % 24} h"
