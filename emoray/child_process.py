"""A process that does not outlive the one that started it, however that one ends. Only Linux tells the child at once.

The trap: to Linux the parent is the *thread* that started the process. When that thread ends the child gets the signal,
though its process lives on. So who starts such a child waits for it, or lives as long as the process does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of prctl(2)
# found now and not when it is called: between fork and exec nothing can be loaded, another thread may hold a lock
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with(parent: int, sign: signal.Signals = signal.SIGKILL) -> None:
    """Called in the child, or between fork and exec: it gets `sign` when `parent`, a process id, dies.

    Ends the process where its parent has died already, before this could be asked.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, sign)
    if os.getppid() != parent:
        os._exit(1)
