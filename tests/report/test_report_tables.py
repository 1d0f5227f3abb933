"""Tables for a terminal, for programs and for papers."""

from __future__ import annotations

import csv
import io
import math
import re

import pytest

from emoray.analysis.intervals import OVER_QUESTIONS, Interval
from emoray.report import Settings
from emoray.report.labels import plan_of_labels
from emoray.report.page import page
from emoray.report.phrasing import headline, listed, number, p_value, percent, with_interval
from emoray.report.summary import Summary, summarize
from emoray.report.tables import as_csv, as_latex, latex, tables, terminal_table
from emoray.study.goemotions import label_map, shipped_maps
from emoray.study.scoring import Rules
from tests.report.synthetic import RUSSELL, Run, run


def summary_of(*models: str, readers: tuple[str, ...] = ("embedded",)) -> Summary:
    skills = {model: 0.8 - 0.3 * place for place, model in enumerate(models)}
    source = run(skills, readers=readers, states=4, questions=3, repetitions=2)
    return summarize(source, Settings(RUSSELL, "zero", shuffles=50))


def test_the_terminal_table_has_a_line_per_model() -> None:
    lines = terminal_table(summary_of("steady-8b", "shaky-1b")).splitlines()
    assert lines[0].split() == ["model", "answers", "failed", "mean", "cosine", "of", "ceiling", "expected", "shuffled"]
    assert [line.split()[0] for line in lines[2:4]] == ["steady-8b", "shaky-1b"]
    assert "label map russell (ours)" in lines[4]
    assert "neutral scores 0" in lines[4]


@pytest.mark.parametrize("readers", [("embedded",), ("a" * 64, "b" * 64)])
def test_it_fits_in_a_hundred_columns_whatever_the_names(readers: tuple[str, ...]) -> None:
    shown = terminal_table(summary_of("m" * 64, "n", readers=readers))
    assert max(map(len, shown.splitlines())) <= 100
    assert "…" in shown


@pytest.mark.parametrize("width", [72, 80, 100, 160])
def test_models_stay_apart_on_a_terminal_of_any_width(width: int) -> None:
    names = [f"Scripted-model-of-{size}-billion-parameters" for size in (7, 8, 70)]
    lines = terminal_table(summary_of(*names), width).splitlines()
    assert max(map(len, lines)) <= width
    assert len({line[: line.index("  ")] for line in lines[2:5]}) == 3
    assert all(name in "\n".join(lines) for name in names) == (width == 160)


def test_columns_stand_under_one_another() -> None:
    lines = terminal_table(summary_of("a-rather-long-name", "b", readers=("one", "two"))).splitlines()
    assert len({len(line) for line in lines[:6]}) == 1


def test_csv_holds_exact_numbers_and_empty_cells() -> None:
    summary = summary_of("steady")
    states = next(table for table in tables(summary) if table.name == "states")
    read = list(csv.DictReader(io.StringIO(as_csv(states))))
    assert [float(line["state_deg"]) for line in read if line["refusals"] == "zero"] == [0.0, 90.0, 180.0, 270.0]
    first = summary.models[0].scores.states[0]
    assert float(read[0]["cosine"]) == pytest.approx(first.cosine.estimate, abs=1e-9)
    assert float(read[0]["of_ceiling"]) == pytest.approx(first.relative, abs=1e-9)


def test_a_name_with_a_comma_or_quote_stays_one_cell() -> None:
    table = tables(summary_of('a "b", c'))[0]
    assert next(csv.DictReader(io.StringIO(as_csv(table))))["model"] == 'a "b", c'


def test_latex_means_what_it_says() -> None:
    assert latex("50 % of $x_1$ & {y}") == "50 \\% of \\$x\\_1\\$ \\& \\{y\\}"
    assert latex("\\a~b^c") == "\\textbackslash{}a\\textasciitilde{}b\\textasciicircum{}c"
    shown = as_latex(tables(summary_of("llama_3"))[0])
    assert "llama\\_3" in shown
    assert "a neutral reading scores 0" in shown
    body = [line for line in shown.splitlines() if line.endswith("\\\\")]
    assert len({line.count(" & ") for line in body}) == 1


def test_captions_say_what_the_numbers_depend_on() -> None:
    made = tables(summary_of("a", "b"))
    assert len(made) > 3
    for table in made:
        assert "label map russell (ours)" in table.caption
        assert "95 %" in table.caption


def lines_of(summary: Summary, name: str) -> list[dict[str, str]]:
    made = next(table for table in tables(summary) if table.name == name)
    return list(csv.DictReader(io.StringIO(as_csv(made))))


def of_skills(**skills: float) -> Summary:
    source = run(skills, states=8, questions=10, repetitions=3, refusals=0.0, failures=0.0)
    return summarize(source, Settings(RUSSELL, "zero", shuffles=200))


def test_the_headline_names_the_best_and_its_control_where_it_is_told_apart() -> None:
    sentence = headline(of_skills(steady=0.9, shaky=0.3))
    assert sentence.startswith("Of 2 models, steady came closest")
    assert "shaky stayed farthest" in sentence
    assert "With the states shuffled" in sentence
    assert "after Holm for all models" in sentence


def test_the_headline_names_no_winner_among_models_that_are_not_told_apart() -> None:
    sentence = headline(of_skills(a=0.82, b=0.8, c=0.1))
    assert re.match(r"Of 3 models, [ab] and [ab] are not told apart at the top: mean cosines 0\.\d\d to 0", sentence)
    assert "c stayed farthest" in sentence
    alike = headline(of_skills(a=0.5, b=0.5))
    assert "are not told apart: mean cosines" in alike
    assert "farthest" not in alike
    assert "closest" not in alike


def test_ranks_come_with_the_places_that_are_not_ruled_out() -> None:
    summary = of_skills(a=0.82, b=0.8, c=0.1)
    lines = list(csv.DictReader(io.StringIO(as_csv(tables(summary)[0]))))
    assert [(line["rank"], line["rank_low"], line["rank_high"]) for line in lines] == [
        ("1", "1", "2"), ("2", "1", "2"), ("3", "3", "3")]  # fmt: skip


def test_with_several_readers_the_headline_speaks_of_all_of_them() -> None:
    skills = {"a": 0.9, "b": 0.2}
    agree = run(skills, readers=("x", "y"), states=8, questions=10, refusals=0.0, failures=0.0)
    sentence = headline(summarize(agree, Settings(RUSSELL, "zero", shuffles=50)))
    assert sentence.startswith("Whoever reads (x and y): of 2 models, a came closest")
    assert ", read by x" in sentence
    other = run({"a": 0.2, "b": 0.9}, readers=("x", "y"), states=8, questions=10, refusals=0.0, failures=0.0)
    split = Run(agree.said, {who: other.felt[who] if who[0] == "y" else one for who, one in agree.felt.items()})
    sentence = headline(summarize(split, Settings(RUSSELL, "zero", shuffles=50)))
    assert sentence.startswith("The readers do not put the same models first: read by x, of 2 models, a came closest")
    assert "read by y, of 2 models, b came closest" in sentence


def test_the_shipped_maps_stand_side_by_side_and_the_reports_own_is_one_of_them() -> None:
    summary = of_skills(a=0.9, b=0.3)
    lines = lines_of(summary, "maps")
    assert {line["label_map"] for line in lines} == set(shipped_maps())
    assert len(lines) == 2 * len(shipped_maps())
    own = [line for line in lines if line["label_map"] == "russell"]
    assert [float(line["cosine"]) for line in own] == pytest.approx(
        [one.scores.whole.group.cosine.estimate for one in summary.models]
    )
    assert len({line["cosine"] for line in lines if line["model"] == "a"}) == len(shipped_maps())
    assert {(line["model"], line["rank"]) for line in lines} == {("a", "1"), ("b", "2")}


def test_another_map_in_the_table_is_what_a_report_under_that_map_says() -> None:
    source = run({"a": 0.6}, states=8, questions=4, repetitions=2)
    line = summarize(source, Settings(RUSSELL, "drop", shuffles=5)).by_maps[-1]
    assert line.label_map != "russell"
    under = summarize(source, Settings(label_map(line.label_map), "drop", shuffles=5)).models[0].scores.whole.group
    assert (line.cosine.estimate, line.cosine.low) == pytest.approx((under.cosine.estimate, under.cosine.low))


def test_directions_are_those_of_the_readings() -> None:
    summary = of_skills(a=0.95, b=0.0)
    good, blind = summary.directions
    assert (good.model, blind.model) == ("a", "b")
    assert all(abs(state.bias.estimate) < 60 for state in good.states)
    assert sum(p < 0.05 for p in good.p_holm) >= 6
    assert sum(p < 0.05 for p in blind.p_holm) < 4  # labels lie closer together on one side
    assert sum(state.directed for state in good.states) + summary.of_reader("embedded")[0].counts.neutral == (
        summary.of_reader("embedded")[0].counts.read
    )
    assert good.profile is not None
    assert good.profile.elevation.estimate == pytest.approx(
        summary.models[0].scores.whole.group.cosine.estimate, abs=0.01
    )


def test_before_anybody_labels_it_is_said_what_so_many_labels_buy() -> None:
    lines = plan_of_labels(run({"a": 0.8, "b": 0.2}, states=6, questions=5), RUSSELL, Rules(), None).splitlines()
    assert "if embedded foretells half of the" in lines[0]
    assert [line.split()[0] for line in lines[3:]] == ["a", "b"]
    for line in lines[3:]:
        widths = [float(cell.removeprefix("±")) for cell in line.split()[1:]]
        assert widths == sorted(widths, reverse=True)
        assert len(widths) == len(lines[2].split()) - 1
    assert plan_of_labels(run({"a": 0.8}, states=3, questions=1), RUSSELL, Rules(), None) == ""


def test_a_report_knows_how_often_the_run_was_looked_at() -> None:
    source = run({"a": 0.8}, states=4, questions=5, repetitions=2)
    attempts = [
        {"settled_before": {"a": 0}},  # died; the next found what it left
        {"settled_before": {"a": 9}, "lanes": [{"answered": 20}]},
        {"settled_before": {"a": 29}, "lanes": [{"answered": 0}]},
        {"settled_before": {"a": 29}, "lanes": [{"answered": 11}]},
    ]
    again = Run(source.said, source.felt, source.settings | {"attempts": attempts})
    first, third = (summarize(one, Settings(RUSSELL, "zero", shuffles=5)).looks for one in (source, again))
    assert first is not None
    assert third is not None
    assert (first.look, third.look, third.attempts) == (1, 3, 3)
    (once,), (often,) = first.means, third.means
    assert once.cosine.estimate == often.cosine.estimate
    assert often.cosine.half_width > once.cosine.half_width
    shown = page(summarize(again, Settings(RUSSELL, "zero", shuffles=5)))
    assert "This is the 3rd look at this run" in shown
    assert "wrong at some look 7 % of the time at most" in shown
    looked = summarize(source, Settings(RUSSELL, "zero", shuffles=5, looked=(3, 5, 3))).looks
    assert looked is not None
    assert (looked.look, looked.answers[:2]) == (3, (3, 5))


def test_claims_are_tested_with_one_reader_too() -> None:
    found = {line["conclusion"]: line for line in lines_of(of_skills(a=0.9), "claims")}
    assert found["every model expresses the states that it is asked for, to some degree"]["verdict"] == "yes"
    assert found["capable models reach more than 0.5"]["verdict"] == "yes"
    assert all(0 <= float(line["p_holm"]) <= 1 for line in found.values() if line["verdict"] != "unknown")


def test_a_single_model_is_named_whatever_it_scores() -> None:
    sentence = headline(of_skills(a=0.5))
    assert sentence.startswith("Asked for 8 emotional states, a was read as expressing them with a mean cosine of")
    assert "cannot be told from chance" in headline(
        summarize(run({"z": 0.0}, repetitions=1), Settings(RUSSELL, "zero"))
    )


def test_numbers_are_said_for_people() -> None:
    assert [number(x) for x in (0.5, -0.125, -0.001, math.nan)] == ["0.50", "−0.12", "0.00", "–"]
    assert [percent(x) for x in (0.667, math.nan)] == ["67 %", "–"]
    assert [p_value(x) for x in (0.0004, 0.0123, math.nan)] == ["< 0.001", "0.012", "–"]
    assert with_interval(Interval(0.5, 0.4, 0.6, 0.95, 10, OVER_QUESTIONS)) == "0.50 [0.40, 0.60]"
    assert with_interval(Interval(0.5, math.nan, math.nan, 0.95, 1, OVER_QUESTIONS)) == "0.50 [–]"
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
