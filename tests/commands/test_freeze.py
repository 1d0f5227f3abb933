"""A plan that is frozen before a run, and what the report says of the run by it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from emoray.commands.cli import main
from emoray.commands.estimate import Size
from emoray.commands.freeze import freeze
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
    readings = {("r", "a"): answered}
    return {one.what: one for one in checked(plan, read, whole, {"a": answered}, readings, explored)}


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


def test_a_spec_that_ships_is_frozen_by_its_name_and_told_to_programs(capsys: Captured) -> None:
    assert main(["plan", "intensity", "--models", "embedded", "--freeze", "mine.md", "--json"]) == 0
    digest = Path("mine.md").read_text().rstrip().rsplit(" ", 1)[1]
    assert json.loads(capsys.readouterr().out) == {"file": "mine.md", "sha256": digest}
    assert (
        "Does a model that is asked for more of an emotional state express more of it?" in Path("mine.md").read_text()
    )


def test_a_plan_that_cannot_be_written_is_a_sentence(capsys: Captured) -> None:
    assert main(["plan", "spec.yaml", "--freeze", "/proc/mine.md"]) == 2
    told = capsys.readouterr()
    assert re.fullmatch(r"emoray: /proc/mine.md: cannot be written \([A-Z][a-z ]+\)\n", told.err)
    assert told.out == ""


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
        "seed",
        "readers",
        "hosts",
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
        ("name: t", "name: t\nseed: 1", {"seed"}, "seed: 0 → 1"),
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


HOSTED = """
name: t
models: [{name: a, host: hosted_api, id: m, account: mine}]
readers: [{kind: judge, name: r, model: {name: j, host: hosted_api, id: m, account: judges}}]
accounts: {mine: {base_url: "https://a.org/v1"}, judges: {base_url: "https://j.org/v1"}}
states: 4
questions: [freedom, art]
"""
OWN = HOSTED.replace("host: hosted_api, id: m, account: mine", "host: transformers, id: org/m")


@pytest.mark.parametrize(
    ("before", "now", "details"),
    [
        ("https://a.org", "https://b.org", ["hosts.models.a.base_url: https://a.org/v1 → https://b.org/v1"]),
        ("https://j.org", "https://b.org", ["hosts.readers.r.base_url: https://j.org/v1 → https://b.org/v1"]),
        ("id: m, account: judges", "id: m, account: mine", ["hosts.readers.r.base_url: https://j.org/v1 → https://a."]),
        ("a.org/v1", "a.org/v1/", []),  # the same place
        ("host: hosted_api, id: m, account: mine", "host: batch_api, id: m, account: mine", ["hosts.models.a.host: "]),
    ],
)
def test_where_a_model_and_a_judge_are_asked_is_frozen_whatever_the_account_is_called(
    before: str, now: str, details: list[str]
) -> None:
    for plan, run in ((HOSTED, HOSTED.replace(before, now)), (HOSTED.replace("mine", "other"), HOSTED)):
        found = against(plan_of(plan), run)
        deviating = [one for one in found.values() if one.verdict == "deviates"]
        wanted = details if run != HOSTED else []
        assert [one.what for one in deviating] == ["hosts"] * len(wanted)
        assert all(one.detail.startswith(detail) for one, detail in zip(deviating, wanted, strict=True))


def test_an_engine_of_another_kind_is_another_host() -> None:
    found = against(plan_of(OWN), OWN.replace("transformers", "vllm"))
    assert found["hosts"] == Checked("hosts", "deviates", "hosts.models.a.host: transformers → vllm")


def attempt(id: str, **told: Any) -> dict[str, Any]:
    return manifest.attempt(["emoray"]).as_json() | {"id": id, "began": runs.BEGAN.isoformat()} | told


def test_versions_are_those_of_every_attempt_that_asked_or_read_something() -> None:
    idle = {"model": "a", "answered": 0, "failed": {}, "read": {"r": 0}}
    other = manifest.versions() | {"ray": "0.1"}
    did = [attempt("1", lanes=[idle | {"answered": 8}], versions=other), attempt("4", lanes=[idle])]
    for killed in ({"id": "2"}, {"id": "2", "lanes": [{"model": "a", "answered": 0}]}):  # nobody knows what it read
        whole = [did[0], attempt(versions=other, **killed), attempt("3", lanes=[idle], versions=other), did[1]]
        versions = against(plan_of(), attempts=whole)["versions"]
        assert versions.verdict == "deviates"
        assert versions.detail.endswith(" → 0.1 (attempt 1, 2)")
    assert against(plan_of(), attempts=[attempt("3", lanes=[idle], versions=other), attempt("5")])[
        "versions"
    ] == Checked("versions", "as frozen")


def test_an_attempt_whose_record_was_lost_deviates() -> None:
    found = against(plan_of(), attempts=[attempt("1", versions={}), attempt("2")])["versions"]
    assert found.detail == f"versions: {len(manifest.versions())} settings → nothing (attempt 1)"


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


def test_cells_that_a_planned_reader_did_not_read_deviate(here: Path, capsys: Captured) -> None:
    spec = SPEC.replace("name: r}", "name: r}, {kind: scripted, name: s}, {kind: scripted, name: u}")
    Path("spec.yaml").write_text(spec)
    assert main(["plan", "spec.yaml", "--freeze"]) == 0
    asked, folder = runs.asked(spec), runs.begun(here / "run", spec)
    runs.say(folder, asked)
    runs.feel(folder, asked)
    runs.feel(folder, asked[:5], reader="s")
    runs.feel(folder, asked[5:7], reader="s", error="budget: spent")
    assert main(["report", "run", "--frozen", "t.plan.md"]) == 0
    unread = "3 of 8 cells of a have no reading by s; 8 of 8 cells of a have no reading by u"
    assert f"\nfrozen plan, cells: deviates ({unread})\n" in capsys.readouterr().out


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_a_plan_with_other_line_ends_is_refused_and_told_why(ends: str, capsys: Captured) -> None:
    assert main(["plan", "spec.yaml", "--freeze", "mine.md"]) == 0
    Path("mine.md").write_bytes(Path("mine.md").read_bytes().replace(b"\n", ends.encode()))
    capsys.readouterr()
    assert main(["report", "nowhere", "--frozen", "mine.md"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("emoray: mine.md: has other line ends than when it was frozen (")
    Path("mine.md").write_bytes(Path("mine.md").read_bytes().replace(b"It is", b"It was"))
    assert main(["report", "nowhere", "--frozen", "mine.md"]) == 2
    assert capsys.readouterr().err.startswith("emoray: mine.md: was changed after it was frozen (")


def test_a_block_in_the_question_is_not_the_plan() -> None:
    block = "So:\n\n```json\n" + json.dumps({"emoray_plan": frozen_plan.FORMAT, "name": "shadow"}) + "\n```\n"
    study = parse(SPEC)
    freeze(study, Path("mine.md"), {"question": block, "hypothesis": "It is.\n```json\n"}, Size(8, 1.0, 1.0, 0.0, ()))
    assert frozen_plan.thawed("mine.md")["name"] == "t"


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
