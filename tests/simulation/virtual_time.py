"""A loop whose clock is a number: what waits for an hour is there at once, and a night is over in milliseconds.

What happens belongs to a `Process`, which can die or stand still as a real one does: nothing of it runs any more, no
`finally`, no callback, as after SIGKILL; or all of it runs late, as after SIGSTOP and SIGCONT.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

_OWNER: ContextVar[Process | None] = ContextVar("owner", default=None)


class Process:
    """Whatever was begun through `begin`, and whatever that began."""

    def __init__(self, world: VirtualLoop, name: str) -> None:
        self.world, self.name = world, name
        self.alive = True
        self._stands_until = float("-inf")
        self._late: deque[_Due] = deque()  # in the order it will be done

    def begin(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """A task of this process."""

        async def run() -> Any:
            return await work

        context = copy_context()
        context.run(_OWNER.set, self)
        task = self.world.create_task(run(), context=context)
        self.world.keep(task)
        return task

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        context = copy_context()
        context.run(_OWNER.set, self)
        self.world.call_later(seconds, what, context=context)

    def die(self) -> None:
        self.alive = False

    def stand_still(self, seconds: float) -> None:
        self._stands_until = max(self._stands_until, self.world.time() + seconds)

    def run(self, due: _Due) -> None:
        """Now, or when it goes on again, or never."""
        if not self.alive:
            return
        if self._late or self.world.time() < self._stands_until:
            self._late.append(due)
            if len(self._late) == 1:
                self.world.call_at(self._stands_until, self._go_on)
            return
        due.callback(*due.args)

    def _go_on(self) -> None:
        while self._late and self.alive:
            if self.world.time() < self._stands_until:  # stopped again
                self.world.call_at(self._stands_until, self._go_on)
                return
            self._late[0].run_late()
            self._late.popleft()


class _Due:
    """Something that a process will do."""

    handle: asyncio.Handle

    def __init__(
        self, world: VirtualLoop, callback: Callable[..., object], args: tuple[object, ...], context: Context
    ) -> None:
        self.world, self.callback, self.args, self.context = world, callback, args, context

    def run_late(self) -> None:
        """Unless it was called off meanwhile."""
        if not self.handle.cancelled():
            asyncio.Handle(self.callback, self.args, self.world, self.context)._run()


class StandStill(Exception):
    """Nothing is left that could happen, and somebody waits."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Time in seconds since the night began; what is to happen at a time happens then, in a fixed order."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self
        self._kept: list[object] = []  # tasks of the dead: collected, their `finally` would run after all
        self.wrong: list[str] = []
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """In place of a selector's: nothing arrives from outside, so the next moment is when the next thing is due."""
        if timeout is None:
            raise StandStill
        self._now += timeout
        return []

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        owner, due, context = self._owned(callback, args, context)
        if owner is None:
            return super().call_soon(callback, *args, context=context)
        due.handle = super().call_soon(owner.run, due, context=context)
        return due.handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        owner, due, context = self._owned(callback, args, context)
        if owner is None:
            return super().call_at(when, callback, *args, context=context)
        due.handle = handle = super().call_at(when, owner.run, due, context=context)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def run_in_executor(self, executor: Any, what: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """At once: there are no threads here."""
        done: asyncio.Future[Any] = self.create_future()
        try:
            done.set_result(what(*args))
        except Exception as wrong:
            done.set_exception(wrong)
        return done

    def let_pass(self, seconds: float) -> None:
        """As much time, for whoever waits without a coroutine: all others go on meanwhile. Not from within a task."""
        over: list[bool] = []
        super().call_at(self._now + seconds, over.append, True)
        while not over:
            self._run_once()  # type: ignore[attr-defined]

    def keep(self, something: object) -> None:
        self._kept.append(something)

    def _owned(
        self, callback: Any, args: tuple[Any, ...], context: Context | None
    ) -> tuple[Process | None, _Due, Context]:
        context = context or copy_context()
        is_its_own = getattr(callback, "__func__", None) is Process._go_on
        return None if is_its_own else context.get(_OWNER), _Due(self, callback, args, context), context

    def _note(self, _: object, about: dict[str, Any]) -> None:
        if about.get("exception") is not None:  # a task of the dead that is collected is no fault
            self.wrong.append(f"{about.get('message')}: {about.get('exception')!r}")

    def _check_closed(self) -> None:
        """After the night the tasks of the dead are collected, and their `finally` may call anything."""

    def _process_events(self, events: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
