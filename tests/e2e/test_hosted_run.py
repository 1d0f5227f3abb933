"""Runs against a real HTTP server on loopback that speaks OpenAI's protocol, and misbehaves as it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from emoray import rows
from emoray.store import RunFolder
from tests.programs import EMORAY, KEY, KEY_ENV, Start

pytestmark = pytest.mark.cluster

SPEC = """
name: hosted
accounts: {{fake: {{base_url: "{base_url}", key_env: {key_env}}}}}
models: [{{name: a, host: {host}, account: fake, id: gpt-4o}}]
states: 3
repetitions: 4
retry: {{attempts: 2, timeout_s: {timeout_s}, first_wait_s: 0.05, longest_wait_s: 0.2}}
readers: [{{kind: scripted, name: r}}]
"""
CELLS = 120


def provider(start: Start, *flags: str) -> str:
    """The address of a provider that lives as long as the test."""
    process = start([sys.executable, "-m", "emoray.rehearsal.provider", "--seed", "1", *flags])
    assert process.stdout is not None
    return str(json.loads(process.stdout.readline())["base_url"])


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(two_cpus: str) -> Run:
    """Runs a spec into a folder until the end; no process may show the key meanwhile."""
    return partial(ended, two_cpus)


def ended(
    address: str, spec: Path, folder: RunFolder, *flags: str, key: str | None = KEY
) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"RAY_ADDRESS": address} | ({KEY_ENV: key} if key else {})
    command = [*EMORAY, "run", str(spec), "--out", folder.uri, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    said, complained = process.communicate(timeout=1.0)
                    return subprocess.CompletedProcess(command, process.returncode, said, complained)
                assert KEY not in subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True).stdout
        finally:
            process.kill()


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    def write(base_url: str, host: str = "hosted_api", timeout_s: float = 600.0) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.format(base_url=base_url, host=host, key_env=KEY_ENV, timeout_s=timeout_s))
        return path

    return write


def test_a_storm_leaves_answers_and_typed_failures_and_the_next_run_settles_the_rest(
    run: Run, start: Start, spec: Callable[..., Path], tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    stormy = run(spec(provider(start, "--storm", "0.3"), timeout_s=1.0), folder, "-v")  # some of it hangs

    table = folder.answers("a").read()
    assert stormy.returncode == 3, stormy.stderr
    assert table.num_rows == len(set(table["key"].to_pylist()))
    for row in table.to_pylist():
        assert (row["answer"] is None) == (row["outcome"] != rows.ANSWERED)
    failed = folder.answers("a").counts().failed
    assert failed
    assert set(failed) <= {
        "rate_limited", "overloaded", "timeout", "connection", "bad_request", "context_length", "content_filtered",
        "malformed", "empty",
    }  # fmt: skip

    calm = run(spec(provider(start)), folder)

    assert calm.returncode == 0, calm.stderr
    counts = folder.answers("a").counts()
    assert (counts.answered, dict(counts.failed), counts.spare) == (CELLS, {}, 0)
    _no_key_in(tmp_path, stormy.stdout + stormy.stderr + calm.stdout + calm.stderr)


def test_a_wrong_key_ends_the_lane_with_one_sentence_that_does_not_hold_the_key(
    run: Run, start: Start, spec: Callable[..., Path], tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    done = run(spec(provider(start, "--fault", "auth=1")), folder)

    assert done.returncode == 3
    assert "refuses the key in EMORAY_TEST_KEY" in done.stderr
    assert folder.answers("a").counts().answered == 0
    _no_key_in(tmp_path, done.stdout + done.stderr)


def test_a_key_that_is_not_set_is_said_before_anything_is_written(
    run: Run, spec: Callable[..., Path], tmp_path: Path
) -> None:
    done = run(spec("http://127.0.0.1:9/v1"), RunFolder(str(tmp_path / "run")), key=None)

    assert done.returncode == 2
    assert "names the environment variable EMORAY_TEST_KEY, which is not set" in done.stderr
    assert not (tmp_path / "run").exists()


def test_money_runs_out_before_the_cap_is_passed_and_more_money_goes_on(
    run: Run, start: Start, spec: Callable[..., Path], tmp_path: Path
) -> None:
    folder, path = RunFolder(str(tmp_path / "run")), spec(provider(start))
    poor = run(path, folder, "--max-cost", "0.03")

    before = folder.answers("a").counts()
    assert poor.returncode == 3, poor.stderr
    assert 0 < before.answered < CELLS
    assert 0 < before.cost_usd <= 0.03
    assert "0.03" in poor.stderr  # the cap, in the sentence that says why

    rich = run(path, folder, "--max-cost", "5")

    assert rich.returncode == 0, rich.stderr
    assert folder.answers("a").counts().answered == CELLS
    assert folder.answers("a").counts().spare == 0


def test_a_batch_brings_the_same_rows(run: Run, start: Start, spec: Callable[..., Path], tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    done = run(spec(provider(start), host="batch_api"), folder)

    assert done.returncode == 0, done.stderr
    assert folder.rows("r", "a").counts().answered == CELLS
    assert set(folder.answers("a").read(["host"])["host"].to_pylist()) == {"batch_api"}
    _no_key_in(tmp_path, done.stdout + done.stderr)


def _no_key_in(folder: Path, said: str) -> None:
    assert KEY not in said
    for file in folder.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
