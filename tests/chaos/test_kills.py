"""Rehearsals as a user starts them, and their ledgers; one has twenty kills."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from emoray.stream.nodes import Nodes, descendants
from emoray.stream.victims import command_of
from tests.conftest import Tell
from tests.programs import EMORAY, PATIENCE_S, ROOT, Start, until

pytestmark = [pytest.mark.chaos, pytest.mark.cluster]

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
states: 4
questions: [freedom, art]
repetitions: 3
retry: {attempts: 6, timeout_s: 5, first_wait_s: 0.05, longest_wait_s: 0.5}
readers: [{kind: scripted, name: r}]
"""
KINDS = ("driver", "actor", "engine", "reader", "node")


def test_twenty_kills_lose_nothing_and_double_nothing(tmp_path: Path, start: Start, tell: Tell) -> None:
    spec = tmp_path / "night.yaml"
    spec.write_text(NIGHT)
    command = [*EMORAY, "rehearse", str(spec), "--out", str(tmp_path / "run"), "--kill", ",".join(KINDS)]

    rehearsal = start([*command, "--kills", "20", "--seed", "4", "--latency", "0.5", "--json"])
    out, err = rehearsal.communicate(timeout=540)

    tell(f"{err}\n{out}")
    assert rehearsal.returncode == 0, err
    ledger = json.loads(out)
    assert ledger["kills"] == dict.fromkeys(ledger["kills"], 4)
    assert sorted(ledger["kills"]) == sorted(KINDS)
    assert ledger["cells"] == ledger["settled"] == ledger["read"]["paper"] == 3000
    assert ledger["lost"] == ledger["doubled"] == ledger["strangers"] == ledger["unexplained"] == 0
    assert ledger["repeated"] <= ledger["in_flight"]
    assert ledger["calls"] == ledger["answered"] == 3000 + ledger["repeated"]


def test_a_storm_over_hosted_models_and_batches_on_a_cluster_of_ones_own_leaves_a_clean_ledger(
    tmp_path: Path, start: Start, nodes: Nodes, tell: Tell
) -> None:
    spec = tmp_path / "storm.yaml"
    spec.write_text(STORM)
    command = [*EMORAY, "rehearse", str(spec), "--out", str(tmp_path / "run"), "--address", nodes.address]

    rehearsal = start(
        [*command, "--kill", "driver,actor", "--kills", "2", "--faults", "storm=0.3", "--json"], **nodes.environment
    )
    out, err = rehearsal.communicate(timeout=540)

    tell(f"{err}\n{out}")
    assert rehearsal.returncode == 0, err
    ledger = json.loads(out)
    assert ledger["kills"] == {"driver": 1, "actor": 1}
    assert ledger["cells"] == ledger["settled"] == ledger["read"]["r"] == 48
    assert ledger["calls"] > ledger["answered"]  # the storm was there
    assert ledger["lost"] == ledger["doubled"] == ledger["unexplained"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_rehearsal_that_is_told_to_stop_says_so_and_takes_all_that_it_started_with_it(
    number: signal.Signals, tmp_path: Path, start: Start
) -> None:
    spec = tmp_path / "night.yaml"
    spec.write_text(NIGHT)
    rehearsal = start([*EMORAY, "rehearse", str(spec), "--out", str(tmp_path / "run")])
    until(lambda: bool(_runs(descendants(rehearsal.pid))), rehearsal)  # its cluster is there, and the first run
    started = descendants(rehearsal.pid)

    rehearsal.send_signal(number)
    out, err = rehearsal.communicate(timeout=PATIENCE_S)

    assert rehearsal.returncode == 130
    assert (out, err.strip()) == ("", "emoray: interrupted")
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
def test_a_rehearsal_that_cannot_be_is_refused_with_a_sentence(words: list[str], sentence: str, tmp_path: Path) -> None:
    spec = tmp_path / "night.yaml"
    spec.write_text(NIGHT)

    done = subprocess.run(
        [*EMORAY, "rehearse", str(spec), *words], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )

    assert done.returncode == 2
    assert sentence in done.stderr
