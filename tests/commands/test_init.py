"""A first spec, asked for and written."""

from __future__ import annotations

import io
import json
import os
import pty
from pathlib import Path

import pytest

from emoray.commands.cli import main
from emoray.spec.load import load

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sits there, unless a test says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())


def answering(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody at a terminal, who types this and then ends the input."""
    typist, terminal = pty.openpty()
    os.write(typist, text.encode() + b"\x04")
    monkeypatch.setattr("sys.stdin", os.fdopen(terminal))


def test_with_no_flag_and_nobody_to_ask_it_is_the_quickstart() -> None:
    assert main(["init"]) == 0
    written, quickstart = load("spec.yaml").experiment, load("quickstart").experiment
    assert (written.models, written.states) == (quickstart.models, quickstart.states)
    assert written.cells_per_model == quickstart.cells_per_model


@pytest.mark.parametrize("host", ["transformers", "vllm", "hosted_api"])
def test_flags_say_all_and_the_spec_is_valid(host: str) -> None:
    flags = ["--model", "meta-llama/Meta-Llama-3-8B", "--name", "Émile", "--states", "8", "--repetitions", "2"]
    assert main(["init", "my.yaml", "--host", host, *flags, "--reader", "a/b"]) == 0
    study = load("my.yaml")
    (model,) = study.spec.models
    assert (study.spec.name, len(study.experiment.states), study.experiment.repetitions) == ("Émile", 8, 2)
    assert (model.host, model.id, model.name) == (host, "meta-llama/Meta-Llama-3-8B", "Meta-Llama-3-8B")
    assert [one.key_env for one in study.spec.accounts.values()] == (["OPENAI_API_KEY"] if host == "hosted_api" else [])


def test_questions_are_asked_and_an_empty_line_takes_what_stands_in_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    answering("night\nhosted_api\ngpt-4o\nMY_KEY\n\n6\n\n", monkeypatch)
    assert main(["init"]) == 0
    study = load("spec.yaml")
    assert study.spec.accounts["provider"].key_env == "MY_KEY"
    assert (study.spec.name, len(study.experiment.states), study.experiment.repetitions) == ("night", 6, 3)
    assert capsys.readouterr().err.count("?") == 7


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--host", "vllm"], "--model is needed"),
        (["--model", "x"], "--model says nothing of host embedded; leave it out"),
        (["--name", "a/b"], "spec.yaml: name"),
        (["no/folder.yaml"], "no/folder.yaml: the folder for it is not there"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(
    flags: list[str], sentence: str, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["init", *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"emoray: {sentence}")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_who_ends_the_input_before_the_last_question_gets_no_spec(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    answering("night\n", monkeypatch)
    assert main(["init"]) == 2
    assert "were not answered to the end, and nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_written_over(capsys: Captured) -> None:
    Path("spec.yaml").write_text("mine")
    assert main(["init"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert Path("spec.yaml").read_text() == "mine"


def test_for_programs_it_says_where_it_is(capsys: Captured) -> None:
    assert main(["init", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": "spec.yaml", "name": "mine"}
