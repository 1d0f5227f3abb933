"""A run on real vLLM engines, on a CPU; one is killed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from emoray.embedded import generator_path
from emoray.run_folder.folder import RunFolder
from tests.hosts.vllm_tiny import tiny_llama
from tests.programs import EMORAY, Start, until

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.cluster,
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

SPEC = """
name: killed
models:
- {{name: a, host: vllm, id: {model}, device: cpu, dtype: float32, cpus: 0.5,
    max_num_seqs: {at_once}, replicas: {engines}}}
states: 3
questions: [freedom, art]
repetitions: {repetitions}
sampling: {{max_tokens: 200}}
readers: [{{kind: scripted, name: r}}]
"""


def tiny(folder: Path) -> tuple[Path, int, int, int]:
    """(a random model, which writes until it is cut off, its engines, how many answers at once, repetitions)."""
    return tiny_llama(folder), 1, 8, 20


def embedded(_: Path) -> tuple[Path, int, int, int]:
    """Its answers are short: one at a time, so that there is something left to kill when both engines are there."""
    return generator_path(), 2, 1, 80


@pytest.mark.parametrize("made", [tiny, pytest.param(embedded, marks=pytest.mark.campaign)])
def test_an_engine_killed_on_the_way_is_started_again_and_every_cell_is_settled_once(
    made: Callable[[Path], tuple[Path, int, int, int]], join: Start, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    model, engines, at_once, repetitions = made(tmp_path / "model")
    spec.write_text(SPEC.format(model=model, engines=engines, at_once=at_once, repetitions=repetitions))
    folder = RunFolder(str(tmp_path / "run"))
    running = join([*EMORAY, "run", str(spec), "--out", folder.uri])
    until(lambda: len(folder.answers("a").settled()) > 0 and len(_engines()) == engines, running)

    victim = _engines()[0]
    victim.kill()
    _, err = running.communicate()  # an engine takes half a minute to start

    assert running.returncode in (0, 3), err  # 3: a random model may say nothing at all
    counts = folder.answers("a").counts()
    assert counts.answered + sum(counts.failed.values()) == 6 * repetitions, err
    assert counts.spare == 0
    assert set(counts.failed) <= {"empty"}
    table = folder.rows("r", "a").read()
    assert table.num_rows == len(set(table["key"].to_pylist())) == 6 * repetitions
    assert set(table["finish_reason"].to_pylist()) <= {"stop", "length", None}
    assert len(set(folder.answers("a").read()["model_revision"].to_pylist())) == 1


def _engines() -> list[psutil.Process]:
    """The engine cores on the cluster of this process."""
    return [process for process in psutil.Process().children(recursive=True) if "EngineCore" in _name(process)]


def _name(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.name())
    except psutil.NoSuchProcess:
        return ""
