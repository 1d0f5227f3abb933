"""What comes back from an ask: an Answer, or a Failure with its kind.

A failure is a value, never a text: it has no answer and no score, and its cell is owed again. A refusal is an
answer, flagged; so is an answer that leaves the role.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class FailureKind(StrEnum):
    """Why an ask brought no answer."""

    RATE_LIMITED = "rate_limited"  # the provider's limit, for longer than we were told to insist
    OVERLOADED = "overloaded"  # 5xx: the provider's trouble
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    AUTH = "auth"  # hopeless: ends the lane
    NO_SUCH_MODEL = "no_such_model"  # hopeless
    QUOTA_EXHAUSTED = "quota_exhausted"  # hopeless until somebody pays
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTERED = "content_filtered"
    MALFORMED = "malformed"  # a reply that is none: HTML, cut JSON, no choices
    EMPTY = "empty"  # an answer without a text
    ENGINE = "engine"  # a local engine could not do this one

    @property
    def hopeless(self) -> bool:
        """Whether every further ask on the same lane would fail alike."""
        return self in (FailureKind.AUTH, FailureKind.NO_SUCH_MODEL, FailureKind.QUOTA_EXHAUSTED)


@dataclass(frozen=True, slots=True)
class Answer:
    """A text that a model gave, with what is known of how it came about; None is "not known"."""

    text: str
    finish_reason: str = "stop"  # "stop", or "length" where max_tokens cut the answer
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    reasoning: str | None = None  # kept apart: a reader never sees it
    returned_model: str | None = None  # the model id that the provider says it used
    system_fingerprint: str | None = None
    finish_reason_raw: str | None = None  # why the answer ended, in the provider's own word
    declined: bool = False  # marked as a refusal by the provider: then nobody asks what its words are


@dataclass(frozen=True, slots=True)
class Failure:
    kind: FailureKind
    detail: str  # one line for a person; never a key
    cost_usd: float | None = None  # a failed ask can be billed
    finish_reason_raw: str | None = None  # where the provider said one
    refused: bool = field(default=False, compare=False)
    """By the provider, with an error: where nobody says what that cost, it cost nothing."""


Outcome = Answer | Failure


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of an ask, good or bad."""

    key: str
    outcome: Outcome
    asked_at: datetime  # UTC, when the last attempt began
    latency_s: float  # of the last attempt
    attempts: int = 1
    chat_template_sha: str | None = None


def valid(text: str) -> str:
    """The text as UTF-8 can bear it: halves of a character become it where they stand side by side, else U+FFFD.

    JSON can spell half a character (an answer cut in the middle of an emoji), and Arrow and files can not.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# The two hints find at least what the functions below find, and are within what RE2 understands (nothing looks ahead):
# Arrow goes through a column by RE2 in a twentieth of the time, so that Python looks only where a hint is.
#
# Ours, English, and deliberately narrow: what counts is a reply that declines the task, not one that speaks of
# declining. A person in a dark mood can not, will not and would rather not do a great many things, and stays in the
# role; so it takes both: one of `_DECLINES` and, next to it, one of `_THE_TASK`.
_DECLINES = (
    r"can(?:['’]?t| ?not)|won['’]?t|will not|won['’]t be able to|will not be able to",
    r"(?:am|['’]m) (?:not able|unable) to|(?:am|['’]m) not comfortable|(?:do not|don['’]t) feel comfortable",
    r"(?:must|have to) (?:respectfully )?decline to|(?:would|['’]d) (?:rather|prefer) not(?: to)?",
)
_THIS = r"(?:this|that|the|your|such an?|any|an?)(?: (?:kind|type|sort) of)?"
_THE_TASK = (
    rf"assist(?:ing)?(?: you)? (?:with|in) {_THIS}",
    r"help(?:ing)?(?: you)? with (?:this|that|your)(?: (?:request|task|question|prompt)|\s*[.,;!]|$)",
    rf"(?:comply(?:ing)? with|fulfil(?:l|ling)?|complet(?:e|ing)) {_THIS} (?:request|instruction|prompt|task)",
    rf"(?:participat(?:e|ing)|tak(?:e|ing) part|engag(?:e|ing)|continu(?:e|ing))(?: in| with)? {_THIS} "
    r"(?:role|request|exercise|scenario|persona)",
    r"role-?play(?:ing)?\b|(?:adopt|assum)(?:e|ing)? (?:this|that|the|a) (?:role|persona|identity)",
    r"pretend(?:ing)? (?:to be|that I am|I am) (?:an? |any )?(?:real )?(?:person|human|someone|somebody)",
    r"pretend(?:ing)? (?:to have|that I have) (?:\S+ )?(?:emotions?|feelings?)",
    r"answer(?:ing)? (?:this|that|your|such an?) (?:question|request|prompt)",
    rf"provid(?:e|ing) (?:you with )?{_THIS} (?:answer|response|content|information)",
    rf"(?:generat|creat|produc|writ)(?:e|ing) {_THIS} (?:content|text|response|material)",
)
_NO_MORE = r"(?:I(?:['’]m| am) )?sorry,? (?:but )?I can(?:['’]?t|not)(?: (?:do|answer|discuss) (?:this|that|it))?"
REFUSAL_HINT = (
    rf"\bI ?(?:{'|'.join(_DECLINES)}) (?:{'|'.join(_THE_TASK)})"
    rf"|^\W*{_NO_MORE}\W*$"  # and not a word beside it
    r"|\b(?:against|violates?|prevented by) my (?:guidelines|programming|polic(?:y|ies))\b"
)
_REFUSALS = re.compile(REFUSAL_HINT, re.IGNORECASE)

_MACHINE = r"an? (?:AI|artificial intelligence|(?:large )?language model|virtual assistant|chat ?bot|computer program)"
_JOB = r"(?:researcher|engineer|developer|scientist|expert|ethicist|student|artist|company|start-?up)"  # an AI engineer
_NUMB = r"(?:any ?more|left|now|right now|today|for|about|towards?|inside)"  # no feelings any more: a person says so


def _as_a_machine(no_job: str, not_numb: str) -> str:
    return (
        rf"\b(?:as|being|I(?:['’]m| am)(?: (?:just|only|merely|simply))?) {_MACHINE}\b{no_job}"
        r"|\bI (?:do not|don['’]t|cannot|can['’]t) (?:actually |really )?(?:have|experience|possess|feel) (?:any )?"
        r"(?:(?:personal|human|real|genuine) (?:feelings|emotions|experiences)|emotions|feelings (?:or|and|like))\b"
        rf"{not_numb}"
        r"|\bI was (?:trained|developed|created) by (?:OpenAI|Google|Meta|Anthropic|Cohere|Mistral|Alibaba)\b"
    )


ROLE_BREAK_HINT = _as_a_machine("", "")
_ROLE_BREAKS = re.compile(_as_a_machine(rf"(?! {_JOB})", rf"(?! {_NUMB}\b)"), re.IGNORECASE)
DETECTOR = "2"
_OPENING = 400  # characters: a refusal says so at once


def is_refusal(text: str) -> bool:
    """Whether an answer declines to answer."""
    return _REFUSALS.search(text[:_OPENING]) is not None


def breaks_role(text: str) -> bool:
    """Whether an answer speaks as a machine instead of the person it was told to be."""
    return _ROLE_BREAKS.search(text) is not None
