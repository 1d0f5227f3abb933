"""The driver of a job, before it begins: where it may write, and whose lease it waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import entry
import pytest
import rayjob

from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import Claim
from tests.programs import ROOT


@pytest.mark.parametrize(
    ("command", "words", "sentence"),
    [
        ("run", ["spec.yaml"], "a job needs --out"),
        ("run", ["spec.yaml", "--out", "runs/t"], "runs/t lies in the job's own folder"),
        ("run", ["--out=runs/t", "spec.yaml"], "runs/t lies in the job's own folder"),
        ("score", ["runs/t", "--reader", "r"], "runs/t lies in the job's own folder"),
        ("report", ["/runs/t", "--out", "report"], "report lies in the job's own folder"),
    ],
)
def test_a_job_does_not_write_where_it_would_be_lost(
    command: str, words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(entry.CONFIG, "{}")

    assert entry.enter(command, words) == 2
    assert sentence in capsys.readouterr().err


def test_outside_of_a_job_a_folder_may_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(entry.CONFIG, raising=False)
    monkeypatch.chdir(tmp_path)

    assert entry.enter("report", ["runs/none"]) == 2  # emoray's own sentence
    assert "is no run folder" in capsys.readouterr().err


class Store:
    """A run folder with a lease, and a clock that the waiting moves."""

    def __init__(self, folder: RunFolder, until: float) -> None:
        self.now, self._folder = 0.0, folder
        self.claim = replace(Claim.here(since=0.0, expires=until), host="gone", place="elsewhere", held=True)
        self.write(self.claim)
        self.also: Callable[[], None] = lambda: None

    def write(self, claim: Claim) -> None:
        self._folder.write_text(f"_lease/{claim.token}.json", json.dumps(asdict(claim)))

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.also()


def test_a_lease_whose_holder_died_elsewhere_is_waited_for(tmp_path: Path) -> None:
    store = Store(RunFolder(str(tmp_path)), until=120.0)

    entry.outlast(str(tmp_path), clock=lambda: store.now, pause=store.pause)

    assert store.now == pytest.approx(120.0, abs=5.0)


def test_a_holder_that_renews_is_not_waited_for(tmp_path: Path) -> None:
    store = Store(RunFolder(str(tmp_path)), until=120.0)
    store.also = lambda: store.write(replace(store.claim, expires=150.0)) if store.now >= 30.0 else None

    entry.outlast(str(tmp_path), clock=lambda: store.now, pause=store.pause)

    assert store.now == pytest.approx(30.0, abs=5.0)


def test_a_folder_that_nobody_holds_is_not_waited_for(tmp_path: Path) -> None:
    waited: list[float] = []

    entry.outlast(str(tmp_path / "none"), pause=waited.append)

    assert waited == []


@pytest.mark.parametrize(("ended", "told"), [(0, 0), (1, 1), (2, 0), (3, 0), (130, 130)])
def test_kuberay_hears_a_failure_only_where_another_cluster_would_end_otherwise(
    ended: int, told: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rayjob, "enter", lambda *_: ended)

    assert rayjob.main(["spec.yaml"]) == told
    assert (f"ended with exit code {ended}" in capsys.readouterr().err) == (ended != told)


def test_kuberay_buys_no_cluster_for_a_flag_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert rayjob.main(["spec.yaml", "--no-such-flag"]) == 0
    assert "ended with exit code 2" in capsys.readouterr().err


def test_every_entry_script_starts(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "score", "report"):
        assert f'enter("{command}"' in (ROOT / f"jobs/{command}.py").read_text()
        with pytest.raises(SystemExit) as end:
            entry.enter(command, ["--help"])
        assert end.value.code == 0
        assert f"emoray {command}" in capsys.readouterr().out
