"""Models behind an HTTP API, against a real server on loopback."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import pickle
import threading
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from emoray.hosts.hosted_api import HostedApi
from emoray.hosts.openai_protocol import outcome_of, refusal_of, request_body
from emoray.hosts.permits import Permits
from emoray.hosts.protocol import Ask, BudgetSpent, HostDown, Reply
from emoray.hosts.refusals import told_to_wait_s
from emoray.hosts.request_loop import _YOUNG, Guess, Tried
from emoray.rate_limits.local import LocalLimiter
from emoray.rate_limits.protocol import Feedback, Grant, Limits, Request, Usage
from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.faults import STORM, Fault, Plan, storm
from emoray.rehearsal.provider import Provider
from emoray.rehearsal.responses import completion
from emoray.spec.accounts import Account, Price, Retry
from emoray.spec.entry import SamplingSpec
from emoray.spec.models import Hosted
from emoray.spec.prices import price_of
from emoray.study.outcomes import Answer, Failure, FailureKind

CANARY = "sk-canary-4f1d9b27e0"
Start = Callable[..., tuple[HostedApi, Provider]]


def asks(n: int, **changes: Any) -> list[Ask]:
    chat = [{"role": "system", "content": "You are calm."}, {"role": "user", "content": "What is freedom?"}]
    fields: dict[str, Any] = {"chat": chat, "temperature": 1.0, "top_p": None, "max_tokens": 64} | changes
    return [Ask(key=f"{i:032x}", seed=i, **fields) for i in range(n)]


def entry(**settings: Any) -> Hosted:
    return Hosted(host="hosted_api", name="gpt", id="gpt-4o", account="lab", **settings)


def patient(fault: Fault | None = None, attempts: int = 8) -> Retry:
    """Quick to ask again; gives up on a request only where nothing would ever come."""
    timeout_s = 2.0 if fault is Fault.HANG else 600.0
    return Retry(attempts=attempts, timeout_s=timeout_s, first_wait_s=0.01, longest_wait_s=0.05)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """A provider that behaves so, and a host that asks it."""
    monkeypatch.setenv("LAB_KEY", CANARY)
    opened: list[HostedApi | Provider] = []

    def started(
        behaviour: Behaviour | None = None,
        *,
        limits: Limits | None = None,
        retry: Retry | None = None,
        speaker: Any = None,
        **settings: Any,
    ) -> tuple[HostedApi, Provider]:
        provider = Provider(behaviour or Behaviour(), speaker).start()
        account = Account(base_url=provider.base_url, key_env="LAB_KEY")
        patience = retry or patient()
        host = HostedApi(entry(**settings), account, patience, LocalLimiter(limits), run="test")
        opened.extend((host, provider))
        return host, provider

    yield started
    for thing in opened:
        thing.close() if isinstance(thing, HostedApi) else thing.stop()


def kinds(replies: list[Reply]) -> Counter[str]:
    return Counter("answer" if isinstance(r.outcome, Answer) else r.outcome.kind.value for r in replies)


def until_down(host: HostedApi, owed: list[Ask]) -> tuple[list[Reply], HostDown]:
    """The replies that came before the lane stopped, and what it said."""
    replies: list[Reply] = []
    try:
        for reply in host.generate(owed):
            replies.append(reply)
    except HostDown as stopped:
        return replies, stopped
    raise AssertionError("the lane did not stop")


@contextmanager
def uncollected(types: tuple[type, ...]) -> Iterator[list[type]]:
    """What of these types was left to the collector in the meantime."""
    gc.collect()
    gc.disable()
    left: list[type] = []
    try:
        yield left
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left += [type(one) for one in gc.garbage if isinstance(one, types)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def only(replies: list[Reply]) -> Reply:
    assert len(replies) == 1
    return replies[0]


def test_every_ask_gets_its_own_answer_with_what_the_provider_returned(start: Start) -> None:
    async def echo(body: dict[str, Any]) -> str:
        return f"seed {body['seed']}"

    host, provider = start(speaker=echo)
    replies = {reply.key: reply for reply in host.generate(asks(300))}
    assert len(replies) == 300
    for ask in asks(300):
        answer = replies[ask.key].outcome
        assert isinstance(answer, Answer)
        assert answer.text == f"seed {ask.seed}"
        assert answer.returned_model == "gpt-4o-rehearsal"
        assert answer.system_fingerprint == "fp_rehearsal"
        assert answer.prompt_tokens is not None
        assert answer.cost_usd is not None
        assert answer.cost_usd > 0
    assert set(provider.counters.asked.values()) == {1}


def test_hundreds_are_in_flight_at_once_and_never_more_than_the_entry_says(start: Start) -> None:
    """A lane begins with a few and sends more as answers come; so the first ones come at once."""
    full = asyncio.Event()

    async def at_last_when_all_are_there(body: dict[str, Any]) -> str:
        if provider.counters.peak_in_flight >= 120:
            full.set()
        if body["seed"] >= 400:
            await full.wait()
        return "yes"

    endless = Retry(timeout_s=86_400.0)  # of which no machine is so slow as to take a part worth mentioning
    host, provider = start(speaker=at_last_when_all_are_there, in_flight=120, retry=endless)
    list(host.generate(asks(800)))
    assert provider.counters.peak_in_flight == 120


def test_hundreds_of_asks_leave_the_collector_of_garbage_nothing_to_look_for(start: Start) -> None:
    host, _ = start(in_flight=64)
    list(host.generate(asks(64)))  # connections are open now
    with uncollected((aiohttp.ClientResponse, Tried, Reply, Answer)) as left:
        assert kinds(list(host.generate(asks(400)))) == {"answer": 400}
    assert left == []  # the server's and other tests' cycles, which are in this process too, are no matter of ours
    assert gc.get_threshold()[0] >= _YOUNG


def test_several_threads_may_ask_at_once_and_stay_together_within_the_limit(start: Start) -> None:
    host, provider = start(Behaviour(latency_s=0.02), in_flight=20)
    everything = asks(400)
    found: list[list[Reply]] = [[], [], [], []]

    def ask(part: int) -> None:
        found[part].extend(host.generate(everything[part::4]))

    threads = [threading.Thread(target=ask, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part, replies in enumerate(found):
        assert {reply.key for reply in replies} == {ask.key for ask in everything[part::4]}
    assert provider.counters.peak_in_flight <= 20


def test_a_slow_answer_holds_nobody_else(start: Start) -> None:
    release = threading.Event()

    async def slow_for_zero(body: dict[str, Any]) -> str:
        if body["seed"] == 0:
            await asyncio.to_thread(release.wait)
        return "yes"

    host, _ = start(speaker=slow_for_zero, in_flight=8)
    replies = host.generate(asks(200))
    first = [next(replies) for _ in range(199)]
    assert asks(1)[0].key not in {reply.key for reply in first}
    release.set()
    assert only(list(replies)).key == asks(1)[0].key


def test_a_storm_of_all_faults_ends_every_cell_once_as_an_answer_or_a_typed_failure(start: Start) -> None:
    # nothing hangs here: an answer after our patience has ended would be answered twice, and rightly
    chances: dict[Fault, float] = {fault: chance for fault, chance in storm(0.3).items() if fault is not Fault.HANG}
    host, provider = start(Behaviour(Plan(7, chances), slow_s=0.1))
    replies = list(host.generate(asks(600)))
    assert Counter(reply.key for reply in replies) == Counter(ask.key for ask in asks(600))
    assert kinds(replies)["answer"] > 500
    assert max(provider.counters.answered.values()) == 1
    for reply in replies:
        if isinstance(reply.outcome, Answer):
            assert reply.outcome.text.strip()
        else:
            assert reply.outcome.kind in set(FINAL.values())
            assert reply.attempts >= patient().refused_attempts


def test_a_storm_that_ends_leaves_cells_that_the_next_run_settles(start: Start) -> None:
    menu = [fault for fault in (*LASTING, *FINAL) if fault is not Fault.HANG]
    host, provider = start(Behaviour(Plan(7, dict.fromkeys(menu, 1 / len(menu)))), retry=patient(attempts=2))
    failed = {reply.key for reply in host.generate(asks(60)) if isinstance(reply.outcome, Failure)}
    assert failed
    provider.behaviour = Behaviour()
    again = list(host.generate([ask for ask in asks(60) if ask.key in failed]))
    assert {reply.key for reply in again} == failed
    assert kinds(again) == {"answer": len(failed)}


LASTING = {
    Fault.BUSY: FailureKind.RATE_LIMITED,
    Fault.BUSY_SILENT: FailureKind.RATE_LIMITED,
    Fault.ERROR_HTML: FailureKind.OVERLOADED,
    Fault.GATEWAY_HTML: FailureKind.OVERLOADED,
    Fault.UNAVAILABLE: FailureKind.OVERLOADED,
    Fault.ERROR_200: FailureKind.OVERLOADED,
    Fault.ABORTED: FailureKind.OVERLOADED,
    Fault.HANG: FailureKind.TIMEOUT,
    Fault.RESET: FailureKind.CONNECTION,
}
FINAL = {  # perhaps; of some each attempt is paid
    Fault.OK_HTML: FailureKind.MALFORMED,
    Fault.CUT_JSON: FailureKind.MALFORMED,
    Fault.NO_CHOICES: FailureKind.MALFORMED,
    Fault.STREAM: FailureKind.MALFORMED,
    Fault.EMPTY: FailureKind.EMPTY,
    Fault.NULL: FailureKind.EMPTY,
    Fault.THINK_CUT: FailureKind.EMPTY,
    Fault.MODERATED: FailureKind.CONTENT_FILTERED,
    Fault.FILTERED: FailureKind.CONTENT_FILTERED,
    Fault.FILTERED_400: FailureKind.CONTENT_FILTERED,
    Fault.BAD_REQUEST: FailureKind.BAD_REQUEST,
    Fault.CONTEXT_LENGTH: FailureKind.CONTEXT_LENGTH,
}
HOPELESS = {
    Fault.AUTH: FailureKind.AUTH,
    Fault.QUOTA: FailureKind.QUOTA_EXHAUSTED,
    Fault.NO_SUCH_MODEL: FailureKind.NO_SUCH_MODEL,
}
ANSWERED = {
    *(Fault.REFUSAL, Fault.LENGTH, Fault.WRONG_MODEL, Fault.DUPLICATE, Fault.SLOW_FIRST_BYTE),
    *(Fault.SURROGATE, Fault.ODD_USAGE, Fault.THINK),
}


def test_the_tests_below_know_the_whole_menu() -> None:
    assert LASTING.keys() | FINAL.keys() | HOPELESS.keys() | ANSWERED == set(Fault)
    assert LASTING.keys() | FINAL.keys() | ANSWERED == set(STORM)


@pytest.mark.parametrize(("fault", "kind"), LASTING.items())
def test_what_may_pass_is_asked_again_as_often_as_the_spec_says(start: Start, fault: Fault, kind: FailureKind) -> None:
    behaviour = Behaviour(Plan(schedule=[(1, None, fault)]), retry_after_s=0.01)
    host, provider = start(behaviour, retry=patient(fault, attempts=3))
    reply = only(list(host.generate(asks(1))))
    assert isinstance(reply.outcome, Failure)
    assert reply.outcome.kind is kind
    assert reply.attempts == 3
    assert provider.counters.requests == 3


@pytest.mark.parametrize("fault", [*LASTING, *FINAL])
def test_what_passed_leaves_an_answer_and_the_number_of_attempts(start: Start, fault: Fault) -> None:
    async def waited_for(body: dict[str, Any]) -> str:
        """However slow the machine is, from the second ask on, which has its own time still."""
        host._timeout_s = 600.0 if provider.counters.requests >= 2 else host._timeout_s
        return "Yes."

    behaviour = Behaviour(Plan(schedule=[(1, 2, fault)]), retry_after_s=0.01)
    host, provider = start(behaviour, retry=patient(fault), speaker=waited_for)
    reply = only(list(host.generate(asks(1))))
    assert isinstance(reply.outcome, Answer)
    assert reply.attempts == 3


@pytest.mark.parametrize(("fault", "kind"), FINAL.items())
def test_what_is_refused_is_asked_again_less_often(start: Start, fault: Fault, kind: FailureKind) -> None:
    host, provider = start(Behaviour(Plan(schedule=[(1, 2, Fault.UNAVAILABLE), (3, None, fault)])))
    reply = only(list(host.generate(asks(1))))
    assert isinstance(reply.outcome, Failure)
    assert reply.outcome.kind is kind
    assert provider.counters.requests == reply.attempts == 2 + patient().refused_attempts


def test_an_answer_costs_what_the_attempts_before_it_cost_too(start: Start) -> None:
    plan = Plan(schedule=[(1, 1, Fault.EMPTY), (2, 2, Fault.UNAVAILABLE), (3, 3, Fault.FILTERED)])
    alone, thrice = (only(list(start(Behaviour(plan))[0].generate(asks(1)))).outcome for plan in (Plan(), plan))
    assert isinstance(alone, Answer)
    assert isinstance(thrice, Answer)
    assert alone.cost_usd is not None
    assert thrice.cost_usd == pytest.approx(3 * alone.cost_usd)


@pytest.mark.parametrize(("fault", "kind"), HOPELESS.items())
def test_what_is_hopeless_stops_the_lane_with_one_sentence_after_the_replies_of_all_that_was_under_way(
    start: Start, fault: Fault, kind: FailureKind
) -> None:
    host, provider = start(Behaviour(Plan(schedule=[(31, None, fault)]), latency_s=0.01), in_flight=10)
    replies, stopped = until_down(host, asks(2000))
    assert "\n" not in str(stopped)
    assert provider.base_url in str(stopped)
    assert kinds(replies).keys() == {"answer", kind.value}
    assert kinds(replies)["answer"] == 30
    assert provider.counters.asked.keys() == {reply.key for reply in replies}  # what was doubted may be asked twice
    assert provider.counters.requests < 100


def test_a_lane_that_has_stopped_asks_no_more(start: Start) -> None:
    host, provider = start(Behaviour(Plan(schedule=[(1, None, Fault.AUTH)])))
    until_down(host, asks(1))
    assert until_down(host, asks(5))[0] == []
    assert provider.counters.requests == 1


@pytest.mark.parametrize("fault", sorted(ANSWERED))
def test_an_odd_answer_is_an_answer(start: Start, fault: Fault) -> None:
    host, _ = start(Behaviour(Plan(schedule=[(1, None, fault)]), slow_s=0.05))
    answer = only(list(host.generate(asks(1)))).outcome
    assert isinstance(answer, Answer)
    assert answer.finish_reason == ("length" if fault is Fault.LENGTH else "stop")
    models = {Fault.WRONG_MODEL: "some-other-model", Fault.SURROGATE: "gpt-4o-rehearsal\ufffd"}
    assert answer.returned_model == models.get(fault, "gpt-4o-rehearsal")
    assert answer.prompt_tokens is not None
    assert answer.completion_tokens is not None
    assert answer.reasoning == ("How would that feel?" if fault is Fault.THINK else None)
    assert "think" not in answer.text


def test_a_success_that_carries_an_error_is_not_paid_for(start: Start) -> None:
    host, provider = start(Behaviour(Plan(schedule=[(1, None, Fault.ERROR_200)])), retry=patient(attempts=3))
    reply = only(list(host.generate(asks(1))))
    assert (reply.outcome.cost_usd, reply.attempts, provider.counters.requests) == (None, 3, 3)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ({"message": "Insufficient credits", "code": 402}, "the quota of account 'lab' .* is exhausted"),
        ({"message": "No auth credentials found", "code": 401}, "refuses the key"),
    ],
)
def test_a_success_that_carries_what_is_hopeless_ends_the_lane(error: dict[str, Any], sentence: str) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"error": error})

    with serving(answer) as url:
        host = HostedApi(entry(in_flight=1), Account(base_url=f"{url}/v1"), Retry(), LocalLimiter())
        with pytest.raises(HostDown, match=sentence):
            list(host.generate(asks(50)))
        host.close()
    assert len(asked) < 50


@pytest.mark.parametrize(("setting", "text"), [("none", "<think>Hm.</think>Yes."), (["<think>", "</think>"], "Yes.")])
def test_a_model_names_the_tags_of_its_reasoning(start: Start, setting: Any, text: str) -> None:
    async def thinking(_: dict[str, Any]) -> str:
        return "<think>Hm.</think>Yes."

    host, _ = start(speaker=thinking, reasoning_tags=setting)
    answer = only(list(host.generate(asks(1)))).outcome
    assert isinstance(answer, Answer)
    assert (answer.text, answer.reasoning) == (text, None if setting == "none" else "Hm.")


def test_a_server_that_is_not_there_is_a_connection_failure_and_costs_nothing(start: Start) -> None:
    host, provider = start(retry=Retry(attempts=2, first_wait_s=0.01, timeout_s=600.0), limits=Limits(budget_usd=0.001))
    provider.stop()
    replies = list(host.generate(asks(50)))
    assert kinds(replies) == {"connection": 50}
    assert {reply.outcome.cost_usd for reply in replies} == {None}


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.RESET, Fault.CUT_JSON])
def test_what_was_perhaps_billed_is_written_down_at_the_most_it_may_have_cost(start: Start, fault: Fault) -> None:
    host, _ = start(Behaviour(Plan(schedule=[(1, None, fault)])), retry=patient(fault, attempts=2))
    most = Guess(price_of(entry())).of(asks(1)[0])[1]
    assert only(list(host.generate(asks(1)))).outcome.cost_usd == pytest.approx(2 * most)


def test_an_answer_without_usage_is_written_down_at_the_most_it_may_have_cost() -> None:
    guess = Guess(Price(input=1.0, output=2.0))
    ask = asks(1)[0]
    assert guess.billed(ask, Answer("Yes.")).cost_usd == guess.of(ask)[1] > 0
    assert guess.billed(ask, Answer("Yes.", cost_usd=0.5)).cost_usd == 0.5
    assert Guess(None).billed(ask, Answer("Yes.")).cost_usd is None


def test_a_request_is_sent_only_when_what_it_may_cost_was_set_aside_for_it() -> None:
    async def taken() -> list[float]:
        permits = Permits(LocalLimiter(Limits(budget_usd=1.0)), "run/1", "gpt-4o")
        keeping = asyncio.create_task(permits.keep())
        for _ in range(60):  # cheap ones, for which permits are leased ahead
            permit = await permits.take(10.0, 0.001)
            await asyncio.sleep(0.001)
            permits.finish(permit, 10.0, 0.001)
        dear = [(await permits.take(10.0, 0.3)).usd for _ in range(3)]
        keeping.cancel()
        return dear

    assert asyncio.run(taken()) == [0.3] * 3


def test_a_permit_whose_taker_was_cancelled_as_it_came_goes_back() -> None:
    told: list[Usage] = []

    async def closed() -> None:
        class Granting:
            async def lease(self, _: str, ledger: Usage, want: Request, __: Feedback) -> Grant:
                told.append(ledger)
                asyncio.get_running_loop().call_soon(taking.cancel)
                return Grant(want.requests)

        permits = Permits(Granting(), "run/1", "gpt-4o")
        taking = asyncio.create_task(permits.take(10.0, 0.1))
        keeping = asyncio.create_task(permits.keep())
        with pytest.raises(asyncio.CancelledError):
            await taking
        keeping.cancel()
        await permits.leave()

    asyncio.run(closed())
    assert (told[-1].held, told[-1].reserved_usd, told[-1].requests_back) == (0, 0.0, 1)


def test_where_the_provider_counts_max_tokens_an_ask_is_expected_to_take_them_however_short_answers_are() -> None:
    ask, answer = asks(1, max_tokens=500)[0], Answer("Yes.", prompt_tokens=20, completion_tokens=5)
    used, reserved = Guess(None), Guess(None, reserves=True)
    for guess in (used, reserved):
        for _ in range(50):
            guess.learn(ask, answer)
    assert used.of(ask)[0] < 40
    assert reserved.of(ask)[0] > 500
    assert (used.counted(ask, answer), reserved.counted(ask, answer)) == (25, 520)


@pytest.mark.parametrize(
    ("account", "reserves"),
    [
        (Account(), True),
        (Account(kind="azure", base_url="https://lab.openai.azure.com", api_version="2024-10-21"), True),
        (Account(base_url="https://api.cohere.ai/compatibility/v1"), False),
        (Account(base_url="https://api.cohere.ai/compatibility/v1", tokens_counted="reserved"), True),
        (Account(tokens_counted="used"), False),
    ],
)
def test_openai_and_azure_count_what_a_request_reserves(account: Account, reserves: bool) -> None:
    assert account.reserves_tokens is reserves


def test_a_429_that_says_to_come_back_tomorrow_ends_the_lane_and_says_so() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "day"}}, status=429, headers={"retry-after": "82800"})

    with serving(answer) as url:
        host = HostedApi(entry(), Account(base_url=f"{url}/v1"), Retry(), LocalLimiter())
        replies, stopped = until_down(host, asks(1))
        host.close()
    assert kinds(replies) == {"quota_exhausted": 1}
    assert "come back in 23.0 h" in str(stopped)


def test_the_limiter_hears_of_429s_headers_tokens_and_money(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", CANARY)
    calls: list[tuple[str, Usage, Request, Feedback]] = []

    class Recording:
        async def lease(self, holder: str, ledger: Usage, want: Request, news: Feedback) -> Grant:
            calls.append((holder, ledger, want, news))
            return Grant(want.requests)

    behaviour = Behaviour(Plan(schedule=[(1, 1, Fault.BUSY)]), retry_after_s=1800.0, requests_per_minute=6000)
    with Provider(behaviour) as provider:
        account = Account(base_url=provider.base_url, key_env="LAB_KEY")
        host = HostedApi(entry(), account, Retry(attempts=1), Recording(), run="night-7")
        list(host.generate(asks(60)))
        list(host.generate(asks(1)))
        host.close()
    assert all(holder.startswith("night-7/") for holder, *_ in calls)
    assert {want.model for _, _, want, _ in calls} == {entry().id}
    assert sum(news.throttled for *_, news in calls) == 1
    assert any(900.0 < (news.retry_after_s or 0.0) <= 1800.0 for *_, news in calls)  # what is left of it by then
    assert any(news.heard and news.heard.limit_requests == 6000 for *_, news in calls)
    assert calls[-1][1].spent_usd > 0
    assert len(calls) < 45  # on a slow machine one for two asks; else far fewer


def test_asking_stops_before_the_budget_is_passed_and_keeps_everything(start: Start) -> None:
    host, provider = start(limits=Limits(budget_usd=0.02), max_tokens_as="max_tokens")
    replies, stopped = until_down(host, asks(2000))
    assert isinstance(stopped, BudgetSpent)
    assert "budget of 0.02 USD" in str(stopped)
    spent = sum(reply.outcome.cost_usd or 0.0 for reply in replies)
    assert 0.5 * 0.02 < spent <= 0.02
    assert len(replies) == provider.counters.requests < 2000
    assert kinds(replies).keys() == {"answer"}


def test_a_budget_without_a_price_is_refused_at_once() -> None:
    unpriced = Hosted(host="hosted_api", name="odd", id="somebody/else", account="lab")
    with pytest.raises(HostDown, match="usd_per_million"):
        HostedApi(unpriced, Account(budget_usd=5.0), Retry(), LocalLimiter())


@pytest.mark.campaign  # by the clock, which a server and a limiter on a busy machine do not see alike
def test_no_more_requests_are_sent_than_the_account_allows(start: Start) -> None:
    host, provider = start(Behaviour(requests_per_minute=1200), limits=Limits(requests_per_minute=1200), in_flight=50)
    replies = list(host.generate(asks(40)))
    assert kinds(replies) == {"answer": 40}
    assert provider.counters.statuses[429] == 0


def test_a_caller_that_leaves_early_stops_what_was_not_sent_yet(start: Start) -> None:
    left = threading.Event()

    async def one_until_somebody_left(body: dict[str, Any]) -> str:
        while body["seed"] and not left.is_set():
            await asyncio.sleep(0.01)
        return "yes"

    host, provider = start(speaker=one_until_somebody_left, in_flight=4)
    replies = host.generate(asks(1000))
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    left.set()
    assert len(list(host.generate(asks(3)))) == 3
    assert provider.counters.requests < 50


def test_closing_ends_those_who_wait(start: Start) -> None:
    host, _ = start(Behaviour(Plan(schedule=[(1, None, Fault.HANG)])))
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            list(host.generate(asks(3)))
        except RuntimeError as wrong:
            ended.append(wrong)

    thread = threading.Thread(target=ask)
    thread.start()
    host.close()
    thread.join()
    assert not thread.is_alive()
    assert "closed" in str(ended[0])


# ── what a request says ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_says_what_the_cell_says() -> None:
    body = request_body(entry(), asks(8, temperature=0.7, top_p=0.9)[7])
    assert body == {
        "model": "gpt-4o",
        "messages": asks(1)[0].chat,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 7,
        "max_tokens": 64,
    }


def test_what_a_model_refuses_is_left_out_by_its_entry() -> None:
    reasoning = entry(sends_seed=False, max_tokens_as="max_completion_tokens", sampling=SamplingSpec(temperature=None))
    body = request_body(reasoning, asks(1, temperature=None)[0])
    assert body.keys() == {"model", "messages", "max_completion_tokens"}


def test_extra_settings_are_sent_as_they_are() -> None:
    assert request_body(entry(extra_body={"reasoning_effort": "low"}), asks(1)[0])["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("role", "messages"),
    [
        ("developer", [{"role": "developer", "content": "Be calm."}, {"role": "user", "content": "Why?"}]),
        ("user", [{"role": "user", "content": "Be calm.\n\nWhy?"}]),
    ],
)
def test_a_model_without_a_system_role_gets_its_text_otherwise(role: str, messages: list[dict[str, str]]) -> None:
    chat = [{"role": "system", "content": "Be calm."}, {"role": "user", "content": "Why?"}]
    assert request_body(entry(system_role=role), asks(1, chat=chat)[0])["messages"] == messages


# ── what a response means ──────────────────────────────────────────────────────────────────────────────────────────


def said(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **more}).encode()


def test_a_structured_refusal_is_an_answer() -> None:
    answer = outcome_of(said({"content": None, "refusal": "I'm sorry, I can't help with that."}), None)
    assert isinstance(answer, Answer)
    assert answer.text.startswith("I'm sorry")


def test_reasoning_is_kept_apart() -> None:
    answer = outcome_of(said({"content": "Yes.", "reasoning_content": "Hm."}), None)
    assert isinstance(answer, Answer)
    assert (answer.text, answer.reasoning) == ("Yes.", "Hm.")


def test_parts_of_text_are_one_text() -> None:
    answer = outcome_of(said({"content": [{"type": "text", "text": "Yes"}, {"type": "text", "text": "."}]}), None)
    assert isinstance(answer, Answer)
    assert answer.text == "Yes."


def test_an_unknown_price_or_unknown_usage_is_no_cost_at_all() -> None:
    price = Price(input=1.0, output=2.0)
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}
    costs = [
        outcome_of(said({"content": "Yes."}, usage=usage), price).cost_usd,
        outcome_of(said({"content": "Yes."}, usage=usage), None).cost_usd,
        outcome_of(said({"content": "Yes."}), price).cost_usd,
    ]
    assert costs == [2.0, None, None]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'"x"', b"{}", b'{"choices": [{}]}', b'{"choices": [null]}', b"\xff"]
)
def test_a_reply_that_is_none_is_malformed(body: bytes) -> None:
    outcome = outcome_of(body, None)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.MALFORMED


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "too long", "param": "input_tokens", "code": 400}}, "context_length"),  # vLLM
        (401, {"error": "Unauthorized"}, "auth"),  # vLLM
        (401, "<html>", "auth"),  # whoever asks for a key does not take ours
        (402, {"error": {"message": "pay"}}, "quota_exhausted"),
        (403, {"error": {"message": "not from your country"}}, "auth"),
        (403, "<html>Attention Required!", "malformed"),
        (404, "<html>", "malformed"),
        (408, "", "timeout"),
        (413, "", "context_length"),
        (422, {"error": {"message": "no"}}, "bad_request"),
        (429, [{"error": "RESOURCE_EXHAUSTED"}], "rate_limited"),
        (529, "", "overloaded"),
    ],
)
def test_other_refusals_are_told_apart_by_status_and_code(status: int, body: Any, kind: str) -> None:
    assert refusal_of(status, (body if isinstance(body, str) else json.dumps(body)).encode()).kind == kind


GEMINI: dict[int, Any] = {  # as its OpenAI endpoint says them: in a list
    404: {
        "code": 404,
        "message": "models/gemini-1.5-flash is not found for API version v1main, or is not supported.",
        "status": "NOT_FOUND",
    },
    400: {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
            },
            {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US"},
        ],
    },
    429: {
        "code": 429,
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s"},
        ],
    },
}


@pytest.mark.parametrize(("status", "kind"), [(404, "no_such_model"), (400, "auth"), (429, "rate_limited")])
def test_geminis_errors_are_read_through_the_list_they_come_in(status: int, kind: str) -> None:
    failure = refusal_of(status, json.dumps([{"error": GEMINI[status]}]).encode())
    assert failure.kind == kind
    assert failure.detail.startswith(f"{status}: {GEMINI[status]['message'][:20]}")


def test_gemini_says_in_the_body_how_long_to_wait() -> None:
    assert told_to_wait_s(json.dumps([{"error": GEMINI[429]}]).encode()) == 27.0
    assert told_to_wait_s(json.dumps([{"error": GEMINI[404]}]).encode()) is None
    assert told_to_wait_s(b"<html>") is None


def test_a_model_that_gemini_has_retired_ends_the_lane_with_its_sentence() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response([{"error": GEMINI[404]}], status=404)

    with serving(answer) as url:
        host = HostedApi(entry(), Account(base_url=f"{url}/v1"), Retry(), LocalLimiter())
        _, stopped = until_down(host, asks(3))
        host.close()
    assert "has no model 'gpt-4o'" in str(stopped)


def test_reasoning_that_is_counted_in_the_total_alone_is_paid_for() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 424, "total_tokens": 1016}
    answer = outcome_of(said({"content": "Yes."}, usage=usage), Price(input=1.0, output=1.0))
    assert isinstance(answer, Answer)
    assert answer.completion_tokens == 996
    assert answer.cost_usd == pytest.approx(1016e-6)


def test_reasoning_that_left_no_room_for_an_answer_is_not_paid_for_again_and_again(start: Start) -> None:
    empty = outcome_of(said({"content": ""}, finish="length"), None)
    assert isinstance(empty, Failure)
    assert "max_tokens" in empty.detail
    host, provider = start(Behaviour(Plan(schedule=[(1, None, Fault.EMPTY)])))
    list(host.generate(asks(1)))
    assert provider.counters.requests == patient().refused_attempts


# ── the key ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_that_is_not_there_is_said_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_KEY", raising=False)
    with pytest.raises(HostDown, match="LAB_KEY"):
        HostedApi(entry(), Account(key_env="LAB_KEY"), Retry(), LocalLimiter())


def test_the_key_is_sent_and_appears_nowhere_else(
    start: Start, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def indiscreet(body: dict[str, Any]) -> str:
        return f"Your key is {CANARY}." if body["seed"] else "I keep it to myself."

    caplog.set_level(logging.DEBUG)
    produced: list[object] = []
    for fault in Fault:
        behaviour = Behaviour(Plan(schedule=[(2, None, fault)]), api_key=CANARY, slow_s=0.05)
        host, provider = start(behaviour, retry=patient(fault, attempts=2), speaker=indiscreet)
        try:
            produced.extend(host.generate(asks(4)))
        except HostDown as wrong:
            produced.append("".join(traceback.format_exception(wrong)))
        assert provider.counters.statuses[200] >= 1
        produced += [repr(host), str(vars(host).keys())]
        with pytest.raises(TypeError) as refused:
            pickle.dumps(host)
        produced.append(str(refused.value))
    assert any(isinstance(one, Reply) and isinstance(one.outcome, Answer) for one in produced)
    streams = capfd.readouterr()
    everything = "\n".join([*map(repr, produced), caplog.text, streams.out, streams.err])
    assert "[key]" in everything  # the provider did tell it
    assert CANARY not in everything


def test_a_server_that_refuses_the_key_and_repeats_it_does_not_make_us_tell_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = start(Behaviour(api_key="another"))
    with pytest.raises(HostDown, match="LAB_KEY") as stopped:
        list(host.generate(asks(1)))
    assert CANARY not in "".join(traceback.format_exception(stopped.value))


# ── what goes over the wire ────────────────────────────────────────────────────────────────────────────────────────


class Listening(Provider):
    """Keeps the headers of every request."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[dict[str, str]] = []

    def refused(self, request: web.Request) -> web.Response | None:
        self.headers.append({name.lower(): text for name, text in request.headers.items()})
        return None


def test_requests_without_the_sdk_say_what_its_first_one_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", CANARY)
    with Listening() as provider:
        host = HostedApi(entry(), Account(base_url=provider.base_url, key_env="LAB_KEY"), Retry(), LocalLimiter())
        list(host.generate(asks(1)))
        list(host.generate(asks(2)[1:]))
        host.close()
    own = {"x-emoray-key", "content-length"}
    first, second = ({name: text for name, text in sent.items() if name not in own} for sent in provider.headers)
    assert first == second
    assert first["authorization"] == f"Bearer {CANARY}"
    assert [sent["x-emoray-key"] for sent in provider.headers] == [ask.key for ask in asks(2)]


def test_only_a_rehearsals_server_is_told_which_cell_is_asked() -> None:
    sent: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        sent.extend(name.lower() for name in request.headers)
        return web.json_response(completion(await request.json(), "Yes.", ""))

    with serving(answer) as url:
        host = HostedApi(entry(), Account(base_url=f"{url}/v1"), Retry(), LocalLimiter())
        assert kinds(list(host.generate(asks(1)))) == {"answer": 1}  # through the SDK
        assert kinds(list(host.generate(asks(1)))) == {"answer": 1}
        host.close()
    assert not [name for name in sent if "emoray" in name or "key" in name]


@pytest.mark.parametrize("key", ["EMPTY", "x", "joy", "e"])
def test_a_short_key_changes_nothing_of_what_is_said(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", key)

    async def joyful(_: dict[str, Any]) -> str:
        return "I feel joy and anger, x EMPTY."

    with Provider(Behaviour(api_key=key), joyful) as provider:
        account = Account(base_url=provider.base_url, key_env="LAB_KEY")
        host = HostedApi(entry(), account, Retry(), LocalLimiter())
        answer = only(list(host.generate(asks(1)))).outcome
        host.close()
    assert isinstance(answer, Answer)
    assert answer.text == "I feel joy and anger, x EMPTY."
    assert (answer.returned_model, answer.system_fingerprint) == ("gpt-4o-rehearsal", "fp_rehearsal")
    assert answer.prompt_tokens is not None
    assert answer.cost_usd is not None


def test_an_azure_account_is_asked_at_its_deployment_with_its_own_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", CANARY)
    seen: list[tuple[str, str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, request.query["api-version"], request.headers["api-key"]))
        return web.json_response(completion(await request.json(), "Yes.", ""))

    with serving(answer) as url:
        account = Account(kind="azure", base_url=url, key_env="LAB_KEY", api_version="2024-10-21")
        host = HostedApi(entry(), account, Retry(), LocalLimiter())
        assert kinds(list(host.generate(asks(1)))) == {"answer": 1}
        assert kinds(list(host.generate(asks(1)))) == {"answer": 1}
        host.close()
    assert seen == [("/openai/deployments/gpt-4o/chat/completions", "2024-10-21", CANARY)] * 2


def test_a_compressed_answer_is_read() -> None:
    async def answer(request: web.Request) -> web.Response:
        response = web.json_response(completion(await request.json(), "Yes. " * 500, ""))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    with serving(answer) as url:
        host = HostedApi(entry(), Account(base_url=f"{url}/v1"), Retry(), LocalLimiter())
        assert kinds(list(host.generate(asks(1)))) == {"answer": 1}
        assert kinds(list(host.generate(asks(1)))) == {"answer": 1}
        host.close()


@contextmanager
def serving(answer: Callable[[web.Request], Awaitable[web.Response]]) -> Iterator[str]:
    """A server on loopback that answers everything in one way."""
    loop, ready, app = asyncio.new_event_loop(), threading.Event(), web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)

    async def opened() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ready.set()

    def run() -> None:
        loop.run_until_complete(opened())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
