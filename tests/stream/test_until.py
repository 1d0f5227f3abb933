"""`emoray run --until`: waves of repetitions until every mean is known closely enough, on a real Ray cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emoray.commands import attempt
from emoray.commands.cli import main
from emoray.commands.status import status
from emoray.commands.until import run_until
from emoray.exit_codes import OWED
from emoray.notebook.run import load
from emoray.run_folder import manifest
from emoray.run_folder.folder import RunFolder
from tests import runs
from tests.stream.conftest import study

ONE = "- {name: a, host: scripted}"
PROMPTS = 6  # of `study`

Captured = pytest.CaptureFixture[str]


def until(half_width: float, repetitions: int, out: Path) -> int:
    asked = study(ONE, repetitions=repetitions)
    return run_until(asked, str(out), half_width, partial(attempt.run, asked, str(out), command="again"))


def begun(out: Path, repetitions: int, asked: int) -> None:
    """As a run leaves it that ends after so many repetitions of every prompt."""
    attempt.run(study(ONE, repetitions=repetitions), str(out), command="again", limit=asked * PROMPTS)


def attempts(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (RunFolder(str(out)).manifest() or {})["attempts"]
    return found


@pytest.mark.cluster
def test_waves_end_at_the_repetitions_where_no_interval_is_narrow_enough(
    two_cpus: str, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "run"
    begun(out, 9, asked=5)  # in its second wave

    assert until(0.001, 9, out) == 0

    assert RunFolder(str(out)).answers("a").counts().answered == 9 * PROMPTS
    waves = [one["until"] for one in attempts(out)[1:]]
    assert [(one["half_width"], one["repetitions"], one["of"]) for one in waves] == [(0.001, 8, 9), (0.001, 9, 9)]
    assert [one["limit"] for one in attempts(out)] == [5 * PROMPTS, 8 * PROMPTS, 9 * PROMPTS]
    assert "widest" not in waves[0]  # it went on in a wave: nothing was decided there
    assert waves[1]["whose"] == "a, read by r"
    assert waves[1]["widest"] > 0.001
    assert "asked 9 of 9 repetitions: ±0.001 was not reached; the widest interval is ±" in capsys.readouterr().err
    told = status(RunFolder(str(out))).text().splitlines()[-1]
    assert told.startswith("until ±0.001: a wave up to 9 of 9 repetitions; before it the widest interval was ±")
    page = (out / "report" / "report.html").read_text()
    assert "until the interval of every mean was ±0.001 or narrower" in page


@pytest.mark.cluster
def test_a_run_stops_where_every_interval_is_narrow_enough_and_the_same_command_asks_no_more(
    two_cpus: str, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "run"
    begun(out, 8, asked=4)
    wide = 1.0 + float(widest_of(out))

    (out / "report" / "report.html").unlink()  # as of a wave that was killed at its end

    assert until(wide, 8, out) == 0
    assert until(wide, 8, out) == 0

    assert (out / "report" / "report.html").exists()

    assert len(attempts(out)) == 1
    assert RunFolder(str(out)).answers("a").counts().answered == 4 * PROMPTS
    assert f"asked 4 of 8 repetitions: every mean is known to ±{wide:g}" in capsys.readouterr().err


def widest_of(out: Path) -> float:
    return load(out).found.models[0].scores.whole.group.cosine.half_width


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--until", "0.02", "--limit", "3"], "--until and --limit both say how far to ask; give one of them"),
        (["--until", "0.02", "--set", "questions=[art]"], "one question has none; ask two or more questions"),
    ],
)
def test_a_rule_that_could_never_be_met_is_one_sentence_and_writes_nothing(
    words: list[str], what: str, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "run"
    assert main(["run", "jobs/quickstart.yaml", "--out", str(out), *words]) == 2
    told = capsys.readouterr().err
    assert what in told
    assert len(told.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("given", ["0", "-1", "nan", "2", "x"])
def test_a_width_that_no_interval_has_is_refused(given: str, tmp_path: Path, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "jobs/quickstart.yaml", "--out", str(tmp_path / "run"), f"--until={given}"])
    assert ended.value.code == 2
    assert "must be a number from 0.001 to 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


SPEC = """name: t
models: [{name: a, host: scripted}]
states: 3
questions: [freedom, art]
repetitions: 8
readers: [{kind: scripted, name: r}]
"""
MORE = SPEC.replace("freedom, art", "freedom, art, nature, work")


def waves_of(spec: str, half_width: float, out: Path) -> list[int]:
    """How many cells the first wave was to go up to, which comes to nothing; none where none was begun."""
    limits = list[int]()

    def wave(limit: int, **_: object) -> int:
        limits.append(limit)
        return OWED

    run_until(runs.study(spec), str(out), half_width, wave)
    return limits


def filled(out: Path, spec: str = SPEC, repetitions: int = 8) -> RunFolder:
    """All read as joy."""
    folder = runs.begun(out, spec)
    some = [one for one in runs.asked(spec) if one.cell.repetition < repetitions]
    runs.say(folder, some)
    runs.feel(folder, some)
    return folder


def test_as_many_answers_as_a_wave_has_are_no_wave_where_they_are_to_other_cells(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run")  # 48: the first wave of four questions has as many
    kept = manifest.read(folder)
    assert kept is not None
    folder.write_manifest(manifest.redescribed(kept, runs.study(MORE), first=False).as_json())  # and then it was killed
    assert waves_of(MORE, 1.0, tmp_path / "run") == [48]


def test_a_broken_manifest_is_left_to_the_attempt_which_may_make_a_new_one(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", repetitions=4)
    folder.write_bytes("run.json", b'{"form')
    assert waves_of(SPEC, 1.0, tmp_path / "run") == [24]


def test_a_mean_whose_interval_is_cut_at_1_is_known_no_better_than_its_longer_side_says(tmp_path: Path) -> None:
    one = SPEC.replace("states: 3", "states: 1")
    folder = runs.begun(tmp_path / "run", one)
    some = [cell for cell in runs.asked(one) if cell.cell.repetition < 4]
    runs.say(folder, some)
    for question, label in (("art", "love"), ("freedom", "joy")):
        runs.feel(folder, [each for each in some if each.cell.question.id == question], label)
    mean = load(folder.uri).found.models[0].scores.whole.group.cosine
    assert mean.high == 1.0
    assert mean.half_width < 0.9 * (mean.estimate - mean.low)

    assert waves_of(one, mean.half_width, tmp_path / "run") == [16]
    assert waves_of(one, mean.estimate - mean.low, tmp_path / "run") == []
