"""What a provider says of a batch and of a file, whatever its dialect: pure, and nothing that it says can raise.

OpenAI's words are the standard; others spell them otherwise (`COMPLETED`, `canceled`, `JOB_STATE_SUCCEEDED`), give
times as texts, errors as a text, counts not at all. A word that nobody knows is no end: fields then say whether it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from emoray.hosts.openai_protocol import shown


class Stage(Enum):
    """How far a batch is."""

    OPEN = "open"
    RUNNING = "running"  # the provider's queue has taken it
    FINALIZING = "finalizing"  # all is asked, and its files are being written
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self not in (Stage.OPEN, Stage.RUNNING, Stage.FINALIZING)


_WORDS: dict[Stage, str] = {
    Stage.OPEN: """
        validating validated queued pending created submitted scheduled preparing preparinginput notstarted notrunning
        waiting paused cancelling canceling cancellationrequested cancelrequested stopping resuming unspecified""",
    Stage.RUNNING: "inprogress running processing started",
    Stage.FINALIZING: "finalizing finalising writing",
    Stage.COMPLETED: """
        completed complete success succeeded successful successfully ended done finished processed partiallysucceeded
        partiallycompleted partialsuccess completedwitherrors ok""",
    Stage.FAILED: "failed failure failing error errored invalid rejected",
    Stage.EXPIRED: "expired timeout timedout timeoutexceeded",
    Stage.CANCELLED: "cancelled canceled aborted stopped deleted",
}
_STAGES = {word: stage for stage, words in _WORDS.items() for word in words.split()}
_PREFIX = re.compile(r"^(job|batch|model)?(state|status)?")
_ENDS = {"completed_at": Stage.COMPLETED, "failed_at": Stage.FAILED} | {
    "expired_at": Stage.EXPIRED,
    "cancelled_at": Stage.CANCELLED,
}
# of an input file: Azure wants it processed, others say nothing, or `uploaded`
_WAITS = frozenset({"pending", "running", "processing", "importing", "notrunning", "notstarted", "queued"}) | {
    *("inprogress", "validating", "created", "uploading")
}
_BROKEN = frozenset({"error", "errored", "failed", "deleted", "deleting", "invalid", "rejected"})


@dataclass(frozen=True)
class Wrong:
    """One of the errors of a batch that failed."""

    message: str
    code: str | None = None
    line: int | None = None  # of the input file

    def as_error(self) -> dict[str, Any]:
        """As the error object that a refusal's body has."""
        return {"message": self.message, "code": self.code, "type": None, "param": None}


@dataclass(frozen=True)
class Told:
    """What is said of a batch; None: it is not said."""

    id: str | None
    stage: Stage
    word: str  # its status as it came, on one line
    output: str | None = None  # file ids
    errors_file: str | None = None
    completed: int | None = None  # lines
    failed: int | None = None
    began: datetime | None = None  # UTC
    ended: datetime | None = None
    errors: tuple[Wrong, ...] = ()
    token: str | None = None  # ours, where metadata is echoed
    input_file: str | None = None

    @property
    def took_s(self) -> float:
        return max(0.0, (self.ended - self.began).total_seconds()) if self.ended and self.began else 0.0


@dataclass(frozen=True)
class ToldFile:
    """What is said of a file."""

    id: str
    waits: bool = False  # it cannot be used yet
    broken: str | None = None  # it never will be: why


def told_of(said: object, key: str = "") -> Told | None:
    """The batch of a response, without the key; None where it is none, such as a page or an error."""
    fields = _fields(said)
    if fields is None:
        return None
    wrapped = _fields(fields.get("job")) or _fields(fields.get("batch"))  # Together wraps what it has made
    if wrapped is not None and not isinstance(fields.get("status"), str):
        fields = wrapped
    completed, failed = _counts(fields)
    word = next((text for name in ("status", "state", "processing_status") if (text := _text(fields.get(name)))), "")
    id = next((text for name in ("id", "batch_id", "name") if (text := _text(fields.get(name)))), None)
    if id is None and not word:
        return None
    return Told(
        id=id,
        stage=_stage(word, fields, completed, failed),
        word=shown(word, key) or "without a status",
        output=_text(fields.get("output_file_id")) or _text(fields.get("output_file")),
        errors_file=_text(fields.get("error_file_id")) or _text(fields.get("error_file")),
        completed=completed,
        failed=failed,
        began=when(fields.get("created_at")),
        ended=next((time for name in _ENDS if (time := when(fields.get(name)))), None),
        errors=_errors(fields.get("errors") or fields.get("error"), key),
        token=_text((_fields(fields.get("metadata")) or {}).get("emoray")),
        input_file=_text(fields.get("input_file_id")),
    )


def file_of(said: object, key: str = "") -> ToldFile | None:
    """The file of a response; None where it is none, or has no id."""
    fields = _fields(said) or {}
    id, word = _text(fields.get("id")), _bare(_text(fields.get("status")) or "")
    if id is None:
        return None
    why = shown(fields.get("status_details") or f"its status is {word}", key) if word in _BROKEN else None
    return ToldFile(id, waits=word in _WAITS, broken=why)


def when(value: object) -> datetime | None:
    """A time in UTC: seconds or milliseconds since 1970, also as a text, or an ISO date; None for anything else."""
    if isinstance(value, str):
        number = _number(value)
        return _from_iso(value) if number is None else when(number)
    number = _number(value)
    if number is None or number <= 0:
        return None
    try:
        return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _from_iso(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _stage(word: str, fields: Mapping[str, Any], completed: int | None, failed: int | None) -> Stage:
    """By its word; where nobody knows that, by what a batch has only at its end."""
    known = _STAGES.get(_bare(word))
    if known is not None:
        return known
    ends = [stage for name, stage in _ENDS.items() if when(fields.get(name))]
    if ends:
        return ends[0]
    total = _count((_fields(fields.get("request_counts")) or {}).get("total"))
    through = bool(total) and (completed or 0) + (failed or 0) >= (total or 0)
    return Stage.COMPLETED if through and _text(fields.get("output_file_id")) else Stage.OPEN


def _bare(word: str) -> str:
    """`JOB_STATE_SUCCEEDED` → `succeeded`."""
    letters = "".join(letter for letter in word.lower() if letter.isalpha())
    return letters if letters in _STAGES else _PREFIX.sub("", letters)


def _counts(fields: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """(completed, failed) lines; some name them otherwise, or beside the status."""
    counts = {**fields, **(_fields(fields.get("request_counts")) or {})}
    completed = ("completed", "succeeded", "succeeded_requests", "completed_requests")
    return _first_count(counts, completed), _first_count(counts, ("failed", "errored", "failed_requests"))


def _first_count(fields: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := _count(fields.get(name))) is not None), None)


def _count(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 0 <= number < 1e12 else None


def _number(value: object) -> float | None:
    """A finite number, also one in a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _errors(said: object, key: str) -> tuple[Wrong, ...]:
    """OpenAI has a list under `data`; others a list, one object or a text."""
    fields = _fields(said)
    if fields is not None and isinstance(fields.get("data"), list):
        said = fields["data"]
    several = said if isinstance(said, list) else [said] if said else []
    return tuple(_wrong(one, key) for one in several)


def _wrong(said: object, key: str) -> Wrong:
    fields = _fields(said)
    if fields is None:
        return Wrong(shown(said, key))
    code = fields.get("code") or fields.get("type")
    message = fields.get("message") or code or "no reason given"
    return Wrong(shown(message, key), str(code) if code else None, _count(fields.get("line")))


def _fields(said: object) -> Mapping[str, Any] | None:
    """A JSON object, or what the SDK made of one: it takes any object for what it expects."""
    if isinstance(said, Mapping):
        return said
    extra = getattr(said, "model_extra", None)
    return {**vars(said), **(extra or {})} if isinstance(extra, Mapping) or hasattr(said, "model_fields_set") else None


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
