"""A whole run on an object store: an S3 server on loopback, and programs that know nothing but its URI."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emoray.store import RunFolder
from tests.buckets import bucket
from tests.programs import EMORAY, Start, until

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]
SECRET = "canary-5b1e77d0"
CELLS = 600


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with bucket(SECRET) as uri:
        yield uri


def test_a_run_on_an_object_store_is_killed_resumed_compacted_and_told_of(
    s3: str, spec: Callable[..., Path], start: Start, join: Start
) -> None:
    path, folder = spec(repetitions=100, latency_s=15.0, in_flight=64), RunFolder(s3 % "night")
    command = [*EMORAY, "run", str(path), "--out", folder.uri]
    killed = join(command)
    until(lambda: folder.exists() and folder.answers("a").counts().answered > 50, killed, every_s=0.1)

    second = join(command)
    _, refused = second.communicate()
    assert second.returncode == 2
    assert f"s3://bucket/night/ is being written by process {killed.pid} on" in refused

    killed.kill()
    killed.wait()
    before = folder.answers("a").settled()
    assert 50 < len(before) < CELLS

    path.write_text(path.read_text().replace("latency_s: 15.0", "latency_s: 0.0"))
    resumed = join(command)
    said, progress = resumed.communicate()
    assert resumed.returncode == 0, progress
    counts = folder.answers("a").counts()
    assert (counts.answered, counts.spare, counts.torn) == (CELLS, 0, 0)
    assert folder.answers("a").settled().has(before.keys()).all()
    assert folder.rows("r", "a").counts().answered == CELLS
    attempts = (folder.manifest() or {})["attempts"]
    assert [attempt["end"].split(":")[0] for attempt in attempts] == ["died", "finished"]

    told = {what: start([*EMORAY, what, folder.uri]).communicate() for what in COMMANDS}
    assert f"settled {CELLS} of {CELLS}" in told["status"][0]
    assert "1 files are now 1" in told["compact"][0]
    assert "report: s3://bucket/night/report/report.html" in told["report"][0]
    assert json.loads(folder.read_bytes("report/summary.json") or b"")

    everything = "".join([refused, said, progress, *(text for both in told.values() for text in both)])
    assert SECRET not in everything + json.dumps(folder.manifest())


COMMANDS = ("status", "compact", "report")
