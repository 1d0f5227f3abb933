from __future__ import annotations

import errno
import logging
import os
import pickle
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.run_folder import atomic_write, columns
from emoray.run_folder.compaction import compact
from emoray.run_folder.errors import Deleted, FileVanished, StoreError
from emoray.run_folder.file_names import Name, Note
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal, merge
from emoray.run_folder.lease import Lease, holder
from emoray.run_folder.locations import opened, without_secrets
from emoray.run_folder.parquet import encoded
from emoray.run_folder.partition import Partition
from emoray.run_folder.probe import check_probe, probe, write_probe
from tests.buckets import bucket
from tests.programs import Start, until
from tests.slow import relay

SMALL = pa.schema(
    [
        ("key", pa.string()),
        ("outcome", pa.string()),
        ("answer", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
    ]
)


def key(n: int) -> str:
    return f"{n:032x}"


def table(*said: tuple[int, str | None]) -> pa.Table:
    """A row per (number, answer); an answer of None is a failure. Each cost a quarter."""
    columns = {
        "key": [key(n) for n, _ in said],
        "outcome": ["timeout" if answer is None else "answer" for _, answer in said],
        "answer": [answer for _, answer in said],
        "prompt_tokens": [10] * len(said),
        "completion_tokens": [None if answer is None else 5 for _, answer in said],
        "cost_usd": [0.25] * len(said),
    }
    return pa.table(columns, schema=SMALL)


def put(part: Partition, stamp: int, *said: tuple[int, str | None], writer: str = "w") -> str:
    name = str(Name(stamp, writer, 0))
    part.write(name, lambda sink: sink.write(encoded(table(*said))))
    return name


def answers(part: Partition) -> dict[int, str | None]:
    read = part.read(["key", "answer"])
    pairs = zip(read["key"].to_pylist(), read["answer"].to_pylist(), strict=True)
    return {int(text, 16): answer for text, answer in pairs}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


@pytest.fixture
def part(folder: RunFolder) -> Partition:
    return Partition(folder, "answers/model_folder=m-m", SMALL)


# ---- the folder


def test_naming_a_run_folder_writes_nothing(folder: RunFolder) -> None:
    assert not folder.exists()
    assert folder.manifest() is None
    assert folder.models() == folder.readers() == []
    assert folder.answers("m").read().num_rows == len(folder.answers("m").settled()) == 0
    assert not Path(folder.uri).exists()


def test_a_new_run_folder_is_its_owners_alone(folder: RunFolder) -> None:
    folder.create()
    folder.create()
    assert stat.S_IMODE(Path(folder.uri).stat().st_mode) == 0o700
    assert folder.exists()


def test_the_manifest_comes_back_and_leaves_no_scraps(folder: RunFolder) -> None:
    folder.write_manifest({"spec": {"states": 12}, "name": "Grüße"})
    folder.write_manifest({"spec": {"states": 13}})
    assert folder.manifest() == {"spec": {"states": 13}}
    assert [path.name for path in Path(folder.uri).iterdir()] == ["run.json"]


def test_a_manifest_in_a_shared_folder_is_its_owners_alone_until_he_says_otherwise(tmp_path: Path) -> None:
    shared, before = tmp_path / "shared", os.umask(0o002)
    try:
        shared.mkdir(mode=0o775)
        folder = RunFolder(str(shared))
        folder.write_manifest({"attempts": []})
        assert stat.S_IMODE((shared / "run.json").stat().st_mode) == 0o600
        (shared / "run.json").chmod(0o664)
        folder.write_manifest({"attempts": [1]})
        assert stat.S_IMODE((shared / "run.json").stat().st_mode) == 0o664
        folder.write_text("lanes.json", "{}")
        assert stat.S_IMODE((shared / "lanes.json").stat().st_mode) == 0o664
    finally:
        os.umask(before)


def test_a_relative_path_is_meant_from_where_one_stood_when_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    for place, kept in (("new", "answers/model_folder=m-a"), ("old", "answers/model=b")):
        (tmp_path / place / "run" / kept).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / place)
        folders.append(RunFolder("run"))
        assert folders[-1].models() == [kept[-1]]
        assert opened("run")[1] == str(tmp_path / place / "run")
    assert [folder.models() for folder in folders] == [["a"], ["b"]]
    assert [folder.answers("x").relative for folder in folders] == ["answers/model_folder=m-x", "answers/model=x"]
    assert folders[1] == RunFolder(str(tmp_path / "old" / "run"))


@pytest.mark.parametrize("text", ["", "{", "[1]", "\0\0\0", "[" * 100_000, '{"name": "\\ud800"}'])
def test_a_broken_manifest_is_said_and_not_guessed_at(folder: RunFolder, text: str) -> None:
    folder.write_text("run.json", text)
    with pytest.raises(StoreError, match=r"run\.json is broken .*put back a good copy"):
        folder.manifest()


@given(st.text(min_size=1, max_size=20))
def test_any_name_of_a_model_is_safe_as_a_folder_name(name: str) -> None:
    folder = RunFolder("/run")
    path = folder.answers(name).path("x")
    assert path.startswith("/run/answers/model_folder=m-")
    assert path.count("=") == 1
    assert path.count("/") == 4


@pytest.mark.parametrize("name", ["org/model:7b", "..", ".", "a=b", "100%", "süß 🤖", "con*?"])
def test_models_and_readers_are_listed_by_their_real_names(folder: RunFolder, name: str) -> None:
    put(Partition(folder, folder.rows(name, name).relative, SMALL), 1, (1, "a"))
    put(Partition(folder, folder.answers(name).relative, SMALL), 1, (1, "a"))
    assert folder.models() == folder.readers() == [name]


@pytest.mark.parametrize("name", ["", "x" * 300])
def test_a_name_that_no_disk_takes_is_refused_in_a_sentence(folder: RunFolder, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be a folder name"):
        folder.answers(name)


@pytest.mark.parametrize("uri", ["nonsense://x", "s3://", "://"])
def test_a_uri_that_names_no_place_is_a_sentence(uri: str) -> None:
    with pytest.raises(StoreError, match="is no place that can be written to"):
        RunFolder(uri).exists()


def test_every_part_of_a_run_is_found(folder: RunFolder) -> None:
    for one in (folder.answers("a/b"), folder.rows("r:1", "a/b"), folder.rows("r:2", "a/b")):
        put(Partition(folder, one.relative, SMALL), 1, (1, "x"))
    parts = folder.parts()
    assert parts == [folder.answers("a/b"), folder.rows("r:1", "a/b"), folder.rows("r:2", "a/b")]


def test_no_sentence_tells_the_secrets_of_a_uri() -> None:
    folder = RunFolder("s3://KEY:SECRET@bucket/run?endpoint_override=127.0.0.1:1&scheme=http")
    assert folder.where("run.json") == "s3://bucket/run/run.json"
    for uri in ("nonsense://KEY:SECRET@bucket/run", "s3://KEY:SEC/RET?SECRET@bucket/run?scheme=http"):
        assert RunFolder(uri).shown.endswith("://bucket/run")
        with pytest.raises(StoreError) as told:
            RunFolder(uri).exists()
        assert "//bucket/run' is no place that can be written to" in str(told.value)
        assert "SEC" not in str(told.value)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("s3://KEY:SECRET@bucket/run?scheme=http", "s3://…@bucket/run?scheme=http"),
        ("abfss://box/run?client_id=a&client_secret=SECRET&tenant_id=b",
         "abfss://box/run?client_id=a&client_secret=…&tenant_id=b"),
        ("s3://AKIA:ab/cd@bucket/run", "s3://…@bucket/run"),
        ("s3://AKIA:a/b/c@bucket/run?scheme=http", "s3://…@bucket/run?scheme=http"),
        ("s3://AKIA:a@b/c?d@bucket/run", "s3://…@bucket/run"),
        ("s3://AKIA@bucket/run", "s3://…@bucket/run"),
        ("s3://bucket/run?endpoint_override=http://KEY:SECRET@x:1", "s3://bucket/run?endpoint_override=http://…@x:1"),
        ("s3://bucket/model:7b/a@b", "s3://bucket/model:7b/a@b"),
        ("file:///home/me@work/run", "file:///home/me@work/run"),
        ("abfss://box/run?sv=1&sig=SECRET%3D", "abfss://box/run?sv=1&sig=…"),
        ("s3://bucket/a@b/run?endpoint_override=http://x:1", "s3://bucket/a@b/run?endpoint_override=http://x:1"),
        ("/a//b@c/run?sig=1", "/a//b@c/run?sig=1"),
    ],
)  # fmt: skip
def test_a_command_that_is_kept_or_shown_has_no_secret_in_its_uri(uri: str, told: str) -> None:
    assert without_secrets(uri) == told


def test_a_run_folder_travels_to_other_processes(part: Partition) -> None:
    put(part, 1, (1, "a"))
    assert answers(pickle.loads(pickle.dumps(part))) == {1: "a"}


def test_a_file_uri_and_its_path_are_the_same_folder(folder: RunFolder, part: Partition) -> None:
    put(part, 1, (1, "a"))
    same = RunFolder(f"file://{folder.uri}")
    assert answers(Partition(same, part.relative, SMALL)) == {1: "a"}


# ---- one row per key


def test_the_first_durable_answer_wins_and_an_answer_wins_over_a_failure(part: Partition) -> None:
    put(part, 1, (1, None), (2, None))
    put(part, 3, (1, "late"), (3, "later"), writer="a")
    put(part, 2, (1, "early"), (1, "again"), writer="b")
    put(part, 4, (1, None), (3, None))
    assert answers(part) == {1: "early", 2: None, 3: "later"}
    assert part.settled().keys() == [key(1), key(3)]


def test_of_failures_the_last_one_is_told(part: Partition) -> None:
    put(part, 1, (1, None))
    last = table((1, None)).set_column(1, "outcome", pa.array(["auth"]))
    part.write(str(Name(2, "w", 0)), lambda sink: sink.write(encoded(last)))
    assert part.counts().failed == {"auth": 1}


def test_counts_tell_answers_failures_spare_copies_and_all_the_money(part: Partition) -> None:
    put(part, 1, (1, "a"), (2, None), (3, "c"))
    put(part, 2, (1, "again"), (2, None), (4, None))
    counts = part.counts()
    assert (counts.answered, counts.failed, counts.spare) == (2, {"timeout": 2}, 1)
    assert (counts.prompt_tokens, counts.completion_tokens, counts.cost_usd) == (60, 15, 1.5)
    assert counts.files == 2
    assert counts.last_write is not None
    assert counts.last_write.tzinfo is not None


def test_an_answer_that_no_reader_could_read_is_owed_to_the_reader(folder: RunFolder) -> None:
    schema = pa.schema([*SMALL, ("read_error", pa.string())])
    read = Partition(folder, "rows/reader_folder=r-r/model_folder=m-m", schema)
    for stamp, errors in ((1, ["no JSON", None]), (2, [None, None])):
        said = table((1, f"a{stamp}"), (2, f"b{stamp}")).append_column("read_error", pa.array(errors, pa.string()))
        read.write(str(Name(stamp, "w", 0)), lambda sink, said=said: sink.write(encoded(said)))  # type: ignore[misc]
        if stamp == 1:
            assert read.settled().keys() == [key(2)]
            assert read.counts().failed == {"unread": 1}
    assert answers(read) == {1: "a2", 2: "b1"}


def test_tables_come_in_batches_and_hold_each_key_once(part: Partition) -> None:
    for stamp in range(10):
        put(part, stamp, *((n, f"{stamp}") for n in range(stamp, stamp + 5)))
    tables = list(part.tables(["key"], batch_rows=4))
    keys = [text for some in tables for text in some["key"].to_pylist()]
    assert sorted(keys) == [key(n) for n in range(14)]
    assert max(map(len, tables)) <= 8


def test_only_the_columns_asked_for_are_read(part: Partition) -> None:
    put(part, 1, (2, "b"), (1, "a"))
    assert part.read(["answer"]).to_pydict() == {"answer": ["a", "b"]}
    assert part.read(["cost_usd", "key"]).column_names == ["cost_usd", "key"]


def test_a_column_that_an_older_file_lacks_is_null(folder: RunFolder, part: Partition) -> None:
    put(part, 1, (1, "a"))
    wider = Partition(folder, part.relative, pa.schema([*SMALL, ("reasoning", pa.string())]))
    assert wider.read(["key", "reasoning"]).to_pydict() == {"key": [key(1)], "reasoning": [None]}


def test_a_file_that_replaces_others_silences_them_at_once(part: Partition) -> None:
    old = put(part, 1, (1, "a"), (2, None))
    note = Note(replaces=(old,))
    part.write(str(Name(5, "0abc", -1)), lambda sink: sink.write(encoded(table((1, "a"), (2, None)), note)))
    assert (part.counts().spare, part.counts().files) == (0, 1)
    part.repair()
    assert part.files() == [str(Name(5, "0abc", -1))]


def test_a_reader_loses_nothing_when_files_are_merged_under_its_eyes(part: Partition) -> None:
    names = [Name.of(put(part, stamp, (stamp, "a"), (stamp + 1, "b"))) for stamp in range(10)]
    reading = part.tables(batch_rows=1)
    seen = next(reading)["key"].to_pylist()
    merge(part, names)
    compact(part)
    for some in reading:
        seen += some["key"].to_pylist()
    assert sorted(seen) == [key(n) for n in range(11)]


def test_a_reader_goes_on_however_often_files_are_merged_under_its_eyes(part: Partition) -> None:
    names = [Name.of(put(part, stamp, (stamp, "a"))) for stamp in range(101)]
    seen: list[str] = []
    for some in part.tables(batch_rows=1):
        seen += some["key"].to_pylist()
        if len(seen) % 2 and len(seen) < 101:  # all that was merged before has been read
            merge(part, names[len(seen) : len(seen) + 2])
    assert seen == [key(n) for n in range(101)]


@pytest.mark.parametrize("read", [Partition.settled, Partition.census])
def test_the_keys_of_a_file_are_read_once_however_often_another_is_gone(
    part: Partition, read: Callable[[Partition], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = [put(part, stamp, (stamp, "a")) for stamp in range(5)][-1]
    reads, keys_of = Counter[str](), Partition._keys

    def restless(part: Partition, info: Any, *, spent: bool) -> Any:
        reads[info.base_name] += 1
        if info.base_name == newest and reads[newest] < 15:
            raise FileVanished(newest)
        return keys_of(part, info, spent=spent)

    monkeypatch.setattr(Partition, "_keys", restless)
    read(part)
    assert sorted(reads.values()) == [1, 1, 1, 1, 15]


def test_plain_parquet_readers_see_the_answers_and_no_scraps(folder: RunFolder, part: Partition) -> None:
    put(part, 1, (1, "a"))
    (Path(part.path("")) / ".half.parquet.tmp-1").write_bytes(b"half")
    (Path(part.path("")) / "_note.parquet").write_bytes(b"half")
    (Path(part.path("")) / "_old.parquet.torn").write_bytes(b"half")  # as they were once set aside
    seen = pq.read_table(folder.path("answers"))
    assert seen.column("key").to_pylist() == [key(1)]
    assert answers(part) == {1: "a"}


# ---- what breaks


def whole_bytes() -> bytes:
    return encoded(table((7, "seven"), (8, "eight")))


def foreign_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"price": [1.0]}), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


BROKEN = {
    "empty": b"",
    "cut": whole_bytes()[:-40],
    "cut_in_front": whole_bytes()[100:],
    "no_parquet": b"This is a text that somebody put here.\n" * 10,
    "foreign": foreign_bytes(),
    "zeros": bytes(4096),
    "another_type": encoded(table((7, "x")).set_column(1, "outcome", pa.array([{"a": [1]}]))),
    "no_note": encoded(table((7, "x")).replace_schema_metadata(), None).replace(b"emoray.schema", b"emoray.schemb"),
    "no_key": encoded(table((7, "x")).set_column(0, "key", pa.array(["short"]))),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_torn_file_is_set_aside_and_its_cells_are_owed_again(
    folder: RunFolder, part: Partition, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(part, 1, (1, "a"))
    name = str(Name(2, "w", 0))
    part.write(name, lambda sink: sink.write(BROKEN[kind]))
    with caplog.at_level(logging.WARNING):
        assert part.settled().keys() == [key(1)]
    assert name in caplog.text
    assert "owed again" in caplog.text
    assert answers(part) == {1: "a"}
    assert part.counts().torn == 1
    assert name in part.files(), "reading touches nothing"
    assert part.repair() == [name]
    assert Path(folder.path(f"torn/{part.relative}/{name}")).read_bytes() == BROKEN[kind]
    assert part.counts().torn == 0


@given(st.data())
def test_no_cut_and_no_flipped_byte_ever_crashes_a_reader_or_invents_an_answer(data: st.DataObject) -> None:
    whole = bytearray(whole_bytes())
    if data.draw(st.booleans(), label="cut"):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    scratch = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
    root = scratch / f"emoray-test-{os.getpid()}"
    part = Partition(RunFolder(str(root)), "answers/model_folder=m-m", SMALL)
    try:
        part.write(str(Name(1, "w", 0)), lambda sink: sink.write(bytes(whole)))
        logging.disable(logging.WARNING)
        assert set(answers(part).items()) <= {(7, "seven"), (8, "eight")}
        part.settled(), part.counts()
    except StoreError as wrong:
        if "schema version" not in str(wrong):  # where the flipped byte was in the version it may be refused
            raise
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(root)


def test_a_corrupt_answer_deep_inside_is_found_by_its_checksum(part: Partition) -> None:
    put(part, 1, (1, "a"))
    name = put(part, 2, (1, "copy"), (7, "seventy-seven times"))
    path = Path(part.path(name))
    data = path.read_bytes()
    spot = data.index(b"seventy")
    path.write_bytes(data[:spot] + b"nighty " + data[spot + 7 :])
    assert answers(part) == {1: "a"}
    compact(part)
    assert part.settled().keys() == [key(1)]
    assert Path(part.folder.path(f"torn/{part.relative}/{name}")).exists()


@pytest.mark.parametrize("version", ["0", "3", "next"])
def test_a_file_of_another_schema_version_is_refused_and_never_guessed_at(
    part: Partition, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(columns, "SCHEMA_VERSION", version)
        name = put(part, 1, (1, "a"))
    for read in (part.settled, part.read, part.counts, part.repair, lambda: compact(part)):
        with pytest.raises(StoreError, match=rf"{name} has schema version '{version}'.*use the emoray that wrote it"):
            read()


def test_a_folder_half_deleted_owes_what_is_gone_and_keeps_the_rest(folder: RunFolder, part: Partition) -> None:
    other = Partition(folder, "answers/model_folder=m-other", SMALL)
    for one in (part, other):
        put(one, 1, (1, "a"))
        put(one, 2, (2, "b"))
    shutil.rmtree(other.path(""))
    Path(part.path(part.files()[0])).unlink()
    assert (folder.models(), folder.manifest()) == (["m"], None)
    assert (answers(part), answers(other)) == ({2: "b"}, {})
    put(other, 3, (3, "c"))
    assert answers(other) == {3: "c"}


def test_temporary_files_of_the_dead_are_swept_and_those_of_the_living_are_not(part: Partition) -> None:
    put(part, 1, (1, "a"))
    old, new = (Path(part.path(f".x.parquet.tmp-{n}")) for n in range(2))
    for path, mtime in ((old, 1_000), (new, 10_000)):
        path.write_bytes(b"half")
        os.utime(path, (mtime, mtime))
    part.repair(now_ns=int(10_001e9))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_file_that_somebody_renamed_still_counts(part: Partition) -> None:
    path = Path(part.path(put(part, 1, (1, "a"))))
    path.rename(path.with_name("copied by hand.parquet"))
    put(part, 2, (2, "b"))
    Path(part.path(part.files()[0])).rename(path.with_name("99999999T999999.999999-w-0.parquet"))
    assert answers(part) == {1: "a", 2: "b"}
    assert compact(part).rows == 2


def test_a_disk_that_fails_is_no_torn_file_and_nothing_is_owed_for_it(part: Partition) -> None:
    put(part, 1, (1, "a"))
    broken = Path(part.path(str(Name(2, "w", 0))))
    broken.symlink_to("/proc/self/mem")  # reading its first byte is an I/O error
    for read in (part.settled, part.counts, part.repair):
        with pytest.raises(StoreError, match=rf"cannot read .*{broken.name}"):
            read()
    assert broken.is_symlink()


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_small_file_is_read_again_before_it_cannot_be_read(
    failures: int, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_text("a.json", "{}")
    left, read = [None] * failures, RunFolder._is_empty

    def failing(folder: RunFolder, relative: str) -> bool:
        if left:
            left.pop()
            raise OSError(errno.EIO, "Failed to flush response stream")
        return read(folder, relative)

    monkeypatch.setattr(RunFolder, "_is_empty", failing)
    if failures < 3:
        assert folder.read_bytes("a.json") == b"{}"
    else:
        with pytest.raises(StoreError, match=r"cannot read .*a\.json: .*Failed to flush response stream"):
            folder.read_bytes("a.json")
    assert folder.read_bytes("b.json") is None


@pytest.mark.parametrize("blip", ["error", "cut"])
@pytest.mark.parametrize("read", [Partition.settled, Partition.read, Partition.counts, Partition.repair, compact])
def test_a_read_that_fails_once_moves_nothing_and_nothing_is_owed_for_it(
    part: Partition, read: Callable[[Partition], object], blip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(part, 1, *((n, "a") for n in range(30)))
    compact(part)
    files, failures, source = part.files(), [1], Partition._source

    def failing(part: Partition, info: Any) -> Any:
        if not failures:
            return source(part, info)
        failures.clear()
        if blip == "error":
            raise OSError("connection reset")
        return pa.BufferReader(source(part, info).read()[:-50])

    monkeypatch.setattr(Partition, "_source", failing)
    read(part)
    assert not failures
    assert part.files() == files
    assert len(part.settled()) == len(answers(part)) == 30


def test_a_store_that_fails_again_and_again_is_a_sentence_and_no_torn_file(
    part: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(part, 1, (1, "a"))
    files = part.files()

    def failing(part: Partition, info: Any) -> Any:
        raise OSError("connection reset")

    monkeypatch.setattr(Partition, "_source", failing)
    for read in (part.settled, part.read, part.counts, part.repair):
        with pytest.raises(StoreError, match="changed or failed 20 times while they were read"):
            read()
    assert part.files() == files


def test_every_new_folder_on_the_way_to_a_file_outlives_a_power_cut(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic_write, "_sync_folder", synced.append)
    folder.write_text("answers/model_folder=m-m/a.txt", "a")
    root = Path(folder.uri)
    assert {root.parent, root, root / "answers", root / "answers/model_folder=m-m"} == set(synced)


def test_the_folders_above_a_new_run_outlive_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic_write, "_sync_folder", synced.append)
    RunFolder(str(tmp_path / "runs/may/run")).create()
    assert set(synced) == {tmp_path, tmp_path / "runs", tmp_path / "runs/may"}


def test_a_folder_that_somebody_else_has_made_is_made_sure_of_once(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it may have died before that was durable, or be about to do it."""
    part, root = Path(folder.path("answers/model_folder=m-m")), Path(folder.uri)
    part.mkdir(parents=True)
    synced: list[Path] = []
    monkeypatch.setattr(atomic_write, "_sync_folder", synced.append)
    folder.write_text("answers/model_folder=m-m/a.txt", "a")
    assert set(synced) == {root.parent, root, root / "answers", part}
    synced.clear()
    folder.write_text("answers/model_folder=m-m/b.txt", "b")
    assert synced == [part]


def test_of_a_run_on_a_disk_of_its_own_what_lies_above_that_is_nobodys_business(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic_write, "_sync_folder", synced.append)
    folder = RunFolder(str(small_disk))
    folder.create()
    folder.write_text("answers/a.txt", "a")
    assert set(synced) == {small_disk, small_disk / "answers"}


# ---- before anything is asked


def test_a_good_folder_passes_the_probe_and_keeps_no_trace(folder: RunFolder) -> None:
    probe(folder, need_mb=0)
    assert list(Path(folder.uri).iterdir()) == []


def test_a_full_disk_is_found_before_anything_is_asked(small_disk: Path) -> None:
    with pytest.raises(StoreError, match=r"only 0 MB are free at .*256 MB are needed: free some"):
        probe(RunFolder(str(small_disk / "run")))


def test_a_read_only_folder_is_found_before_anything_is_asked_and_can_still_be_read(small_disk: Path) -> None:
    folder = RunFolder(str(small_disk / "run"))
    part = Partition(folder, "answers/model_folder=m-m", SMALL)
    put(part, 1, (1, "a"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match=r"no permission to write .*choose another run folder"):
        probe(folder, need_mb=0)
    with pytest.raises(StoreError, match="no permission to write"):
        folder.write_manifest({})
    assert part.counts().answered == 1


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that this user may read, and not write to. Root, who may write everywhere, is nobody meanwhile."""
    with tempfile.TemporaryDirectory(prefix="emoray-test-") as name:
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(65_534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o700)


def test_a_folder_of_another_user_is_found_before_anything_is_asked(readable: Path) -> None:
    with pytest.raises(StoreError, match="no permission to create"):
        probe(RunFolder(str(readable / "run")))
    assert list(readable.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("I was here first")
    with pytest.raises(StoreError, match="cannot create"):
        probe(RunFolder(str(tmp_path / "run")))


def test_a_node_that_sees_another_folder_is_named(folder: RunFolder, tmp_path: Path) -> None:
    folder.create()
    mark = write_probe(folder)
    assert check_probe(folder, mark, node="n1") is None
    elsewhere = RunFolder(str(tmp_path / "elsewhere"))
    complaint = check_probe(elsewhere, mark, node="n2")
    assert complaint is not None
    assert complaint.startswith("node n2 does not see")
    folder.delete(mark)
    assert list(Path(folder.uri).iterdir()) == []


# ---- the same on an object store


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with bucket("secret") as uri:
        yield uri


def test_a_run_lives_on_an_object_store(s3: str) -> None:
    folder = RunFolder(s3 % "life")
    probe(folder)
    folder.write_manifest({"a": 1})
    part = Partition(folder, folder.answers("org/m:7b").relative, SMALL)
    with Journal(part, "actor", schema=SMALL, merge_files=4) as journal:
        for n in range(10):
            journal.append(table((n, "a"), (n // 2, "b"))).result(60)
    assert len(part.files()) <= 5
    assert len(part.settled()) == 10
    assert compact(part).rows == 10
    assert len(part.files()) == 1
    assert (part.counts().answered, part.counts().spare) == (10, 10)
    assert (folder.models(), folder.manifest(), folder.exists()) == (["org/m:7b"], {"a": 1}, True)
    assert len(pickle.loads(pickle.dumps(part)).settled()) == 10


def test_a_torn_object_is_set_aside_too(s3: str) -> None:
    part = Partition(RunFolder(s3 % "torn"), "answers/model_folder=m-m", SMALL)
    put(part, 1, (1, "a"))
    name = str(Name(2, "w", 0))
    part.write(name, lambda sink: sink.write(whole_bytes()[:-30]))
    assert part.settled().keys() == [key(1)]
    assert part.repair() == [name]
    assert part.counts().torn == 0
    assert part.folder.read_bytes(f"torn/{part.relative}/{name}") == whole_bytes()[:-30]


def test_objects_merged_under_a_readers_eyes_lose_nothing(s3: str) -> None:
    part = Partition(RunFolder(s3 % "eyes"), "answers/model_folder=m-m", SMALL)
    names = [Name.of(put(part, stamp, (stamp, "a"))) for stamp in range(5)]
    reading = part.tables(batch_rows=1)
    seen = next(reading)["key"].to_pylist()
    merge(part, names)
    seen += [text for some in reading for text in some["key"].to_pylist()]
    assert sorted(seen) == [key(n) for n in range(5)]


def test_large_objects_are_read_by_ranges(s3: str) -> None:
    part = Partition(RunFolder(s3 % "large"), "answers/model_folder=m-m", SMALL)
    said = table(*((n, os.urandom(600).hex()) for n in range(20_000)))
    part.write(str(Name(1, "w", 0)), lambda sink: sink.write(encoded(said)))
    assert part.counts().size_bytes > 8 << 20
    assert part.read().equals(said)


def test_what_is_too_large_for_memory_is_put_from_disk(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(s3 % "spooled")
    monkeypatch.setattr(atomic_write, "SPOOLED", 1000)
    for size in (0, 999, 1000, 1001, 20_000):
        data = os.urandom(size)
        folder.write_bytes("x", data)
        assert folder.read_bytes("x") == data


class Interrupted:
    """A filesystem on which somebody presses Ctrl-C after the first piece of an object was written."""

    def __init__(self, fs: Any) -> None:
        self._fs, self.type_name = fs, fs.type_name

    @contextmanager
    def open_output_stream(self, path: str, **how: Any) -> Iterator[Interrupted]:
        with self._fs.open_output_stream(path, **how) as self._stream:
            yield self

    def write(self, data: Any) -> None:
        self._stream.write(data)
        raise KeyboardInterrupt


def test_an_object_is_whole_also_where_its_writer_was_interrupted(s3: str) -> None:
    folder = RunFolder(s3 % "interrupted")
    old, new = bytes(100), os.urandom(9 << 20)
    folder.write_bytes("x", old)
    with pytest.raises(KeyboardInterrupt):
        atomic_write.put(Interrupted(folder.fs), folder.path("x"), lambda sink: sink.write(new))
    assert folder.read_bytes("x") in (old, new)


WRITES_FOR_EVER = """
import signal, sys
from emoray.run_folder.folder import RunFolder

def interrupted(*_):
    raise KeyboardInterrupt

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, interrupted)
folder, told = RunFolder(sys.argv[1]), 0
while True:
    try:
        while True:
            told += 1
            folder.write_manifest({"told": told, "spec": "x" * 5000})
    except KeyboardInterrupt:
        pass
"""


def test_a_manifest_on_a_slow_object_store_is_whole_whenever_its_writer_is_interrupted(s3: str, start: Start) -> None:
    folder, told = RunFolder(s3 % "signals"), 0
    port = int(re.findall(r":(\d+)&", s3)[0])
    with relay(port, delay_s=0.01) as slow:
        writing = start(
            [sys.executable, "-c", WRITES_FOR_EVER, folder.uri.replace(f"0.0.0.0:{port}", f"127.0.0.1:{slow}")]
        )
        until(lambda: folder.read_bytes("run.json") is not None, writing)
        for number in [signal.SIGINT, signal.SIGTERM] * 15:
            writing.send_signal(number)
            until(lambda: (folder.manifest() or {})["told"] > told, writing, every_s=0.02)  # noqa: B023
            told = (folder.manifest() or {})["told"]
        writing.kill()
        writing.wait()
    assert (folder.manifest() or {})["told"] >= told


def test_what_cannot_be_spooled_completes_no_object(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(spool: Any) -> bytes:
        raise OSError(errno.ENOSPC, "no space left on device")

    folder = RunFolder(s3 % "spool")
    folder.write_text("x", "old")
    monkeypatch.setattr(atomic_write, "_whole", full)
    with pytest.raises(StoreError, match="no space left to write"):
        folder.write_text("x", "new")
    assert folder.read_bytes("x") == b"old"


def test_a_lease_holds_on_an_object_store(s3: str) -> None:
    folder = RunFolder(s3 % "lease")
    with Lease(folder, settle_s=0):
        assert holder(folder, now=0) is not None
        with pytest.raises(StoreError, match="is being written by"):
            Lease(folder, settle_s=0).take()
    assert holder(folder, now=0) is None
    with Lease(folder, settle_s=0):
        pass


def test_an_object_store_that_cannot_be_reached_is_a_sentence_and_no_torn_file(s3: str) -> None:
    missing = RunFolder((s3 % "x").replace("@bucket", "@no-such-bucket").replace("allow_bucket_creation=true", ""))
    with pytest.raises(StoreError, match="cannot write"):
        missing.write_text("a", "b")


def test_a_disk_that_does_not_answer_has_not_lost_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(str(tmp_path), begun=True)
    monkeypatch.setattr(os, "lstat", _out_of_reach)
    folder.check_there()
    monkeypatch.undo()
    with pytest.raises(Deleted):
        RunFolder(str(tmp_path / "gone"), begun=True).check_there()


def test_a_folder_that_another_makes_while_it_is_listed_is_listed(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Racing:
        """Another process makes the folder after pyarrow failed to open it, and before it asks whether it is there."""

        def get_file_info(self, selector: Any) -> Any:
            monkeypatch.undo()
            folder.write_text("_lease/a.json", "{}")
            raise FileNotFoundError(errno.ENOENT, f"Cannot list directory '{selector.base_dir}'")

    monkeypatch.setattr(RunFolder, "fs", Racing())
    assert [info.base_name for info in folder.infos("_lease")] == ["a.json"]


def _out_of_reach(path: object) -> None:
    raise OSError(errno.ESTALE, "stale file handle", str(path))
