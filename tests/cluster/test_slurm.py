"""The Slurm script on this machine: `srun` runs what it is given, and a real head, worker and run answer."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emoray.run_folder.folder import RunFolder
from tests.programs import ROOT, Here, Start, until

pytestmark = pytest.mark.cluster
SRUN = """#!/bin/sh
while :; do case "$1" in --*) shift ;; *) break ;; esac; done
exec "$@"
"""
SCONTROL = """#!/bin/sh
case "$1" in
  show) printf '%s\\n' "$3" | tr , '\\n' ;;
  *) echo "$*" >> "$CALLS" ;;
esac
"""
SPEC = """
name: t
models: [{name: a, host: scripted, latency_s: 1.0, in_flight: 16}]
states: 3
questions: [freedom, art]
repetitions: 1000
readers: [{kind: scripted, name: r}]
"""
ASKED = 100  # of an endless grid, in the end, unless more were
ENDING = """
import pathlib, signal, sys
code = int(sys.argv[1])
signal.signal(signal.SIGTERM, signal.SIG_DFL if code == 143 else lambda *_: sys.exit(code))
pathlib.Path("began").touch()
signal.pause()
"""


class Allocation:
    """What Slurm gives to a script: names of nodes, a number, and commands."""

    def __init__(self, tmp_path: Path, start: Start) -> None:
        self._start, self._calls = start, tmp_path / "calls"
        self.folder = RunFolder(str(tmp_path / "run"))
        self._spec = tmp_path / "spec.yaml"
        self._spec.write_text(SPEC)
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        self._bin = f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin"

    def run(self, job: int, nodes: str) -> subprocess.Popen[str]:
        return self.sbatch(job, nodes, ROOT, str(self._spec), "--out", self.folder.uri)

    def resumed(self, here: Here) -> int:
        """The exit code of the same run, which goes on here with the first cells, of a model that is quick by now."""
        self._spec.write_text(SPEC.replace("latency_s: 1.0", "latency_s: 0.0"))
        return here("run", str(self._spec), "--out", self.folder.uri, "--limit", str(ASKED))

    def sbatch(self, job: int, nodes: str, checkout: Path, *words: str) -> subprocess.Popen[str]:
        return self._start(
            ["bash", str(ROOT / "cluster/slurm.sh"), *words],
            PATH=self._bin, CALLS=str(self._calls), SLURM_SUBMIT_DIR=str(checkout), SLURM_JOB_ID=str(job),
            SLURM_JOB_NODELIST=nodes, HEAD_IP="127.0.0.2", RAY_ADDRESS="",
        )  # fmt: skip

    def settled(self) -> int:
        return len(self.folder.answers("a").settled())

    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def slurm(tmp_path: Path, start: Start) -> Allocation:
    return Allocation(tmp_path, start)


def test_a_run_that_is_told_to_end_is_queued_again_and_goes_on(slurm: Allocation, here: Here) -> None:
    job = slurm.run(4711, "n1,n2")
    until(lambda: slurm.settled() > 20, job)
    job.send_signal(signal.SIGUSR1)  # its time is nearly up
    out, err = job.communicate()
    assert job.returncode == 130, out + err
    assert slurm.calls() == ["requeue 4711"]

    assert slurm.resumed(here) == 0
    attempts = (slurm.folder.manifest() or {})["attempts"]
    assert [attempt["end"].partition(":")[0] for attempt in attempts] == ["stopped", "finished"]
    before = attempts[1]["settled_before"]["a"]
    assert 20 < before < 6000
    counts = slurm.folder.answers("a").counts()
    assert (counts.answered, counts.spare) == (max(before, ASKED), 0)


@pytest.mark.parametrize(
    ("told", "code", "again"),
    [
        *((signal.SIGUSR1, code, again) for code, again in ((0, False), (2, False), (3, False))),
        *((signal.SIGUSR1, code, True) for code in (130, 143, 1)),
        (signal.SIGTERM, 130, False),  # scancel --batch --signal=TERM
    ],
)
def test_a_run_whose_time_is_up_is_queued_again_unless_it_ended_by_itself_or_was_called_off(
    told: signal.Signals, code: int, again: bool, slurm: Allocation, tmp_path: Path
) -> None:
    job = slurm.sbatch(4714, "n1", checkout(tmp_path), str(code))
    until((tmp_path / "checkout/began").exists, job)

    job.send_signal(told)
    out, err = job.communicate()

    assert job.returncode == code, out + err
    assert slurm.calls() == ["requeue 4714"] * again


def checkout(tmp_path: Path) -> Path:
    """One whose run ends with the code that it is given, when it is told to, and whose Ray does nothing."""
    made = tmp_path / "checkout"
    (made / "jobs").mkdir(parents=True)
    (made / "jobs/run.py").write_text(ENDING)
    (made / "jobs/await_nodes.py").touch()
    (made / ".venv/bin").mkdir(parents=True)
    (made / ".venv/bin/ray").write_text("#!/bin/sh\nexec sleep 600\n")
    (made / ".venv/bin/ray").chmod(0o755)
    return made


@pytest.mark.parametrize(
    ("environment", "words", "sentence"),
    [
        ({}, ["spec.yaml"], "runs inside an allocation"),
        ({"SLURM_JOB_NODELIST": "n1", "SLURM_SUBMIT_DIR": "/"}, ["spec.yaml"], "is not the checkout"),
        ({"SLURM_JOB_NODELIST": "n1", "SLURM_SUBMIT_DIR": str(ROOT)}, [], "names no spec"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    environment: dict[str, str], words: list[str], sentence: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "cluster/slurm.sh"), *words],
        env={"PATH": "/usr/bin:/bin", **environment}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 2
    assert sentence in done.stderr
