"""OpenAI's chat protocol as data: what a request says, and what the body of a response means. No network here."""

from __future__ import annotations

import json
from typing import Any

from emoray.governor.headers import duration_s
from emoray.hosts import Ask
from emoray.spec import Hosted, Price
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

KEY_HEADER = "X-Emoray-Key"  # tells a rehearsal's server which cell is asked; other servers do not know it
_SHOWN = 200  # characters of a provider's text in a failure's detail


def request_body(entry: Hosted, ask: Ask) -> dict[str, Any]:
    """The JSON of a request; a setting that is None, or that the model refuses by its entry, is left out."""
    body: dict[str, Any] = {"model": entry.id, "messages": _messages(ask.chat, entry.system_role)}
    settings = {
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "seed": ask.seed if entry.sends_seed else None,
        entry.max_tokens_as: ask.max_tokens,
    }
    body |= {name: value for name, value in settings.items() if value is not None}
    return body | entry.extra_body


def _messages(chat: list[dict[str, str]], system_role: str) -> list[dict[str, str]]:
    if system_role == "system" or not chat or chat[0]["role"] != "system":
        return chat
    system, *rest = chat
    if system_role == "user" and rest:
        return [{**rest[0], "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{**system, "role": system_role}, *rest]


def outcome_of(body: bytes, price: Price | None) -> Outcome:
    """What a response with status 200 says: an answer, or why it is none."""
    try:
        said = json.loads(body)
    except ValueError:
        return Failure(FailureKind.MALFORMED, f"the reply is not JSON: {shown(body)}")
    return parsed_outcome(said, price)


def parsed_outcome(said: Any, price: Price | None) -> Outcome:
    """The same of a body that is parsed already."""
    if not isinstance(said, dict):
        return Failure(FailureKind.MALFORMED, f"the reply is no JSON object: {shown(said)}")
    prompt_tokens, completion_tokens = _usage(said.get("usage"))
    cost = cost_usd(price, prompt_tokens, completion_tokens)
    choice = _first_choice(said)
    if choice is None:
        return Failure(FailureKind.MALFORMED, f"the reply has no choices: {shown(said)}", cost)
    message, finish = choice["message"], choice.get("finish_reason")
    if finish == "content_filter":
        return Failure(FailureKind.CONTENT_FILTERED, "the provider's filter stopped the answer", cost)
    text = _text(message.get("content")) or _text(message.get("refusal"))
    if not text.strip():
        hint = "; all of max_tokens went into reasoning: raise it" if finish == "length" else ""
        return Failure(FailureKind.EMPTY, f"the reply has no text (finish_reason {finish}){hint}", cost)
    return Answer(
        text,
        "length" if finish == "length" else "stop",
        prompt_tokens,
        completion_tokens,
        cost,
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")) or None,
        returned_model=_string(said.get("model")),
        system_fingerprint=_string(said.get("system_fingerprint")),
    )


_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
_TOO_LONG_PARAMS = frozenset({"input_tokens", "input_text"})  # how vLLM says it
_BY_STATUS = {
    401: FailureKind.AUTH,
    402: FailureKind.QUOTA_EXHAUSTED,
    403: FailureKind.AUTH,
    404: FailureKind.NO_SUCH_MODEL,
    408: FailureKind.TIMEOUT,
    409: FailureKind.OVERLOADED,
    413: FailureKind.CONTEXT_LENGTH,
    425: FailureKind.OVERLOADED,
    429: FailureKind.RATE_LIMITED,
}


def refusal_kind(status: int, error: Any) -> FailureKind:
    """What a response with another status than 200 means; `error` is the error object of its body, if there is one."""
    if status >= 500:
        return FailureKind.OVERLOADED
    if not isinstance(error, dict):
        # a page instead of an error object comes from something in between, and goes away; a 401 asks for a key
        page = status in (403, 404)
        return FailureKind.MALFORMED if page else _BY_STATUS.get(status, FailureKind.BAD_REQUEST)
    codes = {error.get(name) for name in ("code", "type") if isinstance(error.get(name), str)}
    if codes & _QUOTA_CODES:
        return FailureKind.QUOTA_EXHAUSTED
    if codes & _FILTER_CODES:
        return FailureKind.CONTENT_FILTERED
    if codes & _TOO_LONG_CODES or error.get("param") in _TOO_LONG_PARAMS:
        return FailureKind.CONTEXT_LENGTH
    if any(detail.get("reason") == "API_KEY_INVALID" for detail in _details(error)):  # Gemini, with a 400
        return FailureKind.AUTH
    return _BY_STATUS.get(status, FailureKind.BAD_REQUEST)


def refusal_of(status: int, body: bytes) -> Failure:
    """What a response with another status than 200 says."""
    error = error_in(body)
    message = None if error is None else error.get("message")
    return Failure(refusal_kind(status, error), f"{status}: {shown(message or body)}")


def error_in(body: bytes) -> dict[str, Any] | None:
    """The error object of a body: OpenAI puts it under `error`, Gemini that into a list, vLLM sends a text there."""
    try:
        said = json.loads(body)
    except ValueError:
        return None
    if isinstance(said, list) and said:
        said = said[0]
    error = said.get("error", said) if isinstance(said, dict) else None
    return {"message": error} if isinstance(error, str) else error if isinstance(error, dict) else None


def told_to_wait_s(body: bytes) -> float | None:
    """What the body of a refusal says of waiting, as Gemini does in place of a header (RetryInfo)."""
    told = [duration_s(_string(detail.get("retryDelay"))) for detail in _details(error_in(body) or {})]
    return next((wait_s for wait_s in told if wait_s is not None), None)


def _details(error: dict[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def cost_usd(price: Price | None, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
    """None where the price or the tokens are unknown: never zero for want of knowledge."""
    if price is None or prompt_tokens is None or completion_tokens is None:
        return None
    return (prompt_tokens * price.input + completion_tokens * price.output) / 1e6


def shown(value: Any) -> str:
    """A provider's text on one line, cut."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _first_choice(said: dict[str, Any]) -> dict[str, Any] | None:
    choices = said.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) and isinstance(first.get("message"), dict) else None


def _usage(usage: Any) -> tuple[int | None, int | None]:
    """(prompt, completion) tokens; what some count in the total alone is reasoning, billed as completion."""
    if not isinstance(usage, dict):
        return None, None
    prompt, completion, total = (
        count if isinstance(count := usage.get(f"{of}_tokens"), int) else None
        for of in ("prompt", "completion", "total")
    )
    if prompt is None or completion is None or total is None:
        return prompt, completion
    return prompt, max(completion, total - prompt)


def _text(content: Any) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None
