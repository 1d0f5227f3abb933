"""The money of requests whose answers nobody has."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emoray.hosts.protocol import HostDown
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.provider import Provider
from emoray.run_folder import tabs
from emoray.run_folder.atomic_write import STALE_NS
from emoray.run_folder.columns import ANSWERS
from emoray.run_folder.compaction import compact
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.run_folder.partition import Partition
from emoray.run_folder.tabs import PartTab, book, lost, lost_by_model, lost_usd
from emoray.study.outcomes import Answer
from tests import runs, spends
from tests.programs import Held, Start, until

FOLDERS = ["mock:///run-{0}", "{0}/run"]  # one where files can only be put whole, one where they are written in place


@pytest.fixture(params=FOLDERS, ids=["put", "in place"])
def part(request: pytest.FixtureRequest, tmp_path: Path) -> Partition:
    return RunFolder(request.param.format(tmp_path)).answers("a")


def says(part: Partition, *costs: float) -> str:
    """A journal writes answers that cost so much; its name."""
    with Journal(part, "actor", schema=ANSWERS) as journal:
        for prompt, usd in zip(runs.asked(), costs, strict=False):
            journal.append(runs.said([prompt], Answer("The sea.", "stop", 10, 5, usd))).result(60)
        return journal.writer


def pays(part: Partition, writer: str, *requests: tuple[float, float | None]) -> None:
    """One actor's requests, one after the other: what each costs at most, and what it did; None: it never ended."""

    async def pay() -> None:
        tab = PartTab(lambda: (part, writer))
        for at_most, usd in requests:
            charge = await tab.may_cost(at_most)
            charge.sent()
            if usd is not None:
                await charge.over(usd)

    asyncio.run(pay())


async def cost(tab: PartTab, at_most: float, usd: float) -> None:
    """One request."""
    charge = await tab.may_cost(at_most)
    charge.sent()
    await charge.over(usd)


def files(part: Partition) -> list[str]:
    """Of actors."""
    return [name for name in beside(part) if not name.endswith(".parquet.json")]


def beside(part: Partition) -> list[str]:
    return [info.base_name for info in part.folder.infos(f"tabs/{part.relative}")]


def test_what_rows_tell_is_not_lost(part: Partition) -> None:
    pays(part, says(part, 0.1, 0.2), (0.5, 0.1), (0.5, 0.2))
    assert lost_usd(part) == 0.0


def test_an_answer_that_did_not_come_counts_at_the_most_that_it_may_have_cost(part: Partition) -> None:
    pays(part, says(part, 0.1), (0.5, 0.1), (0.5, None))
    assert 0.5 <= lost_usd(part) <= 1.0  # where it cannot be written in place, as much again ahead
    assert part.folder.fs.type_name != "local" or lost_usd(part) == pytest.approx(0.5)


def test_an_answer_that_came_and_was_not_kept_counts_at_what_it_cost(part: Partition) -> None:
    pays(part, says(part, 0.1), (0.5, 0.1), (0.5, 0.25))
    assert lost_usd(part) == pytest.approx(0.25)


def test_a_request_that_was_refused_costs_nothing(part: Partition) -> None:
    pays(part, says(part), (0.5, 0.0), (0.5, 0.0))
    assert lost_usd(part) == 0.0


def test_who_died_before_the_first_row_is_found_as_well(part: Partition) -> None:
    pays(part, "actor_1", (0.5, None))
    folder = RunFolder(part.folder.uri)
    judged = folder.rows("j", "b b")
    pays(judged, "actor_2", (0.25, None), (0.25, 0.125))
    assert folder.models() == folder.readers() == []
    assert set(lost(folder)) == {("a", None), ("b b", "j")}
    assert lost_by_model(folder)["a"] >= 0.5
    assert lost_by_model(folder)["b b"] >= 0.375


ATTEMPTS: tuple[Any, ...] = (
    ("20260101T000000-aaaaaa", (0.5, None), (0.5, 0.5)),
    ("20260102T000000-bbbbbb", (0.25, 0.25)),
)


def test_a_backup_brings_no_money_of_an_actor_of_which_nothing_was_kept_and_nothing_lost(part: Partition) -> None:
    pays(part, "actor_1", (0.5, None))
    before = backup(part)
    put_back(part, dict.fromkeys(before, b'{"usd": 0.0}'))  # it was refused after all, and cost nothing
    book(part)
    put_back(part, before)
    assert lost_usd(part) == 0.0


def test_what_is_left_of_a_booking_that_was_broken_off_is_swept(part: Partition) -> None:
    pays(part, "actor_1", (0.5, None))
    part.folder.write_text(f"tabs/{part.relative}/.actor_1.booked-1.json.tmp-0123", "{")
    part.repair(now_ns=time.time_ns() + 2 * STALE_NS)
    assert files(part) == ["actor_1.json"]


def test_what_an_attempt_lost_is_told_apart(part: Partition) -> None:
    for attempt, *requests in ATTEMPTS:
        with Journal(part, f"{attempt}-0123456789ab", schema=ANSWERS) as journal:
            pays(part, journal.writer, *requests)
    assert lost_usd(part, "20260102T000000-bbbbbb") == pytest.approx(0.25)
    assert lost_usd(part, "20260101T000000-aaaaaa") + 0.25 == pytest.approx(lost_usd(part))


def test_booked_money_stays_when_rows_no_longer_tell_who_wrote_them(part: Partition) -> None:
    pays(part, says(part, 0.1), (0.5, 0.1), (0.5, 0.25))
    pays(part, says(part, 0.1), (0.5, 0.1))
    for _ in range(2):  # a second time changes nothing
        book(part)
        assert lost_usd(part) == pytest.approx(0.25)
    assert len(files(part)) == 1  # of the one that lost something
    compact(part)
    assert lost_usd(part) == pytest.approx(0.25)
    assert part.counts().cost_usd == pytest.approx(0.2)


def taken_out(part: Partition, *names: str) -> dict[str, bytes]:
    """Files of a part, out of the run folder: put aside on another disk, or in a backup and lost since."""
    found = {f"{part.relative}/{name}": part.folder.read_bytes(f"{part.relative}/{name}") for name in names}
    for path in found:
        part.folder.delete(path)
    return {path: data for path, data in found.items() if data is not None}


def backup(part: Partition) -> dict[str, bytes]:
    """All files of a part, and its tabs."""
    places = [part.relative, f"tabs/{part.relative}"]
    paths = [f"{place}/{info.base_name}" for place in places for info in part.folder.infos(place) if info.is_file]
    return {path: part.folder.read_bytes(path) or b"" for path in paths}


def put_back(part: Partition, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        part.folder.write_bytes(path, data)


def told_usd(part: Partition) -> float:
    return part.counts().cost_usd + lost_usd(part)


def test_rows_that_come_back_after_their_tab_was_booked_are_money_once(part: Partition) -> None:
    writer = says(part, 0.1, 0.2, 0.4)
    pays(part, writer, (0.5, 0.1), (0.5, 0.2), (0.5, 0.4), (0.5, 0.25))  # of the last nobody has the answer
    away = [taken_out(part, name) for name in part.files()[-2:]]  # a row each
    for aside in (*away, {}):
        book(part)
        compact(part)
        assert told_usd(part) == pytest.approx(0.95)
        put_back(part, aside)
        assert told_usd(part) == pytest.approx(0.95)
    assert [part.counts().cost_usd, lost_usd(part)] == pytest.approx([0.7, 0.25])
    assert len(files(part)) == 1


def test_a_backup_that_is_put_back_over_a_compaction_brings_no_money_twice(part: Partition) -> None:
    pays(part, says(part, 0.1), (0.5, 0.1), (0.5, 0.25))  # a quarter is lost
    pays(part, says(part, 0.2), (0.5, 0.2))
    spilled = says(part, 0.4)
    pays(part, spilled, (0.5, 0.4))
    (name,) = [name for name in part.files() if spilled in name]
    aside, backups = taken_out(part, name), list[dict[str, bytes]]()
    for _ in range(2):
        backups.append(backup(part))
        book(part)
        backups.append(backup(part))
        compact(part)
        put_back(part, aside)
    backups.append(backup(part))
    assert told_usd(part) == pytest.approx(0.95)
    for older in (*backups, {}):
        put_back(part, older)
        assert told_usd(part) == pytest.approx(0.95)
        book(part)
        assert told_usd(part) == pytest.approx(0.95)
    compact(part)
    assert told_usd(part) == pytest.approx(0.95)
    assert lost_usd(part) == pytest.approx(0.25)


def test_money_of_a_compacted_file_that_is_torn_or_gone_is_lost_until_it_comes_back(part: Partition) -> None:
    pays(part, says(part, 0.1, 0.2), (0.5, 0.1), (0.5, 0.2), (0.5, 0.25))  # of the last nobody has the answer
    for gone in range(3):
        book(part)
        compact(part)
        (name,) = part.files()
        assert [part.counts().cost_usd, lost_usd(part)] == pytest.approx([0.3, 0.25])
        path, whole = f"{part.relative}/{name}", taken_out(part, name)
        part.folder.write_bytes(path, whole[path][: 100 * gone])
        assert [part.counts().cost_usd, lost_usd(part)] == pytest.approx([0, 0.55])
        part.repair()
        assert told_usd(part) == pytest.approx(0.55)
        assert lost_usd(part, "20260101T000000-aaaaaa") == 0.0  # of all attempts
        put_back(part, whole)
        compact(part)  # alone, it stays what it is
        assert [part.counts().cost_usd, lost_usd(part)] == pytest.approx([0.3, 0.25])


def test_what_is_asked_again_for_a_compacted_file_that_was_lost_is_paid_for_twice_and_told_so(part: Partition) -> None:
    pays(part, says(part, 0.1, 0.2), (0.5, 0.1), (0.5, 0.2))
    book(part)
    compact(part)
    lost_file = taken_out(part, *part.files())
    for _ in range(2):
        pays(part, says(part, 0.125), (0.5, 0.125))
        book(part)
        compact(part)
    assert [part.counts().cost_usd, lost_usd(part)] == pytest.approx([0.25, 0.3])
    put_back(part, lost_file)
    for _ in range(2):
        assert [part.counts().cost_usd, lost_usd(part)] == pytest.approx([0.55, 0])
        book(part)
        compact(part)
    assert len(beside(part)) == 1  # of the file that there is


def test_what_a_compaction_left_noted_of_older_files_when_it_died_counts_nothing_twice(part: Partition) -> None:
    says(part, 0.1)
    compact(part)
    (old,) = [name for name in beside(part) if name.endswith(".parquet.json")]
    note = part.folder.read_bytes(f"tabs/{part.relative}/{old}") or b""
    says(part, 0.0, 0.2)
    compact(part)
    put_back(part, {f"tabs/{part.relative}/{old}": note})
    compact(part)
    assert old not in beside(part)
    (name,) = part.files()
    part.folder.delete(f"{part.relative}/{name}")
    assert lost_usd(part) == pytest.approx(0.3)


def test_money_of_a_file_that_turns_out_torn_as_it_is_compacted_is_lost(part: Partition) -> None:
    pays(part, says(part, 0.1), (0.5, 0.1))
    pays(part, says(part, 0.2), (0.5, 0.2))
    name = part.files()[0]
    path = f"{part.relative}/{name}"
    raw = part.folder.read_bytes(path) or b""
    torn = raw.replace(b"The sea.", b"The tea.")  # in a page of answers, which no booking looks at
    assert torn != raw
    part.folder.write_bytes(path, torn)
    book(part)
    assert told_usd(part) == pytest.approx(0.3)
    compact(part)
    assert [part.counts().cost_usd, lost_usd(part)] == pytest.approx([0.2, 0.1])


def test_who_asks_on_after_its_tab_was_booked_is_booked_again(part: Partition) -> None:
    """As the actors of a run do whose lease was taken over while it slept."""
    writer = says(part, 0.1)

    async def pay() -> None:
        tab = PartTab(lambda: (part, writer))
        for usd in (0.1, 0.25):
            await cost(tab, 0.25, usd)
        assert lost_usd(part) == pytest.approx(0.25)
        book(part, ended="20260102T000000-bbbbbb")  # which is another run
        compact(part)
        for usd, told in ((0.5, 0.85), (0.0, 0.85), (1.0, 1.85)):
            await cost(tab, 1.0, usd)
            for _ in range(2):
                assert told_usd(part) == pytest.approx(told)
                book(part, ended="20260102T000000-bbbbbb")

    asyncio.run(pay())
    assert files(part).count(f"{writer}.json") == 0
    put_back(part, {f"tabs/{part.relative}/{writer}.json": b'{"usd": 5.0, "turn": 7}'})  # from a backup
    assert told_usd(part) == pytest.approx(1.85)


def test_what_an_actor_writes_while_its_tab_is_booked_is_not_forgotten_where_it_dies_of_its_next_request(
    part: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, ended = RunFolder.write_text, "20260102T000000-bbbbbb"

    async def pay() -> None:
        tab = PartTab(lambda: (part, "actor"))
        await cost(tab, 0.25, 0.25)
        last = await tab.may_cost(0.5)

        def written(folder: RunFolder, path: str, text: str) -> None:
            write(folder, path, text)
            if ".booked-" in path:
                last.sent()

        monkeypatch.setattr(RunFolder, "write_text", written)
        book(part, ended)

    asyncio.run(pay())
    told = lost_usd(part)
    in_place = part.folder.fs.type_name == "local"
    assert told == pytest.approx(0.75 if in_place else 1.25)  # elsewhere as much again as is under way, ahead
    for _ in range(3):
        book(part, ended)
        assert lost_usd(part) == pytest.approx(told)
    assert len(files(part)) == 1


def test_rows_that_an_actor_writes_after_its_tab_was_booked_are_no_loss(part: Partition) -> None:
    ended = "20260102T000000-bbbbbb"
    with Journal(part, "actor", schema=ANSWERS) as journal:
        first, second = runs.asked()[:2]

        async def pay(tab: PartTab, prompt: Any, usd: float) -> None:
            charge = await tab.may_cost(0.5)
            charge.sent()
            journal.append(runs.said([prompt], Answer("The sea.", "stop", 10, 5, usd))).result(60)
            await charge.over(usd)

        async def both() -> None:
            tab = PartTab(lambda: (part, journal.writer))
            await pay(tab, first, 0.125)
            book(part, ended)  # nothing was lost
            compact(part)
            await pay(tab, second, 0.25)

        asyncio.run(both())
    for _ in range(2):
        assert [part.counts().cost_usd, lost_usd(part)] == pytest.approx([0.375, 0])
        book(part, ended)
        compact(part)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"usd": NaN}',
        '{"usd": -1}',
        '{"usd": "x"}',
        '{"usd": 1e999}',
        '{"lost_usd": null}',
        '{"lost_usd": 1}',
        '{"lost_usd": 1, "less": 5}',
        '{"lost_usd": 1, "less": {}, "at_usd": "x"}',
        '{"lost_usd": 1, "less": {}, "at_usd": NaN}',
        '{"lost_usd": 1, "less": {}, "at_turn": []}',
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_file_that_tells_no_amount_does_not_count_and_is_said(
    text: str, part: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    pays(part, "actor_1", (0.5, 0.25))
    part.folder.write_text(f"tabs/{part.relative}/odd.json", text)
    assert lost_usd(part) == pytest.approx(0.25)
    assert "odd.json is no tab of this emoray and does not count" in caplog.text
    book(part)  # leaves it to people
    assert "odd.json" in files(part)


@pytest.mark.parametrize("text", ["", "[]", '{"paid_usd": NaN}', '{"paid_usd": -1}', '{"usd": 5}', "[" * 100_000])
def test_a_note_that_tells_no_amount_does_not_count_and_is_said(
    text: str, part: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    name = "compact-20260101T000000.000000-0123456789abcdef.parquet.json"
    part.folder.write_text(f"tabs/{part.relative}/{name}", text)
    assert lost_usd(part) == 0.0
    assert f"{name} is no tab of this emoray and does not count" in caplog.text


def test_where_money_cannot_be_written_down_nothing_is_sent_and_nothing_counts(tmp_path: Path) -> None:
    (tmp_path / "tabs").write_text("in the way")
    there = RunFolder(str(tmp_path)).answers("a")

    async def pay() -> None:
        tab = PartTab(lambda: (there, "actor"))
        with pytest.raises(HostDown, match="so none is sent: cannot write "):
            await tab.may_cost(0.5)
        (tmp_path / "tabs").unlink()
        (await tab.may_cost(0.25)).sent()

    asyncio.run(pay())
    assert lost_usd(there) == pytest.approx(0.25)


@pytest.mark.parametrize("links", [1, 0], ids=["links are counted", "and are not"])
def test_a_tab_stays_one_file_until_it_is_deleted_and_no_descriptor_is_left(
    links: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, fstat = RunFolder(str(tmp_path)).answers("a"), os.fstat

    def counted(file: int) -> os.stat_result:
        told = list(fstat(file))
        return os.stat_result([*told[:3], min(told[3], links), *told[4:]])

    monkeypatch.setattr(os, "fstat", counted)
    monkeypatch.setattr(tabs, "_SYNC_S", math.inf)  # in a thread, with a descriptor of its own
    path = tmp_path / "tabs" / there.relative / "actor.json"

    async def pay() -> None:
        tab = PartTab(lambda: (there, "actor"))
        files = set[int]()
        for _ in range(3):
            await cost(tab, 0.5, 0.25)
            files.add(path.stat().st_ino)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            path.rename(tmp_path / "booked")
            (tmp_path / "booked").unlink()
            await cost(tab, 0.5, 0.25)
        assert (len(files), len(list(Path("/proc/self/fd").iterdir()))) == (1, before)

    asyncio.run(pay())
    assert lost_usd(there) == pytest.approx(1.5)


def test_a_tab_that_turns_out_stale_as_it_is_written_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, pwrite, stale = RunFolder(str(tmp_path)).answers("a"), os.pwrite, [True]

    def written(file: int, data: bytes, place: int) -> int:
        if stale and stale.pop():
            raise OSError(errno.ESTALE, "Stale file handle")
        return pwrite(file, data, place)

    monkeypatch.setattr(os, "pwrite", written)
    pays(there, "actor", (0.5, 0.25), (0.5, 0.25))
    assert not stale
    assert lost_usd(there) == pytest.approx(0.5)


def test_a_tab_that_turns_out_stale_as_it_is_made_durable_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, synced, stale = RunFolder(str(tmp_path)).answers("a"), tabs._synced, [True]
    path = tmp_path / "tabs" / there.relative / "actor.json"

    def sync(file: int) -> None:
        if stale and stale.pop():
            path.unlink()  # as who booked it did, on another machine
            os.close(file)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        synced(file)

    monkeypatch.setattr(tabs, "_synced", sync)
    monkeypatch.setattr(tabs, "_SYNC_S", math.inf)  # the one that matters, when nothing is under way
    pays(there, "actor", (0.5, 0.25))
    assert not stale
    assert lost_usd(there) == pytest.approx(0.25)


def test_a_store_that_fails_is_insisted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    part = RunFolder("mock:///insisted").answers("a")
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    monkeypatch.setattr(tabs, "_TRIES", 3)
    part.folder.write_text("tabs", "in the way")
    with pytest.raises(HostDown, match="so none is sent"):
        pays(part, "actor", (0.5, 0.5))
    assert len(naps) == 2


@pytest.mark.parametrize("kills", [1, *(pytest.param(n, marks=pytest.mark.campaign) for n in (12, 20))])
def test_rows_and_what_is_lost_are_what_the_provider_charged_but_for_one_request_of_each_dead_process(
    kills: int, start: Start, tmp_path: Path
) -> None:
    folder, speaks = RunFolder(str(tmp_path / "run")), Held(0)
    with Provider(Behaviour(latency_s=0.2), speaks) as provider:
        counters = provider.counters
        command = [sys.executable, "-m", "tests.spends", folder.uri, provider.base_url]
        for kill in range(1, kills + 1):
            share = kill * 300 // (kills + 1)
            speaks.most = max(share, len(counters.billed)) + 8
            process = start(command)
            until(lambda share=share: len(counters.billed) > share, process, 0.005)  # type: ignore[misc]
            process.kill()
            process.wait()
            speaks.most = math.inf  # what a dead one asked for is charged too
            until(lambda: counters.in_flight == 0)
        last = start(command)
        assert last.wait() == 0, last.communicate()
        until(lambda: counters.in_flight == 0)

    part = folder.answers("a")
    rows_usd, lost = part.counts().cost_usd, lost_usd(part)
    charged_usd = len(counters.billed) * spends.EACH_USD
    assert {said for _, _, said in counters.billed} == {10}
    assert part.counts().answered == 300
    assert lost > 0
    too_much = rows_usd + lost - charged_usd
    assert -1e-9 <= too_much <= kills * spends.EACH_USD + 1e-9  # of each dead one, one that was not handed on
