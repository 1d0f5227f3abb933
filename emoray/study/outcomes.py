"""What comes back from an ask: an Answer, or a Failure with its kind.

A failure is a value, never a text: it has no answer and no score, and its cell is owed again. A refusal is an
answer, flagged; so is an answer that leaves the role.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Failure:
    kind: FailureKind
    detail: str  # one line for a person; never a key
    cost_usd: float | None = None  # a failed ask can be billed


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

# Ours, and deliberately narrow: what counts is a reply that declines the task, not one that speaks of declining.
_REFUSALS = re.compile(
    r"\bI(?:['’]m| am) (?:sorry|afraid),? (?:but )?I (?:can(?:['’]t|not)|am (?:not able|unable)|won['’]t)"
    r"|\bI (?:can(?:['’]t|not)|won['’]t|am (?:not able|unable) to|must decline to|have to decline to) "
    r"(?:assist|help|comply|fulfil?l|participate|role-?play|take part|engage|pretend|answer (?:this|that)|"
    r"provide|continue with|do that)"
    r"|\bI(?:['’]d| would) (?:rather|prefer) not (?:to )?(?:answer|role-?play|take part|pretend)",
    re.IGNORECASE,
)
_ROLE_BREAKS = re.compile(
    r"\bas an? (?:AI|artificial intelligence|(?:large )?language model|virtual assistant|chat ?bot)\b"
    r"|\bI(?:['’]m| am) (?:just |only |merely )?an? (?:AI|artificial intelligence|(?:large )?language model|"
    r"computer program|virtual assistant|chat ?bot)\b"
    r"|\bI (?:do not|don['’]t|cannot|can['’]t) (?:actually |really )?(?:have|experience|feel)(?: any)? "
    r"(?:personal |human |real )?(?:feelings|emotions)\b",
    re.IGNORECASE,
)
_OPENING = 400  # characters: a refusal says so at once


def is_refusal(text: str) -> bool:
    """Whether an answer declines to answer."""
    return _REFUSALS.search(text[:_OPENING]) is not None


def breaks_role(text: str) -> bool:
    """Whether an answer speaks as a machine instead of the person it was told to be."""
    return _ROLE_BREAKS.search(text) is not None
