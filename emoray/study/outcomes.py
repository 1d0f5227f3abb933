"""What comes back from an ask: an Answer, or a Failure with its kind.

A failure is a value, never a text: it has no answer and no score, and its cell is owed again. A refusal is an
answer, flagged; so is an answer that leaves the role.
"""

from __future__ import annotations

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
