"""`emoray compare`: two runs, cell by cell where they asked the same, and what differs in what they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoray.commands.cli import main
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.manifests_apart import apart
from emoray.study.goemotions import label_map
from tests import runs

READER = "readers: [{kind: scripted, name: r}]\n"
GRID = "states: [0, 60]\nquestions: [freedom, art]\nrepetitions: 2\n" + READER
SPEC = "name: t\nmodels: [{name: a, host: scripted}]\n" + GRID
OTHER = "name: t\nmodels: [{name: other, host: scripted, lines: [Ha]}]\n" + GRID  # asked otherwise: other keys
STATES = (0.0, 60.0)
Captured = pytest.CaptureFixture[str]


def run(path: Path, label: str, spec: str = SPEC, model: str = "a", some: slice = slice(None)) -> str:
    """A run whose every answer was read as one label."""
    folder, asked = runs.begun(path, spec), runs.asked(spec, model)[some]
    runs.say(folder, asked)
    runs.feel(folder, asked, label)
    return str(path)


def cosine(label: str, state: float) -> float:
    (place,) = (one.affect for one in label_map().places if one.label == label)
    assert place is not None
    return float(np.cos(np.radians(place.angle_deg - state)))


def mean(label: str) -> float:
    return float(np.mean([cosine(label, state) for state in STATES]))


def told(capsys: Captured, *words: str, code: int = 0) -> Any:
    assert main(["compare", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_run_compared_with_itself_is_exactly_0(tmp_path: Path, capsys: Captured) -> None:
    a = run(tmp_path / "a", "joy")
    found = told(capsys, a, a, "--fail-above", "0")
    (one,) = found["compared"]
    assert [(line["of"], line["difference"], line["low"], line["high"]) for line in one["lines"]] == [
        (kind, 0, 0, 0) for kind in ("model", "state", "state", "question", "question")
    ]
    assert one["lines"][0]["p"] == 1
    assert (one["same"], one["by_means"], one["unpaired_a"], one["unpaired_b"]) == (8, 0, 0, 0)
    assert found["apart"] == []


def test_the_same_cells_are_paired_and_the_difference_is_b_minus_a(tmp_path: Path, capsys: Captured) -> None:
    a, b = run(tmp_path / "a", "joy"), run(tmp_path / "b", "sadness")
    (one,) = told(capsys, a, b)["compared"]
    whole, *rest = one["lines"]
    assert (whole["a"], whole["b"]) == pytest.approx((mean("joy"), mean("sadness")), abs=1e-6)
    assert whole["difference"] == pytest.approx(mean("sadness") - mean("joy"), abs=1e-6)
    assert [line["difference"] for line in rest if line["of"] == "state"] == pytest.approx(
        [cosine("sadness", state) - cosine("joy", state) for state in STATES], abs=1e-6
    )
    assert {line["level"] for line in rest if line["of"] == "state"} == {"0°", "60°"}
    assert len({line["level"] for line in rest if line["of"] == "question"}) == 2


def test_what_was_asked_otherwise_is_paired_by_state_and_question(tmp_path: Path, capsys: Captured) -> None:
    a, b = run(tmp_path / "a", "joy"), run(tmp_path / "b", "sadness", OTHER, "other")
    found = told(capsys, a, b)
    (one,) = found["compared"]
    assert (one["model"], one["same"], one["by_means"]) == ("a → other", 0, 4)
    assert one["lines"][0]["difference"] == pytest.approx(mean("sadness") - mean("joy"), abs=1e-6)
    assert [(each["what"], each["b"] is None) for each in found["apart"]][:1] == [("models.a", True)]


def test_a_cell_that_one_run_lacks_is_left_out_of_both_and_counted(tmp_path: Path, capsys: Captured) -> None:
    a, b = run(tmp_path / "a", "joy"), run(tmp_path / "b", "joy", some=slice(5))
    (one,) = told(capsys, a, b, "--fail-above", "0")["compared"]
    assert (one["same"], one["unpaired_a"], one["unpaired_b"]) == (5, 3, 0)


def test_a_change_beyond_what_was_allowed_is_exit_code_4(tmp_path: Path, capsys: Captured) -> None:
    a, b = run(tmp_path / "a", "joy"), run(tmp_path / "b", "sadness")
    far = mean("joy") - mean("sadness")
    assert main(["compare", a, b, "--fail-above", "0.05"]) == 4
    said = capsys.readouterr()
    assert said.err == f"a, read by r: B lies {far:.3g} below A, which is more than 0.05\n"
    assert f"{-far:+.3f}" in said.out
    assert main(["compare", a, b, "--fail-above", "2"]) == 0
    assert main(["compare", a, b]) == 0


def test_a_model_of_which_nothing_was_read_is_a_change_that_nobody_can_tell(tmp_path: Path, capsys: Captured) -> None:
    two = SPEC.replace("{name: a, host: scripted}", "{name: a, host: scripted}, {name: b, host: scripted}")
    places = run(tmp_path / "a", "joy", two), run(tmp_path / "b", "joy", two)
    some = runs.asked(two, "b")
    runs.say(RunFolder(places[0]), some)
    runs.feel(RunFolder(places[0]), some, "joy")  # the other run has none of b
    assert main(["compare", *places, "--fail-above", "1"]) == 4
    assert capsys.readouterr().err == "b, read by r: how far B lies from A, nobody can tell\n"


def test_both_are_scored_by_the_rules_of_the_first(tmp_path: Path, capsys: Captured) -> None:
    """Neutral readings score 0 in A, and B's spec drops them."""
    a, b = run(tmp_path / "a", "joy"), run(tmp_path / "b", "neutral", SPEC + "neutral: drop\n")
    found = told(capsys, a, b)
    assert found["compared"][0]["lines"][0]["difference"] == pytest.approx(-mean("joy"), abs=1e-6)
    assert found["apart"] == [{"what": "neutral", "a": "zero", "b": "drop"}]
    assert "neutral: zero" in found["rules"]


def test_intervals_of_a_question_are_those_of_its_prompts_asked_again(tmp_path: Path, capsys: Captured) -> None:
    """Where every second answer was read otherwise the gaps vary: one by one or by means they lie around the same."""
    lines = []
    for name, spec, model in (("b", SPEC, "a"), ("c", OTHER, "other")):
        asked = runs.asked(spec, model)
        folder = runs.begun(tmp_path / name, spec)
        runs.say(folder, asked)
        for repetition, label in ((0, "joy"), (1, "sadness")):
            runs.feel(folder, [one for one in asked if one.cell.repetition == repetition], label)
        (one,) = told(capsys, run(tmp_path / f"a{name}", "joy"), str(tmp_path / name))["compared"]
        lines.append([line for line in one["lines"] if line["of"] == "question"])
    for same, other in zip(*lines, strict=True):
        assert same["difference"] == pytest.approx((mean("sadness") - mean("joy")) / 2, abs=1e-6)
        assert other["difference"] == pytest.approx(same["difference"], abs=1e-6)
        for line in (same, other):
            assert -2 <= line["low"] < line["difference"] < line["high"] <= 2
            assert line["p"] is None


@pytest.mark.parametrize(
    ("spec", "model", "sentence"),
    [
        (SPEC.replace("name: r}", "name: s}"), "a", "was read by r and"),
        (SPEC.replace("[0, 60]", "[90]"), "a", "no scored state and question in common at template parameters, inten"),
        (
            SPEC.replace("{name: a, host: scripted}", "{name: x, host: scripted}, {name: y, host: scripted}"),
            "x",
            "asks x, y: none is in both, so nobody knows which to compare",
        ),
    ],
)
def test_what_has_nothing_in_common_is_a_sentence(
    spec: str, model: str, sentence: str, tmp_path: Path, capsys: Captured
) -> None:
    a = run(tmp_path / "a", "joy")
    folder, asked = runs.begun(tmp_path / "b", spec), runs.asked(spec, model)
    runs.say(folder, asked)
    runs.feel(folder, asked, "joy", reader=spec.split("kind: scripted, name: ")[1][0])
    assert main(["compare", a, folder.uri]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("far", ["-1", "much", "3", "nan"])
def test_how_far_is_allowed_is_a_number_of_cosines(far: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", "a", "b", "--fail-above", far])
    assert ended.value.code == 2
    assert "must be a number from 0 to 2" in capsys.readouterr().err


def test_what_is_no_run_is_a_sentence(tmp_path: Path, capsys: Captured) -> None:
    assert main(["compare", run(tmp_path / "a", "joy"), str(tmp_path / "none")]) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_manifests_differ_in_named_settings_and_in_versions_and_not_in_when_they_ran() -> None:
    kept = [
        {
            "digest": digest,
            "spec": {"name": digest, "models": models, "sampling": {"temperature": hot, "top_p": None}},
            "attempts": [{"began": digest, "versions": {"ray": ray}}],
        }
        for digest, models, hot, ray in (
            ("1", [{"name": "x", "id": "x-1"}], 1.0, "2.60"),
            ("2", [{"name": "new", "id": "n"}, {"name": "x", "id": "x-2"}], 0.5, "2.61"),
        )
    ]
    assert [str(one) for one in apart(kept[0], kept[1])] == [
        "models.x.id: x-1 → x-2",
        "models.new: nothing → one",
        "sampling.temperature: 1.0 → 0.5",
        "versions.ray: 2.60 → 2.61",
    ]
    assert apart(kept[0], kept[0]) == ()
