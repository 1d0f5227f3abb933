import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.processes import descendants
from emoray.run_folder import compaction
from emoray.run_folder.compaction import compact, compact_apart
from emoray.run_folder.errors import StoreError
from emoray.run_folder.file_names import Name
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import merge
from emoray.run_folder.parquet import encoded
from emoray.run_folder.partition import Partition
from tests.programs import ROOT

SMALL = pa.schema([("key", pa.string()), ("outcome", pa.string()), ("answer", pa.string()), ("cost_usd", pa.float64())])
Row = tuple[int, str | None]  # which key, and its answer; None is a failure


def key(n: int) -> str:
    return f"{n:032x}"


def table(*said: Row) -> pa.Table:
    columns = {
        "key": [key(n) for n, _ in said],
        "outcome": ["timeout" if answer is None else "answer" for _, answer in said],
        "answer": [answer for _, answer in said],
        "cost_usd": [0.25] * len(said),
    }
    return pa.table(columns, schema=SMALL)


def put(part: Partition, stamp: int, *said: Row, writer: str = "w") -> Name:
    name = Name(stamp, writer, 0)
    part.write(str(name), lambda sink: sink.write(encoded(table(*said))))
    return name


def answers(part: Partition) -> dict[int, str | None]:
    read = part.read(["key", "answer"])
    pairs = zip(read["key"].to_pylist(), read["answer"].to_pylist(), strict=True)
    return {int(text, 16): answer for text, answer in pairs}


def part_at(path: Path) -> Partition:
    return Partition(RunFolder(str(path)), "answers/model_folder=m-m", SMALL)


@pytest.fixture
def part(tmp_path: Path) -> Partition:
    return part_at(tmp_path / "run")


def test_many_small_files_become_one_that_is_sorted_and_holds_each_key_once(part: Partition) -> None:
    for stamp in range(20):
        put(part, stamp, (100 - stamp, f"{stamp}"), (50, f"{stamp}"), (51, None))
    before = answers(part)
    done = compact(part)
    assert (done.files_before, done.files_after, done.rows, done.left_out) == (20, 1, 22, 38)
    assert answers(part) == before
    assert before[50] == "0"
    raw = pq.read_table(part.path(part.files()[0]))["key"].to_pylist()
    assert raw == [key(n) for n in sorted(before)]


def test_compacting_twice_does_nothing_the_second_time(part: Partition) -> None:
    put(part, 1, (1, "a"), (1, "b"))
    compact(part)
    files = part.files()
    assert compact(part).files_after == 1
    assert part.files() == files


def test_an_empty_part_is_compacted_into_nothing(part: Partition) -> None:
    assert compact(part).rows == 0
    assert part.files() == []


def test_what_a_compaction_leaves_out_is_still_counted_as_spent(part: Partition) -> None:
    for stamp in range(3):
        put(part, 10 * stamp, (1, "a"), (2, None))
        put(part, 10 * stamp + 1, (1, "b"), (stamp + 5, None))
        compact(part)
    counts = part.counts()
    assert (counts.answered, counts.failed, counts.spare) == (1, {"timeout": 4}, 5)
    assert counts.cost_usd == 12 * 0.25


@pytest.mark.parametrize("taken_after", ["appending", "merging", "compacting", "compacting again"])
def test_a_backup_that_brings_older_generations_back_counts_nothing_twice(part: Partition, taken_after: str) -> None:
    backup: list[tuple[Path, bytes]] = []

    def back_up(now: str) -> None:
        if now == taken_after:
            backup.extend((file, file.read_bytes()) for file in Path(part.path("")).iterdir())

    names = [put(part, stamp, (1, "a"), (stamp, None)) for stamp in (10, 20, 30, 40)]
    back_up("appending")
    merge(part, names[:2])
    merge(part, names[2:])
    back_up("merging")
    merge(part, [Name(10, "w", 1), Name(30, "w", 1)])
    compact(part)
    back_up("compacting")
    for stamp in (50, 60):
        put(part, stamp, (2, "b"), writer="v")
        compact(part)
        back_up("compacting again")
    before = (answers(part), replace(part.counts(), files=0, size_bytes=0, last_write=None))

    for file, data in backup:
        file.write_bytes(data)

    assert (answers(part), replace(part.counts(), files=0, size_bytes=0, last_write=None)) == before
    compact(part)
    assert len(part.files()) == 1
    assert part.counts().cost_usd == 10 * 0.25


def test_what_a_backup_has_and_no_compaction_has_seen_counts(part: Partition) -> None:
    """A file that was lost before, and one of a writer whose others were taken."""
    lost = put(part, 1, (1, "a"))
    data = Path(part.path(str(lost))).read_bytes()
    part.delete(str(lost))
    put(part, 2, (2, "b"))
    compact(part)
    Path(part.path(str(lost))).write_bytes(data)
    assert answers(part) == {1: "a", 2: "b"}
    assert part.counts().cost_usd == 0.5


def test_an_answer_that_was_compacted_stays_the_first_whatever_the_clocks_say(part: Partition) -> None:
    put(part, 1000, (1, "first"), (2, None))
    compact(part)
    put(part, 5, (1, "from a clock that lags"), (2, None))
    assert answers(part)[1] == "first"
    compact(part, clock=lambda: 0.0)
    assert answers(part) == {1: "first", 2: None}


def test_what_does_not_fit_into_memory_is_sorted_on_disk(part: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    for stamp in range(8):
        put(part, stamp, *((7919 * (1000 * stamp + n) % 8009, f"{stamp}") for n in range(1000)))
    before = part.read()
    spills: list[Path] = []
    add = compaction._Spill.add

    def seen(spill: compaction._Spill, some: pa.Table) -> None:
        spills.append(spill._scratch)
        add(spill, some)

    monkeypatch.setattr(compaction._Spill, "add", seen)
    monkeypatch.setattr(compaction, "_BATCH", 500)
    compact(part, memory_mb=0)
    assert spills
    assert not spills[0].exists()
    assert part.read().equals(before)
    assert pq.ParquetFile(part.path(part.files()[0])).metadata.num_rows == len(before)


def test_a_file_that_came_while_compacting_is_not_lost(part: Partition) -> None:
    put(part, 1, (1, "a"))
    put(part, 2, (2, "b"))

    def meanwhile(step: str) -> None:
        if step == "planned":
            put(part, 3, (3, "c"))

    compact(part, step=meanwhile)
    assert answers(part) == {1: "a", 2: "b", 3: "c"}
    assert len(part.files()) == 2


def test_a_writer_that_merges_while_we_compact_makes_us_look_again(part: Partition) -> None:
    names = [put(part, stamp, (stamp, "a")) for stamp in range(4)]

    def meanwhile(step: str) -> None:
        if step == "planned" and names:
            merge(part, names)
            names.clear()

    assert compact(part, step=meanwhile).rows == 4
    assert (len(part.files()), part.counts().spare) == (1, 0)


@pytest.mark.parametrize("begun", ["repaired", "planned"])
def test_a_merge_that_ends_beside_a_compaction_doubles_nothing(part: Partition, begun: str) -> None:
    """It has written its file, and was about to delete what it merged."""
    names = [put(part, stamp, (stamp, "a"), (9, "b")) for stamp in range(4)]
    put(part, 9, (4, "c"))
    before = part.counts()

    def meanwhile(step: str) -> None:
        if step == begun:
            with contextlib.suppress(Killed):
                merge(part, names, step=stop)

    compact(part, step=meanwhile)
    for _ in range(2):
        counts = part.counts()
        assert (counts.answered, counts.spare, counts.cost_usd) == (before.answered, before.spare, before.cost_usd)
        part.repair()
    assert [Name.of(name).level for name in part.files()] == [-1]


def stop(_: str) -> None:
    raise Killed


def test_a_merge_of_what_came_after_a_compaction_counts(part: Partition) -> None:
    put(part, 1, (1, "a"))
    compact(part)
    merge(part, [put(part, stamp, (stamp, "b")) for stamp in (2, 3)])
    assert answers(part) == {1: "a", 2: "b", 3: "b"}


def test_a_byte_that_flips_in_a_file_that_was_compacted_long_ago_is_found_and_its_cells_are_owed_again(
    part: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(2):
        put(part, n, (n, f"answer number {n}"))
    compact(part)
    (name,) = part.files()
    path = Path(part.path(name))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"number", b"nomber", 1))
    assert part.repair() == []
    assert compact(part).rows == 0
    assert f"{name} is set aside" in caplog.text
    assert len(part.settled()) == 0
    assert Path(part.folder.path(f"torn/{part.relative}/{name}")).exists()


def test_a_compaction_that_read_too_little_replaces_nothing(part: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        put(part, n, (n, "a"))
    before, files = answers(part), part.files()
    rows_of = Partition.rows_of

    def forgetful(*arguments: Any) -> Iterator[tuple[pa.Table, Any]]:
        for some, ranks in rows_of(*arguments):
            yield some[1:], ranks[1:]

    with monkeypatch.context() as patch:
        patch.setattr(Partition, "rows_of", forgetful)
        with pytest.raises(StoreError, match="gave 2 rows of 3: its small files are kept"):
            compact(part)
    assert (answers(part), part.files()) == (before, files)


def test_a_folder_that_never_rests_is_a_sentence(part: Partition) -> None:
    names = [put(part, stamp, (stamp, "a")) for stamp in range(2)]

    def meanwhile(step: str) -> None:
        if step == "planned":
            names[:] = [merge(part, names).name, put(part, 10 * len(part.files()) + names[0].level * 100, (9, "b"))]

    with pytest.raises(StoreError, match="end the run that writes them"):
        compact(part, step=meanwhile)


@pytest.mark.parametrize("memory_mb", [100, 0])
def test_a_disk_that_fills_up_while_compacting_keeps_every_small_file(small_disk: Path, memory_mb: int) -> None:
    part = part_at(small_disk / "run")
    for n in range(20):
        put(part, n, (n, os.urandom(14_000).hex()))
    before, files = answers(part), part.files()
    with pytest.raises(StoreError, match="there is no space left"):
        compact(part, memory_mb=memory_mb)
    assert (answers(part), part.files(), part.counts().torn) == (before, files, 0)
    assert [path for path in Path(part.path("")).iterdir() if path.name.startswith(".")] == []


# ---- in a process of its own


@pytest.fixture
def much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as much, so that nothing is compacted where we are."""
    monkeypatch.setattr(compaction, "_LITTLE", -1)


@pytest.mark.usefixtures("much")
def test_parts_are_compacted_by_another_process_as_by_this_one(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    parts = [run.answers("m"), run.rows("r", "m")]
    for part in parts:
        for stamp in range(5):
            put(part, stamp, (stamp, "a"), (9, f"{stamp}"))
    compact_apart([*parts, run.rows("nobody", "m")])
    for part in parts:
        assert [Name.of(name).level for name in part.files()] == [-1]
        assert answers(part) == {0: "a", 1: "a", 2: "a", 3: "a", 4: "a", 9: "0"}


@pytest.mark.usefixtures("much")
def test_what_goes_wrong_in_the_other_process_is_a_sentence_here(small_disk: Path) -> None:
    part = RunFolder(str(small_disk / "run")).answers("m")
    for n in range(20):
        put(part, n, (n, os.urandom(14_000).hex()))
    before = answers(part)
    with pytest.raises(StoreError, match="there is no space left"):
        compact_apart([part])
    assert answers(part) == before


PARENT = """
import sys
from emoray.run_folder import compaction
from emoray.run_folder.folder import RunFolder
compaction._LITTLE = -1
compaction.compact_apart([RunFolder(sys.argv[1]).answers("m")])
"""


HOLDS = """
import sys, threading
sys.addaudithook(lambda what, of: what == "os.mkdir" and ".compact-" in str(of[0]) and threading.Event().wait())
"""  # in its midst, for ever: so it is there to die, however quick it is


@pytest.mark.skipif(sys.platform != "linux", reason="a process dies with its parent on Linux only")
def test_the_other_process_dies_with_this_one(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOLDS)
    part = RunFolder(str(tmp_path / "run")).answers("m")
    for stamp in range(5):
        put(part, stamp, (stamp, "a"))
    before = answers(part)
    holds = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, part.folder.uri], env=holds)
    while not (children := descendants(parent.pid)):
        assert parent.poll() is None
    child = os.pidfd_open(children[0])
    parent.kill()
    parent.wait()
    ended, _, _ = select.select([child], [], [])
    os.close(child)
    assert ended
    assert answers(part) == before


# ---- any history


class Killed(BaseException):
    """Ends whatever runs, at a step's boundary."""


def merge_all(part: Partition, names: list[Name], step: Callable[[str], None]) -> None:
    merge(part, names, step=step)


@dataclass
class World:
    """A part, and beside it all that was ever committed, in the order in which it was."""

    part: Partition
    committed: list[Row] = field(default_factory=list)
    backups: list[dict[str, bytes]] = field(default_factory=list)
    now: int = 1_000_000

    def append(self, writer: str, said: list[Row]) -> None:
        self.now += 1
        put(self.part, self.now, *said, writer=writer)
        self.committed += said

    def merge(self, writer: str, steps: int | None) -> None:
        live = [Name.of(name) for name in self.part.census().names]
        for level in range(3):
            mine = [name for name in live if name.writer == writer and name.level == level]
            if len(mine) > 1:
                self.until(steps, partial(merge_all, self.part, mine))
                return

    def compact(self, steps: int | None) -> None:
        self.until(steps, lambda step: compact(self.part, clock=lambda: self.now / 1e6, step=step))

    def tear(self, writer: str) -> None:
        self.now += 1
        self.part.write(str(Name(self.now, writer, 0)), lambda sink: sink.write(encoded(table((0, "x")))[:-9]))

    def back_up(self) -> None:
        there = Path(self.part.path(""))
        self.backups.append({file.name: file.read_bytes() for file in there.glob("[!.]*.parquet")})

    def restore(self, which: int) -> None:
        """Over what is there, as `cp` does."""
        for name, data in self.backups[which % len(self.backups)].items() if self.backups else ():
            Path(self.part.path(name)).write_bytes(data)

    def until(self, steps: int | None, work: Callable[[Callable[[str], None]], object]) -> None:
        left = [steps]

        def step(_: str) -> None:
            if left[0] == 0:
                raise Killed
            if left[0] is not None:
                left[0] -= 1

        with contextlib.suppress(Killed):
            work(step)

    def check(self) -> None:
        expected: dict[int, str | None] = {}
        for n, answer in self.committed:
            if expected.get(n) is None:
                expected[n] = answer
        assert answers(self.part) == expected
        answered = {n for n, answer in expected.items() if answer is not None}
        assert {int(text, 16) for text in self.part.settled().keys()} == answered  # noqa: SIM118
        counts = self.part.counts()
        assert counts.answered == len(answered)
        assert sum(counts.failed.values()) == len(expected) - len(answered)
        assert counts.spare == sum(answer is not None for _, answer in self.committed) - len(answered)
        assert counts.cost_usd == 0.25 * len(self.committed)


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.none() | st.text("abc", min_size=1, max_size=2)), min_size=1, max_size=4
)
WRITERS = st.sampled_from(["w1", "w2"])
STEPS = st.none() | st.integers(0, 6)
DEEDS = st.one_of(
    st.tuples(st.just("append"), WRITERS, ROWS),
    st.tuples(st.just("append"), WRITERS, ROWS),
    st.tuples(st.just("merge"), WRITERS, STEPS),
    st.tuples(st.just("compact"), STEPS),
    st.tuples(st.just("tear"), WRITERS),
    st.tuples(st.just("back_up")),
    st.tuples(st.just("restore"), st.integers(0, 3)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(DEEDS, max_size=12))
def test_any_history_of_appends_crashes_merges_and_compactions_keeps_one_row_per_key(
    deeds: list[tuple[str, ...]],
) -> None:
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    root = Path(tempfile.mkdtemp(dir=memory))
    world = World(part_at(root / "run"))
    try:
        for deed, *how in deeds:
            getattr(world, deed)(*how)
            world.check()
    finally:
        shutil.rmtree(root)


# ---- kill -9

SUICIDES = """
import os, signal, sys
from pathlib import Path
from {here} import part_at
from emoray.run_folder.compaction import compact
def die(path, when, left):
    def count(*_):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    part = part_at(Path(path))
    part.files()
    if when == "step":
        compact(part, step=count, memory_mb=0)
    else:
        deeds = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir")
        sys.addaudithook(lambda event, args: count() if event in deeds and str(args[0]).startswith(path) else None)
        compact(part, memory_mb=0)
print("here", flush=True)
for line in sys.stdin:
    path, when, left = line.rstrip().rsplit(" ", 2)
    if (child := os.fork()) == 0:
        die(path, when, int(left))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

Suicide = Callable[[Partition, str, int], bool]


@pytest.fixture(scope="module")
def killed() -> Iterator[Suicide]:
    """Whether a real process that compacts was killed at its n-th step or system call, and not done before.

    Each is a fork of one that has imported what it needs, which takes longer than all else.
    """
    command, env = [sys.executable, "-c", SUICIDES.format(here=__name__)], os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        asked, ended = parent.stdin, parent.stdout
        assert ended.readline() == "here\n"

        def call(part: Partition, when: str, after: int) -> bool:
            print(part.folder.uri, when, after, file=asked, flush=True)
            code = int(ended.readline())
            assert code in (0, -signal.SIGKILL)
            return code != 0

        yield call


@pytest.mark.parametrize(("when", "deaths"), [("step", range(20)), ("call", range(20))])
def test_a_compaction_killed_anywhere_loses_nothing_and_the_next_one_goes_on(
    part: Partition, killed: Suicide, when: str, deaths: range
) -> None:
    expected: dict[int, str | None] = {}
    for after in deaths:
        put(part, 2 * after, (after + 1, "a"), (0, f"{after}"), (after + 100, None))
        put(part, 2 * after + 1, (after + 1, "again"), (0, None), writer="x")
        expected |= {0: "0", after + 1: "a", after + 100: None}
        was_killed = killed(part, when, after)
        assert answers(part) == expected
        assert part.counts().spare == 2 * (len(expected) // 2) - 1
        if not was_killed:
            break
    else:
        pytest.fail("the compaction never came to its end")
    assert len(part.files()) == 1
    assert part.counts().torn == 0
