"""Contrasts in the report: numbers recomputed from the rows, the sentences, what was said before and what after."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats

from emoray.analysis.contrasts import Estimated, concluded
from emoray.report import chosen, forest
from emoray.report.contrast_section import contrasts as section
from emoray.report.contrast_words import sentence, sentences, terminal_lines
from emoray.report.contrasts import Line
from emoray.report.names import apart
from emoray.report.summary import Summary, summarize
from emoray.report.tables import as_csv, tables
from emoray.study.contrasts import Contrast, Part, meaning, of_entry
from emoray.study.scoring import NeutralRule, RefusalRule
from tests.report import synthetic

TAGS = {"freedom": ["p"], "art": ["p"], "technology": ["p"], "success": ["q"], "education": ["q"], "nature": []}
WORDS = {"factor": "template", "a": "words", "b": "parameters", "margin": 0.05}
TREND = {"factor": "intensity", "trend": "linear", "of": "projection"}
STATES = {"factor": "state", "a": "pleasant", "b": "unpleasant"}
TAG = {"factor": "tag", "a": "p", "b": "q"}
MODELS = {"factor": "model", "a": "good", "b": "bad"}
EVERY: list[dict[str, Any]] = [
    WORDS, TREND, STATES, TAG, MODELS, {"factor": "reader", "a": "one", "b": "two"},
    {
        "factor": "condition",
        "a": {"template": "words", "intensity": 0.5},
        "b": {"template": "parameters", "intensity": 1.0},
    },
    {"interaction": [MODELS, STATES]}, {"interaction": [WORDS, TAG]},
    {"interaction": [WORDS, {"factor": "intensity", "trend": "linear"}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def run() -> synthetic.Run:
    found = synthetic.run(
        {"good": 0.9, "bad": 0.2},
        readers=("one", "two"),
        states=6,
        questions=6,
        templates=("words", "parameters"),
        intensities=(0.5, 1.0),
        failures=0.0,
        refusals=0.05,
        repetitions=4,
    )
    found.settings["spec"] |= {
        "templates": [{"name": name, "user": "{question} {words}"} for name in ("words", "parameters")],
        "questions": [{"id": name, "text": name, "tags": tags} for name, tags in TAGS.items()],
        "contrasts": EVERY,
    }
    found.settings["spec"] |= {
        "intensities": [0.5, 1.0],
        "models": [{"name": name} for name in ("good", "bad")],
        "readers": [{"name": name} for name in ("one", "two")],
    }
    found.settings |= {"contrasts_first": EVERY, "contrasts_meant": meaning(found.settings)}
    return found


def summary(run: synthetic.Run, *explored: dict[str, Any], **rules: Any) -> Summary:
    return summarize(
        run, chosen(run.settings, shuffles=2, explored=tuple(of_entry(entry) for entry in explored), **rules)
    )


@pytest.fixture(scope="module")
def found(run: synthetic.Run) -> Summary:
    return summary(run, {"factor": "intensity", "a": 1.0, "b": 0.5, "margin": 0.05})


def line(found: Summary, entry: dict[str, Any], model: str | None = "good", reader: str | None = "one") -> Line:
    (one,) = [
        one for one in found.contrasts if (one.contrast, one.model, one.reader) == (of_entry(entry), model, reader)
    ]
    return one


def cells(run: synthetic.Run, column: str = "cosine", model: str = "good", reader: str = "one") -> Any:
    """The mean of every prompt, from the rows alone, refusals that were read at 0."""
    frame = run.felt[reader, model].to_pandas()
    frame = frame[frame["probabilities"].notna()].assign(value=lambda rows: rows[column].where(~rows["refused"], 0.0))
    names = ["template", "intensity", "question_id", "state_deg"]
    return frame.groupby(names)["value"].mean().unstack("state_deg")


def test_two_templates_are_compared_at_the_headlines_intensity_paired_by_question(
    run: synthetic.Run, found: Summary
) -> None:
    table = cells(run)
    theirs = scipy.stats.ttest_rel(table.loc["words", 1.0].mean(axis=1), table.loc["parameters", 1.0].mean(axis=1))
    interval = line(found, WORDS).tested.interval
    assert line(found, WORDS).tested.p == pytest.approx(theirs.pvalue, rel=1e-6)
    assert (interval.low, interval.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-6)


def test_a_trend_is_the_slope_of_the_lengths_over_intensities(run: synthetic.Run, found: Summary) -> None:
    """With the shipped map, all of whose labels lie at length 1, a length is the expected cosine."""
    table = cells(run, "expected_cosine")
    slopes = (table.loc["words", 1.0] - table.loc["words", 0.5]).mean(axis=1) / 0.5
    theirs = scipy.stats.ttest_1samp(slopes, 0.0)
    assert line(found, TREND).tested.interval.estimate == pytest.approx(slopes.mean(), rel=1e-5)
    assert line(found, TREND).tested.p == pytest.approx(theirs.pvalue, rel=1e-4)


def test_a_trend_shows_the_response_to_every_dose(run: synthetic.Run, found: Summary) -> None:
    table, told = cells(run, "expected_cosine"), line(found, TREND).doses
    assert told is not None
    assert told.levels == (0.5, 1.0)
    means = [table.loc["words", intensity].to_numpy().mean() for intensity in told.levels]
    assert [mean.estimate for mean in told.means] == pytest.approx(means, rel=1e-5)
    rises = scipy.stats.ttest_1samp(
        (table.loc["words", 1.0] - table.loc["words", 0.5]).mean(axis=1), 0.0, alternative="greater"
    )
    assert told.p_rises == pytest.approx(rises.pvalue, rel=1e-4)
    assert line(found, WORDS).doses is None


def test_groups_of_states_are_compared_within_questions(run: synthetic.Run, found: Summary) -> None:
    table = cells(run).loc["words", 1.0]
    gaps = table[[0.0, 60.0, 300.0]].mean(axis=1) - table[[120.0, 180.0, 240.0]].mean(axis=1)
    assert line(found, STATES).tested.p == pytest.approx(scipy.stats.ttest_1samp(gaps, 0.0).pvalue, rel=1e-6)


def test_groups_of_questions_are_unpaired(run: synthetic.Run, found: Summary) -> None:
    means = cells(run).loc["words", 1.0].mean(axis=1)
    first, second = (means[[name for name, tags in TAGS.items() if tag in tags]] for tag in ("p", "q"))
    theirs = scipy.stats.ttest_ind(first, second, equal_var=False)
    assert line(found, TAG).tested.interval.estimate == pytest.approx(first.mean() - second.mean(), rel=1e-6)
    assert line(found, TAG).tested.p == pytest.approx(theirs.pvalue, rel=1e-6)


def test_models_are_compared_under_each_reader_and_readers_of_each_model(run: synthetic.Run, found: Summary) -> None:
    good, bad = (cells(run, model=model).loc["words", 1.0].mean(axis=1) for model in ("good", "bad"))
    theirs = scipy.stats.ttest_rel(good, bad)
    assert line(found, MODELS, model=None).tested.p == pytest.approx(theirs.pvalue, rel=1e-6)
    assert line(found, MODELS, model=None).tested.verdict == "more"
    one, two = (cells(run, reader=reader).loc["words", 1.0].mean(axis=1) for reader in ("one", "two"))
    assert line(found, EVERY[5], reader=None).tested.p == pytest.approx(
        scipy.stats.ttest_rel(one, two).pvalue, rel=1e-6
    )


def test_conditions_are_templates_at_intensities(run: synthetic.Run, found: Summary) -> None:
    table = cells(run)
    gap = (table.loc["words", 0.5] - table.loc["parameters", 1.0]).mean(axis=1)
    assert line(found, EVERY[6]).tested.p == pytest.approx(scipy.stats.ttest_1samp(gap, 0.0).pvalue, rel=1e-6)


def test_an_interaction_is_a_difference_of_differences(run: synthetic.Run, found: Summary) -> None:
    good, bad = (cells(run, model=model).loc["words", 1.0] for model in ("good", "bad"))
    gap = good - bad
    each = gap[[0.0, 60.0, 300.0]].mean(axis=1) - gap[[120.0, 180.0, 240.0]].mean(axis=1)
    told = line(found, EVERY[7], model=None).tested
    assert told.p == pytest.approx(scipy.stats.ttest_1samp(each, 0.0).pvalue, rel=1e-6)
    table = cells(run)
    apart = (table.loc["words", 1.0] - table.loc["parameters", 1.0]).mean(axis=1)
    first, second = (apart[[name for name, tags in TAGS.items() if tag in tags]] for tag in ("p", "q"))
    theirs = scipy.stats.ttest_ind(first, second, equal_var=False)
    assert line(found, EVERY[8]).tested.p == pytest.approx(theirs.pvalue, rel=1e-6)
    slopes = apart - (table.loc["words", 0.5] - table.loc["parameters", 0.5]).mean(axis=1)
    assert line(found, EVERY[9]).tested.interval.estimate == pytest.approx(slopes.mean() / 0.5, rel=1e-5)


@pytest.mark.parametrize(("neutral", "refusals"), [("drop", "zero"), ("zero", "drop"), ("zero", "as_read")])
def test_contrasts_follow_the_rules_of_the_report(
    run: synthetic.Run, found: Summary, neutral: NeutralRule, refusals: RefusalRule
) -> None:
    """Their means are those of the tables beside them."""
    here = summary(run, neutral=neutral, refusals=refusals)
    for one in here.models:
        first, second = (next(g for g in one.scores.templates if g.level == name) for name in ("words", "parameters"))
        gap = line(here, WORDS, one.model, one.reader).tested.interval.estimate
        assert gap == pytest.approx(first.cosine.estimate - second.cosine.estimate, abs=0.02)
    assert line(here, WORDS).tested.p != line(found, WORDS).tested.p


def test_a_family_is_all_contrasts_of_the_same_factors_and_what_was_looked_at_after_is_of_another(
    found: Summary,
) -> None:
    sizes = {(str(one.contrast), one.planned): one.family for one in found.contrasts}
    assert sizes["template: words − parameters", True] == 4  # two models by two readers
    assert sizes["model: good − bad", True] == 2
    assert sizes["intensity: 1 − 0.5", False] == 4
    assert sizes["trend over intensity, of the projection", True] == 4
    assert [one.planned for one in found.contrasts] == sorted((one.planned for one in found.contrasts), reverse=True)


def resumed(run: synthetic.Run, **spec: Any) -> synthetic.Run:
    """With another spec, once there are answers."""
    return synthetic.Run(run.said, run.felt, run.settings | {"spec": run.settings["spec"] | spec})


def lines_of(found: Summary, *, planned: bool) -> list[tuple[Any, ...]]:
    return [
        (one.told, one.tested.p, one.tested.p_holm, one.family) for one in found.contrasts if one.planned == planned
    ]


ALTERED: list[dict[str, Any]] = [
    {
        "contrasts": [WORDS | {"margin": 0.5}, TREND, TAG],
        "headline": {"template": "parameters", "intensity": 0.5},
        "intensities": [0.5, 0.75, 1.0],
        "questions": [{"id": name, "text": name, "tags": ["q" if name == "art" else "p"]} for name in TAGS],
    },
    {"contrasts": []},
]


@pytest.mark.parametrize("spec", ALTERED)
def test_no_later_spec_alters_or_drops_what_was_said_before_the_run(
    run: synthetic.Run, found: Summary, spec: dict[str, Any]
) -> None:
    assert lines_of(summary(resumed(run, **spec)), planned=True) == lines_of(found, planned=True)


def test_what_a_later_spec_means_by_the_same_words_is_told_beside_as_looked_at_after(run: synthetic.Run) -> None:
    here = summary(resumed(run, headline={"template": "parameters", "intensity": 1.0}))
    both = [one for one in here.contrasts if (str(one.contrast), one.model, one.reader) == (
        "state: pleasant − unpleasant", "good", "one",
    )]  # fmt: skip
    assert [(one.planned, one.headline and one.headline.template) for one in both] == [
        (True, "words"), (False, "parameters"),
    ]  # fmt: skip
    assert both[0].tested.p != both[1].tested.p
    assert not [one for one in here.contrasts if not one.planned and "condition" in one.contrast.factors]


@pytest.mark.parametrize("rule", [{"refusals": "drop"}, {"neutral": "drop"}])
def test_under_other_rules_nothing_is_what_was_said_before_the_run(run: synthetic.Run, rule: dict[str, Any]) -> None:
    every = {of_entry(entry) for entry in EVERY}
    for settings in (chosen(resumed(run, **rule).settings), chosen(run.settings, **rule)):
        assert settings.contrasts.planned == ()
        assert set(settings.contrasts.explored) == every


def test_a_reader_that_came_later_is_none_of_whom_the_contrasts_were_said(run: synthetic.Run) -> None:
    meant = run.settings["contrasts_meant"] | {"readers": ["one"]}
    here = summary(synthetic.Run(run.said, run.felt, run.settings | {"contrasts_meant": meant}))
    assert {(one.reader, one.planned) for one in here.contrasts} == {
        ("one", True), ("two", False), (None, True),
    }  # fmt: skip
    assert line(here, WORDS).family == 2


def test_a_model_that_was_to_be_asked_and_never_was_counts_in_the_family(run: synthetic.Run, found: Summary) -> None:
    meant = run.settings["contrasts_meant"] | {"models": ["good", "bad", "lost"]}
    here = summary(synthetic.Run(run.said, run.felt, run.settings | {"contrasts_meant": meant}))
    assert (line(found, WORDS).family, line(here, WORDS).family) == (4, 6)
    assert line(here, WORDS, model="lost").tested.verdict == "undecided"
    assert line(here, WORDS).tested.p_holm >= line(found, WORDS).tested.p_holm


def test_a_trend_is_unknown_until_every_intensity_of_the_spec_was_asked(run: synthetic.Run) -> None:
    for asked in ((1.0,), (0.5, 1.0)):
        felt = {who: rows.filter(np.isin(np.array(rows["intensity"]), asked)) for who, rows in run.felt.items()}
        spec = run.settings["spec"] | {"intensities": [0.5, 0.75, 1.0]}
        meant = {"contrasts_meant": meaning(run.settings | {"spec": spec})}
        here = summary(synthetic.Run(run.said, felt, run.settings | {"spec": spec} | meant))
        told = line(here, TREND)
        assert math.isnan(told.tested.p)
        missing = "0.5, 0.75" if asked == (1.0,) else "0.75"
        assert sentence(told) == (
            f"whether the projection rises or falls with intensity cannot be told for good: nothing was scored at "
            f"intensity {missing}"
        )


def test_without_contrasts_the_summary_says_nothing_of_them_and_with_some_each_in_a_sentence(
    found: Summary,
) -> None:
    bare = replace(found, contrasts=())
    assert "contrasts" not in bare.as_json()
    assert section(bare) is None
    told = json.loads(json.dumps(found.as_json()["contrasts"]))
    assert len(told) == len(sentences(found)) == len(found.contrasts)
    assert told[0]["contrast"]["parts"][0] == {"factor": "template", "a": "words", "b": "parameters"}
    assert told[0]["tested"]["interval"]["over"] == "other questions of this kind"


def test_the_page_keeps_apart_what_was_said_before_and_what_was_looked_at_after(found: Summary) -> None:
    shown = section(found)
    assert shown is not None
    assert [group["title"] for group in shown["groups"]] == [
        "Said before the run", "Exploratory: looked at after the run",
    ]  # fmt: skip
    assert [len(group["lines"]) for group in shown["groups"]] == [len(found.contrasts) - 4, 4]
    assert "4 contrasts of intensity, looked at after" in shown["families"]
    assert shown["drawing"].count("<svg") == shown["doses"]["drawing"].count("<svg") == 1
    assert [len(one["cells"]) for one in shown["doses"]["lines"]] == [2] * 4
    assert terminal_lines(found)[-1].endswith("more contrasts in tables/contrasts.csv")


def test_the_table_has_every_contrast_with_its_sentence(found: Summary) -> None:
    (table,) = [one for one in tables(found) if one.name == "contrasts"]
    assert len(table.rows) == len(found.contrasts)
    assert as_csv(table).splitlines()[0].startswith("planned,contrast,condition,model,reader,difference,low,high,p,")
    assert {row[2] for row in table.rows if row[1] == "model: good − bad"} == {"template words, intensity 1"}


WORDY, BY = Part("template", "words", "parameters"), "0.08 [0.03, 0.13] for Llama3 8B"
SURE = Estimated(0.08, 0.02**2, 9.0, 10)


def said(
    part: Part, estimated: Estimated = SURE, *, margin: float | None = 0.05, of: Any = "cosine", **who: Any
) -> str:
    contrast = Contrast((part,), of, margin)
    (tested,) = concluded([(estimated, margin, 2.0)])
    names = {"model": "Llama3 8B", "reader": "r"} | who
    return sentence(Line(contrast, planned=True, tested=tested, family=1, **names))


@pytest.mark.parametrize(
    ("part", "estimated", "expected"),
    [
        (WORDY, SURE, f"words express more than parameters, by {BY}"),
        (WORDY, Estimated(-0.08, 0.02**2, 9.0, 10), f"words express less than parameters, by {BY}"),
        (
            WORDY,
            Estimated(0.01, 0.01**2, 9.0, 10),
            "words and parameters express alike, within ±0.05: 0.01 [−0.01, 0.03] (90 % interval) for Llama3 8B",
        ),
        (
            WORDY,
            Estimated(0.02, 0.05**2, 9.0, 10),
            "whether words express more or less than parameters is undecided: 0.02 [−0.09, 0.13] for Llama3 8B",
        ),
        (
            WORDY,
            Estimated(0.003, 0.001**2, 9.0, 10),
            "words express more than parameters, by 0.003 [0.001, 0.005] for Llama3 8B",
        ),
        (
            Part("intensity"),
            SURE,
            "the cosine rises with intensity, by 0.08 [0.03, 0.13] per 1 of intensity for Llama3 8B",
        ),
        (Part("intensity", 1.0, 0.5), SURE, f"intensity 1 expresses more than intensity 0.5, by {BY}"),
        (
            Part("state", "pleasant", "unpleasant"),
            SURE,
            f"pleasant states are expressed more than unpleasant ones, by {BY}",
        ),
        (Part("tag", "p", "q"), SURE, f"answers to p questions express more than those to q questions, by {BY}"),
        (
            Part("tag", "p", "q"),
            Estimated(math.nan, math.nan, math.nan, 0),
            "whether answers to p questions express more or less than those to q questions cannot be told for Llama3 "
            "8B: too little was scored on both sides",
        ),
    ],
)
def test_a_contrast_is_said_in_one_sentence(part: Part, estimated: Estimated, expected: str) -> None:
    margin = 0.001 if estimated.value == 0.003 else 0.05
    assert said(part, estimated, margin=margin) == expected


def test_an_interval_that_is_said_to_lie_within_a_margin_does() -> None:
    for variance in (0.012**2, 0.014**2, 0.016**2):
        (tested,) = concluded([(Estimated(0.02, variance, 15.0, 16), 0.05, 2.0)])
        inner = tested.interval_of_equivalence
        assert inner.level == pytest.approx(0.9)
        assert (tested.verdict == "equivalent") == (inner.high <= 0.05)


def test_what_a_difference_does_over_another_factor_has_a_sign() -> None:
    """A difference of −0.3 that comes to be −0.5 is larger and falls."""
    (tested,) = concluded([(Estimated(-0.2, 0.02**2, 9.0, 10), None, 2.0)])
    trend = Contrast((Part("template", "words", "parameters"), Part("intensity")))
    assert sentence(Line(trend, True, "m", "r", tested, 1)).startswith(
        "the difference words − parameters falls with intensity, by 0.20"
    )


def test_a_terminal_says_of_which_condition_a_contrast_is_where_there_are_several(found: Summary) -> None:
    assert terminal_lines(found)[0] == f"{sentences(found)[0]} (intensity 1)"


def test_rows_of_the_forest_are_told_apart_however_long_their_names() -> None:
    (tested,) = concluded([(SURE, None, 2.0)])
    names = ["x" * 60 + middle + "y" * 60 for middle in "abc"]
    lines = [Line(Contrast((Part("template", name, "words"),)), True, "m", "r", tested, 1) for name in names]
    shown = apart([forest.name_of(one) for one in lines], 80)
    assert len(set(shown)) == 3
    assert max(map(len, shown)) <= 80
    assert apart(["short", "other"], 80) == ["short", "other"]


def test_whom_a_sentence_is_of() -> None:
    part = Part("model", "good", "bad")
    assert said(part, model=None) == "good expresses more than bad, by 0.08 [0.03, 0.13]"
    (tested,) = concluded([(SURE, None, 2.0)])
    both = Line(Contrast((part,)), True, None, "r", tested, 1)
    assert sentence(both, several_readers=True) == "good expresses more than bad, by 0.08 [0.03, 0.13], read by r"
    two = Contrast((Part("template", "words", "parameters"), Part("state", "pleasant", "unpleasant")))
    assert sentence(Line(two, True, "m", "r", tested, 1)) == (
        "the difference words − parameters is higher for pleasant states than for unpleasant states, by 0.08 [0.03, "
        "0.13] for m"
    )


def test_a_level_that_a_model_was_never_asked_leaves_the_contrast_open(run: synthetic.Run) -> None:
    """As when a run was cut short."""
    cut = synthetic.Run(
        run.said, {who: table.filter(np.array(table["template"]) == "words") for who, table in run.felt.items()},
        run.settings,
    )  # fmt: skip
    here = summary(cut)
    told = line(here, WORDS)
    assert (told.tested.verdict, math.isnan(told.tested.interval.estimate)) == ("undecided", True)
    assert math.isfinite(line(here, STATES).tested.interval.estimate)
