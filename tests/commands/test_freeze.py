"""A plan that is frozen before a run, and what the report says of the run by it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from emoray.commands.cli import main
from emoray.run_folder import frozen_plan, manifest
from emoray.run_folder.frozen_plan import Checked, checked
from emoray.spec.load import parse
from emoray.study.contrasts import of_entry
from tests import runs

CONTRAST = "{factor: state, a: pleasant, b: unpleasant, margin: 0.1}"
HEAD = "# Question: Is it so?\n# Hypothesis: It is.\n"
SPEC = f"""
name: t
models: [{{name: a, host: scripted}}]
states: 4
questions: [freedom, art]
readers: [{{kind: scripted, name: r}}]
contrasts: [{CONTRAST}]
"""
FROZEN = "2026-01-02T02:00:00+00:00"  # an hour before `runs.begun`
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everybody works in a folder with a spec."""
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(HEAD + SPEC)
    return tmp_path


def plan_of(text: str = SPEC) -> dict[str, Any]:
    return frozen_plan.frozen(parse(text)) | {"frozen": FROZEN}


def against(
    plan: dict[str, Any], text: str = SPEC, *, answered: int = 8, looked_at: str = "", **kept: Any
) -> dict[str, Checked]:
    """What is said of a run of a spec that ended, as run.json has it, part by part."""
    study = parse(text)
    attempt = manifest.attempt(["emoray"]).as_json() | {"began": runs.BEGAN.isoformat()}
    whole = manifest.fresh(study).as_json() | {"attempts": [attempt]} | kept
    read = manifest.study(manifest.parsed(whole, "RUN"), "RUN")
    explored = [of_entry({"factor": "state", "a": "activated", "b": "deactivated"})] if looked_at else []
    return {one.what: one for one in checked(plan, read, whole, {"a": answered}, explored)}


def test_a_frozen_plan_has_the_headings_of_a_preregistration_and_tells_its_digest(capsys: Captured) -> None:
    assert main(["plan", "spec.yaml", "--freeze"]) == 0
    text, said = Path("t.plan.md").read_text(), capsys.readouterr().out
    headings = ["Study information", "Design plan", "Sampling plan", "Variables", "Analysis plan"]
    assert re.findall("^# (.*)$", text, re.MULTILINE)[:5] == headings
    assert "## Hypotheses\n\nIt is.\n" in text
    assert "- state: pleasant − unpleasant, margin ±0.1" in text
    digest = text.rstrip().rsplit(" ", 1)[1]
    assert said.startswith(f"t.plan.md: frozen, sha256 {digest}\n")
    assert frozen_plan.thawed("t.plan.md")["name"] == "t"
    assert not Path("runs").exists()


def test_a_plan_that_was_changed_in_one_character_is_found(capsys: Captured) -> None:
    assert main(["plan", "spec.yaml", "--freeze", "mine.md"]) == 0
    text = Path("mine.md").read_text()
    places = [text.index("pleasant"), text.index('"repetitions": 1') + 15, len(text) // 2, len(text) - 2]
    for place in places:
        other = "8" if text[place] != "8" else "9"
        Path("mine.md").write_text(text[:place] + other + text[place + 1 :])
        capsys.readouterr()
        assert main(["report", "nowhere", "--frozen", "mine.md"]) == 2
        assert capsys.readouterr().err.startswith("emoray: mine.md: was changed after it was frozen (")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("none.md", "none.md: cannot be read (No such file or directory)"),
        ("spec.yaml", "spec.yaml: is no frozen plan ("),
    ],
)
def test_what_is_no_frozen_plan_is_a_sentence(file: str, sentence: str, capsys: Captured) -> None:
    assert main(["report", "nowhere", "--frozen", file]) == 2
    assert capsys.readouterr().err.startswith(f"emoray: {sentence}")


def test_a_frozen_plan_is_not_written_over(capsys: Captured) -> None:
    assert main(["plan", "spec.yaml", "--freeze"]) == 0
    before = Path("t.plan.md").read_text()
    assert main(["plan", "spec.yaml", "--freeze"]) == 2
    assert "a frozen plan is not written over; give another name" in capsys.readouterr().err
    assert Path("t.plan.md").read_text() == before


def test_a_run_of_the_plan_is_as_frozen_in_every_part() -> None:
    found = against(plan_of())
    assert {one.verdict for one in found.values()} == {"as frozen"}
    assert found.keys() >= {
        "models",
        "questions",
        "readers",
        "label map",
        "rules",
        "stopping rule",
        "versions",
        "cells",
    }
    assert "contrast state: pleasant − unpleasant, margin ±0.1" in found


@pytest.mark.parametrize(
    ("before", "now", "what", "detail"),
    [
        ("states: 4", "states: 8", {"states", "stopping rule"}, ""),
        ("[freedom, art]", "[freedom, {id: art, text: Why}]", {"questions"}, "questions.art.text: "),
        ("name: a,", "name: a, sampling: {temperature: 0.5},", {"models"}, "models.a.sampling.temperature: "),
        ("kind: scripted, name: r", "kind: goemotions, model: embedded, name: r", {"readers"}, "readers.r."),
        ("name: t", "name: t\nlabel_map: ratings", {"label map"}, "label map.name: russell → ratings"),
        ("name: t", "name: t\nneutral: drop", {"rules"}, "rules.neutral: zero → drop"),
        ("name: t", "name: t\nbudget_usd: 5", {"stopping rule"}, "stopping rule.budget_usd: nothing → 5.0"),
        ("name: t", "name: t\nrepetitions: 3", {"repetitions", "stopping rule"}, "repetitions: 1 → 3"),
        (f"contrasts: [{CONTRAST}]", "", {"contrast state: pleasant − unpleasant, margin ±0.1"}, "it is not told"),
    ],
)
def test_what_was_run_otherwise_deviates_and_says_how(before: str, now: str, what: set[str], detail: str) -> None:
    found = against(plan_of(), SPEC.replace(before, now), answered=100)
    deviating = {name: one for name, one in found.items() if one.verdict == "deviates"}
    assert deviating.keys() == what
    assert any(one.detail.startswith(detail) for one in deviating.values())


def test_a_contrast_with_another_margin_is_another_contrast() -> None:
    found = against(plan_of(SPEC.replace("margin: 0.1", "margin: 0.2")))
    assert {name: one.verdict for name, one in found.items() if name.startswith("contrast")} == {
        "contrast state: pleasant − unpleasant, margin ±0.2": "deviates",
        "contrast state: pleasant − unpleasant, margin ±0.1": "exploratory",
    }


def test_what_came_beside_the_plan_is_exploratory() -> None:
    found = against(plan_of(), looked_at="yes", more_readers=[{"kind": "scripted", "name": "later"}])
    assert found["contrast state: activated − deactivated, no margin"].verdict == "exploratory"
    assert found["reader later"].verdict == "exploratory"
    assert found["contrast state: pleasant − unpleasant, margin ±0.1"].verdict == "as frozen"


def test_a_plan_that_is_younger_than_the_run_and_cells_without_an_answer_deviate() -> None:
    late = against(plan_of() | {"frozen": "2026-01-03T00:00:00+00:00"}, answered=6)
    assert late["frozen before the run"].verdict == "deviates"
    assert late["cells"] == Checked("cells", "deviates", "2 of 8 cells of a have no answer")


def test_the_report_tells_it_on_its_page_in_its_summary_and_at_its_end(here: Path, capsys: Captured) -> None:
    assert main(["plan", "spec.yaml", "--freeze"]) == 0
    asked = runs.asked(SPEC)
    folder = runs.begun(here / "run", SPEC)
    runs.say(folder, asked)
    runs.feel(folder, asked, "joy")
    assert main(["report", "run", "--frozen", "t.plan.md", "--neutral", "drop"]) == 0
    said = capsys.readouterr().out
    assert "\nfrozen plan, questions: as frozen\n" in said
    assert "\nfrozen plan, frozen before the run: deviates (the run began at 2026-01-02" in said
    assert "\nfrozen plan, this report: exploratory (its rules or its label map are not the run's)\n" in said
    told = json.loads(Path("run/report/summary.json").read_text())["frozen"]
    assert {"what": "questions", "verdict": "as frozen", "detail": ""} in told
    page = Path("run/report/report.html").read_text()
    assert '<section id="frozen">' in page
    assert "<td>deviates</td>" in page
