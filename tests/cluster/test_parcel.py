"""What travels to a cluster with a run: what is named, and nothing beside it."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import submit
import yaml
from submission.parcel import parcel, pins

from emoray.errors import UserError
from emoray.spec.load import load
from tests.programs import ROOT

SPEC = """
name: t
models: [{name: a, host: scripted}]
readers: [{kind: scripted, name: r}]
label_map: maps/mine.yaml
"""
MAP = "joy: {term: happy}\n"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/mine.yaml").write_text(MAP)
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-nobody\n")
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path / "spec.yaml"


def test_a_spec_from_elsewhere_travels_with_the_files_that_it_names(spec: Path, tmp_path: Path) -> None:
    made = parcel(spec)

    made.pack(tmp_path / "there")
    assert made.spec == "spec/spec.yaml"
    assert (tmp_path / "there/spec/maps/mine.yaml").read_text() == MAP
    assert [path.name for path in tmp_path.rglob(".env")] == [".env"]  # it lies beside the spec,
    assert not list((tmp_path / "there").rglob(".env"))  # and stays there


def test_a_spec_of_the_checkout_keeps_its_place() -> None:
    assert parcel(ROOT / "jobs/quickstart.yaml").spec == "jobs/quickstart.yaml"


def test_what_travels_is_enough_for_a_driver_and_holds_nothing_else(
    tmp_path: Path,
) -> None:
    made = parcel(ROOT / "jobs/quickstart.yaml")
    made.pack(tmp_path)

    done = subprocess.run(
        [sys.executable, "-P", "jobs/run.py", "--help"],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "jobs"}, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert load(tmp_path / made.spec).spec.digest == load(ROOT / made.spec).spec.digest
    assert {place.split("/")[0] for place in made.files} == {"emoray", "jobs"}
    assert not [place for place in made.files if "__pycache__" in place or place.startswith("jobs/benchmarks")]


def test_a_file_named_by_a_change_travels_too(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(MAP)

    assert "spec/other.yaml" in parcel(spec, ["label_map=other.yaml"]).files


def test_a_file_of_models_travels_with_what_it_names_itself(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "whom").mkdir()
    (tmp_path / "whom/mine.jinja").write_text("{{ messages }}")
    theirs = tmp_path / "whom/spec.yaml"  # called as the spec is
    theirs.write_text("models: [{name: a, host: vllm, id: org/model, chat_template: mine.jinja}]\n")
    made = parcel(spec, models=theirs)
    assert (made.spec, made.models) == ("spec/spec.yaml", "models/spec.yaml")
    made.pack(tmp_path / "there")
    assert made.models is not None
    (there,) = yaml.safe_load((tmp_path / "there" / made.models).read_text())["models"]
    assert (tmp_path / "there/models" / there["chat_template"]).read_text() == "{{ messages }}"
    assert parcel(spec, models=ROOT / "jobs/models/open.yaml").models == "jobs/models/open.yaml"


@pytest.mark.parametrize("place", ["../../mine.yaml", "{absolute}"])
def test_a_file_that_cannot_travel_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MAP)
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    named = place.format(absolute=tmp_path / "mine.yaml")
    (folder / "spec.yaml").write_text(SPEC.replace("maps/mine.yaml", named))

    with pytest.raises(UserError, match="lies outside of what travels to the cluster"):
        parcel(folder / "spec.yaml")


def test_a_model_in_a_folder_of_this_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: t\nmodels: [{name: a, host: transformers, id: weights}]\n")

    with pytest.raises(UserError, match="a folder of this machine, which does not travel"):
        parcel(spec)


def test_the_pins_are_what_this_machine_has_and_leave_ray_to_the_cluster() -> None:
    found = pins(["hosted"])

    assert f"pyarrow=={metadata.version('pyarrow')}" in found
    assert f"openai[aiohttp]=={metadata.version('openai')}" in found
    assert not any(pin.startswith(("ray", "torch")) for pin in found)


def test_a_build_of_this_machine_is_not_asked_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "2.13.0+cpu")

    assert "torch==2.13.0" in pins(["local"])


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--out", ["--out", "s3://key:canary-77@bucket/run"]),
        ("--out", ["--out", "s3://key:ab/canary-77@bucket/run"]),  # urlsplit sees no password here
        ("--out", ["--out", "abfs://box@account.dfs.core.windows.net/run?client_secret=canary-77"]),
        ("--set", ["--out", "s3://b/r", "--set", "accounts.a.base_url=https://u:canary-77@proxy/v1"]),
        ("--set", ["--out", "s3://b/r", "--set", 'accounts={a: {base_url: "https://u:canary-77@proxy/v1"}}']),
    ],
)
def test_a_secret_does_not_become_part_of_the_command_of_a_job(
    flag: str, words: list[str], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit.main([str(spec), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"submit: {flag} has a secret in it")
    assert "canary-77" not in said


@pytest.mark.parametrize("out", ["s3://bucket/run", "abfs://box@account.dfs.core.windows.net/run", "/nfs/me@here/run"])
def test_a_folder_without_a_secret_is_taken(
    out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")

    assert submit.main([str(ROOT / "jobs/quickstart.yaml"), "--out", out]) == 2
    assert "no Ray head answers" in capsys.readouterr().err
