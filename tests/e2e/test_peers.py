"""Runs against servers that nobody here wrote, out of the box: the LiteLLM proxy, and `transformers serve`.

    .venv/bin/pip install -e '.[peers]'
    python3 -m venv runs/litellm && runs/litellm/bin/pip install 'litellm[proxy]'
    EMORAY_LITELLM=runs/litellm/bin/litellm make pytest TESTS="-m peers tests/e2e/test_peers.py"

LiteLLM wants other versions than this package and is no part of its environment: `EMORAY_LITELLM` names its program
where it is not on the path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from emoray.commands.status import status
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.faults import Fault, Plan
from emoray.rehearsal.provider import Provider
from emoray.run_folder import columns
from emoray.run_folder.folder import RunFolder
from tests.hosts.vllm_tiny import tiny_llama
from tests.programs import EMORAY, KEY, KEY_ENV, free_port, healthy, until

LITELLM = os.environ.get("EMORAY_LITELLM") or shutil.which("litellm")
pytestmark = [pytest.mark.cluster, pytest.mark.peers, pytest.mark.campaign]
needs_litellm = pytest.mark.skipif(LITELLM is None, reason="LiteLLM is not installed (pip install 'litellm[proxy]')")
needs_serve = pytest.mark.skipif(
    None in map(find_spec, ("transformers", "fastapi", "uvicorn", "rich", "accelerate")),
    reason="`transformers serve` is not installed (pip install -e '.[peers]')",
)

SPEC = """
name: peer
accounts: {{peer: {{base_url: "{base_url}", key_env: EMORAY_TEST_KEY}}}}
models: [{{name: a, host: hosted_api, account: peer, id: "{id}", usd_per_million: {{input: 1, output: 1}}}}]
states: 3
questions: [freedom, art]
repetitions: {repetitions}
sampling: {{max_tokens: 24}}
retry: {{attempts: 3, timeout_s: 60, first_wait_s: 0.05, longest_wait_s: 0.5}}
readers: [{{kind: scripted, name: r}}]
"""


def run(base_url: str, folder: Path, model: str, repetitions: int = 1) -> subprocess.CompletedProcess[str]:
    spec = folder.with_suffix(".yaml")
    spec.write_text(SPEC.format(base_url=base_url, id=model, repetitions=repetitions))
    env = os.environ | {KEY_ENV: f"{KEY}\n"}
    command = [*EMORAY, "run", str(spec), "--out", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env=env)


@contextmanager
def served(command: list[str], health: str, log: Path, **env: str) -> Iterator[None]:
    with log.open("w") as said:
        server = subprocess.Popen(command, env=os.environ | env, stdout=said, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: healthy(health), server, every_s=0.2)
        yield
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(Behaviour()) as provider:
        yield provider


@pytest.fixture
def litellm(provider: Provider, tmp_path: Path) -> Iterator[str]:
    """The proxy in front of the provider, which does not ask anything twice itself."""
    port = free_port()
    model = {"model": "openai/behind", "api_base": provider.base_url, "api_key": "sk-behind", "max_retries": 0}
    config = {
        "model_list": [{"model_name": "front", "litellm_params": model}],
        "litellm_settings": {"num_retries": 0},
        "general_settings": {"master_key": KEY},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    command = [str(LITELLM), "--config", str(tmp_path / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    health = f"http://127.0.0.1:{port}/health/liveliness"
    with served(command, health, tmp_path / "log", LITELLM_LOCAL_MODEL_COST_MAP="True", PYTHONPATH=""):
        yield f"http://127.0.0.1:{port}/v1"


@needs_litellm
def test_a_run_through_the_litellm_proxy_is_answered(litellm: str, tmp_path: Path) -> None:
    done = run(litellm, tmp_path / "run", "front")
    assert done.returncode == 0, done.stderr
    table = RunFolder(str(tmp_path / "run")).answers("a").read()
    assert set(table["outcome"].to_pylist()) == {columns.ANSWERED}
    assert None not in table["prompt_tokens"].to_pylist()


@needs_litellm
def test_what_is_refused_behind_the_litellm_proxy_ends_the_lane_with_its_words(
    litellm: str, provider: Provider, tmp_path: Path
) -> None:
    provider.behaviour = Behaviour(Plan(schedule=[(1, None, Fault.BAD_REQUEST)]))
    done = run(litellm, tmp_path / "run", "front", repetitions=20)
    assert done.returncode == 3
    assert "refused the first 20 asks of model 'a' alike" in done.stderr
    assert "Unsupported value" in done.stderr
    assert "bad_request, for example: 400:" in status(RunFolder(str(tmp_path / "run"))).text()


@needs_litellm
def test_a_wrong_model_and_a_wrong_key_are_told_apart_behind_the_litellm_proxy(litellm: str, tmp_path: Path) -> None:
    done = run(litellm, tmp_path / "run", "nobody")
    assert done.returncode == 3
    assert "nobody" in done.stderr
    assert KEY not in done.stderr


@needs_serve
def test_a_run_against_transformers_serve_is_answered(tmp_path: Path) -> None:
    port, model = free_port(), tiny_llama(tmp_path / "model")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu"]
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with served(command, f"http://127.0.0.1:{port}/health", tmp_path / "log", **quiet):
        done = run(f"http://127.0.0.1:{port}/v1", tmp_path / "run", str(model))
    table = RunFolder(str(tmp_path / "run")).answers("a").read()
    assert set(table["outcome"].to_pylist()) <= {columns.ANSWERED, "empty"}, done.stderr
    assert columns.ANSWERED in table["outcome"].to_pylist(), done.stderr  # a random model may end its turn at once
