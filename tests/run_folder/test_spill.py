"""What becomes of answers that the run folder does not take: on a disk that is really full."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from emoray.run_folder import directory, spill
from emoray.run_folder.errors import Deleted, StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal, PutAside
from emoray.run_folder.partition import Partition
from emoray.run_folder.spill import Spill, TakenIn, take_in
from tests import runs
from tests.disks import fill, small_disk

SMALL = pa.schema([("key", pa.string()), ("outcome", pa.string()), ("cost_usd", pa.float64())])
SOON_S = 60  # a test that waits this long has failed


def table(*numbers: int) -> pa.Table:
    return pa.table([[f"{n:032x}" for n in numbers], ["answer"] * len(numbers), [0.25] * len(numbers)], schema=SMALL)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "1m") as disk:
        yield disk


@pytest.fixture
def aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMORAY_SPILL_DIR", str(tmp_path / "aside"))
    return tmp_path / "aside"


@dataclass
class Kept:
    """A refuge that remembers what it was told."""

    part: Partition
    spill: Spill
    room: bool = False
    troubles: list[str] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)

    def trouble(self, why: str) -> None:
        self.troubles.append(why)

    def make_room(self) -> bool:
        return self.room and self.part.folder.throw_ballast()

    def keep(self, name: str, data: bytes, table: pa.Table) -> str:
        return str(self.spill.keep(f"{self.part.relative}/{name}", data))

    def lost(self, table: pa.Table) -> None:
        self.gone.append(table.num_rows)


def refuge(folder: RunFolder, *, room: bool = False) -> Kept:
    return Kept(Partition(folder, "answers/model_folder=m-m", SMALL), Spill(folder, "attempt-1"), room)


def begun(path: Path) -> RunFolder:
    folder = RunFolder(str(path), begun=True)
    folder.create()
    folder.write_manifest({})
    return folder


def test_ballast_makes_room_for_what_is_in_flight(disk: Path, aside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_BALLAST_BYTES", 200_000)
    folder = begun(disk / "run")
    folder.lay_ballast()
    fill(disk / "filler")
    kept = refuge(folder, room=True)
    with Journal(kept.part, "actor", schema=SMALL, refuge=kept) as journal:
        journal.append(table(1, 2)).result(SOON_S)
    assert len(kept.part.settled()) == 2
    assert "there is no space left to write" in kept.troubles[0]  # so nothing more is asked
    assert not aside.exists()


def test_what_a_full_disk_does_not_take_is_put_aside_and_taken_in_once(disk: Path, aside: Path) -> None:
    folder = begun(disk / "run")
    fill(disk / "filler")
    kept = refuge(folder)
    with Journal(kept.part, "actor", schema=SMALL, refuge=kept) as journal:
        wrong = journal.append(table(1, 2)).exception(SOON_S)
    assert isinstance(wrong, PutAside)
    assert str(aside) in str(wrong)
    assert kept.gone == []
    assert "no space left" in take_in(folder, ["attempt-1"]).wrong  # still full

    (disk / "filler").unlink()
    (file,) = aside.rglob("*.parquet")
    data = file.read_bytes()
    assert take_in(RunFolder(f"file://{folder.uri}"), ["attempt-0", "attempt-1"]).files == 1
    assert (kept.part.counts().answered, kept.part.counts().cost_usd) == (2, 0.5)
    assert list(aside.rglob("*.parquet")) == []

    file.parent.mkdir(parents=True)
    file.write_bytes(data)  # whoever took it in died before it was deleted
    assert take_in(folder, ["attempt-1"]).files == 1
    assert (kept.part.counts().answered, kept.part.counts().spare, kept.part.counts().cost_usd) == (2, 0, 0.5)


def test_what_was_put_aside_is_found_by_a_run_that_was_moved_meanwhile(disk: Path, aside: Path) -> None:
    folder = begun(disk / "run")
    fill(disk / "filler")
    kept = refuge(folder)
    with Journal(kept.part, "actor", schema=SMALL, refuge=kept) as journal:
        assert isinstance(journal.append(table(1, 2)).exception(SOON_S), PutAside)
    (disk / "filler").unlink()
    (disk / "run").rename(disk / "moved")

    assert take_in(begun(disk / "run"), ["attempt-0"]).files == 0  # another run, under the name that it had
    moved = RunFolder(str(disk / "moved"))
    assert take_in(moved, ["attempt-1"]).files == 1
    assert len(Partition(moved, kept.part.relative, SMALL).settled()) == 2


def test_a_copy_of_a_run_folder_leaves_to_its_original_what_that_has_put_aside(tmp_path: Path, aside: Path) -> None:
    original = begun(tmp_path / "run")
    original.write_manifest({"attempts": [{"id": "attempt-1"}]})
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    Spill(original, "attempt-1").keep("answers/model_folder=m-m/1.parquet", b"x")

    left = take_in(RunFolder(str(tmp_path / "copy")), ["attempt-1"])
    assert (left.files, str(tmp_path / "run") in left.wrong) == (0, True)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    assert take_in(RunFolder(str(tmp_path / "link")), ["attempt-1"]) == TakenIn(files=1)
    assert list(aside.iterdir()) == []


def test_a_copy_takes_what_was_put_aside_once_its_original_is_gone(tmp_path: Path, aside: Path) -> None:
    original = begun(tmp_path / "run")
    original.write_manifest({"attempts": [{"id": "attempt-1"}]})
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    Spill(original, "attempt-1").keep("answers/model_folder=m-m/1.parquet", b"x")
    shutil.rmtree(tmp_path / "run")
    assert take_in(RunFolder(str(tmp_path / "copy")), ["attempt-1"]) == TakenIn(files=1)
    assert list(aside.iterdir()) == []


def test_two_nodes_that_share_a_place_take_each_file_in_once_and_neither_stumbles(tmp_path: Path, aside: Path) -> None:
    folder = begun(tmp_path / "run")
    spilled = Spill(folder, "attempt-1")
    for number in range(20):
        spilled.keep(f"answers/model_folder=m-m/{number}.parquet", b"x")
    both = threading.Barrier(2)

    def take(_: int) -> TakenIn:
        both.wait()
        return take_in(folder, ["attempt-1"])

    with ThreadPoolExecutor(2) as nodes:
        taken = sum(nodes.map(take, range(2)), TakenIn())
    assert taken == TakenIn(files=20)
    assert len(folder.infos("answers/model_folder=m-m")) == 20
    assert list(aside.rglob("*.parquet")) == []


def test_what_has_no_place_at_all_is_held_until_there_is_room(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMORAY_SPILL_DIR", str(disk / "aside"))  # full as well
    folder, waits = begun(disk / "run"), list[float]()
    fill(disk / "filler")
    kept = refuge(folder)

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            (disk / "filler").unlink()

    with Journal(kept.part, "actor", schema=SMALL, refuge=kept, pause=pause) as journal:
        journal.append(table(1, 2)).result(SOON_S)
    assert waits == [5.0] * 3
    assert len(kept.part.settled()) == 2


def test_what_is_lost_in_the_end_is_told_and_later_rows_are_not_held_as_long(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMORAY_SPILL_DIR", str(disk / "aside"))
    folder, waits = begun(disk / "run"), list[float]()
    fill(disk / "filler")
    kept = refuge(folder)
    with Journal(kept.part, "actor", schema=SMALL, refuge=kept, pause=waits.append) as journal:
        wrong = journal.append(table(1, 2, 3)).exception(SOON_S)
        assert isinstance(wrong, StoreError)
        assert not isinstance(wrong, PutAside)
        assert (kept.gone, sum(waits)) == ([3], 600.0)
        journal.append(table(4)).exception(SOON_S)
        assert (kept.gone, sum(waits)) == ([3, 1], 600.0)
        (disk / "filler").unlink()
        journal.append(table(5)).result(SOON_S)
    assert len(kept.part.settled()) == 1


def test_a_folder_that_was_deleted_is_not_made_anew_and_takes_nothing_of_another_run(
    tmp_path: Path, aside: Path
) -> None:
    folder = begun(tmp_path / "run")
    kept = refuge(folder)
    with Journal(kept.part, "actor", schema=SMALL, refuge=kept) as journal:
        journal.append(table(1)).result(SOON_S)
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        wrong = journal.append(table(2)).exception(SOON_S)
    assert isinstance(wrong, PutAside)
    assert "was deleted or moved away while this run wrote to it" in kept.troubles[0]
    with pytest.raises(Deleted):
        folder.write_manifest({})
    with pytest.raises(Deleted):
        folder.write_text("lanes.json", "")
    assert not (tmp_path / "run").exists()

    anew = begun(tmp_path / "run")
    taken = take_in(anew, ["attempt-2"])
    assert (taken.files, len(taken.left)) == (0, 1)
    assert anew.models() == []


def test_a_folder_whose_run_is_gone_is_deleted_though_something_stands_there(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    Path(folder.path("run.json")).unlink()  # `rm -r` has begun
    with pytest.raises(Deleted):
        folder.answers("a").write("x.parquet", lambda sink: sink.write(b"x"))
    assert not Path(folder.path("answers")).exists()


def test_a_place_that_somebody_else_could_have_prepared_is_not_used(aside: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    aside.symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match="is not this user's own"):
        Spill(runs.begun(tmp_path / "run"), "attempt-1").keep("answers/x.parquet", b"x")
    assert list((tmp_path / "theirs").iterdir()) == []


def test_where_nothing_is_set_the_users_own_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EMORAY_SPILL_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    places = spill.places()
    assert places[0] == tmp_path / "emoray" / "spilled"
    assert all(place.name == f"emoray-spilled-{os.getuid()}" for place in places[1:])


def test_what_dead_runs_have_left_beside_the_parts_is_swept(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    names = [".mark-1", ".ballast-1", ".probe-1", ".look-1", ".run.json.tmp-1", "_lease/.x.json.tmp-1", "notes.txt"]
    for name in [*names, ".probe-2", ".lanes.json.tmp-2"]:
        folder.write_text(name, "")
    for name in names:
        os.utime(folder.path(name), (1_000, 1_000))
    folder.sweep(before_ns=int(2_000e9))
    left = {path.name for path in Path(folder.path()).rglob("*") if path.is_file()}
    assert left == {"run.json", "notes.txt", ".probe-2", ".lanes.json.tmp-2"}  # a living run's may be
