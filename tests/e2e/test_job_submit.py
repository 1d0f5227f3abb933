"""`ray job submit` to a head on loopback that asks for a token."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emoray.store import RunFolder
from tests.e2e.conftest import PATIENCE_S, ROOT

pytestmark = pytest.mark.cluster
RAY = str(Path(sys.executable).parent / "ray")


@pytest.fixture
def head(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Ray head of its own with token authentication; the environment that reaches it."""
    env = os.environ | {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"  # an entry point's `python` is the cluster's
    env.pop("RAY_ADDRESS", None)
    subprocess.run([RAY, "get-auth-token", "--generate"], env=env, check=True, capture_output=True)
    port, dashboard = _free_port(), _free_port()
    head = subprocess.Popen(
        [RAY, "start", "--head", "--block", "--num-cpus=2", "--num-gpus=0", "--disable-usage-stats",
         "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=true",
         "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
         # the agent that starts jobs has a fixed port by default: with two heads on a machine one has no agent
         f"--dashboard-agent-listen-port={_free_port()}", f"--temp-dir={_short_folder(tmp_path)}"],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    yield env | {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    head.terminate()
    head.wait(timeout=60)


def test_the_quickstart_runs_as_a_ray_job(head: dict[str, str], tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    submit = [RAY, "job", "submit", "--working-dir", str(ROOT), "--"]
    entry = ["python", "jobs/run.py", "jobs/quickstart.yaml", "--out", folder.uri, "--limit", "48"]

    done = _patiently([*submit, *entry], head)

    assert done.returncode == 0, done.stdout + done.stderr
    assert folder.rows("embedded", "embedded").counts().answered == 48


def test_without_the_token_nobody_submits(head: dict[str, str]) -> None:
    stranger = head | {"RAY_AUTH_MODE": "disabled"}
    _patiently([RAY, "job", "list"], head)  # the head is up

    refused = subprocess.run([RAY, "job", "list"], env=stranger, capture_output=True, text=True, timeout=PATIENCE_S)

    assert refused.returncode != 0


def _patiently(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a command, again while the head is still starting."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
        starting = any(words in done.stdout + done.stderr for words in ("Failed to connect", "No available agent"))
        if not starting or time.monotonic() > deadline:
            return done
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _short_folder(tmp_path: Path) -> str:
    """Ray's sockets lie in its folder, and a socket's path has at most 107 bytes."""
    short = Path("/tmp") / f"emoray-{tmp_path.name[-8:]}-{os.getpid()}"
    return str(short)
