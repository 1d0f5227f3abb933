"""One vLLM engine for all tests of the hosts, which takes half a minute to start; it ends with the last of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from emoray.processes import command_of
from emoray.readers.judge import asked_of
from emoray.spec.models import Vllm
from emoray.spec.readers import JudgeReader
from tests.hosts.vllm_tiny import tiny_llama
from tests.programs import until


@pytest.fixture(scope="session")
def vllm_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


def vllm_entry(model: Path | str, **settings: Any) -> Vllm:
    usual: dict[str, Any] = {"host": "vllm", "name": "tiny", "device": "cpu", "dtype": "float32", "max_num_seqs": 16}
    return Vllm(id=str(model), **usual | settings)


def vllm_judge(model: Path) -> JudgeReader:
    return JudgeReader(kind="judge", name="j", model=vllm_entry(model))


@pytest.fixture(scope="package")
def vllm_host(vllm_model: Path) -> Iterator[Any]:
    """Its engine is started as that of a judge is, so that a judge may ask it too."""
    from emoray.hosts.vllm import VllmHost, engine_arguments

    judged = engine_arguments(cast(Vllm, asked_of(vllm_judge(vllm_model))))
    forms = {"structured_outputs_config": judged["structured_outputs_config"]}
    host = VllmHost(vllm_entry(vllm_model, engine_kwargs=forms))
    started = {child.pid for child in psutil.Process().children(recursive=True) if child.name().startswith("VLLM")}
    yield host
    host.close()
    assert started
    until(lambda: gone(started))  # an engine that is closed leaves no process


def gone(pids: set[int]) -> bool:
    """Whether all these processes have ended."""
    return not any(map(command_of, pids))
