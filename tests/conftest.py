"""What every test stands on: no network, quiet libraries, reproducible examples, clusters that many tests share, and a
place to say what was found.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from emoray.rehearsal import local_cluster as of_nodes
from emoray.rehearsal.local_cluster import Nodes
from emoray.spec.study import Study
from tests.programs import KEY, KEY_ENV, LINE_KEY_ENV, Here, Start, starting

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network is not a test
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Ray's own is 15: beside another test that computes, an actor would get a thirtieth of a core and take minutes to start
os.environ.setdefault("RAY_worker_niceness", "5")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # Ray's own is 30: a busy machine is no broken one
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # a process per CPU that most clusters here never use
os.environ.setdefault("RAY_LOG_MONITOR_MANY_FILES_THRESHOLD", "1")  # else it lists the logs ten times a second
os.environ.setdefault("RAY_enable_metrics_collection", "false")  # each node gathers them, for nobody
os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "60000")  # so does its dashboard's agent; Ray's own is 5 s
of_nodes._PATIENCE_S = 900.0  # the same for clusters of several nodes
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would each compile what they import

settings.register_profile("emoray", deadline=None, derandomize=True)  # the same examples on every machine
settings.load_profile("emoray")

_FOUND = "found"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program of ours, which ends with the test."""
    with starting() as popen:
        yield popen


@pytest.fixture
def join(start: Start, two_cpus: str) -> Start:
    """The same, and a run that it begins joins the cluster of this worker in place of starting one."""
    return partial(start, RAY_ADDRESS=two_cpus)


@pytest.fixture
def here(two_cpus: str) -> Here:
    """A command of ours in this process, which has joined the cluster of this worker, and its exit code.

    For runs that nobody kills: a program of its own imports for five seconds of a core before it runs. It writes no
    report, which takes another one or two, unless one is wanted.
    """

    def call(name: str, *words: str, report: bool = False) -> int:
        from emoray.commands import attempt
        from emoray.commands.cli import main

        with pytest.MonkeyPatch.context() as patch:
            if not report:
                patch.setattr(attempt, "report", lambda folder: f"no report of {folder.shown}")
            return main([name, "--verbose", *words])  # without it, it would take this process's stderr for itself

    return call


@pytest.fixture(scope="session", autouse=True)
def _aside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a run cannot write is put aside in no folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMORAY_SPILL_DIR", str(tmp_path_factory.mktemp("aside")))
        yield


@pytest.fixture(scope="session")
def two_cpus() -> Iterator[str]:
    """The address of a Ray cluster that has two CPUs, one `slot` and no GPU, whatever this machine has.

    One for all tests of a worker that leave it as it was: those that run in this process, which has joined it, and
    programs that are told of it by RAY_ADDRESS. Its nodes have `KEY` in their environment, twice.
    """
    import ray

    from emoray.stream import cluster

    has: dict[str, Any] = {"num_cpus": 2, "num_gpus": 0, "resources": {"slot": 1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_ENV, KEY)
        patch.setenv(LINE_KEY_ENV, f"{KEY}\n")
        ray.init(address="local", include_dashboard=False, log_to_driver=False, **has)
    cluster.connect()
    yield str(ray.get_runtime_context().gcs_address)
    ray.shutdown()


@pytest.fixture(scope="session")
def run_once(two_cpus: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Study, Path], None]:
    """Makes a folder in which a run of a study has ended well; one real run for all tests that begin with it."""
    ended: dict[str, Path] = {}

    def copied(study: Study, to: Path) -> None:
        from emoray.commands import attempt

        if study.spec.digest not in ended:
            out = tmp_path_factory.mktemp("settled") / "run"
            assert attempt.run(study, str(out), command="first") == 0
            ended[study.spec.digest] = out
        shutil.copytree(ended[study.spec.digest], to)

    return copied


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """A head without CPUs and two workers, behind a token: for all tests of a worker that kill none of the three."""
    with Nodes(workers=2, cpus=2) as cluster:
        yield cluster


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what takes long to start stay with one worker: those of a file, or of a group that they name.

    The longest group comes first, so that no worker ends long after the others.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: [mark.args for mark in item.iter_markers("xdist_group")] != [("nodes",)])


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
