"""Runs with real vLLM engines on a CPU: who dies is asked again, who cannot start harms nobody, who waits is served."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
SAMPLING = "sampling: {max_tokens: 200}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def entry(name: str, model: Path | str, more: str = "") -> str:
    return f"- {{name: {name}, host: vllm, id: {model}, device: cpu, dtype: float32, max_num_seqs: 8, cpus: 0.5{more}}}"


def test_an_engine_killed_on_the_way_is_started_again_and_every_cell_is_settled_once(
    run: Run, folder: RunFolder, model: Path
) -> None:
    asked = study(entry("a", model, ", replicas: 2"), repetitions=80, more=SAMPLING)
    killed: list[int] = []

    with _meanwhile(lambda: _kill_an_engine(folder, killed)):
        assert run(asked) in (0, 3)  # 3: a random model may say nothing at all

    assert killed
    counts = folder.answers("a").counts()
    assert counts.answered + sum(counts.failed.values()) == 480
    assert counts.spare == 0
    assert set(counts.failed) <= {"empty"}
    table = folder.rows("r", "a").read()
    assert table.num_rows == len(set(table["key"].to_pylist())) == 480
    assert set(table["finish_reason"].to_pylist()) <= {"stop", "length", None}
    assert len(set(_answers(folder, "a")["model_revision"].to_pylist())) == 1


def test_an_engine_that_cannot_start_ends_its_lane_with_a_sentence_and_the_others_go_on(
    run: Run, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(study(f"{entry('lost', '/no/such/model')}\n- {{name: a, host: scripted}}")) == 3

    assert "lost: model 'lost' (/no/such/model): the vLLM engine cannot start" in capsys.readouterr().err
    assert folder.answers("a").counts().answered == 6
    assert folder.answers("lost").counts().answered == 0


def test_two_models_that_do_not_fit_together_take_turns_while_another_lane_runs(
    run: Run, folder: RunFolder, model: Path
) -> None:
    """CPUs stand in for GPUs: each engine takes more than half of what there is."""
    two = "\n".join(entry(name, model).replace("cpus: 0.5", "cpus: 1.2") for name in ("first", "second"))
    free = "- {name: free, host: scripted, latency_s: 0.05, in_flight: 4}"

    run(study(f"{two}\n{free}", repetitions=60, more="sampling: {max_tokens: 20}"))

    first, second, other = (_answers(folder, name)["asked_at"].to_pylist() for name in ("first", "second", "free"))
    assert max(first) < min(second)
    assert max(other) < min(second)  # it did not wait for its turn
    assert [folder.rows("r", name).read().num_rows for name in ("first", "second", "free")] == [360, 360, 360]
    assert not _engines()


@pytest.mark.skipif(not (generator_path() / "model.safetensors").is_file(), reason="the generator is not trained yet")
def test_the_embedded_generator_speaks_through_vllm(run: Run, folder: RunFolder) -> None:
    assert run(study(entry("a", generator_path()), repetitions=4)) == 0

    table = _answers(folder, "a")
    assert set(table["outcome"].to_pylist()) == {rows.ANSWERED}
    assert len(set(table["answer"].to_pylist())) > 12


def _answers(folder: RunFolder, model: str) -> Any:
    return folder.answers(model).read()


def _engines() -> list[psutil.Process]:
    return [child for child in psutil.process_iter() if child.name().startswith("VLLM") and child.status() != "zombie"]


def _kill_an_engine(folder: RunFolder, killed: list[int]) -> None:
    """kill -9 as soon as there is something to lose."""
    end = time.monotonic() + 120
    while time.monotonic() < end and not killed:
        time.sleep(0.05)
        if len(folder.answers("a").settled()) > 20:
            engine = next(process for process in _engines() if "Engine" in process.name())
            engine.kill()
            killed.append(engine.pid)


@contextmanager
def _meanwhile(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()
