"""Programs as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EMORAY = [sys.executable, "-m", "emoray"]
PATIENCE_S = 120.0  # how long a test waits for something that must happen

SPEC = """
name: t
models: [{{name: a, host: scripted, latency_s: {latency_s}, in_flight: {in_flight}}}]
states: 3
questions: [freedom, art]
repetitions: {repetitions}
readers: [{{kind: scripted, name: r}}]
"""


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec with a scripted speaker that takes its time."""

    def write(*, repetitions: int = 1, latency_s: float = 0.0, in_flight: int = 64) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.format(repetitions=repetitions, latency_s=latency_s, in_flight=in_flight))
        return path

    return write


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
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
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for something a running program does; fails where the program ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
