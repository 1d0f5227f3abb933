"""A run: its lanes side by side as far as the cluster allows, watched until the last one ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from emoray.spec import Study
from emoray.store import RunFolder
from emoray.stream.cluster import Resources, check
from emoray.stream.lane import Lane, LaneEnd

_LOOK_S = 0.5

Watch = Callable[[Sequence[Lane]], None]  # called about twice a second with the lanes that run


class Conductor:
    """Starts each lane when its actors fit beside those that run; lanes that do not fit wait their turn.

    A lane takes all it needs at once or nothing: two lanes that each hold half of what both need would wait for ever.
    """

    def __init__(
        self,
        study: Study,
        run: RunFolder,
        capacity: Resources,
        attempt: str,
        *,
        limit: int | None = None,
        asks: bool = True,
    ) -> None:
        """SpecError where a lane can never fit; `asks=False` is for readers that catch up."""
        self.lanes = [Lane(study, entry, run, attempt, limit=limit, asks=asks) for entry in study.spec.models]
        for lane in self.lanes:
            check(lane.model, lane.needs, capacity)
        self.stopping = False
        self._free = capacity

    def settled_before(self) -> dict[str, int]:
        """What each lane finds settled; to be called before `run`."""
        return {lane.model: lane.look() for lane in self.lanes}

    def run(self, watch: Watch) -> list[LaneEnd]:
        """Runs every lane, in the order of the spec where they compete; ends when all have ended."""
        with ThreadPoolExecutor(max_workers=len(self.lanes), thread_name_prefix="lane") as threads:
            try:
                ends = self._run(threads, watch)
            except BaseException:
                self.stop("the run failed")  # or the lanes would go on asking until they are through
                raise
        return [ends[lane.model] for lane in self.lanes]

    def _run(self, threads: ThreadPoolExecutor, watch: Watch) -> dict[str, LaneEnd]:
        waiting, running, ends = list(self.lanes), dict[Future[LaneEnd], Lane](), dict[str, LaneEnd]()
        while waiting or running:
            for lane in [lane for lane in waiting if self._takes(lane)]:
                waiting.remove(lane)
                running[threads.submit(lane.run)] = lane
            done, _ = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            for future in done:
                lane = running.pop(future)
                self._free += lane.needs
                ends[lane.model] = future.result()
            watch(list(running.values()))
        return ends

    def stop(self, why: str) -> None:
        """No lane asks anything more; what is in flight is received, made durable and read."""
        self.stopping = True
        for lane in self.lanes:
            lane.stop(why)

    def _takes(self, lane: Lane) -> bool:
        if not lane.needs <= self._free:
            return False
        self._free -= lane.needs
        return True
