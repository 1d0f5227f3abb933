"""The head for a laptop, as its script starts it: it asks for a token, and its dashboard is on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from emoray.processes import descendants
from tests.programs import ROOT, Start, free_port, until

pytestmark = pytest.mark.cluster


@pytest.fixture
def dashboard(tmp_path: Path, start: Start) -> Iterator[int]:
    """The port of a head whose home is `tmp_path`."""
    ports = {name: free_port() for name in ("PORT", "DASHBOARD_PORT", "AGENT_PORT", "CLIENT_PORT")}
    folder = tempfile.mkdtemp(prefix="emo-")  # short: Ray's sockets lie in it
    words = ["bash", str(ROOT / "cluster/laptop.sh"), "start", "--block", "--num-cpus=1", f"--temp-dir={folder}"]
    head = start(words, HOME=str(tmp_path), **{name: str(port) for name, port in ports.items()})
    until(lambda: answer(ports["DASHBOARD_PORT"]) != 0, head)
    yield ports["DASHBOARD_PORT"]
    for pid in descendants(head.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_laptop_head_answers_who_has_the_token_and_on_loopback_alone(dashboard: int, tmp_path: Path) -> None:
    token = tmp_path / ".ray/auth_token"

    assert token.stat().st_mode & 0o077 == 0
    assert answer(dashboard) == 401
    assert answer(dashboard, "0" * 64) == 403
    assert answer(dashboard, token.read_text().strip()) == 200
    assert listening(dashboard) == {"127.0.0.1"}


def answer(port: int, token: str | None = None) -> int:
    """The status of the list of jobs; 0 while nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/jobs/")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=600) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def listening(port: int) -> set[str]:
    """The addresses on which this machine listens at a port (Linux)."""
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()]
    addresses = [row[1].split(":") for row in rows if row[3] == "0A"]  # TCP_LISTEN
    found = {address for address, there in addresses if int(there, 16) == port}
    return {socket.inet_ntoa(bytes.fromhex(one)[::-1]) if len(one) == 8 else one for one in found}
