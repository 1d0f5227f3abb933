"""After a power cut at any moment, in any state that POSIX allows, the next run finds what was promised, once."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from emoray.commands.status import status
from emoray.run_folder import lease as leases
from emoray.run_folder.columns import ANSWERS
from emoray.run_folder.compaction import compact
from emoray.run_folder.file_names import Name
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.run_folder.lease import Lease, holder
from emoray.run_folder.parquet import encoded
from emoray.run_folder.partition import Partition
from emoray.run_folder.tabs import PartTab, book, lost_usd
from emoray.study.prompts import Prompt
from tests import runs
from tests.run_folder.power_cut import Recording, build

Does = Callable[[RunFolder, Recording], None]
Holds = Callable[[RunFolder, Sequence[Hashable]], None]
ASKED = runs.asked()[:9]
USD = 0.01  # each
AT_MOST = 0.05  # of a request that is under way
LATER = 4e9  # seconds since 1970


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)  # of each state that is torn there is a warning


def keys(part: Partition) -> list[str]:
    found: list[str] = part.read(["key"])["key"].to_pylist()
    return found


def asks(part: Partition, recording: Recording, some: Sequence[Prompt], writer: str = "actor") -> None:
    """As an actor does: each answer is promised when its future is done, and three files are merged into one."""
    with Journal(part, writer, schema=ANSWERS, merge_files=3) as journal:
        for prompt in some:
            journal.append(runs.said([prompt])).result(60)
            recording.promise(prompt.key)


# ---- what programs do


def a_run(folder: RunFolder, recording: Recording) -> None:
    asks(runs.begun(Path(folder.uri)).answers("a"), recording, ASKED[:4])


def a_run_that_merges_what_it_has_merged(folder: RunFolder, recording: Recording) -> None:
    asks(runs.begun(Path(folder.uri)).answers("a"), recording, ASKED)


def runs_with_compactions(folder: RunFolder, recording: Recording) -> None:
    part = runs.begun(Path(folder.uri)).answers("a")
    asks(part, recording, ASKED[:3])
    compact(part)
    asks(part, recording, ASKED[3:4], "other")
    compact(part)


def a_torn_file_is_set_aside(folder: RunFolder, recording: Recording) -> None:
    part = runs.begun(Path(folder.uri)).answers("a")
    asks(part, recording, ASKED[:2])
    part.write(str(Name(1, "w", 0)), lambda sink: sink.write(encoded(runs.said(ASKED[2:3]))[:-60]))
    assert part.repair()


def money_is_spent_and_booked(folder: RunFolder, recording: Recording) -> None:
    """The answer of the last request never comes; twice the run is resumed, which books and compacts."""
    part = runs.begun(Path(folder.uri)).answers("a")
    with Journal(part, "actor", schema=ANSWERS) as journal:
        asyncio.run(_pays(PartTab(lambda: (part, journal.writer)), journal, recording))
    for _resumed in range(2):
        book(part)
        compact(part)


async def _pays(tab: PartTab, journal: Journal, recording: Recording) -> None:
    for prompt in ASKED[:2]:
        charge = await tab.may_cost(AT_MOST)
        charge.sent()
        journal.append(runs.said([prompt])).result(60)
        await charge.over(USD)
        recording.promise(prompt.key)
    (await tab.may_cost(AT_MOST)).sent()


def a_manifest_is_rewritten(folder: RunFolder, recording: Recording) -> None:
    runs.begun(Path(folder.uri))
    for number in range(3):
        folder.write_manifest((folder.manifest() or {}) | {"version": number})
        recording.promise(number)


def a_lease_goes_from_hand_to_hand(folder: RunFolder, _: Recording) -> None:
    runs.begun(Path(folder.uri))
    for _life in range(3):
        first = Lease(folder, pause=_no_time)
        first.take()
        first.renew()
        first._mine = replace(first._mine, pid=0x7FFFFFFE)  # the claim of a process that is dead
        first._write(held=True)


# ---- what must hold after a cut


def every_promised_answer_is_there_once(folder: RunFolder, promised: Sequence[Hashable]) -> None:
    if not folder.exists() or folder.manifest() is None:
        assert not promised
        return
    part = folder.answers("a")
    found = keys(part)
    assert set(promised) <= set(found)
    assert _money(part) == pytest.approx(USD * len(found))
    part.repair()
    assert keys(part) == found
    if owed := [prompt for prompt in ASKED if prompt.key not in found]:
        part.write(str(Name(1 << 50, "later", 0)), lambda sink: sink.write(encoded(runs.said(owed))))
    compact(part)
    assert keys(part) == sorted(prompt.key for prompt in ASKED)
    assert _money(part) == pytest.approx(USD * len(ASKED))
    assert len(part.files()) == 1


def all_money_that_was_spent_is_told_once(folder: RunFolder, promised: Sequence[Hashable]) -> None:
    part = folder.answers("a")
    told = _told(part) if folder.exists() else 0.0
    assert USD * len(promised) - 1e-9 <= told <= 2 * USD + AT_MOST + 1e-9
    for _resumed in range(2):
        book(part)
        compact(part)
        assert _told(part) == pytest.approx(told)


def _told(part: Partition) -> float:
    return part.counts().cost_usd + lost_usd(part)


def _money(part: Partition) -> float:
    counts = part.counts()
    assert counts.spare == 0
    return counts.cost_usd


def the_manifest_is_whole_and_no_older_than_promised(folder: RunFolder, promised: Sequence[Hashable]) -> None:
    manifest = folder.manifest() if folder.exists() else None
    assert manifest is not None or not promised
    assert (manifest or {}).get("version", -1) >= max((int(str(one)) for one in promised), default=-1)
    if manifest is not None:
        assert [model.owed for model in status(folder).models] == [12, 12]


def somebody_can_write_again(folder: RunFolder, _: Sequence[Hashable]) -> None:
    if folder.exists():
        lease = Lease(folder, clock=lambda: LATER, pause=_no_time)
        lease.take()
        lease.release()
        assert holder(folder, LATER) is None


def _no_time(_: float) -> None:
    """Nothing is waited for: nobody else is there."""


# ---- so it is


def violations(
    does: Does, holds: Holds, path: Path, monkeypatch: pytest.MonkeyPatch, deaf_to: str = ""
) -> Iterator[str]:
    """What goes wrong in which state; every state is tried."""
    recording = Recording(path, deaf_to=deaf_to)
    path.mkdir()
    with recording.on(monkeypatch):
        does(RunFolder(str(path / "run")), recording)
    monkeypatch.setattr(leases, "_place", lambda: "this machine, started again")
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no second cut comes
    for number, (tree, promised) in enumerate(recording.states()):
        disk = path.with_name(f"after-{number}")
        build(tree, disk)
        try:
            holds(RunFolder(str(disk / "run")), promised)
        except Exception as wrong:
            yield f"{type(wrong).__name__}: {wrong} in {sorted(tree)} after {promised}"


@pytest.mark.parametrize(
    "does",
    [
        a_run,
        a_torn_file_is_set_aside,
        runs_with_compactions,
        pytest.param(a_run_that_merges_what_it_has_merged, marks=pytest.mark.campaign),
    ],
)
def test_no_power_cut_takes_an_answer_or_doubles_one(
    does: Does, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(violations(does, every_promised_answer_is_there_once, tmp_path / "disk", monkeypatch)) == []


def test_no_power_cut_takes_money_out_of_the_books_or_doubles_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = all_money_that_was_spent_is_told_once
    assert list(violations(money_is_spent_and_booked, holds, tmp_path / "disk", monkeypatch)) == []


def test_no_power_cut_takes_a_manifest_or_cuts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holds = the_manifest_is_whole_and_no_older_than_promised
    assert list(violations(a_manifest_is_rewritten, holds, tmp_path / "disk", monkeypatch)) == []


def test_after_no_power_cut_is_a_run_folder_held_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    does = a_lease_goes_from_hand_to_hand
    assert list(violations(does, somebody_can_write_again, tmp_path / "disk", monkeypatch)) == []


@pytest.mark.parametrize(
    ("forgotten", "does", "holds"),
    [
        ("files", a_run, every_promised_answer_is_there_once),
        ("folders", a_run, every_promised_answer_is_there_once),
        ("files", a_manifest_is_rewritten, the_manifest_is_whole_and_no_older_than_promised),
        ("folders", a_manifest_is_rewritten, the_manifest_is_whole_and_no_older_than_promised),
    ],
)
def test_a_program_that_forgets_an_fsync_is_found_out(
    forgotten: str, does: Does, holds: Holds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert next(violations(does, holds, tmp_path / "disk", monkeypatch, forgotten), None)


def test_a_compaction_that_deletes_before_it_has_written_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Partition.write

    def hasty(part: Partition, name: str, fill: Callable[[IO[bytes]], object]) -> None:
        data = _filled(fill)
        if name.startswith("compact-"):
            for old in part.files():
                part.delete(old)
        write(part, name, lambda sink: sink.write(data))

    monkeypatch.setattr(Partition, "write", hasty)
    holds = every_promised_answer_is_there_once
    assert next(violations(runs_with_compactions, holds, tmp_path / "disk", monkeypatch), None)


def _filled(fill: Callable[[IO[bytes]], object]) -> bytes:
    sink = io.BytesIO()
    fill(sink)
    return sink.getvalue()
