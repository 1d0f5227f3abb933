"""OpenAI's chat protocol as data: what a request says, and what the body of a response means. No network here."""

from __future__ import annotations

import json
from typing import Any

from emoray.hosts import Ask
from emoray.hosts.refusals import error_in, error_of, message_in, refusal_kind, status_in, told_to_wait_s
from emoray.spec import Hosted, Price
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

__all__ = [
    "KEY_HEADER",
    "cost_usd",
    "error_in",
    "error_of",
    "error_outcome",
    "outcome_of",
    "parsed_outcome",
    "refusal_kind",
    "refusal_of",
    "request_body",
    "shown",
    "told_to_wait_s",
]

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


def refusal_of(status: int, body: bytes) -> Failure:
    """What a response with another status than 200 says."""
    error = error_in(body)
    return Failure(refusal_kind(status, error), f"{status}: {shown(message_in(error) or body)}")


def error_outcome(error: Any, status: int = 200) -> Failure:
    """What an error object says that came instead of an answer, by the code in it where the status is none (200).

    What a provider calls an error it does not bill.
    """
    told = status if status >= 300 or not isinstance(error, dict) else status_in(error) or status
    return Failure(refusal_kind(status, error), f"{told}: {shown(message_in(error) or error)}")


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
