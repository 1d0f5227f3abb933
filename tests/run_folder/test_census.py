"""Which rows of many files count, and what all of them cost: held against plain Python over the rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.run_folder.census import Census, Keys, KeySet, Spent, hexes, owed_rows, split_keys
from emoray.run_folder.file_names import Note

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("outcome", pa.string()),
        ("read_error", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("read_cost_usd", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Row:
    n: int  # of its key
    outcome: str | None = "answer"
    unread: bool = False
    when: int = 0
    tokens: int | None = 1

    @property
    def key(self) -> str:
        return f"{self.n // 3:016x}{self.n:016x}"  # three share their first 64 bits

    @property
    def good(self) -> bool:
        return self.outcome == "answer" and not self.unread

    @property
    def kind(self) -> str:
        return "unread" if self.outcome == "answer" and self.unread else self.outcome or "unknown"


def batch(rows: Sequence[Row]) -> pa.RecordBatch:
    columns = [
        [row.key for row in rows],
        [row.outcome for row in rows],
        ["no JSON" if row.unread else None for row in rows],
        [row.tokens for row in rows],
        [2 * row.tokens if row.tokens is not None else None for row in rows],
        [0.5 for _ in rows],
        [0.25 if row.unread else None for row in rows],
    ]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def keys_of(rows: Sequence[Row], *, parts: int = 1, dropped: Spent | None = None, replaces: Sequence[str] = ()) -> Keys:
    when = np.array([row.when for row in rows], dtype=np.int64)
    size = -(-len(rows) // parts) or 1
    batches = [batch(rows[at : at + size]) for at in range(0, len(rows), size)]
    return Keys.of(batches, when=when, replaces=replaces, dropped=dropped or Spent())


def spent_by(rows: Sequence[Row]) -> Spent:
    tokens = sum(row.tokens or 0 for row in rows)
    return Spent(0, tokens, 2 * tokens, 0.5 * len(rows), 0.25 * sum(row.unread for row in rows))


ROWS = st.lists(
    st.builds(
        Row,
        st.integers(0, 8),
        st.sampled_from(["answer", "answer", "timeout", "empty", None]),
        st.booleans(),
        st.integers(-2, 2),
        st.none() | st.integers(0, 9),
    ),
    max_size=12,
)
FILES = st.dictionaries(st.sampled_from("abcd"), ROWS)


def census(files: dict[str, list[Row]]) -> Census:
    return Census.of({name: keys_of(rows) for name, rows in files.items()}, torn=["t"], replaced=["r"])


def counting(rows: Sequence[Row]) -> list[int]:
    """The places of the rows that count, in the order of their keys."""
    found = []
    for key in sorted({row.key for row in rows}):
        places = [place for place, row in enumerate(rows) if row.key == key]
        good = [place for place in places if rows[place].good]
        in_time = sorted(good or places, key=lambda place: (rows[place].when, place))
        found.append(in_time[0] if good else in_time[-1])
    return found


# ── one file ──


@given(ROWS, st.integers(1, 4))
def test_a_file_tells_of_each_row_its_key_its_kind_and_whether_it_settles_it(rows: list[Row], parts: int) -> None:
    found = keys_of(rows, parts=parts)
    assert hexes(found.high, found.low) == [row.key for row in rows]
    assert found.good.tolist() == [row.good for row in rows]
    assert [found.kinds[code] for code in found.outcome] == [row.kind for row in rows]
    assert found.kinds[0] == "answer"
    assert len(set(found.kinds)) == len(found.kinds)
    assert found.spent == spent_by(rows)


def test_a_file_tells_what_it_replaces_and_what_was_spent_on_rows_that_it_leaves_out() -> None:
    dropped = Spent(3, 10, 20, 0.5, 0.25)
    found = keys_of([Row(1, tokens=4)], replaces=["old-1", "old-2"], dropped=dropped)
    assert found.replaces == ("old-1", "old-2")
    assert found.spent == Spent(3, 14, 28, 1.0, 0.25)


def test_a_file_without_the_columns_of_readers_has_answers_and_cost_nothing_there() -> None:
    said = batch([Row(1), Row(2, "timeout")]).drop_columns(["read_error", "read_cost_usd", "completion_tokens"])
    found = Keys.of([said], when=np.zeros(2, dtype=np.int64), replaces=(), dropped=Spent())
    assert found.good.tolist() == [True, False]
    assert found.spent == Spent(0, 2, 0, 1.0, 0.0)


def test_a_file_whose_rows_have_not_each_a_time_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^2 rows, but the time of 3$"):
        Keys.of([batch([Row(1), Row(2)])], when=np.zeros(3, dtype=np.int64), replaces=(), dropped=Spent())


# ── all files ──


@given(FILES)
def test_of_all_files_together_the_first_answer_of_a_key_counts_and_without_one_the_last_failure(
    files: dict[str, list[Row]],
) -> None:
    found, rows = census(files), [row for some in files.values() for row in some]
    assert found.chosen.tolist() == counting(rows)
    assert hexes(found.high, found.low) == [row.key for row in rows]
    assert [found.kinds[code] for code in found.outcome] == [row.kind for row in rows]
    assert len(set(found.kinds)) == len(found.kinds)
    assert found.good.tolist() == [row.good for row in rows]
    assert (found.names, found.torn, found.replaced) == (list(files), ["t"], ["r"])


@given(FILES)
def test_each_file_is_told_which_of_its_rows_count_and_where_they_go(files: dict[str, list[Row]]) -> None:
    found, rows = census(files), [row for some in files.values() for row in some]
    sorted_by_key: dict[int, str] = {}
    for name, places, ranks in found.by_file():
        assert len(places) > 0
        assert places.tolist() == sorted(places)
        sorted_by_key |= {int(rank): files[name][place].key for place, rank in zip(places, ranks, strict=True)}
    assert [sorted_by_key[rank] for rank in range(len(sorted_by_key))] == sorted({row.key for row in rows})
    told = [(name, int(place)) for name, places, _ in found.by_file() for place in places]
    ends = np.cumsum([len(some) for some in files.values()])
    starts = dict(zip(files, [0, *ends], strict=False))
    assert sorted(starts[name] + place for name, place in told) == sorted(counting(rows))


@given(FILES, st.sets(st.integers(0, 8)))
def test_without_what_was_seen_the_rest_counts_as_before(files: dict[str, list[Row]], seen: set[int]) -> None:
    found, rows = census(files), [row for some in files.values() for row in some]
    seen_keys = [Row(n).key for n in seen]
    left = found.without(KeySet.of(seen_keys))
    assert left.chosen.tolist() == [place for place in counting(rows) if rows[place].key not in seen_keys]
    assert (left.names, left.spent) == (found.names, found.spent)


@given(FILES)
def test_all_that_was_spent_is_that_of_all_rows_and_answers_that_do_not_count_are_spare(
    files: dict[str, list[Row]],
) -> None:
    rows = [row for some in files.values() for row in some]
    spare = sum(row.good for row in rows) - sum(rows[place].good for place in counting(rows))
    assert census(files).spent == spent_by(rows)
    assert census(files).all_spent == spent_by(rows) + Spent(spare=spare)


# ── money ──


def test_what_was_spent_is_added_and_taken_away_column_by_column() -> None:
    one, other = Spent(1, 20, 300, 4000.0, 50_000.0), Spent(2, 30, 400, 5000.0, 60_000.0)
    assert one + other == Spent(3, 50, 700, 9000.0, 110_000.0)
    assert other.minus(one) == Spent(1, 10, 100, 1000.0, 10_000.0)


def test_rows_cost_what_their_columns_say() -> None:
    table = pa.Table.from_batches([batch([Row(1, tokens=4), Row(2, tokens=None), Row(3, unread=True, tokens=3)])])
    assert Spent.of(table) == Spent(0, 7, 14, 1.5, 0.25)
    assert Spent.of(table.select(["key"])) == Spent()
    assert Spent.of(table.slice(1, 1)) == Spent(0, 0, 0, 0.5, 0.0)


@pytest.mark.parametrize("odd", [math.nan, -1.0, math.inf, -math.inf, None])
def test_what_is_no_amount_is_not_known_and_its_neighbours_count(odd: float | None) -> None:
    tokens = None if odd is None else -7
    table = pa.table({"cost_usd": [0.5, odd, 0.25], "read_cost_usd": [odd, 1.0, odd], "prompt_tokens": [3, tokens, 4]})
    assert Spent.of(table) == Spent(0, 7, 0, 0.75, 1.0)
    assert Spent.of(pa.table({"cost_usd": pa.array([odd], pa.float64())})) == Spent()


def test_of_what_a_compaction_left_out_what_is_no_amount_is_not_known() -> None:
    told = {"spare": 2, "prompt_tokens": -1, "cost_usd": math.nan, "read_cost_usd": 0.5}
    noted = json.dumps({"dropped": told}).encode()
    assert Note.of({b"emoray.file": noted}).dropped == Spent(2, 0, 0, 0.0, 0.5)
    with pytest.raises(ValueError, match="its note cannot be read"):
        Note.of({b"emoray.file": b'{"dropped": {"cost_usd": "much"}}'})


# ── keys ──


def test_words_and_digits_are_the_same_keys() -> None:
    texts = ["00000000000000010000000000000002", "ffffffffffffffff0123456789abcdef"]
    high, low = split_keys(texts)
    assert (high.tolist(), low.tolist()) == ([1, 2**64 - 1], [2, 0x0123456789ABCDEF])
    assert hexes(high, low) == texts
    assert KeySet.of(texts).nbytes == 2 * 16


def test_a_table_of_which_nothing_is_settled_is_handed_on_as_it_is() -> None:
    table = pa.table({"key": [Row(1).key, Row(2).key]})
    assert owed_rows(table, KeySet.of([Row(3).key])) is table
    assert owed_rows(table, KeySet.of([Row(1).key, Row(2).key])).num_rows == 0


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["0" * 31], "got '0000000000000000000000000000000'"),
        (pa.array([Row(1).key, None]), "got a null"),
        (pa.array(["0" * 31]), "got one of another length"),
        (pa.array(["0" * 31, "0" * 33]), "got one of another length"),
    ],
)
def test_what_is_no_key_is_refused_and_said(keys: list[str] | pa.Array, why: str) -> None:
    with pytest.raises(ValueError, match=rf"^a key is 32 hex digits, and not every one of these is: {why}$"):
        split_keys(keys)
