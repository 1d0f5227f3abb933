"""A folder that has answers and has lost its run.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emoray.commands.cli import main
from emoray.commands.described import described_as
from emoray.commands.report import report
from emoray.commands.status import status
from emoray.errors import UserError
from emoray.run_folder import recovery
from emoray.run_folder.columns import ANSWERS, asked, with_answers
from emoray.run_folder.compaction import compact
from emoray.run_folder.errors import BrokenManifest
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.study.outcomes import Reply
from tests import runs

ATTEMPT = "20260102T030000-0abc12"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Of which run.json is lost; its answers were asked on 2026-01-02."""
    folder = runs.begun(tmp_path / "run")
    replies = [Reply(prompt.key, runs.ANSWER, runs.BEGAN, 0.1) for prompt in runs.asked()]
    with Journal(folder.answers("a"), f"{ATTEMPT}-actor", schema=ANSWERS) as journal:
        table = with_answers(asked(runs.asked()), replies, host="scripted", revision=None, engine=None)
        journal.append(table).result(60)
    Path(folder.path("run.json")).unlink()
    return folder


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(runs.SPEC)
    return path


def everything(folder: RunFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(folder.path()).rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", [["status"], ["report"], ["compact"], ["sample", "--out", "x.csv"]])
def test_whoever_reads_such_a_folder_is_told_what_to_do(
    command: list[str], folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.path())
    assert main([command[0], folder.uri, *command[1:]]) == 2
    said = capsys.readouterr().err
    assert f"{folder.uri} holds answers and no run.json" in said
    assert "--extend" in said


def test_a_run_refuses_such_a_folder_and_touches_nothing(
    folder: RunFolder, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(folder)
    assert main(["run", "--verbose", str(spec), "--out", folder.uri]) == 2
    assert "nobody knows to what they are answers" in capsys.readouterr().err
    assert everything(folder) == before
    assert main(["plan", str(spec), "--out", folder.uri]) == 0
    assert "`run` takes those that the spec asks for with --extend" in capsys.readouterr().out


def test_a_broken_manifest_is_refused_too_and_its_advice_mixes_no_experiments(
    folder: RunFolder, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_text("run.json", "")
    for command in (
        ["run", "--verbose", str(spec), "--out", folder.uri],
        ["status", folder.uri],
        ["report", folder.uri],
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "run.json is broken" in said
        assert "--extend" in said
        assert "delete" not in said


def test_with_extend_the_spec_and_the_answers_make_a_manifest(folder: RunFolder) -> None:
    folder.write_text("run.json", "{")
    study = runs.study(runs.SPEC.replace("repetitions: 2", "repetitions: 1"))  # 6 of the 12 answers are not asked for

    whole = described_as(folder, study, extend=True)
    folder.set_aside_broken_manifest()
    folder.write_manifest(whole.as_json())

    assert (folder.manifest() or {})["digest"] == study.spec.digest
    assert whole.day == "2026-01-02"
    assert whole.contrasts_first == []  # nobody knows what was said before there were answers
    assert [one.id for one in whole.attempts] == [ATTEMPT]
    assert [one.end for one in whole.attempts] == ["its record was lost with run.json"]
    assert [(one.settled, one.owed) for one in status(folder).models] == [(6, 0), (0, 6)]
    assert "left out: 6 answers" in str(report(folder))
    (aside,) = Path(folder.path("torn")).iterdir()
    assert aside.read_text() == "{"


def test_compacted_answers_tell_the_day_too(folder: RunFolder) -> None:
    compact(folder.answers("a"))
    whole = recovery.rebuilt(folder, runs.study())
    assert (whole.day, len(whole.attempts)) == ("2026-01-02", 1)
    assert whole.attempts[0].began.startswith("2026-01-02T03:00:00")


def test_a_folder_without_answers_begins_as_ever(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    assert recovery.kept(folder) is None
    assert described_as(folder, runs.study(), extend=False).attempts == []


def test_a_manifest_that_can_be_read_is_not_set_aside(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path / "run")
    before = folder.manifest()
    folder.set_aside_broken_manifest()
    assert folder.manifest() == before
    folder.write_text("run.json", json.dumps([1]))
    with pytest.raises(BrokenManifest):
        folder.manifest()
    with pytest.raises(UserError):
        recovery.kept(RunFolder(runs_without(folder)))


def runs_without(folder: RunFolder) -> str:
    runs.say(folder, runs.asked()[:1])
    Path(folder.path("run.json")).unlink()
    return folder.uri
