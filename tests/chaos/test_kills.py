"""Rehearsals as a user starts them, and their ledgers."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from emoray.processes import command_of, descendants
from emoray.rehearsal.local_cluster import Nodes
from tests.conftest import Tell
from tests.programs import EMORAY, ROOT, Start, until

pytestmark = [pytest.mark.chaos, pytest.mark.cluster]
ON_NODES = pytest.mark.xdist_group("nodes")

NIGHT = """
name: night
accounts:
  openai: {key_env: A_KEY_THAT_NOBODY_HAS, concurrency: 480}
models:
- {name: hosted, host: hosted_api, account: openai, id: gpt-4o, in_flight: 48, actors: 2}
- {name: local, host: vllm, id: some/model, max_num_seqs: 64}
states: 10
questions: all
repetitions: 15
sampling: {max_tokens: 64}
readers: [{kind: goemotions, name: paper, model: some/classifier}]
"""
STORM = """
name: storm
accounts:
  lab: {key_env: A_KEY_THAT_NOBODY_HAS, concurrency: 16}
models:
- {name: now, host: hosted_api, account: lab, id: gpt-4o}
- {name: overnight, host: batch_api, account: lab, id: gpt-4o-mini}
- {name: local, host: vllm, id: some/model, max_num_seqs: 8}
states: 4
questions: [freedom, art]
repetitions: 10
retry: {attempts: 6, first_wait_s: 0.05, longest_wait_s: 0.5}
readers: [{kind: scripted, name: r}]
"""
MOST_USD = 0.003  # that an ask of either spec may cost
ROUNDING_USD = 1e-9  # of sums that are added up in another order
SOON = "7"  # a seed by which the last of four kills is due after 73 of 240 answers: some victims let wait for them
KINDS = ("driver", "actor", "engine", "reader", "node")


@pytest.fixture
def night(tmp_path: Path) -> Path:
    spec = tmp_path / "night.yaml"
    spec.write_text(NIGHT)
    return spec


@pytest.mark.campaign
def test_twenty_kills_lose_nothing_and_double_nothing(night: Path, start: Start, tell: Tell) -> None:
    command = [*EMORAY, "rehearse", str(night), "--out", str(night.with_name("run")), "--kill", ",".join(KINDS)]

    rehearsal = start([*command, "--kills", "20", "--seed", "4", "--latency", "0.5", "--json"])
    out, err = rehearsal.communicate()

    tell(f"{err}\n{out}")
    assert rehearsal.returncode == 0, err
    ledger = json.loads(out)
    assert ledger["kills"] == dict.fromkeys(KINDS, 4)
    assert ledger["cells"] == ledger["settled"] == ledger["read"]["paper"] == 3000
    assert ledger["lost"] == ledger["doubled"] == ledger["strangers"] == ledger["unexplained"] == 0
    assert ledger["repeated"] <= ledger["in_flight"]
    assert ledger["calls"] == ledger["answered"] == 3000 + ledger["repeated"]
    _balances(ledger)


@ON_NODES
def test_a_storm_over_hosted_models_batches_and_engines_with_a_kill_of_each_kind_leaves_a_clean_ledger(
    tmp_path: Path, start: Start, nodes: Nodes, tell: Tell
) -> None:
    """On a cluster of one's own, whose nodes stay."""
    spec, kinds = tmp_path / "storm.yaml", KINDS[:-1]
    spec.write_text(STORM)
    command = [*EMORAY, "rehearse", str(spec), "--out", str(tmp_path / "run"), "--address", nodes.address]

    faults = "storm=0.1,hang=0"  # what hangs ends by the clock alone, and so would the answers of a slow machine
    how = ["--kill", ",".join(kinds), "--kills", "4", "--seed", SOON, "--faults", faults, "--json"]
    rehearsal = start([*command, *how], **nodes.environment)
    out, err = rehearsal.communicate()

    tell(f"{err}\n{out}")
    assert rehearsal.returncode == 0, err
    ledger = json.loads(out)
    assert ledger["kills"] == dict.fromkeys(kinds, 1)
    assert ledger["cells"] == ledger["settled"] == ledger["read"]["r"] == 240
    assert ledger["calls"] > ledger["answered"]  # the storm was there
    assert ledger["lost"] == ledger["doubled"] == ledger["strangers"] == ledger["unexplained"] == 0
    assert ledger["repeated"] <= ledger["in_flight"]
    assert ledger["rows_usd"] + ledger["lost_usd"] >= ledger["charged_usd"] - ROUNDING_USD
    assert ledger["charged_usd"] > 0


def _balances(ledger: dict[str, float]) -> None:
    """What rows do not tell of the provider's sum was booked as lost, at no more than what was in flight may cost."""
    rows_and_lost = ledger["rows_usd"] + ledger["lost_usd"]
    assert ledger["rows_usd"] < ledger["charged_usd"] <= rows_and_lost + ROUNDING_USD
    assert rows_and_lost <= ledger["charged_usd"] + ledger["in_flight"] * MOST_USD + ROUNDING_USD


@pytest.mark.campaign
def test_a_rehearsal_that_is_interrupted_says_so_and_takes_the_cluster_that_it_started_with_it(
    night: Path, start: Start
) -> None:
    rehearsal = start([*EMORAY, "rehearse", str(night), "--out", str(night.with_name("run"))])
    until(lambda: bool(_runs(descendants(rehearsal.pid))), rehearsal)  # its cluster is there, and the first run
    _ends_with_all_that_it_started(rehearsal, signal.SIGINT)


def test_a_rehearsal_on_a_users_cluster_that_is_told_to_end_takes_its_run_with_it(
    night: Path, two_cpus: str, start: Start
) -> None:
    rehearsal = start([*EMORAY, "rehearse", str(night), "--out", str(night.with_name("run")), "--address", two_cpus])
    until(lambda: bool(_runs(descendants(rehearsal.pid))), rehearsal)
    _ends_with_all_that_it_started(rehearsal, signal.SIGTERM)


def _ends_with_all_that_it_started(rehearsal: subprocess.Popen[str], number: signal.Signals) -> None:
    started = descendants(rehearsal.pid)

    rehearsal.send_signal(number)
    out, err = rehearsal.communicate()

    assert rehearsal.returncode == 130
    assert (out, err.splitlines()[1:]) == ("", ["emoray: interrupted"])  # after what it was waiting for
    assert started
    until(lambda: not any(map(command_of, started)))


def _runs(pids: list[int]) -> list[int]:
    return [pid for pid in pids if " -m emoray run " in command_of(pid)]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--kill", "drivers"], "--kill: 'drivers' is none of driver, actor, engine, reader, node"),
        (["--faults", "slow=0.1"], "--faults: 'slow' is none of busy, "),
        (["--faults", "busy"], "a fault needs its share"),
        (["--out", str(ROOT)], "is there already; a rehearsal wants a new folder"),
    ],
)
def test_a_rehearsal_that_cannot_be_is_refused_with_a_sentence(words: list[str], sentence: str, night: Path) -> None:
    done = subprocess.run([*EMORAY, "rehearse", str(night), *words], capture_output=True, text=True, cwd=night.parent)

    assert done.returncode == 2
    assert sentence in done.stderr
