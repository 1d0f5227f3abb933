"""Runs in this process, on the cluster that it has joined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from emoray.commands import attempt
from emoray.run_folder.folder import RunFolder
from emoray.spec.load import parse
from emoray.spec.study import Study

Run = Callable[..., int]
Settled = Callable[[Study], RunFolder]


@pytest.fixture
def run(two_cpus: str, tmp_path: Path) -> Run:
    """Runs a study into a folder of this test, and returns the exit code; writes a report where a test looks at it."""

    def call(
        study: Study,
        *,
        out: Path | None = None,
        limit: int | None = None,
        extend: bool = False,
        reports: bool = False,
    ) -> int:
        with pytest.MonkeyPatch.context() as patch:
            if not reports:
                patch.setattr(attempt, "report", lambda folder: f"no report of {folder.shown}")
            return attempt.run(study, str(out or tmp_path / "run"), command="again", limit=limit, extend=extend)

    return call


@pytest.fixture
def settled(run_once: Callable[[Study, Path], None], folder: RunFolder) -> Settled:
    """The folder of this test, in which a run of a study has just ended well."""

    def begun(study: Study) -> RunFolder:
        run_once(study, Path(folder.uri))
        return folder

    return begun


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


def study(models: str, *, repetitions: int = 1, readers: str = "r", more: str = "") -> Study:
    """A study of these models on a grid of 3 states × 2 questions, read by scripted readers of these names."""
    lines = ["name: t", f"repetitions: {repetitions}", "states: 3", "questions: [freedom, art]"]
    lines += ["readers:", *(f"- {{kind: scripted, name: {name}}}" for name in readers.split())]
    return parse("\n".join([*lines, "models:", dedent(models).strip(), more]))
