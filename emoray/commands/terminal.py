"""What reaches the terminal: printable, and ours alone."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from emoray.printable import Printable

_COLUMNS = 100  # of what is no terminal, or one that does not say


def columns() -> int:
    """How wide the terminal is that results are printed on."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _COLUMNS
    except (OSError, ValueError, AttributeError):
        return _COLUMNS


@contextmanager
def printed() -> Iterator[None]:
    """Names and words of others that reach a terminal are printable, wherever it is that they are printed."""
    out, err = sys.stdout, sys.stderr
    sys.stdout = Printable(out)
    sys.stderr = ours = Printable(err)
    try:
        yield
    finally:
        sys.stdout = out
        if sys.stderr is ours:  # else it is no longer where the old one writes
            sys.stderr = err


def hush() -> None:
    """Keeps stderr for us alone: Ray's C++ side writes to file descriptor 2 whatever its log level says."""
    before = sys.stderr
    before.flush()
    sys.stderr = Printable(os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is before:
            handler.setStream(sys.stderr)  # what we log is still said
            handler.addFilter(logging.Filter("emoray"))
