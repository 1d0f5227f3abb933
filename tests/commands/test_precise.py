"""`emoray plan --precision`: what makes intervals as narrow as is wished, from a pilot or from priors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emoray.analysis.planning import half_width, needed_questions, needed_repetitions
from emoray.commands.cli import main
from emoray.commands.precise import PRIORS
from emoray.notebook.run import load
from tests import runs

SPEC = """name: t
models: [{name: a, host: scripted}, {name: b, host: scripted}]
states: 12
questions: all
repetitions: 3
readers: [{kind: scripted, name: r}]
"""
PILOT = SPEC.replace("questions: all", "questions: [freedom, art, technology]").replace(
    "repetitions: 3", "repetitions: 2"
)
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "t.yaml").write_text(SPEC)
    return str(tmp_path / "t.yaml")


def told(capsys: Captured, *words: str) -> Any:
    assert main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def pilot(path: Path) -> str:
    """A run of model a whose questions differ, as do answers to one prompt."""
    folder = runs.begun(path, PILOT)
    asked = runs.asked(PILOT)
    runs.say(folder, asked)
    labels = {"freedom": ("joy", "anger"), "art": ("sadness", "joy"), "technology": ("fear", "joy")}
    for question, (first, second) in labels.items():
        for repetition, label in ((0, first), (1, second)):
            runs.feel(
                folder,
                [one for one in asked if one.cell.question.id == question and one.cell.repetition == repetition],
                label,
            )
    return str(path)


def test_without_a_pilot_the_priors_say_how_many_and_that_they_are_ours(spec: str, capsys: Captured) -> None:
    found = told(capsys, spec, "--precision", "0.08")
    one = found["lines"][0]
    assert one["as_planned"] == pytest.approx(half_width(PRIORS, 12, 10, 3))
    assert one["floor"] > 0.08
    assert one["repetitions"] is None
    assert found["by_repetitions"] is None
    assert one["questions"] == needed_questions(PRIORS, 12, 3, 0.08) == found["by_questions"]["questions"]
    assert found["by_questions"]["size"]["cells"] == 2 * 12 * 3 * one["questions"]
    assert "ours" in found["basis"]
    assert main(["plan", spec, "--precision", "0.08"]) == 0
    assert "more than 10 questions: however often they are asked, it stays ±0.0" in capsys.readouterr().out


def test_more_repetitions_are_told_with_all_their_cells_where_they_suffice(spec: str, capsys: Captured) -> None:
    wide = half_width(PRIORS, 12, 10, 9)
    found = told(capsys, spec, "--precision", f"{wide + 1e-9:.12f}")
    assert found["by_repetitions"]["repetitions"] == 9 == needed_repetitions(PRIORS, 12, 10, wide + 1e-9)
    assert found["by_repetitions"]["size"]["cells"] == 2 * 12 * 10 * 9


def test_a_pilot_tells_of_its_models_and_the_priors_of_the_others(spec: str, tmp_path: Path, capsys: Captured) -> None:
    place = pilot(tmp_path / "pilot")
    parts = load(place).found.models[0].scores.whole.parts
    found = told(capsys, spec, "--precision", "0.1", "--pilot", place)
    a, b = found["lines"]
    assert (a["basis"], b["basis"]) == ("pilot", "priors")
    assert parts.repetition > 0
    assert a["as_planned"] == pytest.approx(half_width(parts, 12, 10, 3))
    assert a["questions"] == needed_questions(parts, 12, 3, 0.1)
    assert found["by_questions"]["questions"] == max(a["questions"], b["questions"])
    assert place in found["basis"]


@pytest.mark.parametrize("given", ["0", "-1", "nan", "2", "x"])
def test_a_precision_that_no_interval_has_is_refused(spec: str, given: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", spec, f"--precision={given}"])
    assert ended.value.code == 2
    assert "must be a number from 0.001 to 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--pilot", "x"], "give both"),
        (["--precision", "0.1", "--freeze"], "one of them at a time"),
        (["--precision", "0.1", "--pilot", "nowhere"], "nowhere"),
    ],
)
def test_flags_that_do_not_go_together_are_one_sentence_and_write_nothing(
    spec: str, words: list[str], sentence: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", spec, *words]) == 2
    assert sentence in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["t.yaml"]


def test_a_pilot_of_other_models_is_refused(tmp_path: Path, spec: str, capsys: Captured) -> None:
    place = pilot(tmp_path / "pilot")
    Path(spec).write_text(SPEC.replace("name: a,", "name: c,"))
    assert main(["plan", spec, "--precision", "0.1", "--pilot", place]) == 2
    assert "has scored none of c by r, b by r" in capsys.readouterr().err


def test_a_pilot_of_one_question_is_one_of_these_models_and_they_go_by_the_priors(
    tmp_path: Path, spec: str, capsys: Captured
) -> None:
    one = SPEC.replace("questions: all", "questions: [art]")
    folder = runs.begun(tmp_path / "pilot", one)
    runs.say(folder, runs.asked(one))
    runs.feel(folder, runs.asked(one))
    found = told(capsys, spec, "--precision", "0.1", "--pilot", folder.uri)
    assert [line["basis"] for line in found["lines"]] == ["priors", "priors"]
