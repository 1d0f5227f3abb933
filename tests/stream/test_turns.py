"""Lanes that take turns on a real cluster: a custom resource, a slot, stands for GPUs.

What is asked comes to a provider in this process, which answers when what the test is about has happened: no machine is
too slow for the order in which things must happen.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.local_cluster import Nodes
from emoray.rehearsal.provider import Provider
from emoray.run_folder.folder import LANES, RunFolder
from emoray.scheduling.resources import Load
from emoray.spec.load import parse
from emoray.stream import driver
from tests.programs import EMORAY, Start, until
from tests.stream.conftest import Run, study

pytestmark = pytest.mark.cluster

GOOD = json.dumps({"valence": 0.5, "arousal": -0.5, "confidence": 0.8})


def spec(url: str, *models: str, repetitions: int, reader: str = "{kind: scripted, name: r}") -> str:
    """Of models of this provider, which may be long silent."""
    asked = [f"- {{name: {name.partition(',')[0]}, id: {name}, host: hosted_api, account: p}}" for name in models]
    lines = ["name: t", f"repetitions: {repetitions}", "states: 3", "questions: [freedom, art]"]
    silent = ["retry: {timeout_s: 3600}", f"accounts: {{p: {{base_url: {url!r}}}}}"]
    return "\n".join([*lines, *silent, "models:", *asked, "readers:", f"- {reader}"])


async def come_true(what: Callable[[], bool]) -> None:
    while not what():
        await asyncio.sleep(0.05)


JUDGE = "{kind: judge, name: j, model: {name: judge, id: judge, host: hosted_api, account: p}}"


def test_two_models_take_turns_an_api_runs_meanwhile_and_who_has_asked_all_holds_nothing(
    run: Run, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, heard = Counter[str](), Counter[str]()  # by model; of whose answers
    standings = noted(monkeypatch)

    async def speak(body: dict[str, Any]) -> str:
        model, text = body["model"], body["messages"][-1]["content"]
        asked[model] += 1
        if model == "judge":  # has its share before all is asked; and then reads on while the next one asks
            whose = next(name for name in ("first", "second", "api") if f"I am {name}" in text)
            heard[whose] += 1
            await come_true(lambda: whose != "first" or heard["first"] == 1 or asked["second"] > 0)
            return GOOD
        if model == "first" and asked["first"] > 2:
            asks = ("first", "asks")
            await come_true(lambda: bool(asked["api"] and heard["first"] and asks in dict(standings[-1]).items()))
        if model == "api":
            await come_true(lambda: asked["second"] > 0)
        return f"I am {model}."

    with Provider(Behaviour(), speak) as provider:
        slot = "resources: {slot: 1}"
        models = [f"first, in_flight: 4, {slot}", f"second, {slot}", "api"]  # the first's answers travel one by one
        assert run(parse(spec(provider.base_url, *models, repetitions=2, reader=JUDGE))) == 0

    first, second = (folder.answers(name).read()["asked_at"].to_pylist() for name in ("first", "second"))
    assert max(first) < min(second)  # there is one slot
    assert standings[0]["first"].startswith("starting 1 actor of first")
    assert any(
        one["first"] == "asks" and one["second"].startswith("waits") and one["second"].endswith("1 slot, held by first")
        for one in standings
    )
    assert [one for one in standings if one["first"] == "reads" and not one["second"].startswith("waits")], standings
    for name in ("first", "second", "api"):
        assert folder.answers(name).counts().answered == folder.rows("j", name).counts().answered == 12


def noted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What every lane does or waits for, each time that it is written down."""
    standings: list[dict[str, str]] = []
    write = RunFolder.write_text

    def note(folder: RunFolder, name: str, text: str) -> None:
        write(folder, name, text)
        if name == LANES:
            standings.append(json.loads(text))

    monkeypatch.setattr(RunFolder, "write_text", note)
    return standings


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
def begin(nodes: Nodes, start: Start, tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Starts a run, as a user does."""

    def begun(text: str) -> subprocess.Popen[str]:
        (path := tmp_path / "spec.yaml").write_text(text)
        command = [*EMORAY, "run", str(path), "--out", str(tmp_path / "run"), "--address", nodes.address]
        return start(command, **nodes.environment)

    return begun


@pytest.mark.xdist_group("nodes")
def test_a_lane_that_waits_starts_on_a_node_that_joins_and_one_whose_node_leaves_goes_on_elsewhere(
    begin: Callable[[str], subprocess.Popen[str]], slots: Slots, folder: RunFolder
) -> None:
    asked, moved = Counter[str](), Event()

    async def speak(body: dict[str, Any]) -> str:
        asked[body["model"]] += 1
        await come_true(lambda: body["model"] == "second" or asked["first"] <= 8 or moved.is_set())
        return "Well."

    with Provider(Behaviour(), speak) as provider:
        slot = f"resources: {{{slots.name}: 1}}, in_flight: 4"
        run = begin(spec(provider.base_url, f"first, {slot}", f"second, {slot}", repetitions=4))
        until(lambda: "held by first" in standing(folder).get("second", ""), run)

        slots.add()

        until(lambda: len(folder.answers("second").settled()) == 24, run)
        until(lambda: standing(folder)["first"] == "asks", run)  # and so it stays
        until(lambda: len(folder.answers("first").settled()) >= 8, run)

        slots.kill_first()
        moved.set()

        assert run.wait() == 0, run.communicate()
    assert len(set(folder.answers("first").read()["key"].to_pylist())) == 24
    assert folder.answers("first").counts().spare == 0
    assert folder.rows("r", "first").counts().answered == 24


def test_a_lane_stops_asking_at_its_deadline_and_meanwhile_the_weights_of_the_next_are_fetched(
    run: Run, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights").mkdir()
    fetched = tmp_path / "weights" / "fetched"

    def monotonic() -> float:
        """Three hours pass with the first answer, when the weights are there."""
        return time.monotonic() + 3 * 3600 * (fetched.exists() and bool(folder.answers("asks").settled()))

    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=monotonic, sleep=time.sleep))
    monkeypatch.setattr(driver, "_fetched", note_weights)
    asks = "- {name: asks, host: scripted, latency_s: 0.1, in_flight: 1, resources: {slot: 1}, deadline: 2h}"
    then = f"host: transformers, id: {tmp_path / 'weights'}, revision: v2, resources: {{slot: 1}}"

    assert run(study(f"{asks}\n- {{name: waits, {then}, deadline: 1h, priority: -1}}", repetitions=1000)) == 3

    said = capsys.readouterr().err
    assert fetched.read_text() == "v2"
    assert "asks: asked no more: its deadline (2h) has passed" in said
    assert "waits: asked no more: its deadline (1h) has passed" in said
    assert "waits: 6,000 cells are still owed" in said
    settled = len(folder.answers("asks").settled())
    assert 0 < settled < 6000
    assert f"asks: {6000 - settled:,} cells are still owed" in said
    assert folder.rows("r", "asks").counts().answered == settled


def note_weights(umask: int, load: Load) -> None:
    """In place of fetching."""
    Path(load.id, "fetched").write_text(str(load.revision))


def standing(folder: RunFolder) -> dict[str, str]:
    found: dict[str, str] = json.loads(folder.read_bytes(LANES) or b"{}")
    return found
