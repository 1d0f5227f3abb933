import errno
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.run_folder import atomic_write, partition
from emoray.run_folder.errors import FileVanished, NoSpaceOrPermission, StoreError
from emoray.run_folder.file_names import Name
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal, merge, pause_s
from emoray.run_folder.partition import Partition
from tests.programs import ROOT

SMALL = pa.schema([("key", pa.string()), ("outcome", pa.string()), ("answer", pa.string())])
SOON_S = 60  # a test that waits this long has failed


def key(n: int) -> str:
    return f"{n:032x}"


def table(*numbers: int, answer: str = "a") -> pa.Table:
    columns = [[key(n) for n in numbers], ["answer"] * len(numbers), [answer] * len(numbers)]
    return pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=SMALL)


def part_at(path: Path) -> Partition:
    return Partition(RunFolder(str(path)), "answers/model_folder=m-m", SMALL)


@pytest.fixture
def part(tmp_path: Path) -> Partition:
    return part_at(tmp_path / "run")


def test_what_a_future_says_is_done_is_on_disk(part: Partition) -> None:
    with Journal(part, "actor", schema=SMALL) as journal:
        for n in range(5):
            journal.append(table(n)).result(SOON_S)
            assert len(part.settled()) == n + 1


def test_rows_that_come_together_go_into_one_file(part: Partition) -> None:
    with Journal(part, "actor", schema=SMALL) as journal:
        journal.append(table(0)).result(SOON_S)
        dones = [journal.append(table(n)) for n in range(1, 200)]
        journal.flush()
        assert all(done.done() for done in dones)
    assert len(part.files()) < 20
    assert len(part.settled()) == 200


def test_a_great_heap_is_written_in_portions(part: Partition) -> None:
    with Journal(part, "actor", schema=SMALL) as journal:
        for some in [table(*range(50_000 * n, 50_000 * (n + 1))) for n in range(6)]:
            journal.append(some)
        journal.flush()
        assert len(part.settled()) == 300_000
    assert len(part.files()) >= 3


def test_closing_commits_what_is_left(part: Partition) -> None:
    journal = Journal(part, "actor", schema=SMALL, every_s=3600)
    dones = [journal.append(table(n)) for n in range(3)]
    journal.close()
    journal.close()
    assert all(done.done() for done in dones)
    assert len(part.settled()) == 3
    with pytest.raises(ValueError, match="closed"):
        journal.append(table(9))


def test_many_threads_may_append_at_once(part: Partition) -> None:
    with Journal(part, "actor", schema=SMALL) as journal:
        threads = [
            threading.Thread(target=lambda i=i: [journal.append(table(100 * i + n)) for n in range(50)])
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(part.settled()) == 200
    assert part.counts().spare == 0


def test_a_caller_that_gives_up_waiting_stops_nobody(part: Partition) -> None:
    with Journal(part, "actor", schema=SMALL) as journal:
        assert not journal.append(table(1)).cancel()
        journal.append(table(2)).result(SOON_S)
    assert len(part.settled()) == 2


def test_columns_that_a_part_does_not_know_are_refused_and_missing_ones_too(part: Partition) -> None:
    wider = pa.schema([*SMALL, ("mood", pa.string())])
    with pytest.raises(ValueError, match="mood"):
        Journal(part, "actor", schema=wider)
    with Journal(part, "actor", schema=SMALL) as journal, pytest.raises(KeyError, match="answer"):
        journal.append(table(1).drop_columns(["answer"]))


def test_the_writers_name_may_be_anything(part: Partition) -> None:
    with Journal(part, "../org/m:7b süß " * 20, schema=SMALL) as journal:
        journal.append(table(1)).result(SOON_S)
    assert len(part.settled()) == 1


@given(st.floats(0, 100), st.floats(0.1, 10))
def test_a_journal_never_rests_longer_than_it_was_told_and_longer_where_writing_is_slow(
    write_s: float, every_s: float
) -> None:
    assert 0 < pause_s(write_s, every_s) <= every_s
    if 2 * write_s <= every_s:
        assert pause_s(write_s / 2, every_s) <= pause_s(write_s, every_s)


@given(st.floats(0, 100), st.floats(0.1, 10), st.floats(-10, 100))
def test_what_waits_is_durable_within_two_of_these_times_or_as_soon_as_the_disk_can(
    write_s: float, every_s: float, waited_s: float
) -> None:
    at_once_s = waited_s + 0.002 + write_s
    assert waited_s + pause_s(write_s, every_s, waited_s=waited_s) + write_s <= max(2 * every_s, at_once_s) + 1e-9


def test_the_writer_merges_its_small_files_as_it_goes(part: Partition) -> None:
    with Journal(part, "actor", schema=SMALL, merge_files=4) as journal:
        for n in range(70):
            journal.append(table(n, n // 2, answer=str(n))).result(SOON_S)
    assert len(part.files()) <= 3 + 3 + 3 + 1, "four of a level become one of the next: 64 + 4 + 1 + 1"
    assert part.read(["answer"])["answer"].to_pylist() == [str(min(n, 2 * n)) for n in range(70)]
    assert part.counts().spare == 70


def test_merging_a_file_that_a_compaction_took_is_no_error(part: Partition) -> None:
    with Journal(part, "actor", schema=SMALL, merge_files=3) as journal:
        for n in range(2):
            journal.append(table(n)).result(SOON_S)
        part.delete(part.files()[0])
        for n in range(2, 8):
            journal.append(table(n)).result(SOON_S)
    assert len(part.settled()) == 7


def test_merging_what_is_gone_writes_nothing(part: Partition) -> None:
    with pytest.raises(FileVanished):
        merge(part, [Name(1, "w", 0)])
    assert part.files() == []


def test_a_clock_that_jumps_back_loses_nothing_and_doubles_nothing(part: Partition) -> None:
    times = iter([5000.0, 1000.0, 0.0, 4999.0])
    for answer in ("first", "second"):
        with Journal(part, "actor", schema=SMALL, clock=lambda: next(times)) as journal:
            journal.append(table(1, 2, answer=answer)).result(SOON_S)
            journal.append(table(3, answer=answer)).result(SOON_S)
    assert part.read(["answer"])["answer"].to_pylist() == ["first"] * 3
    assert part.counts().spare == 3
    assert len(part.files()) == 4


# ---- a store that fails


class Failing:
    """In place of `partition.put`: the first so many writes fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: float, number: int | None = None) -> None:
        self.times, self._number, self._put = times, number, atomic_write.put
        monkeypatch.setattr(partition, "put", self)

    def __call__(self, *arguments: Any) -> None:
        if self.times > 0:
            self.times -= 1
            raise OSError(self._number, "it fails") if self._number else OSError("503 SlowDown")
        self._put(*arguments)


@pytest.mark.parametrize("number", [None, errno.EIO, errno.ESTALE])
def test_a_store_that_fails_for_a_moment_loses_no_answer(
    part: Partition, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    waits: list[float] = []
    Failing(monkeypatch, 5, number)
    with Journal(part, "actor", schema=SMALL, pause=waits.append, draw=lambda: 0.5) as journal:
        journal.append(table(1, 2)).result(SOON_S)
        assert waits == [0.375, 0.75, 1.5, 3.0, 6.0]
        journal.append(table(3)).result(SOON_S)
    assert (len(part.settled()), len(part.files())) == (3, 2)


def test_a_write_whose_success_was_not_heard_of_is_there_once(part: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    put, left = atomic_write.put, [2]

    def deaf(*arguments: Any) -> None:
        put(*arguments)
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("connection reset")

    monkeypatch.setattr(partition, "put", deaf)
    with Journal(part, "actor", schema=SMALL, pause=lambda _: None) as journal:
        journal.append(table(1)).result(SOON_S)
    assert len(part.files()) == 1


@pytest.mark.parametrize("draw", [0.0, 0.999])
def test_a_store_that_goes_on_failing_is_told_after_about_a_minute(
    part: Partition, monkeypatch: pytest.MonkeyPatch, draw: float
) -> None:
    waits: list[float] = []
    failing = Failing(monkeypatch, float("inf"))
    with Journal(part, "actor", schema=SMALL, pause=waits.append, draw=lambda: draw) as journal:
        with pytest.raises(StoreError, match=r"cannot write .*503 SlowDown"):
            journal.append(table(1)).result(SOON_S)
        assert 30 < sum(waits) < 90
        failing.times = 0
        journal.append(table(2)).result(SOON_S)
    assert len(part.settled()) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_disk_that_is_full_or_forbidden_is_told_at_once(
    part: Partition, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    waits: list[float] = []
    Failing(monkeypatch, 1, number)
    with Journal(part, "actor", schema=SMALL, pause=waits.append) as journal:
        wrong = journal.append(table(1)).exception(SOON_S)
    assert isinstance(wrong, NoSpaceOrPermission)
    assert waits == []


# ---- disk full


def test_a_disk_that_fills_up_stops_in_a_sentence_and_resumes_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    part, durable = part_at(small_disk / "run"), 0
    with Journal(part, "actor", schema=SMALL) as journal:
        while (wrong := journal.append(table(durable, answer=os.urandom(20_000).hex())).exception(SOON_S)) is None:
            durable += 1
        assert isinstance(wrong, StoreError)
        assert "there is no space left to write" in str(wrong)
        assert "run the same command again" in str(wrong)
        assert durable > 0
        assert (len(part.settled()), part.counts().torn) == (durable, 0)
        assert [path for path in Path(part.path("")).iterdir() if path.name.startswith(".")] == []
        ballast.unlink()
        journal.append(table(durable)).result(SOON_S)
    assert len(part.settled()) == durable + 1


def test_a_full_disk_while_merging_keeps_the_small_files(small_disk: Path) -> None:
    part = part_at(small_disk / "run")
    with Journal(part, "actor", schema=SMALL, merge_files=12) as journal:
        for n in range(12):
            journal.append(table(n, answer=os.urandom(14_000).hex())).result(SOON_S)
    assert len(part.settled()) == 12
    assert part.counts().torn == 0


# ---- kill -9

SPEAKER = """
import sys
from pathlib import Path
from tests_journal import SMALL, part_at, table
from emoray.run_folder.journal import Journal
journal = Journal(part_at(Path(sys.argv[1])), "actor", schema=SMALL, merge_files=3)
for n in range(int(sys.argv[2]), 10**9):
    journal.append(table(n)).add_done_callback(lambda done, n=n: print(n, flush=True))
    if n % 5 == 0:
        journal.flush()
"""


def killed(path: Path, start: int, after: int) -> list[int]:
    """The numbers that a real process said were durable, when it was killed in the middle of its work."""
    code = SPEAKER.replace("tests_journal", __name__)
    command = [sys.executable, "-c", code, str(path), str(start)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL  # it did not end before
    return told


def test_no_answer_that_was_said_to_be_durable_is_lost_when_its_writer_is_killed(part: Partition) -> None:
    draw, told = random.Random(7), set[int]()
    for start in (0, 1000, 2000):
        told |= set(killed(Path(part.folder.uri), start, draw.randint(5, 120)))
        settled = {int(text, 16) for text in part.settled().keys()}  # noqa: SIM118
        assert told <= settled
        assert part.counts().torn == 0
    assert part.read(["key"]).num_rows == len(part.settled())
    assert part.counts().spare == 0
