"""One lane: one model's cells, from what is owed to what is read, as Ray Data executions of its own.

A lane makes passes until every owed cell has an answer or a typed failure (a second pass is needed only where Ray
lost blocks), then lets every reader catch up on answers it has not read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.data import ActorPoolStrategy, Dataset

from emoray import rows
from emoray.compact import compact
from emoray.resume import Settled, owed
from emoray.spec import JudgeReader, ModelEntry, ReaderEntry, Study, label_map_of
from emoray.store import RunFolder
from emoray.stream import cluster
from emoray.stream.actors import Listener, Speaker, Work
from emoray.stream.ledger import Tally, open_ledger
from emoray.stream.means import means_of
from emoray.stream.source import AnswersSource, GridSource
from emoray.study.prompts import prompts

_log = logging.getLogger(__name__)
_PASSES = 3


@dataclass(frozen=True)
class LaneEnd:
    """How a lane ended; `error` is one sentence where it could not go on."""

    model: str
    tally: Tally
    error: str | None = None


class Lane:
    """The lane of one model; `run` blocks until it ends."""

    def __init__(
        self, study: Study, entry: ModelEntry, run: RunFolder, attempt: str, *, limit: int | None, asks: bool
    ) -> None:
        self.model = entry.name
        self.needs = cluster.needs(study.spec, entry if asks else None)
        self.settled_before = 0
        self._asks = asks
        self.ledger = open_ledger()
        self._study, self._entry, self._run = study, entry, run
        self._grid = study.experiment.grid(entry.name)
        self.cells = len(self._grid) if limit is None else min(limit, len(self._grid))
        self._answers = run.answers(entry.name)
        self._work = Work(run.uri, entry.name, attempt, self.ledger, means_of(study.spec, entry, run) if asks else None)

    def run(self) -> LaneEnd:
        error = None
        try:
            if self._asks:
                self._ask()
            self._catch_up()
            self._tidy()
        except Exception as wrong:  # one lane's failure is its own
            _log.info("lane %s ended", self.model, exc_info=True)
            error = _sentence(wrong)
        tally = self.tally()
        return LaneEnd(self.model, tally, tally.down or error)

    def tally(self) -> Tally:
        tally: Tally = ray.get(self.ledger.tally.remote())
        return tally

    def stop(self, why: str) -> None:
        """Asks nothing more; what is in flight is still received and read."""
        self.ledger.stop.remote(why)

    def owed(self, settled: Settled | None = None) -> int:
        """How many cells have no answer yet."""
        done = self._answers.settled() if settled is None else settled
        return sum(1 for _ in owed(prompts(self._grid, 0, self.cells), done))

    def look(self) -> int:
        """Notes how many cells have an answer before the lane begins."""
        self.settled_before = len(self._answers.settled())
        return self.settled_before

    def left(self) -> int:
        """What is left to do: cells without an answer, or answers that some reader has not read."""
        answered = self._answers.settled()
        unread = max(len(read.union(answered)) - len(read) for read in map(self._read_by, self._study.spec.readers))
        return max(self.owed(answered), unread) if self._asks else unread

    def _read_by(self, reader: ReaderEntry) -> Settled:
        return self._run.rows(reader.name, self.model).settled()

    def _catch_up(self) -> None:
        """Every reader reads the answers that it has not read."""
        answered = self._answers.settled()
        for reader in self._study.spec.readers:
            read = self._read_by(reader)
            if len(read.union(answered)) > len(read):
                source = AnswersSource(self._answers, ray.put(read), self._pool.block_rows)
                self._drain(self._heard(_read(source, 1), [reader]))

    def _ask(self) -> None:
        for _ in range(_PASSES):
            settled = self._answers.settled()
            if len(settled) >= self.cells and not self.owed(settled):
                return
            before = self.tally()
            self._drain(self._stream(settled))
            now = self.tally()
            if now.stopping or now.down or now.settled - before.settled >= now.owed - before.owed:
                return

    def _stream(self, settled: Settled) -> Dataset:
        source = GridSource(self._grid, self.cells, ray.put(settled), self.ledger, self._pool.block_rows)
        asked = _read(source, 1 + self.cells // (20 * self._pool.block_rows))
        said = _staffed(asked, Speaker, (self._entry, self._work), self._pool)
        return self._heard(said, self._study.spec.readers)

    def _heard(self, said: Dataset, readers: Sequence[ReaderEntry]) -> Dataset:
        for reader in readers:
            means = means_of(self._study.spec, reader.model, self._run) if isinstance(reader, JudgeReader) else None
            label_map = label_map_of(reader, self._study.label_map)
            arguments = (reader, self._work._replace(means=means), label_map, self._study.spec.neutral)
            said = _staffed(said, Listener, arguments, cluster.listeners(reader))
        return said

    def _drain(self, dataset: Dataset) -> None:
        """Runs the dataset; its blocks are durable already, so the references are simply let go."""
        sample = rows.asked(list(prompts(self._grid, 0, self._pool.block_rows)))
        context = dataset.context
        # a block leaves its buffer as soon as it has about block_rows rows (Ray's default waits for 128 MiB)
        context.target_max_block_size = max(1, int(sample.nbytes * 0.8))
        context.target_min_block_size = 0
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        for _ in dataset.iter_internal_ref_bundles():
            pass

    def _tidy(self) -> None:
        """Compacts what the lane wrote; here, under the lease: a task elsewhere would outlive a killed driver."""
        compact(self._answers)
        for reader in self._study.spec.readers:
            compact(self._run.rows(reader.name, self.model))

    @property
    def _pool(self) -> cluster.Pool:
        return cluster.speakers(self._entry)


def _sentence(wrong: BaseException) -> str:
    """What went wrong at the bottom of it; the whole story is logged, for -v."""
    while below := getattr(wrong, "cause", None) or wrong.__cause__:
        wrong = below
    said = str(wrong).strip().splitlines()
    return f"{type(wrong).__name__}: {said[0]}" if said else type(wrong).__name__


def _read(source: Any, tasks: int) -> Dataset:
    """The blocks of a source. Its tasks take no CPU: actors of other lanes may hold all there are."""
    return ray.data.read_datasource(source, num_cpus=0, concurrency=min(2, tasks), override_num_blocks=tasks)


def _staffed(dataset: Dataset, actor: type, arguments: tuple[Any, ...], pool: cluster.Pool) -> Dataset:
    """The dataset through a pool of actors."""
    return dataset.map_batches(
        actor,
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=pool.each.cpus,
        num_gpus=pool.each.gpus or None,
        compute=ActorPoolStrategy(
            size=pool.actors,
            max_tasks_in_flight_per_actor=pool.calls + 2,
            max_concurrent_calls_per_actor=pool.calls,
            enable_true_multi_threading=pool.calls > 1,
        ),
    )
