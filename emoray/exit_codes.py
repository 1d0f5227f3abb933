"""How `emoray` ends, as told to whoever started it."""

from __future__ import annotations

OK = 0  # every cell is settled
WRONG = 2  # the user's input is wrong, or Ray is not to be had, and nothing was written
OWED = 3  # finished, but cells are still owed
DIFFERS = 4  # two runs that were compared lie farther apart than was allowed
INTERRUPTED = 130  # as a shell reports Ctrl-C
