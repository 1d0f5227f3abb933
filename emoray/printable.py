"""What others wrote, on its way to a terminal or a page: names of folders, words of providers, answers.

A terminal obeys what stands between letters: it can be told to hide a line, to write another title, to answer. So a
control character is shown as its escape, and so are the marks that turn the direction of a line, half characters, and
what the terminal's own encoding has no letter for.
"""

from __future__ import annotations

import re
from typing import Any, TextIO

_LINES = "\n\r\t"
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """With escapes for all that would not stay on its line."""
    return _ODD.sub(_escape, text)


def printable(text: str) -> str:
    """The same; lines stay lines."""
    return _ODD.sub(lambda odd: odd[0] if odd[0] in _LINES else _escape(odd), text)


def cut(text: str, most: int = 100, ellipsis: str = " …") -> str:
    """The first `most` characters, and an ellipsis behind them where there are more."""
    return text if len(text) <= most else f"{text[:most]}{ellipsis}"


def _escape(odd: re.Match[str]) -> str:
    return odd[0].encode("unicode_escape").decode()


class Printable:
    """A stream on which all that is printed is printable; but for what `steer` writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def steer(self, sequence: str) -> None:
        """Of a terminal: to move, to clear."""
        self._stream.write(sequence)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
