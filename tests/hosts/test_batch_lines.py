"""The lines of result files: whatever one of them holds, the others are read as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.hosts.batch_lines import Result, Results, is_file, outcome_of_line, read
from emoray.hosts.openai_protocol import parsed_outcome
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

KEYS = tuple(f"{i:032x}" for i in range(5))


def parse(body: Any) -> Outcome:
    return parsed_outcome(body, None)


def body_of(text: str) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}


def result(key: str, text: str = "Yes.") -> dict[str, Any]:
    response = {"status_code": 200, "request_id": "r", "body": body_of(text)}
    return {"id": f"batch_req_{key[:4]}", "custom_id": key, "response": response, "error": None}


def lines() -> list[bytes]:
    return [json.dumps(result(key, f"I am number {i}.")).encode() for i, key in enumerate(KEYS)]


def results_of(content: bytes) -> Results:
    results = Results()
    read(results, content, frozenset(KEYS), parse)
    return results


def outcomes(content: bytes) -> dict[str, Outcome]:
    return {key: found.outcome for key, found in results_of(content).by_key.items()}


def of_line(**parts: Any) -> Outcome:
    return outcome_of_line(result(KEYS[0]) | parts, parse).outcome


GOOD = outcomes(b"\n".join(lines()))
MUTATIONS = st.one_of(
    st.binary(max_size=300).filter(lambda junk: b"\n" not in junk),
    st.integers(0, 200).map(lambda at: lines()[2][:at]),  # cut
    st.integers(0, 200).map(lambda at: lines()[2][at:]),
    st.tuples(st.integers(0, 200), st.binary(max_size=8)).map(
        lambda put: (lines()[2][: put[0]] + put[1] + lines()[2][put[0] :]).replace(b"\n", b" ")
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=6,
    ).map(lambda value: json.dumps({"custom_id": KEYS[2], "response": value, "error": value}).encode()),
    st.sampled_from(["status_code", "body"]).flatmap(
        lambda name: st.none().map(lambda _: json.dumps(result(KEYS[2]) | {"response": {name: "?"}}).encode())
    ),
)


@given(MUTATIONS)
def test_no_mutation_of_one_line_changes_what_another_says(odd: bytes) -> None:
    mutated = [*lines()[:2], odd, *lines()[3:]]
    found = outcomes(b"\n".join(mutated))
    assert {key: found[key] for key in KEYS if key != KEYS[2]} == {key: GOOD[key] for key in KEYS if key != KEYS[2]}


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lines()[2][:150], id="cut"),
        pytest.param(lines()[2].replace(b"number", b"n\xffmber"), id="not UTF-8"),
        pytest.param(lines()[2].replace(b'"I am number 2."', b"[" * 100_000), id="nested without end"),
        pytest.param(json.dumps([KEYS[2], "Yes."]).encode(), id="a list"),
        pytest.param(json.dumps(KEYS[2]).encode(), id="a text"),
        pytest.param(json.dumps(result(KEYS[2]) | {"response": "<html>502</html>"}).encode(), id="a page as response"),
        pytest.param(
            json.dumps(result(KEYS[2]) | {"response": {"status_code": 200, "body": "<html>hotel</html>"}}).encode(),
            id="a page as body",
        ),
        pytest.param(json.dumps(result(KEYS[2]) | {"response": {"status_code": 200}}).encode(), id="no body"),
        pytest.param(json.dumps(result(KEYS[2]) | {"response": {"body": []}}).encode(), id="a list as body"),
    ],
)
def test_an_odd_line_is_malformed_of_its_own_cell(odd: bytes) -> None:
    results = results_of(b"\n".join([*lines()[:2], odd, *lines()[3:]]))
    spoiled = results.by_key[KEYS[2]].outcome
    assert isinstance(spoiled, Failure)
    assert spoiled.kind is FailureKind.MALFORMED
    assert results.aside == 0
    assert results.by_key[KEYS[2]].billable


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(b"{}", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(b"<html><body>502</body></html>", id="a page"),
        pytest.param(lines()[2][:40], id="cut before its id"),
        pytest.param(json.dumps(result("f" * 32)).encode(), id="an unknown id"),
        pytest.param(json.dumps(result("\ud800")).encode(), id="half a character as id"),
        pytest.param(json.dumps(result(KEYS[2]) | {"custom_id": 7}).encode(), id="a number as id"),
        pytest.param(json.dumps([KEYS[2], KEYS[3]]).encode(), id="two ids"),
    ],
)
def test_a_line_that_is_no_cells_is_set_aside_and_counted(odd: bytes) -> None:
    results = results_of(b"\n".join([*lines()[:2], odd, *lines()[3:]]))
    assert set(results.by_key) == set(KEYS) - {KEYS[2]}
    assert results.aside == 1
    assert results.sample.isascii()


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lines()[2].replace(b"I am", b"I\tam"), id="a control character"),
        pytest.param(lines()[2].replace(b'"r"', b"9" * 5000), id="a number without end in a foreign field"),
        pytest.param(lines()[2].replace(b"number", b"n\xed\xa0\xbd\xed\xb8\x80mber"), id="halves of a character"),
        pytest.param(json.dumps(result(f"  {KEYS[2]}\n")).encode(), id="blanks around its id"),
        pytest.param(json.dumps(result(KEYS[2])).encode().replace(b"0000000002", b"0000000002 "), id="a blank"),
    ],
)
def test_what_a_single_reply_is_forgiven_a_line_is_too(odd: bytes) -> None:
    results = results_of(b"\n".join([*lines()[:2], odd, *lines()[3:]]))
    assert isinstance(results.by_key[KEYS[2]].outcome, Answer)
    assert results.aside == 0


def test_an_id_in_another_case_is_its_cells_where_no_other_is_alike() -> None:
    results = Results()
    lines = [json.dumps(result(key)) for key in ("ABC", "dEf", "DEF ")]
    read(results, "\n".join(lines).encode(), frozenset({"abc", "def", "Def"}), parse)
    assert (set(results.by_key), results.aside) == ({"abc"}, 2)


@pytest.mark.parametrize("between", [b",\n", b",", b" ,\r\n  "])
@pytest.mark.parametrize("cut", [False, True])
def test_a_file_that_is_one_list_is_read_like_lines(between: bytes, cut: bool) -> None:
    content = b"[" + between.join(lines()) + (b"," if cut else b"]\n")
    results = results_of(content)
    assert {key: found.outcome for key, found in results.by_key.items()} == GOOD
    assert results.aside == 0


def test_a_list_over_many_lines_is_read_too() -> None:
    assert outcomes(json.dumps([result(KEYS[0])], indent=2).encode()).keys() == {KEYS[0]}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_file_with_a_byte_order_mark_is_read_in_its_encoding(encoding: str) -> None:
    text = json.dumps(result(KEYS[0], "caf\xe9"), ensure_ascii=False)
    assert outcomes(f"{text}\n".encode(encoding))[KEYS[0]] == parse(body_of("caf\xe9"))


def test_only_a_line_feed_ends_a_line() -> None:
    text = "one\u2028two\x85three\x0bfour\rfive\x1csix"
    content = json.dumps(result(KEYS[0], text), ensure_ascii=False).encode()
    found = outcomes(content)[KEYS[0]]
    assert isinstance(found, Answer)
    assert found.text == text


@pytest.mark.parametrize("ending", [b"\r\n", b"\n\n", b"\n \n", b" \r\n\r\n", b"\n\0\0\n", b"", b"\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_blank_lines_other_endings_none_at_all_and_a_byte_order_mark_change_nothing(
    ending: bytes, start: bytes
) -> None:
    results = results_of(start + ending.join(lines()) + ending)
    assert {key: found.outcome for key, found in results.by_key.items()} == GOOD
    assert results.aside == 0


def test_an_answer_stands_whatever_else_comes_for_its_cell() -> None:
    bad = json.dumps(result(KEYS[0]) | {"response": None, "error": {"code": "server_error"}}).encode()
    other = json.dumps(result(KEYS[0], "Another.")).encode()
    for order in ([bad, lines()[0], other], [lines()[0], bad], [lines()[0], other, bad]):
        assert outcomes(b"\n".join(order))[KEYS[0]] == GOOD[KEYS[0]]


def test_a_word_of_the_answer_is_never_taken_for_anything_else() -> None:
    text = f'"custom_id": "{KEYS[1]}" [key] EMPTY \x7f \U0001f600'
    found = of_line(response={"status_code": 200, "body": body_of(text)})
    assert isinstance(found, Answer)
    assert found.text == text


@pytest.mark.parametrize("status", ["200", 200.0, 201, "200 OK", None, "ok", 0, "0"])
def test_a_good_status_is_known_by_any_spelling_and_a_body_without_one_by_itself(status: Any) -> None:
    assert of_line(response={"status_code": status, "body": body_of("Yes.")}) == parse(body_of("Yes."))


@pytest.mark.parametrize(
    "response",
    [
        {"status_code": 200, "body": json.dumps(body_of("Yes."))},
        {"body": body_of("Yes.")},
        body_of("Yes."),
        json.dumps({"status_code": 200, "body": body_of("Yes.")}),
    ],
    ids=["the body as a text", "no status", "no body of its own", "all of it as a text"],
)
def test_a_body_is_found_where_some_put_it(response: Any) -> None:
    assert of_line(response=response) == parse(body_of("Yes."))


@pytest.mark.parametrize("beside", [body_of("Yes."), {"body": body_of("Yes."), "status_code": 200}])
def test_a_result_without_a_frame_is_read_as_one(beside: dict[str, Any]) -> None:
    assert outcome_of_line({"custom_id": KEYS[0], "error": None, **beside}, parse).outcome == parse(body_of("Yes."))


def test_a_line_that_was_sent_and_comes_back_is_no_result() -> None:
    sent = {"custom_id": KEYS[0], "method": "POST", "body": {"model": "m", "messages": []}}
    found = outcome_of_line(sent, parse)
    assert isinstance(found.outcome, Failure)
    assert (found.outcome.kind, found.billable) == (FailureKind.OVERLOADED, False)


def kind_of(**parts: Any) -> FailureKind:
    found = of_line(**parts)
    assert isinstance(found, Failure)
    return found.kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "batch_expired", "message": "late"}, FailureKind.TIMEOUT),
        ({"code": "content_filter", "message": "flagged"}, FailureKind.CONTENT_FILTERED),
        ({"code": "context_length_exceeded"}, FailureKind.CONTEXT_LENGTH),
        ({"code": "insufficient_quota", "message": "pay"}, FailureKind.QUOTA_EXHAUSTED),
        ({"code": 429, "message": "busy"}, FailureKind.RATE_LIMITED),
        ({"code": "503", "message": "busy"}, FailureKind.OVERLOADED),
        ({"code": "server_error", "message": "oops"}, FailureKind.OVERLOADED),
        ({"code": "batch_cancelled"}, FailureKind.OVERLOADED),
        ("the model is overloaded", FailureKind.OVERLOADED),
        (["a", "list"], FailureKind.OVERLOADED),
        (True, FailureKind.OVERLOADED),
        ({"message": {"not": "a text"}}, FailureKind.OVERLOADED),
        ({}, FailureKind.OVERLOADED),
        (None, FailureKind.OVERLOADED),
    ],
)
def test_an_error_in_place_of_a_response_is_classified_by_its_code(error: Any, kind: FailureKind) -> None:
    assert kind_of(response=None, error=error) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"code": "content_filter", "message": "flagged"}}, FailureKind.CONTENT_FILTERED),
        ("400", {"error": {"code": "content_filter"}}, FailureKind.CONTENT_FILTERED),
        (400, {"error": "a text"}, FailureKind.BAD_REQUEST),
        (429, {"error": {"code": "insufficient_quota"}}, FailureKind.QUOTA_EXHAUSTED),
        (500, "<html>502 Bad Gateway</html>", FailureKind.OVERLOADED),
        (503, None, FailureKind.OVERLOADED),
        (0, None, FailureKind.OVERLOADED),
        (400, [{"error": {"code": 400, "message": "Gemini puts it into a list"}}], FailureKind.BAD_REQUEST),
    ],
)
def test_a_refused_line_is_classified_as_the_same_response_to_one_request(
    status: Any, body: Any, kind: FailureKind
) -> None:
    assert kind_of(response={"status_code": status, "body": body}) is kind


@pytest.mark.parametrize(
    "error",
    [
        *({"code": "warning", "message": "slow"}, {"code": None, "message": None}, {}, "", None, {"message": "slow"}),
        *({"code": 0, "message": "ok"}, {"code": "200"}, {"code": "success"}),
    ],
)
def test_what_is_no_error_beside_a_good_answer_leaves_the_answer(error: Any) -> None:
    assert of_line(error=error) == parse(body_of("Yes."))


@pytest.mark.parametrize("code", ["server_error", 500, "x"])
def test_an_error_beside_a_good_answer_is_what_came_and_is_not_billed(code: Any) -> None:
    found = outcome_of_line(result(KEYS[0]) | {"error": {"code": code, "message": "really failed"}}, parse)
    assert isinstance(found.outcome, Failure)
    assert found.outcome.kind is FailureKind.OVERLOADED
    assert "really failed" in found.outcome.detail
    assert not found.billable


def test_halves_of_characters_never_leave_in_a_detail() -> None:
    found = of_line(response=None, error={"message": "half \ud83d"})
    assert isinstance(found, Failure)
    assert found.detail.encode()


def test_what_nobody_foresaw_while_one_line_is_read_is_that_lines_alone() -> None:
    def bug(body: Any) -> Outcome:
        if "number 2" in json.dumps(body):
            raise KeyError("strange")
        return parse(body)

    results = Results()
    read(results, b"\n".join(lines()), frozenset(KEYS), bug)
    assert isinstance(results.by_key[KEYS[2]].outcome, Failure)
    assert sum(isinstance(found.outcome, Answer) for found in results.by_key.values()) == 4


@pytest.mark.parametrize(
    ("content", "there"),
    [
        (b"", False),
        (b" \r\n", False),
        (b"<!DOCTYPE html><html></html>", False),
        (b"\xef\xbb\xbf\n<html>", False),
        (b'{"error": {"message": "not yet"}}', False),
        (b'{ "detail": "not found"}', False),
        (lines()[0], True),
        (lines()[0][:30] + b"\n" + lines()[1], True),
    ],
)
def test_a_page_an_error_or_nothing_is_no_file_of_results(content: bytes, there: bool) -> None:
    assert is_file(content) is there


def test_a_failed_line_is_not_billed_and_one_that_may_have_been_done_is() -> None:
    refused = outcome_of_line(result(KEYS[0]) | {"response": {"status_code": 400, "body": {"error": "no"}}}, parse)
    good = outcome_of_line(result(KEYS[0]), parse)
    assert (refused.billable, good.billable) == (False, True)
    assert isinstance(good, Result)
