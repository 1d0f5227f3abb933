"""What a lane makes of being refused: whose trouble it is, whether it passes, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from emoray.hosts.belief import ALIKE, Belief, Verdict
from emoray.hosts.hosted_api import HostedApi, patience
from emoray.hosts.openai_protocol import outcome_of, refusal_of
from emoray.hosts.protocol import HostDown
from emoray.hosts.refusals import told_to_wait_s
from emoray.rate_limits.headers import heard, until_reset_s
from emoray.rate_limits.local import LocalLimiter
from emoray.rate_limits.waits import retry_after_s, their_now, wait_s
from emoray.rehearsal.responses import completion
from emoray.spec.accounts import Account, Retry
from emoray.study.outcomes import Failure, FailureKind
from tests.hosts.raw import raw_server
from tests.hosts.test_hosted_api import asks, entry, kinds, only, patient, serving, until_down

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@dataclass
class Scripted:
    """A provider that says these one after the other, and then answers; it keeps what it was asked."""

    says: list[web.Response | None] = field(default_factory=list)
    always: Callable[[], web.Response] | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        self.headers.append(dict(request.headers))
        said = self.says.pop(0) if self.says else self.always() if self.always else None
        return said or web.json_response(completion(self.asked[-1], "Yes.", ""))


@contextmanager
def lane(
    says: Scripted | Callable[[web.Request], Awaitable[web.Response]],
    retry: Retry | None = None,
    had_answers: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> Iterator[HostedApi]:
    with serving(says if not isinstance(says, Scripted) else says.answer) as url:
        account, limiter = Account(base_url=f"{url}/v1"), LocalLimiter()
        host = HostedApi(entry(**settings), account, retry or patient(), limiter, had_answers=had_answers)
        yield host
        host.close()


def refused(status: int, error: Any, **headers: str) -> web.Response:
    return web.json_response(error, status=status, headers={name.replace("_", "-"): of for name, of in headers.items()})


def openai_error(message: str = "no", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more}


# ── whose trouble it is ────────────────────────────────────────────────────────────────────────────────────────────

FLAGGED: list[tuple[int, Any]] = [
    (403, {"error": {"code": 403, "message": "no", "metadata": {"reasons": ["violence"], "flagged_input": "kill"}}}),
    (403, {"error": {"code": 403, "message": "no", "metadata": {"raw": '{"error": {"code": "content_filter"}}'}}}),
    (400, openai_error(innererror={"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {}}})),
    (400, openai_error(innererror={"content_filter_result": {"hate": {"filtered": True}}})),
    (400, openai_error(code="content_policy_violation")),
    (400, openai_error(code="moderation_blocked", type="image_generation_user_error")),
    (400, openai_error(code="invalid_prompt")),
    (400, {"error": {"code": "1301", "message": "unsafe"}}),  # Zhipu
    (400, {"error": {"code": "data_inspection_failed", "message": "no", "type": "data_inspection_failed"}}),  # Alibaba
    (400, {"code": "DataInspectionFailed", "message": "no", "request_id": "1"}),
    (400, {"error": {"type": "content_filter", "message": "high risk"}}),  # Moonshot
    (400, {"error": {"code": "InputTextSensitiveContentDetected", "message": "no"}}),  # Volcengine
    (400, {"error": {"type": "unsafe_request", "code": "input_text_unsafe", "message": "no"}}),  # Baidu
    (400, openai_error("Content Exists Risk", code="invalid_request_error")),  # DeepSeek, whose code says nothing
    (403, {"code": "permission-denied", "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_1"}),
    (451, {"error": {"type": "censorship_blocked", "message": "no"}}),
    (451, "<html>"),
    (446, {"error": {"message": "The guardrail checks failed.", "type": "hooks_failed", "param": None, "code": None}}),
    (400, openai_error(type="hooks_failed")),
    (446, {"error": {"message": "no"}, "hook_results": {}}),
    *(
        (status, {"success": False, "error": [{"code": code, "message": "blocked"}]})  # Cloudflare's gateway
        for status in (200, 400, 403, 424, 500)
        for code in (2016, 2017, "2016")
    ),
    (424, {"success": False, "result": None, "errors": [{"code": 2017, "message": "blocked"}]}),
    (500, openai_error(code="content_filter")),
    (498, {"id": "a", "message": "no"}),  # Cohere: a word that is on a list
    (400, {"input_guardrail": [{"flagged": True}], "finishReason": "input_guardrail_triggered"}),  # Databricks
    (
        400,
        openai_error(
            "litellm.ContentPolicyViolationError: … Azure OpenAI's content management policy", type="None", code="400"
        ),
    ),
    (400, openai_error("litellm.ContentPolicyViolationError: litellm.BadRequestError: no", type=None, code="400")),
    (400, openai_error("Output blocked by content filtering policy", type="ValidationException")),  # Bedrock
    (500, openai_error(type="ContentFilterException")),
    (500, openai_error(type="GuardrailRaisedException")),
    (500, openai_error(type="ContentPolicyViolationException")),
    (502, openai_error(code="upstream_prompt_blocked")),
]
SPENT: list[tuple[int, Any]] = [
    (402, {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}}),
    (402, "<html>"),
    (429, openai_error(code="insufficient_quota", type="insufficient_quota")),
    (429, openai_error(type="exceeded_current_quota_error")),  # Moonshot
    (429, {"error": {"code": "1113", "message": "in arrears"}}),  # Zhipu
    (429, {"error": {"code": 1304, "message": "today's calls"}}),
    (429, {"error": {"code": "QUOTA_USER_DAILY_REQUEST", "message": "no"}}),  # Baidu
    (400, {"error": {"code": "Arrearage", "type": "Arrearage", "message": "no"}}),  # Alibaba
    (403, {"error": {"code": "AccountOverdueError", "message": "no"}}),  # Volcengine
    (403, {"code": 30001, "message": "no", "data": None}),  # SiliconFlow
    (400, openai_error("Your credit balance is too low to access the API.")),  # Anthropic, whose code says nothing
    (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "You have reached your specified API "
        "usage limits. You will regain access on 2027-01-01 at 00:00 UTC."}}),
    (412, {"error": {"message": "budget exhausted", "code": "04"}}),  # Portkey
    (429, openai_error("You exceeded your current quota. For details, see: https://help.aliyun.com/zh/model-studio/"
        "error-code#free-quota", code="insufficient_quota")),
    (400, {"error": {"code": 400, "message": "Insufficient credits"}}),  # of some gateway, whose code says nothing
    (429, {"code": "Some resource has been exhausted", "error": "Your team has used all available credits or"}),  # xAI
    (400, openai_error(type="billing_error")),
    (400, openai_error(code="credit_balance_too_low")),
    (429, {"error": {"code": 429, "message": "no", "metadata": {"limit_source": "openrouter_free_tier_daily"}}}),
    (429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "no", "details": [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [
            {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"},
            {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s"}]}}),
    (429, {"error": {"code": 429, "message": "no", "details": [{"metadata": {"quota_unit": "1/d/{project}"}}]}}),
    (400, openai_error("Budget has been exceeded!", type="budget_exceeded", code="400")),  # LiteLLM
    (429, openai_error("litellm.BudgetExceededError: no", type=None, code="429")),
    (403, openai_error("no", type="v_api_error", code="insufficient_user_quota")),  # One API and its kin
    (403, openai_error("no", type="new_api_error", code="pre_consume_token_quota_failed")),
    (403, {"error": {"message": "Key limit exceeded (monthly limit). Manage it using https://…", "code": 403}}),
    (403, {"error": {"code": "AllocationQuota.FreeTierOnly", "message": "no"}}),  # Alibaba
    (400, openai_error(code="blocked_api_access")),  # Groq
    (429, {"error": {"code": "SetLimitExceeded", "message": "no", "type": "TooManyRequests"}}),  # Volcengine
    (429, {"id": "a", "message": "You are using a Trial key, which is limited to 1000 API calls / month."}),  # Cohere
    (429, {"message": "Too many tokens per day, please wait before trying again.", "type": "ThrottlingException"}),
    (403, {"error": "insufficient_quota"}),
    (403, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 01:08:05."}),  # Azure
    (400, {"error": "INSUFFICIENT_CREDITS", "message": "no"}),
    (429, {"detail": {"code": "insufficient_quota", "message": "no"}}),
    (403, openai_error(code="user_quota_exceeded")),
    (403, {"error": {"code": "PLAN_LIMIT", "message": "no"}}),
    (429, openai_error(code="RPD_LIMIT")),
    (429, openai_error(code="billing_hard_limit_reached")),
    (401, {"error": {"code": "TrialExpired", "message": "no"}}),
    # a part of the provider says it to another one, which answers with its own trouble
    (500, openai_error(code="billing_hard_limit_reached")),
    (500, openai_error(code="billing_not_active")),
    (502, openai_error(code="upstream_insufficient_credits")),
    (500, openai_error(type="BudgetExceededException")),
    (500, openai_error(type="QuotaExhaustedException")),
    (500, openai_error(type="upstream_error", code="insufficient_quota")),
    (429, openai_error(code="hard_limit_reached")),
    (403, openai_error(code="quota_reached")),
    (403, openai_error(code="exceeded_quota")),
]  # fmt: skip
OTHERS: list[tuple[int, Any, str]] = [
    (429, {"error": {"code": 429, "message": "no", "details": [{"violations": [
        {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]}]}}, "rate_limited"),
    (429, openai_error(type="tokens", code="rate_limit_exceeded"), "rate_limited"),
    (429, {"error": {"code": "1302", "message": "too many at once"}}, "rate_limited"),
    (429, openai_error("You exceeded your current quota, please check your plan and billing details. For details, see: "
        "https://help.aliyun.com/zh/model-studio/error-code#token-limit", type="insufficient_quota",
        code="insufficient_quota"), "rate_limited"),
    (412, "<html>", "malformed"),
    (400, {"error": {"code": 2016, "message": "no"}}, "bad_request"),  # not Cloudflare's
    (424, {"success": False, "error": [{"code": 2018, "message": "no"}]}, "overloaded"),
    (400, openai_error("You have reached your specified API usage limits", code="invalid_value"), "bad_request"),
    (403, openai_error(code="unsupported_country_region_territory"), "auth"),
    (403, {"error": {"code": "PERMISSION_DENIED", "message": "no"}}, "auth"),
    (400, openai_error("no more insufficient credits", code="invalid_value"), "bad_request"),
    (429, openai_error("Insufficient credits of this minute", code="rate_limit_exceeded"), "rate_limited"),
    (403, openai_error("the input was flagged", code="account_suspended"), "auth"),
    (424, openai_error(), "overloaded"),
    (498, openai_error(), "overloaded"),
    (498, "", "overloaded"),
    (501, "<html>Unsupported method ('POST')</html>", "bad_request"),
    (407, "<html>", "auth"),
    (429, {"id": "a", "message": "You are using a Trial key, which is limited to 20 API calls / minute."},
        "rate_limited"),
    (429, {"error": {"message": "slow down", "reason": "You can have more requests a minute: see the billing page"}},
        "rate_limited"),
    (401, {"status": 401, "error": "Unauthorized", "message": "no"}, "auth"),
    (429, {"message": "Too many requests", "type": "ThrottlingException"}, "rate_limited"),
    (499, "", "overloaded"),
    *((status, "", "overloaded") for status in (520, 522, 524, 529, 530)),
    (400, {"error": {"message": ["a"], "code": ["b"], "param": {"c": 1}, "type": 3}}, "bad_request"),
    (400, openai_error(code="load_balancer_error"), "bad_request"),
    (400, {"error": {"code": "1261", "message": "too long"}}, "context_length"),
    (400, openai_error("litellm.ContextWindowExceededError: litellm.BadRequestError: no", type=None, code="400"),
        "context_length"),
    (400, openai_error("of litellm.BudgetExceededError and its kin", code="invalid_value"), "bad_request"),
    (400, openai_error("litellm.BadRequestError: The prompt 'litellm.BudgetExceededError: foo' is bad", code="400"),
        "bad_request"),
    (400, openai_error("The prompt 'litellm.ContentPolicyViolationError: foo' is bad", code="400"), "bad_request"),
    (400, openai_error("litellm.BadRequestError: litellm.ContextWindowExceededError: no", code="400"),
        "context_length"),
    *((status, openai_error("Of this model's maximum context length only 9 a minute", type=None), kind)
        for status, kind in ((429, "rate_limited"), (500, "overloaded"), (503, "overloaded"),
                             (413, "context_length"), (422, "context_length"))),
    (429, {"type": "error", "error": {"type": "error", "message": "prompt is too long: 9 > 8"}}, "rate_limited"),
    # llama.cpp's, and vLLM's
    (400, {"error": {"code": 400, "message": "no", "type": "exceed_context_size_error"}}, "context_length"),
    (400, {"object": "error", "message": "This model's maximum context length is 2048 tokens.", "code": 400,
        "type": "BadRequestError"}, "context_length"),
    (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}},
        "context_length"),
    (400, openai_error("The maximum context length of a tool is 9", code="invalid_value"), "bad_request"),
    (422, {"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}, "bad_request"),
    (400, {"object": "error", "message": "Prompt has 9 tokens, too large for 8 maximum context length", "code": "3051",
        "type": "invalid_request_error"}, "context_length"),  # Mistral
    *((status, "", "overloaded") for status in (421, 423, 444, 460)),
    (400, {"__type": "com.amazon.coral.service#ThrottlingException", "message": "no"}, "rate_limited"),  # Bedrock
    (400, openai_error(code="rate_limit_exceeded"), "rate_limited"),
    (400, openai_error(code="quota_exceeded_for_field"), "bad_request"),
    # a part of the provider is in trouble, and the code says which
    (503, openai_error(code="billing_service_unavailable"), "overloaded"),
    (500, openai_error(type="billing_error"), "overloaded"),
    (504, openai_error(code="moderation_timeout"), "overloaded"),
    (502, openai_error(code="content_filter_upstream_error"), "overloaded"),
    (503, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "no", "details": [
        {"reason": "CREDIT_SERVICE_INTERNAL"}]}}, "overloaded"),
    (200, openai_error(code="billing_service_unavailable"), "overloaded"),
    (402, {"error": True, "message": "no"}, "quota_exhausted"),
    (403, {"error": {"code": 403, "message": "no", "errors": [{"reason": "rateLimitExceeded"}]}}, "rate_limited"),
    (429, openai_error(code="quota_exceeded"), "rate_limited"),
    (400, openai_error(code="jailbreak_detected"), "content_filtered"),
    (500, {"error": 429, "message": "no"}, "overloaded"),
    (500, openai_error(code="insufficient_user_quota"), "quota_exhausted"),
    (500, openai_error(code="content_policy_violation"), "content_filtered"),
    (500, openai_error(type="ContextWindowExceededException"), "context_length"),
    (500, openai_error(code="moderation_deadline_exceeded"), "overloaded"),
    (503, openai_error(code="billing_timeout_exceeded"), "overloaded"),
    (500, openai_error(type="ModerationException"), "overloaded"),
    *((429, openai_error(code=code), "rate_limited") for code in (
        "concurrency_hard_limit", "qps_hard_limit_exceeded", "rpm_quota_exhausted", "quota_exhausted_tpm",
        "requests_per_minute_hard_limit")),
    (403, openai_error(code="concurrency_quota_exceeded"), "rate_limited"),
    (403, openai_error(code="model_not_in_quota_group"), "auth"),
    (403, openai_error(code="invalid_api_key", type="quota_check"), "auth"),
]  # fmt: skip


def of(status: int, body: Any) -> Failure:
    return refusal_of(status, (body if isinstance(body, str) else json.dumps(body)).encode())


@pytest.mark.parametrize(("status", "body"), FLAGGED)
def test_what_was_flagged_is_a_matter_of_that_ask_in_every_dialect(status: int, body: Any) -> None:
    assert of(status, body).kind is FailureKind.CONTENT_FILTERED


@pytest.mark.parametrize(("status", "body"), SPENT)
def test_a_quota_that_is_spent_is_hopeless_in_every_dialect(status: int, body: Any) -> None:
    assert of(status, body).kind is FailureKind.QUOTA_EXHAUSTED


@pytest.mark.parametrize(("status", "body", "kind"), OTHERS)
def test_what_only_resembles_them_is_neither(status: int, body: Any, kind: str) -> None:
    assert of(status, body).kind == kind


def test_what_a_provider_says_for_people_is_the_detail_wherever_it_says_it() -> None:
    raw = '{"error": {"message": "too warm"}}'
    behind = of(400, {"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": raw}}})
    assert "too warm" in behind.detail
    assert of(404, {"detail": "Not Found"}).detail == "404: Not Found"
    assert of(401, {"error": "invalid_token", "message": "It is over."}).detail == "401: It is over."
    assert of(401, {"error": "invalid_token"}).detail == "401: invalid_token"
    complaint = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Not permitted", "input": "You feel glad."}
    assert of(422, {"detail": [complaint, {"msg": "No."}]}).detail == "422: body.seed: Not permitted; No."
    assert of(422, {"detail": {"why": ["no"]}}).detail == '422: {"why": ["no"]}'


def test_an_answer_that_may_be_longer_than_a_model_holds_is_told_by_max_tokens() -> None:
    too_large = (
        "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 "
        "tokens and your request has 20 input tokens (5000 > 4096 - 20). (parameter=max_tokens, value=5000)"
    )
    told = refusal_of(400, json.dumps(openai_error(too_large, type="BadRequestError", code=400)).encode())
    assert told.kind == "context_length"
    assert told.detail.endswith("; lower max_tokens")
    long_prompt = openai_error("This model's maximum context length is 20 tokens, and your prompt has 30")
    assert "max_tokens" not in refusal_of(400, json.dumps(long_prompt).encode()).detail


def test_half_an_emoji_in_an_errors_message_does_no_harm() -> None:
    assert of(400, '{"error": {"message": "no \\ud83d"}}').detail.encode().startswith(b"400: no ")


def test_a_code_is_read_beside_a_text_in_no_charset_that_anybody_knows() -> None:
    body = b'{"error": {"message": "d\xe9pass\xe9", "code": "insufficient_quota"}}'
    assert refusal_of(429, body) == Failure(FailureKind.QUOTA_EXHAUSTED, "429: d\ufffdpass\ufffd")


def test_what_a_gateway_has_blocked_is_so_with_a_success_too() -> None:
    blocked = json.dumps({"success": False, "error": [{"code": 2016, "message": "Prompt blocked"}]}).encode()
    told = outcome_of(blocked, None)
    assert isinstance(told, Failure)
    assert (told.kind, told.refused, told.detail) == (FailureKind.CONTENT_FILTERED, True, "200: Prompt blocked")


def test_one_flagged_ask_is_a_failure_of_its_own_and_the_lane_goes_on() -> None:
    status, body = FLAGGED[0]

    async def flags_seed_7(request: web.Request) -> web.Response:
        asked = await request.json()
        return refused(status, body) if asked["seed"] == 7 else web.json_response(completion(asked, "Yes.", ""))

    with lane(flags_seed_7) as host:
        replies = list(host.generate(asks(40)))
    assert kinds(replies) == {"answer": 39, "content_filtered": 1}
    assert [reply.key for reply in replies if isinstance(reply.outcome, Failure)] == [asks(8)[7].key]


@pytest.mark.parametrize(("status", "body"), [SPENT[0], SPENT[-2]])
def test_a_quota_that_is_spent_ends_the_lane(status: int, body: Any) -> None:
    says = Scripted(always=lambda: refused(status, body))
    with lane(says, in_flight=4) as host:
        replies, stopped = until_down(host, asks(200))
    assert "is exhausted" in str(stopped)
    assert kinds(replies).keys() == {"quota_exhausted"}
    assert len(says.asked) <= 4


# ── a 200 that is none ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 502, "message": "Provider returned error"}, "overloaded"),
        ({"code": "429", "message": "slow down"}, "rate_limited"),
        ({"code": "rate_limit_exceeded", "message": "slow down"}, "rate_limited"),
        ({"code": 402, "message": "Insufficient credits"}, "quota_exhausted"),
        ({"code": 401, "message": "no"}, "auth"),
        ({"code": 400, "message": "no"}, "bad_request"),
        ({"type": "overloaded_error", "message": "no"}, "overloaded"),
        ({"status": "UNAVAILABLE", "message": "no"}, "overloaded"),
        ({"code": "content_filter", "message": "no"}, "content_filtered"),
        ({"code": True, "message": "no"}, "overloaded"),
        ("something went wrong", "overloaded"),
    ],
)
def test_an_error_object_means_what_its_code_says_also_with_a_200(error: Any, kind: str) -> None:
    for body in ({"error": error}, {"error": error, "choices": [{"message": {"content": "I am"}}]}):
        told = outcome_of(json.dumps(body).encode(), None)
        assert isinstance(told, Failure)
        assert (told.kind, told.refused) == (kind, True)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{}], "code": 502},
        {},
        [],
        "x",
        {"error": None},
        {"choices": [], "error": None},
        {"id": 1},
    ],
)
def test_what_has_choices_or_no_error_is_no_error(body: Any) -> None:
    told = outcome_of(json.dumps(body).encode(), None)
    assert isinstance(told, Failure)
    assert (told.kind, told.refused) == (FailureKind.MALFORMED, False)


def test_an_error_with_a_200_is_asked_again_and_not_billed() -> None:
    says = Scripted(
        [web.json_response({"error": {"code": 429, "message": "slow down"}}, headers={"retry-after": "0.01"})]
    )
    with lane(says) as host:
        reply = only(list(host.generate(asks(1))))
    alone = Scripted()
    with lane(alone) as host:
        cost = only(list(host.generate(asks(1)))).outcome.cost_usd
    assert reply.attempts == 2
    assert reply.outcome.cost_usd == cost


def test_insufficient_credits_with_a_200_end_the_lane_and_cost_nothing() -> None:
    says = Scripted(always=lambda: web.json_response({"error": {"code": 402, "message": "Insufficient credits"}}))
    with lane(says, in_flight=4) as host:
        replies, stopped = until_down(host, asks(100))
    assert "Insufficient credits" in str(stopped)
    assert {reply.outcome.cost_usd for reply in replies} == {None}
    assert len(says.asked) <= 4


def test_it_is_said_that_no_stream_is_wanted() -> None:
    says = Scripted()
    with lane(says) as host:
        list(host.generate(asks(2)))
        list(host.generate(asks(3)[2:]))
    assert [asked["stream"] for asked in says.asked] == [False] * 3


def test_a_stream_that_comes_all_the_same_is_said_to_be_one_and_not_paid_for_again_and_again() -> None:
    events = 'data: {"choices": [{"delta": {"content": "I"}}]}\n\ndata: [DONE]\n\n'
    says = Scripted(always=lambda: web.Response(text=events, content_type="text/event-stream"))
    with lane(says) as host:
        failure = only(list(host.generate(asks(1)))).outcome
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.MALFORMED
    assert "a stream of events came" in failure.detail
    assert len(says.asked) == patient().refused_attempts


# ── what passes ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_passing_refusal_in_the_middle_of_good_answers_is_not_believed(status: int) -> None:
    some: list[web.Response | None] = [None] * 10
    says = Scripted([*some, *(refused(status, openai_error()) for _ in range(3)), *some])
    with lane(says, in_flight=4) as host:
        assert kinds(list(host.generate(asks(60)))) == {"answer": 60}
    assert len(says.asked) == 63


def test_a_refusal_that_stays_is_believed_after_some_doubt_and_few_requests() -> None:
    says = Scripted([None] * 30, always=lambda: refused(401, openai_error("revoked")))
    with lane(says, in_flight=10) as host:
        replies, stopped = until_down(host, asks(2000))
    assert "refuses the key" in str(stopped)
    assert "revoked" in str(stopped)
    assert kinds(replies)["answer"] == 30
    assert sum(reply.attempts for reply in replies) == len(says.asked) <= 30 + 10 + patient().attempts


def test_a_lane_that_never_had_an_answer_believes_at_once() -> None:
    says = Scripted(always=lambda: refused(404, openai_error()))
    with lane(says) as host:
        replies, _ = until_down(host, asks(1))
    assert only(replies).attempts == len(says.asked) == 1


def test_a_lane_whose_other_actors_had_answers_believes_no_passing_refusal() -> None:
    """So it is with one that Ray started again in the middle of the night."""
    says = Scripted(always=lambda: refused(401, openai_error()))
    with lane(says, had_answers=lambda: True) as host:
        replies, _ = until_down(host, asks(1))
    assert only(replies).attempts == len(says.asked) > 1


def test_a_lane_whose_other_actors_had_answers_does_not_end_for_asks_that_are_refused_alike() -> None:
    belief, no = Belief(attempts=3, elsewhere=lambda: True), Failure(FailureKind.BAD_REQUEST, "400: no")
    assert {belief.refused(str(key), no, asked_at=1.0, now=2.0) for key in range(50)} == {Verdict.GO_ON}


def test_what_was_under_way_when_a_lane_began_to_doubt_is_no_further_doubt() -> None:
    belief = Belief(attempts=3)
    no_key = Failure(FailureKind.AUTH, "401: no")
    belief.answered()
    assert belief.refused("a", no_key, asked_at=1.0, now=2.0) is Verdict.DOUBT
    assert [belief.refused(key, no_key, asked_at=1.5, now=2.5) for key in "bcdefgh"] == [Verdict.GO_ON] * 7
    assert belief.refused("i", no_key, asked_at=3.0, now=3.5) is Verdict.DOUBT
    assert belief.refused("j", no_key, asked_at=4.0, now=4.5) is Verdict.END


def test_an_answer_ends_all_doubt() -> None:
    belief = Belief(attempts=3)
    no_key = Failure(FailureKind.AUTH, "401: no")
    for now in range(20):
        belief.answered()
        assert belief.refused("a", no_key, asked_at=float(now), now=now + 0.5) is Verdict.DOUBT


# ── the same refusal everywhere ────────────────────────────────────────────────────────────────────────────────────

PAGE = "<html><title>Welcome</title></html>"


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (400, openai_error("Unsupported parameter: 'max_tokens'", param="max_tokens"), "max_tokens_as"),
        (400, openai_error("Unknown parameter: 'seed'."), "sends_seed"),
        (400, openai_error("'temperature' does not support 0.7"), "sampling"),
        (
            422,
            {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "not 'system'"}]},
            "system_role",
        ),
        (405, {"detail": "Method Not Allowed"}, "base_url"),
        (404, PAGE, "base_url"),
        (200, PAGE, "base_url"),
        (400, PAGE, "base_url"),
    ],
)
def test_a_lane_whose_first_asks_are_all_refused_alike_ends_and_says_what_to_change(
    status: int, body: Any, remedy: str
) -> None:
    def says_no() -> web.Response:
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html")
        return refused(status, body)

    says = Scripted(always=says_no)
    with lane(says, in_flight=8) as host:
        replies, stopped = until_down(host, asks(5000))
    assert f"check {remedy}" in str(stopped) or f"and {remedy}" in str(stopped)
    assert (body[:20] if isinstance(body, str) else json.dumps(body)[12:30].split('"')[-1]) in str(stopped)
    assert "\n" not in str(stopped)
    assert kinds(replies).keys() < {"bad_request", "malformed"}
    assert len(says.asked) <= 2 * (ALIKE + 8)


def test_a_path_that_is_not_there_ends_the_lane_and_says_that_it_may_be_the_path() -> None:
    says = Scripted(always=lambda: refused(404, {"detail": "Not Found"}))
    with lane(says) as host:
        _, stopped = until_down(host, asks(100))
    assert "(404: Not Found)" in str(stopped)
    assert "base_url" in str(stopped)


def test_refusals_are_alike_though_their_numbers_and_ids_are_not() -> None:
    count = iter(range(10**6))
    says = Scripted(always=lambda: refused(400, openai_error(f"refused, request id req_{next(count):x}0a at 12:00:01")))
    with lane(says, in_flight=8) as host:
        until_down(host, asks(5000))
    assert len(says.asked) <= 2 * (ALIKE + 8)


def test_an_error_with_a_200_that_says_of_what_kind_it_is_nowhere_ends_the_lane_after_many() -> None:
    """As LM Studio answers where base_url lacks its /v1."""
    error = {"error": "Unexpected endpoint or method. (POST /chat/completions). Returning 200 anyway"}
    says = Scripted(always=lambda: web.json_response(error))
    with lane(says, in_flight=8) as host:
        replies, stopped = until_down(host, asks(5000))
    assert "Returning 200 anyway" in str(stopped)
    assert "base_url (mostly it ends in /v1)" in str(stopped)
    assert {reply.outcome.cost_usd for reply in replies} == {None}
    assert len(says.asked) <= 7 * ALIKE


def test_refusals_that_differ_end_no_lane() -> None:
    belief = Belief(attempts=3)
    said = [Failure(FailureKind.BAD_REQUEST, f"400: {word} is unknown") for word in "abcdefghij"]
    assert {belief.refused(f"{n}", said[n % 10], 0.0, 0.0) for n in range(10 * (ALIKE - 1))} == {Verdict.GO_ON}


def test_one_ask_that_is_refused_again_and_again_is_one() -> None:
    belief, no = Belief(attempts=3), Failure(FailureKind.BAD_REQUEST, "400: no")
    assert {belief.refused("a", no, 0.0, 0.0) for _ in range(5 * ALIKE)} == {Verdict.GO_ON}


def test_one_answer_is_enough_for_a_lane_to_go_on() -> None:
    async def likes_seed_3(request: web.Request) -> web.Response:
        asked = await request.json()
        good = asked["seed"] == 3
        return web.json_response(completion(asked, "Yes.", "")) if good else refused(400, openai_error())

    with lane(likes_seed_3, in_flight=4, retry=patient(attempts=1)) as host:
        assert kinds(list(host.generate(asks(100)))) == {"answer": 1, "bad_request": 99}


# ── waits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("told", ["86400", "Fri, 01 Jan 2100 00:00:00 GMT", "24h"])
def test_an_overloaded_server_that_wants_a_day_is_asked_again_as_if_it_had_said_nothing(told: str) -> None:
    says = Scripted([refused(503, openai_error(), retry_after=told)])
    with lane(says) as host:
        assert only(list(host.generate(asks(1)))).attempts == 2


def test_a_date_is_meant_by_the_clock_of_who_says_it() -> None:
    theirs = datetime.now(UTC) + timedelta(hours=30)
    headers = {"Date": format_datetime(theirs, usegmt=True), "retry_after": format_datetime(theirs, usegmt=True)}
    says = Scripted([refused(429, openai_error(), **headers)])
    with lane(says) as host:
        assert only(list(host.generate(asks(1)))).attempts == 2
    assert retry_after_s({"retry-after": headers["retry_after"]}, their_now({"date": headers["Date"]}, NOON)) == 0.0
    assert their_now({}, NOON) == their_now({"date": "soon"}, NOON) == NOON


EPOCH_S = NOON.timestamp() + 30.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (f"{EPOCH_S:.0f}", 30.0),
        (f"{EPOCH_S * 1000:.0f}", 30.0),
        (f"{EPOCH_S * 1e6:.0f}", 30.0),
        ("2026-01-01T12:00:30Z", 30.0),
        ("2026-01-01T13:00:30+01:00", 30.0),
        ("6m0s", 360.0),
        ("1h", 3600.0),
        ("120ms", 0.12),
        ("59", 59.0),
        ("PT30S", 30.0),
        ("1 minute 30 seconds", 90.0),
        ("2 Min", 120.0),
    ],
)
def test_a_minutes_limit_stays_a_minutes_however_its_end_is_told(text: str, seconds: float) -> None:
    told = heard({"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": text}, NOON)
    assert told is not None
    assert told.reset_requests_s == pytest.approx(seconds, abs=0.01)
    assert told.daily == (seconds > 120)
    assert retry_after_s({"retry-after": text}, NOON) == pytest.approx(seconds, abs=0.01)


def test_limits_of_a_day_and_of_a_minute_are_told_apart_by_the_names_of_their_headers() -> None:
    both = {"x-ratelimit-limit-requests-day": "14400", "x-ratelimit-limit-tokens-minute": "60000"}
    told = heard(both, NOON)
    assert told is not None
    assert (told.limit_requests, told.daily, told.limit_tokens) == (14400, True, 60000)


LEFT = "x-ratelimit"


@pytest.mark.parametrize(
    ("error", "headers", "kind"),
    [
        (
            openai_error(),
            {"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "33011.1"},
            "quota",
        ),
        (openai_error(), {"x-ratelimit-remaining-requests-day": "0"}, "quota"),
        (
            openai_error(),
            {"x-ratelimit-remaining-requests-day": "7", "x-ratelimit-reset-requests-day": "33011.1"},
            "rate",
        ),
        (openai_error(), {"x-ratelimit-reset": "DAY"}, "quota"),
        (openai_error(), {"x-ratelimit-reset": "DAY", "retry-after": "0.01"}, "rate"),
        ({"error": {"code": 429, "message": "no", "metadata": {"headers": {"X-RateLimit-Reset": "DAY"}}}}, {}, "quota"),
    ],
)
def test_a_429_whose_limit_lasts_for_hours_is_a_days_quota(error: Any, headers: dict[str, str], kind: str) -> None:
    tomorrow = f"{(datetime.now(UTC) + timedelta(hours=20)).timestamp() * 1000:.0f}"
    body = json.loads(json.dumps(error).replace("DAY", tomorrow))
    headers = {name: text.replace("DAY", tomorrow) for name, text in headers.items()}
    says = Scripted([refused(429, body, **headers)])
    with lane(says, retry=patient(attempts=1)) as host:
        if kind == "quota":
            _, stopped = until_down(host, asks(1))
            assert "is exhausted" in str(stopped)
        else:
            assert kinds(list(host.generate(asks(1)))) == {"rate_limited": 1}


def test_openrouter_says_in_the_body_when_its_limit_ends() -> None:
    error = {"code": 429, "metadata": {"headers": {"X-RateLimit-Reset": f"{EPOCH_S * 1000:.0f}"}}}
    assert told_to_wait_s(json.dumps({"error": error}).encode(), NOON) == pytest.approx(30.0)


@pytest.mark.parametrize(
    "error", [{"retry_after": 30}, {"metadata": {"retry_after_seconds": "30"}}, {"details": {"retryAfter": "30s"}}]
)
def test_a_body_says_how_long_to_wait_where_no_header_does(error: Any) -> None:
    assert told_to_wait_s(json.dumps({"error": error}).encode(), NOON) == 30.0


@pytest.mark.parametrize(
    "error",
    [
        {"retryAfter": 30_000},
        {"retryAfter": "30000"},
        {"retryAfterMs": 30_000},
        {"retry_after_ms": "30000"},
        {"details": {"retryAfterMilliseconds": 30_000.0}},
        {"retryAfter": EPOCH_S},
        {"retryAfter": EPOCH_S * 1000},
        {"resets_in_seconds": 30, "type": "usage_limit_reached"},  # OpenAI's plans
        {"resets_at": EPOCH_S},
        {"metadata": {"reset_at": "2026-01-01T12:00:30Z"}},
    ],
)
def test_a_body_that_counts_milliseconds_is_understood(error: Any) -> None:
    assert told_to_wait_s(json.dumps({"error": error}).encode(), NOON) == pytest.approx(30.0)


def test_a_body_says_how_long_to_wait_beside_its_error_too() -> None:
    assert told_to_wait_s(b'{"error": {"message": "no"}, "retry_after": 12}', NOON) == 12.0


@pytest.mark.parametrize("seconds", [86_400, 3600, 7200, 43_200, 72_000, 172_800, 432_000, 604_800, 86_399])
def test_whole_hours_are_no_milliseconds_under_javascripts_name_either(seconds: int) -> None:
    assert told_to_wait_s(json.dumps({"error": {"retryAfter": seconds}}).encode(), NOON) == seconds


@pytest.mark.parametrize("ms", [1000, 1500, 36_000, 43_187, 60_000, 90_000, 120_000, 900_000, 3_600_000])
def test_whole_seconds_in_milliseconds_and_what_is_below_a_minute_are_no_hours(ms: int) -> None:
    assert told_to_wait_s(json.dumps({"error": {"retryAfter": ms}}).encode(), NOON) == ms / 1000


@pytest.mark.parametrize("name", ["reset_at", "resetAt", "resets_at", "reset_time"])
@pytest.mark.parametrize(
    "told", ["2026-01-01 20:00:30", "2026-01-01T20:00:30", "2026-01-02", 60_000, "60000", 30, "12:00:30"]
)
def test_a_moment_that_may_be_hours_off_is_no_wait(name: str, told: Any) -> None:
    assert told_to_wait_s(json.dumps({"error": {name: told}}).encode(), NOON) is None


@pytest.mark.parametrize(("name", "told"), [("reset_at", "30s"), ("reset_time", EPOCH_S), ("resetAt", EPOCH_S * 1000)])
def test_a_moment_since_1970_and_a_duration_are_a_wait(name: str, told: Any) -> None:
    assert told_to_wait_s(json.dumps({"error": {name: told}}).encode(), NOON) == pytest.approx(30.0)


def test_a_zoneless_text_is_no_wait_under_any_name_or_in_a_header() -> None:
    zoneless = "2026-01-01 20:00:30"
    for error in ({"retry_after": zoneless}, {"metadata": {"headers": {"X-RateLimit-Reset": zoneless}}}):
        assert told_to_wait_s(json.dumps({"error": error}).encode(), NOON) is None
    assert retry_after_s({"retry-after": zoneless}, NOON) is None


@pytest.mark.parametrize("hours_off", [-30, -5, 0, 5, 30])
@pytest.mark.parametrize("meant_by", ["theirs", "ours"])
@pytest.mark.parametrize("digits", [10, 13])
def test_a_moment_is_the_sooner_to_come_of_the_two_clocks_however_far_a_date_is_off(
    hours_off: int, meant_by: str, digits: int
) -> None:
    ours = datetime.now(UTC)
    theirs = ours + timedelta(hours=hours_off)
    moment = {"ours": ours, "theirs": theirs}[meant_by] + timedelta(seconds=90)
    number = int(moment.timestamp() * 10 ** (digits - 10))
    date = {"date": format_datetime(theirs, usegmt=True)}
    busy = Failure(FailureKind.RATE_LIMITED, "429", refused=True)
    said: list[tuple[dict[str, str], dict[str, Any]]] = [
        ({"retry-after": str(number)}, {}),
        ({"x-ratelimit-reset": str(number)}, {}),
        ({}, {"resets_at": number}),
        ({}, {"reset_at": moment.isoformat()}),
        ({}, {"metadata": {"headers": {"X-RateLimit-Reset": str(number)}}}),
    ]
    for headers, error in said:
        failure, told_s = patience(busy, date | headers, json.dumps({"error": error}).encode())
        assert failure.kind is FailureKind.RATE_LIMITED
        assert told_s is not None
        assert 0.0 < told_s <= 91.0
    limits = heard(date | {"x-ratelimit-limit-requests": "9", "x-ratelimit-reset-requests": str(number)}, ours)
    assert limits is not None
    assert not limits.daily


def test_a_moment_that_is_past_by_both_clocks_or_now_by_theirs_is_no_wait() -> None:
    for theirs in (NOON, NOON - timedelta(hours=5), NOON + timedelta(hours=5)):
        assert wait_s(f"{NOON.timestamp() - 86_400:.0f}", theirs, NOON) == 0.0
        assert wait_s(f"{theirs.timestamp():.0f}", theirs, NOON) == 0.0


@pytest.mark.parametrize("seconds", [1, 59.5, 999])
def test_a_body_that_counts_seconds_is_taken_at_its_word(seconds: float) -> None:
    assert told_to_wait_s(json.dumps({"error": {"retryAfter": seconds}}).encode(), NOON) == seconds
    assert told_to_wait_s(json.dumps({"error": {"retry_after": seconds * 10}}).encode(), NOON) == seconds * 10


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_whatever_stands_in_a_header_is_a_wait_or_none(text: str, date: str) -> None:
    headers = {"retry-after": text, "date": date, "x-ratelimit-reset-requests": text, "retry-after-ms": date}
    there = their_now(headers, NOON)
    for found_s in (retry_after_s(headers, there), until_reset_s(headers, NOON, None)):
        assert found_s is None or 0.0 <= found_s < float("inf")
    heard(headers, NOON)


# ── an ask that raises ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [200, 400])
def test_a_body_that_cannot_be_read_at_all_is_a_matter_of_its_own_ask(status: int) -> None:
    deep = "[" * 200_000
    says = Scripted([None, *[web.Response(status=status, text=deep) for _ in range(3)]])
    with lane(says, retry=patient(attempts=3), in_flight=1) as host:
        replies = list(host.generate(asks(5)))
    assert kinds(replies)["answer"] >= 4
    assert len(replies) == 5


def test_a_key_from_a_file_is_sent_without_the_line_break_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", " sk-canary-1\r\n")
    says = Scripted()
    with serving(says.answer) as url:
        host = HostedApi(entry(), Account(base_url=f"{url}/v1", key_env="LAB_KEY"), patient(), LocalLimiter())
        list(host.generate(asks(1)))
        list(host.generate(asks(2)[1:]))
        host.close()
    assert [headers["Authorization"] for headers in says.headers] == ["Bearer sk-canary-1"] * 2


@pytest.mark.parametrize("key", ["sk-canary\n-1", "sk-canary\x00-1", "sk-canary-é", "ключ-canary", "\ufeffsk-canary-1"])
def test_a_key_that_no_header_can_carry_is_refused_by_the_name_of_its_variable(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\x00" in key:
        key = key.replace("\x00", "\x7f")  # no environment holds a zero
    monkeypatch.setenv("LAB_KEY", key)
    with pytest.raises(HostDown, match="LAB_KEY") as wrong:
        HostedApi(entry(), Account(key_env="LAB_KEY"), patient(), LocalLimiter())
    assert "canary" not in str(wrong.value)


@pytest.mark.parametrize("n", [1, 40])
def test_an_exception_that_nobody_foresees_ends_the_lane_with_its_type_and_place_and_nothing_hangs(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org\n-canary")  # which the SDK puts into a header of every request
    says = Scripted()
    with lane(says) as host:
        replies, stopped = until_down(host, asks(n))
        again, still = until_down(host, asks(n))
    assert (replies, again, says.asked) == ([], [], [])
    assert "Error at" in str(stopped)
    assert ".py:" in str(stopped)
    assert str(still) == str(stopped)
    assert "canary" not in str(stopped)


def test_a_permit_comes_back_whatever_happens_to_its_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org\n-canary")
    limiter, says = LocalLimiter(), Scripted()
    with serving(says.answer) as url:
        account = Account(base_url=f"{url}/v1")
        for _ in range(3):  # eight permits are all there are before the first answer
            broken = HostedApi(entry(), account, patient(), limiter, run="broken")
            until_down(broken, asks(20))
            broken.close()
        monkeypatch.delenv("OPENAI_ORG_ID")
        sound = HostedApi(entry(), account, patient(), limiter, run="sound")
        assert kinds(list(sound.generate(asks(20)))) == {"answer": 20}
        sound.close()


def test_a_text_that_no_request_can_carry_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    halved = asks(1, chat=[{"role": "user", "content": "half an emoji \ud83d"}])
    with lane(Scripted()) as host, pytest.raises(HostDown, match="does not foresee, a UnicodeEncodeError at "):
        list(host.generate(halved))  # and not for ever


def test_certificates_that_are_not_there_end_the_lane_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/canary.pem")
    with lane(Scripted()) as host:
        _, stopped = until_down(host, asks(3))
    assert "SSL_CERT_FILE" in str(stopped)


@pytest.mark.parametrize("off_by", [-5, 5])
def test_a_body_that_is_not_as_long_as_announced_is_asked_again(off_by: int) -> None:
    body = json.dumps(completion({"model": "m", "messages": []}, "Yes.", "")).encode()
    replies = iter([len(body) + off_by, *[len(body)] * 50])
    with raw_server(lambda: (body, next(replies))) as (url, count):
        host = HostedApi(entry(), Account(base_url=f"{url}/v1"), patient(), LocalLimiter())
        assert kinds(list(host.generate(asks(5)))) == {"answer": 5}
        host.close()
    assert count() >= 6
