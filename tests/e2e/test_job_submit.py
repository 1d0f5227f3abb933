"""A run as a job of a cluster that asks for a token: joined, resumed, told apart by its exit code."""

from __future__ import annotations

import json
import math
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.faults import Fault, Plan
from emoray.rehearsal.local_cluster import Nodes
from emoray.rehearsal.provider import Provider
from emoray.run_folder.folder import RunFolder
from tests.programs import ROOT, Held, Start, until

pytestmark = pytest.mark.cluster
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SUBMIT = [sys.executable, str(ROOT / "jobs/submit.py")]
KEY = "EMORAY_TEST_KEY"
SECRET = f"sk-{secrets.token_hex(12)}"  # no key of anybody's; made here, so that it stands in no file of the checkout
HOSTED = """
name: hosted
accounts: {{a: {{base_url: "{url}", key_env: {key}}}}}
models:
- {{name: asked, host: hosted_api, account: a, id: gpt-4o}}
states: 3
questions: [freedom]
readers: [{{kind: scripted, name: r}}]
"""
ASKED = """
name: asked
accounts: {{p: {{base_url: "{url}"}}}}
models: [{{name: a, host: hosted_api, account: p, id: gpt-4o, in_flight: 16}}]
states: 3
questions: [freedom, art]
repetitions: 20
readers: [{{kind: scripted, name: r}}]
"""
CELLS = 120
ENDLESS = """
name: endless
models: [{name: a, host: scripted, latency_s: 1.5, in_flight: 16}]
states: 3
questions: [freedom, art]
repetitions: 2000
readers: [{kind: scripted, name: r}]
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster whose nodes have a key in their environment, and this machine has none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # a job's `python` is the cluster's
        patch.setenv(KEY, SECRET)
        with Nodes(workers=1, cpus=4, jobs=True) as cluster:
            patch.delenv(KEY)
            yield cluster


@pytest.fixture
def reach(nodes: Nodes) -> dict[str, str]:
    """The environment that reaches the cluster."""
    return {"RAY_API_SERVER_ADDRESS": nodes.dashboard, **nodes.environment}


def test_the_quickstart_runs_as_a_ray_job(reach: dict[str, str], start: Start, tmp_path: Path) -> None:
    """With a quick model; test_quickstart has its own."""
    folder = RunFolder(str(tmp_path / "run"))
    quick = ["models=[{name: embedded, host: scripted}]", "readers=[{kind: scripted, name: embedded}]"]
    changed = [word for setting in quick for word in ("--set", setting)]
    entry = ["python", "jobs/run.py", "jobs/quickstart.yaml", *changed, "--out", folder.uri, "--limit", "12"]

    job = start([*RAY, "job", "submit", "--working-dir", str(ROOT), "--", *entry], **reach)

    assert ends(job) == 0, said(job)
    assert folder.rows("embedded", "embedded").counts().answered == 12


def test_without_the_token_nobody_submits(nodes: Nodes, start: Start, tmp_path: Path) -> None:
    stranger = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    quickstart = [str(ROOT / "jobs/quickstart.yaml"), "--out", str(tmp_path / "run"), "--address", nodes.dashboard]

    ours = start([*SUBMIT, *quickstart], **stranger)
    rays = start([*RAY, "job", "list", "--address", nodes.dashboard], RAY_AUTH_MODE="disabled")

    assert ends(ours) == 2
    assert "the head asks for a token and was given none, or another" in said(ours)
    assert ends(rays) != 0


def test_a_run_is_joined_while_it_goes_on_and_goes_on_when_its_driver_dies(
    reach: dict[str, str], start: Start, tmp_path: Path
) -> None:
    speaks = Held(CELLS / 3)
    with Provider(speaker=speaks) as provider:
        submit, folder = submitted(tmp_path, ASKED.format(url=provider.base_url))
        first = start([*submit, "--resubmit", "1"], **reach)
        until(lambda: settled(folder) > 20, first)
        second = start(submit, **reach)
        assert second.stdout is not None
        second.stdout.readline()  # the job's log: it has joined

        os.kill(driver(folder), signal.SIGKILL)
        speaks.most = math.inf

        assert ends(first) == 0, said(first)
        assert ends(second) == 1, said(second)
    assert "is under way; joining it" in said(second)
    assert "the driver died" in said(second)
    assert "the same command resumes" in said(second)
    counts = folder.answers("a").counts()
    assert (counts.answered, counts.spare) == (CELLS, 0)
    assert len((folder.manifest() or {})["attempts"]) == 2


def test_who_stops_following_leaves_the_job_alone_and_who_stops_the_job_keeps_what_is_in_flight(
    reach: dict[str, str], start: Start, tmp_path: Path
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it, and so would we
    submit, folder = submitted(tmp_path, ENDLESS)
    first = start(submit, **reach)
    until(lambda: settled(folder) > 20, first)

    first.send_signal(signal.SIGINT)
    assert ends(first) == 130
    assert "the job goes on" in said(first)
    second = start(submit, **reach)
    id = next(job["submission_id"] for job in jobs(reach) if job["status"] == "RUNNING")
    asked(reach, f"{id}/stop", method="POST")  # as `ray job stop --no-wait` does

    assert ends(second) == 130, said(second)
    counts = folder.answers("a").counts()
    assert counts.answered > 20
    assert folder.rows("r", "a").counts().answered == counts.answered  # what came was read as well
    assert (folder.manifest() or {})["attempts"][0]["end"].startswith("stopped")


def test_the_exit_code_of_the_run_comes_back_and_no_key_stands_anywhere(
    nodes: Nodes, reach: dict[str, str], start: Start, tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    with Provider(Behaviour(Plan(schedule=[(2, None, Fault.BAD_REQUEST)]), api_key=SECRET)) as provider:
        spec = hosted(tmp_path, provider.base_url, KEY)
        job = start([*SUBMIT, str(spec), "--out", folder.uri, "--resubmit", "2"], **reach)

        assert ends(job) == 3, said(job)

    assert folder.answers("asked").counts().answered == 1  # the nodes had the key
    assert "asked: 2 cells are still owed" in said(job)
    listed = jobs(reach)
    assert [id for one in listed if "hosted" in (id := one["submission_id"] or "")] == [f"{stem_of(job)}-1"]
    assert SECRET not in json.dumps(listed)
    assert f"{KEY}: taken from the nodes' environment" in said(job)
    for place in (Path(folder.uri), nodes.folder):
        assert holding(place, SECRET) == []


def test_a_key_that_the_nodes_lack_is_named(reach: dict[str, str], start: Start, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    spec = hosted(tmp_path, "http://127.0.0.1:9", "EMORAY_KEY_OF_NOBODY")

    job = start([*SUBMIT, str(spec), "--out", folder.uri], **reach, EMORAY_KEY_OF_NOBODY=SECRET)

    assert ends(job) == 2, said(job)
    assert "EMORAY_KEY_OF_NOBODY, which is not set" in said(job)
    assert not folder.exists()


# ── what the tests look at ─────────────────────────────────────────────────────────────────────────────────────────


def ends(process: subprocess.Popen[str]) -> int:
    """Its exit code; what it says until then is kept for `said`."""
    said(process)
    return process.returncode


@cache
def said(process: subprocess.Popen[str]) -> str:
    """Everything that a program has written when it has ended."""
    out, err = process.communicate()
    return out + err


def submitted(tmp_path: Path, text: str) -> tuple[list[str], RunFolder]:
    """The command that submits a run, and its folder."""
    spec, folder = tmp_path / "spec.yaml", RunFolder(str(tmp_path / "run"))
    spec.write_text(text)
    return [*SUBMIT, str(spec), "--out", folder.uri], folder


def hosted(tmp_path: Path, url: str, key: str) -> Path:
    spec = tmp_path / "hosted.yaml"
    spec.write_text(HOSTED.format(url=url, key=key))
    return spec


def settled(folder: RunFolder) -> int:
    return len(folder.answers("a").settled())


def driver(folder: RunFolder) -> int:
    return int((folder.manifest() or {})["attempts"][-1]["pid"])


def jobs(reach: dict[str, str]) -> list[dict[str, Any]]:
    """What the cluster tells of jobs."""
    found: list[dict[str, Any]] = asked(reach)
    return found


def asked(reach: dict[str, str], what: str = "", method: str = "GET") -> Any:
    """What the head says to who has its token; `ray job` would import for seconds."""
    token = {"Authorization": f"Bearer {reach['RAY_AUTH_TOKEN']}"}
    request = urllib.request.Request(f"{reach['RAY_API_SERVER_ADDRESS']}/api/jobs/{what}", headers=token, method=method)
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def stem_of(job: subprocess.Popen[str]) -> str:
    """Of the ids of a run's jobs, as the submitter says them."""
    line = next(line for line in said(job).splitlines() if line.startswith("submit: job "))
    return line.split()[2].rstrip(":").rpartition("-")[0]


def holding(folder: Path, text: str) -> list[Path]:
    """The files below a folder that hold a text."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files, f"{folder} holds nothing that could be looked at"
    return [file for file in files if text.encode() in file.read_bytes()]
