"""The driver is killed, twice at once, or told to stop twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from emoray.rehearsal.local_cluster import Nodes
from emoray.run_folder.folder import RunFolder
from emoray.spec.load import load
from emoray.spec.study import Study
from tests.programs import EMORAY, Here, Start, killed, until

pytestmark = [pytest.mark.chaos, pytest.mark.cluster]
ON_NODES = pytest.mark.xdist_group("nodes")

SPEC = """
name: t
models: [{{name: a, host: scripted, latency_s: {latency_s}, in_flight: {in_flight}}}]
states: 4
questions: [freedom, art]
repetitions: {repetitions}
readers: [{{kind: scripted, name: r}}]
"""
BOTH = """
name: t
models:
- {{name: a, host: scripted}}
- {{name: slow, host: scripted, latency_s: {slow_s}}}
states: 4
questions: [freedom, art]
readers: [{{kind: scripted, name: r}}]
"""
NEVER_S = 36_000.0  # no test lasts so long
DECIDED_BY_SEEDS = ["key", "prompt", "seed", "outcome", "answer", "refused", "prompt_tokens", "completion_tokens"]
AND_BY_READING = [*DECIDED_BY_SEEDS, "label", "probability", "probabilities", "cosine", "expected_cosine"]


@pytest.fixture
def join_nodes(start: Start, nodes: Nodes) -> Start:
    """Starts a program of ours; a run that it begins joins a cluster of a head and two workers."""
    return partial(start, RAY_ADDRESS=nodes.address, **nodes.environment)


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec, or how fast its model is from now on: that changes no answer."""

    def write(*, repetitions: int, latency_s: float, in_flight: int = 8) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.format(repetitions=repetitions, latency_s=latency_s, in_flight=in_flight))
        return path

    return write


def results(folder: RunFolder) -> tuple[pa.Table, pa.Table]:
    """What seeds decide, answers and rows."""
    return folder.answers("a").read(DECIDED_BY_SEEDS), folder.rows("r", "a").read(AND_BY_READING)


HOLDS = """
import sys, threading
from emoray.commands import cli
from emoray.run_folder import compaction as compact
from emoray.report import tables
place = {"compaction": (compact, "_fill"), "report": (tables, "tables")}[sys.argv.pop(1)]
setattr(*place, lambda *_: threading.Event().wait())
sys.exit(cli.main())
"""  # `emoray`, which goes no further than into a moment that would be over soon

MOMENTS = ("start", "middle", "compaction", "report")
TEN_MOMENTS = ("start",) * 3 + ("middle",) * 3 + ("compaction",) * 2 + ("report",) * 2
LATENCY_S = {"start": NEVER_S, "middle": 1.0}
PARTS = ("answers/model_folder=m-a", "rows/reader_folder=r-r/model_folder=m-a", "report")


class Moments:
    """When to kill the driver, told by what is new in the folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._before = {part: self._there(part) for part in PARTS}
        self._attempts = self._begun()

    def start(self) -> bool:
        """The attempt is in run.json, and nothing was asked yet."""
        return self._begun() > self._attempts

    def middle(self) -> bool:
        """Some answers are durable, others are in flight."""
        return bool(self._new(PARTS[0]))

    def compaction(self) -> bool:
        """It has made itself a scratch folder."""
        return any(name.startswith(".compact-") for part in PARTS[:2] for name, _ in self._new(part))

    def report(self) -> bool:
        """A part of it is there."""
        return bool(self._new("report"))

    def _begun(self) -> int:
        return len((self._folder.manifest() or {"attempts": []})["attempts"])

    def _new(self, part: str) -> set[tuple[str, int]]:
        return self._there(part) - self._before[part]

    def _there(self, part: str) -> set[tuple[str, int]]:
        """Names and times of what is in a part."""
        found = set()
        with suppress(FileNotFoundError), os.scandir(self._folder.path(part)) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    found.add((entry.name, entry.stat().st_mtime_ns))
        return found


def killed_on(nodes: Nodes, driver: subprocess.Popen[str]) -> None:
    """`killed`, where a run has joined these nodes."""
    driver.kill()
    driver.wait()
    its = ("GenerateActor", "ReadActor")  # limiters outlive it
    until(lambda: not any(name in one for node in (1, 2) for one in nodes.commands(node) for name in its))


@pytest.mark.parametrize(
    ("kills", "begin", "repetitions"),
    [
        (MOMENTS, "join", 25),
        pytest.param(TEN_MOMENTS, "join_nodes", 100, marks=[pytest.mark.campaign, ON_NODES]),
    ],
    ids=["at each moment", "ten times"],
)
def test_a_killed_driver_ends_with_the_same_results_as_one_left_in_peace(
    kills: tuple[str, ...],
    begin: str,
    repetitions: int,
    spec: Callable[..., Path],
    run_once: Callable[[Study, Path], None],
    here: Here,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    cells = 8 * repetitions
    peace, chaos = RunFolder(str(tmp_path / "peace")), RunFolder(str(tmp_path / "chaos"))
    run_once(load(str(spec(repetitions=repetitions, latency_s=0.0))), Path(peace.uri))
    begin_run = request.getfixturevalue(begin)
    kill = killed if begin == "join" else partial(killed_on, request.getfixturevalue("nodes"))

    for moment in kills:
        spec(repetitions=repetitions, latency_s=LATENCY_S.get(moment, 0.0), in_flight=2)
        moments = Moments(chaos)
        command = [sys.executable, "-c", HOLDS, moment] if moment in ("compaction", "report") else EMORAY
        driver = begin_run([*command, "run", str(tmp_path / "spec.yaml"), "--out", chaos.uri])
        until(getattr(moments, moment), driver, every_s=0.05)
        kill(driver)

    assert here("run", str(tmp_path / "spec.yaml"), "--out", chaos.uri) == 0
    for found, expected in zip(results(chaos), results(peace), strict=True):
        assert expected.num_rows == cells
        assert found.equals(expected)
    attempts = (chaos.manifest() or {})["attempts"]
    assert [attempt["end"].split(":")[0] for attempt in attempts] == ["died"] * len(kills) + ["finished"]
    assert all(attempt["began"] <= attempt["ended"] for attempt in attempts)
    lanes = [lane for attempt in attempts for lane in attempt.get("lanes", ())]  # none of one that could not begin
    assert sum(lane["answered"] for lane in lanes) == cells
    assert sum(lane["completion_tokens"] for lane in lanes) == chaos.answers("a").counts().completion_tokens


@ON_NODES
@pytest.mark.campaign  # e2e/test_object_store starts a second run on a folder, test_lease holds a local one
def test_two_runs_on_one_folder_at_once_the_second_says_who_holds_it(
    spec: Callable[..., Path], nodes: Nodes, start: Start, tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    command = [*EMORAY, "run", str(spec(repetitions=100, latency_s=1.0, in_flight=2)), "--out", folder.uri]
    first = start([*command, "--address", nodes.address], **nodes.environment)
    until(lambda: folder.exists() and folder.answers("a").counts().answered > 0, first)

    second = start([*command, "--address", nodes.address], **nodes.environment)
    _, said = second.communicate()

    assert second.returncode == 2
    assert f"is being written by process {first.pid} on" in said
    assert "Traceback" not in said
    first.send_signal(signal.SIGINT)
    assert first.wait() == 130, first.communicate()
    counts = folder.answers("a").counts()
    assert 0 < counts.answered < 800
    assert counts.spare == 0
    assert [attempt["end"].split(":")[0] for attempt in (folder.manifest() or {})["attempts"]] == ["stopped"]


def test_who_presses_ctrl_c_twice_does_not_wait(join: Start, tmp_path: Path) -> None:
    folder, path = RunFolder(str(tmp_path / "run")), tmp_path / "spec.yaml"
    path.write_text(BOTH.format(slow_s=NEVER_S))
    run = join([*EMORAY, "run", str(path), "--out", folder.uri])
    quick = Path(folder.path("rows/reader_folder=r-r/model_folder=m-a"))
    until(lambda: any(quick.glob("compact-*")), run)  # its lane has ended, the other is in flight
    assert run.stderr is not None

    run.send_signal(signal.SIGINT)
    assert any("once more to stop at once" in line for line in run.stderr)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate()

    assert run.returncode in (130, -signal.SIGINT)  # a shell shows both as 130
    assert f"not waiting; resume with: emoray run {path} --out {folder.uri}" in said
    assert [folder.answers(model).counts().answered for model in ("a", "slow")] == [8, 0]  # nothing was waited for
