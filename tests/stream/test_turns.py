"""Lanes that take turns on a real cluster: a custom resource, a slot, stands for GPUs."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emoray.store import RunFolder
from emoray.stream import conduct
from emoray.stream.nodes import Nodes
from emoray.stream.placement import Load
from tests.programs import EMORAY, Start, until
from tests.stream.conftest import Run, study

pytestmark = pytest.mark.cluster
ON_NODES = pytest.mark.xdist_group("nodes")

SLOW_JUDGE = (
    "- {kind: judge, name: slow, model: {name: judge, host: scripted, latency_s: 0.3, in_flight: 1, "
    """lines: ['{"valence": 0.5, "arousal": 0.5, "confidence": 1}']}}"""
)


class Slots:
    """Nodes with one slot each, of a name that only one test knows."""

    def __init__(self, nodes: Nodes) -> None:
        self.name = f"slot-{secrets.token_hex(3)}"
        self._nodes, self._numbers = nodes, list[int]()

    def add(self) -> None:
        """Returns when it is there."""
        self._numbers.append(self._nodes.add(resources={self.name: 1}))
        self._nodes.wait()

    def kill_first(self) -> None:
        self._nodes.kill(self._numbers.pop(0))

    def leave(self) -> None:
        while self._numbers:
            self.kill_first()


@pytest.fixture
def slots(nodes: Nodes) -> Iterator[Slots]:
    """One node that has a slot, and what the test adds; they go with it."""
    slots = Slots(nodes)
    slots.add()
    yield slots
    slots.leave()


@pytest.fixture
def begin(slots: Slots, nodes: Nodes, start: Start, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a run of some lanes, as a user does."""

    def begun(*models: str, repetitions: int, readers: str = "- {kind: scripted, name: r}") -> subprocess.Popen[str]:
        lines = ["name: t", f"repetitions: {repetitions}", "states: 3", "questions: [freedom, art]"]
        spec = tmp_path / "spec.yaml"
        spec.write_text("\n".join([*lines, "models:", *models, "readers:", readers]).replace("slot:", f"{slots.name}:"))
        command = [*EMORAY, "run", str(spec), "--out", str(tmp_path / "run"), "--address", nodes.address]
        return start(command, **nodes.environment)

    return begun


def model(name: str, latency_s: float, more: str = ", resources: {slot: 1}") -> str:
    return f"- {{name: {name}, host: scripted, latency_s: {latency_s}, in_flight: 1{more}}}"


@ON_NODES
def test_two_models_take_turns_an_api_runs_meanwhile_and_who_has_asked_all_holds_nothing(
    begin: Callable[..., subprocess.Popen[str]], slots: Slots, tmp_path: Path
) -> None:
    run = begin(model("first", 0.2), model("second", 0.02), model("api", 1.0, ""), repetitions=8, readers=SLOW_JUDGE)

    seen, read_early = watched(run, tmp_path, lambda: read(tmp_path, "first") > 0)

    assert run.returncode == 0, run.communicate()
    first, second, api = (asked_at(tmp_path, name) for name in ("first", "second", "api"))
    assert max(first) < min(second)  # there is one slot
    assert min(api) < max(first) and max(api) > min(second)  # noqa: PT018
    assert read_early < 48  # the reader had its share before all was asked
    assert seen[0]["first"].startswith("starting 1 actor of first")
    waits = f"waits for 0.2 CPUs and 1 {slots.name}, held by first"
    assert any(one["first"] == "asks" and one["second"] == waits for one in seen)
    assert [one for one in seen if one["first"] == "reads" and not one["second"].startswith("waits")], seen
    assert [len(first), len(second), len(api)] == [48, 48, 48]
    assert [read(tmp_path, name) for name in ("first", "second", "api")] == [48, 48, 48]


@ON_NODES
def test_a_lane_that_waits_starts_on_a_node_that_joins(
    begin: Callable[..., subprocess.Popen[str]], slots: Slots, tmp_path: Path
) -> None:
    run = begin(model("first", 0.1), model("second", 0.01), repetitions=100)
    until(lambda: "held by first" in standing(tmp_path).get("second", ""), run)

    slots.add()

    until(lambda: bool(RunFolder(str(tmp_path / "run")).answers("second").settled()), run)
    assert standing(tmp_path)["first"] == "asks"
    run.terminate()  # what is left of the first takes a minute
    assert run.wait() == 130, run.communicate()


@ON_NODES
def test_a_lane_whose_node_leaves_goes_on_elsewhere(
    begin: Callable[..., subprocess.Popen[str]], slots: Slots, tmp_path: Path
) -> None:
    run = begin(model("a", 0.02), repetitions=150)
    until(lambda: len(RunFolder(str(tmp_path / "run")).answers("a").settled()) > 20, run)
    slots.add()

    slots.kill_first()

    assert run.wait() == 0, run.communicate()
    assert len(set(asked_at(tmp_path, "a"))) == 900
    assert RunFolder(str(tmp_path / "run")).answers("a").counts().spare == 0


@ON_NODES
def test_what_no_node_has_is_refused_before_anything_is_written(
    begin: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run = begin(model("a", 0.0, ", resources: {plots: 1}"), repetitions=1)

    _, said = run.communicate()

    assert run.returncode == 2
    assert "model 'a' asks for the resource 'plots', which no node of the cluster has" in said
    assert not (tmp_path / "run").exists()


def test_a_lane_stops_asking_at_its_deadline_keeps_everything_and_says_so(
    run: Run, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def monotonic() -> float:
        """Three hours pass with the first answer."""
        return time.monotonic() + 3 * 3600 * bool(folder.answers("asks").settled())

    monkeypatch.setattr(conduct, "time", SimpleNamespace(monotonic=monotonic, sleep=time.sleep))
    asks = model("asks", 0.1, ", resources: {slot: 1}, deadline: 2h")
    waits = model("waits", 0.1, ", resources: {slot: 1}, deadline: 1h, priority: -1")

    assert run(study(f"{asks}\n{waits}", repetitions=100)) == 3

    said = capsys.readouterr().err
    assert "asks: asked no more: its deadline (2h) has passed" in said
    assert "waits: asked no more: its deadline (1h) has passed" in said
    assert "waits: 600 cells are still owed" in said
    settled = len(folder.answers("asks").settled())
    assert 0 < settled < 600
    assert f"asks: {600 - settled} cells are still owed" in said
    assert folder.rows("r", "asks").counts().answered == settled


def test_the_weights_of_the_lane_that_is_next_are_fetched_while_another_asks(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conduct, "_fetched", note)
    (tmp_path / "weights").mkdir()
    then = f"- {{name: then, host: transformers, id: {tmp_path / 'weights'}, revision: v2, cpus: 1.85}}"

    run(study(f"{model('first', 0.1, '')}\n{then}"))

    assert (tmp_path / "weights" / "fetched").read_text() == "v2"


def note(umask: int, load: Load) -> None:
    """In place of fetching."""
    Path(load.id, "fetched").write_text(str(load.revision))


def standing(tmp_path: Path) -> dict[str, str]:
    told = RunFolder(str(tmp_path / "run")).read_bytes("lanes.json")
    found: dict[str, str] = json.loads(told or b"{}")
    return found


def asked_at(tmp_path: Path, name: str) -> list[Any]:
    times: list[Any] = RunFolder(str(tmp_path / "run")).answers(name).read()["asked_at"].to_pylist()
    return times


def read(tmp_path: Path, name: str) -> int:
    return RunFolder(str(tmp_path / "run")).rows("slow", name).counts().answered


def watched(
    run: subprocess.Popen[str], tmp_path: Path, there: Callable[[], bool]
) -> tuple[list[Mapping[str, str]], int]:
    """Every standing of the lanes until the run has ended, and how many answers there were when `there` came true."""
    seen: list[Mapping[str, str]] = []
    answers = -1

    def ended() -> bool:
        nonlocal answers
        now = standing(tmp_path)
        if now and (not seen or seen[-1] != now):
            seen.append(now)
        if answers < 0 and there():
            answers = len(RunFolder(str(tmp_path / "run")).answers("first").settled())
        return run.poll() is not None

    until(ended)
    return seen, answers
