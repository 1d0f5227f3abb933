"""Programs that are killed, on a Ray cluster of several nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from emoray.stream.nodes import Nodes

ROOT = Path(__file__).resolve().parent.parent.parent
EMORAY = [sys.executable, "-m", "emoray"]
PATIENCE_S = 120.0  # how long a test waits for something that must happen


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """A head without CPUs and two workers, for all tests that kill no node."""
    with Nodes(workers=2, cpus=2) as cluster:
        yield cluster


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program of ours in a process group of its own, which ends with the test."""
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

    yield popen
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(what: Callable[[], bool], process: subprocess.Popen[str] | None = None, every_s: float = 0.01) -> None:
    """Waits for something that happens; fails where the program that does it ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(every_s)
