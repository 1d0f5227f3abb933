"""What a spec would ask, told without asking."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emoray import plan
from emoray.spec import load
from tests import runs

JOBS = Path(__file__).resolve().parent.parent / "jobs"


def test_everything_is_owed_to_a_folder_that_is_not_there_and_it_stays_not_there(tmp_path: Path) -> None:
    found = plan.plan(runs.study(), str(tmp_path / "run"))
    assert [(m.model, m.cells, m.settled, m.owed) for m in found.models] == [("a", 12, 0, 12), ("b b", 12, 0, 12)]
    assert list(tmp_path.iterdir()) == []


def test_what_is_settled_is_not_owed_and_failures_are(tmp_path: Path) -> None:
    folder, cells = runs.begun(tmp_path), runs.asked()
    runs.say(folder, cells[:5])
    runs.say(folder, cells[5:8], runs.FAILURE)
    first, second = plan.plan(runs.study(), str(tmp_path)).models
    assert (first.settled, first.owed) == (5, 7)
    assert (second.settled, second.owed) == (0, 12)


def test_raising_repetitions_owes_only_the_new_cells(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    runs.say(folder, runs.asked())
    more = plan.plan(runs.study(runs.SPEC.replace("repetitions: 2", "repetitions: 7")), str(tmp_path)).models[0]
    assert (more.cells, more.settled, more.owed) == (42, 12, 30)


def test_answers_to_another_template_settle_nothing(tmp_path: Path) -> None:
    folder = runs.begun(tmp_path)
    runs.say(folder, runs.asked())
    other = plan.plan(runs.study(f"{runs.SPEC}templates: verbal\n"), str(tmp_path)).models[0]
    assert (other.settled, other.owed) == (0, 12)


def test_the_text_shows_the_grid_and_one_whole_prompt(tmp_path: Path) -> None:
    text = plan.plan(runs.study(), str(tmp_path / "run")).text()
    assert text.startswith(
        "t: 3 states × 1 intensities × 1 templates × 2 questions × 2 repetitions = 12 cells for each of 2 models\n"
    )
    assert "  user: What" in text
    assert "arousal=" in text
    assert "readers: r" in text


def test_for_programs_it_is_json(tmp_path: Path) -> None:
    data = json.loads(json.dumps(plan.plan(runs.study(), str(tmp_path / "run")).as_json()))
    assert data["cells"] == 24
    assert [message["role"] for message in data["example"]] == ["system", "user"]
    assert data["models"][0]["owed"] == 12


@pytest.mark.parametrize("name", ["paper.yaml", "overnight.yaml", "quickstart.yaml"])
def test_a_shipped_spec_is_planned_without_keys_and_gpus(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY", "CO_API_KEY", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    study = load(JOBS / name)
    found = plan.plan(study, str(tmp_path / "run"))
    assert sum(model.cells for model in found.models) == len(study.experiment)
    assert found.cluster is None
    for model in study.spec.models:
        assert model.name in found.text()


def test_a_plan_says_what_hosted_models_would_cost_and_what_gpus_a_lane_takes(tmp_path: Path) -> None:
    found = {model.model: model for model in plan.plan(load(JOBS / "paper.yaml"), str(tmp_path / "run")).models}
    assert found["GPT-4o"].expected is not None
    assert found["Llama3 70B Instruct"].expected is None
    assert "4 GPUs" in found["Llama3 70B Instruct"].needs
