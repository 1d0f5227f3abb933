"""Why an answer ended: the words that providers have for it, and what they mean.

OpenAI's protocol has five words; those who speak it hand on what their engine or the vendor behind them says. A word
is known whatever its case and its dashes. What none of the tables has is said by nobody we know: the answer stays,
and so does the word.
"""

from __future__ import annotations

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
        "stop stopped stop_sequence stop_string stop_string_found stop_str stop_word stop_token eos eos_token "
        "eos_found eot eog eog_token end end_turn end_of_turn end_of_text end_of_sequence end_of_message complete "
        "completed completion finish finished done normal success succeeded"
    ),
    Ending.LENGTH: (
        "length max_length max_tokens max_new_tokens max_output_tokens max_completion_tokens max_tokens_reached "
        "max_length_reached max_predicted_tokens_reached length_exceeded context_length_reached token_limit "
        "token_limit_reached output_token_limit length_limit length_capped limit "
        "model_length context_length context_length_exceeded context_limit context_window context_window_exceeded "
        "model_context_window_exceeded error_limit truncated incomplete not_finished max_time time_limit repetition "
        "repetition_truncation"
    ),
    Ending.FILTERED: (
        "content_filter content_filtered content_filtering content_filter_error filter filtered safety safety_filter "
        "image_safety recitation blocklist prohibited_content spii language sensitive moderation moderated "
        "content_moderation flagged guardrail guardrails guardrail_intervened blocked prompt_blocked block toxic "
        "toxicity error_toxic refusal refused unsafe harmful policy_violation content_policy content_policy_violation "
        "violation model_armor responsible_ai data_inspection_failed copyright jailbreak"
    ),
    Ending.FAILED: (
        "error errored abort aborted cancel canceled cancelled user_cancel failed failure fault exception rejected "
        "insufficient_system_resource insufficient_system_resources insufficient_resources resource_exhausted "
        "network_error connection_error server_error api_error provider_error engine_error model_error internal_error "
        "internal_server_error malformed_response timeout timed_out time_out deadline_exceeded overloaded unavailable "
        "service_unavailable upstream_error error_other model_unloaded user_stopped no_kv_space rate_limit "
        "rate_limit_exceeded interrupted preempted disconnected expired"
    ),
    Ending.TOOL: (
        "tool_calls tool_call tool_use function_call function_calls malformed_function_call malformed_tool_call "
        "unexpected_tool_call too_many_tool_calls"
    ),
}
_PREFIX = "finishreason"  # of Google's constants, where a name was handed on


def _squeezed(word: str) -> str:
    """Letters and digits alone: MAX_TOKENS, max-tokens and maxTokens are one word."""
    return "".join(letter for letter in word.casefold() if letter.isalnum()).removeprefix(_PREFIX)


_ENDINGS = {_squeezed(word): ending for ending, words in _WORDS.items() for word in words.split()}


@lru_cache(maxsize=256)
def ending_of(word: str | None) -> Ending:
    """What a finish reason means; nothing said is nothing known."""
    return _ENDINGS.get(_squeezed(word or ""), Ending.UNKNOWN)
