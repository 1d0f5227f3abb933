"""Somebody presses Ctrl-C, or a scheduler sends SIGTERM."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from emoray.store import RunFolder
from tests.programs import EMORAY, PATIENCE_S, until

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_drains_and_says_how_to_go_on(
    number: signal.Signals,
    spec: Callable[..., Path],
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    path = spec(repetitions=200, latency_s=0.2, in_flight=8)
    folder = RunFolder(str(tmp_path / "run"))
    process = start([*EMORAY, "run", str(path), "--out", folder.uri])
    until(lambda: folder.exists() and folder.answers("a").counts().answered > 0, process)

    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130, err
    assert f"resume with: emoray run {path} --out {folder.uri}" in err
    settled = folder.answers("a").counts()
    assert 0 < settled.answered < 1200
    assert folder.rows("r", "a").counts().answered == settled.answered  # what was received was also read
    assert "Traceback" not in out + err

    path.write_text(path.read_text().replace("latency_s: 0.2", "latency_s: 0.0"))
    again = subprocess.run(
        [*EMORAY, "run", str(path), "--out", folder.uri], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert again.returncode == 0, again.stderr
    finished = folder.answers("a").counts()
    assert (finished.answered, finished.spare) == (1200, 0)
