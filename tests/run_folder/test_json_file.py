"""JSON of a run folder is what it should be, or a clause says where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.run_folder.json_file import BadJson, read


@dataclass(frozen=True)
class Pair:
    name: str
    count: int = 0


def clause(kind: Any, data: bytes) -> str:
    with pytest.raises(BadJson) as told:
        read(kind, data)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_what_is_as_it_should_be_comes_back_and_what_a_later_version_added_is_left_out() -> None:
    assert read(Pair, b'\xef\xbb\xbf{"name": "a", "count": 2, "colour": "blue"}') == Pair("a", 2)
    assert read(dict[str, Any], '{"ä": [1, null]}'.encode()) == {"ä": [1, None]}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is no JSON: EOF while parsing a value at line 1 column 0"),
        (b'{"a": ', "it is no JSON: EOF"),
        (b"\xff\xfe{}", "it is no JSON: expected value"),
        (b'{"a": "\xff"}', "it is no JSON: invalid unicode code point"),
        (b'{"a": "\\ud800"}', "it is no JSON: unexpected end of hex escape"),
        (b"[" * 100_000, "it is no JSON: recursion limit exceeded"),
        (b"[1, 2]", "it should be an object, and is [1, 2]"),
        (b"null", "it should be an object, and is None"),
    ],
)
def test_what_is_no_object_is_said_to_be_none(data: bytes, why: str) -> None:
    assert clause(dict[str, Any], data).startswith(why)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"count": 1}', "name is missing"),
        (b'{"name": null}', "name should be a valid string, and is None"),
        (b'{"name": "a", "count": "1"}', "count should be a valid integer, and is '1'"),
        (b'{"name": "a", "count": true}', "count should be a valid integer, and is True"),
    ],
)
def test_a_field_that_is_odd_is_named(data: bytes, why: str) -> None:
    assert clause(Pair, data) == why


def test_where_in_a_list_is_said_too() -> None:
    assert clause(dict[str, list[Pair]], b'{"a": [{"name": "x"}, {}]}') == "a[1].name is missing"


@given(st.binary(max_size=50))
def test_no_bytes_are_a_traceback(data: bytes) -> None:
    assert clause(Pair, data)  # so few make no pair
