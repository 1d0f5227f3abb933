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
from emoray.spec.readers import GoEmotionsReader

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


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("claude-3-opus@20240229", "claude-3-opus-20240229"),
        ("llama3:8b", "llama3-8b"),
        ("../.merged (copy)", "merged -copy-"),
        (".", "model"),
        ("日" * 40, "日" * 21),
        ("no", "no"),
    ],
)
def test_a_model_is_named_by_what_of_its_id_may_stand_in_a_name(identity: str, name: str) -> None:
    assert main(["init", "--host", "hosted_api", "--model", identity]) == 0
    (model,) = load("spec.yaml").spec.models
    assert (model.id, model.name) == (identity, name)


@pytest.mark.parametrize(
    "reader", ["no", "1e3", "#x", "'", '"\\', "\x85x", "a\u2028b", "\ufeffx", "\x7f", "😀", "é 日本 " * 40]
)
def test_what_was_answered_stays_what_it_was_in_yaml(reader: str) -> None:
    assert main(["init", "--reader", reader]) == 0
    (entry,) = load("spec.yaml").spec.readers
    assert isinstance(entry, GoEmotionsReader)
    assert entry.model == reader


def test_without_any_input_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["init"]) == 0


def test_bytes_that_are_no_text_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    typist, terminal = pty.openpty()
    os.write(typist, b"caf\xe9\n\x04")
    monkeypatch.setattr("sys.stdin", os.fdopen(terminal, encoding="utf-8"))
    assert main(["init"]) == 2
    assert "not UTF-8 text" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_written_over(capsys: Captured) -> None:
    Path("spec.yaml").write_text("mine")
    assert main(["init"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert Path("spec.yaml").read_text() == "mine"


def test_for_programs_it_says_where_it_is(capsys: Captured) -> None:
    assert main(["init", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": "spec.yaml", "name": "mine"}
