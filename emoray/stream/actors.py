"""The two actors of a lane. What they hand on is durable; what they cannot do is said in the ledger."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import ray

from emoray import rows
from emoray.hosts import Ask, Host, HostDown, Reply
from emoray.journal import Journal
from emoray.readers import Reader, ReaderDown, Reading, SlowReader
from emoray.resume import owed_rows
from emoray.spec import (
    Embedded,
    GoEmotionsReader,
    Hosted,
    JudgeReader,
    Local,
    ModelEntry,
    ReaderEntry,
    RegressorReader,
    Rehearsed,
    Scripted,
    ScriptedReader,
    Vllm,
)
from emoray.store import RunFolder, StoreError
from emoray.stream.ledger import Verdict
from emoray.stream.means import Means
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import NeutralRule

_GATHER_S = 0.05  # replies that come within this time become one table
_COMMIT_S = 0.4  # the most a commit waits: with a slow disk's own time, an answer is durable within a second


class Work(NamedTuple):
    """Where the actors of a lane write, and whom they tell."""

    run: str  # URI of the run folder
    model: str
    attempt: str  # which `run` command this is; part of every file name it writes
    ledger: Any
    means: Means | None = None  # of a hosted model


def host_of(entry: ModelEntry, means: Means | None = None) -> Host:
    """The host of a model entry; imports come late, so that nobody needs a library he does not use."""
    match entry:
        case Embedded():
            from emoray.hosts.embedded import EmbeddedHost

            return EmbeddedHost(entry)
        case Local():
            from emoray.hosts.transformers import TransformersHost

            return TransformersHost(entry)
        case Scripted():
            from emoray.hosts.scripted import ScriptedHost

            return ScriptedHost(entry)
        case Rehearsed():
            from emoray.rehearsal.engine import RehearsedHost

            return RehearsedHost(entry)
        case Vllm():
            from emoray.hosts.vllm import VllmHost

            return VllmHost(entry, across_nodes=ray.util.get_current_placement_group() is not None)
        case Hosted(host="hosted_api") if means:
            from emoray.hosts.hosted_api import HostedApi

            return HostedApi(entry, means.account, means.retry, means.governor, run=means.run)
        case Hosted(host="batch_api") if means:
            from emoray.hosts.batch_api import BatchApi

            return BatchApi(entry, means.account, means.retry, means.batches, purse=means.purse, run=means.run)
        case _:
            raise HostDown(f"model {entry.name!r}: host {entry.host!r} is not there yet")


def reader_of(entry: ReaderEntry, means: Means | None = None) -> Reader:
    """The reader of an entry; `means` are those of a hosted judge."""
    match entry:
        case GoEmotionsReader():
            from emoray.readers.goemotions import GoEmotions

            return GoEmotions(entry)
        case RegressorReader():
            from emoray.readers.regressor import Regressor

            return Regressor(entry)
        case JudgeReader():
            from emoray.readers.judge import Judge, asked_of

            return Judge(entry, host_of(asked_of(entry), means))
        case ScriptedReader():
            from emoray.readers.scripted import ScriptedReading

            return ScriptedReading(entry)


class Speaker:
    """Asks one model. ASKED blocks in; SAID tables out, as the replies become durable."""

    def __init__(self, entry: ModelEntry, work: Work) -> None:
        self._work = work
        self._host = self._started(entry)
        self._part = RunFolder(work.run).answers(work.model)
        self._journal = Journal(self._part, _writer(work), schema=rows.SAID, every_s=_COMMIT_S)

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """What cannot go on ends its lane without an exception: Ray would tear down what is still in flight."""
        try:
            yield from self._speak(self._owed(block))
        except (HostDown, StoreError) as wrong:
            ray.get(self._work.ledger.down.remote(str(wrong)))

    def _started(self, entry: ModelEntry) -> Host | None:
        try:
            host = host_of(entry, self._work.means)
        except HostDown as wrong:
            ray.get(self._work.ledger.down.remote(str(wrong)))
            return None
        self._work.ledger.ready.remote()
        return host

    def _speak(self, owed: pa.Table) -> Iterator[pa.Table]:
        if owed.num_rows == 0 or self._host is None:
            return
        places = {key: place for place, key in enumerate(owed["key"].to_pylist())}
        durable: list[tuple[Future[None], pa.Table]] = []
        for replies in _gathered(self._host, rows.asks(owed)):
            table = rows.said(
                owed.take([places[reply.key] for reply in replies]),
                replies,
                host=self._host.name,
                revision=self._host.revision,
                engine=self._host.engine,
            )
            durable.append((self._journal.append(table), table))
            while durable and durable[0][0].done():
                yield self._release(*durable.pop(0))
        for pair in durable:
            yield self._release(*pair)

    def _owed(self, block: pa.Table) -> pa.Table:
        """The block, less what is durable already where Ray runs it again (a killed actor, a lost node)."""
        verdict = ray.get(self._work.ledger.begin.remote(block["key"][0].as_py())) if block.num_rows else Verdict.STOP
        if verdict is Verdict.ASK:
            return block
        if verdict is Verdict.STOP:
            return block.slice(0, 0)
        return owed_rows(block, self._part.settled())

    def _release(self, durable: Future[None], table: pa.Table) -> pa.Table:
        durable.result()
        self._work.ledger.said.remote(_counts(table))
        return table


class Listener:
    """Reads with one reader. SAID blocks in; the scored rows become durable; the same SAID blocks out."""

    def __init__(self, entry: ReaderEntry, work: Work, label_map: LabelMap, neutral: NeutralRule) -> None:
        self._work, self._label_map, self._neutral = work, label_map, neutral
        self._reader = self._started(entry)
        part = RunFolder(work.run).rows(entry.name, work.model)
        self._journal = Journal(part, _writer(work), schema=rows.SCORED, every_s=_COMMIT_S)

    def __call__(self, block: pa.Table) -> pa.Table:
        """What cannot go on ends its lane without an exception, as with a Speaker."""
        if block.num_rows == 0 or self._reader is None:
            return block
        durable: list[Future[None]] = []
        try:
            for places, readings in _heard(self._reader, block["answer"].to_pylist()):
                some = block.take(pa.array(places, pa.int64()))
                durable.append(self._kept(self._reader, some, readings))
            for future in durable:
                future.result()
        except (ReaderDown, StoreError) as wrong:
            ray.get(self._work.ledger.down.remote(str(wrong)))
        else:
            self._work.ledger.read.remote(self._reader.name, block.num_rows)
        return block

    def _kept(self, reader: Reader, some: pa.Table, readings: list[Reading | None]) -> Future[None]:
        felt = rows.felt(some, readings, reader=reader.name, revision=reader.revision)
        return self._journal.append(rows.scored(felt, self._label_map, self._neutral))

    def _started(self, entry: ReaderEntry) -> Reader | None:
        try:
            return reader_of(entry, self._work.means)
        except (ReaderDown, HostDown) as wrong:
            ray.get(self._work.ledger.down.remote(str(wrong)))
            return None


def _heard(reader: Reader, texts: list[str | None]) -> Iterator[tuple[list[int], list[Reading | None]]]:
    """Places and readings of all rows: at once, or of a slow reader as they come. None: there is no answer to read."""
    there = [place for place, text in enumerate(texts) if text is not None]
    silent = [place for place, text in enumerate(texts) if text is None]
    spoken = [text for text in texts if text is not None]
    if isinstance(reader, SlowReader):
        if silent:
            yield silent, [None] * len(silent)
        for group in reader.read_each(spoken):
            yield [there[place] for place, _ in group], [reading for _, reading in group]
        return
    yield [*there, *silent], [*reader.read(spoken), *[None] * len(silent)]


def _gathered(host: Host, asks: list[Ask]) -> Iterator[list[Reply]]:
    """A host's replies in small groups, none held back for longer than _GATHER_S; HostDown passes through."""
    replies: queue.SimpleQueue[Reply | BaseException | None] = queue.SimpleQueue()

    def speak() -> None:
        try:
            for reply in host.generate(asks):
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
    sums = {name: pc.sum(table[name]).as_py() or 0 for name in ("prompt_tokens", "completion_tokens", "cost_usd")}
    return {"answered": kinds.pop(rows.ANSWERED, 0), "failed": dict(kinds), **sums}


def _writer(work: Work) -> str:
    return f"{work.attempt}-{ray.get_runtime_context().get_actor_id()[:12]}"
