"""OpenAI's Batch endpoint: overnight, at half price.

A batch is written down before it is made and again before it is waited for, so that whoever submitted it may die:
the next run finds it, waits for it, or fetches what it brought. What a batch failed to answer stays owed.

    here          the host, and the provider's end: every request, insisted on
    batch_round   one call: what is submitted, waited for, sent again, handed on
    batch_told    what a provider says of a batch and a file, in whatever dialect
    batch_lines   the lines of its result files
    batch_record    what is written down
    batch_budget   what is reserved and spent
"""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import httpx2
import openai

from emoray.backoff import Backoff
from emoray.hosts.batch_budget import BatchBudget
from emoray.hosts.batch_record import BatchBook, NotedBatch
from emoray.hosts.batch_round import LONGEST_POLL_S, NONE_THERE, Refused, Round, Setting, endpoint_of
from emoray.hosts.batch_told import Stage, Told, ToldFile, file_of, told_of
from emoray.hosts.bodies import Garbled, in_utf8
from emoray.hosts.discretion import without_key
from emoray.hosts.hosted_api import client_of, failure_of, hopeless_sentence, key_of, patience
from emoray.hosts.openai_protocol import parsed_outcome, shown
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.hosts.reasoning import tags_of
from emoray.hosts.request_loop import Guess
from emoray.rate_limits.protocol import RateLimiter
from emoray.reasons import raised_at
from emoray.spec.accounts import Account, Retry
from emoray.spec.models import Hosted
from emoray.spec.prices import price_of, unpriced
from emoray.study.outcomes import Failure, FailureKind, valid

MOST_LINES = 50_000  # per file, OpenAI's limits
MOST_BYTES = 190_000_000
_MOST_LISTED = 20_000
_POLL_S = 5.0
_FILE_POLLS = 90  # of an input file that is being processed: about three hours
_NO_FILES = frozenset({404, 405, 501})
_IN_DOUBT = frozenset({None, 200, 408})  # what was asked for may have been done all the same; so with every 5xx
_PASSING = frozenset(
    {FailureKind.CONNECTION, FailureKind.TIMEOUT, FailureKind.OVERLOADED, FailureKind.RATE_LIMITED}
    | {FailureKind.MALFORMED}
)
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class BatchApi:
    """One model through the batch endpoint of one account."""

    name = "batch_api"
    revision = None
    engine = None
    in_flight = MOST_LINES  # the more asks come together, the fewer batches

    def __init__(
        self,
        entry: Hosted,
        account: Account,
        retry: Retry,
        book: BatchBook,
        *,
        budget: RateLimiter | None = None,  # limits money only: a batch has no rate
        run: str = "run",
        most_lines: int = MOST_LINES,
        most_bytes: int = MOST_BYTES,
        poll_s: float = _POLL_S,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """HostDown where the key's variable is not set, or an account has a budget and the model no price."""
        self._entry, self._account = entry, account
        price, key = price_of(entry), key_of(account)
        why = unpriced(entry, account.budget_usd)
        if why is not None:
            raise HostDown(why)
        self._client = client_of(account, key, openai.OpenAI, openai.AzureOpenAI, timeout=retry.timeout_s)
        self._closed = threading.Event()
        secret = key if account.key_env else ""
        self._desk = _Desk(self._client, entry, account, retry, secret, self._closed, poll_s)
        self._desk.welcome = any(batch.id is not None and batch.model == entry.name for batch in book.noted())
        self._at = Setting(
            desk=self._desk,
            entry=entry,
            account=account,
            retry=retry,
            book=book,
            budget=BatchBudget(budget, f"{run}/{uuid.uuid4().hex}"),
            guess=Guess(price),
            parse=partial(parsed_outcome, price=price, tags=tags_of(entry.reasoning_tags), key=secret),
            secret=secret,
            closed=self._closed,
            clock=clock,
            most_lines=most_lines,
            most_bytes=most_bytes,
            poll_s=poll_s,
        )

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Submits what no noted batch asks already, then waits; BudgetSpent and HostDown come after all replies."""
        try:
            yield from Round(self._at, {ask.key: ask for ask in asks}).replies()
        except HostDown:
            raise
        except Refused as wrong:
            raise self._desk.trouble(wrong) from None
        except Exception as bug:
            said = f"{type(bug).__name__}: {self._desk.shown(bug)} ({raised_at(bug)})"
            raise HostDown(f"the batches at {self._account.base_url} met what nobody foresaw: {said}") from bug

    def close(self) -> None:
        """Stops waiting; open batches stay noted."""
        self._closed.set()
        self._client.close()

    def __repr__(self) -> str:
        return f"BatchApi({self._entry.name!r}, {self._account.base_url!r})"

    def __getstate__(self) -> object:
        raise TypeError("a BatchApi holds a key and open connections; construct it where it is used")


class _NoObject(ValueError):
    """A good status, and a body that is no object, such as a page."""


class _Desk:
    """The provider's end; see `batch_round.Desk`."""

    def __init__(
        self,
        client: openai.OpenAI,
        entry: Hosted,
        account: Account,
        retry: Retry,
        secret: str,  # the key; empty where there is none to hide
        closed: threading.Event,
        poll_s: float,
    ) -> None:
        self._client, self._entry, self._account, self._retry = client, entry, account, retry
        self._secret, self._closed, self._poll_s = secret, closed, poll_s
        self._backoff, self._chance = Backoff(retry.first_wait_s, retry.longest_wait_s), random.Random(0)
        self.welcome = False  # whether the provider has answered anything yet, whoever asked
        self._has_batches = False  # whether it has told of a batch yet

    def uploaded(self, content: bytes, waits: Callable[[ToldFile], None]) -> str:
        """The id of an input file, once a batch can be made of it; `waits` is told where that takes a while."""
        sent = ("emoray.jsonl", content)
        file = self._insist(lambda: self._told_file(self._client.files.create(file=sent, purpose="batch")))
        if file.waits:
            waits(file)
            file = self._processed(file)
        if file.broken:
            raise Refused(Failure(FailureKind.BAD_REQUEST, f"the input file was refused: {file.broken}"))
        return file.id

    def _processed(self, file: ToldFile) -> ToldFile:
        """The same file when it is processed; as it is where that takes for ever, or nobody tells."""
        wait_s = self._poll_s
        for _ in range(_FILE_POLLS):
            if not file.waits or self._closed.wait(wait_s):
                break
            wait_s = min(LONGEST_POLL_S, wait_s * 1.5)
            try:
                file = self._insist(lambda id=file.id: self._file(id), final=_NO_FILES)  # type: ignore[misc]
            except Refused as wrong:
                if wrong.status not in _NO_FILES:
                    raise
                break
        return file

    def _file(self, id: str) -> ToldFile:
        return self._told_file(self._client.files.retrieve(id))

    def _told_file(self, said: object) -> ToldFile:
        return _there(file_of(said, self._secret), said)

    def _told(self, said: object) -> Told | None:
        return told_of(said, self._secret)

    def made(self, batch: NotedBatch) -> Told:
        """Makes it of its file; where an answer was lost, the batch that it may have been about is looked for first."""
        in_doubt, waited = False, False
        for attempt in range(1, self._retry.attempts + 1):
            try:
                found = self.found(batch) if in_doubt else None
                if found is not None:
                    return found
                in_doubt = False
                return self._make(batch)
            except Refused as wrong:
                wrong.in_doubt = in_doubt = in_doubt or wrong.status in _IN_DOUBT or (wrong.status or 0) >= 500
                refused = wrong
            if not in_doubt and not waited and refused.status in (400, 404, 409, 422):
                waited = True
                if self._waited_for(batch):  # Azure refuses a file that is not processed
                    continue
            if not (in_doubt or self._may_pass(refused)) or attempt == self._retry.attempts:
                break
            if self.pause(attempt, refused.told_s):
                break
        raise refused

    def _make(self, batch: NotedBatch) -> Told:
        endpoint: Any = endpoint_of(self._account)
        made = self._once(
            lambda: self._client.batches.create(
                input_file_id=str(batch.file),
                endpoint=endpoint,
                completion_window="24h",
                metadata={"emoray": batch.token},
            )
        )
        told = self._told(made)
        if told is None or told.id is None:
            raise Refused(Failure(FailureKind.MALFORMED, f"what was made has no id: {self.shown(made)}"), 200)
        return self._known(told)

    def _waited_for(self, batch: NotedBatch) -> bool:
        """Whether its file was not processed yet, and now is."""
        try:
            file = self._once(lambda: self._file(str(batch.file)))
        except Refused:
            return False
        return file.waits and not self._processed(file).waits

    def found(self, batch: NotedBatch) -> Told | None:
        """The batch with our token or our file, if the provider has one; HostDown where it does not list batches."""
        try:
            return self._insist(lambda: next((told for told in self._listed() if _is_ours(told, batch)), None))
        except Refused as wrong:
            if not wrong.no_endpoint:
                raise
        raise HostDown(
            f"{self._account.base_url} does not list its batches, so nobody knows whether one was made of the file "
            f"{batch.file or 'that was uploaded'}; its {len(batch.keys)} cells are not asked again, as they may be "
            f"paid: look there, and delete batches/{batch.token}.json of the run's folder if there is none"
        )

    def _listed(self) -> Iterator[Told]:
        """The account's batches, each once; ValueError for a list that is none."""
        seen: set[str] = set()
        try:
            for one in self._client.batches.list(limit=100):
                told = self._told(one)
                if told is None or told.id is None:
                    continue
                if told.id in seen or len(seen) >= _MOST_LISTED:
                    return  # it gives the same page again and again
                seen.add(told.id)
                yield told
        except (AttributeError, TypeError) as strange:
            raise _NoObject("what should list batches is no list") from strange

    def open_batches(self, since: datetime) -> frozenset[str]:
        """The account's open batches that are younger; none where nobody tells."""
        try:
            younger = (told for told in self._listed() if told.began is not None and told.began > since)
            return frozenset(str(told.id) for told in younger if not told.stage.over)
        except (openai.APIError, ValueError, OSError):
            return frozenset()

    def retrieved(self, batch: NotedBatch) -> Told:
        told = self._insist(lambda: self._stands(str(batch.id)), final=NONE_THERE)
        return self._known(told)

    def _stands(self, id: str) -> Told:
        said = self._client.batches.retrieve(id)
        return _there(self._told(said), said)

    def _known(self, told: Told) -> Told:
        self._has_batches = True
        return told

    def content(self, file_id: str) -> bytes | None:
        """None where there is no such file (yet, or any more)."""
        try:
            return self._insist(lambda: _text_of(self._client.files.content(file_id).response), final=NONE_THERE)
        except Refused as wrong:
            if wrong.status in NONE_THERE:
                return None
            raise

    def _insist(self, call: Callable[[], _T], final: Collection[int] = ()) -> _T:
        """The result of a call, made again with backoff while that may help; Refused otherwise, and for `final`."""
        for attempt in range(1, self._retry.attempts + 1):
            try:
                return self._once(call)
            except Refused as wrong:
                refused = wrong
            if refused.status in final or not self._may_pass(refused):
                break
            if attempt == self._retry.attempts or self.pause(attempt, refused.told_s):
                break
        raise refused

    def _once(self, call: Callable[[], _T]) -> _T:
        try:
            result = call()
        except (openai.APIError, ValueError, OSError) as wrong:
            raise self._refusal(wrong) from None
        self.welcome = True
        return result

    def _refusal(self, wrong: Exception) -> Refused:
        """What went wrong, by type, status and code."""
        status = getattr(wrong, "status_code", None)
        code = getattr(wrong, "code", None)
        if isinstance(wrong, ValueError | openai.APIResponseValidationError):
            detail = f"{self._account.base_url} answered with no JSON object: {self.shown(wrong)}"
            return Refused(Failure(FailureKind.MALFORMED, detail), 200)
        failure, told_s = failure_of(wrong, self._secret), None
        if isinstance(wrong, openai.APIStatusError):
            failure, told_s = patience(failure, wrong.response.headers, wrong.response.content)
        return Refused(failure, status, code if isinstance(code, str) else None, told_s)

    def _may_pass(self, refused: Refused) -> bool:
        """Whether another attempt may help. Who was welcome before is not refused by one 401 or 404."""
        kind = refused.failure.kind
        if refused.full:
            return False
        return kind in _PASSING or (self.welcome and kind in (FailureKind.AUTH, FailureKind.NO_SUCH_MODEL))

    def pause(self, attempt: int, told_s: float | None = None) -> bool:
        """Waits before the next attempt, as long as was told; True where the host was closed meanwhile."""
        return self._closed.wait(self._backoff.wait_s(attempt, self._chance.random(), told_s))

    def trouble(self, wrong: Refused) -> HostDown:
        failure = self.valid(wrong.failure)
        if wrong.no_endpoint and not self._has_batches:
            return HostDown(self._no_batches(wrong))
        if failure.kind.hopeless and not wrong.no_endpoint:
            return HostDown(hopeless_sentence(failure, self._entry, self._account))
        where = f"{self._account.base_url} cannot be asked for batches ({failure.detail})"
        return HostDown(f"{where}; what was submitted is noted, so run again")

    def _no_batches(self, wrong: Refused) -> str:
        return (
            f"{self._account.base_url} has no batch endpoint ({self.valid(wrong.failure).detail}); correct base_url "
            f"of account {self._entry.account!r}, which ends in /v1 as a rule, or set host: hosted_api for model "
            f"{self._entry.name!r}; what was submitted is noted"
        )

    def valid(self, failure: Failure) -> Failure:
        """What we write ourselves: without the key, and without halves of characters."""
        return replace(failure, detail=without_key(valid(failure.detail), self._secret))

    def shown(self, value: object) -> str:
        """A provider's text in one of ours: on one line, cut, without the key."""
        return shown(value, self._secret)


def _text_of(response: httpx2.Response) -> bytes:
    """A file in UTF-8 where it declares to be anything else; as it came where it is neither: its lines may be."""
    try:
        return in_utf8(response.content, response.headers.get("content-type", ""))
    except Garbled:
        return response.content


def _there(told: _T | None, said: object) -> _T:
    """What a response says; _NoObject for a page."""
    if told is None:
        raise _NoObject(said)
    return told


def _is_ours(told: Told, batch: NotedBatch) -> bool:
    """By our token; by the file, which no other batch has, where metadata is not echoed."""
    same_file = batch.file is not None and told.input_file == batch.file
    return told.token == batch.token or (told.token is None and same_file and told.stage is not Stage.FAILED)
