"""A run from a notebook: its frames count as the report counts, its figures draw the report's numbers."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from matplotlib import pyplot

import emoray
from emoray.commands.cli import main
from emoray.notebook import dictionary, frames
from emoray.report import chosen, figures
from emoray.report.summary import Summary, summarize
from emoray.run_folder import columns
from emoray.study.outcomes import Answer
from emoray.study.scoring import NeutralRule, RefusalRule
from tests import runs
from tests.programs import ROOT
from tests.report import synthetic
from tests.report.synthetic import Run

REFUSAL = Answer("I'm sorry, but I can't help with that. As an AI I have no feelings.")


def with_canaries(run: Run, every: int) -> Run:
    """The same, every so-manieth row a canary."""

    def marked(table: pa.Table) -> pa.Table:
        canary = pa.array(np.arange(table.num_rows) % every == 0)
        return table.set_column(table.schema.get_field_index("canary"), "canary", canary)

    return replace(
        run,
        said={name: marked(table) for name, table in run.said.items()},
        felt={who: marked(table) for who, table in run.felt.items()},
    )


@pytest.fixture(scope="module")
def full_of_holes() -> Run:
    """Two conditions, refusals, canaries, and so many failures that whole prompts have no score."""
    found = synthetic.run(
        {"bold": 0.9, "shy": 0.3},
        readers=("one", "other"),
        states=5,
        questions=4,
        templates=("parameters", "words"),
        repetitions=2,
        refusals=0.2,
        failures=0.5,
    )
    return with_canaries(found, every=7)


def summary_of(run: Run, neutral: NeutralRule, refusals: RefusalRule) -> Summary:
    return summarize(run, chosen(run.settings, neutral=neutral, refusals=refusals, shuffles=1))


RULES: list[tuple[NeutralRule, RefusalRule]] = [("zero", "zero"), ("drop", "drop"), ("zero", "as_read")]


@pytest.mark.parametrize(("neutral", "refusals"), RULES)
def test_means_of_the_rows_are_those_of_the_report_by_any_rule_and_with_cells_missing(
    full_of_holes: Run, neutral: NeutralRule, refusals: RefusalRule
) -> None:
    found = summary_of(full_of_holes, neutral, refusals)
    rows = frames.rows(full_of_holes, found, probabilities=False)
    means = (rows.cosine * rows.weight).groupby([rows.model, rows.reader]).sum()
    assert len(found.models) == 4
    for one in found.models:
        group = one.scores.whole.group
        assert means[one.model, one.reader] == pytest.approx(group.cosine.estimate, abs=1e-12)
        mine = rows[(rows.model == one.model) & (rows.reader == one.reader)]
        assert mine.counted.sum() == group.scored
        assert mine.weight.sum() == pytest.approx(1.0)
        assert group.missing > 0
        measured = mine[~mine.canary]
        assert (len(measured), measured.refused.sum()) == (one.counts.answers, one.counts.refused)


def test_where_all_prompts_were_answered_a_plain_mean_of_what_counts_is_the_reports() -> None:
    run = synthetic.run({"m": 0.7}, states=4, questions=3, repetitions=2, refusals=0.0, failures=0.0, seed=3)
    found = summary_of(run, "zero", "zero")
    rows = frames.rows(run, found, probabilities=False)
    by_prompt = rows[rows.counted].groupby(["question_id", "state_deg"]).cosine.mean()
    assert by_prompt.mean() == pytest.approx(found.models[0].scores.whole.group.cosine.estimate, abs=1e-12)
    for group in found.models[0].scores.states:
        assert by_prompt.xs(group.level, level="state_deg").mean() == pytest.approx(group.cosine.estimate, abs=1e-12)


def test_what_counts_in_no_mean_is_there_and_weighs_nothing(full_of_holes: Run) -> None:
    rows = frames.rows(full_of_holes, summary_of(full_of_holes, "drop", "drop"), probabilities=True)
    assert (rows.weight[~rows.counted] == 0).all()
    for left_out in (rows.canary, rows.refused, rows.template == "words"):
        assert left_out.any()
        assert not rows.counted[left_out].any()
    read = rows[rows.label.notna()]
    best = read[[name for name in rows if str(name).startswith("p_")]].idxmax(axis=1)
    assert best.equals("p_" + read.label)
    assert len(best) > 50


def test_every_column_has_a_unit_a_range_and_a_meaning_and_the_page_of_them_is_up_to_date(full_of_holes: Run) -> None:
    rows = frames.rows(full_of_holes, summary_of(full_of_holes, "zero", "zero"), probabilities=False)
    assert list(dictionary.MEANINGS) == [*columns.SCORED.names, "counted", "weight"]
    assert set(rows) == set(dictionary.MEANINGS) - {"probabilities", "labels"}
    assert (ROOT / "docs/columns.md").read_text(encoding="utf-8") == dictionary.markdown()
    said = {name: dictionary.of(name)[3] for name in ("valence", "felt_valence", "read_valence")}
    assert len(set(said.values())) == 3
    assert ["asked for" in text for text in said.values()] == [True, False, False]


def test_whole_numbers_stay_whole_where_some_are_missing(full_of_holes: Run) -> None:
    answers = frames.answers(full_of_holes)
    assert answers.outcome.ne("answer").any()
    assert (answers.seed.dtype, answers.prompt_tokens.dtype) == (pd.Int64Dtype(), pd.Int64Dtype())
    assert answers.refused.isna().equals(answers.outcome.ne("answer"))


# ── a folder ──


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/quickstart, of two models that were answered, refused and failed; figures are drawn nowhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pyplot, "show", lambda *_: None)
    pyplot.switch_backend("Agg")
    there = runs.begun(tmp_path / "runs/quickstart")
    for model in ("a", "b b"):
        asked = runs.asked(model=model)
        runs.say(there, asked[:8])
        runs.say(there, asked[8:10], REFUSAL)
        runs.say(there, asked[10:], runs.FAILURE)
        runs.feel(there, asked[:5])
        runs.feel(there, asked[5:8], "sadness")
    return tmp_path


def test_a_loaded_run_says_what_its_report_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for form, nothing in (("png", b""), ("svg", b""), ("inline_svg", "")):
        monkeypatch.setattr(figures, form, lambda *_, nothing=nothing: nothing)
    assert main(["report", "runs/quickstart", "--csv"]) == 0
    run = emoray.load("runs/quickstart")
    rows, written = run.rows(), pd.read_csv("runs/quickstart/report/rows.csv")
    assert len(rows) == 16
    for name in ("key", "model", "label", "cosine", "weight", "counted", "refused", "seed", "truncated"):
        assert written[name].to_list() == rows[name].to_list()
    assert set(rows) - set(written) == {"prompt", "question", "answer", "reasoning", "error", "read_error"}
    assert "cosine ~ model * state + (1 | question)" in Path("runs/quickstart/report/rows.R").read_text()
    assert run.summary == json.loads(Path("runs/quickstart/report/summary.json").read_text())
    assert run.to_latex("models") == Path("runs/quickstart/report/tables/models.tex").read_text()
    exact = pd.read_csv("runs/quickstart/report/tables/states.csv")
    assert run.table("states").cosine.to_numpy() == pytest.approx(exact.cosine.to_numpy(), nan_ok=True)
    assert len(run.answers()) == 24
    other = emoray.load(folder / "runs/quickstart", refusals="drop", neutral="drop")
    assert other.summary["settings"]["refusals"] == other.summary["settings"]["neutral"] == "drop"
    assert repr(run) == f"emoray.load('{folder}/runs/quickstart')"


def test_the_notebook_in_docs_runs_and_its_figures_show_the_reports_numbers(folder: Path) -> None:
    run = runpy.run_path(str(ROOT / "docs/notebook.py"))["run"]
    axes = run.forest()
    assert [text.get_text() for text in axes.get_yticklabels()] == [one["model"] for one in run.summary["models"]]
    figure, mine = pyplot.subplots()
    assert run.circumplex("a", mine) is mine
    assert run.heat("b b", ax=mine, reader="r").figure is figure
    told = run.contrast({"factor": "model", "a": "a", "b": "b b"}, "factor=state,a=pleasant,b=unpleasant")
    assert sorted(told.family.unique()) == [1, 2]
    pyplot.close("all")


def test_what_is_not_there_is_one_sentence(folder: Path) -> None:
    run = emoray.load("runs/quickstart")
    with pytest.raises(emoray.UserError, match=r"has no model 'bb'; it has .*; did you mean 'b b'\?$"):
        run.heat("bb")
    with pytest.raises(emoray.UserError, match=r"has no reader 'x'; it has r$"):
        run.forest(reader="x")
    with pytest.raises(emoray.UserError, match=r"no table 'modles'; it has models, .*; did you mean 'models'\?$"):
        run.to_latex("modles")
    with pytest.raises(emoray.SpecError, match=r"^contrast .*factor must be .*did you mean 'state'"):
        run.contrast(factor="stat")
    with pytest.raises(emoray.UserError, match="/nowhere: is no run folder"):
        emoray.load("nowhere")
    with pytest.raises(AttributeError, match="module 'emoray' has no attribute 'lode'"):
        emoray.lode  # noqa: B018


def test_a_run_that_has_nothing_yet_has_empty_frames(tmp_path: Path) -> None:
    runs.begun(tmp_path / "new")
    run = emoray.load(tmp_path / "new")
    assert (len(run.rows()), len(run.answers()), run.models, run.readers) == (0, 0, [], [])
    assert set(run.rows()) == set(dictionary.MEANINGS) - {"probabilities", "labels"}
    with pytest.raises(emoray.UserError, match="nothing was read yet, so there is nothing to draw"):
        run.forest()
