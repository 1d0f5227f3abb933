"""Programs as a user starts them: specs, and folders in which things are called as we are, or as what we need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs import ROOT

SPEC = """
name: t
models: [{{name: a, host: scripted, latency_s: {latency_s}, in_flight: {in_flight}}}]
states: 3
questions: [freedom, art]
repetitions: {repetitions}
readers: [{{kind: scripted, name: r}}]
"""
COMMAND = """
import sys
sys.path.append({root!r})  # as a clone is found that was installed with -e: after all others
from emoray.commands.cli import main
sys.exit(main())
"""
SHADOW = "raise SystemExit('this is another {name}')\n"


def shadows(folder: Path) -> Path:
    """Makes it one that a clone lies in, among files that somebody tried things in."""
    (folder / "emoray" / "jobs").mkdir(parents=True)
    for name in ("numpy", "torch", "random", "pyarrow", "ray"):
        shadow(folder, name)
    return folder


def shadow(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text(SHADOW.format(name=name))


def installed(folder: Path) -> list[str]:
    """The command, as pip makes it into a folder: Python looks first where that lies."""
    folder.mkdir()
    command = folder / "emoray"
    command.write_text(COMMAND.format(root=str(ROOT)))
    return [sys.executable, str(command)]


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec with a scripted speaker that takes its time."""

    def write(*, repetitions: int = 1, latency_s: float = 0.0, in_flight: int = 64) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.format(repetitions=repetitions, latency_s=latency_s, in_flight=in_flight))
        return path

    return write
