"""For how long a machine did not get on: by a clock that the tests move, and by the real one of a stopped process."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from emoray.rehearsal.heartbeat import Heartbeat, Stall, stood_still_s
from tests.programs import Start, until


class Machine:
    """Its clock, on which a beat's rest and work take as long as they are told."""

    def __init__(self, *, rest_s: float, work_s: float, computed_s: float) -> None:
        self.now, self._rest_s, self._work_s, self._computed_s = 100.0, rest_s, work_s, computed_s

    def clock(self) -> float:
        return self.now

    def rest(self, _: float) -> bool:
        self.now += self._rest_s
        return False

    def work(self) -> float:
        self.now += self._work_s
        return self._computed_s


@pytest.mark.parametrize(
    ("rest_s", "work_s", "computed_s", "late_s"),
    [
        (0.1, 0.001, 0.001, 0.0),  # all as it should be
        (0.11, 0.002, 0.001, 0.0),  # hardly late
        (0.6, 0.001, 0.001, 0.5),  # not woken
        (0.1, 0.401, 0.001, 0.4),  # woken, and then without a core or waiting for the disk
        (0.1, 0.3, 0.3, 0.0),  # a slow processor is no stall
    ],
)
def test_a_stall_is_what_a_beat_took_beyond_its_rest_and_its_computing(
    rest_s: float, work_s: float, computed_s: float, late_s: float
) -> None:
    machine = Machine(rest_s=rest_s, work_s=work_s, computed_s=computed_s)
    heartbeat = Heartbeat(clock=machine.clock, work=machine.work)

    heartbeat.beaten(machine.rest)

    assert [round(stall.ended - stall.began, 9) for stall in heartbeat.stalls] == [late_s] * (late_s > 0)
    assert all(stall.ended == machine.now for stall in heartbeat.stalls)


def test_only_what_lies_between_two_times_counts() -> None:
    stalls = [Stall(0.0, 1.0), Stall(2.0, 3.0), Stall(4.0, 5.0)]

    assert stood_still_s(stalls, 0.5, 4.25) == 0.5 + 1.0 + 0.25
    assert stood_still_s(stalls, 1.0, 2.0) == stood_still_s([], 0.0, 9.0) == 0.0


STOPPED = """
import time
from emoray.rehearsal.heartbeat import Heartbeat
with Heartbeat() as heartbeat:
    print("here", flush=True)
    while (stood := sum(stall.ended - stall.began for stall in heartbeat.stalls)) < 0.4:
        time.sleep(0.01)
print(stood)
"""


def test_a_process_that_was_stopped_knows_that_it_stood_still(start: Start) -> None:
    process = start([sys.executable, "-c", STOPPED])
    assert process.stdout is not None
    process.stdout.readline()

    process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() > stopped + 0.6)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate()

    assert float(out) >= 0.4, err
