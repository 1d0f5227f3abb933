"""A reader in a YAML file of its own, for `score` and `validate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from emoray.spec.base import SpecError
from emoray.spec.load import parse, with_reader
from emoray.spec.models import Hosted
from emoray.spec.readers import JudgeReader, reads_as
from tests import runs

JUDGE = """
kind: judge
name: judge
model: {host: hosted_api, name: m, id: gpt-4o, account: mine}
accounts: {mine: {key_env: MY_KEY}}
"""


def written(path: Path, text: str) -> Path:
    file = path / "reader.yaml"
    file.write_text(text)
    return file


def test_a_judge_brings_its_account(tmp_path: Path) -> None:
    spec = with_reader(written(tmp_path, JUDGE))
    (judge,) = spec.readers
    assert isinstance(judge, JudgeReader)
    assert isinstance(judge.model, Hosted)
    assert spec.accounts["mine"].key_env == "MY_KEY"


def test_it_may_use_the_accounts_of_the_run_and_what_lies_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('system = "s"\nuser = "{text}"\n')
    of_run = parse(runs.SPEC.replace("name: t", "name: t\naccounts: {mine: {}}", 1)).spec
    text = JUDGE.replace("accounts: {mine: {key_env: MY_KEY}}", "rubric: mine.toml")
    spec = with_reader(written(tmp_path, text), of_run)
    assert [entry.name for entry in spec.models] == ["a", "b b"]
    assert isinstance(spec.readers[0], JudgeReader)
    assert "{text}" in spec.readers[0].rubric


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n", "holds no reader; one begins with `kind:` and `name:`, as under `readers` of a spec"),
        ("", "holds no reader; one begins with `kind:` and `name:`, as under `readers` of a spec"),
        ("name: x\n", "the reader needs kind: one of goemotions, regressor, judge, scripted"),
        ("kind: goemotions\nname: x\nmodle: y\n", "modle is not a setting; did you mean 'model'?"),
        (JUDGE.split("accounts")[0], "model.account is 'mine', which accounts does not define"),
        (
            f"{JUDGE.split('accounts')[0]}accounts: 3\n",
            "accounts must be a section of settings (name: value), got 3; write <name>: {key_env: …, base_url: …}",
        ),
        ("kind: goemotions\nname: x\nlabel_map: no.yaml\n", "label_map is 'no.yaml', which is no file"),
        ("kind: regressor\nname: x\nmodel: m\nrange: [1, 0]\n", "range: must be [lowest, highest], got [1.0, 0.0]"),
    ],
)
def test_a_mistake_in_it_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SpecError) as told:
        with_reader(file)
    assert str(told.value) == f"{file}: {sentence}"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no\.yaml: cannot be read \(No such file or directory\)"):
        with_reader(tmp_path / "no.yaml")


def test_two_readers_read_alike_whatever_they_are_called_and_however_they_are_run() -> None:
    one, same, other = (
        parse(f"name: t\nmodels: [{{name: a, host: scripted}}]\nreaders: [{{kind: goemotions, {more}}}]").spec.readers[
            0
        ]
        for more in ("name: x, model: hub/m", "name: y, model: hub/m, actors: 3, gpus: 1", "name: x, model: hub/n")
    )
    assert reads_as(one) == reads_as(same) != reads_as(other)
