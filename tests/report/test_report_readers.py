"""Several readers, people's labels, human text, other rules: what a report says of them, against plain computations."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from emoray.analysis.calibration import human_reads
from emoray.readers.protocol import Reading
from emoray.report import Settings, Summary, Unusable, chosen, figures, read_run, write_report
from emoray.report.agreement import ALL
from emoray.report.page import page
from emoray.report.phrasing import agreement as sentence
from emoray.report.phrasing import standing
from emoray.report.summary import summarize
from emoray.run_folder import columns
from emoray.study.circumplex import Affect
from emoray.study.goemotions import label_map
from emoray.study.ratings import Rating
from tests.golden import assert_golden
from tests.report.synthetic import RUSSELL, Run, run
from tests.report.test_report_page import Structure

JUDGED = {
    "name": "kin",
    "spec": {
        "name": "kin",
        "models": [{"name": "steady", "id": "gpt-4"}, {"name": "blank", "id": "llama3-8b"}],
        "readers": [{"name": "one", "kind": "goemotions", "model": "embedded"}],
    },
    "more_readers": [{"name": "two", "kind": "judge", "model": {"id": "gpt-4o-mini"}}],
}


@pytest.fixture(scope="module")
def two() -> Run:
    """Two models read by two readers, who both see the state in most answers of one of them."""
    made = run(
        {"steady": 0.9, "blank": 0.1}, readers=("one", "two"), states=6, questions=4, repetitions=3, refusals=0.1
    )
    return Run(made.said, made.felt, made.settings | JUDGED)


def report(run: Any, **settings: Any) -> tuple[dict[str, bytes], Summary]:
    """With files for figures, in which nothing is drawn: that takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        for form, nothing in (("png", b""), ("svg", b""), ("inline_svg", "")):
            patch.setattr(figures, form, lambda *_, nothing=nothing: nothing)
        return drawn(run, **settings)


def drawn(run: Any, **settings: Any) -> tuple[dict[str, bytes], Summary]:
    files: dict[str, bytes] = {}
    return files, write_report(run, files.__setitem__, chosen(run.manifest(), shuffles=20, **settings))


def summarized(run: Any, **settings: Any) -> Summary:
    """Without figures and page, which take longest."""
    return summarize(run, chosen(run.manifest(), shuffles=20, **settings))


@pytest.fixture(scope="module")
def written(two: Run) -> tuple[dict[str, bytes], Summary]:
    return drawn(two)


def both(run: Run, model: str) -> pd.DataFrame:
    """The answers of a model with what either reader scored, by key."""
    one, other = (run.felt[reader, model].to_pandas().set_index("key") for reader in ("one", "two"))
    paired: pd.DataFrame = one.join(other[["cosine", "angle_error_deg"]].add_suffix("_two"))
    return paired


def table(files: dict[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[f"tables/{name}.csv"].decode())))


# ── agreement ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_several_readers_say_is_the_golden_one(written: tuple[dict[str, bytes], Summary]) -> None:
    found = json.loads(written[0]["summary.json"], parse_float=lambda text: round(float(text), 6))
    shown = {name: found[name] for name in ("agreement", "corrections", "beside", "kinships")}
    assert_golden("report/readers.json", json.dumps(shown, indent=1, ensure_ascii=False) + "\n")


def test_the_correlations_are_those_of_the_same_answers(two: Run, written: tuple[dict[str, bytes], Summary]) -> None:
    lines = table(written[0], "agreement")
    assert {line["model"] for line in lines} == {ALL, *two.said}
    for line in lines:
        models = list(two.said) if line["model"] == ALL else [line["model"]]
        paired = pd.concat([both(two, model) for model in models]).dropna(subset=["cosine", "cosine_two"])
        assert int(line["answers"]) == len(paired)
        assert float(line["correlation"]) == pytest.approx(paired["cosine"].corr(paired["cosine_two"]))
        cells = paired.groupby(["model", "prompt_sha"])[["cosine", "cosine_two"]].mean()
        assert float(line["cell_correlation"]) == pytest.approx(cells["cosine"].corr(cells["cosine_two"]))
        turns = (paired["angle_error_deg"] - paired["angle_error_deg_two"] + 180) % 360 - 180
        assert float(line["mean_turn_deg"]) == pytest.approx(turns.abs().mean())


def test_a_reader_agrees_with_itself(two: Run) -> None:
    again = {("copy", model): table for (reader, model), table in two.felt.items() if reader == "one"}
    found = summarized(Run(two.said, {who: t for who, t in two.felt.items() if who[0] == "one"} | again)).agreement
    assert found is not None
    assert found.alpha == pytest.approx(1.0)
    assert found.ranks == pytest.approx(1.0)
    assert found.surviving == 1.0
    assert "agree well on single answers" in sentence(found)
    assert "into the same order" in sentence(found)


def test_the_page_says_it_in_a_sentence_a_table_and_a_figure(written: tuple[dict[str, bytes], Summary]) -> None:
    files, summary = written
    shown = Structure(files["report.html"].decode())
    text = " ".join(shown.text.split())
    assert summary.agreement is not None
    assert sentence(summary.agreement) in text
    assert "the paper’s conclusions survive the change of reader" in text
    assert "verified the gist of the abstract" in text
    assert ("a", {"href": "#agreement"}) in shown.tags
    assert "Do the readers agree?" in text
    assert {"figures/agreement.png", "figures/agreement.svg", "tables/agreement.tex", "tables/conclusions.tex"} <= set(
        files
    )
    verdicts = {line["conclusion"]: line for line in table(files, "conclusions")}
    assert verdicts["steady above blank"]["survives"] == "holds under every reader"
    assert verdicts["steady above blank"]["mark"] == "ours"


def test_conclusions_stand_or_fall_by_every_reader(written: tuple[dict[str, bytes], Summary]) -> None:
    found = written[1].agreement
    assert found is not None
    some = found.conclusions[0]
    said = {
        ("yes", "yes"): "holds under every reader",
        ("no", "no"): "holds under no reader",
        ("open", "open"): "open under every reader",
        ("yes", "open"): "not every reader is sure",
        ("no", "open"): "no reader is sure, some say no",
        ("yes", "no"): "the readers contradict one another",
        ("yes", "unknown"): "cannot be told",
    }
    for verdicts, words in said.items():
        assert standing(type(some)("x", dict(zip("ab", verdicts, strict=True)))) == words


def test_one_reader_has_nobody_to_agree_with(two: Run) -> None:
    files, summary = report(Run(two.said, {who: t for who, t in two.felt.items() if who[0] == "one"}))
    assert summary.agreement is None
    assert not {name for name in files if "agreement" in name or "conclusions" in name}
    assert "Do the readers agree" not in files["report.html"].decode()


def test_a_reader_that_has_read_nothing_yet_is_no_second_one(two: Run) -> None:
    empty = {("late", model): table.slice(0, 0) for (reader, model), table in two.felt.items() if reader == "one"}
    assert (
        summarized(Run(two.said, {who: t for who, t in two.felt.items() if who[0] == "one"} | empty)).agreement is None
    )


def test_of_more_answers_than_memory_should_hold_the_same_ones_are_compared(
    two: Run, written: tuple[dict[str, bytes], Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_run, "SAMPLE", 20)
    monkeypatch.setattr("emoray.report.agreement.SAMPLE", 20)
    monkeypatch.setattr(read_run, "BATCH", 7)
    found, whole = summarized(two).agreement, written[1].agreement
    assert found is not None
    assert whole is not None
    assert found.sampled
    assert not whole.sampled
    assert 20 <= found.answers <= 2 * 20 < whole.answers
    assert found.ranks == whole.ranks  # of means over all answers


# ── judges and their kin, canaries ─────────────────────────────────────────────────────────────────────────────────


def test_a_judge_of_the_family_it_judges_is_flagged_also_one_that_came_later(
    written: tuple[dict[str, bytes], Summary],
) -> None:
    files, summary = written
    assert [(one.reader, one.model, one.family) for one in summary.kinships] == [("two", "steady", "OpenAI GPT")]
    assert "The judge two is of the same family as steady (OpenAI GPT)" in files["report.html"].decode()


def test_canaries_count_in_no_mean(two: Run, written: tuple[dict[str, bytes], Summary]) -> None:
    def with_canaries(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("canary")
        more = table.slice(0, 30).set_column(place, "canary", pa.array([True] * 30))
        key = table.schema.get_field_index("key")
        return pa.concat_tables([table, more.set_column(key, "key", pa.array([f"canary-{i}" for i in range(30)]))])

    mixed = Run(
        {model: with_canaries(table) for model, table in two.said.items()},
        {who: with_canaries(table) for who, table in two.felt.items()},
        two.settings,
    )
    assert _of_no_time(report(mixed)[0]) == _of_no_time(report(two)[0])


def _of_no_time(files: dict[str, bytes]) -> dict[str, bytes]:
    """What does not speak of when something was asked."""
    summary = json.loads(files["summary.json"])
    rest = {name: data for name, data in files.items() if name not in ("summary.json", "report.html")}
    return rest | {"summary": json.dumps({k: v for k, v in summary.items() if k not in ("nights", "watched")}).encode()}


# ── readers without labels, and the order of readers ───────────────────────────────────────────────────────────────


def judged(two: Run, place: Affect | None, reader: str = "a-judge") -> Run:
    """The same run, and a judge that read every answer of `steady` at one place; `score` made it known last."""
    said = two.said["steady"]
    readings = [
        None if outcome != columns.ANSWERED else Reading(None, affect=place, error=None if place else "it said nothing")
        for outcome in said["outcome"].to_pylist()
    ]
    table = columns.scored(columns.with_readings(said, readings, reader=reader, revision=None), RUSSELL, "zero")
    late = {"name": reader, "kind": "judge", "model": {"id": "some-judge"}}
    settings = two.settings | {"more_readers": [*JUDGED["more_readers"], late]}
    return Run(two.said, {(reader, "steady"): table, (reader, "blank"): table.slice(0, 0)} | two.felt, settings)


def test_the_first_reader_is_the_specs_whatever_a_later_one_is_called(two: Run) -> None:
    made = judged(two, Affect(0.5, 0.5))
    assert made.readers() == ["a-judge", "one", "two"]
    assert summarized(made).readers == ("one", "two", "a-judge")


def test_a_reader_that_nobody_names_comes_last(two: Run) -> None:
    stranger = {("a-stranger", model): two.felt["one", model] for model in two.said}
    assert summarized(Run(two.said, stranger | two.felt, two.settings)).readers == ("one", "two", "a-stranger")


def test_a_reader_whose_labels_no_map_places_is_left_out_with_a_word(two: Run) -> None:
    table = two.felt["one", "steady"]
    others = [None if labels is None else ["glad", "sad"] for labels in table["probabilities"].to_pylist()]
    place = table.schema.get_field_index("labels")
    strange = table.set_column(place, table.schema.field(place), pa.array(others, table.schema.field(place).type))
    made = Run(two.said, two.felt | {("gone", "steady"): strange, ("gone", "blank"): strange.slice(0, 0)}, two.settings)
    files, summary = report(made)
    assert summary.readers == ("one", "two")
    assert list(summary.left_out) == ["gone"]
    assert "The reader gone is left out: these rows were read with other labels (glad, sad)" in (
        Structure(files["report.html"].decode()).text
    )


def test_a_judge_that_finds_no_feeling_reads_no_angle_and_counts_as_neutral(two: Run) -> None:
    summary = summarized(judged(two, Affect(0.0, 0.0)))
    one = next(one for one in summary.models if (one.reader, one.model) == ("a-judge", "steady"))
    assert one.counts.neutral == one.counts.read == one.counts.answers
    assert summary.agreement is not None
    pairs = [on.pair for on in summary.agreement.pairs if on.model == "steady" and on.pair.second == "a-judge"]
    assert len(pairs) == 2
    assert all(pair.answers > 50 and math.isnan(pair.mean_turn_deg) for pair in pairs)


def test_the_neutral_readings_of_a_classifier_are_counted_as_ever(two: Run) -> None:
    models = summarized(two).models
    assert sum(one.counts.neutral for one in models) > 0
    for one in models:
        assert one.counts.neutral == two.felt[one.reader, one.model]["label"].to_pylist().count("neutral")


def test_what_a_judge_read_is_shown_where_it_read_it(two: Run) -> None:
    alone = judged(two, Affect(0.5, -0.25))
    alone = Run(alone.said, {who: table for who, table in alone.felt.items() if who[0] == "a-judge"}, alone.settings)
    text = Structure(report(alone)[0]["report.html"].decode()).text
    assert "read at valence 0.50, arousal −0.25, cosine" in text
    assert "not read" not in text
    unread = judged(two, None)
    unread = Run(unread.said, {who: table for who, table in unread.felt.items() if who[0] == "a-judge"})
    assert "not read, no score" in Structure(report(unread)[0]["report.html"].decode()).text


# ── human text ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_scores_are_also_shares_of_what_the_reader_scores_on_human_text(two: Run) -> None:
    rng = np.random.default_rng(1)
    true = rng.integers(27, size=2000)
    vectors = RUSSELL.vectors()
    read = vectors[np.where(rng.random(2000) < 0.6, true, rng.integers(28, size=2000))]
    files, summary = report(two, human_text={"one": human_reads(true, read, read, RUSSELL)})
    one, other = summary.of_reader("one")[0], summary.of_reader("two")[0]
    by_state = {group.level: group for group in one.scores.states}
    assert by_state[0.0].of_human == pytest.approx(by_state[0.0].cosine.estimate / by_state[0.0].human)
    known = [group for group in one.scores.states if math.isfinite(group.human)]
    assert 0 < len(known) <= len(one.scores.states)
    assert math.isnan(other.scores.whole.group.of_human)
    lines = table(files, "states")
    assert float(lines[0]["human_text"]) == pytest.approx(one.scores.states[0].human)
    text = " ".join(Structure(files["report.html"].decode()).text.split())
    assert "Of human text" in text
    assert "what the reader scores on human text" in text
    assert "human text" in files["tables/models.tex"].decode()


def test_states_without_human_text_are_left_out_on_both_sides(two: Run) -> None:
    """Only happy comments: only states within reach of them have a share, and the whole is theirs."""
    happy = np.array([17] * 10)
    at = RUSSELL.vectors()[happy]
    summary = summarized(two, human_text={"one": human_reads(happy, at, at, RUSSELL)})
    one = summary.of_reader("one")[0].scores
    (only,) = [group for group in one.states if math.isfinite(group.human)]
    assert only.level == 0.0
    assert one.whole.group.human == pytest.approx(only.human)
    assert one.whole.group.of_human == pytest.approx(only.of_human, rel=0.05)  # prompts that were not scored weigh


def test_without_validation_nothing_is_said_of_human_text(written: tuple[dict[str, bytes], Summary]) -> None:
    files, _ = written
    assert "uman text" not in files["report.html"].decode()
    assert "human text" not in files["tables/states.tex"].decode()


# ── people's labels ────────────────────────────────────────────────────────────────────────────────────────────────


def labels(run: Run, every: int = 3, models: tuple[str, ...] = ("steady", "blank")) -> dict[str, Affect | None]:
    """People read every third answer as it was asked, and find no feeling in every thirtieth."""
    found: dict[str, Affect | None] = {}
    for model in models:
        table = run.said[model].filter(pa.compute.equal(run.said[model]["outcome"], columns.ANSWERED))
        some = table.select(["key", "valence", "arousal"]).to_pylist()[::every]
        found |= {row["key"]: Affect(row["valence"], row["arousal"]) if i % 10 else None for i, row in enumerate(some)}
    return found


def test_what_people_read_moves_the_means_by_what_the_reader_missed(two: Run) -> None:
    people = labels(two)
    files, summary = report(two, human_labels=people)
    for one in summary.corrections:
        rows_ = two.felt[one.reader, one.model].to_pandas().set_index("key")
        mine = rows_[rows_.index.isin(people)]
        felt = [people[key] is not None and not mine["refused"][key] for key in mine.index]  # what refuses scores 0
        said = pd.Series(felt, index=mine.index, dtype=float)
        means = [scores.mean() for scores in (said, mine["cosine"])]
        assert one.corrected.labelled == len(mine)
        trust = one.corrected.tuned
        assert 0 <= trust <= 1
        theirs = trust * one.corrected.raw.estimate + means[0] - trust * means[1]
        assert one.corrected.corrected.estimate == pytest.approx(theirs, abs=0.03)  # questions have other weights
        raw = next(m for m in summary.of_reader(one.reader) if m.model == one.model).scores.whole.group.cosine
        assert (one.corrected.raw.estimate, one.corrected.raw.low) == pytest.approx((raw.estimate, raw.low))
        assert one.corrected.corrected.estimate == pytest.approx(raw.estimate + one.corrected.shift)
        assert one.corrected.corrected.half_width > 0
    assert [(one.reader, one.model) for one in summary.corrections] == [(m.reader, m.model) for m in summary.models]
    shown = " ".join(Structure(files["report.html"].decode()).text.split())
    assert f"People labelled {len(people)} answers" in shown
    assert len(table(files, "corrections")) == 4
    assert [(line["within"], line["a"], line["b"]) for line in table(files, "corrected_differences")] == [
        ("one", "steady", "blank"), ("two", "steady", "blank")]  # fmt: skip
    assert "Difference of corrected means" in shown
    assert summary.raters is None


def test_several_raters_of_an_answer_count_by_their_mean_and_say_how_they_agree(two: Run) -> None:
    people = labels(two)
    both = {key: (Rating("ann", place), Rating("bob", place)) for key, place in people.items()}
    alone, agreed = summarized(two, human_labels=people), summarized(two, human_labels=both)
    for one, other in zip(alone.corrections, agreed.corrections, strict=True):
        assert other.corrected.corrected == one.corrected.corrected
        assert other.corrected.raters == 2
    assert agreed.raters is not None
    assert agreed.raters.alpha.estimate == pytest.approx(1.0)
    apart = {key: (Rating("ann", place), Rating("bob", Affect(-1.0, 0.1))) for key, place in people.items()}
    files, summary = report(two, human_labels=apart)
    assert summary.raters is not None
    assert summary.raters.alpha.high < 0.5
    for one, other in zip(summary.corrections, alone.corrections, strict=True):
        assert one.corrected.corrected.half_width > other.corrected.corrected.half_width
    assert "ann and bob read the same answers" in " ".join(Structure(files["report.html"].decode()).text.split())


def test_under_the_rule_that_drops_neutral_readings_people_and_reader_drop_their_own(two: Run) -> None:
    people = labels(two)
    corrections = summarized(two, human_labels=people, neutral="drop", refusals="as_read").corrections
    assert len(corrections) == 4
    for one in corrections:
        keys = two.felt[one.reader, one.model]["key"].to_pylist()
        directed = [key for key in keys if people.get(key) is not None]
        assert one.corrected.labelled == len(directed)
        assert one.corrected.human.estimate == pytest.approx(1.0)  # they read every direction as it was asked for


def test_a_model_without_labels_is_not_corrected(two: Run) -> None:
    found = summarized(two, human_labels=labels(two, models=("blank",)))
    assert {one.model for one in found.corrections} == {"blank"}


def test_labels_of_other_answers_are_refused_and_nothing_is_written(two: Run) -> None:
    files: dict[str, bytes] = {}
    people = labels(two) | {"0123": Affect(1.0, 0.0)}
    with pytest.raises(Unusable, match=r"^1 of its \d+ keys are of no answer in this run, such as '0123'"):
        write_report(two, files.__setitem__, chosen(two.manifest() or {}, human_labels=people))
    assert files == {}


def test_labels_on_one_question_are_too_few_for_an_interval(two: Run) -> None:
    answered = two.said["steady"].filter(pa.compute.equal(two.said["steady"]["outcome"], columns.ANSWERED)).to_pylist()
    people = {row["key"]: Affect(1.0, 0.0) for row in answered if row["question_id"] == "art"}
    with pytest.raises(Unusable, match=r"labels answers of steady to one question only \(art\)"):
        report(two, human_labels=people)


# ── other rules ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_under_another_rule_both_readings_are_shown(two: Run, written: tuple[dict[str, bytes], Summary]) -> None:
    files, summary = report(two, labels=label_map("octants"), neutral="drop")
    own = {(m.reader, m.model): m.scores.whole.group.cosine for m in written[1].models}
    here = {(m.reader, m.model): m.scores.whole.group.cosine for m in summary.models}
    assert {(one.reader, one.model) for one in summary.beside} == set(own) == set(here)
    for one in summary.beside:
        assert one.own.estimate == pytest.approx(own[one.reader, one.model].estimate)
        assert one.here.estimate == pytest.approx(here[one.reader, one.model].estimate)
        assert one.own.estimate != one.here.estimate
    text = " ".join(Structure(files["report.html"].decode()).text.split())
    assert "Here: label map octants (ours), a neutral reading is left out" in text
    assert "The run’s own: label map russell (ours), a neutral reading scores 0" in text


def test_the_runs_own_rule_said_once_more_is_no_other(two: Run) -> None:
    assert summarized(two, labels=label_map("russell"), neutral="zero").beside == ()


def test_names_are_text_in_these_sections_too() -> None:
    names = ("<u>a</u>", "{{ 7 * 7 }}")
    made = run({"<u>m</u>": 0.5, "n": 0.2}, readers=names, states=3, questions=3, repetitions=1)
    found = Structure(page(summarize(made, Settings(RUSSELL, "zero", shuffles=5))))
    assert "u" not in {tag for tag, _ in found.tags}
    assert "{{ 7 * 7 }}" in found.text
    assert "<u>m</u> above n" in found.text
