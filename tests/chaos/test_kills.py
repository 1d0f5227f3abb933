"""Twenty kills in one run: the rehearsal as a user starts it, and its ledger."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.chaos.conftest import EMORAY, ROOT, Start

pytestmark = [pytest.mark.chaos, pytest.mark.cluster]

NIGHT = """
name: night
accounts:
  openai: {key_env: A_KEY_THAT_NOBODY_HAS, concurrency: 96}
models:
- {name: hosted, host: hosted_api, account: openai, id: gpt-4o, in_flight: 48, actors: 2}
- {name: local, host: vllm, id: some/model, max_num_seqs: 32, replicas: 2}
states: 10
questions: all
repetitions: 15
sampling: {max_tokens: 64}
readers: [{kind: goemotions, name: paper, model: some/classifier, actors: 2}]
"""
KINDS = ("driver", "actor", "engine", "reader", "node")


def test_twenty_kills_lose_nothing_and_double_nothing(
    tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "night.yaml"
    spec.write_text(NIGHT)
    command = [*EMORAY, "rehearse", str(spec), "--out", str(tmp_path / "run"), "--kill", ",".join(KINDS)]

    rehearsal = start([*command, "--kills", "20", "--seed", "4", "--latency", "0.5", "--json"])
    out, err = rehearsal.communicate(timeout=540)

    with capsys.disabled():
        print(f"\n{err}\n{out}")
    assert rehearsal.returncode == 0, err
    ledger = json.loads(out)
    assert ledger["kills"] == dict.fromkeys(ledger["kills"], 4)
    assert sorted(ledger["kills"]) == sorted(KINDS)
    assert ledger["cells"] == ledger["settled"] == ledger["read"]["paper"] == 3000
    assert ledger["lost"] == ledger["doubled"] == ledger["strangers"] == ledger["unexplained"] == 0
    assert ledger["repeated"] <= ledger["in_flight"]
    assert ledger["calls"] == ledger["answered"] == 3000 + ledger["repeated"]


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
