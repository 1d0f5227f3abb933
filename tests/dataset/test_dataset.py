"""A run as a data set: what is written says what it holds, and holds no prompt that is not public."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import emoray
from emoray.commands.cli import main
from emoray.notebook import frames
from emoray.run_folder import columns
from tests import runs

Captured = pytest.CaptureFixture[str]
GIVEN = ["--license", "CC-BY-4.0", "--cite", "Somebody (2026). A run."]
OWN = runs.SPEC.replace("[freedom, art]", "[{id: mine, text: 'What of the zebra-canary?'}, art]")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(text: str = runs.SPEC) -> None:
    """`run`, of two models with answers and failures."""
    folder = runs.begun(Path("run").absolute(), text)
    for model in ("a", "b b"):
        asked = runs.asked(text, model)
        runs.say(folder, asked[:9])
        runs.say(folder, asked[9:], runs.FAILURE)
        runs.feel(folder, asked[:5])
        runs.feel(folder, asked[5:9], "sadness")


def exported(*more: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings on top of the card, and the Croissant metadata."""
    assert main(["export", "run", "--to", "out", *GIVEN, *more]) == 0
    settings = yaml.safe_load(Path("out/README.md").read_text().split("---\n")[1])
    return settings, json.loads(Path("out/croissant.json").read_text())


def test_a_run_becomes_a_data_set_whose_means_are_the_reports(capsys: Captured) -> None:
    made()
    settings, croissant = exported("--json")
    assert json.loads(capsys.readouterr().out)["rows"] == {"answers": 24, "rows": 18}
    assert (settings["license"], settings["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    assert [one["data_files"] for one in settings["configs"]] == ["answers.parquet", "rows.parquet"]
    rows = pd.read_parquet("out/rows.parquet")
    means = (rows.cosine * rows.weight).groupby([rows.model, rows.reader]).sum()
    told = emoray.load("run").summary["models"]
    for one in told:
        estimate = one["scores"]["whole"]["group"]["cosine"]["estimate"]
        assert means[one["model"], one["reader"]] == pytest.approx(estimate, abs=1e-9)
    assert len(told) == 2
    assert (croissant["license"], croissant["citeAs"]) == (
        "https://spdx.org/licenses/CC-BY-4.0.html", "Somebody (2026). A run.",
    )  # fmt: skip
    for file in croissant["distribution"]:
        assert file["sha256"] == hashlib.sha256(Path("out", file["contentUrl"]).read_bytes()).hexdigest()
    for records in croissant["recordSet"]:
        names = pq.read_schema(f"out/{records['name']}.parquet").names
        assert [field["source"]["extract"]["column"] for field in records["field"]] == names
        assert names == (columns.ANSWERS.names if records["name"] == "answers" else frames.SCHEMA.names)
    assert "zebra" not in Path("out/README.md").read_text()


def test_prompts_that_are_not_public_stay_here_unless_they_are_wanted(capsys: Captured) -> None:
    made(OWN)
    exported()
    assert "left out, since this run's prompts are not public: prompt, question, reasoning, error" in (
        capsys.readouterr().out
    )
    for file in Path("out").iterdir():
        assert b"zebra-canary" not in file.read_bytes()
    for table in ("answers", "rows"):
        frame = pd.read_parquet(f"out/{table}.parquet")
        assert not frame.astype(str).apply(lambda column: column.str.contains("zebra-canary")).any(axis=None)
        assert "question_id" in frame
    assert "Left out are `prompt`, `question`, `reasoning`, `error`" in Path("out/README.md").read_text()
    Path("out").rename("before")
    exported("--with-prompts")
    assert pd.read_parquet("out/rows.parquet").question.str.contains("zebra-canary").any()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--cite", "me"], "--license says the licence of this data set, such as CC-BY-4.0, and nobody is here to be"),
        (["--license", "CC0-1.0"], "--cite says how it is to be cited, and nobody is here to be asked"),
        (
            ["--license", "do what you like", "--cite", "me"],
            "--license must be an SPDX id such as CC-BY-4.0, or a URL,",
        ),
        (["--license", "CC0-1.0", "--cite", "```"], "--cite must say how the data set is to be cited, in a line"),
        (["--to", "run", *GIVEN], "run: is there already; choose a new folder"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence_and_nothing_is_written(
    flags: list[str], sentence: str, capsys: Captured
) -> None:
    made()
    assert main(["export", "run", "--to", "out", *flags]) == 2
    assert capsys.readouterr().err.startswith(f"emoray: {sentence}")
    assert [path.name for path in Path().iterdir()] == ["run"]


@pytest.mark.campaign
def test_croissants_own_library_reads_every_record() -> None:
    croissant = pytest.importorskip("mlcroissant", reason="pip install mlcroissant: it is no part of `make test`")
    made(OWN)
    exported()
    found = croissant.Dataset(jsonld="out/croissant.json")
    assert not found.metadata.issues.errors
    assert [sum(1 for _ in found.records(table)) for table in ("answers", "rows")] == [24, 18]
