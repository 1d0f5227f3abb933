"""Models behind an HTTP API that speaks OpenAI's protocol: hundreds of requests in flight from one thread.

The SDK makes the first request of a host, over a transport of ours; what it sent (the address, the headers) is the
pattern of all others, which go over the same connections without it: a request then costs a sixth of the CPU. The
SDK never retries. What went wrong is decided by the type of an exception, by status and code, never by wording.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai

from emoray.governor import Governor
from emoray.governor.headers import heard
from emoray.hosts import Ask, HostDown, Reply
from emoray.hosts.asking import Asking, Guess, Tried
from emoray.hosts.chat import (
    KEY_HEADER,
    is_rehearsal,
    outcome_of,
    refusal_of,
    request_body,
    shown,
    told_to_wait_s,
)
from emoray.hosts.permits import Permits
from emoray.hosts.reasoning import tags_of
from emoray.prices import price_of, unpriced
from emoray.retry import retry_after_s
from emoray.spec import Account, Hosted, Retry
from emoray.study.outcomes import Failure, FailureKind, Outcome

_NO_KEY = "no-key"  # the SDK wants one even for a server that does not
_SET_BY_AIOHTTP = frozenset({"content-length", "host", "accept-encoding"})
_ENCODINGS = {"Accept-Encoding": "gzip, deflate"}  # what aiohttp reads without further packages
_Client = TypeVar("_Client")
_LONGEST_TOLD_S = 3600.0  # a provider that wants to be left alone for longer ends the lane
_LISTEN_EVERY_S = 0.1  # the headers of every response in between tell nothing new


class HostedApi:
    """One model of one account. Paces and retries by itself; the key is read from the environment and stays here."""

    name = "hosted_api"
    revision = None
    engine = None

    def __init__(
        self, entry: Hosted, account: Account, retry: Retry, governor: Governor, *, run: str = "run", seed: int = 0
    ) -> None:
        """HostDown without a key, or for a budget without a price. `run` is its name to governors; `seed`: jitter."""
        self.in_flight = entry.in_flight
        self._entry, self._account, self._timeout_s = entry, account, retry.timeout_s
        self._price = price_of(entry)
        self._key = key_of(account)
        self._secret = self._key if account.key_env else ""
        self._tags = tags_of(entry.reasoning_tags)
        why = unpriced(entry, account.budget_usd)
        if why is not None:
            raise HostDown(why)
        self._names_cells = is_rehearsal(account.base_url)
        self._wire = Wire(connections=entry.in_flight)
        transport = httpx2.AsyncClient(transport=self._wire, trust_env=False, follow_redirects=True)
        self._client = client_of(
            account, self._key, openai.AsyncOpenAI, openai.AsyncAzureOpenAI, timeout=None, http_client=transport
        )
        self._permits = Permits(governor, f"{run}/{uuid.uuid4().hex}", entry.id)
        self._listened_at = 0.0
        self._asking = Asking(
            self._attempt,
            self._permits,
            in_flight=entry.in_flight,
            retry=retry,
            guess=Guess(self._price, reserves=account.reserves_tokens),
            hopeless=lambda failure: hopeless_sentence(failure, entry, account),
            at_end=self._client.close,
            chance=random.Random(seed),
        )

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """See `Host`. HostDown (BudgetSpent where money ran out) comes after the replies of all that was asked."""
        return self._asking.generate(asks)

    def close(self) -> None:
        self._asking.close()

    def __repr__(self) -> str:
        return f"HostedApi({self._entry.name!r}, {self._account.base_url!r})"

    def __getstate__(self) -> object:
        raise TypeError("a HostedApi holds a key and open connections; construct it where it is used")

    async def _attempt(self, ask: Ask) -> Tried:
        began, asked_at = time.perf_counter(), datetime.now(UTC)
        try:
            async with asyncio.timeout(self._timeout_s):
                status, headers, body = await self._sent(request_body(self._entry, ask), ask.key)
        except (openai.APIError, aiohttp.ClientError, TimeoutError, OSError) as wrong:
            took_s = time.perf_counter() - began
            return Tried(failure_of(wrong, self._secret), asked_at, took_s, billable=not _never_sent(wrong))
        took_s = time.perf_counter() - began
        self._listen(headers)
        outcome = self._outcome(status, body)
        if not (isinstance(outcome, Failure) and outcome.refused):
            return Tried(outcome, asked_at, took_s)
        told_s = retry_after_s(headers, datetime.now(UTC)) or told_to_wait_s(body)
        return Tried(_for_long(outcome, told_s), asked_at, took_s, told_s, billable=False)

    def _outcome(self, status: int, body: bytes) -> Outcome:
        if status == 200:
            return outcome_of(body, self._price, tags=self._tags, key=self._secret)
        return refusal_of(status, body, self._secret)

    async def _sent(self, body: dict[str, Any], key: str) -> Received:
        name = {KEY_HEADER: key} if self._names_cells else {}
        if self._wire.pattern is not None:
            return await self._wire.post(body, name)
        try:
            response = await self._client.post(
                "/chat/completions", cast_to=httpx2.Response, body=body, options={"headers": name}
            )
        except openai.APIStatusError as refused:
            response = refused.response
        return Received(response.status_code, response.headers, response.content)

    def _listen(self, headers: Mapping[str, str]) -> None:
        now = time.monotonic()
        if now - self._listened_at >= _LISTEN_EVERY_S:
            self._listened_at = now
            self._permits.heard(heard(headers))


class Received(NamedTuple):
    status: int
    headers: Mapping[str, str]  # looked up without regard to case
    body: bytes


class Wire(httpx2.AsyncBaseTransport):
    """What the SDK's client sends through. Keeps its latest chat request as a pattern, and sends like it by itself."""

    def __init__(self, *, connections: int) -> None:
        self.pattern: tuple[str, dict[str, str]] | None = None  # address and headers; holds the key
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request of the SDK."""
        headers = {name: text for name, text in request.headers.items() if name not in _SET_BY_AIOHTTP} | _ENCODINGS
        url = str(request.url)
        received = await self._send(request.method, url, headers, await request.aread())
        if request.url.path.endswith("/chat/completions"):
            self.pattern = (url, {name: text for name, text in headers.items() if name != KEY_HEADER.lower()})
        decoded = [(name, text) for name, text in received.headers.items() if name.lower() != "content-encoding"]
        return httpx2.Response(received.status, headers=decoded, content=received.body, request=request)

    async def post(self, body: dict[str, Any], name: dict[str, str]) -> Received:
        """The same request with another body and name; aiohttp's errors and TimeoutError as they come."""
        assert self.pattern is not None
        url, headers = self.pattern
        return await self._send("POST", url, headers | name, json.dumps(body).encode())

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _send(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Received:
        session = self._session = self._session or self._opened(url)
        async with session.request(method, url, headers=headers, data=body, allow_redirects=False) as response:
            return Received(response.status, response.headers, await response.read())

    def _opened(self, url: str) -> aiohttp.ClientSession:
        connections = self._connections + 8
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=30.0, ssl=httpx2.create_ssl_context()),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # the caller has one over all
            proxy=_proxy_of(url),  # once: aiohttp's trust_env asks a thread before every request
        )


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for an address (HTTPS_PROXY, NO_PROXY, …)."""
    there = urlsplit(url)
    if urllib.request.proxy_bypass(there.hostname or ""):
        return None
    return urllib.request.getproxies().get(there.scheme)


def key_of(account: Account) -> str:
    """The key in the environment; HostDown where the variable is not set. The error names only the variable."""
    if account.key_env is None:
        return _NO_KEY
    key = os.environ.get(account.key_env, "")
    if not key:
        raise HostDown(
            f"the environment variable {account.key_env}, which holds the key for {account.base_url}, is not set; "
            "set it where the run's actors start"
        )
    return key


def client_of(
    account: Account, key: str, plain: Callable[..., _Client], azure: Callable[..., _Client], **settings: Any
) -> _Client:
    """One of the SDK's clients, the plain one or Azure's, without its retries."""
    if account.kind == "azure":
        place = {"azure_endpoint": account.base_url, "api_version": account.api_version}
        return azure(**place, api_key=key, max_retries=0, **settings)
    return plain(base_url=account.base_url, api_key=key, max_retries=0, **settings)


def failure_of(wrong: Exception, key: str) -> Failure:
    """The kind of what went wrong, from its type, status and code; the detail is the provider's text, less the key."""
    if isinstance(wrong, openai.APIStatusError):
        return refusal_of(wrong.status_code, wrong.response.content, key)
    detail = shown(wrong, key) or type(wrong).__name__
    return Failure(FailureKind.TIMEOUT if _is_timeout(wrong) else FailureKind.CONNECTION, detail)


def _for_long(refused: Failure, told_s: float | None) -> Failure:
    """A 429 that says to come back in hours is no matter of pace: what is over is the day's quota."""
    if refused.kind is not FailureKind.RATE_LIMITED or told_s is None or told_s <= _LONGEST_TOLD_S:
        return refused
    return Failure(FailureKind.QUOTA_EXHAUSTED, f"{refused.detail}; it says to come back in {told_s / 3600:.1f} h")


def _never_sent(wrong: BaseException | None) -> bool:
    """Whether no connection was there; by its causes, too."""
    while wrong is not None and not isinstance(wrong, aiohttp.ClientConnectorError):
        wrong = wrong.__cause__
    return wrong is not None


def _is_timeout(wrong: BaseException | None) -> bool:
    """By its causes, too: the SDK wraps what its transport raised."""
    while wrong is not None and not isinstance(wrong, TimeoutError):
        wrong = wrong.__cause__
    return wrong is not None


def hopeless_sentence(failure: Failure, entry: Hosted, account: Account) -> str:
    """Why a lane stops, and what to do."""
    said = f"({failure.detail})"
    match failure.kind:
        case FailureKind.AUTH:
            return f"{account.base_url} refuses the key in {account.key_env or 'no variable'} {said}; correct it there"
        case FailureKind.NO_SUCH_MODEL:
            return f"{account.base_url} has no model {entry.id!r} {said}; correct the id of model {entry.name!r}"
        case _:
            where = f"the quota of account {entry.account!r} at {account.base_url}"
            return f"{where} is exhausted {said}; top it up, or run again once it is renewed"
