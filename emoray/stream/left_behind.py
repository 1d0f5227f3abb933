"""Ends what a killed driver leaves behind of the Ray that it had started (Linux).

The kernel ends with a driver what it started itself. Its raylet's own children notice when that is gone: workers at
once, but its two agents first try for a minute to tell a head that is no longer there. So a small process waits for the
driver's end and ends them. It has a session of its own: what ends the driver's group does not end it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from emoray.home import environment, module
from emoray.processes import command_of

_SCRIPT = "agent.py"  # before it calls itself otherwise
_TITLES = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def watch(session: str) -> IO[bytes] | None:
    """Ends the agents of a Ray session (its folder) when this process is over, or closes what is returned."""
    if sys.platform != "linux":
        return None
    waiting = subprocess.Popen(
        [*module(__name__), session],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd="/", env=environment(), start_new_session=True,
    )  # fmt: skip
    return waiting.stdin


def agents(session: str) -> Iterator[int]:
    """The processes that are agents of a session: by what they are called, and a log of it that they write to."""
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        command = command_of(pid)
        titled = command.startswith(_TITLES) and _writes_to(folder, session)
        if titled or (_SCRIPT in command and session in command):
            yield pid


def _writes_to(process: Path, session: str) -> bool:
    with suppress(OSError):  # it has ended, or is somebody else's
        return any(str(file.readlink()).startswith(f"{session}/") for file in (process / "fd").iterdir())
    return False


def _main(session: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for pid in agents(session):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _main(sys.argv[1])
