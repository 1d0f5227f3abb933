"""Runs against a real HTTP server on loopback that speaks OpenAI's protocol, and misbehaves as it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from urllib.request import urlopen

import pandas as pd
import pytest

from emoray import rows
from emoray.rehearsal.batches import BatchManners
from emoray.rehearsal.provider import Manners, Provider
from emoray.status import status
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
    return partial(ended, RAY_ADDRESS=two_cpus)


def ended(
    spec: Path, folder: RunFolder, *flags: str, key: str | None = KEY, **more: str
) -> subprocess.CompletedProcess[str]:
    """Of a run that starts a Ray of its own, or joins the one that `more` of the environment names."""
    env = os.environ | more | ({KEY_ENV: key} if key else {})
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


def test_a_model_that_refuses_every_ask_ends_its_lane_soon_and_all_say_why(
    run: Run, start: Start, spec: Callable[..., Path], tmp_path: Path
) -> None:
    folder, url = RunFolder(str(tmp_path / "run")), provider(start, "--fault", "bad_request=1")
    done = run(spec(url), folder)

    assert done.returncode == 3
    said = "Unsupported value: 'temperature'."
    assert f"refused the first 20 asks of model 'a' alike (400: {said}); check sampling" in done.stderr
    assert f"a: bad_request, for example: 400: {said}" in done.stderr
    with urlopen(url.replace("/v1", "/emoray/counters")) as counters:
        assert 20 <= json.load(counters)["requests"] < CELLS
    told = status(folder).text()
    assert "asked no more: " in told
    assert f"bad_request, for example: 400: {said}" in told
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "Unsupported value: &#39;temperature&#39;." in page


def test_a_key_with_a_line_break_at_its_end_works(start: Start, spec: Callable[..., Path], tmp_path: Path) -> None:
    done = ended(spec(provider(start)), RunFolder(str(tmp_path / "run")), key=f"{KEY}\n")

    assert done.returncode == 0, done.stderr
    _no_key_in(tmp_path, done.stdout + done.stderr)


def test_an_ask_that_raises_ends_its_lane_in_a_sentence_and_the_run_ends(
    start: Start, spec: Callable[..., Path], tmp_path: Path
) -> None:
    # the SDK puts it into a header of every request, and no header can carry it
    done = ended(spec(provider(start)), RunFolder(str(tmp_path / "run")), OPENAI_ORG_ID=f"{KEY}\n2")

    assert done.returncode == 3
    assert "an ask ended in what emoray does not foresee" in done.stderr
    assert "resume with" in done.stderr
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


def test_odd_replies_become_rows_at_the_first_attempt_and_reasoning_is_in_no_answer(
    run: Run, start: Start, spec: Callable[..., Path], tmp_path: Path
) -> None:
    """Half an emoji as JSON can spell it, tokens that are no numbers, and reasoning between tags."""
    folder = RunFolder(str(tmp_path / "run"))
    odd = ("--fault", "surrogate=0.3", "--fault", "odd_usage=0.3", "--fault", "think=0.3")
    done = run(spec(provider(start, *odd)), folder)

    assert done.returncode == 0, done.stderr
    table = folder.answers("a").read()
    assert (table.num_rows, set(table["outcome"].to_pylist())) == (CELLS, {rows.ANSWERED})
    assert set(table["attempts"].to_pylist()) == {1}
    assert table["prompt_tokens"].null_count == table["cost_usd"].null_count == 0
    assert any(answer.endswith("\ufffd") for answer in table["answer"].to_pylist())
    assert not any("think" in answer for answer in table["answer"].to_pylist())
    assert set(table["reasoning"].to_pylist()) == {None, "How would that feel?"}
    assert set(table["finish_reason_raw"].to_pylist()) == {"stop", "stop\ufffd"}
    assert folder.rows("r", "a").counts().answered == CELLS
    assert len(pd.read_parquet(tmp_path / "run" / "answers")) == CELLS


def test_what_is_no_answer_is_a_typed_failure_with_the_providers_word_for_it(
    run: Run, start: Start, spec: Callable[..., Path], tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    broken = provider(start, "--fault", "aborted=0.2", "--fault", "think_cut=0.2", "--fault", "error_200=0.2")
    done = run(spec(broken), folder, "--set", "retry.attempts=1")

    assert done.returncode == 3, done.stderr
    table = folder.answers("a").read().to_pylist()
    found = {(row["outcome"], row["finish_reason_raw"]) for row in table}
    assert found == {(rows.ANSWERED, "stop"), ("overloaded", "abort"), ("empty", "length"), ("overloaded", None)}
    for row in table:
        assert (row["answer"] is None) == (row["outcome"] != rows.ANSWERED)
        assert (row["cost_usd"] is None) == ("Provider returned error" in (row["error"] or ""))


def test_a_batch_brings_the_same_rows(run: Run, start: Start, spec: Callable[..., Path], tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    done = run(spec(provider(start), host="batch_api"), folder)

    assert done.returncode == 0, done.stderr
    assert folder.rows("r", "a").counts().answered == CELLS
    assert set(folder.answers("a").read(["host"])["host"].to_pylist()) == {"batch_api"}
    _no_key_in(tmp_path, done.stdout + done.stderr)


def test_a_batch_that_is_completed_before_its_answers_are_there_is_waited_for_and_status_says_so(
    run: Run, spec: Callable[..., Path], tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    withheld, given = [0], Event()
    looked = Event()

    def withhold(batch: dict[str, Any]) -> dict[str, Any]:
        if batch["status"] != "completed" or given.is_set():
            return batch
        withheld[0] += 1
        if withheld[0] > 1:  # whoever asks again has written down what it waits for
            looked.set()
        return batch | {"output_file_id": None}

    manners = Manners(batch_polls=1, batches=BatchManners(says=withhold))
    with Provider(manners) as server, ThreadPoolExecutor(1) as thread:
        running = thread.submit(run, spec(server.base_url, host="batch_api"), folder)
        try:
            looked.wait()
            said = subprocess.run([*EMORAY, "status", folder.uri], capture_output=True, text=True, check=True).stdout
        finally:
            given.set()
        done = running.result()

    assert "1 batch open, of which 1 waits for its output file" in said
    assert done.returncode == 0, done.stderr
    assert folder.answers("a").counts().answered == CELLS
    assert set(server.counters.asked.values()) == {1}


def _no_key_in(folder: Path, said: str) -> None:
    assert KEY not in said
    for file in folder.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
