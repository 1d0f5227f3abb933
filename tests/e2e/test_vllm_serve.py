"""Runs against an OpenAI-compatible server that nobody here wrote: `vllm serve`, on a CPU with a tiny Llama."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emoray.run_folder import columns
from emoray.run_folder.folder import RunFolder
from tests.hosts.vllm_tiny import tiny_llama
from tests.programs import KEY, KEY_ENV, Here, free_port, healthy, until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.vllm,
    pytest.mark.skipif(
        None in map(importlib.util.find_spec, ("vllm", "uvicorn")), reason="vLLM is not installed, or not its server"
    ),
]
SERVED = "tiny-llama"
SERVER = "vllm.entrypoints.openai.api_server"  # what `vllm serve` starts; that looks for a package of another name

# a random model may end its turn at once, so it is held to four tokens
SPEC = """
name: served
accounts: {{mine: {{base_url: "{base_url}", key_env: {key_env}}}}}
models: [{{name: a, host: hosted_api, account: mine, id: {id}, extra_body: {{min_tokens: 4}}}}]
states: 3
questions: [freedom, art]
repetitions: 4
sampling: {{max_tokens: 60}}
readers: [{{kind: scripted, name: r}}]
"""
CELLS = 24


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that lives as long as this file's tests; it demands the key."""
    place = tmp_path_factory.mktemp("served")
    port = free_port()
    settings = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", SERVED]
    settings += ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "16", "--kv-cache-memory-bytes", "1G"]
    settings += ["--no-enable-chunked-prefill"]  # with it, vLLM 0.29 dies of a seed on a CPU; see hosts/vllm.py
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with (place / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", SERVER, "--model", str(tiny_llama(place / "model")), *settings],
            env=os.environ | quiet | {"VLLM_API_KEY": KEY, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        until(lambda: healthy(f"http://127.0.0.1:{port}/health"), server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def run(here: Here, base_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The exit code of a run into a folder."""
    monkeypatch.setenv(KEY_ENV, KEY)

    def call(folder: Path, model: str = SERVED) -> int:
        spec = folder.with_suffix(".yaml")
        spec.write_text(SPEC.format(base_url=base_url, id=model, key_env=KEY_ENV))
        return here("run", str(spec), "--out", str(folder))

    return call


def said(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows by their keys."""
    table = RunFolder(str(folder)).answers("a").read()
    found = {row["key"]: row for row in table.to_pylist()}
    assert len(found) == table.num_rows
    return found


def test_every_cell_is_answered_and_its_seed_says_the_same_again(run: Callable[..., int], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    assert [run(folder) for folder in (first, second)] == [0, 0]
    answers = said(first)
    assert len(answers) == CELLS
    for row in answers.values():
        assert row["outcome"] == columns.ANSWERED
        assert row["finish_reason"] in ("stop", "length")
        assert row["prompt_tokens"] > 100  # its tokens are bytes
        assert 4 <= row["completion_tokens"] <= 60
        assert row["attempts"] == 1
        assert row["returned_model"] == SERVED
    assert {key: row["answer"] for key, row in said(second).items()} == {k: row["answer"] for k, row in answers.items()}
    assert len({row["answer"] for row in answers.values()}) == CELLS
    assert RunFolder(str(first)).rows("r", "a").counts().answered == CELLS
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_a_model_that_the_server_does_not_have_ends_the_lane_in_one_sentence(
    run: Callable[..., int], base_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(tmp_path / "run", model="no-such-model") == 3

    complained = capsys.readouterr().err
    assert f"{base_url} has no model 'no-such-model'" in complained
    assert "correct the id of model 'a'" in complained
    assert RunFolder(str(tmp_path / "run")).answers("a").counts().answered == 0
