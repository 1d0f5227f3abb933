import pickle
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.run_folder.census import KeySet, owed, owed_rows, split_keys, winners

HALVES = st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
KEYS = st.builds(lambda high, low: f"{high:016x}{low:016x}", HALVES, HALVES)  # many share their first 64 bits


@dataclass(frozen=True)
class Asked:
    key: str


@given(st.lists(KEYS), st.lists(KEYS))
def test_a_key_is_settled_exactly_if_it_was_put_in(inside: list[str], asked: list[str]) -> None:
    settled = KeySet.of(inside)
    assert settled.has(asked + inside).tolist() == [key in set(inside) for key in asked + inside]
    assert settled.keys() == sorted(set(inside))


@given(st.lists(st.lists(KEYS), min_size=1))
def test_a_union_holds_what_any_of_its_sets_holds(sets: list[list[str]]) -> None:
    first, *others = map(KeySet.of, sets)
    assert first.union(*others).keys() == sorted({key for some in sets for key in some})


@given(st.lists(st.tuples(KEYS, st.booleans(), st.integers(-3, 3))))
def test_of_several_rows_of_a_key_the_first_answer_counts_and_without_one_the_last_failure(
    rows: list[tuple[str, bool, int]],
) -> None:
    high, low = split_keys([key for key, _, _ in rows])
    good = np.array([is_good for _, is_good, _ in rows], dtype=np.bool_)
    when = np.array([moment for _, _, moment in rows], dtype=np.int64)
    expected = []
    for key in sorted({key for key, _, _ in rows}):
        places = [place for place, row in enumerate(rows) if row[0] == key]
        answers = [place for place in places if rows[place][1]]
        in_time = sorted(answers or places, key=lambda place: (rows[place][2], place))
        expected.append(in_time[0] if answers else in_time[-1])
    assert winners(high, low, good, when).tolist() == expected


def test_what_is_owed_keeps_its_order() -> None:
    asked = [Asked(f"{n:032x}") for n in (5, 3, 9, 1)]
    settled = KeySet.of([f"{n:032x}" for n in (9, 5)])
    assert list(owed(asked, settled)) == [asked[1], asked[3]]
    table = pa.table({"key": [one.key for one in asked], "n": [5, 3, 9, 1]})
    assert owed_rows(table, settled)["n"].to_pylist() == [3, 1]


def test_the_grid_is_streamed_and_never_held() -> None:
    drawn = 0

    def endless() -> Iterator[Asked]:
        nonlocal drawn
        while True:
            drawn += 1
            yield Asked(f"{drawn:032x}")

    first = next(owed(endless(), KeySet.of([f"{1:032x}"]), chunk=10))
    assert first == Asked(f"{2:032x}")
    assert drawn == 10


def test_settled_keys_travel_as_two_buffers_that_need_no_copy() -> None:
    settled = KeySet.of([f"{n:032x}" for n in range(1000)])
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(settled, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 2
    assert len(data) < 1000
    assert pickle.loads(data, buffers=buffers).keys() == settled.keys()


def test_keys_may_come_as_lists_arrays_or_slices_of_arrow_columns() -> None:
    texts = [f"{n:032x}" for n in range(8)]
    settled = KeySet.of(texts[2:5])
    expected = [False, True, True, True, False]
    assert settled.has(np.array(texts[1:6])).tolist() == expected
    assert settled.has(pa.array(texts)[1:6]).tolist() == expected
    assert settled.has(pa.array(texts, pa.large_string())[1:6]).tolist() == expected
    assert settled.has(pa.chunked_array([texts[1:3], texts[3:6]])).tolist() == expected
    assert settled.has([]).tolist() == []


@pytest.mark.parametrize("odd", ["", "abc", "g" * 32, "é" * 32, "0" * 64])
def test_what_is_no_key_is_refused(odd: str) -> None:
    with pytest.raises(ValueError, match="a key is 32 hex digits"):
        KeySet.of(["0" * 32, odd])
    with pytest.raises(ValueError, match="a key is 32 hex digits"):
        KeySet.of(pa.array(["0" * 32, odd]))


def test_a_null_is_no_key() -> None:
    with pytest.raises(ValueError, match="null"):
        KeySet.of(pa.array(["0" * 32, None]))
