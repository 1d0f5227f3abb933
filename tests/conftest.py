"""What every test stands on: no network, quiet libraries, reproducible examples, and a place to say what was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.programs import Start, starting

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network is not a test
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Ray's own is 15: beside another test that computes, an actor would get a thirtieth of a core and take minutes to start
os.environ.setdefault("RAY_worker_niceness", "5")

settings.register_profile("emoray", deadline=None, derandomize=True)  # the same examples on every machine
settings.load_profile("emoray")

_FOUND = "found"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program of ours, which ends with the test."""
    with starting() as popen:
        yield popen


Tell = Callable[[str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Says what a test found out (a ledger, a figure) after all tests, also where workers run them side by side."""
    return lambda text: record_property(_FOUND, text)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    told = [
        (report.nodeid, text)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for name, text in report.user_properties
        if name == _FOUND
    ]
    for test, text in told:
        terminalreporter.section(test.rpartition("::")[2], sep="-")
        terminalreporter.line(text)
