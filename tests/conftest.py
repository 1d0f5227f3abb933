"""What every test stands on: one thread for torch and its kin, no network, quiet libraries, reproducible examples."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.programs import Start, starting

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network is not a test
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

settings.register_profile("emoray", deadline=None, derandomize=True)  # the same examples on every machine
settings.load_profile("emoray")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program of ours, which ends with the test."""
    with starting() as popen:
        yield popen
