"""Hosts and readers that other packages bring: the worked example of docs/example, installed as anybody would."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from shutil import copytree
from typing import ClassVar, Literal

import pytest

from emoray.spec import added
from emoray.spec.entry import AddedModel

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/example"
SPEC = """
name: mirrored
models: [{host: mirror, name: Mirror, id: mirror-1, in_flight: 16, actors: 2, gpus: 0.5, mark: MARK}]
readers: [{kind: punctuation, name: marks, cpus: 2, actors: 3}]
"""
# what driver and actors do with the two entries, but for Ray
AT_WORK = """
import json, sys
from pathlib import Path
from emoray.hosts.factory import host_of
from emoray.readers.factory import reader_of
from emoray.scheduling import demand, feeding
from emoray.spec.load import load
from emoray.spec.readers import own_map, readers_of, reads_as
from emoray.study.prompts import Ask
study = load(Path("mirror.yaml"))
model, reader = study.spec.models[0], study.spec.readers[0]
assert not {"emoray_mirror_at_work", "ray"} & set(sys.modules)
speakers, listeners = feeding.speakers(model), feeding.listeners(reader)
asks = [Ask(f"{i:032x}", [{"role": "user", "content": f"Why {i}?"}], i, None, None, None) for i in range(3)]
texts = [reply.outcome.text for reply in host_of(model).generate(asks)]
readings = reader_of(reader).read([*texts, "Well."])
[kept] = readers_of([reader.model_dump(mode="json")])
print(json.dumps({
    "texts": texts,
    "felt": [[reading.affect.valence, reading.affect.arousal] for reading in readings],
    "speakers": [speakers.crew.each[0].gpus, speakers.crew.most, speakers.block_rows],
    "listeners": [listeners.crew.each[0].cpus, listeners.crew.most],
    "rehearsed": demand.in_flight(model),
    "map": own_map(reader).name,
    "reads_as": reads_as(reader),
    "kept": kept == reader,
    "decides": model.decides(),
}))
"""


def _python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join((str(ROOT), str(folder / "site")))
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, "PYTHONPATH": roots}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("added")
    source = copytree(EXAMPLE, folder / "source")
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = _python(folder, *pip, "--target", str(folder / "site"), str(source))
    assert done.returncode == 0, done.stderr
    return folder


def _at_work(folder: Path, mark: str) -> dict[str, object]:
    (folder / "mirror.yaml").write_text(SPEC.replace("MARK", mark))
    done = _python(folder, "-c", AT_WORK)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_host_and_a_reader_of_another_package_are_named_in_a_spec(installed: Path) -> None:
    told = _at_work(installed, '"!"')
    assert told["texts"] == ["Why 0?!", "Why 1?!", "Why 2?!"]
    assert told["felt"] == [[0.5, 0.5]] * 3 + [[-0.5, -0.5]]
    assert told["speakers"] == [0.5, 2, 2]
    assert told["listeners"] == [2.0, 3]
    assert told["rehearsed"] == 16
    assert (told["map"], told["reads_as"], told["kept"]) == ("direct", {"kind": "punctuation"}, True)


def test_a_setting_that_another_package_adds_is_part_of_every_key(installed: Path) -> None:
    one, other = _at_work(installed, '"!"')["decides"], _at_work(installed, '"?"')["decides"]
    assert one != other
    assert isinstance(one, dict)
    assert one["host"] == "mirror"


def test_who_misspells_it_is_told_its_name(installed: Path) -> None:
    (installed / "odd.yaml").write_text(SPEC.replace("MARK", '"!"').replace("host: mirror", "host: miror"))
    done = _python(installed, "-m", "emoray", "plan", "odd.yaml")
    assert done.returncode == 2
    assert "scripted, mirror, got 'miror'; did you mean 'mirror'?" in done.stderr


def test_the_worked_example_is_three_files_and_touches_none_of_ours() -> None:
    assert len([path for path in EXAMPLE.iterdir() if path.is_file()]) <= 3


class Other(AddedModel):
    made_by: ClassVar[str] = "nowhere:Host"
    host: Literal["other"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module:Entry", "cannot be imported"),
        (f"{__name__}:ROOT", "is no subclass of emoray.spec.entry.AddedModel"),
        ("emoray.spec.entry:AddedModel", "does not say made_by"),
    ],
)
def test_what_is_no_entry_is_left_out_and_said(
    value: str, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    points = [EntryPoint("odd", value, "emoray.hosts"), EntryPoint("other", f"{__name__}:Other", "emoray.hosts")]
    monkeypatch.setattr(added, "entry_points", lambda *, group: points if group == "emoray.hosts" else [])
    with caplog.at_level(logging.WARNING):
        assert added.added("emoray.hosts", AddedModel) == [("other", Other)]
    assert why in caplog.text


@pytest.mark.parametrize(
    ("name", "why"), [("other", "there is a host of that name"), ("odd", "must be Literal['odd']")]
)
def test_a_name_is_given_once_and_said_alike(name: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    fitting = list(added._fitting("host", [(name, Other)], {"other"}))
    assert fitting == []
    assert why in caplog.text
