"""OpenAI's Batch endpoint: overnight, at half price.

A batch is written down before it is made and again before it is waited for, so that whoever submitted it may die:
the next run finds it, waits for it, or fetches what it brought. What a batch failed to answer stays owed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import openai
from openai.types import Batch

from emoray.governor import Governor, Lease, Ledger, News, Want
from emoray.hosts import Ask, BudgetSpent, HostDown, Reply
from emoray.hosts.asking import Guess
from emoray.hosts.batch_book import BatchBook, NotedBatch
from emoray.hosts.chat import parsed_outcome, refusal_kind, request_body, shown
from emoray.hosts.hosted_api import client_of, failure_of, hopeless_sentence, key_of
from emoray.hosts.reasoning import tags_of
from emoray.prices import price_of, unpriced
from emoray.retry import Backoff
from emoray.spec import Account, Hosted, Retry
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

MOST_LINES = 50_000  # per file, OpenAI's limits
MOST_BYTES = 190_000_000
_POLL_S, _LONGEST_POLL_S = 5.0, 120.0
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class _Line(NamedTuple):
    ask: Ask
    text: bytes


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
        purse: Governor | None = None,  # limits money only: a batch has no rate
        run: str = "run",
        most_lines: int = MOST_LINES,
        most_bytes: int = MOST_BYTES,
        poll_s: float = _POLL_S,
    ) -> None:
        """HostDown where the key's variable is not set, or an account has a budget and the model no price."""
        self._entry, self._account, self._retry, self._book = entry, account, retry, book
        self._most_lines, self._most_bytes, self._poll_s = most_lines, most_bytes, poll_s
        self._price = price_of(entry)
        self._key = key_of(account)
        self._secret = self._key if account.key_env else ""
        self._tags = tags_of(entry.reasoning_tags)
        why = unpriced(entry, account.budget_usd)
        if why is not None:
            raise HostDown(why)
        self._client = client_of(account, self._key, openai.OpenAI, openai.AzureOpenAI, timeout=retry.timeout_s)
        self._guess = Guess(self._price)
        self._purse = _Purse(purse, f"{run}/{uuid.uuid4().hex}")
        self._backoff, self._chance = Backoff(retry.first_wait_s, retry.longest_wait_s), random.Random(0)
        self._brought: dict[str, list[Reply]] = {}  # by batch id: several calls may wait for the same batch
        self._closed = threading.Event()

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Submits what no noted batch asks already, then waits; BudgetSpent and HostDown come after all replies."""
        try:
            yield from self._generate({ask.key: ask for ask in asks})
        except openai.APIError as wrong:
            failure = failure_of(wrong, self._secret)
            if failure.kind.hopeless:
                raise HostDown(hopeless_sentence(failure, self._entry, self._account)) from None
            where = f"{self._account.base_url} cannot be asked for batches ({failure.detail})"
            raise HostDown(f"{where}; what was submitted is noted, so run again") from None

    def close(self) -> None:
        """Stops waiting; open batches stay noted."""
        self._closed.set()
        self._client.close()

    def __repr__(self) -> str:
        return f"BatchApi({self._entry.name!r}, {self._account.base_url!r})"

    def __getstate__(self) -> object:
        raise TypeError("a BatchApi holds a key and open connections; construct it where it is used")

    def _generate(self, owed: dict[str, Ask]) -> Iterator[Reply]:
        waiting: list[NotedBatch] = []
        for batch in self._picked_up(owed):
            if batch.ended:
                yield from self._fetched_again(batch, owed)
            elif self._looked_up(batch) is not None:
                self._purse.hold(batch.token, batch.usd)
                waiting.append(batch)
        stop: HostDown | None = None
        elsewhere = {key for batch in waiting for key in batch.keys}
        for lines in self._files([ask for key, ask in owed.items() if key not in elsewhere]):
            made, replies, stop = self._tried(lines)
            waiting += made
            yield from replies
            if stop is not None:
                break
        yield from self._awaited(waiting, owed)
        if stop is not None:
            raise stop

    # ── what was submitted before ──────────────────────────────────────────────────────────────────────────────────

    def _picked_up(self, owed: dict[str, Ask]) -> list[NotedBatch]:
        """The noted batches of this model that ask something owed, each with its id."""
        mine = [b for b in self._book.noted() if b.model == self._entry.name and not owed.keys().isdisjoint(b.keys)]
        made = [batch for batch in mine if batch.id is not None]
        return made + [found for batch in mine if batch.id is None for found in self._searched(batch)]

    def _searched(self, batch: NotedBatch) -> list[NotedBatch]:
        """A batch whose submitter died before it could note the id: made after all, or not."""
        made = self._insist(lambda: self._found(batch.token))
        if made is None:
            self._book.forget(batch)
            return []
        found = replace(batch, id=made.id)
        self._book.note(found)
        return [found]

    def _found(self, token: str) -> Batch | None:
        """The batch with our token, if the provider has one."""
        listed = self._client.batches.list(limit=100)
        return next((batch for batch in listed if (batch.metadata or {}).get("emoray") == token), None)

    def _looked_up(self, batch: NotedBatch) -> Batch | None:
        """How a batch stands; None: the provider has lost it, so it is over, and its cells are asked anew."""
        try:
            return self._retrieve(batch)
        except openai.NotFoundError as wrong:
            if failure_of(wrong, self._secret).kind is not FailureKind.NO_SUCH_MODEL:  # a page of somebody in between
                raise
        _log.warning("%s no longer knows batch %s", self._account.base_url, batch.id)
        self._book.note(replace(batch, ended=True))
        return None

    def _fetched_again(self, batch: NotedBatch, owed: dict[str, Ask]) -> Iterator[Reply]:
        """The answers of a batch that had ended, for cells that are owed all the same; its failures are asked anew."""
        try:
            replies = self._replies(self._retrieve(batch), batch)
        except openai.NotFoundError:
            return  # the provider keeps results for a while only
        for reply in replies:
            if reply.key in owed and not isinstance(reply.outcome, Failure):
                del owed[reply.key]
                self._purse.spend(reply.outcome.cost_usd or 0.0)  # no row says so yet
                yield reply

    # ── submitting ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _files(self, asks: Sequence[Ask]) -> Iterator[list[_Line]]:
        """The lines of each file, within the provider's limits."""
        lines: list[_Line] = []
        size = 0
        for ask in asks:
            text = self._text(ask)
            if lines and (len(lines) >= self._most_lines or size + len(text) > self._most_bytes):
                yield lines
                lines, size = [], 0
            lines.append(_Line(ask, text))
            size += len(text)
        if lines:
            yield lines

    def _text(self, ask: Ask) -> bytes:
        line = {"custom_id": ask.key, "method": "POST", "url": self._endpoint, "body": request_body(self._entry, ask)}
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"

    @property
    def _endpoint(self) -> Any:
        return "/chat/completions" if self._account.kind == "azure" else "/v1/chat/completions"

    def _tried(self, lines: list[_Line]) -> tuple[list[NotedBatch], list[Reply], HostDown | None]:
        """A batch of these lines; or a failure for each of them; and what stops the lane, if anything does."""
        try:
            return [self._submitted(lines)], [], None
        except HostDown as spent:
            return [], [], spent
        except openai.APIError as wrong:
            failure = failure_of(wrong, self._secret)
        now = datetime.now(UTC)
        replies = [Reply(line.ask.key, failure, now, 0.0, self._retry.attempts) for line in lines]
        if not failure.kind.hopeless:
            return [], replies, None
        return [], replies, HostDown(hopeless_sentence(failure, self._entry, self._account))

    def _submitted(self, lines: list[_Line]) -> NotedBatch:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        usd = sum(self._guess.of(line.ask)[1] for line in lines)
        keys = tuple(line.ask.key for line in lines)
        batch = NotedBatch(uuid.uuid4().hex, self._entry.name, keys, now, usd=usd)
        self._purse.reserve(batch)
        content = b"".join(line.text for line in lines)
        file = self._insist(lambda: self._client.files.create(file=("emoray.jsonl", content), purpose="batch"))
        self._book.note(batch)  # so that a batch made by the next line is found even if we die on it
        made = self._insist(
            lambda: self._made(file.id, batch.token),
            again=lambda: (
                self._found(batch.token) or self._made(file.id, batch.token)
            ),  # the answer may be what is lost
        )
        batch = replace(batch, id=made.id)
        self._book.note(batch)
        _log.info("%s: batch %s asks %d cells", self._entry.name, made.id, len(lines))
        return batch

    def _made(self, file_id: str, token: str) -> Batch:
        return self._client.batches.create(
            input_file_id=file_id,
            endpoint=self._endpoint,
            completion_window="24h",
            metadata={"emoray": token},
        )

    # ── waiting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _awaited(self, waiting: list[NotedBatch], owed: dict[str, Ask]) -> Iterator[Reply]:
        wait_s = self._poll_s
        while waiting:
            still: list[NotedBatch] = []
            for batch in waiting:
                told = self._looked_up(batch)
                if told is None:
                    yield from self._lost(batch, owed)
                elif told.status in _OVER:
                    yield from self._ended(told, batch, owed)
                else:
                    still.append(batch)
            if still and self._closed.wait(wait_s):
                raise HostDown("closed while batches were open; the same command picks them up again")
            waiting, wait_s = still, min(_LONGEST_POLL_S, wait_s * 1.5)

    def _ended(self, told: Batch, batch: NotedBatch, owed: dict[str, Ask]) -> Iterator[Reply]:
        replies = self._replies(told, batch)
        self._purse.settle(batch.token, sum(reply.outcome.cost_usd or 0.0 for reply in replies))
        yield from (reply for reply in replies if reply.key in owed)
        self._book.note(replace(batch, ended=True))

    def _lost(self, batch: NotedBatch, owed: dict[str, Ask]) -> Iterator[Reply]:
        lost = Failure(FailureKind.OVERLOADED, f"{self._account.base_url} no longer knows batch {batch.id}")
        yield from (Reply(key, lost, datetime.now(UTC), 0.0) for key in batch.keys if key in owed)

    def _retrieve(self, batch: NotedBatch) -> Batch:
        return self._insist(lambda: self._client.batches.retrieve(str(batch.id)))

    def _replies(self, told: Batch, batch: NotedBatch) -> list[Reply]:
        """One reply per key of a batch that is over."""
        if told.id not in self._brought:
            files = (told.output_file_id, told.error_file_id)
            outcomes = {key: outcome for id in files if id for key, outcome in self._results(id)}
            asked_at = datetime.fromtimestamp(told.created_at, UTC)
            took_s = float((told.completed_at or told.expired_at or told.created_at) - told.created_at)
            self._brought[told.id] = [
                Reply(key, self._billed(outcomes.get(key) or _silence(told), batch), asked_at, took_s)
                for key in batch.keys
            ]
        return self._brought[told.id]

    def _billed(self, outcome: Outcome, batch: NotedBatch) -> Outcome:
        """An answer whose usage nobody tells cost at most its part of what the batch may cost."""
        unknown = isinstance(outcome, Answer) and outcome.cost_usd is None and self._price is not None
        return replace(outcome, cost_usd=batch.usd / len(batch.keys)) if unknown else outcome

    def _results(self, file_id: str) -> Iterator[tuple[str, Outcome]]:
        text = self._insist(lambda: self._client.files.content(file_id).content)
        for line in text.splitlines():
            if line.strip():
                result = json.loads(line)
                yield result["custom_id"], self._outcome(result)

    def _outcome(self, result: dict[str, Any]) -> Outcome:
        response, error = result.get("response"), result.get("error") or {}
        if response is None:
            kind = FailureKind.TIMEOUT if error.get("code") == "batch_expired" else FailureKind.OVERLOADED
            return Failure(kind, shown(error.get("message") or "the batch did not answer this line", self._secret))
        if response["status_code"] == 200:
            return parsed_outcome(response["body"], self._price, tags=self._tags, key=self._secret)
        wrong = (response.get("body") or {}).get("error") or {}
        detail = f"{response['status_code']}: {shown(wrong.get('message') or 'no message', self._secret)}"
        return Failure(refusal_kind(response["status_code"], wrong), detail)

    def _insist(self, call: Callable[[], _T], again: Callable[[], _T] | None = None) -> _T:
        """The result of a call, made again with backoff while that may help; the SDK's last error otherwise."""
        for attempt in range(1, self._retry.attempts):
            try:
                return call()
            except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as wrong:
                if failure_of(wrong, self._secret).kind.hopeless:
                    raise
            call = again or call
            self._closed.wait(self._backoff.wait_s(attempt, self._chance.random()))
        return call()


def _silence(told: Batch) -> Failure:
    """What became of a line that is in neither file."""
    match told.status:
        case "failed":
            errors = told.errors.data if told.errors and told.errors.data else []
            said = "; ".join(error.message for error in errors if error.message) or "no reason given"
            full = any(error.code == "token_limit_exceeded" for error in errors)  # of all batches that wait
            kind = FailureKind.RATE_LIMITED if full else FailureKind.BAD_REQUEST
            return Failure(kind, f"the batch was refused: {shown(said)}")
        case "expired":
            return Failure(FailureKind.TIMEOUT, "the batch expired before this line was done")
        case other:
            return Failure(FailureKind.OVERLOADED, f"the batch is {other} and has no result for this line")


class _Purse:
    """What the batches of one host reserve and spend, told to a governor of money."""

    def __init__(self, governor: Governor | None, holder: str) -> None:
        self._governor, self._holder = governor, holder
        self._reserved: dict[str, float] = {}  # by the token of the batch
        self._settled: set[str] = set()  # several calls may wait for the same batch
        self._spent_usd = 0.0
        self._lock = threading.Lock()

    def reserve(self, batch: NotedBatch) -> None:
        """Sets aside the most that a batch may cost; BudgetSpent where the budget does not have it."""
        with self._lock:
            lease = self._tell(Want(1, usd_each=batch.usd))
            if not lease.granted:
                much = f"a batch of {len(batch.keys)} cells may cost {batch.usd:.2f} USD, more than the budget has left"
                raise BudgetSpent(lease.stop or f"{much}; raise budget_usd, or --max-cost, to go on")
            self._reserved[batch.token] = batch.usd

    def hold(self, token: str, usd: float) -> None:
        """The same for a batch that is under way already, whatever the budget has left."""
        with self._lock:
            if token not in self._settled:
                self._reserved[token] = usd
                self._tell(Want(0))

    def settle(self, token: str, usd: float) -> None:
        with self._lock:
            if token not in self._settled:
                self._settled.add(token)
                self._reserved.pop(token, None)
                self._spend(usd)

    def spend(self, usd: float) -> None:
        with self._lock:
            self._spend(usd)

    def _spend(self, usd: float) -> None:
        self._spent_usd += usd
        self._tell(Want(0))

    def _tell(self, want: Want) -> Lease:
        if self._governor is None:
            return Lease(want.requests)
        held, reserved = len(self._reserved), sum(self._reserved.values())
        # finished=1: who has no rate needs no slow start
        ledger = Ledger(held, reserved, self._spent_usd, finished=1)
        return asyncio.run(self._governor.lease(self._holder, ledger, want, News()))
