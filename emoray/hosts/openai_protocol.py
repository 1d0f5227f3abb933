"""OpenAI's chat protocol as data: what a request says, and what the body of a response means. No network here."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from emoray.hosts.discretion import HIDDEN, tells_key, without_key
from emoray.hosts.protocol import Ask
from emoray.hosts.reasoning import KNOWN, Tags, is_blank, no_answer
from emoray.hosts.refusals import (
    error_in,
    error_of,
    error_within,
    has_error,
    is_fine,
    message_in,
    refusal_kind,
    remedy,
    status_in,
)
from emoray.spec.accounts import Price
from emoray.spec.models import Hosted
from emoray.study.endings import Ending, ending_of
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome, valid

KEY_HEADER = "X-Emoray-Key"  # tells a rehearsal's server which cell is asked; no other is sent it
REHEARSAL = "/emoray"  # what the path of a rehearsal's server begins with
_SHOWN = 200  # characters of a provider's text in a failure's detail
_DIGITS = 20  # a longer number is none of ours
_MOST_TOKENS = 10**9  # no model reads or says as many at once: a larger number counts nothing
_MOST_UNSAID = 2**18  # completion tokens that a total alone may tell of: no model thinks for longer
_WORD = 200  # characters of a finish reason
_COUNT = re.compile(r"\+?[0-9]{1,10}(?:\.0*)?", re.ASCII)
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
_TEXTS = ("text", "refusal", "thinking", "reasoning", "summary", "content")
_A_THOUGHT = re.compile(r"think|thought|reasoning|summary|analysis", re.IGNORECASE)  # types of parts
_MATERIAL = re.compile(r"tool|function|document|search|citation|reference|file|image|code_execution", re.IGNORECASE)
_ONLY_ENDS = re.compile(  # tokens with which a turn ends, and nothing before them
    r"\s*(?:(?:<\|(?:im_end|eot_id|end|eot|endoftext|end_of_text|end_of_turn|end_of_turn_token|return|eom_id|user"
    r"|END_OF_TURN_TOKEN|endofprompt)\|>|</s>|<eos>|<end_of_turn>|<turn\|>|<\uff5cend\u2581of\u2581sentence\uff5c>"
    r"|\[EOS\]|<\|role_end\|>)\s*)+"
)
_NOTHING = frozenset({"", "none", "null", "false"})
_REASONS = ("finish_reason", "finishReason", "finish_details", "stop_reason")
_GUARDRAIL = "amazon-bedrock-guardrailAction"  # where it intervened, its own words stand in the answer's place


def is_rehearsal(base_url: str) -> bool:
    """Whether an address is that of a rehearsal's server."""
    return urlsplit(base_url).path.startswith(f"{REHEARSAL}/")


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
    return body | entry.extra_body if entry.extra_body else body


def _messages(chat: list[dict[str, str]], system_role: str) -> list[dict[str, str]]:
    if system_role == "system" or not chat or chat[0]["role"] != "system":
        return chat
    system, *rest = chat
    if system_role == "user" and rest:
        return [{**rest[0], "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{**system, "role": system_role}, *rest]


def outcome_of(body: bytes, price: Price | None, *, tags: Tags = KNOWN, key: str = "") -> Outcome:
    """What a response with status 200 says: an answer, or why it is none.

    `tags` mark reasoning in the text; `key` is in no text of ours, and in no answer where it is a secret.
    """
    if not body.strip():
        return Failure(FailureKind.MALFORMED, "the reply is empty")
    try:
        said = _parsed(body)
    except ValueError:
        return Failure(FailureKind.MALFORMED, f"the reply is not JSON: {shown(body, key)}")
    return parsed_outcome(said, price, tags=tags, key=key)


def _parsed(body: bytes) -> Any:
    """ValueError where a body is no JSON even if a letter cut in two and a number without end are forgiven."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        pass
    try:
        return _FORGIVING.decode(body.decode("utf-8", "replace").removeprefix("\ufeff").strip())
    except RecursionError:
        raise ValueError("nested without end") from None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else math.inf


_FORGIVING = json.JSONDecoder(strict=False, parse_int=_number)


def parsed_outcome(said: object, price: Price | None, *, tags: Tags = KNOWN, key: str = "") -> Outcome:
    """The same of a body that is parsed already. An error in place of an answer is that error, whatever the status."""
    error = error_within(said)
    if error is not None:
        return _refused(error, key)
    if not isinstance(said, dict):
        return Failure(FailureKind.MALFORMED, f"the reply is no JSON object: {shown(said, key)}")
    usage = said.get("usage")
    tokens = _usage(usage)
    cost, choice = cost_usd(price, *tokens), _first_choice(said)
    word, ending = _ended(choice, said.get(_GUARDRAIL))
    message = choice.get("message")
    failure = _broken_off(choice, word, ending, key) or (None if isinstance(message, dict) else _no_choice(said, key))
    if failure is not None:
        return replace(failure, cost_usd=cost, finish_reason_raw=word)
    text, thought = _said(message or {}, tags)
    if is_blank(text) or _ONLY_ENDS.fullmatch(text):
        if _is_filtered(choice):
            return Failure(FailureKind.CONTENT_FILTERED, "the provider's filter took the answer", cost, word)
        told = no_answer(thought, cut=ending is Ending.LENGTH, word=word, cost_usd=cost)
        return _no_text((message or {}).get("content"), key, cost, word) or told
    if 0 in tokens:
        tokens = _without_zeros(tokens, usage)
        cost = cost_usd(price, *tokens)
    answer = Answer(
        text,
        "length" if ending is Ending.LENGTH else "stop",
        *tokens,
        cost,
        reasoning=thought,
        returned_model=_string(said.get("model")),
        system_fingerprint=_string(said.get("system_fingerprint")),
        finish_reason_raw=word,
        declined=_declines(message or {}),
    )
    return _without_secret(answer, key) if key else answer


def _broken_off(choice: dict[str, Any], word: str | None, ending: Ending, key: str) -> Failure | None:
    """Why a choice is no answer, whatever its text."""
    for said in (choice, choice.get("message")):
        if has_error(said) and not is_fine(said["error"]):
            return _refused(error_of(said), key)
    if ending is Ending.FILTERED:
        detail = f"the provider's filter stopped the answer (finish_reason {shown(word, key)})"
        return Failure(FailureKind.CONTENT_FILTERED, detail)
    if ending is Ending.FAILED:
        return Failure(FailureKind.OVERLOADED, f"the provider broke off the answer (finish_reason {shown(word, key)})")
    return None


def _is_filtered(choice: dict[str, Any]) -> bool:
    """Whether Azure says so beside a word that does not."""
    found = _dict_in(choice, "content_filter_results", "content_filter_result")
    return any(isinstance(one, dict) and one.get("filtered") is True for one in found.values())


def _no_text(content: object, key: str, cost: float | None, word: str | None) -> Failure | None:
    """The failure of content that is something else than text; None where it is text, parts or nothing."""
    if content is None or isinstance(content, str | list):
        return None
    return Failure(FailureKind.MALFORMED, f"the content of the reply is no text: {shown(content, key)}", cost, word)


def _no_choice(said: dict[str, Any], key: str) -> Failure:
    return Failure(FailureKind.MALFORMED, f"the reply has no choices: {shown(said, key)}")


def _without_secret(answer: Answer, key: str) -> Outcome:
    """A server can repeat what it was sent. Nothing of an answer is rewritten, so such a one is none."""
    texts = (answer.text, answer.reasoning, answer.returned_model, answer.system_fingerprint, answer.finish_reason_raw)
    if not any(tells_key(text, key) for text in texts):
        return answer
    detail = f"the answer holds the account's {HIDDEN}, which no file may: it is not kept"
    return Failure(FailureKind.MALFORMED, detail, answer.cost_usd)


def _refused(error: dict[str, Any], key: str) -> Failure:
    """An error that came with status 200: what the code in it says. What a provider calls an error it does not bill."""
    detail = f"{status_in(error) or 200}: {shown(message_in(error) or error, key)}{remedy(error)}"
    return Failure(refusal_kind(200, error), detail, refused=True)


def refusal_of(status: int, body: bytes, key: str = "") -> Failure:
    """What a response with another status than 200 says; `key` is not in what we say of it."""
    error = error_in(body)
    detail = f"{status}: {shown(message_in(error) or body, key)}{remedy(error)}"
    return Failure(refusal_kind(status, error), detail, refused=True)


def cost_usd(price: Price | None, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
    """None where the price or the tokens are unknown: never zero for want of knowledge."""
    if price is None or prompt_tokens is None or completion_tokens is None:
        return None
    return (prompt_tokens * price.input + completion_tokens * price.output) / 1e6


def shown(value: object, key: str = "") -> str:
    """A provider's text on one line, cut, without the key and without what a terminal would take for orders."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else _written(value)
    line = without_key(" ".join(valid(text).split())[: _SHOWN * (len(key) + len(HIDDEN))], key)
    line = line if line.isprintable() else "".join(letter if letter.isprintable() else "\ufffd" for letter in line)
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _written(value: object) -> str:
    try:
        return str(value)
    except RecursionError:
        return type(value).__name__


def _first_choice(said: dict[str, Any]) -> dict[str, Any]:
    """The one with number 0, wherever it stands, else the first; empty where there is none.

    Of several that may be it the one with a text: a gateway may tell what was thought in a choice of its own (Copilot).
    """
    choices = said.get("choices")
    if not isinstance(choices, list) or not choices:
        return {}
    first = [choices[0]] if len(choices) == 1 else _may_be_first(choices)
    one = next(filter(_has_text, first), first[0]) if len(first) > 1 else first[0]
    return one if isinstance(one, dict) else {}


def _may_be_first(choices: list[Any]) -> list[Any]:
    zero = [choice for choice in choices if _is_number_0(choice)]
    unnumbered = [choice for choice in choices if isinstance(choice, dict) and choice.get("index") is None]
    return zero or unnumbered or choices[:1]


def _has_text(choice: dict[str, Any]) -> bool:
    message = choice.get("message")
    return isinstance(message, dict) and not is_blank(_parts(message.get("content"))[0])


def _is_number_0(choice: object) -> bool:
    return isinstance(choice, dict) and choice.get("index") in (0, "0")


def _ended(choice: dict[str, Any], guardrail: object) -> tuple[str | None, Ending]:
    """Why a choice ended, in the provider's word and in ours.

    A gateway may say "stop" for what went wrong behind it, and hand the word from there on beside it.
    """
    word = _word(next((choice[name] for name in _REASONS if choice.get(name) is not None), None))
    ending = ending_of(word)
    if ending is not Ending.STOP and ending is not Ending.UNKNOWN:
        return word, ending
    intervened = guardrail is not None and str(guardrail).endswith("INTERVENED")
    native = "guardrail_intervened" if intervened else _native(choice)
    if native is not None:
        behind = ending_of(native)
        if behind in (Ending.LENGTH, Ending.FILTERED, Ending.FAILED):
            return native, behind
    return word, ending


def _native(choice: dict[str, Any]) -> str | None:
    """As OpenRouter hands it on, or LiteLLM."""
    fields = choice.get("provider_specific_fields")
    beside = fields.get("native_finish_reason") if isinstance(fields, dict) else None
    return _word(choice.get("native_finish_reason") or beside)


def _word(reason: object) -> str | None:
    if isinstance(reason, dict) and isinstance(reason.get("type"), str):  # SGLang's
        reason = reason["type"]
    if isinstance(reason, list) and len(reason) == 1:
        reason = reason[0]
    if reason is None:
        return None
    return valid((reason if isinstance(reason, str) else _written(reason))[:_WORD])


def _usage(usage: object) -> tuple[int | None, int | None]:
    """(prompt, completion) tokens; what some count in the total alone is reasoning, billed as completion."""
    if not isinstance(usage, dict):
        return None, None
    asked, said, total = (usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if type(asked) is type(said) is type(total) is int and asked > 0 < said and asked + said == total <= _MOST_TOKENS:
        return asked, said  # as nearly always
    prompt = _first_count(usage, "prompt_tokens", "input_tokens")
    completion = _first_count(usage, "completion_tokens", "output_tokens")
    total = count_of(usage.get("total_tokens"))
    if total is None and completion is not None and (thought := _reasoning_tokens(usage) or 0) > completion:
        completion += thought  # more than all: so it is not counted with the answer
    if prompt is None or total is None or total == prompt + (completion or 0):
        return prompt, 0 if completion is None and total == prompt else completion
    unsaid = _unsaid(usage, prompt, total - prompt - (completion or 0))
    if completion is None:
        return prompt, unsaid
    return prompt, completion + (unsaid or 0)


def _unsaid(usage: dict[str, Any], prompt: int, rest: int) -> int | None:
    """Completion tokens that are in the total alone (Gemini's, xAI's); None where the total tells of none.

    A detail that counts reasoning bounds them. What was read from a cache or written to it, or came from tools, is
    the prompt's where its count leaves that out (Anthropic's, Bedrock's).
    """
    rest -= _beside_the_prompt(usage, prompt, rest)
    thought = _reasoning_tokens(usage)
    if thought is not None and _first_count(usage, "completion_tokens", "output_tokens") is not None:
        rest = min(rest, thought)
    return rest if 0 <= rest <= _MOST_UNSAID else None


def _beside_the_prompt(usage: dict[str, Any], prompt: int, rest: int) -> int:
    detail = _dict_in(usage, "prompt_tokens_details", "input_tokens_details")
    cached, tools = count_of(detail.get("cached_tokens")) or 0, count_of(detail.get("tool_use_tokens")) or 0
    read = count_of(usage.get("cache_read_input_tokens")) or 0
    written = count_of(usage.get("cache_creation_input_tokens")) or 0
    beside = read + written + tools
    if not read and (cached > prompt or rest in (cached, cached + written)):  # else it is part of the prompt
        beside += cached
    return beside


def _reasoning_tokens(usage: dict[str, Any]) -> int | None:
    detail = _dict_in(usage, "completion_tokens_details", "output_tokens_details")
    return _first_count({**usage, **detail}, "reasoning_tokens", "thoughts_token_count", "thinking_tokens")


def _dict_in(said: dict[str, Any], *names: str) -> dict[str, Any]:
    return next((said[name] for name in names if isinstance(said.get(name), dict)), {})


def _first_count(usage: dict[str, Any], *names: str) -> int | None:
    """The first that is more than nothing: a gateway may fill in one name and leave the other at 0."""
    first = None
    for name in names:
        if name in usage and (count := count_of(usage[name])) is not None:
            if count:
                return count
            first = 0
    return first


def _without_zeros(tokens: tuple[int | None, int | None], usage: Any) -> tuple[int | None, int | None]:
    """No text is asked for and said with no token: such a 0 is a count that nobody made.

    A prompt that came whole from a cache may be counted there alone.
    """
    prompt, completion = tokens
    cached = count_of(usage.get("cache_read_input_tokens")) or count_of(usage.get("cache_creation_input_tokens"))
    return (prompt if prompt or cached else None), completion or None


def count_of(value: object) -> int | None:
    """A number of tokens, however it is written (12, 12.0, "12"); None for what is no count."""
    if type(value) is int:  # as nearly always, and no bool
        return value if 0 <= value <= _MOST_TOKENS else None
    if isinstance(value, str):
        value = float(value) if _COUNT.fullmatch(value.strip()) else None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return count_of(value) if type(value) is int else None


def _said(message: dict[str, Any], tags: Tags) -> tuple[str, str | None]:
    """(the text, the reasoning) of a message: reasoning comes in fields, in parts, or between tags."""
    text, thought = _parts(message.get("content"))
    text = valid(text if text.strip() else _refusal(message) or _transcript(message))
    fields = [_text(message[name]) for name in _THOUGHTS if name in message]
    beside = [one for one in (thought, next(filter(None, fields), "")) if one]
    marked, text = tags.split(text, apart=bool(beside))
    thoughts = [*beside, marked] if marked else beside
    return text, valid("\n\n".join(thoughts)) if thoughts else None


def _transcript(message: dict[str, Any]) -> str:
    """The words of an answer that was spoken."""
    return _text(_dict_in(message, "audio").get("transcript"))


def _declines(message: dict[str, Any]) -> bool:
    """Whether the provider marks the text as a refusal: in a field, or by the type of a part."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    marked = message.get("refusal") is True or bool(_refusal(message))
    return marked or any(_is_refusal(part) for part in parts)


def _refusal(message: dict[str, Any]) -> str:
    """The text of its field; none where a null was written as a word."""
    text = _text(message.get("refusal"))
    return "" if text.strip().casefold() in _NOTHING else text


def _is_refusal(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "refusal"


def _parts(content: object) -> tuple[str, str]:
    """(the text, the reasoning) of a text, or of a list of parts."""
    if not isinstance(content, list):
        return _text(content), ""
    kinds: tuple[list[str], list[str]] = ([], [])
    for part in content:
        if not _is_material(part):
            kinds[_thinks(part)].append(_text(part))
    return "".join(kinds[False]), "".join(kinds[True])


def _thinks(part: object) -> bool:
    """Whether a part of a message is reasoning: Mistral's and Anthropic's say `thinking`, others `reasoning`."""
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    if part.get("thought") in (True, "true", "True") or (isinstance(kind, str) and _A_THOUGHT.search(kind)):
        return True
    return kind is None and "text" not in part and any(name in part for name in ("thinking", "reasoning"))


def _is_material(part: object) -> bool:
    """Whether a part is what the model was handed, or called for: a tool's result, a document."""
    kind = part.get("type") if isinstance(part, dict) else None
    return isinstance(kind, str) and _MATERIAL.search(kind) is not None


def _text(content: object, depth: int = 4) -> str:
    """A text, or the texts of parts, as deep as anybody nests them."""
    if isinstance(content, str):
        return content
    if not depth:
        return ""
    if isinstance(content, list):
        return "".join(_text(part, depth - 1) for part in content)
    if isinstance(content, dict):
        return next(filter(None, (_text(content.get(name), depth - 1) for name in _TEXTS)), "")
    return ""


def _string(value: object) -> str | None:
    return valid(value) if isinstance(value, str) else None
