"""A run on two real vLLM engines, on a CPU; one of them is killed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import psutil
import pytest

from emoray.store import RunFolder
from tests.hosts.vllm_tiny import tiny_llama
from tests.programs import EMORAY, PATIENCE_S, Start, until

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.cluster,
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

SPEC = """
name: killed
models:
- {{name: a, host: vllm, id: {model}, device: cpu, dtype: float32, max_num_seqs: 8, cpus: 0.5, replicas: 2}}
states: 3
questions: [freedom, art]
repetitions: 160
sampling: {{max_tokens: 200}}
readers: [{{kind: scripted, name: r}}]
"""


def test_an_engine_killed_on_the_way_is_started_again_and_every_cell_is_settled_once(
    start: Start, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.format(model=tiny_llama(tmp_path / "model")))
    folder = RunFolder(str(tmp_path / "run"))
    running = start([*EMORAY, "run", str(spec), "--out", folder.uri])
    until(lambda: len(folder.answers("a").settled()) > 20 and len(_engines(running.pid)) == 2, running, 0.1)

    victim = _engines(running.pid)[0]
    victim.kill()
    _, err = running.communicate(timeout=2 * PATIENCE_S)  # an engine takes half a minute to start

    assert running.returncode in (0, 3), err  # 3: a random model may say nothing at all
    counts = folder.answers("a").counts()
    assert counts.answered + sum(counts.failed.values()) == 960, err
    assert counts.spare == 0
    assert set(counts.failed) <= {"empty"}
    table = folder.rows("r", "a").read()
    assert table.num_rows == len(set(table["key"].to_pylist())) == 960
    assert set(table["finish_reason"].to_pylist()) <= {"stop", "length", None}
    assert len(set(folder.answers("a").read()["model_revision"].to_pylist())) == 1


def _engines(above: int) -> list[psutil.Process]:
    """The engine cores among the descendants of a process."""
    return [process for process in psutil.Process(above).children(recursive=True) if "EngineCore" in _name(process)]


def _name(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.name())
    except psutil.NoSuchProcess:
        return ""
