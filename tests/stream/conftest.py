"""One small Ray cluster for all tests of the stream in this process; it ends with the last of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import ray

from emoray import job
from emoray.spec import Study, parse
from emoray.store import RunFolder
from emoray.stream import cluster


@pytest.fixture(scope="package")
def two_cpus() -> Iterator[None]:
    """A Ray cluster that has two CPUs, one `slot` and no GPU, whatever this machine has."""
    has: dict[str, Any] = {"num_cpus": 2, "num_gpus": 0, "resources": {"slot": 1}}
    ray.init(address="local", include_dashboard=False, log_to_driver=False, **has)
    cluster.connect()
    yield
    ray.shutdown()


Run = Callable[..., int]


@pytest.fixture
def run(two_cpus: None, tmp_path: Path) -> Run:
    """Runs a study into a folder of this test, and returns the exit code."""

    def call(study: Study, *, out: Path | None = None, limit: int | None = None, extend: bool = False) -> int:
        uri = str(out or tmp_path / "run")
        return job.run(study, uri, command="again", limit=limit, extend=extend, address=None, verbose=False)

    return call


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


def study(models: str, *, repetitions: int = 1, readers: str = "r", more: str = "") -> Study:
    """A study of these models on a grid of 3 states × 2 questions, read by scripted readers of these names."""
    lines = ["name: t", f"repetitions: {repetitions}", "states: 3", "questions: [freedom, art]"]
    lines += ["readers:", *(f"- {{kind: scripted, name: {name}}}" for name in readers.split())]
    return parse("\n".join([*lines, "models:", dedent(models).strip(), more]))
