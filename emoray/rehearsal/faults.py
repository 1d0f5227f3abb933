"""The menu of faults, and who gets which: by chance (seeded, per key and attempt) or by schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What a provider can do to a request instead of answering it."""

    BUSY = "busy"  # 429 with retry-after
    BUSY_SILENT = "busy_silent"  # 429 without
    ERROR_HTML = "error_html"  # 500, an HTML page
    GATEWAY_HTML = "gateway_html"  # 502, an HTML page
    UNAVAILABLE = "unavailable"  # 503
    OK_HTML = "ok_html"  # 200, an HTML page
    HANG = "hang"  # no byte ever
    SLOW_FIRST_BYTE = "slow_first_byte"
    RESET = "reset"  # the connection is reset in the middle of the body
    CUT_JSON = "cut_json"  # 200, half a JSON text
    NO_CHOICES = "no_choices"
    EMPTY = "empty"  # content ""
    NULL = "null"  # content null
    REFUSAL = "refusal"  # an answer that declines
    LENGTH = "length"  # an answer cut at max_tokens
    FILTERED = "filtered"  # 200, finish_reason content_filter
    FILTERED_400 = "filtered_400"  # 400, code content_filter
    WRONG_MODEL = "wrong_model"  # another model than asked for answers
    DUPLICATE = "duplicate"  # the body of an earlier response once more
    BAD_REQUEST = "bad_request"  # 400
    CONTEXT_LENGTH = "context_length"  # 400, code context_length_exceeded
    NO_SUCH_MODEL = "no_such_model"  # 404
    AUTH = "auth"  # 401; now and then only, it is a proxy's
    QUOTA = "quota"  # 429, code insufficient_quota
    MODERATED = "moderated"  # 403 that says which input was flagged, as OpenRouter does
    STREAM = "stream"  # 200, a stream of events
    SURROGATE = "surrogate"  # an answer, a model id and a reason to end with half an emoji, as JSON can spell it
    ODD_USAGE = "odd_usage"  # tokens as a float, as text, as a truth
    THINK = "think"  # reasoning between tags, then the answer
    THINK_CUT = "think_cut"  # reasoning until max_tokens, and no answer
    ABORTED = "aborted"  # 200, finish_reason abort, half an answer
    ERROR_200 = "error_200"  # 200, an error object in place of an answer


HOPELESS = frozenset({Fault.AUTH, Fault.QUOTA, Fault.NO_SUCH_MODEL})
STORM = tuple(fault for fault in Fault if fault not in HOPELESS)


def storm(share: float) -> dict[Fault, float]:
    """Every fault that leaves hope, equally often, together hitting this share of the requests."""
    return dict.fromkeys(STORM, share / len(STORM))


@dataclass(frozen=True)
class Plan:
    """Which request meets which fault."""

    seed: int = 0
    chances: Mapping[Fault, float] = field(default_factory=dict)  # probability per request
    schedule: Sequence[tuple[int, int | None, Fault]] = ()  # requests number first … last (None: all from first)

    def fault(self, number: int, key: str, attempt: int) -> Fault | None:
        """The fault of request `number` (from 1), which is attempt `attempt` (from 1) of `key`."""
        for first, last, fault in self.schedule:
            if first <= number and (last is None or number <= last):
                return fault
        draw = self.draw(f"fault {attempt}", key) if self.chances else 1.0
        for fault, chance in self.chances.items():
            if draw < chance:
                return fault
            draw -= chance
        return None

    def draw(self, purpose: str, key: str) -> float:
        """Chance in [0, 1) that depends on seed, purpose and key only, not on the order of arrival."""
        digest = hashlib.blake2b(f"{self.seed} {purpose} {key}".encode(), digest_size=7).digest()
        return int.from_bytes(digest, "big") / 2.0**56
