"""The quickstart as a new user runs it, with one repetition: the embedded models answer and read for real.

He may stand where a folder and a file are called emoray, and others as libraries that we need.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from pathlib import Path

import pytest

from emoray.run_folder import columns
from emoray.run_folder.folder import RunFolder
from emoray.spec.load import load
from emoray.study.goemotions import LABELS
from emoray.study.prompts import prompts
from tests.e2e.conftest import installed, shadow, shadows
from tests.programs import ROOT

pytestmark = pytest.mark.cluster
SPEC = str(ROOT / "jobs" / "quickstart.yaml")
ONCE = ["--set", "repetitions=1"]
WAITED = [
    "starting 1 actor of embedded, 1 actor of reader embedded …",
    "loading weights of embedded …",
    "loading weights of reader embedded …",
    "loading weights of embedded, reader embedded …",
    "loading weights of reader embedded, embedded …",
]


Quickstart = tuple[RunFolder, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    place = tmp_path_factory.mktemp("quickstart")
    folder, there = RunFolder(str(place / "run")), shadows(place / "there")
    shadow(there, "emoray")
    command = [*installed(place / "bin"), "run", SPEC, *ONCE, "--out", folder.uri]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return folder, subprocess.run(command, capture_output=True, text=True, cwd=there, env=environment)


def test_it_ends_with_a_table_and_a_report_and_keeps_ray_quiet(quickstart: Quickstart) -> None:
    folder, done = quickstart

    assert done.returncode == 0, done.stderr
    assert "mean cosine" in done.stdout
    assert f"report: {folder.uri}/report/report.html" in done.stdout
    assert (Path(folder.uri) / "report" / "report.html").stat().st_size > 10_000
    first, *before, last = done.stderr.splitlines()  # more of them on a machine that takes over 30 s
    assert first == "starting Ray …"
    assert re.fullmatch(r"embedded  settled 120 of 120  failed 0  [\d,]+/min", last)
    waited = [line for line in before if not line.startswith("embedded  settled ")]
    assert set(waited) <= set(WAITED)
    assert len(set(waited)) == len(waited)


def test_the_answers_express_the_states_far_above_the_shuffled_control(quickstart: Quickstart) -> None:
    summary = json.loads((Path(quickstart[0].uri) / "report" / "summary.json").read_text())

    found = summary["models"][0]["scores"]["whole"]
    assert found["group"]["cosine"]["low"] > found["shuffled"]["p95"] + 0.2
    assert abs(found["shuffled"]["mean"]) < 0.1


def test_every_row_recomputes_from_what_it_says(quickstart: Quickstart) -> None:
    """In plain Python, from the row alone and the shipped label map."""
    study = load(SPEC, ["repetitions=1"])
    vectors = study.label_map.vectors().tolist()
    table = quickstart[0].rows("embedded", "embedded").read()
    keys = {prompt.key: prompt for prompt in prompts(study.experiment.grid("embedded"))}

    assert table.num_rows == len(keys) == 120
    for row in table.to_pylist():
        prompt = keys.pop(row["key"])
        assert (row["prompt"], row["seed"], row["prompt_sha"]) == (prompt.messages, prompt.seed, prompt.sha)
        assert row["outcome"] == columns.ANSWERED
        top = max(range(len(LABELS)), key=lambda label: row["probabilities"][label])
        assert row["label"] == LABELS[top]
        assert row["cosine"] == pytest.approx(0.0 if row["refused"] else _cosine(row, vectors[top]), abs=1e-12)
        refused = bool(row["refused"])
        expected = sum(p * _cosine(row, v) for p, v in zip(row["probabilities"], vectors, strict=True))
        assert row["expected_cosine"] == pytest.approx(
            0.0 if refused else expected / sum(row["probabilities"]), abs=1e-12
        )
        direction = None if refused else _cosine(row, _mean(row["probabilities"], vectors))
        assert row["direction_cosine"] == pytest.approx(direction, abs=1e-12)


def _cosine(row: dict[str, float], read: list[float]) -> float:
    if math.isnan(read[0]):
        return 0.0  # the quickstart's neutral rule
    dot = row["valence"] * read[0] + row["arousal"] * read[1]
    return dot / math.hypot(row["valence"], row["arousal"]) / math.hypot(*read)


def _mean(probabilities: list[float], vectors: list[list[float]]) -> list[float]:
    placed = [(p, v) for p, v in zip(probabilities, vectors, strict=True) if not math.isnan(v[0])]
    total = sum(p for p, _ in placed)
    return [sum(p * v[axis] for p, v in placed) / total for axis in (0, 1)]
