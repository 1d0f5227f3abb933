"""Somebody presses Ctrl-C, a scheduler sends SIGTERM, or another run takes over the folder."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from emoray.commands.interruption import Interruption
from emoray.commands.record import kept_record
from emoray.exit_codes import INTERRUPTED
from emoray.processes import command_of, descendants
from emoray.rehearsal.local_cluster import Nodes
from emoray.run_folder import manifest, recovery
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import Lease
from tests import runs
from tests.programs import EMORAY, Here, Start, until

pytestmark = pytest.mark.cluster
ENDLESS = 1000  # repetitions: at a second an answer, no machine is so slow that a run ends before it is told to
LIMIT = 60  # cells that are asked of an endless grid in the end, unless more were
JUDGE = """
kind: judge
name: j
model:
  name: m
  host: scripted
  latency_s: {latency_s}
  in_flight: 4
  lines: ['{{"valence": 1, "arousal": 0, "confidence": 1}}']
"""


@pytest.mark.parametrize(
    ("number", "begin"),
    [
        (signal.SIGINT, "start"),
        pytest.param(signal.SIGTERM, "join", marks=pytest.mark.campaign),  # cluster/test_slurm has one such
    ],
    ids=["with a Ray of its own", "joined"],
)
def test_a_run_that_is_told_to_stop_drains_and_says_how_to_go_on(
    number: signal.Signals, begin: str, spec: Callable[..., Path], request: pytest.FixtureRequest
) -> None:
    path = spec(repetitions=ENDLESS, latency_s=1.0, in_flight=8)
    folder = RunFolder(str(path.with_name("run")))
    process = request.getfixturevalue(begin)([*EMORAY, "run", str(path), "--out", folder.uri])
    until(lambda: folder.exists() and folder.answers("a").counts().answered > 0, process)

    process.send_signal(number)
    out, err = process.communicate()

    assert process.returncode == 130, err
    assert f"resume with: emoray run {path} --out {folder.uri}" in err
    settled = folder.answers("a").counts()
    assert 0 < settled.answered < 6 * ENDLESS
    assert folder.rows("r", "a").counts().answered == settled.answered  # what was received was also read
    assert "Traceback" not in out + err
    if begin == "join":
        goes_on(request.getfixturevalue("here"), path, folder)


def goes_on(here: Here, path: Path, folder: RunFolder) -> None:
    """The same command asks what is left of the first cells, of a model that is quick by now."""
    before = folder.answers("a").counts().answered
    path.write_text(re.sub(r"latency_s: [\d.]+", "latency_s: 0.0", path.read_text()))
    assert here("run", str(path), "--out", folder.uri, "--limit", str(LIMIT)) == 0
    counts = folder.answers("a").counts()
    assert (counts.answered, counts.spare) == (max(before, LIMIT), 0)


@pytest.mark.parametrize(
    ("victim", "what"),
    [
        ("raylet", "the raylet beside it, which runs its actors, is dead"),
        pytest.param("gcs_server", "the head of its cluster (gcs_server) is dead", marks=pytest.mark.campaign),
    ],
)
def test_a_ray_that_dies_under_a_run_is_said_leaves_no_process_and_the_same_command_goes_on(
    victim: str, what: str, spec: Callable[..., Path], start: Start, here: Here, tmp_path: Path
) -> None:
    path, token = spec(repetitions=ENDLESS, latency_s=1.0, in_flight=8), tmp_path / ".ray/auth_token"
    folder = RunFolder(str(tmp_path / "run"))
    token.parent.mkdir(mode=0o755)
    process = start([*EMORAY, "run", str(path), "--out", folder.uri], HOME=str(tmp_path))
    until(lambda: folder.exists() and folder.answers("a").counts().answered > 0, process)
    assert [stat.S_IMODE(place.stat().st_mode) for place in (token.parent, token)] == [0o700, 0o600]
    started = descendants(process.pid)

    os.kill(next(pid for pid in started if command_of(pid).partition(" ")[0].endswith(f"/{victim}")), signal.SIGKILL)
    out, err = process.communicate()

    assert (process.returncode, out) == (3, ""), err
    assert f"emoray: this run cannot go on: {what} (out of memory, or killed)" in err
    assert err.endswith(f"what it received is kept\nresume with: emoray run {path} --out {folder.uri}\n")
    assert "Traceback" not in err
    until(lambda: not any(map(command_of, started)))
    assert str((folder.manifest() or {})["attempts"][-1]["end"]).startswith(f"died: {what}")

    goes_on(here, path, folder)


@pytest.mark.campaign
def test_a_cluster_whose_head_dies_is_said_before_ray_ends_the_run_and_the_same_command_goes_on_elsewhere(
    spec: Callable[..., Path], start: Start, here: Here, tmp_path: Path
) -> None:
    path, folder = spec(repetitions=ENDLESS, latency_s=1.0, in_flight=8), RunFolder(str(tmp_path / "run"))
    command, two = [*EMORAY, "run", str(path), "--out", folder.uri], Nodes(workers=1, cpus=2)
    two.environment = {**two.environment, "RAY_gcs_rpc_server_reconnect_timeout_s": "40"}
    with two:
        process = start([*command, "--address", two.address], **two.environment)
        until(lambda: folder.exists() and folder.answers("a").counts().answered > 0, process)
        (head,) = [pid for pid in two.processes(0) if command_of(pid).partition(" ")[0].endswith("/gcs_server")]
        os.kill(head, signal.SIGKILL)
        out, err = process.communicate()

    what = "the head of its cluster (gcs_server) is dead (out of memory, or killed), or out of reach"
    assert (process.returncode, out) == (3, ""), err
    assert f"emoray: this run cannot go on: {what}" in err
    assert err.endswith(
        f"what it received is kept\nresume with: emoray run {path} --out {folder.uri} --address {two.address}\n"
    )
    assert "Traceback" not in err
    assert (folder.manifest() or {})["attempts"][-1]["end"] == f"died: {what}"

    goes_on(here, path, folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_outside_of_the_lanes_an_attempt_ends_at_once_with_the_command_that_resumes(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    ended = True

    with Interruption("again") as interruption:
        with interruption.left_to_watch():
            signal.raise_signal(number)
            assert interruption.asked
        signal.raise_signal(number)
        ended = False

    assert ended
    assert capsys.readouterr().err == "\nemoray: interrupted\nresume with: again\n"
    assert signal.getsignal(number) is before


def test_a_run_whose_folder_is_another_runs_by_now_leaves_its_manifest_alone(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    lease, whole = Lease(folder), recovery.begun(folder)
    with kept_record(folder, whole, manifest.attempt([]), lease):
        folder.write_manifest({"attempts": ["of the other"]})
        lease.lost.set()

    assert folder.manifest() == {"attempts": ["of the other"]}


def test_a_score_that_is_told_to_stop_asks_its_judge_no_more_and_the_same_command_finishes(
    spec: Callable[..., Path], join: Start, here: Here, tmp_path: Path
) -> None:
    folder, judge = RunFolder(str(tmp_path / "run")), tmp_path / "judge.yaml"
    text = spec(repetitions=200).read_text()
    runs.say(runs.begun(tmp_path / "run", text), runs.asked(text))
    judge.write_text(JUDGE.format(latency_s=2.0))  # so it reads for ten minutes, unless it is told to stop
    command = ["score", folder.uri, "--reader", str(judge)]
    process = join([*EMORAY, *command])
    until(lambda: folder.rows("j", "a").counts().answered > 0, process)

    process.send_signal(signal.SIGINT)
    _, err = process.communicate()

    assert process.returncode == INTERRUPTED, err
    assert f"resume with: emoray score {folder.uri} --reader {judge}" in err
    assert 0 < folder.rows("j", "a").counts().answered < 1200

    judge.write_text(JUDGE.format(latency_s=0.0))
    assert here(*command) == 0
    assert folder.rows("j", "a").counts().answered == 1200
