"""Tables for a terminal, for programs and for papers."""

from __future__ import annotations

import csv
import io
import math

import pytest

from emoray.analysis.intervals import OVER_QUESTIONS, Interval
from emoray.report import Settings
from emoray.report.summary import Summary, summarize
from emoray.report.tables import as_csv, as_latex, latex, tables, terminal_table
from emoray.report.words import headline, listed, number, p_value, percent, with_interval
from tests.report.synthetic import RUSSELL, run


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


def test_columns_stand_under_one_another() -> None:
    lines = terminal_table(summary_of("a-rather-long-name", "b", readers=("one", "two"))).splitlines()
    assert len({len(line) for line in lines[:6]}) == 1


def test_csv_holds_exact_numbers_and_empty_cells() -> None:
    summary = summary_of("steady")
    states = next(table for table in tables(summary) if table.name == "states")
    read = list(csv.DictReader(io.StringIO(as_csv(states))))
    assert [float(line["state_deg"]) for line in read if line["refusals"] == "included"] == [0.0, 90.0, 180.0, 270.0]
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


def test_the_headline_names_the_best_and_its_control() -> None:
    sentence = headline(summary_of("steady", "shaky"))
    assert sentence.startswith("Of 2 models, steady came closest")
    assert "shaky stayed farthest" in sentence
    assert "With the states shuffled" in sentence
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
