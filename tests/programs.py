"""Programs as a user starts them: the fixture `start` starts one, `until` waits for something that it does."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emoray.processes import command_of
from emoray.rehearsal.local_cluster import free_port as free_port

ROOT = Path(__file__).resolve().parent.parent
EMORAY = [sys.executable, "-m", "emoray"]

KEY_ENV = "EMORAY_TEST_KEY"
KEY = "sk-canary-6f1d2c9b8a7e"  # no key of anybody's
LINE_KEY_ENV = "EMORAY_TEST_KEY_LINE"  # the same key, as a file that ends with a line break has it

Start = Callable[..., "subprocess.Popen[str]"]  # of a command, and what it finds in its environment
Here = Callable[..., int]  # of the words after `emoray`


@contextmanager
def starting() -> Iterator[Start]:
    """Programs in process groups of their own, which end with the block."""
    started: list[subprocess.Popen[str]] = []

    def popen(command: list[str], **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process

    try:
        yield popen
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def until(what: Callable[[], bool], process: subprocess.Popen[str] | None = None, every_s: float = 0.2) -> None:
    """Waits for something that happens; fails where the program that does it ends before. A test has one limit, for all
    that it waits for (`timeout` in pyproject.toml): a slow machine needs longer, and only a hang needs so long.
    """
    while not what():
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(every_s)


def killed(driver: subprocess.Popen[str]) -> None:
    """A run that has joined this process's cluster is killed; returns when its actors have died of it, some seconds
    later on a busy machine: until then they would go on asking, and what comes next would find less to do. Limiters
    outlive it, and ask nobody.
    """
    from ray._private import state  # the public state API needs a dashboard

    jobs = {job["JobID"] for job in state.jobs() if job["DriverPid"] == driver.pid}
    assert jobs, "the run has not joined this cluster"
    driver.kill()
    driver.wait()

    def alive() -> bool:  # those that ask or read: a limiter outlives its run
        works = [actor for actor in state.actors().values() if "MapBatches" in actor["ActorClassName"]]
        of_it = [actor for actor in works if actor["JobID"] in jobs]
        return any(actor["State"] != "DEAD" or command_of(actor["Pid"]).startswith("ray::") for actor in of_it)

    until(lambda: not alive())


@contextmanager
def deaf() -> Iterator[int]:
    """A port that nobody listens at, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class Held:
    """What a provider says: so many answers, and then none until there may be more. So however slow a machine is, a run
    is in its middle when a test that waited for the first of them does something to it.
    """

    def __init__(self, most: float, text: str = "I am so glad, and the sea is blue to-day") -> None:
        """`text` has ten tokens."""
        self.most, self.given, self._text = most, 0, text

    async def __call__(self, body: dict[str, object]) -> str:
        while self.given >= self.most:
            await asyncio.sleep(0.01)
        self.given += 1
        return self._text


def healthy(address: str) -> bool:
    """Whether a server says so of itself."""
    try:
        with urllib.request.urlopen(address, timeout=1.0) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
