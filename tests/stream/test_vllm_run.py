"""Runs with real vLLM engines on a CPU: who cannot start harms nobody, who waits is served."""

from __future__ import annotations

import importlib.util
import re
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import psutil
import pytest

from emoray.commands import attempt
from emoray.embedded import generator_path
from emoray.run_folder import columns
from emoray.run_folder.folder import RunFolder
from tests.hosts.vllm_tiny import tiny_llama
from tests.stream.conftest import study

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


# CPUs stand in for GPUs: each engine takes more than half of what there is
LANES = """
- {{name: lost, id: {empty}, {engine}}}
- {{name: first, id: {embedded}, sampling: {{max_tokens: 20}}, {engine}}}
- {{name: thinks, id: {tiny}, reasoning_parser: deepseek_r1, {engine}}}
- {{name: free, host: scripted}}
"""
ENGINE = "host: vllm, device: cpu, dtype: float32, max_num_seqs: 8, cpus: 1.2"
Ended = tuple[RunFolder, int, str]  # and the exit code, and what was said on stderr


@pytest.fixture(scope="module")
def ended(two_cpus: str, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """One run for all tests here: an engine takes half a minute to start."""
    tmp_path = tmp_path_factory.mktemp("engines")
    (empty := tmp_path / "empty").mkdir()
    places = {"empty": empty, "embedded": generator_path(), "tiny": tiny_llama(tmp_path / "tiny")}
    lanes = LANES.format(engine=ENGINE, **places)
    folder, said = RunFolder(str(tmp_path / "run")), StringIO()
    with redirect_stderr(said):
        asked = study(lanes, repetitions=30, more="sampling: {max_tokens: 200}")
        code = attempt.run(asked, folder.uri, command="again")
    return folder, code, said.getvalue()


def test_an_engine_that_cannot_start_ends_its_lane_with_a_sentence_and_the_others_go_on(ended: Ended) -> None:
    folder, code, said = ended

    assert code == 3
    assert re.search(r"lost: model 'lost' \(.*/empty\): the vLLM engine cannot start", said)
    assert folder.answers("free").counts().answered == 180
    assert folder.answers("lost").counts().answered == 0


def test_two_models_that_do_not_fit_together_take_turns_while_another_lane_runs(ended: Ended) -> None:
    """One is the embedded generator."""
    folder, *_ = ended

    first, second, other = (_answers(folder, name)["asked_at"].to_pylist() for name in ("first", "thinks", "free"))
    assert max(first) < min(second)
    assert min(other) < max(first)  # it did not wait for its turn
    assert [folder.rows("r", name).read().num_rows for name in ("first", "thinks", "free")] == [180, 180, 180]
    said = _answers(folder, "first")
    assert set(said["outcome"].to_pylist()) <= {columns.ANSWERED, "empty"}
    assert len(set(said["answer"].to_pylist())) > 100
    assert not _engines()


def test_a_reasoning_models_thoughts_stand_in_a_column_of_their_own_and_only_its_answer_is_read(ended: Ended) -> None:
    table = _answers(ended[0], "thinks").to_pylist()
    said = [row for row in table if row["outcome"] == columns.ANSWERED]  # a random model ends a thought now and then
    unsaid = [row for row in table if row["outcome"] != columns.ANSWERED]
    assert any(row["reasoning"] for row in said)
    assert not any("</think>" in (row["reasoning"] or "") for row in said)  # its answer may have a second one
    assert {row["outcome"] for row in unsaid} == {"empty"}
    assert not any(row["answer"] for row in unsaid)


def _answers(folder: RunFolder, model: str) -> Any:
    return folder.answers(model).read()


def _engines() -> list[psutil.Process]:
    family = psutil.Process().children(recursive=True)
    return [child for child in family if child.name().startswith("VLLM") and child.status() != psutil.STATUS_ZOMBIE]
