"""What a person sees of a run that is under way."""

from __future__ import annotations

import io
import logging
import os
import pty
import termios
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.commands.pace import Pace
from emoray.commands.progress import Progress, Standing, duration
from emoray.stream.address import waits_for_ray


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def standing(
    *, settled: int = 0, total: int = 100, before: int = 0, failed: int = 0, note: str = "", waits: str = ""
) -> Standing:
    return Standing(total=total, before=before, settled=settled, failed=failed, read=settled, note=note, waits=waits)


def test_a_line_says_what_a_person_at_three_in_the_morning_wants_to_know() -> None:
    progress = Progress(io.StringIO(), clock=0.0)
    progress.show({"llama-8b": standing(settled=83_798, total=120_000, before=83_798)}, now=0.0)
    line = progress.line("llama-8b", standing(settled=84_210, total=120_000, before=83_798), 60.0)
    assert line == "llama-8b  settled 84,210 of 120,000  failed 0  412/min  1 h 27 min left"


def test_the_rate_counts_only_what_this_run_settled() -> None:
    progress = Progress(io.StringIO(), clock=0.0)
    progress.show({"m": standing(settled=50, before=50)}, now=0.0)
    line = progress.line("m", standing(settled=60, before=50), 60.0)
    assert "10/min" in line
    assert "4 min left" in line


def test_where_nothing_happens_no_rate_and_no_time_are_invented() -> None:
    progress = Progress(io.StringIO(), clock=0.0)
    assert progress.line("m", standing(settled=50, before=50, note="starting"), 60.0) == (
        "m  settled 50 of 100  failed 0  starting"
    )
    assert "min" not in progress.line("m", standing(), 0.0)


def test_when_all_is_settled_no_time_is_left_to_tell() -> None:
    assert "left" not in Progress(io.StringIO(), clock=0.0).line("m", standing(settled=100), 60.0)


def test_the_last_lines_promise_no_time_after_which_more_would_be_there() -> None:
    said = io.StringIO()
    Progress(said, clock=0.0).show({"m": standing(settled=60, failed=40)}, now=60.0, last=True)
    assert said.getvalue() == "m  settled 60 of 100  failed 40  60/min\n"


def test_into_a_file_goes_a_line_per_lane_every_30_seconds_and_a_last_one() -> None:
    file = io.StringIO()
    progress = Progress(file, clock=0.0)
    lanes = {"a": standing(), "longer": standing()}
    for now in (0.0, 1.0, 29.9, 30.0, 31.0, 59.0, 61.0):
        progress.show(lanes, now=now)
    assert file.getvalue().count("a       settled 0 of 100") == 2
    assert file.getvalue().count("longer  settled 0 of 100") == 2
    progress.show(lanes, now=62.0, last=True)
    assert len(file.getvalue().splitlines()) == 6
    assert "\x1b" not in file.getvalue()


def test_on_a_terminal_the_lines_stay_where_they_are() -> None:
    terminal = Terminal()
    progress = Progress(terminal, clock=0.0)
    for now in (0.0, 0.2, 0.4):
        progress.show({"a": standing(), "b": standing()}, now=now)
    assert terminal.getvalue().count("\x1b[2F\x1b[J") == 2
    assert terminal.getvalue().count("a  settled") == 3


def test_on_a_terminal_no_line_wraps_for_the_way_back_would_be_too_short() -> None:
    terminal = Terminal()
    Progress(terminal, clock=0.0).show({"a": standing(note="why " * 100)}, now=0.0)
    assert "why " in terminal.getvalue()
    assert all(len(line) < 120 for line in terminal.getvalue().splitlines())


def test_on_a_terminal_that_is_made_narrower_or_wider_the_next_lines_fit_it() -> None:
    person, terminal = pty.openpty()
    with os.fdopen(person, "rb", buffering=0) as shown, os.fdopen(terminal, "w") as stream:
        progress, drawn = Progress(stream, clock=0.0), []
        for columns in (80, 20, 80):
            termios.tcsetwinsize(terminal, (24, columns))
            progress.show({"llama": standing(settled=1)}, now=1.0)
            drawn.append(shown.read(4096).decode().rpartition("\x1b[J")[2].rstrip("\r\n"))
    assert drawn[0] == drawn[2]
    assert drawn[1] == drawn[0][:19] != drawn[0]


def test_what_is_waited_for_goes_into_a_file_once_and_at_once() -> None:
    file = io.StringIO()
    progress = Progress(file, clock=0.0)
    progress.wait("starting Ray")
    for now, waits in (
        (0.5, "starting 1 actor of a"),
        (1.0, "starting 1 actor of a"),
        (1.5, "loading weights of a"),
        (1.6, "starting 1 actor of a"),
    ):
        progress.show({"a": standing(waits=waits), "b": standing(waits="b waits for 4 GPUs")}, now=now)
    progress.show({"a": standing(settled=1), "b": standing()}, now=2.0)
    assert file.getvalue().splitlines() == [
        "starting Ray …", "starting 1 actor of a …", "b waits for 4 GPUs …", "loading weights of a …"
    ]  # fmt: skip


def test_on_a_terminal_the_lanes_take_the_place_of_what_was_waited_for() -> None:
    terminal = Terminal()
    progress = Progress(terminal, clock=0.0)
    progress.wait("starting Ray")
    assert terminal.getvalue() == "starting Ray …\n"
    progress.show({"a": standing(note="starting 1 actor of a", waits="starting 1 actor of a")}, now=0.1)
    assert terminal.getvalue().splitlines()[1:] == ["\x1b[1F\x1b[Ja  settled 0 of 100  failed 0  starting 1 actor of a"]


def test_the_time_before_the_lanes_is_none_of_theirs() -> None:
    progress = Progress(io.StringIO(), clock=-1e9)
    progress.begin()
    assert "/min" in progress.line("m", standing(settled=90), time.monotonic() + 60.0, over=True)


def test_neither_rate_nor_time_left_know_of_the_minutes_in_which_an_engine_started() -> None:
    progress = Progress(io.StringIO(), clock=0.0)
    for now in range(0, 301):
        progress.show({"m": standing(note="starting")}, now=float(now))
    assert "  20/min  4 min left" in progress.line("m", standing(settled=20), 360.0)


def test_the_rate_is_that_of_the_last_minute() -> None:
    progress = Progress(io.StringIO(), clock=0.0)
    for now in range(0, 301):
        progress.show({"m": standing(settled=now, total=10_000)}, now=float(now))
    assert "  30/min" in progress.line("m", standing(settled=330, total=10_000), 360.0)


def test_a_cell_that_failed_is_not_left_to_be_asked() -> None:
    progress = Progress(io.StringIO(), clock=0.0)
    progress.show({"m": standing()}, now=0.0)
    assert progress.line("m", standing(settled=10, failed=40), 60.0).endswith("failed 40  10/min  1 min left")
    assert "left" not in progress.line("m", standing(settled=10, failed=90), 60.0)


def test_failures_are_told_by_kind_and_what_is_read_where_it_lags() -> None:
    late = replace(standing(settled=90, before=10, failed=3), kinds={"overloaded": 2, "timeout": 1}, read=5)
    line = Progress(io.StringIO(), clock=0.0).line("m", late, 0.0)
    assert line == "m  settled 90 of 100  failed 3  read 5 now  2 overloaded, 1 timeout"


@pytest.mark.parametrize("start_s", [0, 40, 400])
@pytest.mark.parametrize("block", [1, 50, 200])
def test_of_a_steady_lane_the_time_left_is_within_20_percent_from_the_second_minute_on(
    start_s: int, block: int
) -> None:
    total, a_second, pace = 12_000, 10, Pace()
    end = start_s + total // a_second
    for now in range(end - 60):
        through = max(0, now - start_s) * a_second // block * block
        failed = through // 10
        pace.see(float(now), through - failed, failed)
        if now >= start_s + 120:
            left = pace.seconds_left(float(now), total, through - failed, failed)
            assert left == pytest.approx(end - now, rel=0.2, abs=block / a_second)


@pytest.mark.parametrize(
    ("address", "variable", "said"),
    [
        (None, "", "starting Ray"),
        (None, "local", "starting Ray"),
        ("local", "10.0.0.1:6379", "starting Ray"),
        (None, "10.0.0.1:6379", "joining the cluster at 10.0.0.1:6379"),
        ("auto", "10.0.0.1:6379", "joining the cluster at auto"),
    ],
)
def test_a_run_waits_for_a_ray_of_its_own_or_for_one_that_is_there(
    address: str | None, variable: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    assert waits_for_ray(address) == said


def test_no_lanes_are_no_lines() -> None:
    terminal = Terminal()
    Progress(terminal, clock=0.0).show({}, now=0.0)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (5220, "1 h 27 min"),
        (86400, "1 d 0 h"),
        (86_399, "1 d 0 h"),
        (200_000, "2 d 8 h"),
    ],
)
def test_a_time_is_told_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@given(st.floats(0, 1e9))
def test_a_told_time_is_right_to_its_smaller_unit(seconds: float) -> None:
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    words = duration(seconds).split()
    told = sum(int(n) * units[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    smallest = units[words[-1]] if len(words) > 2 else 1
    assert abs(told - seconds) <= smallest / 2


def test_what_is_logged_meanwhile_stays_above_the_lanes_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    handler = logging.StreamHandler(terminal)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    progress = Progress(terminal, clock=0.0)
    with progress.says_what_is_logged():
        progress.show({"a": standing()}, now=0.0)
        logging.getLogger("emoray").warning("a disk is slow")
        progress.show({"a": standing()}, now=1.0)
    assert handler.stream is terminal
    assert terminal.getvalue().endswith("\x1b[1F\x1b[Ja disk is slow\na  settled 0 of 100  failed 0\n")


def test_what_is_said_once_stays_above_the_lanes() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = Progress(stream, clock=0.0)
        progress.show({"a": standing(), "b": standing()}, now=0.0)
        progress.say("warning: so it is")
        progress.show({"a": standing(settled=1), "b": standing()}, now=1.0)
    assert file.getvalue() == "warning: so it is\n"
    before, said, after = terminal.getvalue().partition("\x1b[2F\x1b[Jwarning: so it is\n")
    assert (before.count("settled"), bool(said), "\x1b" in after) == (2, True, False)
