"""What a provider means by not answering, in the dialects of those who speak OpenAI's protocol. Pure.

A code, a type, a status or a field decides, wherever a vendor puts it. Its words do so only for the few vendors whose
code says nothing (`_ONLY_SAID`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeGuard

from emoray.rate_limits.waits import number, wait_s
from emoray.study.outcomes import FailureKind, valid

_BY_STATUS = {
    401: FailureKind.AUTH,
    402: FailureKind.QUOTA_EXHAUSTED,
    403: FailureKind.AUTH,
    404: FailureKind.NO_SUCH_MODEL,
    407: FailureKind.AUTH,  # a proxy wants a login
    408: FailureKind.TIMEOUT,
    409: FailureKind.OVERLOADED,
    410: FailureKind.NO_SUCH_MODEL,
    412: FailureKind.QUOTA_EXHAUSTED,  # Portkey: a budget is spent
    413: FailureKind.CONTEXT_LENGTH,
    424: FailureKind.OVERLOADED,  # what stands behind a gateway has failed (Azure, Hugging Face)
    421: FailureKind.OVERLOADED,  # another server of theirs would have known
    423: FailureKind.OVERLOADED,  # a model that is being loaded
    425: FailureKind.OVERLOADED,
    444: FailureKind.OVERLOADED,  # nginx: closed without a word
    460: FailureKind.OVERLOADED,  # AWS: the client was gone
    429: FailureKind.RATE_LIMITED,
    446: FailureKind.CONTENT_FILTERED,  # Portkey, WSO2: a guardrail
    451: FailureKind.CONTENT_FILTERED,  # StepFun
    498: FailureKind.OVERLOADED,  # Groq: no capacity in the flex tier
    499: FailureKind.OVERLOADED,  # Google: cancelled
    501: FailureKind.BAD_REQUEST,  # what is there knows no such request
}
_BY_CODE = {  # whole codes
    "invalidprompt": FailureKind.CONTENT_FILTERED,  # OpenAI: flagged
    "1301": FailureKind.CONTENT_FILTERED,  # Zhipu
    "1113": FailureKind.QUOTA_EXHAUSTED,  # Zhipu: in arrears; then: a day's calls, a plan's
    "1304": FailureKind.QUOTA_EXHAUSTED,
    "1308": FailureKind.QUOTA_EXHAUSTED,
    "1309": FailureKind.QUOTA_EXHAUSTED,
    "1310": FailureKind.QUOTA_EXHAUSTED,
    "30001": FailureKind.QUOTA_EXHAUSTED,  # SiliconFlow
    "1261": FailureKind.CONTEXT_LENGTH,  # Zhipu
    "apikeyinvalid": FailureKind.AUTH,  # Gemini, with a 400
    "blockedapiaccess": FailureKind.QUOTA_EXHAUSTED,  # Groq: the limit that the organisation set itself
    "setlimitexceeded": FailureKind.QUOTA_EXHAUSTED,  # Volcengine: the limit that the account set itself
}
_PACE = r"(?:concurren|parallel|inflight|burst|[qrt]p[sm]|per(?:sec|min))"  # no quota, however it is called
_IN_CODES = (  # parts of codes, without case and punctuation
    (
        FailureKind.CONTENT_FILTERED,
        r"contentfilter|contentpolicy|contentmoderation|contentblocked|moderation|sensitivecontent|datainspection"
        r"|inspectionfailed|responsibleai|policyviolation|prohibitedcontent|promptblocked|censor|unsafe|guardrail"
        r"|safety(?!identifier)|flagged|riskcontrol|blocklist|blacklist|hooksfailed|safeguard"
        r"|contentviolation|contentrejected|jailbreak",
    ),
    (
        FailureKind.QUOTA_EXHAUSTED,
        rf"^(?!.*{_PACE}).*(?:currentquota|quotaexhausted|hardlimit)"
        r"|insufficient(?:user|token)?quota|tokenquotafailed|quotanotenough|billing"
        r"|insufficientfund|credit|balance(?!r)|arrear|overdue|paymentrequired|spend(?:ing)?limit|budgetexceeded"
        r"|exceededbudget|freetieronly|notpurchased|packexhausted|chargeresourceexhausted"
        r"|trialexpired|subscriptionexpired|daily|perday|byday|weekly|perweek|monthly|permonth|^[rt]pd(?:limit|$)",
    ),
    (
        FailureKind.CONTEXT_LENGTH,
        r"contextlength|contextwindow|contextsize|stringabovemaxlength|prompttoolong|inputtoolong|tokenstoolong|characterstoolong",
    ),
)
_OUT_OF_ORDER = (  # with a 5xx a part of the provider: `moderation_timeout`
    r"unavailable|timeout|timedout|deadline|unreachable|overload|servererror|serviceerror|servicefailed|servicefailure"
    r"|notready"
)
_DECIDED = (  # what such a part has found, whoever hands it on: `upstream_insufficient_credits`
    r"insufficient|exceeded|exhausted|depleted|reached|hardlimit|notactive|toolow|arrear|overdue|expired"
    r"|paymentrequired|violation|raised|blocked|flagged|intervened|prohibited|filterexception"
)
_A_PARTS_TROUBLE = re.compile(
    rf"{_OUT_OF_ORDER}|^(?!.*(?:{_DECIDED})).*(?:billing|upstream|internal|exception|backend)"
)
_OF_A_403 = (  # a code that says what else it is than a wrong key
    (FailureKind.RATE_LIMITED, re.compile(rf"ratelimit|toomanyrequests|throttl|{_PACE}.*(?:quota|limit)")),  # Google
    (
        FailureKind.QUOTA_EXHAUSTED,
        re.compile(
            r"quota(?:is)?(?:exceeded|exhausted|reached|limit|depleted)|(?:exceed(?:ed|s)?|over|outof)quota"
            r"|usagelimit|planlimit|tierlimit"
        ),
    ),
)
_FLAGGED = frozenset(
    {"flaggedinput", "reasons", "contentfilterresult", "contentfilterresults", "blockreason", "promptfeedback"}
    | {"inputguardrail", "outputguardrail"}
)
"""Fields that stand only where an ask was flagged (OpenRouter, Azure, Gemini, Databricks)."""
_TOO_LONG_PARAMS = frozenset({"input_tokens", "input_text"})  # how vLLM says it
_A_DAYS = re.compile(r"1/(?:d|mo|w)(?:/|$)")  # Google's unit of a quota
_NAMED = re.compile(r"\s*litellm\.(\w{1,60}): ")
"""The exceptions that LiteLLM's proxy writes before a message; its code then is no more than the status."""
_ASKS_TOO_MUCH = re.compile(r"max_(?:completion_|new_|output_)?tokens\W.{0,60}\btoo (?:large|big|high|many)", re.DOTALL)
_SAYS_LENGTH = (400, 413, 422)  # with another status the words are of something else: a pace, a crash
_STATUS_WORDS = (  # of a status in words, where a reply has none in numbers
    (429, r"ratelimit|toomanyrequests|throttl|resourceexhausted"),
    (408, r"timeout|timedout|deadlineexceeded"),
    (503, r"overload|unavailable|capacity|servererror|internal|upstream|badgateway|^apierror"),
    (401, r"authenticat|unauthori|apikey|invalidtoken"),
    (403, r"permission|forbidden|accessdenied"),
    (404, r"notfound|nosuch|doesnotexist"),
    (400, r"invalidrequest|badrequest|invalidargument|invalidparam|unsupported|validation"),
)
_SAYS_NOTHING = re.compile(  # a code that leaves it to the words
    r"|none|null|\d+|invalidrequest(?:error)?|badrequest(?:error)?|forbidden|permission(?:denied|error)"
    r"|(?:api|unknown|upstream|provider|newapi|oneapi|shellapi)?error|badresponsestatuscode"
    r"|validation(?:exception|error)|throttlingexception"
)
_ONLY_SAID = (  # read only where no code says anything
    (FailureKind.CONTENT_FILTERED, "content exists risk"),  # DeepSeek
    (FailureKind.CONTENT_FILTERED, "blocked by content filtering policy"),  # Anthropic
    (FailureKind.CONTENT_FILTERED, "content violates usage guidelines"),  # xAI
    (FailureKind.CONTENT_FILTERED, "input was flagged"),
    (FailureKind.CONTENT_FILTERED, "content management policy"),  # Azure behind a gateway
    (FailureKind.QUOTA_EXHAUSTED, "credit balance is too low"),  # Anthropic
    (FailureKind.QUOTA_EXHAUSTED, "reached your specified api usage limits"),  # Anthropic: its code is the same
    (FailureKind.QUOTA_EXHAUSTED, "used all available credits"),  # xAI
    (FailureKind.QUOTA_EXHAUSTED, "free-models-per-day"),  # OpenRouter
    (FailureKind.QUOTA_EXHAUSTED, "insufficient credit"),
    (FailureKind.QUOTA_EXHAUSTED, "insufficient balance"),
    (FailureKind.QUOTA_EXHAUSTED, "insufficient funds"),
    (FailureKind.QUOTA_EXHAUSTED, "key limit exceeded"),  # OpenRouter: what a key may spend, with a 403
    (FailureKind.QUOTA_EXHAUSTED, "out of call volume quota"),  # Azure's API Management, with a 403
    (FailureKind.QUOTA_EXHAUSTED, "token quota is exceeded"),
    (FailureKind.QUOTA_EXHAUSTED, "api calls / month"),  # Cohere's trial key
    (FailureKind.QUOTA_EXHAUSTED, "too many tokens per day"),  # Bedrock
    (FailureKind.CONTEXT_LENGTH, "maximum context length"),  # DeepSeek, Mistral, SGLang, older vLLM
    (FailureKind.CONTEXT_LENGTH, "prompt is too long:"),  # Anthropic
)
_OF_A_MINUTE = "error-code#token-limit"
"""What Alibaba links to beside insufficient_quota, which is its code for the tokens of a minute, too."""
_CLOUDFLARE = {"2016": "prompt_blocked", "2017": "content_blocked"}
_MINIMAX: dict[int, Any] = {1001: "timeout", 1002: "rate_limit", 1004: "unauthorized", 1008: "insufficient_balance"} | {
    **dict.fromkeys((1026, 1027), "sensitive_content"),
    **dict.fromkeys((1039, 1041, 2045), "rate_limit"),
    2013: "invalid_request",
    2049: "unauthorized",
    2056: "quota_exhausted",
}
_FAILED = frozenset({"error", "errored", "fail", "failed", "failure"})
_STATUSES = ("code", "status", "status_code", "statusCode", "http_status", "error_code")
_A_CODE = re.compile(r"[\w.:-]{1,80}", re.ASCII)
_MOST_WORDS = 6  # of a code: what is longer is said to people
_WRONG, _FORBIDDEN, _IN_TROUBLE = 400, 403, 500
_DENIED = 498
"""Cohere's status for a text that is not allowed; its errors have no more than a message (Groq's have a code)."""
_CODED = frozenset(
    [
        "code",
        "type",
        "status",
        "reason",
        "errorcode",
        "errortype",
        "providercode",
        "limitsource",
        "quotaid",
        "quotametric",
        "quotalimit",
    ]
)
_WAITS = (
    *("retry_after", "retryAfter", "retry_after_seconds", "retryAfterSeconds", "estimated_time"),
    *("resets_in_seconds", "reset_in_seconds"),
)
_MOMENTS = ("resets_at", "reset_at", "resetAt", "reset_time")  # no plain number of seconds from now
_WAITS_MS = ("retry_after_ms", "retryAfterMs", "retryAfterMS", "retry_after_milliseconds", "retryAfterMilliseconds")
_IN_MS = "retryAfter"  # as JavaScript writes it, whose clocks count milliseconds: often, and not always
_FEWEST_MS, _MINUTE_MS = 1000.0, 60_000.0
_HOUR_S, _DAY_S = 3600.0, 86_400.0
_A_MOMENT = 1e9  # a larger number is a time since 1970
_TEXTS = ("message", "msg", "error_msg", "status_msg", "detail", "title")
_FINE = frozenset({"0", "200", "success", "ok"})
_NO_ERROR = _FINE | {"none", "null", "no error", "false"}
_REMARKS = ("warning", "info")
_DEEP = 6  # levels of an error that are looked through


def refusal_kind(status: int, error: object) -> FailureKind:
    """What a response means that is no answer; `error` is the error object of its body, if there is one.

    With a status that is none (200) the code in the error stands for it; an error that tells none is the provider's.
    """
    if not isinstance(error, dict):
        # a page instead of an error object comes from something in between, and goes away; a 401 asks for a key
        page = status in (403, 404, 412)
        return FailureKind.MALFORMED if page else _of_status(status)
    by_code = _by_code(error, status if status >= 300 else status_in(error) or 0)
    if by_code is FailureKind.QUOTA_EXHAUSTED and _OF_A_MINUTE in message_in(error):
        return FailureKind.RATE_LIMITED
    if by_code is not None:
        return by_code
    if status == _DENIED and not _has_code(error):
        return FailureKind.CONTENT_FILTERED
    told = status if status >= 300 else status_in(error)
    text = message_in(error).lower() if _leaves_it_to_words(error) else ""
    return next((kind for kind, words in _ONLY_SAID if words in text and _can_say(told, kind)), _of_status(told or 500))


def remedy(error: object) -> str:
    """What to change, as the end of a sentence, where not the prompt is too long but the answer that is allowed."""
    return "; lower max_tokens" if _ASKS_TOO_MUCH.search(message_in(error)) else ""


def _can_say(status: int | None, kind: FailureKind) -> bool:
    return kind is not FailureKind.CONTEXT_LENGTH or status is None or status in _SAYS_LENGTH


def _has_code(error: dict[str, Any]) -> bool:
    return any(error.get(name) not in (None, "", _DENIED, str(_DENIED)) for name in ("code", "type", "status"))


def _leaves_it_to_words(error: dict[str, Any]) -> bool:
    codes = [error[name] for name in ("code", "type") if isinstance(error.get(name), str)]
    return all(" " in code or _SAYS_NOTHING.fullmatch(_plain(code)) for code in codes)


def status_in(error: Mapping[str, Any]) -> int | None:
    """The HTTP status that an error object tells, as a number, as a numeral or in words."""
    told = [error.get(name) for name in _STATUSES]
    numbers = [int(one) for one in told if _is_whole(one)]
    in_words = [
        _plain(one) for one in (*told, *map(error.get, ("type", "error_type", "reason"))) if isinstance(one, str)
    ]
    found = (status for word in in_words for status, pattern in _STATUS_WORDS if re.search(pattern, word))
    return next((n for n in numbers if 400 <= n <= 599), None) or next(found, None)


def error_in(body: bytes) -> dict[str, Any] | None:
    """The error object of a body: OpenAI puts it under `error`, Gemini that into a list, vLLM sends a text there."""
    return _error_in(_parsed(body))


def _error_in(said: object) -> dict[str, Any] | None:
    if isinstance(said, list) and said:
        said = said[0]
    return error_of(said) if isinstance(said, dict) else None


def _parsed(body: bytes) -> Any:
    """None for what is no JSON; a code is in ASCII, whatever stands beside it."""
    with suppress(ValueError, RecursionError):
        return json.loads(body)
    with suppress(ValueError, RecursionError):
        return json.loads(body.decode("utf-8", "replace"))
    return None


def error_of(said: dict[str, Any]) -> dict[str, Any]:
    """The same of a body that is parsed already; the whole of it where nothing in it is an error object."""
    error = said.get("error") or said.get("errors")
    if isinstance(error, list) and error:
        return _of_cloudflare(error[0], said)
    if isinstance(error, dict) and error:
        return {**{name: said[name] for name in _STATUSES if name in said}, **error}
    if isinstance(error, str) and error:
        return _of_text(error, {name: value for name, value in said.items() if name != "error"})
    if _is_status(error):
        return {**said, "status": error}
    minimax = said.get("base_resp")
    if isinstance(minimax, dict) and minimax.get("status_code") not in (None, "", 0, "0"):
        code = minimax["status_code"]
        return {
            "message": minimax.get("status_msg"),
            "code": _MINIMAX.get(int(code), code) if _is_whole(code) else code,
        }
    return said


def _of_text(error: str, beside: dict[str, Any]) -> dict[str, Any]:
    """A text in place of an error object: the message, beside its code (xAI, Spring), or the code (OAuth)."""
    if message_in(beside) and _A_CODE.fullmatch(error):
        return {"error_type": error, **beside}
    return {**beside, "message": error, **({"error_type": error} if _A_CODE.fullmatch(error) else {})}


def _of_cloudflare(error: object, said: dict[str, Any]) -> dict[str, Any]:
    """Its codes are numbers that mean something else with others."""
    if not isinstance(error, dict):
        return {**said, "message": error} if isinstance(error, str) else said
    code = error.get("code")
    return {**error, "code": _CLOUDFLARE.get(str(code).strip(), code) if isinstance(code, str | int) else code}


def is_fine(error: object) -> bool:
    """Whether an error object says that there was none, as some gateways write beside every answer."""
    if isinstance(error, str):
        return error.strip().casefold() in _NO_ERROR
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(error, dict):
        if error.get("type") in _REMARKS:
            return True
        if code in (None, "", "none"):
            return not error.get("type") and message_in(error).strip().casefold() in _NO_ERROR | {""}
    return isinstance(code, str | int) and str(code).strip().casefold() in _FINE


def error_within(said: object) -> dict[str, Any] | None:
    """The error object of a body that came as a success, for which it stands whatever else is there; None without."""
    if isinstance(said, list) and said:  # Gemini's
        said = said[0]
    if not isinstance(said, dict):
        return None
    base = said.get("base_resp")  # MiniMax'
    if (has_error(said) and not (said.get("choices") and is_fine(said["error"]))) or (
        isinstance(base, dict) and base.get("status_code") not in (None, "", 0, "0")
    ):
        return error_of(said)
    return error_of(said) if not said.get("choices") and _is_marked(said) else None


def _is_marked(said: dict[str, Any]) -> bool:
    """Whether something else says that a body without an answer is an error."""
    codes = [said.get(name) for name in ("code", "error_code", "err_code", "errno")]
    statuses = [int(status) for status in map(said.get, _STATUSES) if _is_whole(status)]
    words = [str(said.get(name)).casefold() for name in ("type", "object", "status", "state")]
    return (
        any(code not in (None, "") and str(code).strip().casefold() not in _FINE for code in codes)
        or any(status >= 400 for status in statuses)
        or not _FAILED.isdisjoint(words)
        or False in (said.get("success"), said.get("ok"))
        or "promptFeedback" in said
        or bool(said.get("errors"))
    )


def has_error(said: object) -> TypeGuard[dict[str, Any]]:
    """Whether an error stands under `error`, or that there is one (true, 503): null and emptiness are none."""
    error = said.get("error") if isinstance(said, dict) else None
    if error is None:  # as nearly always
        return False
    if isinstance(error, dict):
        return any(error.values())
    return error is True or _is_status(error) or (isinstance(error, str | list) and any(error))


def _is_status(error: object) -> TypeGuard[int]:
    return type(error) is int and error >= 400


def is_stream(body: bytes) -> bool:
    """Whether a reply is a stream of server-sent events."""
    return body.lstrip()[:6] in (b"data: ", b"event:") or body.lstrip().startswith((b"data:", b": "))


def message_in(error: object) -> str:
    """What an error object says for people, with what stood behind a gateway; empty where it says nothing."""
    if not isinstance(error, dict):
        return error if isinstance(error, str) else ""
    told = next((error[name] for name in _TEXTS if error.get(name)), "")
    text = told if isinstance(told, str) else _in_words(told)
    metadata = error.get("metadata")
    behind = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter
    whole = f"{text}: {behind}" if isinstance(behind, str) and behind else text
    return valid(whole)


def _in_words(told: object) -> str:
    """What is no text; of a list of pydantic's complaints where and what, without the input that each repeats."""
    if isinstance(told, list) and told and all(isinstance(one, dict) and "msg" in one for one in told):
        return "; ".join(f"{_place(one.get('loc'))}{one['msg']}" for one in told)
    return json.dumps(told, ensure_ascii=False)


def _place(loc: object) -> str:
    return f"{'.'.join(map(str, loc))}: " if isinstance(loc, list) else ""


def told_to_wait_s(body: bytes, now: datetime | None = None, ours: datetime | None = None) -> float | None:
    """What the body of a refusal says of waiting, in place of a header: Gemini's RetryInfo, or OpenRouter's headers.

    `now` is by the clock of who answered, `ours` by our own (see `wait_s`).
    """
    whole = _parsed(body)
    error = _error_in(whole) or {}
    now = now or datetime.now(UTC)
    delays = [wait_s(_string(detail.get("retryDelay")), now, ours) for detail in _details(error)]
    metadata = error.get("metadata")
    found = (error, metadata, error.get("details"), error.get("detail"), whole)
    places = [one for one in found if isinstance(one, dict)]
    delays += [_wait_in(place, name, now, ours) for place in places for name in (*_WAITS, *_WAITS_MS, *_MOMENTS)]
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    resets = (
        [_string(value) for name, value in headers.items() if name.lower() == "x-ratelimit-reset"]
        if (isinstance(headers, dict))
        else []
    )
    told = [*delays, *(wait_s(reset, now, ours) for reset in resets)]
    return next((wait for wait in told if wait is not None), None)


def _wait_in(place: dict[str, Any], name: str, now: datetime, ours: datetime | None) -> float | None:
    told = _string(place.get(name))
    plain = number(told)
    if plain is None:
        return wait_s(told, now, ours)
    if name in _WAITS_MS or (name == _IN_MS and _counts_ms(plain)):
        return plain / 1000.0
    if name in _MOMENTS and plain < _A_MOMENT:
        return None  # of whatever unit, from whatever moment
    return wait_s(told, now, ours)


def _counts_ms(plain: float) -> bool:
    """Whether a number under JavaScript's name is of milliseconds; where it may be, to ask early costs less than to
    end a lane for hours that nobody meant.

    Whole hours that are no whole seconds of milliseconds (3600, 43200, 86400) are hours, and so are whole days and
    the whole hours of one; else what is below a minute or whole seconds in milliseconds is that, and 86399 a day.
    """
    if not _FEWEST_MS <= plain < _A_MOMENT:
        return False
    whole, hours = plain % 1000.0 == 0.0, plain % _HOUR_S == 0.0
    if plain <= _MINUTE_MS:
        return whole or not hours
    return whole and not (hours and plain < _DAY_S) and plain % _DAY_S != 0.0


def _by_code(error: dict[str, Any], status: int) -> FailureKind | None:
    """Where a server is in trouble by its status, a code may name the part of it that is."""
    told = list(_told(error))
    codes = [_plain(value) for name, value in told if name in _CODED and len(value.split()) <= _MOST_WORDS]
    codes += map(_plain, _named(message_in(error)))
    if status >= _IN_TROUBLE:
        codes = [code for code in codes if not _A_PARTS_TROUBLE.search(code)]
    if any(name in _FLAGGED for name, _ in told):
        return FailureKind.CONTENT_FILTERED
    for kind, pattern in _IN_CODES:
        if any(_BY_CODE.get(code) is kind or re.search(pattern, code) for code in codes):
            return kind
    if any(name == "quotaunit" and _A_DAYS.match(value) for name, value in told):
        return FailureKind.QUOTA_EXHAUSTED
    if error.get("param") in tuple(_TOO_LONG_PARAMS):
        return FailureKind.CONTEXT_LENGTH
    if any(_BY_CODE.get(code) is FailureKind.AUTH for code in codes):
        return FailureKind.AUTH
    said = (kind for kind, words in _OF_A_403 if any(map(words.search, codes)))
    meant = next(said, None) if status in (_FORBIDDEN, _WRONG) else None
    return meant if status == _FORBIDDEN or meant is FailureKind.RATE_LIMITED else None


def _named(message: str) -> Iterator[str]:
    """The names before a message: what stands further on may be an echo of what was asked."""
    at = 0
    while found := _NAMED.match(message, at):
        yield found[1]
        at = found.end()


def _told(value: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """All names and texts of an error object, however deep; a JSON text of a gateway's is looked through, too."""
    if isinstance(value, dict) and depth < _DEEP:
        for key, inner in value.items():
            if inner not in (None, "", [], {}):
                yield _plain(key), ""
                yield from _told(inner, _plain(key), depth + 1)
    elif isinstance(value, list) and depth < _DEEP:
        for inner in value[:20]:
            yield from _told(inner, name, depth + 1)
    elif isinstance(value, str):
        yield name, value
        if value.startswith("{") and depth < _DEEP:
            yield from _told(error_in(value.encode("utf-8", "replace")), "", depth + 1)
    elif _is_whole(value):
        yield name, str(int(value))


def _of_status(status: int) -> FailureKind:
    return _BY_STATUS.get(status, FailureKind.OVERLOADED if status >= 500 else FailureKind.BAD_REQUEST)


def _plain(text: object) -> str:
    """Without case and punctuation: insufficient_quota, InsufficientQuota and insufficient-quota are one code."""
    return re.sub(r"[^0-9a-z]", "", str(text).lower())


def _is_whole(value: object) -> TypeGuard[int | float | str]:
    if isinstance(value, str):
        return value.strip().isdecimal() and len(value) < 10
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _details(error: dict[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _string(value: object) -> str | None:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
