"""What an exception says, for a sentence that tells a person what went wrong. Stacks are for the log."""

from __future__ import annotations

import re
from pathlib import Path
from traceback import extract_tb

from emoray.printable import cut
from emoray.study.outcomes import valid

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_MOST = 500  # characters that a person still reads


def is_failure(wrong: BaseException) -> bool:
    """Whether something went wrong, and nobody asked this process to end. What Rust calls a panic is no Exception."""
    return isinstance(wrong, Exception) or type(wrong).__name__ == "PanicException"


def uncoloured(text: str) -> str:
    """Without what sets colours on a terminal."""
    return _COLOURS.sub("", text)


def first_line(text: str) -> str:
    """The first line that says something, with the second where the first only announces it (`No room:`); "" of none.
    What is longer than a person reads is cut.
    """
    lines = [line for line in map(str.strip, uncoloured(valid(text)).splitlines()) if line]
    said = " ".join(lines[: 1 + lines[0].endswith(":")]) if lines else ""
    return cut(said, _MOST)


def reason_of(wrong: BaseException) -> str:
    """The first line of what it says, as a clause; its type where it says nothing."""
    return first_line(str(wrong)).rstrip(".:") or type(wrong).__name__


def cause(wrong: BaseException) -> str:
    """`IndexError: index out of range in self`"""
    said, kind = reason_of(wrong), type(wrong).__name__
    return said if said == kind else f"{kind}: {said}"


def on_one_line(wrong: BaseException | str, most: int | None = None) -> str:
    """All that it says, on one line; its type where it says nothing. With `most`, so many characters of it."""
    words = " ".join(str(wrong).split()) or ("" if isinstance(wrong, str) else type(wrong).__name__)
    return words if most is None else cut(words, most, "…")


def raised_at(wrong: BaseException) -> str:
    """`encoder.py:120`, where it was raised."""
    frames = extract_tb(wrong.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
