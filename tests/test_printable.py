"""A terminal obeys control characters; what others wrote holds none when it gets there."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.printable import Printable, cut, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("runs/a", "runs/a"),
        ("Émile süß 🤖 日本 עברית", "Émile süß 🤖 日本 עברית"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b31m \x7f", "\\x9b31m \\x7f"),
        ("evil\u202egpj.exe", "evil\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_lines_stay_lines_where_there_are_several() -> None:
    assert printable("a\n\tb\r\x1b[1m") == "a\n\tb\r\\x1b[1m"


@given(st.text())
def test_one_line_is_one(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
    assert one_line(one_line(text)) == one_line(text)


def test_a_stream_prints_what_is_printable_and_is_steered_by_who_draws_on_it() -> None:
    inner = io.StringIO()
    stream = Printable(inner)
    print("a\x1b[1mb", file=stream)
    stream.steer("\x1b[1F")
    assert inner.getvalue() == "a\\x1b[1mb\n\x1b[1F"
    assert not stream.isatty()


def test_a_letter_that_the_terminal_has_not_is_shown_as_its_escape() -> None:
    raw = io.BytesIO()
    stream = Printable(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    stream.write("12 states × 10 … \ud800")
    assert raw.getvalue() == b"12 states \\xd7 10 \\u2026 \\ud800"


def test_what_is_cut_ends_with_an_ellipsis_and_what_fits_does_not() -> None:
    assert cut("a" * 100) == "a" * 100
    assert cut("a" * 101) == "a" * 100 + " …"
    assert cut("abcd", 3, "…") == "abc…"
