"""What the body of a success means: answers, what is none, and numbers that are none. Pure."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.hosts.openai_protocol import count_of, outcome_of, refusal_of, shown
from emoray.hosts.reasoning import NONE
from emoray.spec.accounts import Price
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

PRICE = Price(input=1.0, output=2.0)
HALF = "\ud83d"
SECRET = "sk-canary-90cd2f7a"
FILLERS = ("\u2800", "\u3164", "\u115f\u1160", "\uffa0 ", "\ufe0f", "\u034f", "\U000e0100")  # letters that show nothing
ENDS = ("<|im_end|>", "<|eot_id|>", "</s>", " <|endoftext|>\n</s>", "<end_of_turn>", "<｜end▁of▁sentence｜>")


def body(content: Any = "Yes.", finish: Any = "stop", *, choice: Any = None, message: Any = None, **more: Any) -> bytes:
    told = {"role": "assistant", "content": content} | (message or {})
    choices = [{"message": told, "finish_reason": finish} | (choice or {})]
    return json.dumps({"choices": choices, **more}).encode()


def answer(data: bytes, **settings: Any) -> Answer:
    outcome = outcome_of(data, PRICE, **settings)
    assert isinstance(outcome, Answer), outcome
    return outcome


def failure(data: bytes, **settings: Any) -> Failure:
    outcome = outcome_of(data, PRICE, **settings)
    assert isinstance(outcome, Failure), outcome
    return outcome


def texts(outcome: Outcome) -> list[str]:
    return [getattr(outcome, name) for name in outcome.__slots__ if isinstance(getattr(outcome, name), str)]


# ── text ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_text_of_an_answer_can_be_written() -> None:
    data = body(
        f"I am glad {HALF}",
        f"stop{HALF}",
        message={"reasoning": f"Hm {HALF}"},
        model=f"m{HALF}",
        system_fingerprint=HALF,
    )
    found = answer(data)
    assert found.text == "I am glad \ufffd"
    assert (found.reasoning, found.returned_model, found.system_fingerprint) == ("Hm \ufffd", "m\ufffd", "\ufffd")
    assert (found.finish_reason, found.finish_reason_raw) == ("stop", "stop\ufffd")
    for text in texts(found):
        text.encode()


@pytest.mark.parametrize(
    "data",
    [
        body("", f"length{HALF}"),
        body(finish=f"safety{HALF}"),
        json.dumps({"choices": [], "x": HALF}).encode(),
        json.dumps({"error": {"message": f"no {HALF}", "code": 429}}).encode(),
        json.dumps({"error": HALF}).encode(),
        f'"{HALF}"'.encode("utf-8", "surrogatepass"),
        b"\xff\xfe\xed\xa0\xbd",
    ],
)
def test_every_text_of_a_failure_can_be_written(data: bytes) -> None:
    for text in texts(failure(data)) + texts(refusal_of(400, data)):
        text.encode()
        assert text.isprintable()


def test_two_halves_of_a_character_in_two_parts_are_one() -> None:
    parts = [{"type": "text", "text": "\ud83d"}, {"type": "text", "text": "\ude00"}]
    assert answer(body(parts)).text == "😀"


def test_a_byte_that_is_no_letter_costs_that_letter_and_not_the_answer() -> None:
    assert answer(body("caf*").replace(b"*", b"\xe9")).text == "caf\ufffd"
    assert answer(b"\xef\xbb\xbf" + body("Yes.\t*").replace(b"*", b"\n")).text == "Yes.\t\n"


def test_what_a_model_wrote_is_stored_letter_by_letter() -> None:
    text = "\x00\x1b[31m\u2028 \ufeff<b>&amp;</b> \\ud83d %s {x} 😀 "
    assert answer(body(text)).text == text


def test_a_body_that_is_nested_without_end_is_malformed() -> None:
    assert failure(b"[" * 100_000).kind is FailureKind.MALFORMED
    assert failure(b'{"choices":' * 100_000).kind is FailureKind.MALFORMED


# ── numbers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "count"),
    [
        *((12, 12), (0, 0), (12.0, 12), ("12", 12), (" 12 ", 12), ("12.0", 12), ("+12", 12), (10**9, 10**9)),
        *((12.5, None), ("12.5", None), ("twelve", None), ("", None), ("1e3", None), ("0x10", None), ("١٢", None)),
        *((True, None), (False, None), (None, None), (-1, None), (-1.0, None), ("-1", None)),
        *((2**63, None), (2**70, None), (10**400, None), (1e300, None), ("9" * 5000, None)),
        *((math.nan, None), (math.inf, None), (-math.inf, None), ([12], None), ({"n": 12}, None)),
    ],
)
def test_a_number_of_tokens_is_read_where_it_means_one(value: Any, count: int | None) -> None:
    assert count_of(value) == count
    assert type(count_of(value)) is (int if count is not None else type(None))


@pytest.mark.parametrize("odd", [True, "many", -3, 2**70, 12.5, math.nan, math.inf, None, [], {"total": 3}])
def test_an_odd_number_of_tokens_is_unknown_and_so_is_the_cost(odd: Any) -> None:
    found = answer(body(usage={"prompt_tokens": odd, "completion_tokens": 5, "total_tokens": odd}))
    assert (found.prompt_tokens, found.completion_tokens, found.cost_usd) == (None, 5, None)


@pytest.mark.parametrize("usage", [None, [], "12", 12, True, {}, [{"prompt_tokens": 1}]])
def test_usage_that_is_none_is_unknown(usage: Any) -> None:
    found = answer(body(usage=usage))
    assert (found.prompt_tokens, found.completion_tokens, found.cost_usd) == (None, None, None)


def test_a_number_without_end_costs_that_number_and_not_the_answer() -> None:
    data = body(usage={"prompt_tokens": 0, "completion_tokens": 5}).replace(b": 0,", b": " + b"9" * 6000 + b",")
    assert (answer(data).prompt_tokens, answer(data).completion_tokens) == (None, 5)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 12.0, "completion_tokens": "5", "total_tokens": True}, (12, 5)),
        ({"input_tokens": 12, "output_tokens": 5}, (12, 5)),
        ({"prompt_tokens": 12, "total_tokens": 17}, (12, 5)),
        ({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 3}, (12, 5)),
        ({"prompt_tokens": 12, "total_tokens": 3}, (12, None)),
        ({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 20}, (12, 8)),
        ({"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 17}, (12, 5)),
        (
            {"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 12, "output_tokens": 5},
            (12, 5),
        ),
    ],
)
def test_tokens_are_read_as_servers_write_them(usage: Any, tokens: tuple[int, int | None]) -> None:
    found = answer(body(usage=usage))
    assert (found.prompt_tokens, found.completion_tokens) == tokens


@pytest.mark.parametrize(
    "thought", [{"completion_tokens_details": {"reasoning_tokens": 100}}, {"reasoning_tokens": 100}]
)
@pytest.mark.parametrize(("said", "total", "paid"), [(10, 130, 110), (0, 120, 100), (110, 130, 110), (10, 90, 70)])
def test_reasoning_is_paid_for_whether_or_not_it_is_counted_with_the_answer(
    thought: Any, said: int, total: int, paid: int
) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": said, "total_tokens": total, **thought}
    assert answer(body(usage=usage)).completion_tokens == paid


def test_where_no_total_is_told_reasoning_beyond_the_answer_is_paid_for_beside_it() -> None:
    thought = {"completion_tokens_details": {"reasoning_tokens": 100}}
    for said in (10, 110):
        usage = {"prompt_tokens": 20, "completion_tokens": said, **thought}
        assert answer(body(usage=usage)).completion_tokens == 110


@pytest.mark.parametrize(
    "beside",
    [
        {"total_tokens": 10**9},
        {"total_tokens": 10**6},
        {"total_tokens": 5000, "completion_tokens_details": {"reasoning_tokens": 0}},
        {"total_tokens": 1530, "prompt_tokens_details": {"cached_tokens": 1500}},
        {"total_tokens": 1530, "cache_creation_input_tokens": 1500, "cache_read_input_tokens": 0},
        {"total_tokens": 1530, "cache_read_input_tokens": 1500},
        {"total_tokens": 1530, "cache_read_input_tokens": 1500, "prompt_tokens_details": {"cached_tokens": 1500}},
        {"total_tokens": 45, "cache_read_input_tokens": 15},
        {"total_tokens": 45, "prompt_tokens_details": {"cached_tokens": 15}},
        {"total_tokens": 80, "prompt_tokens_details": {"text_tokens": 20, "tool_use_tokens": 50}},
    ],
)
def test_a_total_that_counts_something_else_makes_no_answer_longer(beside: Any) -> None:
    found = answer(body(usage={"prompt_tokens": 20, "completion_tokens": 10, **beside}))
    assert (found.prompt_tokens, found.completion_tokens, found.cost_usd) == (20, 10, 40e-6)


def test_what_was_read_from_a_cache_and_what_was_thought_are_told_apart() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 145, "cache_read_input_tokens": 15}
    assert answer(body(usage=usage)).completion_tokens == 110
    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 130}
    assert answer(body(usage=usage | {"prompt_tokens_details": {"cached_tokens": 15}})).completion_tokens == 110


def test_a_total_without_bounds_tells_nothing_of_an_answer_that_was_not_counted() -> None:
    found = answer(body(usage={"prompt_tokens": 20, "total_tokens": 10**9}))
    assert (found.prompt_tokens, found.completion_tokens, found.cost_usd) == (20, None, None)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (None, None)),
        ({"prompt_tokens": 20, "completion_tokens": 0, "total_tokens": 20}, (20, None)),
        ({"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 5}, (None, 5)),
        ({"prompt_tokens": 0, "completion_tokens": 5, "cache_read_input_tokens": 20}, (0, 5)),
    ],
)
def test_no_answer_is_said_with_no_token(usage: Any, tokens: Any) -> None:
    found = answer(body(usage=usage))
    assert (found.prompt_tokens, found.completion_tokens) == tokens
    assert (found.cost_usd is None) == (None in tokens)
    assert failure(body("", usage=usage)).cost_usd is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON, JSON, JSON, JSON)
def test_whatever_is_said_is_an_outcome_that_can_be_written(
    content: Any, finish: Any, usage: Any, message: Any, other: Any
) -> None:
    for data in (
        body(content, finish, usage=usage, model=other, error=None),
        body(finish=finish, message={"reasoning": other, "refusal": content}, system_fingerprint=usage),
        body(choice={"message": message, "native_finish_reason": other, "provider_specific_fields": finish}),
        body(choice={"error": other}, base_resp=message),
        json.dumps({"error": other, "code": finish, "errors": usage, "type": "error"}).encode(),
        json.dumps(other).encode(),
    ):
        for text in texts(outcome_of(data, PRICE, key=SECRET)):
            text.encode()


# ── why it ended ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("word", ["length", "MAX_TOKENS", "max-tokens", "model_length"])
def test_an_answer_that_was_cut_says_so_whatever_the_word_for_it(word: str) -> None:
    found = answer(body(finish=word))
    assert (found.finish_reason, found.finish_reason_raw) == ("length", word)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("content_filter", FailureKind.CONTENT_FILTERED),
        ("SAFETY", FailureKind.CONTENT_FILTERED),
        ("sensitive", FailureKind.CONTENT_FILTERED),
        ("abort", FailureKind.OVERLOADED),
        ("error", FailureKind.OVERLOADED),
        ("insufficient_system_resource", FailureKind.OVERLOADED),
    ],
)
def test_what_was_filtered_or_broken_off_is_no_answer_however_much_was_said(word: str, kind: FailureKind) -> None:
    found = failure(body("I am gl", word, usage={"prompt_tokens": 1_000_000, "completion_tokens": 500_000}))
    assert (found.kind, found.finish_reason_raw, found.cost_usd, found.refused) == (kind, word, 2.0, False)
    assert word in found.detail


@pytest.mark.parametrize(("word", "raw"), [("mood_swing", "mood_swing"), (7, "7"), (None, None), ("", "")])
def test_a_word_that_nobody_knows_stays_beside_the_answer(word: Any, raw: str | None) -> None:
    found = answer(body(finish=word))
    assert (found.text, found.finish_reason, found.finish_reason_raw) == ("Yes.", "stop", raw)


@pytest.mark.parametrize(
    "beside",
    [{"native_finish_reason": "SAFETY"}, {"provider_specific_fields": {"native_finish_reason": "SAFETY"}}],
    ids=["OpenRouter", "LiteLLM"],
)
def test_a_gateway_that_says_stop_is_not_believed_where_it_hands_on_that_something_went_wrong(beside: Any) -> None:
    assert failure(body(choice=beside)).finish_reason_raw == "SAFETY"


def test_a_choice_of_which_nothing_but_its_reason_comes_was_filtered() -> None:
    """So Gemini says it, by OpenAI's protocol."""
    choice = {"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}
    found = failure(json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "total_tokens": 9}}).encode())
    assert (found.kind, found.finish_reason_raw) == (FailureKind.CONTENT_FILTERED, choice["finish_reason"])


@pytest.mark.parametrize("content", [None, "", " "])
def test_an_answer_that_a_filter_took_was_filtered_also_where_the_reason_says_stop(content: Any) -> None:
    results = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": True, "severity": "medium"}}
    assert failure(body(content, choice={"content_filter_results": results})).kind is FailureKind.CONTENT_FILTERED
    safe = {name: one | {"filtered": False} for name, one in results.items()}
    assert failure(body(content, choice={"content_filter_results": safe})).kind is FailureKind.EMPTY
    assert answer(body("Yes.", choice={"content_filter_results": safe})).text == "Yes."


def test_a_guardrails_own_words_in_place_of_an_answer_are_none() -> None:
    """Bedrock puts them there, and says so in a field."""
    guarded = "amazon-bedrock-guardrailAction"
    found = failure(body("Sorry, I cannot answer this.", **{guarded: "INTERVENED"}))
    assert (found.kind, found.finish_reason_raw) == (FailureKind.CONTENT_FILTERED, "guardrail_intervened")
    assert answer(body(**{guarded: "NONE"})).text == "Yes."


@pytest.mark.parametrize(
    ("fields", "word", "reason"),
    [
        ({"finish_reason": None, "stop_reason": "max_tokens"}, "max_tokens", "length"),
        ({"finish_reason": None, "finish_details": {"type": "max_tokens"}}, "max_tokens", "length"),
        ({"finish_reason": None, "finishReason": "MAX_TOKENS"}, "MAX_TOKENS", "length"),
        ({"finish_reason": "stop", "stop_reason": 151645}, "stop", "stop"),  # vLLM: what it stopped at
        ({"finish_reason": "stop", "stop_reason": "error"}, "stop", "stop"),
    ],
)
def test_a_reason_is_found_under_its_other_names_where_it_has_not_its_own(fields: Any, word: str, reason: str) -> None:
    found = answer(body(choice=fields))
    assert (found.finish_reason_raw, found.finish_reason) == (word, reason)


def test_what_was_spoken_is_read_where_nothing_was_written() -> None:
    spoken = {"audio": {"id": "a", "data": "UklGRg==", "transcript": "Yes, gladly."}}
    assert answer(body(None, message=spoken)).text == "Yes, gladly."
    assert answer(body("Yes.", message=spoken)).text == "Yes."
    assert failure(body(None, message={"audio": {"id": "a"}})).kind is FailureKind.EMPTY


@pytest.mark.parametrize(
    "message",
    [{"content": None, "refusal": "Nein."}, {"content": [{"type": "refusal", "refusal": "Nein."}]}],
)
def test_what_the_provider_marks_as_a_refusal_is_one_whatever_its_words(message: Any) -> None:
    found = answer(body(message=message))
    assert (found.text, found.declined) == ("Nein.", True)
    assert not answer(body(message={"refusal": None})).declined
    assert not answer(body([{"type": "text", "text": "Nein."}], message={"refusal": ""})).declined
    assert answer(body("Nein.", message={"refusal": True})).declined


@pytest.mark.parametrize("nothing", ["None", "null", "NULL", "false", " "])
def test_a_null_that_was_written_as_a_word_is_no_refusal_and_no_answer(nothing: str) -> None:
    assert not answer(body("Yes.", message={"refusal": nothing})).declined
    assert failure(body(None, message={"refusal": nothing})).kind is FailureKind.EMPTY


def test_a_gateway_that_hands_on_the_vendors_word_for_the_same_keeps_its_own() -> None:
    assert answer(body(choice={"native_finish_reason": "end_turn"})).finish_reason_raw == "stop"


@pytest.mark.parametrize("word", ["tool_calls", "function_call", "UNEXPECTED_TOOL_CALL"])
def test_a_tool_that_was_called_is_no_text(word: str) -> None:
    called = failure(body(None, word))
    assert called.kind is FailureKind.EMPTY
    assert called.detail.endswith("the model called a tool instead, and it was given none")
    assert answer(body("Yes.", "tool_calls")).text == "Yes."


@pytest.mark.parametrize(
    ("said", "raw", "reason"),
    [
        ({"type": "length", "length": 10}, "length", "length"),  # SGLang
        ({"type": "stop", "matched": 7}, "stop", "stop"),
        (["length"], "length", "length"),
        ("x" * 100_000, "x" * 200, "stop"),
    ],
)
def test_a_reason_that_is_no_word_or_a_long_one_is_read_by_its_type_and_cut(said: Any, raw: str, reason: str) -> None:
    found = answer(body(finish=said))
    assert (found.finish_reason_raw, found.finish_reason) == (raw, reason)


def test_what_was_aborted_is_no_answer_also_where_the_reason_is_an_object() -> None:
    found = failure(body("I am gl", {"type": "abort", "message": "out of memory"}))
    assert (found.kind, found.finish_reason_raw) == (FailureKind.OVERLOADED, "abort")


@pytest.mark.parametrize(
    "content", ["\u200b", "\ufeff", "\x00", " \n\t", "\u2060 \x07\r\n\u200d\u00ad", ["\u200b"], *FILLERS, *ENDS]
)
def test_an_answer_of_which_nothing_can_be_seen_is_none(content: Any) -> None:
    assert failure(body(content)).kind is FailureKind.EMPTY
    assert answer(body("\u200b.")).text == "\u200b."
    assert answer(body("\u2764\ufe0f")).text == "\u2764\ufe0f"
    assert answer(body("\u3164기쁨")).text == "\u3164기쁨"
    assert answer(body("Yes.</s>")).text == "Yes.</s>"


@pytest.mark.parametrize("content", [{"valence": 1}, 42, 0, 0.5, True, False])
def test_content_that_is_no_text_is_malformed_and_paid(content: Any) -> None:
    found = failure(body(content, usage={"prompt_tokens": 1_000_000, "completion_tokens": 500_000}))
    assert (found.kind, found.cost_usd, found.finish_reason_raw) == (FailureKind.MALFORMED, 2.0, "stop")
    assert found.detail == f"the content of the reply is no text: {content}"


def test_the_choice_with_number_0_is_the_answer_wherever_it_stands() -> None:
    choices = [{"index": number, "message": {"content": f"No. {number}"}} for number in (2, 0, 1)]
    assert answer(json.dumps({"choices": choices}).encode()).text == "No. 0"
    assert answer(json.dumps({"choices": [None, choices[1]]}).encode()).text == "No. 0"
    assert answer(json.dumps({"choices": choices[::2]}).encode()).text == "No. 2"


def test_of_choices_without_a_number_the_one_with_a_text_is_the_answer() -> None:
    thought, said = {"message": {"content": None, "reasoning_text": "Hm."}}, {"message": {"content": "Yes."}}
    both = [{"finish_reason": "stop", **choice} for choice in (thought, said)]
    assert answer(json.dumps({"choices": both}).encode()).text == "Yes."
    assert answer(json.dumps({"choices": [{"index": 0, **choice} for choice in both]}).encode()).text == "Yes."
    assert answer(json.dumps({"choices": [None, said]}).encode()).text == "Yes."
    apart = [{"index": number, **choice} for number, choice in enumerate(both)]
    assert failure(json.dumps({"choices": apart}).encode()).kind is FailureKind.EMPTY


@pytest.mark.parametrize("kind", ["tool_result", "document", "search_result", "function_call", "image_url"])
def test_what_a_model_was_handed_is_none_of_its_words(kind: str) -> None:
    assert answer(body([{"type": kind, "text": "Rain."}, {"type": "text", "text": "Yes."}])).text == "Yes."
    assert failure(body([{"type": kind, "content": "Rain."}])).kind is FailureKind.EMPTY


@pytest.mark.parametrize("code", [200, 0, "0", "200", "success", "SUCCESS"])
def test_an_error_object_that_says_success_beside_an_answer_is_none(code: Any) -> None:
    fine = {"code": code, "message": "success"}
    assert answer(body(error=fine, choice={"error": fine})).text == "Yes."
    assert failure(json.dumps({"error": fine, "choices": []}).encode()).kind is not FailureKind.EMPTY
    for told in (502, "429", "server_error", True):
        assert failure(body(error={"code": told, "message": "success"})).refused


@pytest.mark.parametrize(
    "remark",
    [
        "none",
        "OK",
        "null",
        "false",
        {"type": "warning", "message": "this model is old"},
        {"type": "warning", "code": "model_deprecated", "message": "this model is old"},
        {"message": "Success", "type": "", "code": None},
        {"code": "none", "message": ""},
    ],
)
def test_a_remark_beside_an_answer_is_no_error(remark: Any) -> None:
    assert answer(body(error=remark, choice={"error": remark})).text == "Yes."
    assert failure(body(error="nothing came")).refused


@pytest.mark.parametrize("where", ["choice", "message"])
def test_a_choice_that_carries_an_error_is_that_error(where: str) -> None:
    error = {"error": {"code": 429, "message": "Rate limited upstream"}}
    found = failure(body("I am gl", "error", **{where: error}))
    assert (found.kind, found.refused, found.detail) == (FailureKind.RATE_LIMITED, True, "429: Rate limited upstream")
    assert found.finish_reason_raw == "error"


def test_an_error_that_is_null_or_empty_is_none() -> None:
    nothings: list[Any] = [None, {}, "", [], {"message": None, "code": None}]
    for nothing in nothings:
        assert answer(body(error=nothing, choice={"error": nothing})).text == "Yes."


@pytest.mark.parametrize(
    "said",
    [
        *({"code": 200, "data": {}}, {"code": 0}, {"detail": "Not found"}, {"error": None}),
        *(
            {"success": True},
            {"code": "Success"},
            {"status": 200},
            {"status": "ok"},
            {"status": "success", "error": ""},
            {"errno": 0},
        ),
    ],
)
def test_a_success_without_choices_and_without_an_error_is_malformed(said: Any) -> None:
    assert failure(json.dumps(said).encode()).kind is FailureKind.MALFORMED


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"error": {"message": "Insufficient credits", "code": 402}}, FailureKind.QUOTA_EXHAUSTED),
        ({"error": {"message": "No auth credentials found", "code": "401"}}, FailureKind.AUTH),
        ([{"error": {"message": "slow down", "code": 429, "status": "RESOURCE_EXHAUSTED"}}], FailureKind.RATE_LIMITED),
        ({"error": {"message": "Provider returned error", "code": 502}, "choices": None}, FailureKind.OVERLOADED),
        ({"error": {"message": "no such model", "code": 404}, "user_id": "u"}, FailureKind.NO_SUCH_MODEL),
        ({"error": "upstream connect error"}, FailureKind.OVERLOADED),
        ({"object": "error", "message": "too many", "code": 429}, FailureKind.RATE_LIMITED),
        ({"error": {"message": "no"}, "status": 402}, FailureKind.QUOTA_EXHAUSTED),
        ({"error": {"message": "no", "code": 429.0}}, FailureKind.RATE_LIMITED),
        ({"error": "insufficient_quota"}, FailureKind.QUOTA_EXHAUSTED),
        ({"error": "rate_limit_exceeded", "message": "slow down"}, FailureKind.RATE_LIMITED),
        ({"success": False, "message": "Insufficient credits"}, FailureKind.QUOTA_EXHAUSTED),
        ({"status": "error", "message": "no"}, FailureKind.OVERLOADED),
        ({"status": "FAILED", "supplierError": "Start of structure"}, FailureKind.OVERLOADED),
        ({"error_code": 429, "error_msg": "no"}, FailureKind.RATE_LIMITED),
        ({"statusCode": 401, "message": "no"}, FailureKind.AUTH),
        ({"detail": "no", "status": 404}, FailureKind.NO_SUCH_MODEL),
        ({"error": True, "message": "Insufficient credits"}, FailureKind.QUOTA_EXHAUSTED),
        ({"error": True, "message": "no", "choices": None}, FailureKind.OVERLOADED),
        ({"error": 429, "message": "no"}, FailureKind.RATE_LIMITED),
        ({"error": 401}, FailureKind.AUTH),
        ({"base_resp": {"status_code": 2013, "status_msg": "no"}}, FailureKind.BAD_REQUEST),
        ({"base_resp": {"status_code": 1041, "status_msg": "no"}, "choices": None}, FailureKind.RATE_LIMITED),
    ],
)
def test_a_success_that_carries_an_error_is_that_error_and_costs_nothing(said: Any, kind: FailureKind) -> None:
    found = failure(json.dumps(said).encode())
    assert (found.kind, found.refused, found.cost_usd) == (kind, True, None)


# ── reasoning ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "content",
    [
        "<think>\nHm.\n</think>\n\nYes.",
        "Hm.</think>Yes.",
        [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Yes."}],
        [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "text", "text": "Yes."}],
        [{"type": "reasoning", "summary": [{"text": "Hm."}]}, {"type": "output_text", "text": "Yes."}],
        [{"text": "Hm.", "thought": True}, {"text": "Yes."}],
        [{"text": "Hm.", "thought": "true"}, {"text": "Yes."}],
        [{"thinking": "Hm."}, {"text": "Yes."}],
        [{"type": "thought", "text": "Hm."}, {"type": "text", "text": "Yes."}],
        [{"type": "summary_text", "text": "Hm."}, {"type": "text", "text": "Yes."}],
        [{"type": "Analysis", "text": "Hm."}, {"type": "text", "text": "Yes."}],
    ],
)  # fmt: skip
def test_reasoning_in_the_content_is_kept_apart(content: Any) -> None:
    found = answer(body(content))
    assert (found.text, found.reasoning) == ("Yes.", "Hm.")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]},
        {"thinking": "Hm."},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Hm."}]},
    ],
)
def test_reasoning_in_a_field_is_kept_apart(fields: Any) -> None:
    found = answer(body(message=fields))
    assert (found.text, found.reasoning) == ("Yes.", "Hm.")


def test_reasoning_in_a_field_and_between_tags_is_all_kept() -> None:
    found = answer(body("<think>So.</think>Yes.", message={"reasoning": "Hm."}))
    assert (found.text, found.reasoning) == ("Yes.", "Hm.\n\nSo.")


@pytest.mark.parametrize(
    "fields",
    [{"reasoning_content": "Hm."}, {"content": [{"type": "thinking", "thinking": "Hm."}, {"text": "So.</think>Yes."}]}],
)
def test_beside_reasoning_that_came_apart_a_closing_tag_is_text(fields: Any) -> None:
    found = answer(body("So.</think>Yes.", message=fields))
    assert (found.text, found.reasoning) == ("So.</think>Yes.", "Hm.")
    assert answer(body("So.</think>Yes.", message={"reasoning_content": "", "reasoning": None})).text == "Yes."


@pytest.mark.parametrize("content", ["<think>Hm. I cou", [{"type": "thinking", "thinking": "Hm. I cou"}]])
def test_reasoning_that_max_tokens_cut_is_no_answer_and_says_what_to_change(content: Any) -> None:
    found = failure(body(content, "length", usage={"prompt_tokens": 1_000_000, "completion_tokens": 500_000}))
    assert (found.kind, found.cost_usd, found.finish_reason_raw) == (FailureKind.EMPTY, 2.0, "length")
    assert "max_tokens" in found.detail


def test_where_no_tags_are_named_a_text_is_left_alone() -> None:
    assert answer(body("<think>Hm.</think>Yes."), tags=NONE).text == "<think>Hm.</think>Yes."


# ── the key ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["EMPTY", "x", "joy", "e", "stop", "content", "no-key"])
def test_a_short_key_changes_no_letter_of_a_success(key: str) -> None:
    data = body(
        "I feel joy and anger, x EMPTY e.", model="joy-x", usage={"prompt_tokens": 5, "completion_tokens": 7}, id="x"
    )
    assert answer(data, key=key) == answer(data)


def test_an_answer_that_holds_the_secret_is_not_kept_and_nothing_of_it_is_told() -> None:
    found = failure(body(f"Your key is {SECRET}.", model="m"), key=SECRET)
    assert found.kind is FailureKind.MALFORMED
    assert not any(SECRET in text for text in texts(found))


@pytest.mark.parametrize(
    ("key", "said", "told"),
    [
        ("joy", "Incorrect API key provided: joy. enjoy, joyful", "Incorrect API key provided: [key]. enjoy, joyful"),
        ("x", "max_tokens is x, exceeds", "max_tokens is [key], exceeds"),
        (SECRET, f"Bearer{SECRET}!", "Bearer[key]!"),
        ("", "any", "any"),
    ],
)
def test_the_key_is_in_no_text_of_ours_and_a_short_one_takes_no_other_word_with_it(
    key: str, said: str, told: str
) -> None:
    assert refusal_of(401, json.dumps({"error": {"message": said}}).encode(), key).detail == f"401: {told}"


def test_the_key_is_found_however_json_spells_it_and_before_a_text_is_cut() -> None:
    for key in ("sk-a/b/c/d/e/f/g+1", 'sk-"quoted"-0123'):
        for spelled in (json.dumps(key), key.replace("/", "\\/")):
            assert "[key]" in shown(f"<html>{spelled}</html>", key)
    assert "sk-can" not in shown("a" * 195 + SECRET, SECRET)


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET.upper(),
        SECRET[:-4],
        SECRET[4:],
        SECRET[5:13],
        f"{SECRET[:10]}***",
        quote("sk-canary/90cd2f7a+1", safe=""),
        *(b64encode(f"{user}{SECRET}".encode()).decode() for user in ("", ":", "user:", "me:")),
    ],
)
def test_the_key_is_found_in_other_spellings_and_in_parts(spelled: str) -> None:
    key = "sk-canary/90cd2f7a+1" if "%2F" in spelled else SECRET
    told = refusal_of(401, json.dumps({"error": {"message": f"Wrong key: {spelled} ."}}).encode(), key).detail
    assert "[key]" in told
    assert not any(spelled[at : at + 9].casefold() in told.casefold() for at in range(len(spelled) - 8))
    assert told.startswith("401: Wrong key: ")
    assert told.endswith(" .")


def test_of_what_resembles_no_key_nothing_is_hidden() -> None:
    said = "The key sk-cana is short; models of 2026 are not 90cd2f7 either."
    assert shown(said, SECRET) == said
    assert shown(f"sk-canary-90cd {SECRET}{SECRET}", SECRET) == "[key] [key][key]"
    assert shown("SK-A-KEY-OF sk-a-key-of12", "sk-a-key-of12") == "SK-A-KEY-OF [key]"


def test_an_answer_that_holds_a_part_of_the_key_is_kept_as_it_is() -> None:
    assert answer(body(SECRET[:-1]), key=SECRET).text == SECRET[:-1]


def test_a_text_without_end_is_searched_for_the_key_no_further_than_it_is_shown() -> None:
    assert shown(f"{SECRET} " * 100_000, SECRET).startswith("[key] [key]")


def test_the_kind_of_a_refusal_does_not_depend_on_the_key() -> None:
    data = json.dumps({"error": {"message": "no", "code": "context_length_exceeded", "param": None}}).encode()
    for key in ("error", "code", "e", "context_length_exceeded"):
        assert refusal_of(400, data, key).kind is FailureKind.CONTEXT_LENGTH
