"""A run becomes a report: what is written, what it is computed from, and what it must not depend on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from emoray.report import Settings, Summary, chosen, into, terminal_table, write_report
from emoray.report.summary import summarize
from emoray.report.tables import as_csv, tables
from emoray.run_folder import columns
from emoray.run_folder.file_names import Name
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.parquet import encoded
from emoray.study.goemotions import LabelMap, label_map
from emoray.study.scoring import NeutralRule
from tests.golden import assert_golden
from tests.report.synthetic import RUSSELL, Run, Table, run


@pytest.fixture(scope="module")
def small() -> Run:
    """Two models, four states, three questions: small enough to read."""
    return run({"steady": 0.8, "blank": 0.0}, states=4, questions=3, repetitions=2, refusals=0.1, failures=0.1)


@pytest.fixture(scope="module")
def written(small: Run) -> dict[str, bytes]:
    return report(small)[0]


def report(source: Any, **settings: Any) -> tuple[dict[str, bytes], Summary]:
    files: dict[str, bytes] = {}
    summary = write_report(source, files.__setitem__, chosen(source.manifest() or {}, shuffles=50, **settings))
    return files, summary


def summary_of(source: Any, labels: LabelMap = RUSSELL, neutral: NeutralRule = "zero") -> Summary:
    return summarize(source, Settings(labels, neutral, shuffles=50))


def test_the_summary_is_the_golden_one(written: dict[str, bytes]) -> None:
    found = json.loads(written["summary.json"], parse_float=lambda text: round(float(text), 6))
    found["emoray"] = "any"
    assert_golden("report/summary.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def test_everything_is_written_and_nothing_is_trivial(written: dict[str, bytes]) -> None:
    listed = [f"tables/{name}.{kind}" for name in _TABLES for kind in ("csv", "tex")]
    drawn = [f"figures/{name}.{kind}" for name in _FIGURES for kind in ("png", "svg")]
    assert sorted(written) == sorted(["summary.json", "report.html", *listed, *drawn])
    assert all(len(data) > 20_000 for name, data in written.items() if name.startswith("figures/"))


_TABLES = (
    "models", "states", "questions", "templates", "intensities", "differences", "refusals", "maps", "directions",
    "profiles", "claims",
)  # fmt: skip
_FIGURES = ("models", "circumplex", "states", "states_by_question")


def test_equal_runs_give_equal_bytes(small: Run, written: dict[str, bytes]) -> None:
    assert report(small)[0] == written


def test_neither_batches_nor_the_order_of_rows_show(small: Run) -> None:
    other = Run(
        {model: _mixed(table) for model, table in small.said.items()},
        {who: _mixed(table) for who, table in small.felt.items()},
    )
    assert summary_of(other).as_json() == summary_of(small).as_json()


def _mixed(table: pa.Table) -> pa.Table:
    return table.take(np.random.default_rng(1).permutation(len(table)))


@pytest.mark.parametrize(("of_model", "of_reader"), [("model_folder=m-", "reader_folder=r-"), ("model=", "reader=")])
def test_a_real_run_folder_gives_the_same_report_also_an_old_one(
    small: Run, written: dict[str, bytes], tmp_path: Path, of_model: str, of_reader: str
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    folder.create()
    folder.write_manifest(small.settings)
    for model, table in small.said.items():
        _put(folder, f"answers/{of_model}{model}", table)
    for (reader, model), table in small.felt.items():
        _put(folder, f"rows/{of_reader}{reader}/{of_model}{model}", table)
    assert report(folder)[0] == written


def _put(folder: RunFolder, part: str, table: pa.Table) -> None:
    half = len(table) // 2
    for stamp, piece in ((1_000_000, table.slice(0, half)), (2_000_000, table.slice(half))):
        folder.write_bytes(f"{part}/{Name(stamp, 'test', 0)}", encoded(piece.combine_chunks()))


def test_a_report_can_be_written_anywhere(small: Run, tmp_path: Path) -> None:
    write_report(small, into(tmp_path / "here"), chosen(small.manifest() or {}, shuffles=5))
    assert (tmp_path / "here" / "tables" / "models.csv").read_text().startswith("reader,model,refusals,")


# ── what is counted ────────────────────────────────────────────────────────────────────────────────────────────────


def test_failures_are_counted_by_kind_and_never_scored(small: Run) -> None:
    summary = summary_of(small)
    assert [one.model for one in summary.models] == list(small.said)
    assert sum(one.counts.failures for one in summary.models) > 0
    for one in summary.models:
        outcomes = small.said[one.model]["outcome"].to_pylist()
        failed = [outcome for outcome in outcomes if outcome != columns.ANSWERED]
        assert one.failures == {kind: failed.count(kind) for kind in set(failed)}
        assert one.counts.answers + one.counts.failures == one.counts.asked == len(outcomes)
        assert one.counts.read + one.counts.unread == one.counts.answers
        assert one.scores.whole.group.scored == one.counts.read
        assert sum(one.failures_by_state.values()) == len(failed)


def test_tables_are_given_under_every_rule_for_refusals(small: Run) -> None:
    summary = summary_of(small)
    lines = as_csv(tables(summary)[0]).splitlines()
    assert [line.split(",")[2] for line in lines[1:]] == ["zero", "drop", "as_read"] * 2
    for one in summary.models:
        assert one.without_refusals is not None
        table = small.felt[one.reader, one.model]
        kept = table.filter(pa.compute.invert(pa.compute.fill_null(table["refused"], False)))
        assert one.without_refusals.whole.group.scored == len(kept["label"].drop_null())


def test_without_any_refusal_there_is_one_table() -> None:
    summary = summary_of(run({"a": 0.5}, states=4, questions=2, refusals=0.0))
    assert summary.models[0].without_refusals is None
    assert "drop" not in as_csv(tables(summary)[0])


def test_answers_that_repeat_word_for_word_are_noticed(small: Run) -> None:
    table = small.said["steady"]
    same = table.set_column(table.schema.get_field_index("answer"), "answer", pa.array(["So."] * len(table)))
    summary = summary_of(Run({"steady": same}, {("embedded", "steady"): small.felt["embedded", "steady"]}))
    answered = same.filter(pa.compute.equal(same["outcome"], columns.ANSWERED))
    distinct = len(set(answered["prompt_sha"].to_pylist()))
    assert summary.models[0].identical == pytest.approx(1 - distinct / len(answered))


def test_examples_are_chosen_by_their_key_and_carry_their_reading(small: Run) -> None:
    summary = summary_of(small)
    assert {example.model for example in summary.examples} == {one.model for one in summary.models} == set(small.said)
    for one in summary.models:
        table = small.said[one.model].filter(pa.compute.equal(small.said[one.model]["outcome"], columns.ANSWERED))
        for state in set(table["state_deg"].to_pylist()):
            keys = sorted(table.filter(pa.compute.equal(table["state_deg"], state))["key"].to_pylist())
            shown = [e.key for e in summary.examples if (e.model, e.state_deg) == (one.model, state)]
            assert shown == keys[:2]


# ── what the scores depend on ──────────────────────────────────────────────────────────────────────────────────────


def test_another_label_map_or_neutral_rule_scores_anew(small: Run) -> None:
    means = {
        (name, rule): summary_of(small, label_map(name), rule).models[0].scores.whole.group.cosine.estimate
        for name in ("russell", "octants")
        for rule in _RULES
    }
    assert len(set(means.values())) == 4
    assert means["russell", "drop"] > means["russell", "zero"]


_RULES: tuple[NeutralRule, ...] = ("zero", "drop")


def test_the_run_s_own_map_and_rule_are_the_default(small: Run) -> None:
    entries = {place.label: {"none": True} if place.affect is None else {"angle": 90} for place in RUSSELL.places}
    manifest = {
        "name": "mine",
        "spec": {"name": "mine", "neutral": "drop"},
        "label_map": {"name": "all-up", "mark": "user", "labels": entries},
        "marks": {"questions": {"freedom": "user"}, "templates": {"parameters": "user"}},
    }
    files, summary = report(Run(small.said, small.felt, manifest))
    assert (summary.settings.label_map.name, summary.settings.neutral) == ("all-up", "drop")
    assert summary.run["name"] == "mine"
    assert summary.design.questions[0].mark == "user"
    assert summary.design.questions[1].mark == "quoted"
    page = files["report.html"].decode()
    assert "all-up (user)" in page
    assert "is left out" in page


def test_a_folder_without_a_manifest_still_has_a_report(small: Run) -> None:
    bare = Run(small.said, small.felt)
    bare.manifest = lambda: None  # type: ignore[method-assign]
    assert report(bare)[1].settings.label_map.name == "russell"


def test_models_come_best_first_and_questions_in_the_paper_s_order(small: Run) -> None:
    summary = summary_of(small)
    assert [one.model for one in summary.models] == ["steady", "blank"]
    assert [question.id for question in summary.design.questions] == ["freedom", "art", "technology"]


def test_models_readers_and_templates_are_compared_pair_by_pair() -> None:
    source = run(
        {"x": 0.9, "y": 0.1},
        readers=("one", "two"),
        states=6,
        questions=4,
        templates=("parameters", "words"),
        repetitions=1,
    )
    found = {(one.of, one.within): [(d.a, d.b) for d in one.differences] for one in summary_of(source).comparisons}
    assert found["models", "one"] == [("x", "y")]
    assert found["readers", "x"] == [("one", "two")]
    assert found["templates", "x, read by one"] == [("parameters", "words")]


def test_a_model_that_was_not_asked_everything_stands_in_the_same_tables(small: Run) -> None:
    half = small.said["blank"].filter(pa.compute.less(small.said["blank"]["state_deg"], 100))
    felt = small.felt["embedded", "blank"].filter(pa.compute.less(small.felt["embedded", "blank"]["state_deg"], 100))
    summary = summary_of(Run(small.said | {"blank": half}, small.felt | {("embedded", "blank"): felt}))
    blank = next(one for one in summary.models if one.model == "blank")
    assert len(blank.scores.states) == 4
    assert math.isnan(blank.scores.states[3].cosine.estimate)


@pytest.mark.parametrize("what", ["no rows", "no readers", "no models", "only failures"])
def test_a_run_that_has_hardly_begun_has_a_report_that_says_so(small: Run, what: str) -> None:
    nothing = small.felt["embedded", "blank"].slice(0, 0)
    failed = small.said["blank"].filter(pa.compute.not_equal(small.said["blank"]["outcome"], columns.ANSWERED))
    source = {
        "no rows": Run({"blank": small.said["blank"]}, {("embedded", "blank"): nothing}),
        "no readers": Run({"blank": small.said["blank"]}, {}),
        "no models": Run({}, {}),
        "only failures": Run({"blank": failed}, {("embedded", "blank"): nothing}),
    }[what]
    files, summary = report(source)
    assert "Nothing has been scored yet" in json.loads(files["summary.json"])["headline"]
    assert "Nothing has been scored yet" in files["report.html"].decode()
    assert terminal_table(summary)


def test_one_question_has_no_interval_and_the_page_says_why() -> None:
    files, summary = report(run({"a": 0.8}, states=6, questions=1))
    assert math.isnan(summary.models[0].scores.whole.group.cosine.low)
    assert "[–]" in terminal_table(summary)
    assert "One question was asked" in files["report.html"].decode()


def test_memory_is_that_of_a_batch(small: Run) -> None:
    """Batches of three rows give what one table gives: nothing is kept but sums, hashes and examples."""

    class Crumbs(Run):
        def answers(self, model: str) -> Table:
            return Table(self.said[model], batch=3)

        def rows(self, reader: str, model: str) -> Table:
            return Table(self.felt[reader, model], batch=3)

    crumbs, whole = (_numbers(summary_of(source).as_json()) for source in (Crumbs(small.said, small.felt), small))
    assert crumbs == pytest.approx(whole)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return [x for item in value.values() for x in _numbers(item)]
    if isinstance(value, list):
        return [x for item in value for x in _numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []
