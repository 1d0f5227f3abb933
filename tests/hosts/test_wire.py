"""What goes over the wire, byte by byte: what HTTP, an encoding or a charset makes of an answer, and where it leads."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
import openai
import pytest

from emoray.hosts import hosted_api
from emoray.hosts.belief import ALIKE
from emoray.hosts.bodies import Garbled
from emoray.hosts.hosted_api import HostedApi
from emoray.hosts.protocol import HostDown, Reply
from emoray.rate_limits.local import LocalLimiter
from emoray.spec.accounts import Account, Retry
from emoray.study.outcomes import Answer, Failure, Outcome
from tests.hosts.raw import GOOD, listening, responses, writing
from tests.hosts.test_hosted_api import asks, entry, kinds, uncollected

OK = responses(b"200 OK\r\nContent-Type: application/json")
N = len(GOOD)
OURS = (aiohttp.ClientResponse, aiohttp.ClientError, openai.APIError, Garbled)
PATIENCE = Retry(attempts=8, refused_attempts=3, timeout_s=600.0, first_wait_s=0.01, longest_wait_s=0.02)


def told(url: str, n: int = 1, *, first: int = 0, retry: Retry = PATIENCE, **settings: Any) -> list[Reply]:
    """What a lane gets for some asks; HostDown where it ends."""
    host = HostedApi(entry(**settings), account(url), retry, LocalLimiter())
    try:
        return list(host.generate(asks(n + first)[first:]))
    finally:
        host.close()


def account(url: str) -> Account:
    return Account(base_url=f"{url}/v1")


def outcome(reply: Callable[[bytes], bytes]) -> tuple[Outcome, int]:
    with writing(reply) as (url, requests):
        return told(url)[0].outcome, len(requests)


UNREADABLE = {
    "brotli that is none": responses(b"200 OK\r\nContent-Encoding: br"),
    "zstd that is none": responses(b"200 OK\r\nContent-Encoding: zstd"),
    "gzip that is none": responses(b"200 OK\r\nContent-Encoding: gzip"),
    "gzip that is cut": responses(b"200 OK\r\nContent-Encoding: gzip", gzip.compress(GOOD)[:-20]),
    "gzip that is spoiled": responses(b"200 OK\r\nContent-Encoding: gzip", gzip.compress(GOOD)[:-20] + b"x" * 12),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Length: %d\r\n\r\n" % (N, N) + GOOD,
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + GOOD,
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "more than its length": OK + b"GARBAGE",
    "a blank in a header's name": b"HTTP/1.1 200 OK\r\nX A : b\r\nContent-Length: %d\r\n\r\n" % N + GOOD,
    "a header of 100 kB": responses(b"200 OK\r\nX-Big: " + b"a" * 100_000),
    "no UTF-8": responses(b"200 OK", GOOD.replace(b"joy.", b"joy caf\xe9, mid")),
    "not its charset": responses(b"200 OK\r\nContent-Type: a/b; charset=shift_jis", GOOD.replace(b"joy", b"\x81\x20")),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_success_that_cannot_be_read_is_malformed_asked_a_few_times_and_may_be_billed(name: str) -> None:
    found, requests = outcome(lambda _: UNREADABLE[name])
    assert isinstance(found, Failure)
    assert found.kind == "malformed", found
    assert found.detail.startswith("the response cannot be read: its ") or "it breaks the rules" in found.detail
    assert "400" not in found.detail
    assert requests == PATIENCE.refused_attempts
    assert found.cost_usd is not None
    assert found.cost_usd > 0


@pytest.mark.parametrize("later", [b"zz\r\nxxx", b"-5\r\nabc\r\n", b"0\r\nno trailer\r\n\r\n"])
def test_what_breaks_the_rules_in_a_later_packet_is_malformed_at_once(
    later: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of aiohttp alone nothing would be heard until our patience has ended: an hour here."""
    begun, whole = threading.Semaphore(0), hosted_api._whole

    async def heard(response: aiohttp.ClientResponse) -> bytes:
        begun.release()
        return await whole(response)

    def serve(connection: socket.socket) -> None:
        with connection:
            while not connection.recv(1 << 16).endswith(b"}"):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % N + GOOD + b"\r\n")
            begun.acquire()
            connection.sendall(later)
            connection.recv(1)

    monkeypatch.setattr(hosted_api, "_whole", heard)
    with listening(serve) as url, uncollected(OURS) as left:
        found = told(url, retry=PATIENCE.model_copy(update={"timeout_s": 3600.0}))[0]
    assert kinds([found]) == {"malformed": 1}
    assert found.attempts == PATIENCE.refused_attempts
    assert left == []


def test_a_body_without_end_is_malformed_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while not connection.recv(1 << 16).endswith(b"}"):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{")
            while True:
                connection.sendall(b" " * 65_536)

    monkeypatch.setattr(hosted_api, "_LONGEST_BODY", 1 << 20)
    with listening(serve) as url, uncollected(OURS) as left:
        found = told(url)[0]
    assert kinds([found]) == {"malformed": 1}
    assert found.attempts == PATIENCE.refused_attempts
    assert isinstance(found.outcome, Failure)
    assert found.outcome.detail == "the response cannot be read: it is longer than 1 MiB"
    assert left == []


CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + GOOD


@pytest.mark.parametrize("reply", [CUT, UNREADABLE["a bad chunk"], UNREADABLE["no HTTP"], UNREADABLE["no UTF-8"]])
def test_a_body_that_is_broken_leaves_its_bytes_to_nobody(reply: bytes) -> None:
    with writing(lambda _: reply) as (url, _), uncollected(OURS) as left:
        assert kinds(told(url, 3)).total() == 3
    assert left == []


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (responses(b"200 OK", b""), "the reply is empty"),
        (responses(b"200 OK", b" \n\n"), "the reply is empty"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "204: the reply is empty"),
        (responses(b"202 Accepted\r\nNVCF-STATUS: pending-evaluation", b""), "202: the reply is empty"),  # NVIDIA's
    ],
)
def test_a_success_without_a_word_says_so(reply: bytes, detail: str) -> None:
    found, requests = outcome(lambda _: reply)
    assert isinstance(found, Failure)
    assert (found.kind, found.detail, requests) == ("malformed", detail, PATIENCE.refused_attempts)


@pytest.mark.parametrize("name", ["brotli that is none", "no HTTP", "more than its length", "no UTF-8"])
def test_a_lane_that_can_read_nothing_ends_after_the_first_asks(name: str) -> None:
    with writing(lambda _: UNREADABLE[name]) as (url, requests):
        with pytest.raises(HostDown, match=f"refused the first {ALIKE} asks .*the response cannot be read"):
            told(url, 200, in_flight=4)
        assert len(requests) <= 3 * ALIKE


READ = {
    "x-gzip": responses(b"200 OK\r\nContent-Encoding: x-gzip", gzip.compress(GOOD)),
    "GZIP": responses(b"200 OK\r\nContent-Encoding: GZIP", gzip.compress(GOOD)),
    "gzip in two members": responses(
        b"200 OK\r\nContent-Encoding: gzip", gzip.compress(GOOD[:40]) + gzip.compress(GOOD[40:])
    ),
    "deflate": responses(b"200 OK\r\nContent-Encoding: deflate", zlib.compress(GOOD)),
    "deflate without its frame": responses(b"200 OK\r\nContent-Encoding: deflate", zlib.compress(GOOD)[2:-4]),
    "two encodings": responses(b"200 OK\r\nContent-Encoding: deflate, gzip", gzip.compress(zlib.compress(GOOD))),
    "identity": responses(b"200 OK\r\nContent-Encoding: identity"),
    "an encoding that is none": responses(b"200 OK\r\nContent-Encoding: utf-8"),
    "a header of 60 kB": responses(b"200 OK\r\nX-Big: " + b"a" * 60_000),
    "a hundred cookies": responses(b"200 OK" + b"\r\nSet-Cookie: a=b" * 100),
    "no length": b"HTTP/1.0 200 OK\r\n\r\n" + GOOD,
    "103 before it": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
}


@pytest.mark.parametrize("name", READ)
def test_an_answer_is_read_however_it_is_packed(name: str) -> None:
    found, requests = outcome(lambda _: READ[name])
    assert isinstance(found, Answer), found
    assert (found.text, requests) == ("I feel joy.", 1)


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (N + 50) + GOOD,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % N + GOOD + b"\r\n",
    ],
    ids=["nothing", "less than its length", "no last chunk"],
)
def test_what_the_network_broke_off_is_asked_as_often_as_the_spec_says(cut: bytes) -> None:
    found, requests = outcome(lambda _: cut)
    assert isinstance(found, Failure)
    assert (found.kind, requests) == ("connection", PATIENCE.attempts)


def test_a_refusal_that_cannot_be_unpacked_is_what_its_status_says() -> None:
    found, _ = outcome(lambda _: responses(b"503 Busy\r\nContent-Encoding: gzip", b"busy"))
    assert isinstance(found, Failure)
    assert found.kind == "overloaded"


def test_a_connection_that_is_reset_within_an_answer_is_a_failure_and_no_noise_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    long = b" " * (8 << 20)  # more than waits in sockets, so that it is being read when the connection goes
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (len(long) + 1)

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.recv(1 << 16)
            connection.sendall(head + long)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with listening(serve) as url:
        assert kinds(told(url, retry=Retry(attempts=1))) == {"connection": 1}
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


ODD = {
    "a half character": b"X-A: \xff\xfe caf\xe9",
    "a charset that is none": b"Content-Type: application/json; charset=\xff",
    "a charset that is no text's": b"Content-Type: application/json; charset=base64",
    "a charset that is undefined": b"Content-Type: application/json; charset=undefined",
    "limits that are none": b"x-ratelimit-limit-requests: \xff, 1e999\r\nx-ratelimit-reset-requests: \xc3(",
    "a date that is none": b"Date: \xff",
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_header_costs_neither_an_answer_nor_the_lane(name: str) -> None:
    seen: list[bytes] = []

    def reply(request: bytes) -> bytes:
        seen.append(request)
        status = b"200 OK" if len(seen) % 2 else b"429 No\r\nRetry-After: \xff"
        return responses(status + b"\r\n" + ODD[name], GOOD if len(seen) % 2 else b"no \xff")

    with writing(reply) as (url, _):
        assert kinds(told(url, 3, in_flight=1)) == {"answer": 3}
    with writing(lambda _: responses(b"400 No\r\n" + ODD[name], b'{"error": "no \xff"}')) as (url, _):
        assert kinds(told(url)) == {"bad_request": 1}


def test_a_proxy_that_wants_a_login_is_not_taken_for_a_provider_that_refuses_the_key() -> None:
    with writing(lambda _: responses(b"407 Proxy Authentication Required", b"<html>")) as (url, requests):
        with pytest.raises(HostDown, match=r"the proxy before .* wants a login \(407: .*HTTPS_PROXY"):
            told(url, 30, in_flight=1)
        assert len(requests) == 1
    passing = [OK, *[responses(b"407 Proxy Authentication Required", b"")] * 2]
    with writing(lambda _: passing.pop(0) if passing else OK) as (url, _):
        assert kinds(told(url, 5, in_flight=1)) == {"answer": 5}


# ── charsets ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("charset", "encoding", "text"),
    [
        ("gb18030", "gb18030", "我很高兴，café"),
        ("GBK", "gbk", "我很高兴"),
        ("gb2312", "gb18030", "我很高兴 𠮷"),
        ("windows-1252", "cp1252", "I feel “joy” – café"),
        ("iso-8859-1", "latin-1", "café"),
        ("iso-8859-1", "cp1252", "“café”"),
        ('"Shift_JIS"', "shift_jis", "とても嬉しい"),
        ("euc-kr", "euc_kr", "기쁘다"),
        ("koi8-r", "koi8_r", "Мне радостно"),
        ("utf-16", "utf-16", "café 😀"),
        ("klingon", "utf-8", "café 😀"),
        ("iso-8859-1", "utf-8", "café 😀"),
        ("utf-8", "utf-16", "café"),
        ("base64", "utf-8", "café"),
        ("utf-8", "utf-32", "café 😀"),
    ],
)
def test_an_answer_is_read_in_utf8_or_else_in_the_charset_that_it_declares(
    charset: str, encoding: str, text: str
) -> None:
    body = GOOD.decode().replace("I feel joy.", text).encode(encoding)
    found, _ = outcome(
        lambda _: responses(b"200 OK\r\nContent-Type: application/json; charset=%b" % charset.encode(), body)
    )
    assert isinstance(found, Answer), found
    assert found.text == text


def test_halves_of_a_character_that_were_written_one_by_one_are_that_character() -> None:
    found, _ = outcome(lambda _: responses(b"200 OK", GOOD.replace(b"joy", b"\xed\xa0\xbd\xed\xb8\x80")))
    assert isinstance(found, Answer)
    assert found.text == "I feel 😀."


def test_a_refusals_text_is_read_in_its_charset_too() -> None:
    text = json.dumps({"error": {"message": "余额"}}, ensure_ascii=False).encode("gbk")
    found, _ = outcome(lambda _: responses(b"400 No\r\nContent-Type: application/json; charset=gbk", text))
    assert isinstance(found, Failure)
    assert found.detail == "400: 余额"


# ── where a response leads ─────────────────────────────────────────────────────────────────────────────────────────

ELSEWHERE = "http://127.0.0.1:9/v1/chat/completions?api_key=secret"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("had_answers", [False, True])
def test_nothing_is_sent_to_another_place_and_the_failure_names_it(status: int, had_answers: bool) -> None:
    seen: list[bytes] = []

    def reply(request: bytes) -> bytes:
        seen.append(request)
        good = had_answers and len(seen) == 1
        return OK if good else responses(b"%d Go\r\nLocation: %b" % (status, ELSEWHERE.encode()), b"")

    with writing(reply) as (url, _):
        replies = told(url, 2, in_flight=1)
    failed = [reply.outcome for reply in replies if isinstance(reply.outcome, Failure)]
    assert kinds(replies) == ({"answer": 1, "bad_request": 1} if had_answers else {"bad_request": 2})
    assert failed[-1].detail == (
        f"{status}: it leads on to http://127.0.0.1:9/v1/chat/completions, where no key is sent; correct base_url"
    )


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("had_answers", [False, True])
def test_another_place_of_the_same_server_is_asked_there(status: int, had_answers: bool) -> None:
    seen: list[bytes] = []

    def reply(request: bytes) -> bytes:
        seen.append(request)
        there = request.startswith(b"POST /v2/chat") or (had_answers and len(seen) == 1)
        return OK if there else responses(b"%d Go\r\nLocation: /v2/chat" % status, b"")

    with writing(reply) as (url, _):
        assert kinds(told(url, 3, in_flight=1)) == {"answer": 3}
    assert all(b'"messages"' in request and b"uthorization: Bearer" in request for request in seen)


@pytest.mark.parametrize("location", [b"\r\nLocation: http://[bad", b"", b"\r\nLocation: /v1/chat/completions"])
def test_a_response_that_leads_nowhere_or_in_a_circle_is_a_failure_with_a_sentence(location: bytes) -> None:
    found, _ = outcome(lambda _: responses(b"307 Go" + location, b""))
    assert isinstance(found, Failure)
    assert found.kind == "bad_request"
    assert "correct base_url" in found.detail


def test_a_lane_that_is_led_on_at_every_ask_ends_with_the_place() -> None:
    with writing(lambda _: responses(b"307 Go\r\nLocation: %b" % ELSEWHERE.encode(), b"")) as (url, requests):
        with pytest.raises(HostDown, match=r"leads on to http://127\.0\.0\.1:9/v1.*correct base_url"):
            told(url, 100, in_flight=4)
        assert len(requests) <= 3 * ALIKE


# ── what a quota's end looks like in passing ───────────────────────────────────────────────────────────────────────

PAY = responses(b"402 Pay", b'{"error": {"message": "Payment required"}}')
QUOTA = responses(b"429 No", b'{"error": {"message": "quota", "code": "insufficient_quota"}}')


def replies_of(script: Callable[[int], bytes], n: int) -> list[Reply]:
    seen: list[bytes] = []

    def reply(request: bytes) -> bytes:
        seen.append(request)
        return script(len(seen))

    with writing(reply) as (url, _):
        return told(url, n, in_flight=1)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(lambda n: PAY if 8 <= n <= 12 else OK, id="five 402s"),
        pytest.param(lambda n: QUOTA if n == 8 else OK, id="one insufficient_quota"),
    ],
)
def test_a_quota_that_ends_in_passing_is_not_believed(script: Callable[[int], bytes]) -> None:
    assert kinds(replies_of(script, 20)) == {"answer": 20}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(lambda n: PAY if n >= 8 else OK, id="402"),
        pytest.param(lambda n: QUOTA if n >= 8 else OK, id="insufficient_quota"),
        pytest.param(lambda _: QUOTA, id="from the start"),
    ],
)
def test_a_quota_that_stays_spent_ends_the_lane(script: Callable[[int], bytes]) -> None:
    with pytest.raises(HostDown, match=r"quota of account 'lab' .* is exhausted"):
        replies_of(script, 50)
