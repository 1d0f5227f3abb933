"""What went wrong while reading, in words."""

from __future__ import annotations

import re
from pathlib import Path
from traceback import extract_tb

from emoray.study.outcomes import valid

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MOST = 300  # characters


def is_failure(wrong: BaseException) -> bool:
    """Whether something went wrong, and nobody asked this process to end. What Rust calls a panic is no Exception."""
    return isinstance(wrong, Exception) or type(wrong).__name__ == "PanicException"


def first_line(wrong: BaseException) -> str:
    """Of what it says; its type where it says nothing."""
    lines = (line.strip() for line in _COLOURS.sub("", valid(str(wrong))).splitlines())
    return next((line for line in lines if line), type(wrong).__name__).rstrip(".:")[:_MOST]


def cause(wrong: BaseException) -> str:
    """`IndexError: index out of range in self`"""
    said = first_line(wrong)
    return said if said == type(wrong).__name__ else f"{type(wrong).__name__}: {said}"


def raised_at(wrong: BaseException) -> str:
    """`encoder.py:120`, where it was raised."""
    frames = extract_tb(wrong.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
