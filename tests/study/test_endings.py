"""The words by which providers say why an answer ended."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.study.endings import _WORDS, Ending, ending_of

SAID = {  # by whom
    "stop": Ending.STOP,  # OpenAI
    "length": Ending.LENGTH,
    "content_filter": Ending.FILTERED,
    "tool_calls": Ending.TOOL,
    "function_call": Ending.TOOL,
    "eos_token": Ending.STOP,  # TGI
    "stop_sequence": Ending.STOP,
    "eos": Ending.STOP,  # Together
    "</s>": Ending.STOP,  # its own tokens
    " </S>": Ending.STOP,
    "<s>": Ending.STOP,
    "s": Ending.UNKNOWN,
    "tokens/s": Ending.UNKNOWN,
    "content filter violation(s)": Ending.FILTERED,
    "3 guardrail(s)": Ending.FILTERED,
    "safety category hit(s)": Ending.FILTERED,
    "error/s": Ending.FAILED,
    "<|eom_id|>": Ending.STOP,
    "<｜end▁of▁sentence｜>": Ending.STOP,
    "provider_overloaded": Ending.FAILED,
    "end_turn": Ending.STOP,  # Anthropic, through a gateway
    "max_tokens": Ending.LENGTH,
    "refusal": Ending.FILTERED,
    "model_context_window_exceeded": Ending.LENGTH,
    "STOP": Ending.STOP,  # Gemini
    "MAX_TOKENS": Ending.LENGTH,
    "SAFETY": Ending.FILTERED,
    "RECITATION": Ending.FILTERED,
    "PROHIBITED_CONTENT": Ending.FILTERED,
    "FinishReason.MAX_TOKENS": Ending.LENGTH,
    "FINISH_REASON_STOP": Ending.STOP,
    "COMPLETE": Ending.STOP,  # Cohere
    "ERROR_TOXIC": Ending.FILTERED,
    "ERROR_LIMIT": Ending.LENGTH,
    "USER_CANCEL": Ending.FAILED,
    "ERROR": Ending.FAILED,
    "model_length": Ending.LENGTH,  # Mistral
    "error": Ending.FAILED,  # Mistral, OpenRouter
    "insufficient_system_resource": Ending.FAILED,  # DeepSeek
    "sensitive": Ending.FILTERED,  # Zhipu
    "network_error": Ending.FAILED,
    "abort": Ending.FAILED,  # vLLM, SGLang
    "aborted": Ending.FAILED,
    "cancelled": Ending.FAILED,
    "repetition": Ending.LENGTH,  # vLLM
    "guardrail_intervened": Ending.FILTERED,  # Bedrock
    "max-tokens": Ending.LENGTH,
    "maxTokens": Ending.LENGTH,
    "content-filter": Ending.FILTERED,
    "eosFound": Ending.STOP,  # LM Studio
    "stopStringFound": Ending.STOP,
    "maxPredictedTokensReached": Ending.LENGTH,
    "contextLengthReached": Ending.LENGTH,
    "modelUnloaded": Ending.FAILED,
    "userStopped": Ending.FAILED,
    "toolCalls": Ending.TOOL,
    "upstream_error": Ending.FAILED,
    "ERROR_OTHER": Ending.FAILED,
    "length_exceeded": Ending.LENGTH,
    "no_kv_space": Ending.FAILED,
    "repetition_truncation": Ending.LENGTH,
    "content_filter: PROHIBITED_CONTENT": Ending.FILTERED,  # Gemini, by OpenAI's protocol
    "function_call_filter: MALFORMED_FUNCTION_CALL": Ending.TOOL,
    "IMAGE_PROHIBITED_CONTENT": Ending.FILTERED,
    "blacklist": Ending.FILTERED,  # GigaChat
    "malformed_model_output": Ending.FAILED,  # Bedrock
    "malformed_tool_use": Ending.TOOL,
    "REASON_MAX_LEN": Ending.LENGTH,  # xAI
    "REASON_MAX_CONTEXT": Ending.LENGTH,
    "ALTERNATIVE_STATUS_CONTENT_FILTER": Ending.FILTERED,  # Yandex
    "ALTERNATIVE_STATUS_TRUNCATED_FINAL": Ending.LENGTH,
    "stopReason.END_TURN": Ending.STOP,
    "context": Ending.LENGTH,  # Reka, SenseNova
    "stop_before": Ending.STOP,  # HyperCLOVA
    "maximum_tokens": Ending.LENGTH,  # Aleph Alpha
    "<|im_end|>": Ending.STOP,
    "input_guardrail_triggered": Ending.FILTERED,  # Databricks
    "outputModerationBlocked": Ending.FILTERED,  # of nobody: a sign in it
    "stream_aborted_by_peer": Ending.FAILED,
    "server_max_output_length": Ending.LENGTH,
    "stop (eos)": Ending.STOP,
    "error: upstream": Ending.FAILED,
    "reasoning": Ending.UNKNOWN,
    "pause_turn": Ending.UNKNOWN,
    "FINISH_REASON_UNSPECIFIED": Ending.UNKNOWN,
    "a, b": Ending.UNKNOWN,
    "mood_swing": Ending.UNKNOWN,
    "no_error": Ending.UNKNOWN,
    "not_truncated": Ending.UNKNOWN,
    "content_filter_passed": Ending.UNKNOWN,
    "OTHER": Ending.UNKNOWN,
    "null": Ending.UNKNOWN,
    "": Ending.UNKNOWN,
}


@pytest.mark.parametrize(("word", "ending"), SAID.items())
def test_a_word_means_what_the_vendor_says_it_means(word: str, ending: Ending) -> None:
    assert ending_of(word) is ending


def test_where_no_reason_was_given_none_is_known() -> None:
    assert ending_of(None) is Ending.UNKNOWN


def test_no_word_means_two_things() -> None:
    of_word = {ending: set(words.split()) for ending, words in _WORDS.items()}
    for one, other in combinations(of_word, 2):
        assert not of_word[one] & of_word[other]
    assert of_word.keys() == set(Ending) - {Ending.UNKNOWN}


@given(st.sampled_from([word for words in _WORDS.values() for word in words.split()]), st.sampled_from(["-", " ", ""]))
def test_neither_case_nor_dashes_change_a_meaning(word: str, dash: str) -> None:
    assert ending_of(word.upper().replace("_", dash)) is ending_of(word)
