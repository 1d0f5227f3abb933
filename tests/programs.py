"""Programs as a user starts them: the fixture `start` starts one, `until` waits for something that it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EMORAY = [sys.executable, "-m", "emoray"]
PATIENCE_S = 300.0  # how long a test waits for something that must happen

Start = Callable[..., "subprocess.Popen[str]"]  # of a command, and what it finds in its environment


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


def until(what: Callable[[], bool], process: subprocess.Popen[str] | None = None, every_s: float = 0.02) -> None:
    """Waits for something that happens; fails where the program that does it ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(every_s)
