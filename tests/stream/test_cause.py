"""What a person is told of an exception that Ray brings from another process, with real ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import ray

from emoray.run_folder.errors import StoreError
from emoray.stream.cause import sentence

pytestmark = pytest.mark.cluster


class Odd(Exception):
    """Cannot leave its process."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which it is, is asked of it
        call()
    assert isinstance(caught.value, Exception)
    return caught.value


def said(call: Callable[[], object]) -> str:
    """The sentence of what a call raises: one line, without colours."""
    found = sentence(raised(call))
    assert found.splitlines() == [found]
    assert "\x1b" not in found
    assert "(pid=" not in found
    return found


def of_task(fails: Callable[[], object]) -> Callable[[], object]:
    return lambda: ray.get(ray.remote(num_cpus=0)(fails).remote())


def of_actor(fails: Callable[[], object]) -> Callable[[], object]:
    """An actor that fails while it is made."""

    class Actor:
        def __init__(self) -> None:
            fails()

        def ask(self) -> None: ...

    return lambda: ray.get(ray.remote(num_cpus=0)(Actor).remote().ask.remote())


def boom() -> None:
    raise ValueError("no weights in /models/x")


def lost() -> None:
    import nobody_has_this  # type: ignore[import-not-found]  # noqa: F401


def announces() -> None:
    raise RuntimeError("it failed because of this:\nno disk\n\nand so on")


def lengthy() -> None:
    raise RuntimeError("CUDA error: out of memory\nFor debugging consider CUDA_LAUNCH_BLOCKING=1.\n  Or not.\nOr so.")


def wordless() -> None:
    raise AssertionError


def ours() -> None:
    raise StoreError("the disk is full") from OSError(28, "No space left on device")


def odd() -> None:
    raise Odd("it has a lock")


def several() -> None:
    raise ExceptionGroup("two went wrong", [ValueError("first"), KeyError("second")])


@pytest.mark.parametrize(
    ("fails", "told", "of"),
    [
        (boom, "ValueError: no weights in /models/x", of_task),
        (lost, "ModuleNotFoundError: No module named 'nobody_has_this'", of_task),
        (announces, "RuntimeError: it failed because of this: no disk", of_task),
        (lengthy, "RuntimeError: CUDA error: out of memory", of_task),
        (wordless, "AssertionError", of_task),
        (ours, "the disk is full", of_task),
        (odd, "Odd: it has a lock", of_task),
        (several, "KeyError: 'second'", of_task),
        # an actor is a process of its own: one of each form in which Ray tells of it
        (announces, "RuntimeError: it failed because of this: no disk", of_actor),
        (ours, "the disk is full", of_actor),
        (odd, "Odd: it has a lock", of_actor),
        (several, "KeyError: 'second'", of_actor),
    ],
)
def test_the_cause_is_what_the_other_process_raised_last(
    two_cpus: str, fails: Callable[[], object], told: str, of: Callable[..., Callable[[], object]]
) -> None:
    assert said(of(fails)) == told


def test_through_several_processes_it_is_that_of_the_last(two_cpus: str) -> None:
    assert said(of_actor(of_task(of_actor(boom)))) == "ValueError: no weights in /models/x"


def test_of_an_actor_that_was_killed_it_is_why_it_died(two_cpus: str) -> None:
    assert "its worker process has died" in said(of_actor(lambda: os._exit(7)))


class _Reader:
    """As Ray Data starts them."""

    def __init__(self, fails: Callable[[], object] | None = None) -> None:
        if fails:
            fails()

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        raise IndexError("index 514 is out of range")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [((), "IndexError: index 514 is out of range"), ((boom,), "ValueError: no weights in /models/x")],
    ids=["while it reads", "while it starts"],
)
def test_what_an_actor_of_ray_data_raises_is_not_said_to_be_a_failed_udf(
    two_cpus: str, arguments: tuple[Any, ...], told: str
) -> None:
    pool = ray.data.ActorPoolStrategy(size=1)
    dataset = ray.data.range(1).map_batches(
        _Reader, fn_constructor_args=arguments, compute=pool, num_cpus=0.1, batch_size=None
    )
    assert said(dataset.materialize) == told


def test_what_is_raised_here_is_told_by_its_cause_and_what_is_ours_by_itself() -> None:
    def chained() -> None:
        try:
            boom()
        except ValueError as wrong:
            raise RuntimeError("wrapped") from wrong

    assert said(chained) == "ValueError: no weights in /models/x"
    assert said(ours) == "the disk is full"
    assert sentence(ValueError("x" * 1000)) == f"ValueError: {'x' * 500} …"
