"""RUN/answers and RUN/rows as others read them: by their plain calls, whatever models and readers are called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from emoray.run_folder import columns
from emoray.run_folder.compaction import compact
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.run_folder.partition import Partition
from tests.report.synthetic import Run, run

MODELS = (
    "4", "007", "2024-01-01", "2024-01-01 12:00:00", "true", "NULL", "null", "nan", "1e5", "0x1F", "-1", "1_000", "m",
    "__HIVE_DEFAULT_PARTITION__", "_hidden", ".dotted", "..", "a/b", "a b", "x=y", "model=4", "%41", "A", "*", "a,b",
    "Émile", unicodedata.normalize("NFD", "Émile"), "北京", "[a]", "it's \"so\"", "a\\b", "c:d", "e#f?g&h",
)  # fmt: skip
READERS = ("7", "2024-01-01", "x=y z")
Told = list[tuple[str | None, ...]]  # of every row: reader, model, key, outcome, answer


@pytest.fixture(scope="module")
def made() -> Run:
    return run(dict.fromkeys(MODELS, 0.5), readers=READERS, states=2, questions=2, repetitions=1, failures=0.2)


@pytest.fixture(scope="module")
def ended(made: Run, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A folder in which a run has ended; of each kind of thing that may be left there is one."""
    folder = RunFolder(str(tmp_path_factory.mktemp("plain") / "run"))
    for model, table in made.said.items():
        write(folder.answers(model), table)
    for (reader, model), table in made.felt.items():
        write(folder.rows(reader, model), table)
    Path(folder.answers("4").path("20260101T000000.000000-w-0.parquet")).write_bytes(b"torn")
    for part in folder.parts():
        compact(part)
    return folder


def write(part: Partition, table: pa.Table) -> None:
    with Journal(part, "actor", schema=table.schema) as journal:
        for some in (table.slice(0, 1), table.slice(1)):
            journal.append(some)
            journal.flush()


def expected(tables: dict[Any, pa.Table], names: tuple[str, ...]) -> Told:
    return told([row for table in tables.values() for row in table.select(list(names)).to_pylist()], names)


def told(found: list[dict[str, Any]], names: tuple[str, ...]) -> Told:
    """In one order; of another type than a text, or with a name too few, nothing is equal."""
    absent = [[name, *row] for row in found for name in names if name not in row]
    assert not absent
    values = [tuple(None if row[name] != row[name] else row[name] for name in names) for row in found]  # NaN is none
    return sorted(values, key=repr)


def pandas(path: str, **how: Any) -> list[dict[str, Any]]:
    read: Any = pd.read_parquet(path, **how)
    return list(read.to_dict("records"))


def polars(path: str, **how: Any) -> list[dict[str, Any]]:
    read = pytest.importorskip("polars").scan_parquet(path, **how).collect()
    return list(read.to_dicts())


def duckdb(path: str, how: str = "") -> list[dict[str, Any]]:
    found = pytest.importorskip("duckdb").sql(f"select * from read_parquet('{path}'{how})")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


CALLS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "pandas": pandas,
    "pyarrow": lambda path: pq.read_table(path).to_pylist(),
    "pyarrow, a dataset": lambda path: ds.dataset(path).to_table().to_pylist(),
    "pyarrow, a hive dataset": lambda path: ds.dataset(path, partitioning="hive").to_table().to_pylist(),
    "polars": polars,
    "polars, hive": lambda path: polars(path, hive_partitioning=True),
    "polars, no hive": lambda path: polars(path, hive_partitioning=False),
    "polars, a glob": lambda path: polars(f"{path}/**/*.parquet"),
    "polars, a hive glob": lambda path: polars(f"{path}/**/*.parquet", hive_partitioning=True),
    "duckdb": lambda path: duckdb(f"{path}/**/*.parquet"),
    "duckdb, hive": lambda path: duckdb(f"{path}/**/*.parquet", ", hive_partitioning = true"),
    "duckdb, no hive": lambda path: duckdb(f"{path}/**/*.parquet", ", hive_partitioning = false"),
    "duckdb, by name": lambda path: duckdb(f"{path}/**/*.parquet", ", union_by_name = true"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_plain_call_reads_the_answers_of_all_models_by_their_names(call: str, ended: RunFolder, made: Run) -> None:
    names = ("model", "key", "outcome", "answer")
    assert told(CALLS[call](ended.path("answers")), names) == expected(made.said, names)


@pytest.mark.parametrize("call", CALLS)
def test_a_plain_call_reads_the_rows_of_all_readers_by_their_names(call: str, ended: RunFolder, made: Run) -> None:
    names = ("reader", "model", "key", "outcome", "label")
    assert told(CALLS[call](ended.path("rows")), names) == expected(made.felt, names)


def test_we_read_them_by_their_names_too(ended: RunFolder, made: Run) -> None:
    assert set(ended.models()) == set(MODELS)
    assert set(ended.readers()) == set(READERS)
    names = ("model", "key", "outcome", "answer")
    read = {model: ended.answers(model).read(list(names)) for model in MODELS}
    assert expected(read, names) == expected(made.said, names)


# ---- Spark, by its rules (PartitioningAwareFileIndex and PartitioningUtils of Spark 3 and 4)


def spark(root: Path) -> tuple[list[Path], dict[str, set[str]]]:
    """The files that `spark.read.parquet(root)` reads, and the raw values of each partition column that it adds.

    It looks at all files below the root but those that begin with `_` (and hold no `=`) or with `.`. Where no folder is
    called `column=value`, only the files in the root itself are read. Else every folder with files must lie below the
    same one by the same columns.
    """
    files = [path for path in root.rglob("*") if path.is_file() and not _hidden(path)]
    assert not [path for path in files if any(map(_hidden, path.relative_to(root).parents[:-1]))]
    columns = {file.parent: [part.partition("=")[::2] for part in file.relative_to(root).parts[:-1]] for file in files}
    if not any("=" in part for folder in columns for part in folder.relative_to(root).parts):
        return [file for file in files if file.parent == root], {}
    assert len({tuple(name for name, _ in one) for one in columns.values()}) == 1
    values: dict[str, set[str]] = {}
    for name, value in (pair for one in columns.values() for pair in one):
        assert name
        assert value
        values.setdefault(name, set()).add(unquote(value))
    return files, values


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or (path.name.startswith("_") and "=" not in path.name)


# what Spark, Polars and DuckDB take for a number, a date, a truth or nothing; Java reads 4d and 0x1p3 as numbers
_NO_TEXT = re.compile(
    r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?[dDfFlL]?|0[xX].*|\d{4}-\d{1,2}-\d{1,2}.*|true|false|null|nan|"
    r"[-+]?inf(inity)?|__HIVE_DEFAULT_PARTITION__|",
    re.IGNORECASE,
)


@pytest.mark.parametrize("place", ["answers", "rows"])
def test_spark_reads_every_file_and_takes_no_column_of_ours_from_a_path(ended: RunFolder, place: str) -> None:
    files, columns = spark(Path(ended.path(place)))
    assert sorted(files) == sorted(Path(ended.path(place)).rglob("*.parquet"))
    assert {file.suffix for file in files} == {".parquet"}
    assert set(columns).isdisjoint(pq.read_schema(files[0]).names)
    assert not [value for values in columns.values() for value in values if _NO_TEXT.fullmatch(value)]
    assert len({pq.read_schema(file).remove_metadata() for file in files}) == 1  # Spark reads one and believes it


def test_spark_would_read_nothing_of_folders_that_are_no_partitions_and_a_number_of_007(tmp_path: Path) -> None:
    """Why the folders are called as they are."""
    for name in ("model=007", "plain"):
        place = tmp_path / name / (name if name == "plain" else "x=1")
        place.mkdir(parents=True)
        (place / "a.parquet").touch()
    assert spark(tmp_path / "plain") == ([], {})
    assert _NO_TEXT.fullmatch("007")


# ---- folders from before


@pytest.fixture
def old(tmp_path: Path, made: Run) -> RunFolder:
    """As emoray once called its folders."""
    folder = RunFolder(str(tmp_path / "old"))
    write(Partition(folder, "answers/model=a%2Fb", columns.ANSWERS), made.said["a/b"].slice(0, 2))
    return folder


def test_an_old_folder_is_read_and_goes_on_under_its_own_names(old: RunFolder, made: Run) -> None:
    assert old.models() == ["a/b"]
    part = old.answers("a/b")
    write(part, made.said["a/b"].slice(2))
    write(old.answers("4"), made.said["4"])
    write(old.rows("7", "a/b"), made.felt["7", "a/b"])
    places = {path.parent.relative_to(old.uri).as_posix() for path in Path(old.uri).rglob("*.parquet")}
    assert places == {"answers/model=a%2Fb", "answers/model=4", "rows/reader=7/model=a%2Fb"}
    assert sorted(part.read()["key"].to_pylist()) == sorted(made.said["a/b"]["key"].to_pylist())
    assert (old.models(), old.readers()) == (["4", "a/b"], ["7"])
    assert [compact(part).rows for part in old.parts()] == [4, 4, 4]


OLD_CALLS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "pandas": lambda path: pandas(path, partitioning=None),
    **{call: CALLS[call] for call in ("pyarrow, a dataset", "polars, no hive", "duckdb, no hive")},
}


@pytest.mark.parametrize("call", OLD_CALLS)
def test_others_read_an_old_folder_by_its_columns_where_they_look_for_no_partitions(
    call: str, old: RunFolder, made: Run
) -> None:
    write(old.rows("7", "007"), made.felt["7", "007"])
    names = ("reader", "model", "key", "outcome", "label")
    assert told(OLD_CALLS[call](old.path("rows")), names) == expected({0: made.felt["7", "007"]}, names)


def test_an_old_folder_that_was_first_seen_empty_is_known_once_it_is_there(tmp_path: Path, made: Run) -> None:
    folder = RunFolder(str(tmp_path / "copied later"))
    assert folder.models() == []
    write(Partition(folder, "rows/reader=7/model=4", columns.SCORED), made.felt["7", "4"])
    assert folder.rows("7", "4").relative == "rows/reader=7/model=4"
    assert folder.answers("4").relative == "answers/model=4"


def test_a_folder_of_two_versions_is_refused_and_not_half_read(old: RunFolder, made: Run) -> None:
    write(Partition(old, "answers/model_folder=m-4", columns.ANSWERS), made.said["4"])
    with pytest.raises(StoreError, match=r"holds folders of two versions of emoray.*keep either here"):
        old.models()
    with pytest.raises(StoreError, match="two versions"):
        old.answers("4")
