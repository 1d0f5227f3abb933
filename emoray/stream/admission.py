"""Blocks are let into an actor one after the other, and its host is kept full."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class AdmissionGate:
    """Lets blocks in one after the other, each once those inside have too few open asks to keep the host full.

    So the oldest block is answered first and the others wait for the disk meanwhile, at no loss to the host. A block
    that waits outside has not begun: when the lane is stopped, nothing of it is asked.
    """

    def __init__(self) -> None:
        self._open = 0  # asks of the blocks inside that are not answered yet
        self._outside: deque[Turn] = deque()
        self._news = threading.Condition()

    @contextmanager
    def turn(self, in_flight: int, rows: int) -> Iterator[Turn]:
        """Waits for its turn: until no more is open than what the host holds, and one filling or one block ahead."""
        turn = Turn(self._opened, rows, room=in_flight + max(in_flight, rows))
        with self._news:
            self._outside.append(turn)
            self._news.wait_for(lambda: self._outside[0] is turn and self._open < turn.room)
            self._outside.popleft()
            self._open += rows
            self._news.notify_all()
        try:
            yield turn
        finally:
            turn.asks(0)

    def _opened(self, asks: int) -> None:
        with self._news:
            self._open += asks
            if self._outside and self._open < self._outside[0].room:  # to wake all for every answer would cost much
                self._news.notify_all()


class Turn:
    """One block inside the turnstile."""

    def __init__(self, opened: Callable[[int], None], asks: int, room: int) -> None:
        """It begins when fewer than `room` asks are open in all."""
        self._opened, self._open, self.room = opened, asks, room

    def asks(self, left: int) -> None:
        """So many are open."""
        self._opened(left - self._open)
        self._open = left

    def answered(self) -> None:
        self.asks(max(0, self._open - 1))  # 0: the block has been given up, and the host answers still
