"""Why an answer ended: the words that providers have for it, and what they mean.

OpenAI's protocol has five words; those who speak it hand on what their engine or the vendor behind them says. A word
is known whatever its case and its dashes, and by a part that is: `content_filter: RECITATION`. What none of the tables
has is said by nobody we know: the answer stays, and so does the word.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache


class Ending(StrEnum):
    """What became of an answer."""

    STOP = "stop"  # whole
    LENGTH = "length"  # cut: what there is of it is the model's
    FILTERED = "filtered"  # stopped for what it says, or for what was asked
    FAILED = "failed"  # broken off by trouble of the provider's
    TOOL = "tool"  # the model called a tool
    UNKNOWN = "unknown"


_WORDS = {
    Ending.STOP: (
        "stop stopped stop_sequence stop_sequences stop_sequence_reached stop_string stop_string_found stop_str "
        "stop_word stop_token stop_before eos eos_id eos_token eos_token_id eos_found eot eot_id eog eog_token end "
        "end_token end_turn end_of_turn end_of_text end_of_sequence end_of_message im_end complete completed "
        "completion finish finished final done normal success succeeded end_of_sentence eom eom_id"
    ),
    Ending.LENGTH: (
        "length length_stop max_length maximum_length max_len max_tokens maximum_tokens max_new_tokens "
        "max_output_tokens max_completion_tokens max_tokens_reached max_tokens_exceeded max_length_reached max_context "
        "max_context_length max_predicted_tokens_reached length_exceeded context_length_reached token_limit "
        "token_limit_reached token_limit_exceeded output_token_limit output_limit length_limit length_capped limit "
        "limit_reached model_length context context_length context_length_exceeded context_limit context_window "
        "context_window_exceeded model_context_window_exceeded error_limit truncated truncated_final truncation cutoff "
        "partial incomplete not_finished unfinished max_time time_limit repetition repetition_truncation"
    ),
    Ending.FILTERED: (
        "content_filter content_filtered content_filtering content_filter_error filter filtered safety safety_filter "
        "image_safety recitation blocklist blacklist denylist prohibited prohibited_content spii pii language "
        "sensitive moderation moderated content_moderation flagged guardrail guardrails guardrail_intervened "
        "guardrail_triggered blocked prompt_blocked block toxic toxicity error_toxic refusal refused unsafe harmful "
        "policy_violation content_policy content_policy_violation violation model_armor responsible_ai "
        "data_inspection_failed copyright jailbreak censored censorship nsfw risk high_risk content_risk compliance"
    ),
    Ending.FAILED: (
        "error errored abort aborted cancel canceled cancelled user_cancel failed failure fault exception rejected "
        "insufficient_system_resource insufficient_system_resources insufficient_resources resource_exhausted "
        "network_error connection_error server_error api_error provider_error engine_error model_error internal_error "
        "internal_server_error malformed_response malformed_model_output timeout timed_out time_out deadline_exceeded "
        "overloaded unavailable service_unavailable upstream_error error_other model_unloaded user_stopped no_kv_space "
        "rate_limit rate_limited rate_limit_exceeded throttled interrupted preempted disconnect disconnected "
        "client_disconnect client_disconnected connection_lost connection_closed terminated killed crashed crash oom "
        "out_of_memory shutdown expired"
    ),
    Ending.TOOL: (
        "tool_calls tool_call tool_use function_call function_calls malformed_function_call malformed_tool_call "
        "malformed_tool_use unexpected_tool_call too_many_tool_calls function_call_filter"
    ),
}
_PREFIX = re.compile(r"^(?:(?:finish|stop|done|completion|end)_?reason_?|reason_|alternative_?status_?)(?=[a-z])")
"""Of the constants of Google, xAI or Yandex, where a name was handed on."""
_TOKENS = frozenset({"<s>", "</s>"})  # the letter alone is what stands in `violation(s)`
_SIGNS = {  # words of a longer name that nobody has listed, the graver first
    Ending.TOOL: "tool tools function",
    Ending.FILTERED: (
        "filter filtered filtering safety moderation moderated guardrail guardrails sensitive prohibited blocklist "
        "blacklist denylist policy flagged toxic toxicity unsafe blocked censored censorship violation harmful nsfw"
    ),
    Ending.LENGTH: "length truncated truncation",
    Ending.FAILED: "error errored failed failure abort aborted cancel canceled cancelled timeout exception crashed "
    "overloaded unavailable",
}
_BETWEEN = re.compile(r"[:;,/|()\[\]]")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _squeezed(word: str) -> str:
    """Letters and digits alone: MAX_TOKENS, max-tokens and maxTokens are one word."""
    return "".join(letter for letter in word if letter.isalnum())


def _snake(word: str) -> str:
    """maxTokens, MAX-TOKENS and FinishReason.MAX_TOKENS as max_tokens."""
    parts = re.split(r"[^a-z0-9]+", _HUMP.sub("_", word).casefold())
    return _PREFIX.sub("", "_".join(filter(None, parts))).strip("_")


_ENDINGS = {_squeezed(word): ending for ending, words in _WORDS.items() for word in words.split()}


@lru_cache(maxsize=256)
def ending_of(word: str | None) -> Ending:
    """What a finish reason means; nothing said is nothing known.

    A reason that is explained (Gemini's `content_filter: RECITATION`) means what its first known part does.
    """
    if (word or "").strip().casefold() in _TOKENS:
        return Ending.STOP
    parts = [_snake(part) for part in (word or "", *_BETWEEN.split(word or ""))]
    known = (_ENDINGS[_squeezed(part)] for part in parts if _squeezed(part) in _ENDINGS)
    return next(known, None) or _by_sign(parts[0])


_DENIALS = frozenset({"no", "not", "none", "free", "passed", "without"})  # `no_error` is none


def _by_sign(name: str) -> Ending:
    words = frozenset(name.split("_"))
    if not words.isdisjoint(_DENIALS):
        return Ending.UNKNOWN
    found = (ending for ending, signs in _SIGNS.items() if not words.isdisjoint(signs.split()))
    return next(found, Ending.UNKNOWN)
