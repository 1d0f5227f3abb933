"""What is told of an exception, whoever wrote its words."""

from __future__ import annotations

import pytest

from emoray.reasons import cause, first_line, is_failure, on_one_line, raised_at, reason_of


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("index out of range in self", "index out of range in self"),
        ("\n\n  No such file.\nStack:\n  1", "No such file"),
        ("It cannot be loaded:\nsentencepiece is missing\nmore", "It cannot be loaded: sentencepiece is missing"),
        ("Give up:", "Give up"),
        ("\x1b[31mred\x1b[0m and\nblue", "red and"),
        ("half \ud83d", "half \ufffd"),
        ("", "ValueError"),
        ("\n \n", "ValueError"),
        ("x" * 600, "x" * 500 + " …"),
    ],
)  # fmt: skip
def test_a_reason_is_the_first_line_that_says_something(said: str, reason: str) -> None:
    assert reason_of(ValueError(said)) == reason


def test_a_cause_names_its_type_once() -> None:
    assert cause(IndexError("index out of range")) == "IndexError: index out of range"
    assert cause(IndexError()) == "IndexError"


def test_nothing_said_is_no_line() -> None:
    assert first_line(" \n") == ""
    assert on_one_line("") == ""
    assert on_one_line(OSError()) == "OSError"


def test_all_lines_can_be_one_and_be_cut() -> None:
    wrong = ValueError("first\n  second")
    assert on_one_line(wrong) == "first second"
    assert on_one_line(wrong, 7) == "first s…"


def test_a_panic_of_rust_is_a_failure_and_a_wish_to_end_is_none() -> None:
    panic = type("PanicException", (BaseException,), {})
    assert [is_failure(wrong) for wrong in (ValueError(), panic(), KeyboardInterrupt(), SystemExit())] == [
        True, True, False, False
    ]  # fmt: skip


def test_where_it_was_raised_is_a_file_and_a_line() -> None:
    with pytest.raises(ZeroDivisionError) as told:
        _ = 1 / 0
    assert raised_at(told.value).startswith("test_reasons.py:")
    assert raised_at(ValueError()) == "nowhere"
