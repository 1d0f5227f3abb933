"""The provider that misbehaves on purpose, asked over real HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.hosts.scripted import ScriptedHost
from emoray.rehearsal.behaviour import Behaviour, Counters
from emoray.rehearsal.faults import HOPELESS, STORM, Fault, Plan, storm
from emoray.rehearsal.provider import Provider, _turns, speaker_of
from emoray.rehearsal.rehearse import Log
from emoray.spec.models import Scripted

BODY = {"model": "m", "messages": [{"role": "user", "content": "What is freedom?"}], "seed": 3, "max_tokens": 50}


def post(provider: Provider, key: str = "a", body: dict[str, Any] = BODY, **headers: str) -> tuple[int, Any, bytes]:
    """(status, headers, body) of one chat completion."""
    request = urllib.request.Request(
        f"{provider.base_url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Emoray-Key": key, **headers},
    )
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read()


@contextmanager
def showing(fault: Fault, **behaviour: Any) -> Iterator[Provider]:
    with Provider(Behaviour(Plan(schedule=[(1, None, fault)]), **behaviour)) as provider:
        yield provider


@pytest.mark.parametrize("connected", [True, False], ids=["connected before", "not accepted yet"])
def test_what_was_sent_before_its_sender_died_is_counted_before_anything_later(connected: bool) -> None:
    """However busy the provider is meanwhile."""
    busy, go = threading.Event(), threading.Event()

    def hold_up() -> None:
        busy.set()
        go.wait()

    async def counted_when_it_has_caught_up() -> int:
        await _turns()
        return len(provider.counters.asked)

    with Provider(Behaviour(latency_s=3600)) as provider:
        assert provider._loop is not None
        address = urlsplit(provider.base_url)
        senders = [socket.create_connection((address.hostname, address.port)) for _ in range(30 if connected else 0)]
        if connected:
            provider.catch_up()
        provider._loop.call_soon_threadsafe(hold_up)
        busy.wait()
        senders = senders or [socket.create_connection((address.hostname, address.port)) for _ in range(30)]
        body = json.dumps(BODY)
        for number, sender in enumerate(senders):
            head = f"Host: x\r\nContent-Length: {len(body)}\r\nX-Emoray-Key: {number}"
            sender.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n\r\n{body}".encode())
        counted = asyncio.run_coroutine_threadsafe(counted_when_it_has_caught_up(), provider._loop)
        go.set()
        assert counted.result() == 30
        for sender in senders:
            sender.close()


def test_it_answers_like_a_provider_and_counts_by_key() -> None:
    with Provider() as provider:
        status, _, reply = post(provider, "a")
        post(provider, "a")
        post(provider, "b")
    answer = json.loads(reply)
    assert status == 200
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert provider.counters.asked == Counter(a=2, b=1)
    assert provider.counters.answered == Counter(a=2, b=1)


@pytest.mark.parametrize("fault", [Fault.THINK_CUT, Fault.HANG, Fault.BAD_REQUEST])
def test_a_line_of_a_batch_that_is_no_answer_is_noted_as_none(fault: Fault) -> None:
    """A ledger would take what is asked again for an answer that was thrown away."""
    provider, given = Provider(), Log()
    provider.counters = Counters(answered=given)
    asyncio.run(provider.line(BODY, "a", fault))
    assert given.events == []
    asyncio.run(provider.line(BODY, "a", None))
    assert [key for _, key in given.events] == ["a"]


def test_the_same_ask_gets_the_same_answer_and_another_seed_may_get_another() -> None:
    with Provider() as provider:
        texts = {
            seed: {post(provider, str(i), {**BODY, "seed": seed})[2].split(b'"content": ')[1] for i in range(2)}
            for seed in range(20)
        }
    assert all(len(same) == 1 for same in texts.values())
    assert len({text for same in texts.values() for text in same}) > 3


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        (Fault.BUSY, 429, "application/json"),
        (Fault.BUSY_SILENT, 429, "application/json"),
        (Fault.ERROR_HTML, 500, "text/html"),
        (Fault.GATEWAY_HTML, 502, "text/html"),
        (Fault.UNAVAILABLE, 503, "application/json"),
        (Fault.OK_HTML, 200, "text/html"),
        (Fault.FILTERED_400, 400, "application/json"),
        (Fault.BAD_REQUEST, 400, "application/json"),
        (Fault.CONTEXT_LENGTH, 400, "application/json"),
        (Fault.NO_SUCH_MODEL, 404, "application/json"),
        (Fault.AUTH, 401, "application/json"),
        (Fault.QUOTA, 429, "application/json"),
    ],
)
def test_each_refusal_looks_as_a_real_one(fault: Fault, status: int, content_type: str) -> None:
    with showing(fault) as provider:
        got, headers, _ = post(provider)
    assert got == status
    assert headers.get_content_type() == content_type
    assert provider.counters.answered.total() == 0
    assert provider.counters.faults == Counter({fault: 1})


def test_a_429_says_how_long_to_wait_unless_it_is_the_silent_kind() -> None:
    with showing(Fault.BUSY, retry_after_s=0.3) as loud, showing(Fault.BUSY_SILENT) as silent:
        told, untold = post(loud)[1], post(silent)[1]
    assert told["retry-after-ms"] == "300"
    assert told["retry-after"] == "1"
    assert untold["retry-after"] is untold["retry-after-ms"] is None


def test_half_a_json_text_is_no_json_text() -> None:
    with showing(Fault.CUT_JSON) as provider, pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting"):
        json.loads(post(provider)[2])


def test_a_reset_comes_in_the_middle_of_the_body() -> None:
    with showing(Fault.RESET) as provider, pytest.raises((ConnectionError, http.client.IncompleteRead)):
        post(provider)


@pytest.mark.parametrize(
    ("fault", "spoiled"),
    [
        (Fault.NO_CHOICES, lambda answer: answer["choices"] == []),
        (Fault.EMPTY, lambda answer: answer["choices"][0]["message"]["content"] == ""),
        (Fault.NULL, lambda answer: answer["choices"][0]["message"]["content"] is None),
        (Fault.FILTERED, lambda answer: answer["choices"][0]["finish_reason"] == "content_filter"),
        (Fault.LENGTH, lambda answer: answer["choices"][0]["finish_reason"] == "length"),
        (Fault.WRONG_MODEL, lambda answer: answer["model"] == "some-other-model"),
        (Fault.SURROGATE, lambda answer: answer["choices"][0]["message"]["content"].endswith("\ud83d")),
        (Fault.ODD_USAGE, lambda answer: isinstance(answer["usage"]["completion_tokens"], str)),
        (Fault.THINK, lambda answer: answer["choices"][0]["message"]["content"].startswith("<think>")),
        (Fault.THINK_CUT, lambda answer: "</think>" not in answer["choices"][0]["message"]["content"]),
        (Fault.ABORTED, lambda answer: answer["choices"][0]["finish_reason"] == "abort"),
        (Fault.ERROR_200, lambda answer: answer["error"]["code"] == 503),
    ],
)
def test_each_odd_answer_is_odd_in_its_way(fault: Fault, spoiled: Any) -> None:
    with showing(fault) as provider:
        assert spoiled(json.loads(post(provider)[2]))


def test_a_duplicate_is_an_earlier_body_once_more() -> None:
    with Provider(Behaviour(Plan(schedule=[(2, None, Fault.DUPLICATE)]))) as provider:
        first = post(provider, "a", {**BODY, "seed": 1})[2]
        assert post(provider, "b", {**BODY, "seed": 2})[2] == first


def test_refusals_come_in_several_voices() -> None:
    with showing(Fault.REFUSAL) as provider:
        voices = {json.loads(post(provider, str(i))[2])["choices"][0]["message"]["content"] for i in range(40)}
    assert len(voices) >= 3


def test_faults_come_by_schedule() -> None:
    with Provider(Behaviour(Plan(schedule=[(3, 4, Fault.UNAVAILABLE), (6, None, Fault.AUTH)]))) as provider:
        assert [post(provider)[0] for _ in range(7)] == [200, 200, 503, 503, 200, 401, 401]


@given(seed=st.integers(0, 1000), share=st.floats(0.05, 0.95))
def test_faults_come_as_often_as_their_chance_and_for_the_same_asks_in_any_order(seed: int, share: float) -> None:
    plan = Plan(seed, storm(share))
    keys = [f"{i:032x}" for i in range(400)]
    forwards = {key: plan.fault(number, key, 1) for number, key in enumerate(keys, start=1)}
    backwards = {key: plan.fault(number, key, 1) for number, key in enumerate(reversed(keys), start=1)}
    assert forwards == backwards
    hit = sum(fault is not None for fault in forwards.values()) / len(keys)
    assert abs(hit - share) < 0.15


def test_a_storm_has_every_fault_that_leaves_hope() -> None:
    assert set(STORM) | HOPELESS == set(Fault)
    assert sum(storm(0.3).values()) == pytest.approx(0.3)


def test_a_limit_admits_so_many_says_so_in_headers_and_tells_the_rest_to_wait() -> None:
    slowly = Behaviour(requests_per_minute=1, burst_s=300.0)  # another one after a minute
    with Provider(slowly) as provider, ThreadPoolExecutor(20) as crowd:
        replies = list(crowd.map(lambda i: post(provider, str(i)), range(20)))
    statuses = Counter(status for status, _, _ in replies)
    assert statuses == {200: 5, 429: 15}
    for status, headers, _ in replies:
        assert headers["x-ratelimit-limit-requests"] == "1"
        assert status == 200 or 0 < float(headers["retry-after-ms"]) <= 60_001


def test_a_limit_of_tokens_counts_prompt_and_answer() -> None:
    with Provider(Behaviour(tokens_per_minute=0.06, burst_s=60_000.0)) as provider:
        statuses = [post(provider, str(i))[0] for i in range(4)]
    assert statuses[0] == 200
    assert statuses[-1] == 429


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_of_tokens_may_count_what_a_request_reserves(name: str) -> None:
    body = {key: value for key, value in BODY.items() if key != "max_tokens"} | {name: 1000}
    with Provider(Behaviour(tokens_per_minute=1.5, burst_s=60_000.0, counts_reserved=True)) as provider:
        assert [post(provider, body=body)[0] for _ in range(2)] == [200, 429]


def test_it_may_answer_with_what_a_host_says() -> None:
    speaker = speaker_of(ScriptedHost(Scripted(host="scripted", name="m", lines=["The sea is calm."])))
    with Provider(speaker=speaker) as provider:
        assert json.loads(post(provider)[2])["choices"][0]["message"]["content"] == "The sea is calm."


def test_another_key_than_the_servers_is_refused() -> None:
    with Provider(Behaviour(api_key="right")) as provider:
        assert post(provider, Authorization="Bearer wrong")[0] == 401
        assert post(provider, Authorization="Bearer right")[0] == 200


def test_an_unknown_model_is_refused() -> None:
    with Provider(Behaviour(models=("known",))) as provider:
        assert post(provider)[0] == 404
        assert post(provider, body={**BODY, "model": "known"})[0] == 200


def test_it_runs_as_a_program_and_tells_where_and_what_it_counted() -> None:
    command = [sys.executable, "-m", "emoray.rehearsal.provider", "--until-eof", "--fault", "unavailable=1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        provider = Provider()
        provider.base_url = json.loads(process.stdout.readline())["base_url"]
        assert post(provider)[0] == 503
        with urllib.request.urlopen(provider.base_url.removesuffix("/v1") + "/emoray/counters") as reply:
            counters = json.loads(reply.read())
        process.communicate()
    assert counters["statuses"] == {"503": 1}
    assert process.returncode == 0
