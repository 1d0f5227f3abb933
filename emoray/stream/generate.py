"""The two actors of a lane. What they hand on is durable; what they cannot do is said in the ledger."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import takewhile
from typing import NamedTuple

import pyarrow as pa
import ray

from emoray import refusals
from emoray.hosts.factory import host_of
from emoray.hosts.protocol import Ask, Host, HostDown, Mortal, OwnModel, Reply, Stoppable
from emoray.run_folder import columns
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.run_folder.tabs import PartTab
from emoray.spec.models import ModelEntry
from emoray.stream.actor_context import (
    COMMIT_S,
    Work,
    access_of_actor,
    actor_id,
    block_name,
    check_node,
    counts_of,
    day_of_run,
    is_across_nodes,
    still_owed,
    writer_name,
)
from emoray.stream.admission import AdmissionGate, Turn
from emoray.stream.lane_state import Verdict
from emoray.stream.refuge import LaneRefuge

log = logging.getLogger(__name__)
_GATHER_S = 0.05  # replies that come within this time become one table
_RELEASE_S = 2.0  # what is durable of a block goes on together so often: each table costs Ray milliseconds
LAST_WORDS_S = 10.0  # a process that ends waits no longer until it is known why


class GenerateActor:
    """Asks one model. Blocks of asks in; tables of answers out, as the replies become durable."""

    def __init__(self, entry: ModelEntry, work: Work) -> None:
        self._work = work
        self._host = self._started(entry)
        self._turnstile = AdmissionGate()
        self._part = RunFolder(work.run, begun=True).answers(work.model)
        stop = self._host.stop if isinstance(self._host, Stoppable) else lambda _: None
        refuge = LaneRefuge(self._part, work.attempt, work.ledger, stop)
        self._journal = Journal(self._part, writer_name(work), schema=columns.ANSWERS, every_s=COMMIT_S, refuge=refuge)

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """What cannot go on ends its lane without an exception: Ray would tear down what is still in flight."""
        if self._host is None or not block.num_rows:
            return
        try:
            with self._turnstile.turn(self._host.in_flight, block.num_rows) as turn:
                yield from self._speak(self._host, self._owed(block), block_name(block), turn)
        except (HostDown, StoreError) as wrong:
            ray.get(self._work.ledger.down.remote(str(wrong)))

    def _started(self, entry: ModelEntry) -> Host | None:
        os.umask(self._work.umask)
        ledger = self._work.ledger
        if not ray.get(ledger.starting.remote(actor_id())):
            return None
        refusals.load()  # now: the first answers are to be durable as soon as any
        try:
            check_node(self._work)
            tab = PartTab(lambda: (self._part, self._journal.writer))
            access = access_of_actor(self._work, lambda lane: lane.answered, tab)
            host = host_of(entry, access, day_of_run(self._work), across_nodes=is_across_nodes())
        except (HostDown, StoreError) as wrong:
            if not ray.get(ledger.cannot_start.remote(str(wrong))):
                os._exit(1)  # Ray starts it again, where it may do better
            return None
        if isinstance(host, Mortal):
            host.tell_of_death(lambda why: ray.get(ledger.dying.remote(why), timeout=LAST_WORDS_S))
        ledger.ready.remote(actor_id(), "", *((host.defaults, host.notes) if isinstance(host, OwnModel) else ()))
        return host

    def _speak(self, host: Host, owed: pa.Table, block: str, turn: Turn) -> Iterator[pa.Table]:
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
                table = columns.with_answers(some, replies, host=host.name, revision=host.revision, engine=host.engine)
                said.put(_Kept(self._journal.append(table), table))
            said.put(None)
        except BaseException as wrong:  # handed to the thread that waits for it
            said.put(wrong)

    def _owed(self, block: pa.Table) -> pa.Table:
        """What of the block is to be asked."""
        ledger, name = self._work.ledger, block_name(block)
        verdict = ray.get(ledger.begin.remote(name, block.num_rows))
        owed = still_owed(block, verdict, self._part)
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
            self._work.ledger.said.remote(block, counts_of(table))
            yield table


class _Kept(NamedTuple):
    """What was said, and when it will be on disk."""

    durable: Future[None]
    table: pa.Table


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
