"""A whole run on an object store: an S3 server on loopback that fails one request in ten and is away for a while, and
programs that know nothing but its URI.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emoray.commands.cli import main
from emoray.rehearsal.provider import Provider
from emoray.run_folder.folder import RunFolder
from tests.buckets import Moods, bucket
from tests.programs import EMORAY, Held, Here, Start, killed, until

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]
SECRET = "canary-5b1e77d0"
SPEC = """
name: night
accounts: {{p: {{base_url: "{url}"}}}}
models: [{{name: a, host: hosted_api, account: p, id: gpt-4o, in_flight: 64}}]
states: 3
questions: [freedom, art]
repetitions: 40
readers: [{{kind: scripted, name: r}}]
"""
CELLS = 240
AWAY = 30  # requests that are refused before the store is back


@pytest.fixture
def moods() -> Moods:
    return Moods()


@pytest.fixture
def s3(moods: Moods) -> Iterator[str]:
    with bucket(SECRET, moods) as uri:
        yield uri


@pytest.fixture
def speaks() -> Held:
    return Held(CELLS / 3)


@pytest.fixture
def spec(speaks: Held, tmp_path: Path) -> Iterator[Path]:
    with Provider(speaker=speaks) as provider:
        (path := tmp_path / "spec.yaml").write_text(SPEC.format(url=provider.base_url))
        yield path


@pytest.mark.parametrize(
    "is_moody", [False, pytest.param(True, marks=pytest.mark.campaign)], ids=["that is well", "that fails and is away"]
)
def test_a_run_on_an_object_store_is_killed_resumed_compacted_and_told_of(
    is_moody: bool,
    s3: str,
    moods: Moods,
    spec: Path,
    speaks: Held,
    join: Start,
    here: Here,
    capsys: pytest.CaptureFixture[str],
) -> None:
    moods.fails_each = 10 if is_moody else 0
    folder = RunFolder(s3 % "night")
    command = ["run", str(spec), "--out", folder.uri]
    first = join([*EMORAY, *command])
    until(lambda: folder.exists() and folder.answers("a").counts().answered > 50, first)

    assert here(*command) == 2
    refused = capsys.readouterr().err
    assert f"s3://bucket/night/ is being written by process {first.pid} on" in refused

    killed(first)
    before = folder.answers("a").settled()
    assert 50 < len(before) < CELLS

    speaks.most = CELLS if is_moody else math.inf  # in both cases some go to the dead
    with ThreadPoolExecutor(1) as thread:
        told_live = thread.submit(goes_away, folder, len(before), moods) if is_moody else None
        if told_live is not None:
            told_live.add_done_callback(lambda _: setattr(speaks, "most", math.inf))
        assert here(*command) == 0
    counts = folder.answers("a").counts()
    assert (counts.answered, counts.spare, counts.torn) == (CELLS, 0, 0)
    assert folder.answers("a").settled().has(before.keys()).all()
    assert folder.rows("r", "a").counts().answered == CELLS
    attempts = (folder.manifest() or {})["attempts"]
    assert [attempt["end"].split(":")[0] for attempt in attempts] == ["died", "finished"]

    progress = "".join(capsys.readouterr())
    assert [main([what, folder.uri]) for what in ("status", "compact", "report")] == [0] * 3
    told = "".join(capsys.readouterr())
    assert f"settled {CELLS} of {CELLS}" in told
    assert "1 file is now 1" in told
    assert "report: s3://bucket/night/report/report.html" in told
    assert json.loads(folder.read_bytes("report/summary.json") or b"")

    everything = "".join([refused, progress, told, told_live.result() if told_live else ""])
    assert SECRET not in everything + json.dumps(folder.manifest())


def goes_away(folder: RunFolder, before: int, moods: Moods) -> str:
    """What `status` said while it ran, before the store was away for so many requests."""
    until(lambda: len(folder.answers("a").settled()) > before)
    told = subprocess.run([*EMORAY, "status", folder.uri], capture_output=True, text=True)
    assert f"running, process {os.getpid()} on" in told.stdout
    moods.away.set()
    begun = moods.refused
    until(lambda: moods.refused > begun + AWAY, every_s=0.01)
    moods.away.clear()
    return told.stdout + told.stderr
