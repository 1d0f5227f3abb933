"""Specs for programs as a user starts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SPEC = """
name: t
models: [{{name: a, host: scripted, latency_s: {latency_s}, in_flight: {in_flight}}}]
states: 3
questions: [freedom, art]
repetitions: {repetitions}
readers: [{{kind: scripted, name: r}}]
"""


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec with a scripted speaker that takes its time."""

    def write(*, repetitions: int = 1, latency_s: float = 0.0, in_flight: int = 64) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.format(repetitions=repetitions, latency_s=latency_s, in_flight=in_flight))
        return path

    return write
