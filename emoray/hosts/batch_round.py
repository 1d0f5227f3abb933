"""One call of a batch host: what is submitted, waited for, sent again in smaller files, and handed on.

Nothing here knows a vendor: what can be asked of the provider is `Desk`. A batch that may have answered is not asked
again while its answers can still come; one that the provider's queue had no room for goes back to the backlog.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import inf
from typing import Protocol

from emoray.hosts.batch_budget import BatchBudget
from emoray.hosts.batch_lines import Parse, Result, Results, is_file, read
from emoray.hosts.batch_record import BatchBook, NotedBatch
from emoray.hosts.batch_told import Stage, Told, ToldFile, Wrong
from emoray.hosts.hosted_api import hopeless_sentence
from emoray.hosts.openai_protocol import request_body, shown
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.hosts.refusals import refusal_kind
from emoray.hosts.request_loop import Guess
from emoray.spec.accounts import Account, Retry
from emoray.spec.models import Hosted
from emoray.spec.prices import price_of
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

LONGEST_POLL_S = 120.0
_SMALL = 64  # lines: a file that is smaller waits for the account's other batches before it is halved
_WINDOW = timedelta(hours=25)  # after which nothing is expected any more: the 24 hours that we ask for, and one
_OLDEST = timedelta(days=60)  # a batch that is said to be older is not ours: the provider does not tell its time
NONE_THERE = frozenset({404, 410})
_NO_ENDPOINT = frozenset({404, 405, 501})
_FULL = re.compile(
    r"(?:max)?enqueuedtokens?\w*|tokenlimitexceeded|requestlimitexceeded|(?:batch|queue)(?:size)?limit(?:exceeded|reached)?"
    r"|toomanybatches|queue(?:is)?full"
)  # the queue of an account: smaller files, or fewer at a time, are taken
_HOPELESS = frozenset(kind for kind in FailureKind if kind.hopeless)
_ALIKE = frozenset({FailureKind.BAD_REQUEST, FailureKind.MALFORMED, FailureKind.CONTEXT_LENGTH})
_MANY = 20  # lines that fail alike, and nothing else: so will all others
_ROOM = "room in the provider's queue"
_INPUT, _OUTPUT = "their input file to be processed", "its output file"
_REST, _WRITING = "the rest of its output file", "its results to be written"
_WORD = "word of the provider"
_log = logging.getLogger(__name__)


def endpoint_of(account: Account) -> str:
    """What the lines of a file ask."""
    return "/chat/completions" if account.kind == "azure" else "/v1/chat/completions"


class Refused(Exception):
    """A request that brought nothing."""

    def __init__(
        self, failure: Failure, status: int | None = None, code: str | None = None, told_s: float | None = None
    ) -> None:
        """`told_s`: for how long the provider wants to be left alone, if it says so."""
        super().__init__(failure.detail)
        self.failure, self.status, self.code, self.told_s = failure, status, code, told_s
        self.in_doubt = False  # whether it may have made a batch all the same

    @property
    def full(self) -> bool:
        """Whether the queue has no room for a file of this size."""
        return is_full(self.code, self.failure.detail)

    @property
    def no_endpoint(self) -> bool:
        """Whether this is no place for batches: nothing there, or no API at all."""
        nothing = self.status in _NO_ENDPOINT and self.code != "model_not_found"
        return nothing or (self.status == 200 and self.failure.kind is FailureKind.MALFORMED)


class Desk(Protocol):
    """What can be asked of a provider. Each insists, and raises Refused where that does not help."""

    def uploaded(self, content: bytes, waits: Callable[[ToldFile], None]) -> str:
        """The id of an input file, once a batch can be made of it; `waits` is told where that takes a while."""
        ...

    def made(self, batch: NotedBatch) -> Told:
        """The batch, made of its file; HostDown where nobody knows whether it was."""
        ...

    def found(self, batch: NotedBatch) -> Told | None:
        """The batch, where its making was not confirmed; HostDown where nobody tells."""
        ...

    def retrieved(self, batch: NotedBatch) -> Told: ...

    def content(self, file_id: str) -> bytes | None:
        """None where there is no such file (yet, or any more)."""
        ...

    def open_batches(self, since: datetime) -> frozenset[str]:
        """The account's open batches that are younger; none where nobody tells."""
        ...

    def pause(self, attempt: int, told_s: float | None = None) -> bool:
        """Waits before the next attempt, as long as was told; True where the host was closed meanwhile."""
        ...

    def trouble(self, wrong: Refused) -> HostDown:
        """Why the lane ends."""
        ...

    def valid(self, failure: Failure) -> Failure:
        """The same, with a detail that may be written down."""
        ...


@dataclass(frozen=True)
class Setting:
    """What all calls of a host share."""

    desk: Desk
    entry: Hosted
    account: Account
    retry: Retry
    book: BatchBook
    budget: BatchBudget
    guess: Guess
    parse: Parse  # of the body of a response
    secret: str  # the key; empty where there is none to hide
    closed: threading.Event
    clock: Callable[[], datetime]  # UTC
    most_lines: int  # of a file
    most_bytes: int
    poll_s: float
    brought: dict[str, tuple[list[Reply], int]] = field(default_factory=dict)
    """By batch id, with the lines set aside: several calls may wait for the same batch."""
    booking: threading.Lock = field(default_factory=threading.Lock)  # and may lose it


@dataclass
class _UnderWay:
    """A batch that is waited for."""

    batch: NotedBatch
    fresh: bool  # submitted by this call
    alone: bool = False  # nothing else was under way when it was submitted
    taken: bool = False  # by the provider's queue
    unknown: int = 0  # polls in a row that told nothing of it
    short: int = 0  # polls at which its files held less than it said


@dataclass
class _File:
    """Asks that are to become a batch."""

    asks: list[Ask]
    id: str | None = None  # where it is uploaded already


class Round:
    """One call of `generate`."""

    def __init__(self, at: Setting, owed: Mapping[str, Ask]) -> None:
        self._at, self._desk, self._owed = at, at.desk, dict(owed)
        self._price = price_of(at.entry)
        self._most = at.most_lines  # of a file; less once the provider's queue has refused one
        self._under_way: list[_UnderWay] = []
        self._backlog = deque[_File]()
        self._elsewhere = set[str]()  # keys that may be in a batch which cannot be found out about
        self._wait_s = at.poll_s  # until the next poll; longer while nothing happens
        self._stop: HostDown | None = None  # raised once nothing is under way any more
        self._room = inf  # files that the provider's queue may take now
        self._full_since: datetime | None = None
        self._refused_alone = 0  # how often a single line found no room, with no other batch about
        self._others = frozenset[str]()  # open batches of the account that are waited for: one must end first
        self._sifts = 0  # how often a file was sent again without the lines that it failed for
        self._queue: NotedBatch | None = None  # what the book says of the backlog

    def replies(self) -> Iterator[Reply]:
        """A reply per ask; HostDown after all that were there."""
        yield from self._pick_up()
        elsewhere = self._elsewhere.union(*(way.batch.keys for way in self._under_way))
        asks = [ask for key, ask in self._owed.items() if key not in elsewhere]
        self._backlog.extend(_File(some) for some in self._files(asks))
        while self._goes_on:
            yield from self._submit()
            for way in list(self._under_way):
                yield from self._look(way)
            self._tell()
            if self._goes_on and self._at.closed.wait(self._wait_s):
                raise HostDown("closed while batches were open; the same command picks them up again")
            self._wait_s = min(LONGEST_POLL_S, self._wait_s * 1.5)
        if self._stop is not None:
            raise self._stop

    @property
    def _goes_on(self) -> bool:
        return bool(self._under_way or (self._backlog and self._stop is None))

    def _end(self, why: HostDown) -> None:
        """Nothing more is submitted; what is under way is waited for."""
        self._stop = self._stop or why

    def _give_up(self, way: _UnderWay, why: HostDown) -> None:
        """The batch stays noted, and nobody waits for it now."""
        self._under_way.remove(way)
        self._end(why)

    # ── what was submitted before ────────────────────────────────────────────────────────────────────────────────────

    def _pick_up(self) -> Iterator[Reply]:
        """The noted batches of this model that ask something owed: those that ended are fetched, the others awaited."""
        for batch in self._at.book.noted():
            if batch.model != self._at.entry.name or self._owed.keys().isdisjoint(batch.keys):
                continue
            try:
                found = batch if batch.id is not None else self._searched(batch)
                if found is not None and found.ended:
                    yield from self._fetched_again(found, self._owed)
                elif found is not None:
                    self._at.budget.hold(found.token, found.usd)
                    self._under_way.append(_UnderWay(found, fresh=False))
            except (Refused, HostDown) as wrong:
                self._elsewhere.update(batch.keys)
                self._end(wrong if isinstance(wrong, HostDown) else self._desk.trouble(wrong))

    def _searched(self, batch: NotedBatch) -> NotedBatch | None:
        """A batch whose submitter died before it could note the id: made after all, or not."""
        made = None if batch.waits_for else self._desk.found(batch)
        if made is None:
            self._at.book.forget(batch)
            return None
        found = replace(batch, id=made.id)
        self._at.book.note(found)
        return found

    def _fetched_again(self, batch: NotedBatch, owed: dict[str, Ask]) -> Iterator[Reply]:
        """The answers of a batch that had ended, for cells that are owed all the same; its failures are asked anew."""
        try:
            told = self._desk.retrieved(batch)
        except Refused as wrong:
            if wrong.status not in NONE_THERE:
                raise
            if batch.lost:  # to another call, which owed other cells of it
                self._lose(batch)
            self._lose_rows(batch)
            return  # the provider keeps results for a while only
        replies = [reply for reply in self._brought_again(told, batch) if not isinstance(reply.outcome, Failure)]
        replies = [reply for reply in replies if reply.key in owed]
        self._find(batch, replies)
        self._lose_rows(batch, {reply.key for reply in replies})
        for reply in replies:
            del owed[reply.key]
            self._at.budget.spend(batch.token, reply.outcome.cost_usd or 0.0)  # no row says so yet
            yield reply

    def _lose_rows(self, batch: NotedBatch, coming: Collection[str] = ()) -> None:
        """Answers that were handed on once, and lost with their rows: where they do not come again, nobody else tells
        that they were paid for.
        """
        if batch.unanswered is None:
            return
        told = {*batch.unanswered, *coming}
        gone = [key for key in batch.keys if key in self._owed and key not in told]
        if gone:
            with self._at.booking:
                self._at.book.lose(batch, gone)

    def _find(self, batch: NotedBatch, replies: Iterable[Reply]) -> None:
        """Before they are handed on: who dies in between fetches them again."""
        if batch.lost:
            with self._at.booking:
                self._at.book.find(batch, {reply.key for reply in replies})

    def _brought_again(self, told: Told, batch: NotedBatch) -> list[Reply]:
        results = self._results(told, batch)
        for attempt in range(1, self._at.retry.refused_attempts):
            if results.has_output or not told.completed or self._desk.pause(attempt):
                break
            results = self._results(told, batch)
        return self._replies(told, batch, results)

    # ── submitting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _files(self, asks: Sequence[Ask]) -> Iterator[list[Ask]]:
        """The asks of each file, within the provider's limits."""
        some: list[Ask] = []
        size = 0
        for ask in asks:
            more = len(self._line(ask))
            if some and (len(some) >= self._at.most_lines or size + more > self._at.most_bytes):
                yield some
                some, size = [], 0
            some.append(ask)
            size += more
        if some:
            yield some

    def _line(self, ask: Ask) -> bytes:
        body, url = request_body(self._at.entry, ask), endpoint_of(self._at.account)
        line = {"custom_id": ask.key, "method": "POST", "url": url, "body": body}
        return json.dumps(line).encode() + b"\n"  # ASCII: a provider may split lines at U+2028, too

    def _submit(self) -> Iterator[Reply]:
        """As many files of the backlog as there is room for; at least one where nothing is under way."""
        if self._others and not self._under_way and self._others <= self._desk.open_batches(self._at.clock() - _WINDOW):
            self._wait_for_room()
            return
        self._others = frozenset()
        while self._backlog and self._stop is None and (self._room >= 1 or not self._under_way):
            file = self._next_file()
            try:
                self._under_way.append(self._submitted(file))
                self._room = max(0, self._room - 1)
            except HostDown as spent:
                self._end(spent)
            except Refused as wrong:
                yield from self._not_taken(file, wrong)
                if wrong.full or wrong.failure.kind is FailureKind.RATE_LIMITED:
                    return

    def _submitted(self, file: _File) -> _UnderWay:
        """BudgetSpent before anything is sent, HostDown where it is not known whether it was made, Refused."""
        usd = sum(self._at.guess.of(ask)[1] for ask in file.asks)
        keys = tuple(ask.key for ask in file.asks)
        noted_at = self._at.clock().isoformat(timespec="seconds")
        batch = NotedBatch(uuid.uuid4().hex, self._at.entry.name, keys, noted_at, usd=usd)
        self._at.budget.reserve(batch)
        try:
            file.id = file.id or self._desk.uploaded(
                b"".join(self._line(ask) for ask in file.asks),
                lambda slow: self._at.book.note(replace(batch, file=slow.id, waits_for=_INPUT)),
            )
            named = replace(batch, file=file.id)
            self._at.book.note(named)  # so that a batch made by the next line is found even if we die on it
            made = replace(named, id=self._desk.made(named).id)
        except Refused as wrong:
            if not wrong.in_doubt:
                self._at.budget.settle(batch.token, 0.0)
                self._at.book.forget(batch)
            raise
        self._at.book.note(made)
        _log.info("%s: batch %s asks %d cells", self._at.entry.name, made.id, len(keys))
        return _UnderWay(made, fresh=True, alone=not self._under_way)

    def _not_taken(self, file: _File, wrong: Refused) -> Iterator[Reply]:
        """What becomes of asks that could not be submitted."""
        kind = wrong.failure.kind
        if wrong.full:
            self._refused_for_room(file, alone=not self._under_way)
        elif kind is FailureKind.RATE_LIMITED:
            self._backlog.appendleft(file)
            self._wait_s = max(self._wait_s, wrong.told_s or 0.0)
            self._wait_for_room()
        elif wrong.status == 413 and len(file.asks) > 1:
            self._shrink(file)
        elif wrong.no_endpoint and not wrong.in_doubt:
            self._end(self._desk.trouble(wrong))
        else:
            failure = self._desk.valid(wrong.failure)
            now = self._at.clock()
            yield from (Reply(ask.key, failure, now, 0.0, self._at.retry.attempts) for ask in file.asks)
            if kind.hopeless:
                self._end(self._desk.trouble(wrong))

    # ── a queue that is full ─────────────────────────────────────────────────────────────────────────────────────────

    def _refused_for_room(self, file: _File, *, alone: bool) -> None:
        """The file waits for room: made by what is under way before it, or found by being smaller."""
        if alone and len(file.asks) <= _SMALL:
            self._others = self._desk.open_batches(self._at.clock() - _WINDOW)
        if alone and not self._others and len(file.asks) > 1:
            self._shrink(file)
            _log.info("%s: no room in the queue for %d lines at once", self._at.entry.name, len(file.asks))
        else:
            self._refused_alone += alone and not self._others
            self._backlog.appendleft(file)
        self._wait_for_room()

    def _wait_for_room(self) -> None:
        self._room = 0
        self._full_since = self._full_since or self._at.clock()
        if self._refused_alone >= self._at.retry.attempts or self._at.clock() - self._full_since > _WINDOW:
            left, where = sum(len(file.asks) for file in self._backlog), self._at.account.base_url
            self._end(
                HostDown(
                    f"the batch queue of account {self._at.entry.account!r} at {where} has no room for another file of "
                    f"model {self._at.entry.name!r}, however small; {left} cells stay owed: run again when what waits "
                    "there is done, or have its limit of enqueued tokens raised"
                )
            )

    def _tell(self) -> None:
        """Writes down what waits for room, for `status`; it was not made, so whoever comes after asks it anew."""
        keys = tuple(ask.key for file in self._backlog for ask in file.asks) if self._room < inf else ()
        if keys and self._stop is None:
            if self._queue is None or self._queue.keys != keys:
                token = self._queue.token if self._queue else uuid.uuid4().hex
                noted_at = self._at.clock().isoformat(timespec="seconds")
                self._queue = NotedBatch(token, self._at.entry.name, keys, noted_at, waits_for=_ROOM)
                self._at.book.note(self._queue)
        elif self._queue is not None:
            self._at.book.forget(self._queue)
            self._queue = None

    def _next_file(self) -> _File:
        """The first of the backlog, as large as files may be now."""
        file = self._backlog.popleft()
        if len(file.asks) > self._most:
            self._backlog.appendleft(_File(file.asks[self._most :]))
            file = _File(file.asks[: self._most])
        return file

    def _shrink(self, file: _File) -> None:
        """Back to the backlog, to be sent in halves."""
        self._most, self._wait_s = max(1, len(file.asks) // 2), self._at.poll_s
        self._backlog.appendleft(_File(file.asks))

    def _taken(self) -> None:
        """The queue goes on: there may be room for another."""
        self._room, self._full_since, self._refused_alone = self._room + 1, None, 0
        self._wait_s = self._at.poll_s

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self, way: _UnderWay) -> Iterator[Reply]:
        """Asks how a batch stands. Whatever is wrong with one leaves the others alone."""
        try:
            told = self._desk.retrieved(way.batch)
            way.unknown = 0
            if not told.stage.over:
                yield from self._open(way, told)
            elif _refused_for_room(told):
                self._under_way.remove(way)
                self._drop(way.batch)
                self._refused_for_room(self._file_of(way.batch), alone=way.alone)
            else:
                yield from self._over(way, told)
        except Refused as wrong:
            yield from self._no_word(way, wrong)

    def _no_word(self, way: _UnderWay, wrong: Refused) -> Iterator[Reply]:
        """Waiting costs nothing, so a provider that is away, or does not know a batch for a moment, is asked again. A
        batch that stays unknown is lost.
        """
        way.unknown += 1
        lost = wrong.status in NONE_THERE and wrong.failure.kind is FailureKind.NO_SUCH_MODEL  # no page in between
        if (lost or not wrong.failure.kind.hopeless) and way.unknown < self._at.retry.attempts:
            self._stands(way, _WORD)
            return
        if not lost:
            self._give_up(way, self._desk.trouble(wrong))
            return
        _log.warning("%s no longer knows batch %s", self._at.account.base_url, way.batch.id)
        self._under_way.remove(way)
        self._lose(way.batch)
        if not way.fresh:
            self._backlog.append(_File(self._file_of(way.batch).asks))  # its input file is hardly known any more
            return
        gone = Failure(FailureKind.OVERLOADED, f"{self._at.account.base_url} no longer knows batch {way.batch.id}")
        yield from self._handed(Reply(key, gone, self._at.clock(), 0.0) for key in way.batch.keys)

    def _lose(self, batch: NotedBatch) -> None:
        with self._at.booking:
            self._at.book.lose(batch, [key for key in batch.keys if key in self._owed])

    def _open(self, way: _UnderWay, told: Told) -> Iterator[Reply]:
        """One that is under way for too long gives what is there."""
        if not self._late(way.batch, told):
            self._stands(way, f"{_WRITING} ({told.word})" if told.stage is Stage.FINALIZING else None)
            if not way.taken and told.stage is not Stage.OPEN:
                way.taken = True
                self._taken()
            return
        results = self._results(told, way.batch)
        replies = self._replies(told, way.batch, results)
        yield from self._handed(reply for reply in replies if isinstance(reply.outcome, Answer))
        self._never_came(way, told, results)

    def _over(self, way: _UnderWay, told: Told) -> Iterator[Reply]:
        """Its replies, once its files are there."""
        id = str(way.batch.id)
        if id not in self._at.brought:
            results = self._results(told, way.batch)
            lacks = _lacks(told, way.batch, results)
            if lacks == _OUTPUT and self._late(way.batch, told):
                there = [r for r in self._replies(told, way.batch, results) if r.key in results.by_key]
                yield from self._handed(there)
                self._never_came(way, told, results)
                return
            way.short += lacks == _REST
            if lacks == _OUTPUT or (lacks == _REST and way.short < self._at.retry.attempts):
                self._stands(way, lacks)
                return
            self._at.brought[id] = self._replies(told, way.batch, results), results.aside
        yield from self._ended(way, told)

    def _ended(self, way: _UnderWay, told: Told) -> Iterator[Reply]:
        replies, aside = self._at.brought[str(way.batch.id)]
        self._under_way.remove(way)
        self._at.budget.settle(way.batch.token, sum(reply.outcome.cost_usd or 0.0 for reply in replies))
        good = self._sifted(way, told)
        yield from self._handed(reply for reply in replies if reply.key not in good)
        with self._at.booking:
            unanswered = tuple(reply.key for reply in replies if isinstance(reply.outcome, Failure))
            self._at.book.end(replace(way.batch, waits_for=None, aside=aside, unanswered=unanswered))
        self._taken()
        why = self._hopeless([reply.outcome for reply in replies])
        if why is not None and not good:
            self._end(HostDown(why))

    def _hopeless(self, outcomes: Sequence[Outcome]) -> str | None:
        """Why another batch would fare no better than one without a single answer, if it would not."""
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        kinds = {failure.kind for failure in failures}
        if len(failures) < len(outcomes) or len(kinds) != 1:
            return None
        if kinds <= _HOPELESS:
            return hopeless_sentence(failures[0], self._at.entry, self._at.account)
        if not (kinds <= _ALIKE and len(failures) >= _MANY):
            return None
        name, where = self._at.entry.name, self._at.account.base_url
        return (
            f"all {len(failures)} lines of a batch of model {name!r} at {where} failed alike ({failures[0].detail}); "
            f"correct what it refuses (id, max_tokens_as, sends_seed, extra_body of model {name!r}), or see there"
        )

    def _sifted(self, way: _UnderWay, told: Told) -> Collection[str]:
        """The keys that are sent again because the batch failed for other lines, which it names, before it began."""
        bad = {wrong.line for wrong in told.errors}
        keys = way.batch.keys
        named = told.stage is Stage.FAILED and not told.completed and bad and None not in bad
        if not named or self._sifts >= self._at.retry.refused_attempts or self._failure(told).kind.hopeless:
            return ()
        good = {key for line, key in enumerate(keys, 1) if line not in bad and key in self._owed}
        if len(good) == len(keys):
            return ()
        self._sifts += 1
        if good:
            self._backlog.append(_File([self._owed[key] for key in keys if key in good]))
        return good

    def _never_came(self, way: _UnderWay, told: Told, results: Results) -> None:
        self._stands(way, f"{_WRITING} ({told.word})" if not told.stage.over else _OUTPUT)
        missing = len(way.batch.keys) - len(results.by_key)
        since, where = self._began(way.batch, told), self._at.account.base_url
        self._give_up(
            way,
            HostDown(
                f"batch {way.batch.id} of {since:%Y-%m-%d %H:%M} UTC at {where} is {told.word}, and the results of "
                f"{missing} cells never came; they are not asked again, as they may be paid: run again to look once "
                f"more, or delete batches/{way.batch.token}.json of the run's folder to ask them anew"
            ),
        )

    def _handed(self, replies: Iterable[Reply]) -> Iterator[Reply]:
        """Those that are owed, each cell's once: two batches may have asked it."""
        for reply in replies:
            if self._owed.pop(reply.key, None) is not None:
                yield reply

    def _stands(self, way: _UnderWay, waits_for: str | None) -> None:
        """Writes down what it waits for, when that has changed."""
        if way.batch.waits_for != waits_for:
            way.batch = replace(way.batch, waits_for=waits_for)
            self._at.book.note(way.batch)

    def _drop(self, batch: NotedBatch) -> None:
        """Nothing of it was asked."""
        self._at.budget.settle(batch.token, 0.0)
        self._at.book.forget(batch)

    def _file_of(self, batch: NotedBatch) -> _File:
        asks = [self._owed[key] for key in batch.keys if key in self._owed]
        return _File(asks, batch.file if len(asks) == len(batch.keys) else None)

    def _late(self, batch: NotedBatch, told: Told) -> bool:
        """Whether nothing is expected of it any more. Azure asks on for as long as it takes; the provider's own clock
        counts only once it is through with asking.
        """
        asking = told.stage in (Stage.OPEN, Stage.RUNNING)
        began = datetime.fromisoformat(batch.noted_at) if asking else self._began(batch, told)
        return self._at.clock() - began > _WINDOW and not (asking and self._at.account.kind == "azure")

    def _began(self, batch: NotedBatch, told: Told) -> datetime:
        """By our clock, or by the provider's where that says earlier, and may be right."""
        noted = datetime.fromisoformat(batch.noted_at)
        told_right = told.began is not None and noted - _OLDEST < told.began < noted
        return told.began if told_right and told.began is not None else noted

    # ── what a batch brought ─────────────────────────────────────────────────────────────────────────────────────────

    def _results(self, told: Told, batch: NotedBatch) -> Results:
        """What its files say, as far as they are there."""
        results, keys = Results(), frozenset(batch.keys)
        for id in filter(None, (told.output, told.errors_file)):
            content = self._desk.content(id)
            if content is not None and is_file(content):
                results.has_output |= id == told.output
                read(results, content, keys, self._at.parse, self._at.secret)
        if results.aside:
            what = "%s: batch %s: %d lines of its results are no cell's and were set aside; the first: %s"
            _log.warning(what, self._at.entry.name, batch.id, results.aside, results.sample)
        return results

    def _replies(self, told: Told, batch: NotedBatch, results: Results) -> list[Reply]:
        """One reply per key of a batch."""
        asked_at = self._began(batch, told)
        silence = self._silence(told, results)
        found = ((key, results.by_key.get(key, silence)) for key in batch.keys)
        return [Reply(key, self._billed(result, batch), asked_at, told.took_s) for key, result in found]

    def _billed(self, result: Result, batch: NotedBatch) -> Outcome:
        """What may be billed, and nobody tells how much, cost at most its part of what the batch may cost."""
        outcome = self._desk.valid(result.outcome) if isinstance(result.outcome, Failure) else result.outcome
        unknown = result.billable and outcome.cost_usd is None and self._price is not None
        return replace(outcome, cost_usd=batch.usd / len(batch.keys)) if unknown else outcome

    def _silence(self, told: Told, results: Results) -> Result:
        """What became of a line that is in neither file."""
        if results.aside:
            what = f"{results.aside} lines of the batch's results do not say whose they are; this one may be among them"
            return Result(Failure(FailureKind.MALFORMED, what), billable=True)
        return Result(self._failure(told), billable=results.has_output and _has_more(told, results))

    def _failure(self, told: Told) -> Failure:
        """Why a batch brought nothing for a line."""
        match told.stage:
            case Stage.FAILED:
                said = "; ".join(wrong.message for wrong in told.errors) or "no reason given"
                kinds = {_kind(wrong) for wrong in told.errors} - {FailureKind.BAD_REQUEST}
                kind = min(kinds, key=lambda kind: not kind.hopeless) if kinds else FailureKind.BAD_REQUEST
                return Failure(kind, f"the batch was refused: {shown(said)}")
            case Stage.EXPIRED:
                return Failure(FailureKind.TIMEOUT, "the batch expired before this line was done")
            case _:
                return Failure(FailureKind.OVERLOADED, f"the batch is {told.word} and has no result for this line")


def _kind(wrong: Wrong) -> FailureKind:
    full = is_full(wrong.code, wrong.message)
    return FailureKind.RATE_LIMITED if full else refusal_kind(400, wrong.as_error())


def is_full(code: str | None, message: str) -> bool:
    """Whether an error says that the provider's queue has no room; its words count where it has no code."""
    if code is None:
        return "enqueued token" in message.lower()
    return _FULL.fullmatch("".join(filter(str.isalnum, code.lower()))) is not None


def _refused_for_room(told: Told) -> bool:
    """Whether it failed only because the queue was full, and nothing of it was asked."""
    full = any(_kind(wrong) is FailureKind.RATE_LIMITED for wrong in told.errors)
    return told.stage is Stage.FAILED and not told.completed and full


def _lacks(told: Told, batch: NotedBatch, results: Results) -> str | None:
    """What of its results should be there, and is not: _OUTPUT, all the answers, or _REST, some lines."""
    if len(batch.keys) <= results.found:
        return None
    uncounted = told.stage is Stage.COMPLETED and not told.completed and not told.failed  # counts may come late, too
    unsaid = uncounted or (told.output is not None and told.completed is None)
    if (told.completed or unsaid) and not results.has_output:
        return _OUTPUT
    return _REST if results.found < _done(told) else None


def _has_more(told: Told, results: Results) -> bool:
    """Whether more lines may have been answered than its files hold; where it does not count them, what it is tells."""
    if not _done(told):
        return told.stage is Stage.COMPLETED
    return results.found < _done(told) and results.answered < (told.completed or 0)


def _done(told: Told) -> int:
    return (told.completed or 0) + (told.failed or 0)
