"""The two actors of a lane. What they hand on is durable; what they cannot do is said in the ledger."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

import pyarrow as pa
import ray
from ray.exceptions import RayError

from emoray import refusals
from emoray.hosts.protocol import Ask, Host, HostDown, OwnModel, Reply, Stoppable
from emoray.readers.failing import cause, is_failure, raised_at
from emoray.readers.protocol import Reader, ReaderDown, Reading, SlowReader, TellingReader
from emoray.run_folder import columns
from emoray.run_folder.census import owed_rows
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.run_folder.manifest import day as day_of
from emoray.run_folder.partition import Part
from emoray.run_folder.probe import missing_mark
from emoray.run_folder.tabs import PartTab
from emoray.spec.accounts import Retry
from emoray.spec.models import Embedded, Hosted, Local, ModelEntry, Rehearsed, Scripted, Vllm
from emoray.spec.readers import GoEmotionsReader, JudgeReader, ReaderEntry, RegressorReader, ScriptedReader
from emoray.stream.accounts import Means
from emoray.stream.lane_state import Tally, Verdict
from emoray.stream.refuge import LaneRefuge
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import Rules

_log = logging.getLogger(__name__)
_GATHER_S = 0.05  # replies that come within this time become one table
_RELEASE_S = 2.0  # what is durable of a block goes on together so often: each table costs Ray milliseconds
_SEATS = 2  # threads inside a reader: one computes, the other tokenizes
_TOGETHER = 2048  # rows that a reader gets at once, where so many wait: more would only idle a GPU at the start
_COMMIT_S = 0.4  # the most a commit waits: with a slow disk's own time, an answer is durable within a second


class Work(NamedTuple):
    """Where the actors of a lane write, and whom they tell."""

    run: str  # URI of the run folder
    model: str
    attempt: str  # which `run` command this is; part of every file name it writes
    ledger: Any
    means: Means | None = None  # of a hosted model
    mark: str = ""  # what the driver left in the run folder, for every node to see
    umask: int = 0o077  # of the driver: the rights of what is written are not those of Ray's processes


def host_of(
    entry: ModelEntry, means: Means | None = None, day: date | None = None, *, across_nodes: bool = False
) -> Host:
    """The host of a model entry; imports come late, so that nobody needs a library he does not use.

    `day` is today to chat templates that tell the date: a run asks on all its days what it asked on its first.
    `across_nodes`: where the engine has a place on several nodes.
    """
    match entry:
        case Embedded():
            from emoray.hosts.embedded import EmbeddedHost

            return EmbeddedHost(entry, day=day)
        case Local():
            from emoray.hosts.transformers import TransformersHost

            return TransformersHost(entry, day=day)
        case Scripted():
            from emoray.hosts.scripted import ScriptedHost

            return ScriptedHost(entry)
        case Rehearsed():
            from emoray.hosts.rehearsed import RehearsedHost

            return RehearsedHost(entry)
        case Vllm():
            from emoray.hosts.vllm import VllmHost

            return VllmHost(entry, across_nodes=across_nodes, day=day)
        case Hosted(host="hosted_api") if means:
            from emoray.hosts.hosted_api import HostedApi

            limits = means.account, means.retry, means.governor
            return HostedApi(entry, *limits, run=means.run, had_answers=means.had_answers, tab=means.tab)
        case Hosted(host="batch_api") if means:
            from emoray.hosts.batch_api import BatchApi

            return BatchApi(entry, means.account, means.retry, means.batches, purse=means.purse, run=means.run)
        case _:
            raise HostDown(f"model {entry.name!r}: host {entry.host!r} is not there yet")


def reader_of(
    entry: ReaderEntry, means: Means | None = None, day: date | None = None, *, across_nodes: bool = False
) -> Reader:
    """The reader of an entry; `means` are those of a hosted judge, `day` is today to a judge's chat template."""
    match entry:
        case GoEmotionsReader():
            from emoray.readers.goemotions import GoEmotions

            return GoEmotions(entry)
        case RegressorReader():
            from emoray.readers.regressor import Regressor

            return Regressor(entry)
        case JudgeReader():
            from emoray.readers.judge import Judge, asked_of

            return Judge(entry, host_of(asked_of(entry), means, day, across_nodes=across_nodes), means.retry if means else Retry())
        case ScriptedReader():
            from emoray.readers.scripted import ScriptedReading

            return ScriptedReading(entry)


class Speaker:
    """Asks one model. ASKED blocks in; SAID tables out, as the replies become durable."""

    def __init__(self, entry: ModelEntry, work: Work) -> None:
        self._work = work
        self._host = self._started(entry)
        self._turnstile = _Turnstile()
        self._part = RunFolder(work.run, begun=True).answers(work.model)
        stop = self._host.stop if isinstance(self._host, Stoppable) else lambda _: None
        refuge = LaneRefuge(self._part, work.attempt, work.ledger, stop)
        self._journal = Journal(self._part, _writer(work), schema=columns.SAID, every_s=_COMMIT_S, refuge=refuge)

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """What cannot go on ends its lane without an exception: Ray would tear down what is still in flight."""
        if self._host is None or not block.num_rows:
            return
        try:
            with self._turnstile.turn(self._host.in_flight, block.num_rows) as turn:
                yield from self._speak(self._host, self._owed(block), _name(block), turn)
        except (HostDown, StoreError) as wrong:
            ray.get(self._work.ledger.down.remote(str(wrong)))

    def _started(self, entry: ModelEntry) -> Host | None:
        os.umask(self._work.umask)
        ledger = self._work.ledger
        if not ray.get(ledger.starting.remote(_me())):
            return None
        refusals.load()  # now: the first answers are to be durable as soon as any
        try:
            _check_node(self._work)
            tab = PartTab(lambda: (self._part, self._journal.writer))
            means = _means(self._work, lambda lane: lane.answered, tab)
            host = host_of(entry, means, _day(self._work))
        except (HostDown, StoreError) as wrong:
            if not ray.get(ledger.cannot_start.remote(str(wrong))):
                os._exit(1)  # Ray starts it again, where it may do better
            return None
        ledger.ready.remote(_me(), "", *((host.defaults, host.notes) if isinstance(host, OwnModel) else ()))
        return host

    def _speak(self, host: Host, owed: pa.Table, block: str, turn: _Turn) -> Iterator[pa.Table]:
        """What is durable, as it becomes so. While Ray does not pull, what is said becomes durable all the same; and
        all that is in flight is received, also where the run folder takes no more, or the host ends.
        """
        turn.asks(owed.num_rows)
        said: queue.SimpleQueue[_Kept | BaseException | None] = queue.SimpleQueue()
        threading.Thread(target=self._hear, args=(host, owed, turn.answered, said), daemon=True).start()
        kept: list[_Kept] = []
        release_at, end = time.monotonic() + _RELEASE_S, list[BaseException | None]()
        while not end:
            with suppress(queue.Empty):
                one = said.get(timeout=max(_GATHER_S, release_at - time.monotonic()))
                (kept if isinstance(one, _Kept) else end).append(one)  # type: ignore[arg-type]
            late = time.monotonic() >= release_at
            durable = kept if end else list(takewhile(lambda one: one.durable.done(), kept)) if late else []
            if durable:
                kept = kept[len(durable) :]
                yield from self._release(block, durable)
                release_at = time.monotonic() + _RELEASE_S
        if end[0] is not None:
            raise end[0]

    def _hear(
        self,
        host: Host,
        owed: pa.Table,
        answered: Callable[[], None],
        said: queue.SimpleQueue[_Kept | BaseException | None],
    ) -> None:
        """All that the host says of these goes into the journal at once, and then into `said`; None is its end."""
        places = {key: place for place, key in enumerate(owed["key"].to_pylist())}
        drawn = columns.drawn(owed, host.defaults) if isinstance(host, OwnModel) else owed
        try:
            for replies in _gathered(host, columns.asks(owed), answered):
                some = drawn.take([places[reply.key] for reply in replies])
                table = columns.said(some, replies, host=host.name, revision=host.revision, engine=host.engine)
                said.put(_Kept(self._journal.append(table), table))
            said.put(None)
        except BaseException as wrong:  # handed to the thread that waits for it
            said.put(wrong)

    def _owed(self, block: pa.Table) -> pa.Table:
        """What of the block is to be asked."""
        ledger, name = self._work.ledger, _name(block)
        verdict = ray.get(ledger.begin.remote(name, block.num_rows))
        owed = _owed(block, verdict, self._part)
        if verdict is Verdict.RESUME:
            ledger.resumed.remote(name, owed.num_rows)
        return owed

    def _release(self, block: str, kept: Sequence[_Kept]) -> Iterator[pa.Table]:
        """Waits until it is known what became of all of it, and tells of what is durable: of what is not, the journal's
        refuge does.
        """
        durable = [one.table for one in kept if one.durable.exception() is None]
        if durable:
            table = pa.concat_tables(durable)
            self._work.ledger.said.remote(block, _counts(table))
            yield table


class _Kept(NamedTuple):
    """What was said, and when it will be on disk."""

    durable: Future[None]
    table: pa.Table


class _Turnstile:
    """Lets blocks in one after the other, each once those inside have too few open asks to keep the host full.

    So the oldest block is answered first and the others wait for the disk meanwhile, at no loss to the host. A block
    that waits outside has not begun: when the lane is stopped, nothing of it is asked.
    """

    def __init__(self) -> None:
        self._open = 0  # asks of the blocks inside that are not answered yet
        self._outside: deque[_Turn] = deque()
        self._news = threading.Condition()

    @contextmanager
    def turn(self, in_flight: int, rows: int) -> Iterator[_Turn]:
        """Waits for its turn: until no more is open than what the host holds, and one filling or one block ahead."""
        turn = _Turn(self._opened, rows, room=in_flight + max(in_flight, rows))
        with self._news:
            self._outside.append(turn)
            self._news.wait_for(lambda: self._outside[0] is turn and self._open < turn.room)
            self._outside.popleft()
            self._open += rows
            self._news.notify_all()
        try:
            yield turn
        finally:
            turn.asks(0)

    def _opened(self, asks: int) -> None:
        with self._news:
            self._open += asks
            if self._outside and self._open < self._outside[0].room:  # to wake all for every answer would cost much
                self._news.notify_all()


class _Turn:
    """One block inside the turnstile."""

    def __init__(self, opened: Callable[[int], None], asks: int, room: int) -> None:
        """It begins when fewer than `room` asks are open in all."""
        self._opened, self._open, self.room = opened, asks, room

    def asks(self, left: int) -> None:
        """So many are open."""
        self._opened(left - self._open)
        self._open = left

    def answered(self) -> None:
        self.asks(max(0, self._open - 1))  # 0: the block has been given up, and the host answers still


class Listener:
    """Reads with one reader. SAID blocks in; the scored rows become durable; the same SAID blocks out."""

    def __init__(self, entry: ReaderEntry, work: Work, label_map: LabelMap, rules: Rules, *, careful: bool) -> None:
        """`careful` of what it begins, for blocks that cost money or can wait: an answer that has just been received is
        otherwise read even when the run is told to stop.
        """
        self._work, self._label_map, self._rules, self._careful = work, label_map, rules, careful
        self._reader = self._started(entry)
        self._together = _Together()
        self._part = RunFolder(work.run, begun=True).rows(entry.name, work.model)
        paid = isinstance(entry, JudgeReader)  # any other reads again for nothing
        refuge = LaneRefuge(self._part, work.attempt, work.ledger) if paid else None
        self._journal = Journal(self._part, _writer(work), schema=columns.SCORED, every_s=_COMMIT_S, refuge=refuge)

    def __call__(self, block: pa.Table) -> pa.Table:
        """What cannot go on ends its lane without an exception, as with a Speaker."""
        if block.num_rows == 0 or self._reader is None:
            return block
        try:
            owed = self._owed(self._reader, block)
            _wait_for(self._kept(self._reader, owed) if owed.num_rows else [])
        except (ReaderDown, StoreError) as wrong:
            ray.get(self._work.ledger.down.remote(str(wrong)))
        except BaseException as wrong:  # which nobody foresaw
            ray.get(self._work.ledger.down.remote(_unforeseen(self._reader.name, wrong)))
        else:
            self._work.ledger.read.remote(self._reader.name, owed.num_rows)
        return block

    def _started(self, entry: ReaderEntry) -> Reader | None:
        os.umask(self._work.umask)
        ledger = self._work.ledger
        if not ray.get(ledger.starting.remote(_me(), entry.name)):
            return None
        try:
            _check_node(self._work)
            tab = PartTab(lambda: (self._part, self._journal.writer))
            means = _means(self._work, lambda lane: lane.read.get(entry.name, 0), tab)
            reader = reader_of(entry, means, _day(self._work))
        except (HostDown, ReaderDown, StoreError) as wrong:
            ray.get(ledger.down.remote(str(wrong)))
            return None
        except BaseException as wrong:  # which nobody foresaw
            ray.get(ledger.down.remote(_unforeseen(entry.name, wrong)))
            return None
        ledger.ready.remote(_me(), entry.name, None, reader.notes if isinstance(reader, TellingReader) else ())
        return reader

    def _owed(self, reader: Reader, block: pa.Table) -> pa.Table:
        """What of the block is to be read."""
        if not self._careful:
            return block
        verdict = ray.get(self._work.ledger.begin_reading.remote(reader.name, _name(block)))
        return _owed(block, verdict, self._part)

    def _kept(self, reader: Reader, block: pa.Table) -> list[Future[None]]:
        """Reads the block; done when its rows are durable."""
        if isinstance(reader, SlowReader):
            return [self._keep(reader, block.take(places), readings) for places, readings in _heard_each(reader, block)]
        return [self._together.read(block, partial(self._read, reader))]

    def _read(self, reader: Reader, block: pa.Table) -> Future[None]:
        return self._keep(reader, block, _heard(reader, block["answer"].to_pylist()))

    def _keep(self, reader: Reader, block: pa.Table, readings: Sequence[Reading | None]) -> Future[None]:
        felt = columns.felt(block, readings, reader=reader.name, revision=reader.revision)
        return self._journal.append(columns.scored(felt, self._label_map, *self._rules))


def _wait_for(kept: Sequence[Future[None]]) -> None:
    """Until it is known of each whether it is durable; raises what the first failed by."""
    failures = [durable.exception() for durable in kept]
    for wrong in filter(None, failures):
        raise wrong


class _Together:
    """Reads blocks that wait as one: a reader sorts what it gets by length, so the more it gets the better."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._seats = threading.Semaphore(_SEATS)

    def read(self, block: pa.Table, read: Callable[[pa.Table], Future[None]]) -> Future[None]:
        """What `read` returns for the block and those that waited with it; raises what it raises."""
        mine = _Waiting(block)
        self._waiting.append(mine)
        with self._seats:
            if together := self._taken():  # else whoever had the seat before has taken mine along
                _read_as_one(together, read)
        return mine.durable.result()

    def _taken(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        with suppress(IndexError):
            while sum(one.block.num_rows for one in taken) < _TOGETHER:
                taken.append(self._waiting.popleft())
        return taken


@dataclass
class _Waiting:
    """A block that waits to be read; `durable` is there once it was."""

    block: pa.Table
    durable: Future[Future[None]] = field(default_factory=Future)


def _read_as_one(together: list[_Waiting], read: Callable[[pa.Table], Future[None]]) -> None:
    try:
        durable = read(pa.concat_tables([one.block for one in together]))
    except BaseException as wrong:  # whoever waits must hear of it
        for one in together:
            one.durable.set_exception(wrong)
        return
    for one in together:
        one.durable.set_result(durable)


def _unforeseen(reader: str, wrong: BaseException) -> str:
    """In a sentence; raises what is Ray's own, or an order to end."""
    if isinstance(wrong, RayError) or not is_failure(wrong):
        raise wrong
    _log.error("reader %r failed", reader, exc_info=wrong)
    return (
        f"reader {reader!r} failed: {cause(wrong)} (at {raised_at(wrong)}); this is a fault of emoray: please report it"
    )


def _me() -> str:
    """The same for an actor and for what Ray starts in its place."""
    return str(ray.get_runtime_context().get_actor_id())


def _means(work: Work, answers: Callable[[Tally], int], tab: PartTab) -> Means | None:
    """Those of the lane, with what its ledger knows of answers, and the tab of this actor."""
    ledger = work.ledger
    return work.means and replace(work.means, had_answers=lambda: answers(ray.get(ledger.tally.remote())) > 0, tab=tab)


def _day(work: Work) -> date | None:
    """The day on which the run began."""
    return day_of(RunFolder(work.run).manifest())


def _check_node(work: Work) -> None:
    """StoreError where this node, which may have joined late, does not see the run folder as the driver does: what
    became durable here would be lost with it.
    """
    node = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    if sentence := missing_mark(RunFolder(work.run), work.mark, node=node):
        raise StoreError(sentence)


def _name(block: pa.Table) -> str:
    """Its first key: the same when Ray makes the block anew."""
    name: str = block["key"][0].as_py()
    return name


def _owed(block: pa.Table, verdict: Verdict, part: Part) -> pa.Table:
    """The block, less what is durable already where Ray runs it again (a killed actor, a lost node)."""
    match verdict:
        case Verdict.BEGIN:
            return block
        case Verdict.RESUME:
            return owed_rows(block, part.settled())
        case Verdict.STOP:
            return block.slice(0, 0)


def _heard(reader: Reader, texts: list[Any]) -> list[Reading | None]:
    """The reading of every row; None where there is no answer to read."""
    there = [place for place, text in enumerate(texts) if text is not None]
    found: list[Reading | None] = [None] * len(texts)
    for place, reading in zip(there, reader.read([texts[place] for place in there]), strict=True):
        found[place] = reading
    return found


def _heard_each(reader: SlowReader, block: pa.Table) -> Iterator[tuple[list[int], list[Reading | None]]]:
    """Places and readings of all rows, as they come."""
    texts = block["answer"].to_pylist()
    there = [place for place, text in enumerate(texts) if text is not None]
    silent = [place for place, text in enumerate(texts) if text is None]
    if silent:
        yield silent, [None] * len(silent)
    for group in reader.read_each([texts[place] for place in there]):
        yield [there[place] for place, _ in group], [reading for _, reading in group]


def _gathered(host: Host, asks: list[Ask], answered: Callable[[], None]) -> Iterator[list[Reply]]:
    """A host's replies in small groups, none held back for longer than _GATHER_S; HostDown passes through.

    `answered` is told of each reply at once.
    """
    replies: queue.SimpleQueue[Reply | BaseException | None] = queue.SimpleQueue()

    def speak() -> None:
        try:
            for reply in host.generate(asks):
                answered()
                replies.put(reply)
            replies.put(None)
        except BaseException as wrong:  # handed to the thread that waits for it
            replies.put(wrong)

    threading.Thread(target=speak, daemon=True).start()
    missing = len(asks)
    while missing:
        group = [replies.get()]
        time.sleep(_GATHER_S if missing > 1 else 0)
        while not replies.empty():
            group.append(replies.get())
        good = [reply for reply in group if isinstance(reply, Reply)]
        if good:
            yield good
        missing -= len(good)
        broken = next((reply for reply in group if isinstance(reply, BaseException)), None)
        if broken:
            raise broken
        if None in group and missing:
            raise HostDown(f"host {host.name} ended with {missing} asks unanswered")


def _counts(table: pa.Table) -> dict[str, Any]:
    kinds = Counter(table["outcome"].to_pylist())
    return {"answered": kinds.pop(columns.ANSWERED, 0), "failed": dict(kinds)}


def _writer(work: Work) -> str:
    return f"{work.attempt}-{ray.get_runtime_context().get_actor_id()[:12]}"
