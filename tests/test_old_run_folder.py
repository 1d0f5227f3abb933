"""A run folder that an emoray of November 2026 left behind (data/run_folder.tar.xz), held against any later one.

Five attempts at it: killed; ended, with cells owed; a reader that came later; killed; a spec with one repetition more,
killed. It has three models (a hosted one, a scripted one with an odd name, one in batches) and three readers (one of
them a judge that is paid), compacted files and those of a journal, a torn one, failures and readings that failed,
batches that ended and that are open, money that was lost and booked, marks and claims of the dead. Its numbers were
counted in the files with pyarrow alone.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from emoray import job
from emoray.status import ModelStatus, status
from emoray.store import RunFolder

CANNED = Path(__file__).parent / "data" / "run_folder.tar.xz"
ODD = "Böse.r b"
UNDER_WAY_USD = 0.009894 - 0.007877  # what its actor may have spent, less its rows
LOST_USD = {"now": 0.0130541295 + UNDER_WAY_USD, ODD: 0.1072655228, "overnight": 0.0}
MEANWHILE, LATER = (datetime(2026, 11, 30, 19, 41, tzinfo=UTC) + timedelta(days=days) for days in (0, 30))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    with tarfile.open(CANNED) as tar:
        tar.extractall(tmp_path, filter="data")
    return RunFolder(str(tmp_path / "run"))


def forget_the_dead(folder: RunFolder) -> None:
    """Of a process on another machine, of which one is only sure after 45 seconds."""
    shutil.rmtree(folder.path("_lease"))


def of_answers(model: ModelStatus) -> tuple[Any, ...]:
    return model.cells, model.settled, model.failed, model.read, model.unread


def test_its_status_is_told(folder: RunFolder) -> None:
    found = status(folder, now=LATER)

    now, odd, overnight = found.models
    failed = {"empty": 3, "bad_request": 6, "content_filtered": 4}
    not_read = {"j": {"content_filtered": 1, "empty": 2}}
    assert of_answers(now) == (64, 62, {}, {"j": 52, "late": 48, "r": 52}, {})
    assert of_answers(odd) == (64, 64, {}, {"j": 61, "late": 48, "r": 64}, not_read)
    assert of_answers(overnight) == (64, 35, failed, {"j": 35, "late": 35, "r": 35}, {})
    assert [model.torn for model in found.models] == [1, 0, 0]
    assert [model.spare for model in found.models] == [0, 0, 0]
    assert [model.batches for model in found.models] == [0, 0, 2]
    assert overnight.batches_wait == {"word of the provider": 1}
    assert [(model.prompt_tokens, model.completion_tokens) for model in found.models] == [
        (4301, 381), (2624, 608), (2400, 231)
    ]  # fmt: skip
    assert [model.cost_usd for model in found.models] == pytest.approx([0.043891, 0.0, 0.00573])
    assert [model.read_cost_usd for model in found.models] == pytest.approx([0.100385, 0.129785, 0.031889])
    assert {model.model: model.lost_usd for model in found.models} == pytest.approx(LOST_USD)
    ends = ["died", "finished; 18 cells are still owed", "finished", "died", None]
    assert [attempt.get("end", "").partition(":")[0] or None for attempt in found.attempts] == ends
    assert found.text().endswith("attempt 5 began 2026-11-30T19:40:29+00:00 on elsewhere: died without a word")


def test_as_long_as_its_lease_held_it_was_running(folder: RunFolder) -> None:
    found = status(folder, now=MEANWHILE)

    assert found.text().endswith("on elsewhere: running, process 24150 on elsewhere")
    assert [model.standing for model in found.models] == ["asks", "reads", "asks"]
    lost = [(model.lost_usd, model.under_way_usd) for model in found.models]
    assert lost[0] == pytest.approx((LOST_USD["now"] - UNDER_WAY_USD, UNDER_WAY_USD))
    assert lost[1:] == [pytest.approx((LOST_USD[ODD], 0.0)), (0.0, 0.0)]


def test_a_compaction_changes_no_row_and_no_money(folder: RunFolder) -> None:
    forget_the_dead(folder)
    before = {part.relative: part.read().to_pylist() for part in folder.parts()}
    told = status(folder, now=LATER).models

    job.compact_all(folder)

    assert {part.relative: part.read().to_pylist() for part in folder.parts()} == before
    assert len(before) == 3 + 3 * 3
    assert sum(map(len, before.values())) == 62 + 64 + 48 + 52 + 64 + 48 + 52 + 64 + 48 + 48 + 48 + 35
    for was, now in zip(told, status(folder, now=LATER).models, strict=True):
        assert of_answers(was) == of_answers(now)
        money = [(one.cost_usd, one.read_cost_usd, one.lost_usd) for one in (was, now)]
        assert money[0] == pytest.approx(money[1])
    assert all(len(part.files()) == 1 for part in folder.parts())
    assert [path.name for path in Path(folder.path("torn")).rglob("*.parquet")] == [TORN]


TORN = "20261130T194100.142965-20261130T194029_735be8_1751a3bbc288_d4a2c913-0.parquet"


def test_no_file_in_it_names_a_module(folder: RunFolder) -> None:
    """So that modules may be called otherwise."""
    files = [path for path in Path(folder.path()).rglob("*") if path.is_file()]
    named = {name for path in files for name in re.findall(rb"emoray\.[a-z_.]+", path.read_bytes())}
    assert len(files) > 40
    assert named == {b"emoray.schema_version", b"emoray.file"}
