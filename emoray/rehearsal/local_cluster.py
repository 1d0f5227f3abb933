"""A Ray cluster of several nodes on this machine, on loopback and behind a token of its own: where a run is rehearsed.

Knows only the `ray` command. Every node is a process group, and dies with the process that started it.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from emoray.child_process import die_with
from emoray.processes import command_of, descendants

_HERE = "127.0.0.2"  # loopback; Ray takes 127.0.0.1 for a mistake and uses the address of the network card instead
_PATIENCE_S = 90.0
_STORE_BYTES = 100_000_000  # of objects, per node
_QUICK = {  # a dead node is noticed within four seconds, a slow one is waited for, a log can be read at once
    "PYTHONUNBUFFERED": "1",
    "RAY_raylet_start_wait_time_s": "900",  # `wait` is less patient, unless it is told otherwise
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "8",
}


@dataclass(frozen=True)
class Place:
    """Where a node lives."""

    ip: str = _HERE
    before: tuple[str, ...] = ()  # words to put before its command


class Nodes:
    """A head without CPUs and some workers, from `__enter__` to `__exit__`."""

    def __init__(self, workers: int = 2, cpus: int = 4, *, jobs: bool = False, places: Sequence[Place] = ()) -> None:
        """`cpus` is what each worker says it has, whatever the machine has; with `jobs` the head takes jobs.

        `places` are those of the head, the workers, and what is added; where there are no more, nodes live on loopback.
        """
        self.workers, self._cpus, self._jobs = workers, cpus, jobs
        self._places = iter(places)
        self._started: list[subprocess.Popen[bytes]] = []
        self.folder = Path(tempfile.mkdtemp(prefix="emo-"))  # short: Ray's sockets lie in it
        self._head = next(self._places, Place())
        self.address = f"{self._head.ip}:{free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}"  # where jobs are submitted
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment: Mapping[str, str] = token | {"RAY_USAGE_STATS_ENABLED": "0"}

    def __enter__(self) -> Self:
        try:
            port = self.address.rpartition(":")[2]
            self._start(self._head, "--head", f"--port={port}", "--num-cpus=0", *self._dashboard_flags(),
                        f"--temp-dir={self.folder}", f"--ray-client-server-port={free_port()}")  # fmt: skip
            for _ in range(self.workers):
                self.add()
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._started:
            _end(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, before: tuple[str, ...] = (), resources: Mapping[str, float] | None = None) -> int:
        """One more worker, on its way: its number. `before` are words to put before the command; `resources` are
        custom ones.
        """
        self.wait()  # two that start at once would take the same names for their sockets
        special = f"--resources={json.dumps(dict(resources or {}))}"
        place = next(self._places, Place(before=before))
        unheard = "--include-log-monitor=false"  # the head's reads the logs of all on this machine
        self._start(place, f"--address={self.address}", f"--num-cpus={self._cpus}", special, unheard)
        return len(self._started) - 1

    def kill(self, number: int) -> None:
        """A node with all its processes, at once; 0 is the head, workers count from 1 in the order they were added."""
        _end(self._started[number])

    def processes(self, number: int) -> list[int]:
        """Those of a node (Linux)."""
        return descendants(self._started[number].pid)

    def commands(self, number: int) -> list[str]:
        """What the processes of a node call themselves (Linux)."""
        return [command_of(pid) for pid in self.processes(number)]

    def _dashboard_flags(self) -> list[str]:
        if not self._jobs:
            return ["--include-dashboard=false"]
        port = self.dashboard.rpartition(":")[2]
        return ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]

    def _start(self, place: Place, *flags: str) -> None:
        ray = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={place.ip}"]
        same = ["--num-gpus=0", f"--object-store-memory={_STORE_BYTES}", "--min-worker-port=0", "--max-worker-port=0",
                "--disable-usage-stats",
                # of the agent that starts jobs: of two nodes with the same port one would have no agent
                f"--dashboard-agent-listen-port={free_port()}"]  # fmt: skip
        with (self.folder / f"node-{len(self._started)}.log").open("wb") as log:
            node = subprocess.Popen(
                [*place.before, *ray, *same, *flags],
                env=os.environ | _QUICK | dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM),
            )
        self._started.append(node)

    def wait(self) -> None:
        """Until the last one is there."""
        deadline = time.monotonic() + _PATIENCE_S
        while "runtime started" not in self._log():
            if time.monotonic() > deadline or self._started[-1].poll() is not None:
                raise RuntimeError(f"a node of the cluster did not start: {self._log()[-2000:]}")
            time.sleep(0.05)

    def _log(self) -> str:
        return (self.folder / f"node-{len(self._started) - 1}.log").read_text(errors="replace")


def _end(node: subprocess.Popen[bytes]) -> None:
    """At once: nobody needs what is left, and Ray would take half a minute."""
    for pid in [*descendants(node.pid), node.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def free_port() -> int:
    """A port that stays free until it is taken: kernels give those from 32,768 on to whoever asks for any."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
