"""A process that does not outlive the one that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.programs import Start

STARTS_A_CHILD = """
import os, signal, subprocess, sys
from functools import partial
from emoray.child_process import die_with
sign = signal.Signals(int(sys.argv[1]))
subprocess.run([sys.executable, "-c", sys.argv[2]], preexec_fn=partial(die_with, os.getpid(), sign))
"""
CHILD = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("asked to end")))
print("here", flush=True)
signal.pause()
"""
LIVES = "import sys; from emoray.child_process import die_with; die_with(int(sys.argv[1])); print('lives')"


@pytest.mark.skipif(sys.platform != "linux", reason="a process dies with its parent on Linux only")
@pytest.mark.parametrize(("sign", "last"), [(signal.SIGTERM, "asked to end\n"), (signal.SIGKILL, "")])
def test_a_child_gets_its_signal_when_its_parent_is_killed(sign: signal.Signals, last: str, start: Start) -> None:
    parent = start([sys.executable, "-c", STARTS_A_CHILD, str(int(sign)), CHILD])
    assert parent.stdout is not None
    assert parent.stdout.readline() == "here\n"
    parent.kill()
    said, _ = parent.communicate()  # it ends when nobody holds the pipe any more
    assert said == last


@pytest.mark.parametrize(("parent", "said"), [(os.getpid(), "lives\n"), (0, "")], ids=["there", "gone"])
def test_a_child_whose_parent_has_gone_already_ends_at_once(parent: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", LIVES, str(parent)], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (said, 0 if said else 1)
