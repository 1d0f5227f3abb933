"""Runs with real vLLM engines on a CPU: who cannot start harms nobody, who waits is served."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import psutil
import pytest

from emoray import rows
from emoray.embedded import generator_path
from emoray.store import RunFolder
from tests.hosts.vllm_tiny import tiny_llama
from tests.stream.conftest import Run, study

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def entry(name: str, model: Path | str, more: str = "") -> str:
    return f"- {{name: {name}, host: vllm, id: {model}, device: cpu, dtype: float32, max_num_seqs: 8, cpus: 0.5{more}}}"


def test_an_engine_that_cannot_start_ends_its_lane_with_a_sentence_and_the_others_go_on(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (empty := tmp_path / "empty").mkdir()
    assert run(study(f"{entry('lost', empty)}\n- {{name: a, host: scripted}}")) == 3

    assert f"lost: model 'lost' ({empty}): the vLLM engine cannot start" in capsys.readouterr().err
    assert folder.answers("a").counts().answered == 6
    assert folder.answers("lost").counts().answered == 0


def test_two_models_that_do_not_fit_together_take_turns_while_another_lane_runs(
    run: Run, folder: RunFolder, model: Path
) -> None:
    """CPUs stand in for GPUs: each engine takes more than half of what there is. One is the embedded generator."""
    places = {"first": model, "second": generator_path()}
    two = "\n".join(entry(name, place).replace("cpus: 0.5", "cpus: 1.2") for name, place in places.items())
    free = "- {name: free, host: scripted, latency_s: 0.05, in_flight: 4}"

    run(study(f"{two}\n{free}", repetitions=60, more="sampling: {max_tokens: 20}"))

    first, second, other = (_answers(folder, name)["asked_at"].to_pylist() for name in ("first", "second", "free"))
    assert max(first) < min(second)
    assert max(other) < min(second)  # it did not wait for its turn
    assert [folder.rows("r", name).read().num_rows for name in ("first", "second", "free")] == [360, 360, 360]
    said = _answers(folder, "second")
    assert set(said["outcome"].to_pylist()) <= {rows.ANSWERED, "empty"}
    assert len(set(said["answer"].to_pylist())) > 100
    assert not _engines()


def test_a_reasoning_models_thoughts_stand_in_a_column_of_their_own_and_only_its_answer_is_read(
    run: Run, folder: RunFolder, model: Path
) -> None:
    thinking = entry("thinks", model, ", reasoning_parser: deepseek_r1")

    run(study(thinking, repetitions=30, more="sampling: {max_tokens: 200}"))

    table = _answers(folder, "thinks").to_pylist()
    said = [row for row in table if row["outcome"] == rows.ANSWERED]  # a random model ends a thought now and then
    unsaid = [row for row in table if row["outcome"] != rows.ANSWERED]
    assert any(row["reasoning"] for row in said)
    assert not any("</think>" in (row["reasoning"] or "") for row in said)  # its answer may have a second one
    assert {row["outcome"] for row in unsaid} == {"empty"}
    assert not any(row["answer"] for row in unsaid)


def _answers(folder: RunFolder, model: str) -> Any:
    return folder.answers(model).read()


def _engines() -> list[psutil.Process]:
    family = psutil.Process().children(recursive=True)
    return [child for child in family if child.name().startswith("VLLM") and child.status() != psutil.STATUS_ZOMBIE]
