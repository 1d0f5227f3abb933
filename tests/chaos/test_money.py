"""The money of a run that is killed again and again, against what the provider counted."""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from emoray.commands.status import status
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.provider import Provider
from emoray.run_folder.folder import RunFolder
from tests.buckets import bucket
from tests.conftest import Tell
from tests.disks import fill, small_disk
from tests.programs import EMORAY, Held, Start, killed, until

pytestmark = [pytest.mark.chaos, pytest.mark.cluster, pytest.mark.campaign]

SPEC = """
name: t
accounts: {{fake: {{base_url: "{url}"}}}}
models:
- {{name: a, host: hosted_api, account: fake, id: x, in_flight: 16, usd_per_million: {{input: 0, output: 50}}}}
states: 12
questions: [freedom, art]
repetitions: 100
sampling: {{max_tokens: 10}}
readers: [{{kind: scripted, name: r}}]
budget_usd: 100
"""
CELLS = 2400
EACH_USD = 0.0005  # 10 tokens said, and none asked for money
UNSENT_USD = EACH_USD  # of each killed process: written down, and its bytes not handed on
AHEAD_USD = 2 * 16 * EACH_USD  # what is in flight, and as much ahead
ROUNDING_USD = 1e-9


@pytest.mark.parametrize(
    ("kills", "on_s3", "most_usd"),
    [(12, False, 12 * UNSENT_USD), (20, False, 20 * UNSENT_USD), (3, True, 3 * AHEAD_USD)],
    ids=["twelve kills", "twenty kills", "three kills, on an object store"],
)
def test_rows_and_what_is_booked_as_lost_are_what_the_provider_charged(
    kills: int, on_s3: bool, most_usd: float, join: Start, tmp_path: Path, tell: Tell
) -> None:
    """But for one request of each killed process at most, where a tab is written in place (a cent at most, here); and
    for as much again as was in flight where it is put ahead. Never less.
    """
    spec = tmp_path / "spec.yaml"
    with ExitStack() as stack:
        folder = RunFolder(stack.enter_context(bucket("secret")) % "run" if on_s3 else str(tmp_path / "run"))
        speaks = Held(0)
        provider = stack.enter_context(Provider(Behaviour(latency_s=0.3), speaks))
        spec.write_text(SPEC.format(url=provider.base_url))
        killed_and_resumed(folder, spec, provider, speaks, kills, join)
        charged = len(provider.counters.billed) * EACH_USD
        rows = folder.answers("a").read(["key", "completion_tokens", "cost_usd"]).to_pylist()
        (model,) = status(folder).models
        attempts = (folder.manifest() or {})["attempts"]
        summary = json.loads(folder.read_bytes("report/summary.json") or b"")
        spare = folder.answers("a").counts().spare

    answered = Counter(row["key"] for row in rows)
    assert (len(answered), answered.total(), spare) == (CELLS, CELLS, 0)
    assert {(row["completion_tokens"], row["cost_usd"]) for row in rows} == {(10, EACH_USD)}
    assert answered.keys() == {key for key, _, _ in provider.counters.billed}

    assert model.cost_usd == pytest.approx(CELLS * EACH_USD)
    told = model.cost_usd + model.lost_usd
    tell(f"{kills} kills: charged ${charged:.4f}, rows ${model.cost_usd:.4f}, booked as lost ${model.lost_usd:.4f}")
    assert model.cost_usd < charged - ROUNDING_USD  # some of what was in flight was lost
    assert charged - ROUNDING_USD <= told <= charged + most_usd + ROUNDING_USD

    lanes = [lane for attempt in attempts for lane in attempt.get("lanes", ())]
    assert [attempt["end"].split(":")[0] for attempt in attempts] == ["died"] * kills + ["finished"]
    assert sum(lane["cost_usd"] for lane in lanes) == pytest.approx(model.cost_usd)
    assert sum(lane["lost_usd"] for lane in lanes) == pytest.approx(model.lost_usd)
    assert summary["lost_usd"]["a"] == pytest.approx(model.lost_usd)


def killed_and_resumed(
    folder: RunFolder, spec: Path, provider: Provider, speaks: Held, kills: int, join: Start
) -> None:
    """The driver is killed so often, evenly over the answers, and ends well at last."""
    billed, command = provider.counters.billed, [*EMORAY, "run", str(spec), "--out", folder.uri]
    for kill in range(1, kills + 1):
        share = kill * CELLS // (kills + 1)
        speaks.most = max(share, len(billed)) + 16
        driver = join(command)
        until(lambda share=share: len(billed) > share, driver, 0.005)  # type: ignore[misc]
        killed(driver)
        provider.catch_up()  # what the dead had sent was sent before
        speaks.most = math.inf  # what a dead one asked for is charged too
        until(lambda: provider.counters.in_flight == 0)
    last = join(command)
    assert last.wait() == 0, last.communicate()
    until(lambda: provider.counters.in_flight == 0)


def test_a_disk_that_fills_up_under_a_paid_run_costs_no_answer_and_no_cent(
    join: Start, tmp_path: Path, tell: Tell
) -> None:
    spec = tmp_path / "spec.yaml"
    with small_disk(tmp_path / "disk", "300m") as disk, Provider(Behaviour(latency_s=0.3), Held(math.inf)) as provider:
        folder, billed = RunFolder(str(disk / "run")), provider.counters.billed
        spec.write_text(SPEC.format(url=provider.base_url))
        command = [*EMORAY, "run", str(spec), "--out", folder.uri]
        full = join(command)
        until(lambda: len(billed) > CELLS / 4, full, 0.005)
        fill(disk / "filler")
        _, said = full.communicate()
        assert full.returncode == 3, said
        assert "there is no space left to write" in said
        by_then = len(billed)
        (disk / "filler").unlink()
        last = join(command)
        assert last.wait() == 0, last.communicate()
        counts = folder.answers("a").counts()
        (model,) = status(folder).models

    tell(f"full after {by_then} answers; rows ${counts.cost_usd:.4f}, lost ${model.lost_usd:.4f}")
    assert by_then < CELLS
    assert (counts.answered, counts.spare) == (CELLS, 0)
    assert Counter(key for key, _, _ in billed).most_common(1)[0][1] == 1  # nothing that was paid for is asked again
    assert counts.cost_usd == pytest.approx(CELLS * EACH_USD)
    assert model.lost_usd == 0.0
