"""A run: its lanes side by side as far as the cluster allows, watched until the last one ends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import datetime
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from emoray.hosts.weights import fetch
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import LANES, RunFolder
from emoray.scheduling.demand import loads
from emoray.scheduling.refusal import refusal
from emoray.scheduling.resources import Load
from emoray.scheduling.scheduler import LaneRequest, Scheduler, seconds_until
from emoray.spec.study import Study
from emoray.stream import cluster
from emoray.stream.cluster import Capacity, current_umask
from emoray.stream.lane import Lane, LaneEnd

_LOOK_S = 0.5

Watch = Callable[[Sequence[Lane]], None]  # called about twice a second with the lanes that have not ended


class RunDriver:
    """Starts each lane when the scheduler has seats for it, and tells it what became of them."""

    def __init__(
        self,
        study: Study,
        run: RunFolder,
        capacity: Capacity,
        attempt: str,
        *,
        limit: int | None = None,
        asks: bool = True,
    ) -> None:
        """UserError where a lane can never run; `asks=False` is for readers that catch up."""
        self.lanes = [Lane(study, entry, run, attempt, limit=limit, asks=asks) for entry in study.spec.models]
        for lane in self.lanes:
            if refusal(lane.asked, study.spec.readers, capacity()):
                lane.look()  # where all has been asked, no engine is needed
                cluster.check(study.spec, lane.asked, capacity())
        self.stopping = False
        self._folder, self._capacity, self._readers = run, capacity, study.spec.readers
        self._scheduler = Scheduler(map(_request, self.lanes))
        self._ends: dict[str, LaneEnd] = {}
        self._running: dict[Future[LaneEnd], Lane] = {}
        self._fetching: dict[Load, Any] = {}
        self._told: dict[str, str] = {}
        self._wish = cluster.Wish()

    def settled_before(self) -> dict[str, int]:
        """What each lane finds settled; to be called before `run`."""
        return {lane.model: lane.look() for lane in self.lanes}

    def run(self, watch: Watch) -> list[LaneEnd]:
        """Runs every lane; ends when all have ended."""
        with ThreadPoolExecutor(max_workers=len(self.lanes), thread_name_prefix="lane") as threads:
            try:
                while len(self._ends) < len(self.lanes):
                    self._turn(threads)
                    watch([lane for lane in self.lanes if lane.model not in self._ends])
            except BaseException:
                self.stop("the run failed")  # or the lanes would go on asking until they are through
                raise
            finally:
                self._wish.hold([], time.monotonic())
        return [self._ends[lane.model] for lane in self.lanes]

    def stop(self, why: str) -> None:
        """No lane asks or reads anything more; what is in flight is received, made durable and read."""
        self.stopping = True
        for lane in self.lanes:
            lane.stop(why)
            lane.close()

    def _turn(self, threads: ThreadPoolExecutor) -> None:
        """Starts what can start, and waits a moment for something to end."""
        now = time.monotonic()
        for name in self._scheduler.late(now):
            lane = self._lane(name)
            lane.stop(f"its deadline ({lane.entry.deadline}) has passed")
        if self.stopping:
            self._give_up(dict.fromkeys(self._scheduler.waiting()))
        for name, grant in self._scheduler.turn(self._capacity(), now).items():
            self._running[threads.submit(self._lane(name).run, grant)] = self._lane(name)
        self._give_up(self._scheduler.hopeless(now, cluster.grows))
        self._wish.hold(self._scheduler.wanted(), now)
        self._fetch()
        self._tell()
        if not self._running and self._scheduler.waiting():
            time.sleep(_LOOK_S)
        for future in wait(self._running, _LOOK_S, FIRST_COMPLETED).done:
            self._end(self._running.pop(future), future.result())
        for lane in self._running.values():
            if lane.hands_back():
                self._scheduler.hand_back(lane.model)

    def _end(self, lane: Lane, end: LaneEnd) -> None:
        self._scheduler.end(lane.model)
        self._ends[lane.model] = end
        self._tell()

    def _give_up(self, reasons: Mapping[str, str | None]) -> None:
        """Lanes that never began, and will not."""
        for name, why in reasons.items():
            lane = self._lane(name)
            self._end(lane, LaneEnd(name, lane.tally(), why))

    def _lane(self, name: str) -> Lane:
        return next(lane for lane in self.lanes if lane.model == name)

    def _fetch(self) -> None:
        """The weights of the lane that is next are brought to where it will probably sit."""
        task = ray.remote(num_cpus=0, max_retries=0)(_fetched)
        for load in next(filter(None, map(self._loads, self._scheduler.waiting())), []):
            if load not in self._fetching:
                there = NodeAffinitySchedulingStrategy(load.node, soft=True)
                self._fetching[load] = task.options(scheduling_strategy=there).remote(current_umask(), load)

    def _loads(self, name: str) -> list[Load]:
        likely = self._scheduler.likely(name)
        return loads(self._lane(name).asked, self._readers, likely) if likely else []

    def _tell(self) -> None:
        """Writes down who waits for what, when that has changed."""
        told = self._scheduler.standing()
        for lane in self.lanes:
            lane.standing = told[lane.model]
            told[lane.model] = lane.waits_for(lane.tally()) or lane.standing
        if told != self._told:
            self._told = told
            with suppress(StoreError):  # for `status`; who cannot write answers either says so himself
                self._folder.write_text(LANES, json.dumps(told, indent=2, ensure_ascii=False))


def _fetched(umask: int, load: Load) -> int:
    """With the rights that the driver's own files have: others may share where weights lie."""
    os.umask(umask)
    return fetch(load.id, load.revision)


def _request(lane: Lane) -> LaneRequest:
    """What the scheduler has to know of a lane; its deadline is counted from now."""
    entry = lane.entry
    seconds = seconds_until(entry.deadline, datetime.now()) if entry.deadline else None
    return LaneRequest(lane.model, lane.demand, entry.priority, None if seconds is None else time.monotonic() + seconds)
