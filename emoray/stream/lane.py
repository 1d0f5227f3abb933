"""One lane: one model's cells, from what is owed to what is read, as Ray Data executions of its own.

A lane makes passes until every owed cell has an answer or a typed failure (a second pass is needed only where Ray
lost blocks or gave up), then lets every reader catch up on answers it has not read.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.data import Dataset
from ray.data.exceptions import SystemException
from ray.exceptions import RayError, RayTaskError, UserCodeException

from emoray.run_folder import columns, manifest
from emoray.run_folder.compaction import compact_apart
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.partition import Partition
from emoray.run_folder.probe import write_probe
from emoray.run_folder.run_json import CostRecord
from emoray.run_folder.tabs import book, judges_with_tabs, lost_usd, lost_usd_of
from emoray.scheduling import feeding
from emoray.scheduling.demand import demand
from emoray.scheduling.feeding import Pool
from emoray.scheduling.resources import Allocation, Demand, Node
from emoray.spec.entry import AddedModel, AddedReader
from emoray.spec.models import Embedded, Local, ModelEntry, Vllm
from emoray.spec.readers import GoEmotionsReader, JudgeReader, ReaderEntry, RegressorReader, label_map_of
from emoray.spec.study import Study
from emoray.stream import cluster, settled_keys
from emoray.stream.accounts import access_of
from emoray.stream.actor_context import Work
from emoray.stream.actor_pool import ActorPool
from emoray.stream.cause import sentence as _sentence
from emoray.stream.consume import drain
from emoray.stream.datasources import AnswersSource, GridSource
from emoray.stream.generate import GenerateActor
from emoray.stream.lane_state import LaneCounts, open_lane_state
from emoray.stream.read import ReadActor
from emoray.stream.settled_keys import SettledRef, known
from emoray.study.prompts import prompts
from emoray.study.scoring import Rules

_log = logging.getLogger(__name__)
_PASSES = 3  # over what is owed: more than one only where Ray lost blocks, or gave up
_READ_ROWS = 512
_SLICE = 50_000  # cells that one task goes through: Ray may start a process for each, which takes seconds
_NOTHING = Allocation((), 0, {})


@dataclass(frozen=True)
class LaneEnd:
    """How a lane ended; `error` is one sentence where it could not go on."""

    model: str
    tally: LaneCounts
    error: str | None = None


class Lane:
    """The lane of one model; `run` blocks until it ends."""

    def __init__(
        self, study: Study, entry: ModelEntry, run: RunFolder, attempt: str, *, limit: int | None, asks: bool
    ) -> None:
        self.model = entry.name
        self.entry = entry
        self.settled_before = 0
        self.standing = ""  # what it does or waits for, where the scheduler has said so
        self._asks, self._speaks, self._grant = asks, asks, _NOTHING
        self._speaking: ActorPool | None = None
        self._staffs: list[ActorPool] = []
        self._closed = False
        self.ledger = open_lane_state()
        self._study, self._run = study, run
        self._grid = study.experiment.grid(entry.name)
        self.cells = len(self._grid) if limit is None else min(limit, len(self._grid))
        self._answers = run.answers(entry.name)
        access = access_of(study.spec, entry, run) if asks else None
        self._work = Work(run.uri, entry.name, attempt, self.ledger, access, umask=cluster.current_umask())

    @property
    def asked(self) -> ModelEntry | None:
        """The model, while there is something to ask of it."""
        return self.entry if self._speaks else None

    def demand(self, nodes: Sequence[Node]) -> Demand:
        """What it takes to run on these nodes."""
        return demand(self.asked, self._study.spec.readers, nodes)

    def run(self, grant: Allocation) -> LaneEnd:
        """On the seats that it was granted."""
        self._grant = grant
        error = None
        try:
            self._work = self._work._replace(mark=write_probe(self._run))
            if grant.speakers:
                self._ask()
            if not self.tally().full:
                self._catch_up()
                self._tidy()
        except Exception as wrong:  # one lane's failure is its own
            _log.info("lane %s ended", self.model, exc_info=True)
            error = _sentence(wrong)
        finally:
            self._leave()
            if self._work.mark:
                with suppress(StoreError):
                    self._run.delete(self._work.mark)
        tally = self.tally()
        return LaneEnd(self.model, tally, f"{tally.down}{tally.unwritten}" if tally.down else error)

    def waits_for(self, tally: LaneCounts) -> str:
        """What is being waited for, as long as nothing has come of it; "" afterwards."""
        if self.standing not in ("asks", "reads") or tally.speakers or tally.settled or tally.read:
            return ""
        if not tally.started:
            crews = [(self.model, self._grant.speakers)]
            crews += [(f"reader {name}", crew) for name, crew in self._grant.readers.items()]
            of = [f"{len(crew)} actor{'s' * (len(crew) > 1)} of {name}" for name, crew in crews if crew]
            return f"starting {', '.join(of)}"
        entries = {"": self.entry} | {reader.name: reader for reader in self._study.spec.readers}
        heavy = [name for name in tally.loading if _has_weights(entries[name])]
        names = [f"reader {name}" if name else self.model for name in heavy]
        return f"loading weights of {', '.join(names)}" if names else ""

    def read_by_all(self, tally: LaneCounts) -> int:
        """Answers that the slowest reader has read in this attempt."""
        return min(tally.read.get(reader.name, 0) for reader in self._study.spec.readers)

    def tally(self) -> LaneCounts:
        tally: LaneCounts = ray.get(self.ledger.tally.remote())
        return tally

    def stop(self, why: str) -> None:
        """Asks nothing more; what is in flight is still received and read."""
        self._speaks = False
        self.ledger.stop.remote(why)

    def close(self) -> None:
        """For a lane that was stopped: reads no answer that was there before, asks no judge anything new, and leaves
        the folder as it is.
        """
        self._closed = True
        self.ledger.close.remote()

    def hands_back(self) -> bool:
        """Whether all has been asked: then Ray Data lets the speakers go, and what they held is free."""
        done = self.tally().asked_out
        if done and self._speaking:
            self._speaking.leave()
        return done

    def _owes(self, answered: SettledRef) -> int:
        """How many cells have no answer yet."""
        return settled_keys.owed(self._grid, self.cells, answered)

    def look(self) -> int:
        """Notes how many cells have an answer before the lane begins."""
        answered = known(self._answers)
        self.settled_before = answered.count
        kept = manifest.read(self._run)
        if kept and kept.extended:  # then the folder holds answers of other cells as well
            self.settled_before = len(self._grid) - settled_keys.owed(self._grid, len(self._grid), answered)
        if answered.count >= self.cells and not self._owes(answered):
            self._speaks = False
        return self.settled_before

    def spent(self) -> CostRecord:
        """Tokens and US dollars that the model's rows in the folder cost, in all attempts; dollars also of rows that
        were lost with their files.
        """
        said, read = settled_keys.spent(self._answers), [settled_keys.spent(part) for part in self._judged]
        return CostRecord(
            prompt_tokens=said.prompt_tokens,
            completion_tokens=said.completion_tokens,
            cost_usd=said.cost_usd + settled_keys.torn_usd(self._answers),
            read_cost_usd=sum(one.read_cost_usd for one in read) + sum(map(settled_keys.torn_usd, self._judged)),
        )

    def lost(self, attempt: str) -> dict[str, float]:
        """US dollars at most for requests of an attempt whose answers nobody has, when none is under way."""
        lost = {"lost_usd": lost_usd(self._answers, attempt)}
        return lost | {"read_lost_usd": sum(lost_usd(part, attempt) for part in self._judged)}

    def lost_of(self, attempts: Collection[str]) -> dict[str, dict[str, float]]:
        """The same by attempt."""
        said, read = lost_usd_of(self._answers, attempts), [lost_usd_of(part, attempts) for part in self._judged]
        return {one: {"lost_usd": said[one], "read_lost_usd": sum(judge[one] for judge in read)} for one in attempts}

    def left(self) -> int:
        """What is left to do: cells without an answer, or answers that some reader has not read."""
        answered = known(self._answers)
        unread = max(settled_keys.unread(answered, self._read_by(reader)) for reader in self._study.spec.readers)
        return max(self._owes(answered), unread) if self._asks else unread

    @property
    def _judged(self) -> list[Partition]:
        """What costs money to read: of all judges that the run ever had, whoever reads now."""
        known = manifest.readers(manifest.read(self._run)) | {
            reader.name: reader for reader in self._study.spec.readers
        }
        judges = {name for name, reader in known.items() if isinstance(reader, JudgeReader)}
        unknown = {*self._run.readers(), *judges_with_tabs(self._run)} - known.keys()
        return [self._run.rows(name, self.model) for name in sorted(judges | unknown)]

    def _read_by(self, reader: ReaderEntry) -> SettledRef:
        return known(self._run.rows(reader.name, self.model))

    def _catch_up(self) -> None:
        """Every reader reads the answers that it has not read."""
        answered = known(self._answers)
        for reader in self._study.spec.readers:
            for left in reversed(range(_PASSES)):
                read = self._read_by(reader)
                if self._closed or not settled_keys.unread(answered, read):
                    break
                source = AnswersSource(self._answers, read.settled, self.ledger, self._listened(reader))
                heard = self._heard(_read(source, 1), [reader], careful=True)
                if _went_through(heard, source.block_bytes(), left):
                    break

    def _ask(self) -> None:
        for left in reversed(range(_PASSES)):
            answered = known(self._answers)
            if answered.count >= self.cells and not self._owes(answered):
                return
            self.ledger.another_pass.remote()
            before = self.tally()
            sample = columns.asked(list(prompts(self._grid, 0, self._pool.block_rows)))
            whole = _went_through(self._stream(answered), sample.nbytes, left)
            now = self.tally()
            if now.stopping or now.down or (whole and now.settled - before.settled >= now.owed - before.owed):
                return

    def _stream(self, answered: SettledRef) -> Dataset:
        source = GridSource(self._grid, self.cells, answered.settled, self.ledger, self._pool.block_rows)
        asked = _read(source, 1 + self.cells // _SLICE)
        speaking = ActorPool(self._pool, self._grant.speakers, self._grant.most)
        self._leave()
        self._speaking, self._staffs = speaking, [speaking]
        said = _staffed(asked, GenerateActor, (self.entry, self._work), speaking)
        return self._heard(said, self._study.spec.readers, careful=False)

    def _heard(self, said: Dataset, readers: Sequence[ReaderEntry], *, careful: bool) -> Dataset:
        """With the readings of each; a judge is always careful."""
        for reader in readers:
            access = access_of(self._study.spec, reader.model, self._run) if isinstance(reader, JudgeReader) else None
            label_map = label_map_of(reader, self._study.label_map)
            rules = Rules(self._study.spec.neutral, self._study.spec.refusals)
            arguments = (reader, self._work._replace(access=access), label_map, rules)
            seats = self._grant.readers[reader.name]
            listening = ActorPool(feeding.listeners(reader), seats, len(seats))
            self._staffs.append(listening)
            options = {"careful": careful or isinstance(reader, JudgeReader)}
            said = _staffed(said, ReadActor, arguments, listening, options)
        return said

    def _leave(self) -> None:
        for staff in self._staffs:
            staff.leave()

    def _tidy(self) -> None:
        """Compacts what the lane wrote: under the lease, so in no task, which would outlive a killed driver."""
        if self._closed:
            return
        parts = [self._answers, *(self._run.rows(reader.name, self.model) for reader in self._study.spec.readers)]
        for part in parts:
            book(part, ended=self._work.attempt)
        compact_apart(parts)

    def _listened(self, reader: ReaderEntry) -> int:
        """Rows in a block of answers that are there already. A reader sorts them by length, so many pay; a judge gets
        as few as a speaker, so that a stop finds few begun.
        """
        if isinstance(reader, JudgeReader):
            return feeding.speakers(reader.model).block_rows
        return max(self._pool.block_rows, _READ_ROWS)

    @property
    def _pool(self) -> Pool:
        return feeding.speakers(self.entry)


def _has_weights(entry: ModelEntry | ReaderEntry) -> bool:
    asked = entry.model if isinstance(entry, JudgeReader) else entry
    return isinstance(asked, Embedded | Local | Vllm | GoEmotionsReader | RegressorReader | AddedModel | AddedReader)


def _went_through(dataset: Dataset, block_bytes: float, passes_left: int) -> bool:
    """Whether Ray ran it to its end. A node that dies while actors start on it is more than Ray Data bears; what is
    durable by then is, so another pass does the rest.
    """
    try:
        drain(dataset, block_bytes)
    except Exception as lost:
        if not passes_left or not _is_rays_own(lost):
            raise
        _log.info("Ray gave up a pass: %s", _sentence(lost), exc_info=True)
        return False
    return True


def _is_rays_own(wrong: Exception) -> bool:
    """Whether it happened in Ray itself, and in nothing of ours that Ray called."""
    called = isinstance(wrong, RayTaskError | UserCodeException)
    return isinstance(wrong.__cause__, SystemException) or (isinstance(wrong, RayError) and not called)


def _read(source: Any, tasks: int) -> Dataset:
    """The blocks of a source. Its tasks take no CPU: actors of other lanes may hold all there are."""
    return ray.data.read_datasource(source, num_cpus=0, concurrency=min(2, tasks), override_num_blocks=tasks)


def _staffed(
    dataset: Dataset, actor: type, arguments: tuple[Any, ...], staff: ActorPool, options: dict[str, Any] | None = None
) -> Dataset:
    """The dataset through a pool of actors.

    Ray Data keeps what they are made of in the object store of the driver's own node, and Ray warns that they cannot be
    restarted once it is lost (ray issue 53727). It is lost with that node alone, and the driver with it; the death of
    any other node was tried, and ends no lane.
    """
    return dataset.map_batches_internal(  # `map_batches` insists on a batch size for GPUs; our blocks have theirs
        actor,
        fn_constructor_args=arguments,
        fn_constructor_kwargs=options,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        **staff.arguments(),
    )
