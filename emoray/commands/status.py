"""How far a run is, read from its folder without touching it; also while it runs, also after it died."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from emoray.commands.options import RUN, absolute
from emoray.commands.progress import QUIET_EVERY_S, by_kind, duration
from emoray.exit_codes import OK
from emoray.plurals import count
from emoray.run_folder import json_file, manifest, tabs
from emoray.run_folder.batch_log import Standing, standings
from emoray.run_folder.folder import LANES, RunFolder
from emoray.run_folder.lease import at_work
from emoray.run_folder.recovery import begun
from emoray.run_folder.run_json import Attempt, UntilRecord
from emoray.run_folder.subset import AskedSubset, as_asked, failure_texts, unread, unread_texts

_log = logging.getLogger(__name__)
_LIVE_EVERY_S = 5.0  # a look reads the folder, which may be a bucket
_ASKS = frozenset({None, "asks"})  # how a lane stands that asks; where nobody has said so, it may


@dataclass(frozen=True)
class ModelStatus:
    model: str
    cells: int
    settled: int
    failed: dict[str, int]  # by kind
    failure_texts: dict[str, str]  # what was said of one of each kind
    read: dict[str, int]  # by reader
    unread: dict[str, dict[str, int]]  # what a reader could not read: by reader, then by kind
    unread_texts: dict[str, dict[str, str]]  # what was said of one of each of these kinds
    spare: int  # answers beyond the first of their key, which never reach a result
    torn: int  # files that cannot be read
    batches: int  # submitted to a batch endpoint and not ended
    batches_wait: dict[str, int]  # of them, those that something keeps from going on: how many wait for what
    waiting_cells: dict[str, int]  # not submitted yet: how many wait for what
    lines_aside: int  # of batches' results, which are no cell's
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    read_cost_usd: float  # of judges
    lost_usd: float  # at most, for what was asked and whose answers nobody has; of judges, too
    under_way_usd: float  # at most, for what is asked now; of judges, too
    ended: str | None  # why its lane could not go on, the last time
    standing: str | None  # what its lane does or waits for; None where nobody is writing
    per_minute: float | None  # settled by this attempt since it began to ask; None where nobody asks
    seconds_left: float | None  # until all that this attempt asks is answered or has failed; None where nobody knows
    last_write: str | None

    @property
    def owed(self) -> int:
        return max(0, self.cells - self.settled)

    @property
    def left_to_read(self) -> int:
        """Answers that some reader has not read."""
        return max((self.settled - n for n in self.read.values()), default=self.settled)


@dataclass(frozen=True)
class Status:
    name: str
    folder: str
    attempts: tuple[Attempt, ...]
    models: tuple[ModelStatus, ...]
    writer: str | None  # who is writing now

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        models = [asdict(model) | {"owed": model.owed} for model in self.models]
        attempts = [attempt.as_json() for attempt in self.attempts]
        return asdict(replace(self, attempts=())) | {"attempts": attempts, "models": models}

    def text(self) -> str:
        """For a terminal."""
        width = max(len(model.model) for model in self.models)
        lines = [line for model in self.models for line in _lines(model, width)]
        return "\n".join([f"{self.name} in {self.folder}", *lines, self._last()])

    def _last(self) -> str:
        if not self.attempts:
            return "no attempt yet"
        last = self.attempts[-1]
        how = last.end or (f"running, {self.writer}" if self.writer else "died without a word")
        told = f"attempt {len(self.attempts)} began {last.began} on {last.host}: {how}"
        return f"{told}\n{_way(last.until)}" if last.until else told


def _way(until: UntilRecord) -> str:
    """`until ±0.02: a wave up to 8 of 40 repetitions; before it the widest interval was ±0.031 (a, read by r), …`"""
    told = f"until ±{until.half_width:g}: a wave up to {until.repetitions:,} of {count(until.of, 'repetition')}"
    if not until.whose:
        return told
    before = "no interval" if until.widest is None else f"±{until.widest:.3f}"
    way = "nobody can tell how many do" if until.foreseen is None else f"about {until.foreseen:,} are foreseen to do"
    return f"{told}; before it the widest interval was {before} ({until.whose}), {way}"


def status(folder: RunFolder, *, now: datetime | None = None) -> Status:
    """The status of a run folder; UserError where it is none."""
    whole = begun(folder)
    study, last = manifest.study(whole, folder.shown), whole.last_attempt
    now = now or datetime.now(UTC)
    batches = standings(folder)
    held = at_work(folder, last, now.timestamp())
    standing = _standing(folder) if held else {}
    mine = (last.id or tabs.NOBODY) if held and last else None
    under_way = tabs.lost_by_model(folder, mine) if mine else {}
    lost = tabs.lost_by_model(folder, but=mine)
    first = len(whole.attempts) == 1
    look = _Look(as_asked(folder, study), whole.cells_per_model, last, first, now, held is not None, lost, under_way)
    models = tuple(
        _model(look, entry.name, batches.get(entry.name, Standing()), standing.get(entry.name))
        for entry in study.spec.models
    )
    writer = f"process {held.pid} on {held.host}" if held else None
    return Status(study.spec.name, folder.shown, tuple(whole.attempts), models, writer)


def _standing(folder: RunFolder) -> dict[str, str]:
    """What each lane of the run under way does or waits for; nothing where that file is odd, with a warning."""
    try:
        return json_file.read(dict[str, str], folder.read_bytes(LANES) or b"{}")
    except json_file.BadJson as wrong:
        where = folder.where(LANES)
        _log.warning("%s is not as emoray wrote it (%s), and tells nothing: delete it, it comes anew", where, wrong)
        return {}


@dataclass(frozen=True)
class _Look:
    """What all models of a run have in common, at one moment."""

    folder: RunFolder | AskedSubset  # as the spec asks
    cells: int  # of each model
    last: Attempt | None
    first: bool  # that attempt is the only one: each failure is its own, and asked no more
    now: datetime
    at_work: bool  # somebody works on that attempt
    lost_usd: dict[str, float]  # by model: at most for answers that nobody has,
    under_way_usd: dict[str, float]  # and for what is asked now

    def per_minute(self, model: str, answered: int, standing: str | None) -> float | None:
        """By what this attempt answered, since it began to ask; None where that is yet to come by this clock."""
        seconds = self._asking_s(model, standing)
        return None if seconds is None else 60.0 * self._came(model, answered) / max(1.0, seconds)

    def seconds_left(self, model: str, answered: int, failed: int, standing: str | None) -> float | None:
        """Until each cell that it asks has its answer or its failure. An attempt that resumes asks again what failed
        before it, and nobody knows from outside how many failures are its own: all count as left.
        """
        seconds, through = self._asking_s(model, standing), answered + (failed if self.first else 0)
        if seconds is None or not (came := self._came(model, through)):
            return None
        return max(0, self._asked_for() - through) * max(1.0, seconds) / came

    def _asked_for(self) -> int:
        """Cells of each model that this attempt asks at most, settled ones included."""
        limit = self.last.limit if self.last else None
        return self.cells if limit is None else min(limit, self.cells)

    def _came(self, model: str, cells: int) -> int:
        assert self.last is not None
        return max(0, cells - self.last.settled_before[model])

    def _asking_s(self, model: str, standing: str | None) -> float | None:
        last = self.last
        if last is None or model not in last.settled_before or not self.at_work or standing not in _ASKS:
            return None
        since = datetime.fromisoformat(last.asks_since.get(model, last.began))
        seconds = (self.now - since).total_seconds()
        return seconds if seconds >= 0 else None


def _model(look: _Look, name: str, batches: Standing, standing: str | None) -> ModelStatus:
    folder, last = look.folder, look.last
    said = folder.answers(name).counts()
    rows = {reader: folder.rows(reader, name) for reader in folder.readers()}
    felt = {reader: part.counts() for reader, part in rows.items()}
    unreadable = {reader: unread(part) for reader, part in rows.items()}
    return ModelStatus(
        model=name,
        cells=look.cells,
        settled=said.answered,
        failed=dict(said.failed),
        failure_texts=failure_texts(folder.answers(name)),
        read={reader: counts.answered for reader, counts in felt.items()},
        unread={reader: kinds for reader, kinds in unreadable.items() if kinds},
        unread_texts={reader: unread_texts(part) for reader, part in rows.items() if unreadable[reader]},
        spare=said.spare,
        torn=said.torn,
        batches=batches.open,
        batches_wait=dict(batches.waits),
        waiting_cells=dict(batches.cells),
        lines_aside=batches.aside,
        prompt_tokens=said.prompt_tokens,
        completion_tokens=said.completion_tokens,
        cost_usd=said.cost_usd,
        read_cost_usd=sum(counts.read_cost_usd for counts in felt.values()),
        lost_usd=look.lost_usd.get(name, 0.0),
        under_way_usd=look.under_way_usd.get(name, 0.0),
        ended=next((lane.error for lane in last.lanes if lane.model == name), None) if last else None,
        standing=standing,
        per_minute=look.per_minute(name, said.answered, standing),
        seconds_left=look.seconds_left(name, said.answered, sum(said.failed.values()), standing),
        last_write=said.last_write.isoformat(timespec="seconds") if said.last_write else None,
    )


def _lines(model: ModelStatus, width: int) -> list[str]:
    return [
        _line(model, width),
        *([f"    asked no more: {model.ended}"] if model.ended and not model.standing else []),
        *(f"    {kind}, for example: {text}" for kind, text in model.failure_texts.items()),
        *(f"    {kind}, for example: {text}" for texts in model.unread_texts.values() for kind, text in texts.items()),
    ]


def _line(model: ModelStatus, width: int) -> str:
    words = [
        f"  {model.model:<{width}}",
        f"settled {model.settled:,} of {model.cells:,}",
        f"owed {model.owed:,}",
        f"failed {by_kind(model.failed) or 'none'}",
        *(f"read by {reader} {n:,}" for reader, n in model.read.items()),
        *(f"not read by {reader} {by_kind(kinds)}" for reader, kinds in model.unread.items()),
        f"${model.cost_usd:,.2f}" if model.cost_usd else "",
        f"${model.read_cost_usd:,.2f} for judges" if model.read_cost_usd else "",
        f"up to ${model.lost_usd:,.2f} for answers that nobody has" if model.lost_usd else "",
        f"up to ${model.under_way_usd:,.2f} under way" if model.under_way_usd else "",
        count(model.spare, "spare copy", "spare copies") if model.spare else "",
        count(model.torn, "torn file") if model.torn else "",
        _batches(model),
        *(f"{count(n, 'cell')} {'waits' if n == 1 else 'wait'} for {what}" for what, n in model.waiting_cells.items()),
        f"{count(model.lines_aside, 'result line')} set aside" if model.lines_aside else "",
    ]
    if model.standing == "reads":
        words.append(f"reads, {count(model.left_to_read, 'answer')} left")
    elif model.standing not in {*_ASKS, "ended"}:
        words.append(str(model.standing))
    if model.per_minute:
        words.append(f"{model.per_minute:,.0f}/min")
    if model.seconds_left:
        words.append(f"{duration(model.seconds_left)} left")
    return "  ".join(word for word in words if word)


def _batches(model: ModelStatus) -> str:
    """`3 batches open, of which 1 waits for its output file`"""
    waits = [f"{n} {'waits' if n == 1 else 'wait'} for {what}" for what, n in model.batches_wait.items()]
    open_ = f"{model.batches} {'batch' if model.batches == 1 else 'batches'} open" if model.batches else ""
    return f"{open_}, of which {', '.join(waits)}" if waits else open_


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("run", metavar="RUN", help=RUN)
    own.add_argument("--json", action="store_true", help="for programs; with --watch a line per look")
    own.add_argument("--watch", action="store_true", help="look again and again, until nobody writes to it any more")


def _call(arguments: argparse.Namespace) -> int:
    folder = RunFolder(absolute(arguments.run))
    if arguments.watch:
        return watch(folder, as_json=arguments.json)
    found = status(folder)
    print(json.dumps(found.as_json(), indent=2) if arguments.json else found.text())
    return OK


def watch(folder: RunFolder, *, as_json: bool = False, pause: Callable[[float], None] = time.sleep) -> int:
    """Prints the status again and again, on a terminal in one place, until nobody writes to the folder."""
    live = sys.stdout.isatty() and not as_json
    while True:
        found = status(folder)
        if live:
            getattr(sys.stdout, "steer", sys.stdout.write)("\x1b[H\x1b[J")
        print(json.dumps(found.as_json()) if as_json else found.text(), flush=True)
        if found.writer is None:
            return OK
        pause(_LIVE_EVERY_S if live else QUIET_EVERY_S)
