"""The columns: what a row is asked, said, felt and scored."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.refusals import breaks_role, is_refusal
from emoray.run_folder import columns
from emoray.run_folder.compaction import compact
from emoray.run_folder.file_names import Name
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.parquet import encoded
from emoray.study.circumplex import Affect
from emoray.study.experiment import Experiment
from emoray.study.goemotions import LABELS, LabelMap, label_map, label_map_from
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome, Reply
from emoray.study.prompts import KEY_VERSION, Prompt, messages_of, prompts, render
from emoray.study.scoring import NeutralRule, Reading, score
from tests.study.grids import cell, experiment

DESIGNED = {  # what people's own notebooks and queries name: none of these may be renamed; more may stand beside them
    "ASKED": "key model template state_deg intensity valence arousal state_term question_id question repetition seed "
    "temperature max_tokens prompt prompt_sha",
    "ANSWERS": "outcome answer refused finish_reason error attempts prompt_tokens completion_tokens cost_usd latency_s "
    "asked_at host model_revision",
    "FELT": "reader reader_revision label probability probabilities truncated",
    "SCORED": "read_valence read_arousal cosine angle_error_deg expected_valence expected_arousal expected_cosine",
}
Places = dict[str, dict[str, object]]
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
E: Experiment = experiment(states=3, questions=2, repetitions=2)


def asked_prompts() -> list[Prompt]:
    return list(prompts(E.grid("m0")))


def replies(table: pa.Table, *outcomes: Outcome) -> list[Reply]:
    """A reply per row, the outcomes taken in turn."""
    keys = table["key"].to_pylist()
    return [Reply(key, outcomes[i % len(outcomes)], WHEN, 0.25, 2, "abcd") for i, key in enumerate(keys)]


def said(*outcomes: Outcome) -> pa.Table:
    table = columns.asked(asked_prompts())
    return columns.with_answers(table, replies(table, *outcomes), host="scripted", revision="r1", engine="e 1.0")


def one_hot(label: str) -> Reading:
    return Reading(np.eye(28, dtype=np.float32)[LABELS.index(label)])


ANSWER = Answer("The sea.", "length", 12, 3, 0.001, "thinking", "m-2024", "fp", "MAX_TOKENS")
FAILURE = Failure(FailureKind.CONTENT_FILTERED, "the provider's filter", 0.002, "SAFETY")


def scored(*readings: Reading | None) -> pa.Table:
    table = said(ANSWER)
    felt = [readings[i % len(readings)] for i in range(table.num_rows)]
    return columns.scored(columns.with_readings(table, felt, reader="r", revision="1"), label_map(), "zero")


def test_every_designed_column_is_there_in_its_order() -> None:
    for part, schema in (
        ("ASKED", columns.ASKED),
        ("ASKED ANSWERS", columns.ANSWERS),
        ("ASKED ANSWERS FELT SCORED", columns.SCORED),
    ):
        wanted = [name for section in part.split() for name in DESIGNED[section].split()]
        assert [name for name in schema.names if name in wanted] == wanted


def test_a_row_only_gains_columns() -> None:
    assert columns.ANSWERS.names[: len(columns.ASKED)] == columns.ASKED.names
    assert columns.SCORED.names[: len(columns.ANSWERS)] == columns.ANSWERS.names
    assert len(set(columns.SCORED.names)) == len(columns.SCORED.names)


def test_tables_have_exactly_their_schemas() -> None:
    assert columns.asked(asked_prompts()).schema.equals(columns.ASKED)
    assert said(ANSWER, FAILURE).schema.equals(columns.ANSWERS)
    assert scored(one_hot("joy"), None).schema.equals(columns.SCORED)


def test_probabilities_are_28_floats_of_32_bits_and_times_are_utc() -> None:
    assert columns.SCORED.field("probabilities").type == pa.list_(pa.float32())
    assert columns.SCORED.field("asked_at").type == pa.timestamp("us", tz="UTC")


def test_what_was_asked_stands_in_its_row() -> None:
    prompt = render(cell(angle_deg=270.0, intensity=0.5, question="art", repetition=3))
    row = columns.asked([prompt]).to_pylist()[0]
    assert row == {
        "key": prompt.key,
        "model": "m",
        "template": "parameters",
        "state_deg": 270.0,
        "intensity": 0.5,
        "valence": 0.0,
        "arousal": -0.5,
        "state_term": "sleepy",
        "question_id": "art",
        "question": "What are your thoughts on the importance of art in society?",
        "repetition": 3,
        "seed": prompt.seed,
        "temperature": 0.8,
        "top_p": None,
        "max_tokens": 96,
        "prompt": prompt.messages,
        "prompt_sha": prompt.sha,
        "canary": False,
    }


def test_a_host_gets_back_what_the_grid_asked() -> None:
    asked = asked_prompts()
    for prompt, ask in zip(asked, columns.asks(columns.asked(asked)), strict=True):
        assert (ask.key, ask.chat, ask.seed) == (prompt.key, messages_of(prompt.cell), prompt.seed)
        sampling = prompt.cell.model.sampling
        assert (ask.temperature, ask.top_p, ask.max_tokens) == (
            sampling.temperature,
            sampling.top_p,
            sampling.max_tokens,
        )


def test_the_key_recomputes_from_the_row_and_the_models_entry() -> None:
    model, table = E.models[0], columns.asked(asked_prompts())
    assert table.num_rows == 12
    for row in table.to_pylist():
        ask = {
            "v": KEY_VERSION,
            "model": [row["model"], model.id, {}],
            "messages": row["prompt"],
            "sampling": {name: row[name] for name in ("temperature", "top_p", "max_tokens")},
            "affect": [round(row["valence"], 6), round(row["arousal"], 6)],
        }
        text = json.dumps(ask, separators=(",", ":"), ensure_ascii=False) + f"\n{row['repetition']}"
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        assert (row["key"], row["seed"]) == (key, int(key[:8], 16) >> 1)


def test_where_an_ask_left_a_setting_open_its_row_says_what_was_drawn_by() -> None:
    table = columns.asked([render(cell())])
    drawn = columns.drawn(table, {"temperature": 0.1, "top_p": 0.9, "max_tokens": None, "top_k": 20})
    assert drawn.schema == table.schema
    assert drawn.drop_columns(["top_p"]).equals(table.drop_columns(["top_p"]))
    assert drawn["top_p"].to_pylist() == [0.9]
    assert columns.drawn(table, {}).equals(table)


def test_an_answer_is_kept_with_all_that_is_known_of_it() -> None:
    row = said(ANSWER).to_pylist()[0]
    assert (row["outcome"], row["answer"], row["error"]) == ("answer", "The sea.", None)
    assert (row["refused"], row["role_break"], row["finish_reason"]) == (False, False, "length")
    assert (row["prompt_tokens"], row["completion_tokens"], row["cost_usd"]) == (12, 3, 0.001)
    assert (row["attempts"], row["latency_s"], row["asked_at"]) == (2, 0.25, WHEN)
    assert (row["host"], row["model_revision"], row["engine"]) == ("scripted", "r1", "e 1.0")
    assert (row["returned_model"], row["system_fingerprint"], row["reasoning"]) == ("m-2024", "fp", "thinking")


def test_a_refusal_is_an_answer_with_a_flag() -> None:
    row = said(replace(ANSWER, text="As an AI, I can't assist with that request.")).to_pylist()[0]
    assert (row["outcome"], row["refused"], row["role_break"]) == ("answer", True, True)
    assert row["answer"] == "As an AI, I can't assist with that request."
    assert said(replace(ANSWER, declined=True)).to_pylist()[0]["refused"]  # by the provider's word


@pytest.mark.parametrize("kind", list(FailureKind))
def test_a_failure_has_a_kind_and_no_text(kind: FailureKind) -> None:
    row = said(Failure(kind, "why")).to_pylist()[0]
    assert (row["outcome"], row["error"]) == (kind.value, "why")
    for column in ("answer", "refused", "role_break", "finish_reason", "prompt_tokens", "completion_tokens"):
        assert row[column] is None


def test_a_failure_can_have_cost_money() -> None:
    assert said(FAILURE).to_pylist()[0]["cost_usd"] == 0.002


def test_what_was_not_said_has_no_reading_and_no_score() -> None:
    table = columns.scored(
        columns.with_readings(said(FAILURE), [None] * 12, reader="r", revision=None), label_map(), "zero"
    )
    felt_and_scored = [n for n in columns.SCORED.names if n not in columns.ANSWERS.names and n != "reader"]
    assert (table.num_rows, "cosine" in felt_and_scored) == (12, True)
    for row in table.to_pylist():
        assert row["reader"] == "r"
        assert all(row[name] is None for name in felt_and_scored)


def test_a_text_that_could_not_be_read_says_why_and_has_no_score() -> None:
    row = scored(Reading(None, truncated=True, error="too strange")).to_pylist()[0]
    assert (row["read_error"], row["truncated"]) == ("too strange", True)
    assert row["label"] is row["probabilities"] is row["cosine"] is row["expected_cosine"] is None


def test_a_reading_stands_in_its_row_with_its_top_label() -> None:
    row = scored(Reading(np.linspace(0, 1, 28, dtype=np.float32)[::-1], truncated=True)).to_pylist()[0]
    assert (row["label"], row["probability"], row["truncated"], row["read_error"]) == ("admiration", 1.0, True, None)
    assert len(row["probabilities"]) == 28


def test_a_neutral_reading_has_no_place_and_scores_as_the_rule_says() -> None:
    felt = columns.with_readings(said(ANSWER), [one_hot("neutral")] * 12, reader="r", revision=None)
    zero, drop = (columns.scored(felt, label_map(), rule).to_pylist()[0] for rule in ("zero", "drop"))
    assert (zero["cosine"], drop["cosine"]) == (0.0, None)
    assert (zero["expected_cosine"], drop["expected_cosine"]) == (0.0, None)
    for row in (zero, drop):
        assert row["read_valence"] is row["read_arousal"] is row["angle_error_deg"] is row["direction_cosine"] is None


def test_every_stored_row_recomputes_exactly_from_its_own_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    readings = [Reading(p.astype(np.float32)) for p in rng.dirichlet(np.full(28, 0.3), 10)]
    pq.write_table(scored(*readings, one_hot("neutral"), None), tmp_path / "rows.parquet")
    stored_rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len(stored_rows) == 12
    for row in stored_rows:
        p = np.array([row["probabilities"] or [np.nan] * 28], dtype=np.float32)
        again = score(np.array([[row["valence"], row["arousal"]]]), p, label_map(), "zero")
        for column, values in vars(again).items():
            stored = np.nan if row[column] is None else row[column]
            np.testing.assert_array_equal(values[0], stored)


def test_rows_survive_the_way_through_parquet(tmp_path: Path) -> None:
    table = scored(one_hot("joy"), None, Reading(None, error="no"))
    pq.write_table(table, tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").equals(table)


def test_rescoring_under_another_map_replaces_the_scores_and_nothing_else() -> None:
    first = scored(one_hot("joy"), one_hot("neutral"), None)
    again = columns.scored(first, label_map("octants"), "drop")
    assert again.schema.equals(columns.SCORED)
    untouched = columns.SCORED.names[: columns.SCORED.get_field_index("read_valence")]
    assert again.select(untouched).equals(first.select(untouched))
    assert again["cosine"].to_pylist() != first["cosine"].to_pylist()
    assert columns.scored(again, label_map(), "zero").equals(first)


@pytest.mark.parametrize(("name", "rule"), [("octants", "zero"), ("russell", "drop")])
def test_a_row_tells_under_which_map_and_rule_it_was_scored(name: str, rule: NeutralRule) -> None:
    first = scored(one_hot("joy"), Reading(None, error="no"), Reading(None, affect=Affect(0.5, 0.5)), None)
    told = first["scored_by"].to_pylist()
    assert [one is None for one in told] == [False, True, False, True] * 3
    assert str(told[0]).startswith("russell/zero/zero/")
    again = columns.scored(first, label_map(name), rule)["scored_by"].to_pylist()
    assert again[0] != told[0]
    assert str(again[0]).startswith(f"{name}/{rule}/zero/")


def test_a_map_that_was_edited_under_its_old_name_is_told_and_another_order_is_no_edit() -> None:
    places: Places = {"joy": {"angle": 10}, "anger": {"angle": 110}, "neutral": {"none": True}}
    edited = places | {"joy": {"angle": 11}}
    backwards = dict(reversed(places.items()))
    before, after, turned = (columns.scored_by(own_map(one), "zero") for one in (places, edited, backwards))
    assert before == turned != after


def own_map(places: Places) -> LabelMap:
    return label_map_from(places, name="own", labels=None)


@given(st.permutations(["Joy", "anger", "self-pity"]), st.permutations(["joy", "Anger", "self_pity"]))
def test_a_reading_is_placed_by_the_rows_own_labels_in_whatever_order_the_map_names_them(
    stored: list[str], placed: list[str]
) -> None:
    angles = {"joy": 7.0, "anger": 99.0, "self_pity": 188.0}
    chances = {"joy": 0.6, "anger": 0.3, "self_pity": 0.1}
    row = np.array([chances[label.lower().replace("-", "_")] for label in stored], dtype=np.float32)
    felt = columns.with_readings(
        said(ANSWER), [Reading(row, labels=tuple(stored)), None] * 6, reader="r", revision=None
    )
    map_of_theirs = own_map({label: {"angle": angles[label.lower()]} for label in placed})
    table = columns.scored(felt, map_of_theirs, "zero").to_pylist()
    expected = sum(chances[label] * np.cos(np.radians(angles[label])) for label in angles)
    assert len(table) == 12
    for read, unread in zip(table[::2], table[1::2], strict=True):
        assert read["read_valence"] == pytest.approx(np.cos(np.radians(7.0)))
        assert read["expected_valence"] == pytest.approx(expected, abs=1e-6)
        assert unread["cosine"] is None


def test_rows_of_one_part_may_have_been_read_in_several_orders() -> None:
    orders = [("joy", "anger"), ("anger", "joy")]
    readings = [Reading(np.array([0.75, 0.25], dtype=np.float32), labels=labels) for labels in orders]
    felt = columns.with_readings(said(ANSWER), readings * 6, reader="r", revision=None)
    for table in (felt, felt.slice(1, 5), pa.concat_tables([felt.slice(0, 5), felt.slice(5)])):
        read = columns.probabilities(table, ("joy", "anger"))
        assert len(read) == table.num_rows >= 5
        joy = [0.75 if labels == ["joy", "anger"] else 0.25 for labels in table["labels"].to_pylist()]
        np.testing.assert_array_equal(read[:, 0], joy)


@pytest.mark.parametrize("labels", [("joy", "anger"), ("joy", "anger", "fear", "hope"), ("joy", "anger", "hope")])
def test_labels_without_a_place_or_places_without_a_label_are_refused_by_type(labels: tuple[str, ...]) -> None:
    reading = Reading(np.full(len(labels), 0.5, dtype=np.float32), labels=labels)
    felt = columns.with_readings(said(ANSWER), [reading] * 12, reader="r", revision=None)
    with pytest.raises(columns.OtherLabels, match=rf"read with other labels \({', '.join(labels)}\) than the map's"):
        columns.scored(felt, own_map({label: {"angle": 5} for label in ("joy", "anger", "fear")}), "zero")


def test_probabilities_come_back_as_they_went_in_also_from_slices_and_chunks() -> None:
    readings = [one_hot("joy"), None, one_hot("fear"), one_hot("sadness")]
    table = scored(*readings)
    whole = columns.probabilities(table)
    assert np.isnan(whole[1]).all()
    assert whole[0].argmax() == LABELS.index("joy")
    np.testing.assert_array_equal(columns.probabilities(table.slice(2, 5)), whole[2:7])
    chunked = pa.concat_tables([table.slice(0, 5), table.slice(5)])
    np.testing.assert_array_equal(columns.probabilities(chunked), whole)


def test_no_rows_are_still_a_table() -> None:
    empty = columns.with_answers(columns.asked([]), [], host="h", revision=None, engine=None)
    table = columns.scored(columns.with_readings(empty, [], reader="r", revision=None), label_map(), "zero")
    assert table.schema.equals(columns.SCORED)
    assert table.num_rows == 0
    assert columns.asks(columns.asked([])) == []


@pytest.mark.parametrize("wrong", ["order", "missing", "twice", "stranger"])
def test_replies_that_do_not_belong_to_the_rows_are_refused(wrong: str) -> None:
    table = columns.asked(asked_prompts())
    given = replies(table, ANSWER)
    changed = {
        "order": given[::-1],
        "missing": given[:-1],
        "twice": [given[0], *given],
        "stranger": [replace(given[0], key="0" * 32), *given[1:]],
    }[wrong]
    with pytest.raises(ValueError, match="replies and rows do not belong together"):
        columns.with_answers(table, changed, host="h", revision=None, engine=None)


@pytest.mark.parametrize("readings", [11, 13])
def test_readings_that_do_not_belong_to_the_rows_are_refused(readings: int) -> None:
    with pytest.raises(ValueError, match=r"rows|length"):
        columns.with_readings(said(ANSWER), [one_hot("joy")] * readings, reader="r", revision=None)


PIECES = [
    *("I can't", "I won’t", "assist with this", "request", "Sorry, I can't", "against my policies"),
    *("As an AI", "researcher", "I do not have emotions", "any more", "pretend to have änderbare feelings"),
    *("the sea", "!", "\n", "é", ""),
]


@given(st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join) | st.text(max_size=40))
def test_a_row_is_flagged_as_its_answer_is(text: str) -> None:
    table = said(Answer(text))

    assert set(table["refused"].to_pylist()) == {is_refusal(text)}
    assert set(table["role_break"].to_pylist()) == {breaks_role(text)}


UNFIT = {  # of which Arrow says so, each in its way
    "text": Answer("half an emoji \ud83d", "stop", 1, 1, 0.5),
    "reasoning": Answer("fine", reasoning="\ud83d", cost_usd=0.5),
    "fingerprint": Answer("fine", system_fingerprint="\ude00", cost_usd=0.5),
    "beyond 64 bits": Answer("fine", prompt_tokens=2**70, cost_usd=0.5),
    "no number": Answer("fine", completion_tokens="many", cost_usd=0.5),  # type: ignore[arg-type]
    "no text": Answer(7, cost_usd=0.5),  # type: ignore[arg-type]
    "detail": Failure(FailureKind.BAD_REQUEST, "no \ud83d", 0.5),
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
def test_what_cannot_become_a_row_is_a_typed_failure_of_its_own_cell(unfit: Outcome) -> None:
    found = said(ANSWER, unfit, FAILURE)
    whole = said(ANSWER, FAILURE, FAILURE)
    assert found.schema.equals(columns.ANSWERS)
    for place, (row, other) in enumerate(zip(found.to_pylist(), whole.to_pylist(), strict=True)):
        if place % 3 != 1:
            assert row == other
            continue
        assert (row["outcome"], row["answer"], row["cost_usd"]) == ("malformed", None, 0.5)
        assert "cannot become a row" in row["error"]
        assert row["key"] == other["key"]


def test_the_cost_of_what_cannot_become_a_row_is_none_where_it_is_no_number() -> None:
    row = said(Answer("\ud83d", cost_usd=math.nan)).to_pylist()[0]
    assert (row["outcome"], row["cost_usd"]) == ("malformed", None)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -0.25])
def test_a_cost_that_is_no_amount_is_not_known(odd: float) -> None:
    table = said(Answer("The sea.", cost_usd=odd), Failure(FailureKind.OVERLOADED, "503", cost_usd=odd), ANSWER)
    assert table["cost_usd"].to_pylist()[:3] == [None, None, ANSWER.cost_usd]
    felt = columns.with_readings(table, [Reading(None, cost_usd=odd)] * table.num_rows, reader="r", revision=None)
    assert felt["read_cost_usd"].null_count == table.num_rows


@pytest.mark.parametrize(
    "unfit",
    [
        Reading(None, error="says \ud83d"),
        Reading(None, affect=Affect(0.5, 0.5), confidence="much"),  # type: ignore[arg-type]
        Reading(np.eye(2, dtype=np.float32)[0], labels=("\ud83d", "b")),
    ],
    ids=["error", "confidence", "label"],
)
def test_what_cannot_become_columns_of_a_reading_is_an_error_of_its_own_row(unfit: Reading) -> None:
    table = said(ANSWER)
    found = columns.with_readings(table, [unfit, *[one_hot("joy")] * (table.num_rows - 1)], reader="r", revision=None)
    whole = columns.with_readings(table, [None, *[one_hot("joy")] * (table.num_rows - 1)], reader="r", revision=None)
    assert found.slice(1).equals(whole.slice(1))
    row = found.to_pylist()[0]
    assert "cannot become a row" in row["read_error"]
    assert row["label"] is row["felt_valence"] is row["confidence"] is None


def test_the_providers_own_word_for_the_end_stands_in_the_row_of_an_answer_and_of_a_failure() -> None:
    words = [(row["finish_reason"], row["finish_reason_raw"]) for row in said(ANSWER, FAILURE).to_pylist()[:2]]
    assert words == [("length", "MAX_TOKENS"), (None, "SAFETY")]


def test_folders_from_before_a_column_are_read_beside_new_ones(tmp_path: Path) -> None:
    def older(table: pa.Table) -> pa.Table:
        return table.drop_columns(["finish_reason_raw"])

    folder = RunFolder(str(tmp_path))
    part, new = folder.answers("m0"), said(ANSWER)
    part.write(str(Name(1, "old", 0)), lambda sink: sink.write(encoded(older(new.slice(0, 5)))))
    assert part.read(["finish_reason_raw"]).to_pydict() == {"finish_reason_raw": [None] * 5}
    part.write(str(Name(2, "new", 0)), lambda sink: sink.write(encoded(new.slice(5))))
    assert part.counts().answered == new.num_rows
    words = part.read(["finish_reason_raw"])["finish_reason_raw"]
    assert (words.null_count, len(words)) == (5, new.num_rows)
    frame: Any = pd.read_parquet(tmp_path / "answers")
    assert len(frame) == new.num_rows
    assert set(frame["answer"]) == {"The sea."}
    compact(part)
    assert part.read().schema.names == [*columns.ANSWERS.names]
