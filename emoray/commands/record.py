"""What run.json says of an attempt: what it was drawn by, what its lanes did and cost, how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from emoray.plurals import be, count
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import Lease
from emoray.run_folder.run_json import Attempt, CostRecord, Json, LaneRecord, Manifest
from emoray.run_folder.tabs import NOBODY
from emoray.spec.models import Hosted
from emoray.spec.study import Study
from emoray.study.sampling import drawn

if TYPE_CHECKING:  # Ray takes seconds to import: what is wrong, and what is waited for, is said before
    from emoray.stream.driver import RunDriver
    from emoray.stream.lane import Lane, LaneEnd


class SampledBy:
    """How each model's answers are drawn, written into run.json as soon as its host has told."""

    def __init__(self, study: Study, folder: RunFolder, whole: Manifest, attempt: Attempt, lease: Lease) -> None:
        self._study, self._folder, self._whole, self._lease = study, folder, whole, lease
        attempt.sampling, attempt.asks_since = {}, {}
        self._known, self._since = attempt.sampling, attempt.asks_since

    def look(self, lanes: Sequence[Lane]) -> None:
        """Nothing is written where nothing new is known, or the folder is another run's. Who has told begins to ask."""
        news = {lane.model: self._of(lane) for lane in lanes if lane.model not in self._known}
        told = {model: settings for model, settings in news.items() if settings}
        self._known.update(told)
        self._since.update(dict.fromkeys(told, datetime.now(UTC).isoformat(timespec="seconds")))
        if told and not self._lease.lost.is_set():
            with suppress(StoreError):  # whoever cannot write answers either says so himself
                self._folder.write_manifest(self._whole.as_json())

    def _of(self, lane: Lane) -> Json | None:
        tally, asked = lane.tally(), self._study.experiment.grid(lane.model).model.sampling
        if tally.defaults is not None:
            return {**drawn(asked, tally.defaults), "defaults": getattr(lane.entry, "sampling_defaults", "spec")}
        return {**asdict(asked), "defaults": "provider"} if tally.speakers and isinstance(lane.entry, Hosted) else None


def open_account(driver: RunDriver, whole: Manifest, attempt: Attempt) -> None:
    """Notes what there is as an attempt begins, and what one before it did and cost that could not say so: of the
    models that both ask. Of any other the next that asks it tells, before it adds to it.
    """
    attempt.settled_before = driver.settled_before()
    attempt.spent_before = spent = {lane.model: lane.spent() for lane in driver.lanes}
    for silent in [one for one in whole.attempts[:-1] if one.says("spent_before")]:
        told = {lane.model for lane in silent.lanes}
        before = silent.settled_before
        new = {model: max(0, n - before.get(model, 0)) for model, n in attempt.settled_before.items()}
        costs = costs_of(silent, spent, [lane for lane in driver.lanes if lane.model not in told])
        if lanes := [LaneRecord(model=model, answered=new[model], error=None, **cost) for model, cost in costs.items()]:
            silent.lanes = [*silent.lanes, *lanes]


def costs_of(attempt: Attempt, spent: Mapping[str, CostRecord], lanes: Sequence[Lane]) -> dict[str, Json]:
    """By model: what the rows cost that came since an attempt began, and what it lost, whoever of it died; fields of a
    LaneRecord.
    """
    before = attempt.spent_before
    return {
        lane.model: spent[lane.model].since(before[lane.model]).as_json() | lane.lost(attempt.id or NOBODY)
        for lane in lanes
        if lane.model in before
    }


def tell_late(lanes: Sequence[Lane], attempts: Sequence[Attempt]) -> None:
    """What actors of attempts that were killed or broken off lost after the next one had begun: they ask on until Ray
    has ended them.
    """
    silent = {one.id: one for one in attempts if one.id and not all(map(_told_itself, one.lanes))}
    for lane in lanes:
        for id, lost in (lane.lost_of(silent) if silent else {}).items():
            silent[id].lanes = [
                told.model_copy(update=lost) if told.model == lane.model and not _told_itself(told) else told
                for told in silent[id].lanes
            ]


def _told_itself(told: LaneRecord) -> bool:
    """Whether a lane came to its end, when no actor of it asks any more; who comes after knows only what it cost."""
    return told.says("read")


@contextmanager
def kept_record(folder: RunFolder, whole: Manifest, attempt: Attempt, lease: Lease) -> Iterator[None]:
    """Writes the attempt into run.json when it begins and again when it ends, however it ends; but for a folder that is
    another run's by then.
    """
    whole.attempts = [*(one if one.has_ended else _died(folder, one) for one in whole.attempts), attempt]
    folder.write_manifest(whole.as_json())
    try:
        yield
    except BaseException as wrong:
        interrupted = isinstance(wrong, KeyboardInterrupt)
        attempt.end = "stopped: it was interrupted" if interrupted else f"{type(wrong).__name__}: {wrong}"
        raise
    finally:
        attempt.ended = datetime.now(UTC).isoformat(timespec="seconds")
        if not lease.lost.is_set():
            folder.write_manifest(whole.as_json())


def _died(folder: RunFolder, attempt: Attempt) -> Attempt:
    """With the end of an attempt that could not say so itself; when: the last that it wrote."""
    places = ["", *(part.relative for part in folder.parts()), "report"]
    files = [info for place in places for info in folder.infos(place) if info.is_file]
    times = [info.mtime for info in files if info.mtime is not None]
    last = {"ended": max(times).isoformat(timespec="seconds")} if times else {}
    return attempt.model_copy(update={"end": "died: it was killed, or could no longer write to the folder", **last})


def end_of(driver: RunDriver, left: int) -> str:
    """How an attempt ended that came to its end."""
    how = "stopped: it was interrupted" if driver.stopping else "finished"
    return f"{how}; {count(left, 'cell')} {be(left)} still owed" if left else how


def lane_record(end: LaneEnd, cost: Json) -> LaneRecord:
    """`cost` as of `costs_of`."""
    tally = end.tally
    return LaneRecord(
        model=end.model,
        answered=tally.answered,
        failed=dict(tally.failed),
        read=tally.read,
        put_aside=sum(tally.aside.values()),
        lost=tally.lost,
        error=end.error,
        **cost,
    )
