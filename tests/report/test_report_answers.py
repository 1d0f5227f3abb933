"""The answers in the page without any browser: inert, equal to the rows, and run by a script that the policy names."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from emoray.report import Settings, answers
from emoray.report.kept_answers import Kept, Readings
from emoray.report.page import page
from emoray.report.summary import Summary, summarize
from emoray.run_folder import columns
from emoray.study.goemotions import DIRECT
from tests.report.synthetic import RUSSELL, Run, run

HOSTILE = (
    "</script><script>document.title = 'owned'</script><!-- <![CDATA[ ]]> -->",
    "<!--<script>",
    "a line\u2028another\u2029and\x85more\r\n\ttabbed",
    "\u202eright to left\u202c \u2066isolated\u2069 \u05e9\u05dc\u05d5\u05dd \ufeff\ufffe",
    "\x00\x01\x07\x1b[2J\x7f\x9f",
    "\U0001f642\u200d\U0001f525 " * 5_000,
    "&lt;b&gt; &amp; \\u003c \\ \" ' `${1}` {{ 7 * 7 }} {% raw %}",
    "",
)
NAMES = ("quo\"te/'slash\\", "</title><b>\U0001f600 &amp;", "\u202eorg/reversed")


class Scripts(HTMLParser):
    """Every script of a page, and its policy."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.policy = ""
        self.unknown: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.unknown += [name for name in told if name.startswith("on")]
        if tag == "script":
            self.found.append((told, ""))
        if told.get("http-equiv") == "Content-Security-Policy":
            self.policy = told["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.found and data.strip():
            self.found[-1] = (self.found[-1][0], self.found[-1][1] + data)

    def handle_endtag(self, tag: str) -> None:
        self.lasttag = ""


def summed(source: Run) -> Summary:
    return summarize(source, Settings(RUSSELL, "zero", shuffles=5))


def with_texts(source: Run, model: str, texts: tuple[str, ...]) -> Run:
    """The same run, with these as the first answers of a model."""
    table = source.said[model]
    told = [*texts, *(text or "said" for text in table["answer"].to_pylist()[len(texts) :])]
    for name, values in (("answer", told), ("outcome", [columns.ANSWERED] * len(table))):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return dataclasses.replace(source, said=source.said | {model: table})


@pytest.fixture(scope="module")
def source() -> Run:
    found = run(dict.fromkeys(NAMES, 0.6), readers=("one", "two/<b>"), states=4, questions=12, repetitions=1)
    return with_texts(found, NAMES[0], HOSTILE)


@pytest.fixture(scope="module")
def written(source: Run) -> str:
    return page(summed(source))


def data(text: str) -> dict[str, Any]:
    return dict(json.loads(Scripts(text).found[0][1]))


def test_the_page_has_its_data_and_one_script_which_alone_its_policy_lets_run(written: str) -> None:
    found = Scripts(written)
    (inert, _), (ours, script) = found.found
    assert inert == {"type": "application/json", "id": "answers-data"}
    assert ours == {}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in found.policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert found.unknown == []
    dangerous = (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval",
        "Function(",
        "fetch",
        "</",
        "<!--",
    )
    assert [word for word in dangerous if word in script] == []


def test_the_data_are_plain_ascii_in_which_nothing_can_end_their_element(written: str) -> None:
    text = Scripts(written).found[0][1]
    assert text.isascii()
    assert text.isprintable()
    assert not set("<>&") & set(text)


def test_the_page_itself_can_be_written_and_holds_no_control_character(written: str) -> None:
    written.encode()
    assert "\x00" not in written
    assert "\x1b" not in written


def expected(source: Run, readers: tuple[str, ...]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """By model, state, question and repetition: the text, and label and cosine by reader, straight from the rows."""
    rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for model, table in source.said.items():
        felt = {reader: {row["key"]: row for row in source.felt[reader, model].to_pylist()} for reader in readers}
        for row in table.filter(pc.equal(table["outcome"], columns.ANSWERED)).to_pylist():
            read = [felt[reader].get(row["key"], {}) for reader in readers]
            key = (model, row["state_deg"], row["question_id"], row["template"], row["intensity"], row["repetition"])
            rows[key] = (row["answer"], *((one.get("label"), one.get("cosine")) for one in read))
    return rows


def test_every_answer_in_the_page_is_its_row_under_every_reader(source: Run, written: str) -> None:
    told, rows = data(written), expected(source, ("one", "two/<b>"))
    assert told["of"] == len(told["answers"]) == len(rows) > 100
    for model, state, question, template, intensity, repetition, _, text, read in told["answers"]:
        names = (told["models"][model], told["states"][state][0], told["questions"][question])
        answer, *of_readers = rows[*names, told["templates"][template], intensity, repetition]
        assert text == answer
        for reader, one, (label, cosine) in zip(told["readers"], read, of_readers, strict=True):
            shown = (reader["labels"][one[0]][0] if one and one[0] >= 0 else None, one[1] if one else None)
            assert shown == (label, pytest.approx(cosine, abs=0.00051))


def test_a_cosine_is_close_enough_to_be_rounded_once_more_and_to_be_filtered_by() -> None:
    felt = [0.7547095802227719, 0.6996, -0.6252426563357049]
    rows = pa.table({"key": ["a", "b", "c"], "label": ["joy"] * 3, "cosine": felt, "felt_valence": pa.nulls(3)})
    rows = rows.append_column("felt_arousal", pa.nulls(3))
    rows = rows.append_column("probabilities", pa.nulls(3, pa.list_(pa.float32())))
    readings = Readings(rows["key"].combine_chunks(), RUSSELL.labels)
    readings.add(rows)
    assert [readings.found[key][1] for key in "abc"] == [0.75471, 0.6996, -0.625243]


def test_a_reader_that_knows_no_labels_has_none_to_filter_by(source: Run) -> None:
    summary = summed(source)
    direct = dataclasses.replace(summary.settings, own_maps={"one": DIRECT})
    told = answers.data(dataclasses.replace(summary, settings=direct))
    assert told is not None
    assert [len(one["labels"]) for one in told["readers"]] == [0, 28]


def test_the_data_name_questions_and_hold_no_prompt(written: str) -> None:
    assert "q00011" in data(written)["questions"]
    assert "What is 11?" not in Scripts(written).found[0][1]


def test_where_nothing_was_answered_there_is_no_data_and_no_script_may_run() -> None:
    found = Scripts(page(summed(run({"a": 0.5}, states=2, questions=2, failures=1.0))))
    assert found.found == []
    assert "script-src" not in found.policy


def test_one_answer_of_one_model_is_all_there_is() -> None:
    text = page(summed(run({"a": 0.5}, states=1, questions=1, repetitions=1, failures=0.0)))
    assert len(data(text)["answers"]) == 1
    assert "The only answer." in text


def test_of_a_reader_without_readings_and_of_no_reader_every_answer_is_there_unread() -> None:
    found = run({"a": 0.5}, readers=("one", "two"), states=2, questions=2, failures=0.0)
    empty = found.felt | {("two", "a"): found.felt["two", "a"].slice(0, 0)}
    told = data(page(summed(dataclasses.replace(found, felt=empty))))
    assert all(first and second is None for first, second in (one[8] for one in told["answers"]))
    unread = page(summed(dataclasses.replace(found, felt={})))
    assert [one[8] for one in data(unread)["answers"]] == [[]] * 12


@pytest.mark.parametrize("character", ["<", "\U0001f642", "\x00", "a"])
def test_long_answers_make_no_page_that_nobody_can_open_whatever_they_are_written_in(character: str) -> None:
    found = run({"a": 0.5, "b": 0.5}, states=12, questions=10, repetitions=1, failures=0.0)
    large = with_texts(found, "a", (character * 20_000,) * 120)
    told = answers.data(summed(large))
    assert told is not None
    assert len(answers.inert(told)) < 3_100_000
    of_b = [one for one in told["answers"] if told["models"][one[0]] == "b"]
    assert len(of_b) == 120
    assert answers.said(told).startswith(f"{len(told['answers'])} of 240 answers")


def test_the_sample_of_a_large_run_is_the_same_whatever_order_answers_come_in() -> None:
    table = run({"a": 0.5}, states=12, questions=10, failures=0.0).said["a"]
    smallest = sorted(table["key"].to_pylist())[:50]
    for order in (table, table.sort_by([("key", "descending")])):
        kept = Kept(most=50)
        for start in range(0, len(order), 37):
            kept.add(order.slice(start, 37))
        assert kept.keys().to_pylist() == smallest
        assert kept.of == 360


def many_times(table: pa.Table, times: int) -> pa.Table:
    """The same rows again and again, with repetitions and keys of their own."""
    return pa.concat_tables([_moved(table, place) for place in range(times)])


def _moved(table: pa.Table, place: int) -> pa.Table:
    keys = pc.binary_join_element_wise(table["key"], f"{place:04d}", "")
    repetitions = pc.add(table["repetition"], 10 * place).cast(table["repetition"].type)
    moved = table.set_column(table.schema.get_field_index("key"), "key", keys)
    return moved.set_column(table.schema.get_field_index("repetition"), "repetition", repetitions)


@pytest.mark.campaign  # 20 CPU-seconds
def test_a_page_of_a_million_rows_stays_below_ten_megabytes_and_holds_a_sample_that_it_tells_of() -> None:
    small = run(dict.fromkeys("abcd", 0.6), states=12, questions=20, repetitions=10, failures=0.0)
    said = {name: many_times(table, 105) for name, table in small.said.items()}
    large = Run(said, {who: many_times(table, 105) for who, table in small.felt.items()})
    text = page(summed(large))
    assert len(text.encode()) < 10_000_000
    assert "4,000 of 1,008,000 answers, those with the smallest hashes of their prompts" in text
    assert len(data(text)["answers"]) == 4_000
