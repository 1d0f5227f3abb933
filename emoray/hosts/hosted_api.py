"""Models behind an HTTP API that speaks OpenAI's protocol: hundreds of requests in flight from one thread.

The SDK makes the first request of a host, over a transport of ours; what it sent (the address, the headers) is the
pattern of all others, which go over the same connections without it: a request then costs a sixth of the CPU. The
SDK never retries. What went wrong is decided by the type of an exception, by status and code, never by wording.
"""

from __future__ import annotations

import asyncio
import errno
import json
import random
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from types import UnionType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp
import httpx2
import openai
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError, TransferEncodingError

from emoray.hosts import access
from emoray.hosts.access import Proxy, proxy_of
from emoray.hosts.belief import ALIKE
from emoray.hosts.bodies import LONGEST, Garbled, in_utf8, unpacked
from emoray.hosts.openai_protocol import KEY_HEADER, is_rehearsal, outcome_of, refusal_of, request_body, shown
from emoray.hosts.permits import Permits
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.hosts.reasoning import tags_of
from emoray.hosts.refusals import is_stream, told_to_wait_s
from emoray.hosts.request_loop import Guess, RequestLoop, Tried, spare_the_collector
from emoray.hosts.tab import Sending, Tab
from emoray.rate_limits.headers import heard, until_reset_s
from emoray.rate_limits.protocol import RateLimiter
from emoray.rate_limits.waits import retry_after_s, their_now
from emoray.spec.accounts import Account, Retry
from emoray.spec.models import Hosted
from emoray.spec.prices import price_of, unpriced
from emoray.study.outcomes import Failure, FailureKind, Outcome

_NO_KEY = "no-key"  # the SDK wants one even for a server that does not
_SET_BY_AIOHTTP = frozenset({"content-length", "host", "accept-encoding"})
_ENCODINGS = {"Accept-Encoding": "gzip, deflate"}  # what `bodies` reads
_LONGEST_BODY = LONGEST
_LONGEST_HEADER = 1 << 16  # bytes: gateways sign, trace and set cookies
_IDLE_S = 4.0  # uvicorn and Node close what is idle for five: what is sent meanwhile is lost, and may be billed
_STAYS = frozenset({307, 308})  # these say that the same request belongs elsewhere; others make it another one
_MOST_STEPS = 5
_AWAY = "emoray.location"
_RECEIVED = "emoray.received"
_NO_LOGIN = "407"
_WHOLE = 200
_NO_ROOM = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})
_Client = TypeVar("_Client")
_UNASKED = {"stream": False}  # some gateways stream unless they are told not to
_LONGEST_TOLD_S = 3600.0  # a provider whose limit holds for longer ends the lane; nobody else is left alone so long
_LATE = frozenset({408, 504, 522, 524})  # a gateway's patience has ended
_LISTEN_EVERY_S = 0.1  # the headers of every response in between tell nothing new


class HostedApi:
    """One model of one account. Paces and retries by itself; the key is read from the environment and stays here."""

    name = "hosted_api"
    revision = None
    engine = None

    def __init__(
        self,
        entry: Hosted,
        account: Account,
        retry: Retry,
        limiter: RateLimiter,
        *,
        run: str = "run",
        seed: int = 0,
        had_answers: Callable[[], bool] = lambda: False,
        tab: Tab | None = None,
    ) -> None:
        """HostDown without a key, or for a budget without a price. `run` is its name to limiters; `seed`: jitter;
        `had_answers`: whether the lane had any, from whichever actor; `tab`: where money is written down before it may
        be spent.
        """
        spare_the_collector()
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
        self._wire = Wire(connections=entry.in_flight, proxy=proxy_of(account.base_url))
        transport = httpx2.AsyncClient(transport=self._wire, trust_env=False, follow_redirects=False)
        self._client = client_of(
            account, self._key, openai.AsyncOpenAI, openai.AsyncAzureOpenAI, timeout=None, http_client=transport
        )
        self._permits = Permits(limiter, f"{run}/{uuid.uuid4().hex}", entry.id)
        self._listened_at = 0.0
        self._asking = RequestLoop(
            self._attempt,
            self._permits,
            in_flight=entry.in_flight,
            retry=retry,
            guess=Guess(self._price, reserves=account.reserves_tokens),
            hopeless=lambda failure: hopeless_sentence(failure, entry, account),
            at_end=self._client.close,
            chance=random.Random(seed),
            had_answers=had_answers,
            tab=tab if self._price and (self._price.input or self._price.output) else None,
        )

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """See `Host`. HostDown (BudgetSpent where money ran out) comes after the replies of all that was asked."""
        return self._asking.generate(asks)

    def stop(self, why: str) -> None:
        """See `Stoppable`."""
        self._asking.stop(why)

    def close(self) -> None:
        self._asking.close()

    def __repr__(self) -> str:
        return f"HostedApi({self._entry.name!r}, {self._account.base_url!r})"

    def __getstate__(self) -> object:
        raise TypeError("a HostedApi holds a key and open connections; construct it where it is used")

    async def _attempt(self, ask: Ask, sending: Sending) -> Tried:
        began, asked_at = time.perf_counter(), datetime.now(UTC)
        try:
            async with asyncio.timeout(self._timeout_s):
                status, headers, body = await self._sent(_UNASKED | request_body(self._entry, ask), ask.key, sending)
        except (openai.APIError, aiohttp.ClientError, TimeoutError, OSError, Garbled) as wrong:
            took_s = time.perf_counter() - began
            foreseen(wrong)
            failure, arrived = failure_of(wrong, self._secret), not _never_sent(wrong)
            late, turned_away = arrived and failure.kind is FailureKind.TIMEOUT, _turned_away(wrong)
            _forget(wrong)
            billable = arrived and sending.begun
            return Tried(failure, asked_at, took_s, billable=billable, late=late, turned_away=turned_away)
        took_s = time.perf_counter() - began
        self._listen(headers)
        outcome = self._said(status, headers, body)
        if not (isinstance(outcome, Failure) and outcome.refused):
            return Tried(outcome, asked_at, took_s)
        outcome, told_s = patience(outcome, headers, body)
        late, overloaded = status in _LATE, outcome.kind is FailureKind.OVERLOADED
        return Tried(outcome, asked_at, took_s, told_s, billable=False, late=late, turned_away=overloaded and not late)

    def _said(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        """What came; no body, however odd, is more than a matter of its own ask."""
        try:
            return self._read(status, headers, body)
        except Garbled as why:
            return replace(failure_of(why, self._secret), refused=not _is_good(status))
        except Exception as odd:
            unread = f"{status}: the reply cannot be read ({type(odd).__name__}): {shown(body, self._secret)}"
            return Failure(FailureKind.MALFORMED, unread, refused=not _is_good(status))

    def _read(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        if _leads_on(status):
            return _led_on(status, headers.get("location"), self._secret)
        if not _is_good(status):
            return refusal_of(status, _readable(body, headers.get("content-type", "")), self._secret)
        body = in_utf8(body, headers.get("content-type", ""))
        outcome = outcome_of(body, self._price, tags=self._tags, key=self._secret)
        if isinstance(outcome, Failure) and is_stream(body):
            said = "a stream of events came, which was not asked for (stream: false was sent)"
            return replace(outcome, detail=f"{said}: {shown(body, self._secret)}")
        if isinstance(outcome, Failure) and outcome.kind is FailureKind.MALFORMED and status != _WHOLE:
            return replace(outcome, detail=f"{status}: {outcome.detail}")  # accepted, and not answered yet
        return outcome

    async def _sent(self, body: dict[str, Any], key: str, sending: Sending) -> Received:
        name = {KEY_HEADER: key} if self._names_cells else {}
        if self._wire.pattern is not None:
            return await self._wire.post(body, name, sending)
        _SENDING.set(sending)
        try:
            response = await self._client.post(
                "/chat/completions", cast_to=httpx2.Response, body=body, options={"headers": name}
            )
        except openai.APIStatusError as refused:
            response = refused.response
        received: Received = response.extensions[_RECEIVED]
        return received

    def _listen(self, headers: Mapping[str, str]) -> None:
        now = time.monotonic()
        if now - self._listened_at >= _LISTEN_EVERY_S:
            self._listened_at = now
            self._permits.heard(heard(headers))


class Received(NamedTuple):
    status: int
    headers: Mapping[str, str]  # looked up without regard to case
    body: bytes


class _Told(aiohttp.BytesPayload):
    """A body that tells when it is handed to its connection, which aiohttp does in one go with the headers."""

    def __init__(self, body: bytes, sending: Sending) -> None:
        super().__init__(body)
        self._sending = sending

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._sending.begin()
        await super().write_with_length(writer, content_length)


_SENDING = ContextVar[Sending]("sending")  # of this task: the SDK hands nothing on to its transport


class Wire(httpx2.AsyncBaseTransport):
    """What the SDK's client sends through. Keeps its latest chat request as a pattern, and sends like it by itself."""

    def __init__(self, *, connections: int, proxy: Proxy | None = None) -> None:
        self.pattern: tuple[str, dict[str, str]] | None = None  # address and headers; holds the key
        self._connections, self._proxy = connections, proxy
        self._for_proxy = None if proxy is None or proxy.login is None else {"Authorization": proxy.login}
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request of the SDK."""
        headers = {name: text for name, text in request.headers.items() if name not in _SET_BY_AIOHTTP} | _ENCODINGS
        url = str(request.url)
        received = await self._send(request.method, url, headers, _Told(await request.aread(), _SENDING.get()))
        if request.url.path.endswith("/chat/completions"):
            self.pattern = (url, {name: text for name, text in headers.items() if name != KEY_HEADER.lower()})
        whole = {_RECEIVED: received}  # the SDK reads no header, and some hold what it could not
        return httpx2.Response(received.status, content=received.body, request=request, extensions=whole)

    async def post(self, body: dict[str, Any], name: dict[str, str], sending: Sending) -> Received:
        """The same request with another body and name; Garbled, aiohttp's errors and TimeoutError as they come."""
        assert self.pattern is not None
        url, headers = self.pattern
        return await self._send("POST", url, headers | name, _Told(json.dumps(body).encode(), sending))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _send(self, method: str, url: str, headers: dict[str, str], body: _Told) -> Received:
        """One response; it leads to another place of the same server at most, which the key is for."""
        for _ in range(_MOST_STEPS):
            received = await self._sent(method, url, headers, body)
            if received.status not in _STAYS:
                break
            there = _joined(url, received.headers.get("location"))
            if there is None or not _same_origin(url, there):
                break
            url = there
        return received

    async def _sent(self, method: str, url: str, headers: dict[str, str], body: _Told) -> Received:
        session = self._session = self._session or self._opened()
        proxy = self._for_proxy
        try:
            async with session.request(
                method, url, headers=headers, data=body, allow_redirects=False, proxy_headers=proxy
            ) as response:
                said = await _whole(response)
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as odd:
            garbled = _as_garbled(odd)
            if garbled is None:
                raise
            raise garbled from None
        return Received(response.status, response.headers, _unpacked(response, said))

    def _opened(self) -> aiohttp.ClientSession:
        connections, proxy = self._connections + 8, self._proxy
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_IDLE_S, ssl=_certificates()),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
            timeout=aiohttp.ClientTimeout(total=None),  # the caller has one over all
            proxy=proxy.url if proxy else None,  # known from the start: trust_env asks a thread before every request
        )


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body. Where a later packet breaks the rules of HTTP, aiohttp closes the connection and lets it wait."""
    connection, content = response.connection, response.content
    protocol = None if connection is None else connection.protocol  # falsy while nothing of it is unread
    closed = None if protocol is None or content.is_eof() else protocol.closed
    if protocol is None or closed is None:
        return await _read(response)

    def tell(_: object) -> None:
        wrong = protocol.exception()
        if isinstance(wrong, HttpProcessingError) and not content.is_eof() and content.exception() is None:
            broken = aiohttp.ClientPayloadError(wrong.message)
            broken.__cause__ = wrong
            content.set_exception(broken)

    closed.remove_done_callback(_heed)  # of an earlier answer
    closed.add_done_callback(_heed)
    closed.add_done_callback(tell)
    try:
        return await _read(response)
    finally:
        closed.remove_done_callback(tell)  # the connection has other answers before it


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Raises Garbled for a body without end, before it takes the memory of all that is in flight."""
    parts: list[bytes] = []
    left = _LONGEST_BODY
    while part := await response.content.readany():
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise Garbled(f"it is longer than {_LONGEST_BODY >> 20} MiB")
    return b"".join(parts)


def _heed(closed: asyncio.Future[None]) -> None:
    """Who reads is told of a lost connection by aiohttp; here nobody else wants to know, and asyncio would log it."""
    if not closed.cancelled():
        closed.exception()


def _unpacked(response: aiohttp.ClientResponse, body: bytes) -> bytes:
    """Raises Garbled for a success alone: of anything else the status tells enough."""
    try:
        return unpacked(body, response.headers.get("content-encoding", ""))
    except Garbled:
        if _is_good(response.status):
            raise
        return body


def _as_garbled(odd: aiohttp.ClientError) -> Garbled | None:
    """What aiohttp's parser did not understand; None where the network broke off, or a proxy refused."""
    if isinstance(odd, aiohttp.ClientHttpProxyError):
        return None
    if isinstance(odd, aiohttp.ClientResponseError):
        return Garbled(f"it breaks the rules of HTTP: {odd.message.splitlines()[0].rstrip(':')}")
    cut = isinstance(odd.__cause__, ContentLengthError | TransferEncodingError) and "Not enough data" in str(odd)
    return None if cut or odd.__cause__ is None else Garbled("it breaks the rules of HTTP within its body")


def _joined(url: str, location: str | None) -> str | None:
    """Where a response leads; None where it does not say so."""
    if not location:
        return None
    with suppress(ValueError):
        there = urljoin(url, location)
        _origin(urlsplit(there))
        return there
    return None


def _same_origin(url: str, there: str) -> bool:
    return _origin(urlsplit(url)) == _origin(urlsplit(there))


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _leads_on(status: int) -> bool:
    return 300 <= status < 400


def _led_on(status: int, location: str | None, key: str) -> Failure:
    """A response that leads elsewhere, where nothing is sent: the key is for this place alone."""
    there = _joined(location or "", location)
    where = shown((there or "a place that it does not name").partition("?")[0], key)
    said = f"{status}: it leads on to {where}, where no key is sent; correct base_url"
    return Failure(FailureKind.BAD_REQUEST, said, refused=True)


def _certificates() -> ssl.SSLContext:
    """Those of SSL_CERT_FILE or SSL_CERT_DIR, or the usual ones; HostDown where they cannot be read."""
    try:
        return httpx2.create_ssl_context()
    except OSError as wrong:
        said = f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({shown(wrong)})"
        raise HostDown(f"{said}; correct the variable, or unset it") from None


def key_of(account: Account) -> str:
    """The key in the environment; HostDown where there is none that can be sent. The error names only the variable."""
    return access.key_of(account) or _NO_KEY


def client_of(
    account: Account, key: str, plain: Callable[..., _Client], azure: Callable[..., _Client], **settings: Any
) -> _Client:
    """One of the SDK's clients, the plain one or Azure's, without its retries; HostDown where none can be made."""
    proxy_of(account.base_url)  # the SDK's own transport finds it, too
    if "http_client" not in settings:
        settings["http_client"] = openai.DefaultHttpxClient(event_hooks={"response": [_stays, _is_text]})
    if account.kind == "azure":
        place = {"azure_endpoint": account.base_url, "api_version": account.api_version}
        return azure(**place, api_key=key, max_retries=0, **settings)
    return plain(base_url=account.base_url, api_key=key, max_retries=0, **settings)


def _stays(response: httpx2.Response) -> None:
    """Of what a response leads on to, only what a reader may follow without a key: a file may lie elsewhere."""
    request = response.request
    there = _joined(str(request.url), response.headers.get("location"))
    if not _leads_on(response.status_code) or there is None:
        return
    keyless = request.method == "GET" and "api-key" not in request.headers  # the SDK's client keeps the usual key here
    same = _same_origin(str(request.url), there) and (request.method == "GET" or response.status_code in _STAYS)
    if not (keyless or same):
        response.extensions[_AWAY] = response.headers.pop("location", "")


def _is_text(response: httpx2.Response) -> None:
    """The SDK reads texts in the charset that a response declares, and breaks where that is no text's."""
    declared = response.headers.get("content-type", "")
    if response.charset_encoding is None:
        return
    try:
        _ = httpx2.Response(200, headers={"content-type": declared}, content=bytes(8)).text
    except Exception:
        response.encoding = "utf-8"


def failure_of(wrong: Exception, key: str) -> Failure:
    """The kind of what went wrong, from its type, status and code; the detail is the provider's text, less the key."""
    if isinstance(wrong, openai.APIStatusError):
        if _leads_on(wrong.status_code):
            location = wrong.response.extensions.get(_AWAY) or wrong.response.headers.get("location")
            return _led_on(wrong.status_code, location, key)
        declared = wrong.response.headers.get("content-type", "")
        return refusal_of(wrong.status_code, _readable(wrong.response.content, declared), key)
    proxy = _cause(wrong, aiohttp.ClientHttpProxyError)
    if isinstance(proxy, aiohttp.ClientHttpProxyError) and str(proxy.status) == _NO_LOGIN:
        return refusal_of(proxy.status, proxy.message.encode(), key)
    garbled = _cause(wrong, Garbled | httpx2.DecodingError)
    if garbled is not None:
        return Failure(FailureKind.MALFORMED, f"the response cannot be read: {shown(garbled, key)}")
    detail = shown(wrong, key) or type(wrong).__name__
    return Failure(FailureKind.TIMEOUT if _is_timeout(wrong) else FailureKind.CONNECTION, detail)


def _readable(refusal: bytes, content_type: str) -> bytes:
    """In UTF-8 where it can be: what cannot be read of it is lost, and no more."""
    with suppress(Garbled):
        return in_utf8(refusal, content_type)
    return refusal


def foreseen(wrong: BaseException) -> None:
    """Raises what is no trouble of the network's: the SDK makes one of whatever its transport raised."""
    last: BaseException | None = wrong
    while last is not None:
        if isinstance(last, openai.APIStatusError | aiohttp.ClientError | httpx2.TransportError | OSError | Garbled):
            return
        wrong, last = last, last.__cause__
    raise wrong


def _forget(wrong: BaseException) -> None:
    """Lets go of the frames that it came through: they hold the response with its bytes, which holds what broke it."""
    links, seen = [wrong], set[int]()
    while links:
        one = links.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            links += filter(None, (one.__cause__, one.__context__))


def patience(refused: Failure, headers: Mapping[str, str], body: bytes) -> tuple[Failure, float | None]:
    """The refusal, and for how long the provider wants to be left alone.

    A limit that holds for hours is no matter of pace: what is over is the day's quota. Anybody else who wants to be
    left alone for so long is asked again as if he had said nothing.
    """
    now = datetime.now(UTC)
    there = their_now(headers, now)
    told_s = retry_after_s(headers, there, now) or told_to_wait_s(body, there, now)
    if refused.kind is not FailureKind.RATE_LIMITED:
        return refused, None if told_s is None or told_s > _LONGEST_TOLD_S else told_s
    told_s = max(filter(None, (told_s, until_reset_s(headers, now, told_s))), default=None)
    if told_s is None or told_s <= _LONGEST_TOLD_S:
        return refused, told_s
    detail = f"{refused.detail}; it says to come back in {told_s / 3600:.1f} h"
    return replace(refused, kind=FailureKind.QUOTA_EXHAUSTED, detail=detail), told_s


def _is_good(status: int) -> bool:
    return 200 <= status < 300


def _never_sent(wrong: BaseException) -> bool:
    """Whether no connection was there; what a proxy refuses goes no further."""
    return _cause(wrong, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError) is not None


def _is_timeout(wrong: BaseException) -> bool:
    return _cause(wrong, TimeoutError) is not None


def _turned_away(wrong: BaseException) -> bool:
    """Whether a server closed the door, as one does that has no slot free."""
    gone = _cause(wrong, OSError)
    closed = _cause(wrong, aiohttp.ServerDisconnectedError) is not None
    return closed or (isinstance(gone, OSError) and gone.errno in _NO_ROOM)


def _cause(wrong: BaseException | None, kind: type[BaseException] | UnionType) -> BaseException | None:
    """The first of its causes, itself included, that is of a kind: the SDK wraps what its transport raised."""
    while wrong is not None and not isinstance(wrong, kind):
        wrong = wrong.__cause__
    return wrong


def hopeless_sentence(failure: Failure, entry: Hosted, account: Account) -> str:
    """Why a lane stops, and what to do."""
    said = f"({failure.detail})"
    match failure.kind:
        case FailureKind.AUTH if failure.detail.startswith(_NO_LOGIN):
            remedy = "write it into HTTPS_PROXY (or HTTP_PROXY, ALL_PROXY), as http://name:password@host:port"
            return f"the proxy before {account.base_url} wants a login {said}; {remedy}"
        case FailureKind.AUTH:
            return f"{account.base_url} refuses the key in {account.key_env or 'no variable'} {said}; correct it there"
        case FailureKind.NO_SUCH_MODEL:
            remedy = f"correct the id of model {entry.name!r}, or base_url where the path is what is not found"
            return f"{account.base_url} has no model {entry.id!r} {said}; {remedy}"
        case FailureKind.QUOTA_EXHAUSTED:
            where = f"the quota of account {entry.account!r} at {account.base_url}"
            return f"{where} is exhausted {said}; top it up, or run again once it is renewed"
        case _:
            first = f"{account.base_url} refused the first {ALIKE} asks of model {entry.name!r} alike"
            return f"{first} {said}; {_remedy(failure, entry)}"


def _remedy(failure: Failure, entry: Hosted) -> str:
    """What to change of a model whose every ask is refused: what the refusal speaks of first."""
    text = failure.detail.lower()
    hints = [hint for words, hint in _REMEDIES if any(word in text for word in words)]
    hints += [
        f"extra_body, which sends {name!r}{_OF_A_JUDGE.get(name, '')}" for name in entry.extra_body if name in text
    ]
    if not hints or failure.kind is FailureKind.MALFORMED or text.startswith(("404", "405")):
        hints.insert(0, f"id ({entry.id!r}) and base_url (mostly it ends in /v1)")
    others = ", ".join(hint.split(" ")[0].rstrip(":") for _, hint in _REMEDIES if hint not in hints)
    return f"check {'; '.join(hints)}" + (f"; else {others}, extra_body" if others else "")


_OF_A_JUDGE = {"response_format": " (of a judge: structured)"}
_REMEDIES = (  # what a text speaks of, and the setting that sends it
    (("max_tokens", "max_completion_tokens"), "max_tokens_as: max_completion_tokens or max_tokens, and how many"),
    (("seed",), "sends_seed: false"),
    (("temperature", "top_p"), "sampling: temperature and top_p, null leaves them out"),
    (("role", "system", "developer"), "system_role: system, developer or user"),
)
