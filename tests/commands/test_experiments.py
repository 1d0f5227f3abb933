"""`emoray experiments`, and models that are named apart, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emoray.commands.cli import _parser, main
from emoray.commands.experiments import SHIPPED, experiments
from emoray.commands.run import _again
from emoray.spec.head import said_in_head
from tests.programs import ROOT

PAPER = str(ROOT / "jobs" / "models" / "paper.yaml")
SPEC = "# Question: Is it so?\n#           Or not?\n# Cost: none\nname: t\nreaders: [{kind: scripted, name: r}]\n"
MODELS = "models: [{name: a, host: scripted}]"
HEADS = {"question", "hypothesis", "contrasts", "cost", "expected"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everybody works in a folder with an experiment and a file of models."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/t.yaml").write_text(SPEC)
    Path("models.yaml").write_text(MODELS)
    return tmp_path


def test_what_ships_is_listed_with_its_question_its_cells_and_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiments"]) == 0
    told = capsys.readouterr().out
    assert "Does a model that is asked for more of an emotional state express more of it?" in told
    assert "960 cells per model: embedded\n  960 cells: " in told
    assert f"emoray run {SHIPPED / 'intensity.yaml'}\n" in told

    assert main(["experiments", "--models", PAPER, "--json"]) == 0
    (intensity,) = [one for one in json.loads(capsys.readouterr().out) if one["name"] == "intensity"]
    assert intensity["cells"] == 9 * 960
    assert 5 < intensity["usd"] < 50
    assert intensity["unpriced"] == []


def test_every_shipped_experiment_says_what_it_is_about_in_its_head() -> None:
    for one in experiments():
        assert one.head.keys() >= HEADS, one.path
        assert f"{one.cells_per_model:,} cells per model" in one.head["cost"], one.path
    assert len(experiments()) == len(list(SHIPPED.glob("*.yaml"))) >= 3


def test_the_head_of_a_file_ends_where_its_settings_begin() -> None:
    assert said_in_head(SPEC + "# Expected: no head\n") == {"question": "Is it so? Or not?", "cost": "none"}


@pytest.mark.parametrize("command", [["plan", "mine/t.yaml"], ["experiments", "mine"]])
def test_models_that_are_missing_are_a_sentence_and_a_file_of_them_helps(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == ("emoray: mine/t.yaml: models is missing; name some, or give a file of them with --models\n")
    assert main([*command, "--models", "models.yaml"]) == 0


def test_a_folder_without_experiments_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiments", "nowhere"]) == 2
    assert capsys.readouterr().err == (
        "emoray: nowhere: has no experiments (*.yaml); give a folder of specs, such as jobs/experiments of emoray's "
        "checkout\n"
    )


@pytest.mark.parametrize("command", ["run", "plan", "rehearse"])
def test_a_models_file_that_is_not_there_is_told_before_anything_else(
    command: str, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    assert main([command, "mine/t.yaml", "--models", "none.yaml"]) == 2
    assert capsys.readouterr().err == "emoray: none.yaml: cannot be read (No such file or directory)\n"
    assert {path.name for path in here.iterdir()} == {"mine", "models.yaml"}


def test_the_command_that_resumes_a_run_names_its_models() -> None:
    arguments = _parser().parse_args(["run", "mine/t.yaml", "--models", "models.yaml"])
    assert _again(arguments) == "emoray run mine/t.yaml --models models.yaml"
