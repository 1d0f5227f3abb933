"""The shipped experiments on the embedded models: from the YAML to the sentences at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emoray.commands.described import described_as
from emoray.run_folder.folder import RunFolder
from emoray.spec.load import load
from emoray.study.contrasts import by_when
from tests.programs import ROOT, Here

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("test_hosted_run")]  # whose cluster it joins
EXPERIMENTS = ROOT / "jobs" / "experiments"
WORDS = str(EXPERIMENTS / "words_vs_parameters.yaml")
FEW = ["states=[30, 210]", "questions=[freedom, art, nature]", "repetitions=1"]
SMALL = [word for change in FEW for word in ("--set", change)]


def summary(folder: RunFolder) -> Any:
    return json.loads((Path(folder.uri) / "report" / "summary.json").read_text())


def test_a_small_experiment_ends_in_its_sentences_and_more_can_be_looked_at_after(
    here: Here, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    assert here("run", WORDS, *SMALL, "--out", folder.uri, report=True) == 0
    told = [one["sentence"] for one in summary(folder)["contrasts"]]
    said = capsys.readouterr().out
    assert len(told) == len(load(WORDS).contrasts) == 4
    assert all(sentence in said for sentence in told)
    assert (Path(folder.uri) / "report" / "figures" / "contrasts.png").stat().st_size > 5_000

    assert here("report", folder.uri, "--contrast", "factor=state,a=pleasant,b=unpleasant,of=projection") == 0
    planned = [one["planned"] for one in summary(folder)["contrasts"]]
    assert planned == [True, True, True, True, False]
    assert "(exploratory)" in capsys.readouterr().out

    other = load(WORDS, [*FEW, "contrasts=[{factor: state, a: activated, b: deactivated}]"])
    resumed = described_as(folder, other, extend=False)  # they ask nothing else, so the run goes on
    assert by_when(resumed.as_json()) == (load(WORDS).contrasts, other.contrasts)
    assert folder.answers("embedded").counts().answered == len(other.experiment) == 24


@pytest.mark.campaign
@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_every_shipped_experiment_ends_in_its_sentences(
    path: Path, here: Here, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    assert here("run", str(path), "--out", folder.uri, report=True) == 0
    told, said = [one["sentence"] for one in summary(folder)["contrasts"]], capsys.readouterr().out
    assert len(told) == len(load(path).contrasts)
    assert all(sentence in said for sentence in told)
    assert not any("cannot be told" in sentence for sentence in told)
