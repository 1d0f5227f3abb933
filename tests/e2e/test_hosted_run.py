"""Runs against a real HTTP server on loopback that speaks OpenAI's protocol, and misbehaves as it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from urllib.request import urlopen

import pandas as pd
import pytest

from emoray.commands.cli import main
from emoray.commands.status import status
from emoray.rehearsal.behaviour import BatchBehaviour, Behaviour
from emoray.rehearsal.faults import Fault, Plan
from emoray.rehearsal.provider import Provider
from emoray.run_folder import columns
from emoray.run_folder.folder import RunFolder
from tests.programs import EMORAY, KEY, KEY_ENV, LINE_KEY_ENV, Here, Start

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


def ended(spec: Path, folder: RunFolder, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Of a run that starts a Ray of its own, or joins the one that `more` of the environment names; no process may show
    the key meanwhile.
    """
    env = os.environ | more | {KEY_ENV: KEY}
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
def keyed_here(here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    """A command in this process, which has the key."""
    monkeypatch.setenv(KEY_ENV, KEY)
    return here


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    def write(base_url: str, host: str = "hosted_api", timeout_s: float = 600.0, *, key_env: str = KEY_ENV) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.format(base_url=base_url, host=host, key_env=key_env, timeout_s=timeout_s))
        return path

    return write


def test_a_storm_leaves_answers_and_typed_failures_and_the_next_run_settles_the_rest(
    two_cpus: str,
    keyed_here: Here,
    start: Start,
    spec: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    folder, path = RunFolder(str(tmp_path / "run")), spec(provider(start, "--storm", "0.3"), timeout_s=1.0)
    stormy = ended(path, folder, "-v", RAY_ADDRESS=two_cpus)  # some of it hangs

    table = folder.answers("a").read()
    assert stormy.returncode == 3, stormy.stderr
    assert table.num_rows == len(set(table["key"].to_pylist()))
    for row in table.to_pylist():
        assert (row["answer"] is None) == (row["outcome"] != columns.ANSWERED)
    failed = folder.answers("a").counts().failed
    assert failed
    assert set(failed) <= {
        "rate_limited", "overloaded", "timeout", "connection", "bad_request", "context_length", "content_filtered",
        "malformed", "empty",
    }  # fmt: skip

    capsys.readouterr()
    with Provider() as server:
        assert keyed_here("run", str(spec(server.base_url)), "--out", folder.uri) == 0
    calm = capsys.readouterr()
    counts = folder.answers("a").counts()
    assert (counts.answered, dict(counts.failed), counts.spare) == (CELLS, {}, 0)
    _no_key_in(tmp_path, stormy.stdout + stormy.stderr + calm.out + calm.err)


def test_a_key_with_a_line_break_at_its_end_works(
    here: Here,
    spec: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(LINE_KEY_ENV, f"{KEY}\n")
    with Provider(Behaviour(api_key=KEY)) as server:
        path = spec(server.base_url, key_env=LINE_KEY_ENV)
        assert here("run", str(path), "--out", str(tmp_path / "run")) == 0

    said = capsys.readouterr()
    _no_key_in(tmp_path, said.out + said.err)


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
    here: Here, spec: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert here("run", str(spec("http://127.0.0.1:9/v1")), "--out", str(tmp_path / "run")) == 2

    assert "names the environment variable EMORAY_TEST_KEY, which is not set" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_money_runs_out_before_the_cap_is_passed_and_more_money_goes_on(
    keyed_here: Here, spec: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    with Provider() as server:
        command = ["run", str(spec(server.base_url)), "--out", folder.uri, "--max-cost"]
        assert keyed_here(*command, "0.03") == 3

        before = folder.answers("a").counts()
        assert 0 < before.answered < CELLS
        assert 0 < before.cost_usd <= 0.03
        assert "0.03" in capsys.readouterr().err  # the cap, in the sentence that says why

        assert keyed_here(*command, "5") == 0
    assert folder.answers("a").counts().answered == CELLS
    assert folder.answers("a").counts().spare == 0


def test_a_batch_that_is_completed_before_its_answers_are_there_is_waited_for_and_status_says_so(
    keyed_here: Here, spec: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
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

    def told_meanwhile() -> str:
        looked.wait()
        try:
            return subprocess.run([*EMORAY, "status", folder.uri], capture_output=True, text=True, check=True).stdout
        finally:
            given.set()

    behaviour = Behaviour(batch_polls=1, batches=BatchBehaviour(says=withhold))
    with Provider(behaviour) as server, ThreadPoolExecutor(1) as thread:
        said = thread.submit(told_meanwhile)
        try:
            code = keyed_here("run", str(spec(server.base_url, host="batch_api")), "--out", folder.uri)
        finally:
            looked.set()

    assert "1 batch open, of which 1 waits for its output file" in said.result()
    assert code == 0
    assert folder.answers("a").counts().answered == CELLS
    assert set(server.counters.asked.values()) == {1}
    assert folder.rows("r", "a").counts().answered == CELLS
    assert set(folder.answers("a").read(["host"])["host"].to_pylist()) == {"batch_api"}
    _no_key_in(tmp_path, "".join([said.result(), *capsys.readouterr()]))


# ── one run over three models, each behind a provider of its own that does things wrong ────────────────────────────

ODD = (Fault.SURROGATE, Fault.ODD_USAGE, Fault.THINK)  # answers all the same
NO_ANSWER = {  # what is kept of each: its outcome, and the provider's word for how it ended
    Fault.ABORTED: ("overloaded", "abort"),
    Fault.THINK_CUT: ("empty", "length"),
    Fault.ERROR_200: ("overloaded", None),
}
FAULTS: dict[str, dict[Fault, float]] = {
    "wrong_key": {Fault.AUTH: 1.0},
    "refused": {Fault.BAD_REQUEST: 1.0},
    "odd": dict.fromkeys([*ODD, *NO_ANSWER], 0.15),
}
PLANS = {name: Plan(1, chances) for name, chances in FAULTS.items()}
THREE = """
name: three
accounts: {{{accounts}}}
models: [{models}]
states: 3
repetitions: 4
retry: {{attempts: 1}}
readers: [{{kind: scripted, name: r}}]
"""


class Three(NamedTuple):
    folder: RunFolder
    urls: dict[str, str]  # of the models' providers
    code: int
    said: str
    complained: str


@pytest.fixture(scope="module")
def three(two_cpus: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    place = tmp_path_factory.mktemp("three")
    path, folder = place / "spec.yaml", RunFolder(str(place / "run"))
    with ExitStack() as stack:
        servers = {name: Provider(Behaviour(plan)) for name, plan in PLANS.items()}
        urls = {name: stack.enter_context(server).base_url for name, server in servers.items()}
        accounts = ", ".join(f'{name}: {{base_url: "{url}", key_env: {KEY_ENV}}}' for name, url in urls.items())
        models = ", ".join(f"{{name: {name}, host: hosted_api, account: {name}, id: gpt-4o}}" for name in urls)
        path.write_text(THREE.format(accounts=accounts, models=models))
        patch, said, complained = stack.enter_context(pytest.MonkeyPatch.context()), StringIO(), StringIO()
        patch.setenv(KEY_ENV, KEY)
        with redirect_stdout(said), redirect_stderr(complained):
            code = main(["run", "--verbose", str(path), "--out", folder.uri])
        yield Three(folder, urls, code, said.getvalue(), complained.getvalue())


def test_the_run_says_that_cells_are_owed_and_nothing_that_it_says_or_writes_holds_the_key(three: Three) -> None:
    assert three.code == 3, three.complained
    _no_key_in(Path(three.folder.uri), three.said + three.complained)


def test_a_wrong_key_ends_the_lane_with_one_sentence(three: Three) -> None:
    assert "refuses the key in EMORAY_TEST_KEY" in three.complained
    assert three.folder.answers("wrong_key").counts().answered == 0


def test_a_model_that_refuses_every_ask_ends_its_lane_soon_and_all_say_why(three: Three) -> None:
    said = "Unsupported value: 'temperature'."
    assert f"refused the first 20 asks of model 'refused' alike (400: {said}); check sampling" in three.complained
    assert f"refused: bad_request, for example: 400: {said}" in three.complained
    with urlopen(three.urls["refused"].replace("/v1", "/emoray/counters")) as counters:
        assert 20 <= json.load(counters)["requests"] < CELLS
    told = status(three.folder).text()
    assert "asked no more: " in told
    assert f"bad_request, for example: 400: {said}" in told
    page = (Path(three.folder.uri) / "report" / "report.html").read_text()
    assert "Unsupported value: &#39;temperature&#39;." in page


def said_under(folder: RunFolder) -> dict[Fault | None, list[dict[str, Any]]]:
    """The rows of the odd model, by the fault that their asks met."""
    found: dict[Fault | None, list[dict[str, Any]]] = defaultdict(list)
    for row in folder.answers("odd").read().to_pylist():
        found[PLANS["odd"].fault(0, row["key"], 1)].append(row)
    return found


def test_odd_replies_become_rows_at_the_first_attempt_and_reasoning_is_in_no_answer(three: Three) -> None:
    """Half an emoji as JSON can spell it, tokens that are no numbers, and reasoning between tags."""
    by_fault = said_under(three.folder)
    rows = [row for fault in (None, *ODD) for row in by_fault[fault]]

    assert all(by_fault[fault] for fault in ODD)
    assert {(row["outcome"], row["attempts"]) for row in rows} == {(columns.ANSWERED, 1)}
    assert not any(None in (row["prompt_tokens"], row["cost_usd"]) for row in rows)
    assert not any("think" in row["answer"] for row in rows)
    for row in rows:
        odd, thinks = row in by_fault[Fault.SURROGATE], row in by_fault[Fault.THINK]
        assert row["answer"].endswith("\ufffd") == odd
        assert row["finish_reason_raw"] == ("stop\ufffd" if odd else "stop")
        assert row["reasoning"] == ("How would that feel?" if thinks else None)
    assert three.folder.rows("r", "odd").counts().answered == len(rows)
    assert (pd.read_parquet(Path(three.folder.uri) / "answers")["model_folder"] == "m-odd").sum() == CELLS


def test_what_is_no_answer_is_a_typed_failure_with_the_providers_word_for_it(three: Three) -> None:
    by_fault = said_under(three.folder)

    for fault, kept in NO_ANSWER.items():
        assert {(row["outcome"], row["finish_reason_raw"]) for row in by_fault[fault]} == {kept}
        for row in by_fault[fault]:
            assert row["answer"] is None
            assert (row["cost_usd"] is None) == ("Provider returned error" in (row["error"] or ""))
            assert (row["cost_usd"] is None) == (fault is Fault.ERROR_200)


def _no_key_in(folder: Path, said: str) -> None:
    assert KEY not in said
    for file in folder.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
