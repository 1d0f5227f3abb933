"""Models apart from experiments: what is asked in one file, of whom in another."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from emoray.run_folder import manifest
from emoray.spec.base import SpecError
from emoray.spec.load import load, parse
from emoray.spec.models_file import models_file
from tests.programs import ROOT

JOBS = ROOT / "jobs"
INTENSITY = JOBS / "experiments" / "intensity.yaml"
READERS = "readers: [{kind: scripted, name: r}]\n"
ASKED = f"name: t\n{READERS}"
OWN = f"{ASKED}models: [{{name: own, host: scripted}}]\n"
THEIRS = "models: [{name: a, host: scripted}, {name: b, host: scripted}]\n"
JUDGED = """
name: t
models: [{name: own, host: hosted_api, id: x, account: unused}]
accounts: {openai: {budget_usd: 5}, unused: {}}
readers: [{kind: judge, name: j, model: {name: j, host: hosted_api, id: y, account: openai}}]
"""


def written(folder: Path, text: str, name: str = "models.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_a_spec_without_models_is_asked_of_those_of_a_file(tmp_path: Path) -> None:
    spec, theirs = written(tmp_path, ASKED, "spec.yaml"), written(tmp_path, THEIRS)
    assert [model.name for model in load(spec, models=theirs).spec.models] == ["a", "b"]


def test_the_files_models_take_the_place_of_the_specs(tmp_path: Path) -> None:
    spec, theirs = written(tmp_path, OWN, "spec.yaml"), written(tmp_path, THEIRS)
    assert [model.name for model in load(spec).spec.models] == ["own"]
    assert [model.name for model in load(spec, models=theirs).spec.models] == ["a", "b"]


def test_two_files_are_the_same_run_as_one_that_has_both(tmp_path: Path) -> None:
    apart = load(written(tmp_path, ASKED, "spec.yaml"), models=written(tmp_path, THEIRS))
    both = parse(ASKED + THEIRS)
    assert apart.spec == both.spec
    assert manifest.described(apart) == manifest.described(both)  # what run.json says


def test_a_change_is_of_the_two_together(tmp_path: Path) -> None:
    spec, theirs = written(tmp_path, ASKED, "spec.yaml"), written(tmp_path, THEIRS)
    changed = load(spec, ["models[1].name=c", "repetitions=2"], theirs)
    assert [model.name for model in changed.spec.models] == ["a", "c"]
    assert changed.experiment.repetitions == 2


def test_each_file_names_others_from_its_own_folder(tmp_path: Path) -> None:
    text = "models: [{name: a, host: vllm, id: org/model, chat_template: mine.jinja}]"
    theirs = written(tmp_path / "models", text)
    written(tmp_path / "models", "of the models {{ messages }}", "mine.jinja")
    written(tmp_path, "of the spec {{ messages }}", "mine.jinja")
    (model,) = load(written(tmp_path, ASKED, "spec.yaml"), models=theirs).spec.models
    assert model.model_dump()["chat_template"] == "of the models {{ messages }}"


def test_the_account_of_a_judge_stays_and_those_of_the_specs_models_go(tmp_path: Path) -> None:
    theirs = written(tmp_path, THEIRS + "accounts: {more: {share: 0.5}}\n")
    found = load(written(tmp_path, JUDGED, "spec.yaml"), models=theirs).spec
    assert found.accounts.keys() == {"openai", "more"}
    assert found.accounts["openai"].budget_usd == 5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no models; a models file has `models:`, and the `accounts:` that they need"),
        ("accounts: {}", "models is missing"),
        ("models: []", "models must have at least"),
        (
            THEIRS + "states: 4",
            "'states' does not belong into a models file, which has accounts and models alone; put it into the spec",
        ),
        ("models: [{name: a, host: scriptd}]", "got 'scriptd'; did you mean 'scripted'?"),
        ("models: [{name: a, host: scripted}, {name: a, host: scripted}]", "models has 'a' twice; give each its own"),
        ("models: [{name: a, host: hosted_api, id: x, account: openai}]", "models[0].account is 'openai', which acc"),
        ("models: [", "line 1: "),
    ],
)
def test_a_mistake_in_a_models_file_is_told_of_that_file(text: str, told: str, tmp_path: Path) -> None:
    theirs = written(tmp_path, text)
    with pytest.raises(SpecError) as wrong:
        load(written(tmp_path, ASKED, "spec.yaml"), models=theirs)
    (line,) = str(wrong.value).splitlines()
    assert line.startswith(f"{theirs}: ")
    assert told in line


def test_one_name_for_two_contracts_is_refused(tmp_path: Path) -> None:
    theirs = written(tmp_path, THEIRS + "accounts: {openai: {budget_usd: 500}}\n")
    spec = written(tmp_path, JUDGED, "spec.yaml")
    with pytest.raises(SpecError) as wrong:
        load(spec, models=theirs)
    assert str(wrong.value) == (
        f"{spec}: accounts.openai of a judge is another than that of {theirs}; make them the same, or give one another "
        "name"
    )


def test_who_names_no_models_is_told_of_both_ways(tmp_path: Path) -> None:
    spec = written(tmp_path, ASKED, "spec.yaml")
    with pytest.raises(SpecError) as wrong:
        load(spec)
    assert str(wrong.value) == f"{spec}: models is missing; name some, or give a file of them with --models"


@pytest.mark.parametrize("name", ["embedded", "open", "paper"])
def test_a_shipped_models_file_goes_with_a_shipped_experiment(name: str) -> None:
    file = JOBS / "models" / f"{name}.yaml"
    assert f" --models jobs/models/{name}.yaml " in file.read_text().splitlines()[0]
    found, alone = load(INTENSITY, models=file), load(INTENSITY)
    assert found.experiment.prompts_per_model == alone.experiment.prompts_per_model
    assert found.contrasts == alone.contrasts


def test_the_papers_models_are_those_of_its_spec() -> None:
    spec = yaml.safe_load((JOBS / "paper.yaml").read_text())
    theirs = models_file(JOBS / "models" / "paper.yaml")
    assert (theirs.models, theirs.accounts) == (spec["models"], spec["accounts"])
