"""Three models as a job of a cluster behind a token: its head dies; then three nodes, one killed and one added."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from emoray.rehearsal.audit import Audit, Event, Heard, Kept, Kill, audit
from emoray.rehearsal.behaviour import Behaviour, Counters
from emoray.rehearsal.heartbeat import Stall
from emoray.rehearsal.local_cluster import Nodes, Place
from emoray.rehearsal.provider import Provider
from emoray.rehearsal.rehearse import Log
from emoray.run_folder.census import KeySet
from emoray.run_folder.columns import ANSWERED
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.partition import Partition
from tests.conftest import Tell
from tests.e2e.networks import networks
from tests.programs import ROOT, Held, Start, until

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]
SUBMIT = [sys.executable, str(ROOT / "jobs/submit.py")]
MODELS = ("first", "second", "local")
NIGHT = """
name: night
accounts: {{a: {{base_url: "{account}", concurrency: 48}}}}
models:
- {{name: first, host: hosted_api, account: a, id: gpt-4o, in_flight: 16, actors: 2}}
- {{name: second, host: hosted_api, account: a, id: gpt-4-turbo, in_flight: 16}}
- {{name: local, host: rehearsed, id: some/model, base_url: "{engines}", in_flight: 12, cpus: 1}}
states: 4
questions: all
repetitions: 4
readers: [{{kind: scripted, name: r, cpus: 0.5}}]
"""
CELLS = 3 * 4 * 10 * 4
BEATS = """
import json, os, sys, time
from emoray.child_process import die_with
from emoray.rehearsal.heartbeat import Heartbeat
told, node = open(sys.argv[1], "a", buffering=1), os.getpid()
if os.fork():
    os.execvp(sys.argv[2], sys.argv[2:])
die_with(node)
os.nice(int(os.environ["RAY_worker_niceness"]))
with Heartbeat() as heartbeat:
    for known in iter(lambda: len(heartbeat.stalls), None):
        time.sleep(0.1)
        for stall in heartbeat.stalls[known:]:
            print(json.dumps(stall), file=told)
"""
PATIENCE_S = 20  # of who follows the job: for so long a busy head may be silent


@pytest.fixture(autouse=True)
def _python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's `python` is that of the nodes' PATH."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.fixture
def places() -> Iterator[list[Place]]:
    """Of three nodes and one that joins, each with an address of its own; none where that takes rights we lack."""
    with networks(4) as found:
        yield found


class Hearts:
    """Of nodes: one beats beside the actors of each, in its session and as nice, since a kernel that shares a processor
    by sessions keeps nobody else waiting for as long.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, list[Path]()

    def of(self, place: Place) -> Place:
        """The same place, with a heart in it."""
        self._files.append(self._folder / f"stalls-{len(self._files)}.jsonl")
        return replace(place, before=(*place.before, sys.executable, "-c", BEATS, str(self._files[-1])))

    def stalls(self) -> list[list[Stall]]:
        """Of each node that there was."""
        lines = [file.read_text().splitlines() for file in self._files if file.exists()]
        return [[Stall(*json.loads(line)) for line in some] for some in lines]


@pytest.fixture
def hearts(tmp_path: Path) -> Hearts:
    return Hearts(tmp_path)


@pytest.fixture
def speaks() -> list[Held]:
    """What either provider says: half of the cells' answers, until there may be more."""
    return [Held(CELLS // 3), Held(CELLS // 6)]


@pytest.fixture
def providers(places: Sequence[Place], speaks: Sequence[Held]) -> Iterator[list[Provider]]:
    """One behind the account, one that gives the local engines their texts; both count."""
    with ExitStack() as stack:
        host = places[0].ip if places else "127.0.0.1"
        found = [Provider(Behaviour(latency_s=0.4), held, host=host) for held in speaks]
        for provider in found:
            provider.counters = Counters(asked=Log(), answered=Log())
            stack.enter_context(provider)
        yield found


@pytest.fixture
def run(tmp_path: Path, providers: Sequence[Provider]) -> tuple[list[str], RunFolder]:
    """The command that submits the night, and its folder."""
    spec, folder = tmp_path / "night.yaml", RunFolder(str(tmp_path / "run"))
    spec.write_text(NIGHT.format(account=providers[0].base_url, engines=providers[1].base_url))
    return [*SUBMIT, str(spec), "--out", folder.uri], folder


def test_a_night_in_which_the_head_dies_and_then_a_node_ends_with_a_clean_ledger(
    run: tuple[list[str], RunFolder],
    speaks: Sequence[Held],
    providers: Sequence[Provider],
    places: Sequence[Place],
    hearts: Hearts,
    start: Start,
    tell: Tell,
) -> None:
    submit, folder = run
    with Nodes(workers=1, cpus=4, jobs=True, places=[hearts.of(Place()) for _ in range(2)]) as nodes:
        job = start([*submit, "--patience", str(PATIENCE_S)], **reach(nodes))
        until(lambda: settled(folder) > CELLS // 10, job)
        began = time.monotonic()
        nodes.kill(0)
        out, err = job.communicate()
        assert job.returncode == 1, out + err
        assert f"the head of the cluster has not answered for {PATIENCE_S} s; the same command resumes" in err
    some_more(speaks, math.inf)
    until(lambda: not any(provider.counters.in_flight for provider in providers))  # the dead get their answers
    some_more(speaks, 3 / 4)
    head = over("head", began, providers, folder)  # the worker without a head has asked on until here

    homes = [hearts.of(place) for place in places or [Place()] * 4]
    with Nodes(workers=2, cpus=4, jobs=True, places=homes) as nodes:  # the head is the third
        job = start(submit, **reach(nodes))
        before = settled(folder)
        until(lambda: settled(folder) > before + CELLS // 5, job)
        began = time.monotonic()
        nodes.kill(busy(nodes))
        node = over("node", began, providers, folder)
        some_more(speaks, math.inf)
        nodes.add()
        out, err = job.communicate()
        assert job.returncode == 0, out + err

    ledger = ledger_of(providers, [head, node], folder, hearts.stalls())
    tell(f"{'nodes in network namespaces' if places else 'nodes on loopback'}\n{ledger.text()}")
    assert ledger.wrong == []
    assert (ledger.settled, ledger.read["r"], ledger.torn) == (CELLS, CELLS, 0)
    first, second = (folder.manifest() or {})["attempts"]  # the second driver outlived the node
    assert sum(second["settled_before"].values()) > CELLS // 10
    assert first["end"].startswith("died")


def some_more(speaks: Sequence[Held], share: float) -> None:
    """Of the answers that were there to begin with, from now on."""
    for held, cells in zip(speaks, (CELLS // 3, CELLS // 6), strict=True):
        held.most = held.given + cells * share


def reach(nodes: Nodes) -> dict[str, str]:
    """The environment that reaches a cluster."""
    return {"RAY_API_SERVER_ADDRESS": nodes.dashboard, **nodes.environment}


def busy(nodes: Nodes) -> int:
    """A worker node on which a model is asked."""
    return next(number for number in (1, 2) if any("GenerateActor" in line for line in nodes.commands(number)))


def over(target: str, began: float, providers: Sequence[Provider], folder: RunFolder) -> Kill:
    """A kill whose victims are dead by now. In flight were the cells that were asked and are not durable."""
    ended = time.monotonic()
    asked = sorted({key for when, key in heard(providers).asked if when <= ended})
    durable = KeySet().union(*(folder.answers(model).settled() for model in MODELS))
    return Kill(target, began, ended, len(asked) - int(durable.has(asked).sum()))


def settled(folder: RunFolder) -> int:
    return sum(len(folder.answers(model).settled()) for model in MODELS)


def heard(providers: Sequence[Provider]) -> Heard:
    counters = [provider.counters for provider in providers]
    return Heard(events(one.asked for one in counters), events(one.answered for one in counters))


def events(logs: Iterable[Counter[str]]) -> list[Event]:
    return [event for log in logs if isinstance(log, Log) for event in list(log.events)]


def ledger_of(
    providers: Sequence[Provider], kills: Sequence[Kill], folder: RunFolder, stalls: Sequence[Sequence[Stall]]
) -> Audit:
    """What the providers counted beside what is on disk."""
    said = [folder.answers(model) for model in MODELS]
    felt = [folder.rows("r", model) for model in MODELS]
    counts = [part.counts() for part in said]
    spare, torn = sum(one.spare for one in counts), sum(one.torn for one in counts)
    kept = Kept(CELLS, answers(said), {"r": answers(felt)}, spare=spare, torn=torn)
    return audit(heard(providers), kills, kept, stalls)


def answers(parts: Sequence[Partition]) -> Counter[str]:
    """How often each cell has an answer."""
    rows = [row for part in parts for row in part.read(["key", "outcome"]).to_pylist()]
    return Counter(row["key"] for row in rows if row["outcome"] == ANSWERED)
