"""Which lane runs when, and where: pure. Time is an argument, and the cluster is a list of nodes.

Lanes that only wait for others (a fraction of a CPU each) start at once; so do those of which a reader takes more, say
a share of a GPU, where that leaves room for any other. The others take the cluster in the order of their priority, the
largest first, and smaller ones fill the gaps. What waits is not starved: a lane of lower priority never takes what it
needs, and after `patience_s` none does. A lane takes all it needs at once or waits: two lanes that each hold half of
what both need would wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from emoray.scheduling.packing import FreeResources, fits, seated
from emoray.scheduling.resources import Allocation, Assignment, Bundle, Demand, Node

PATIENCE_S = 300.0
_GROWING_S = 3600.0  # a cloud that is short of GPUs has them in minutes or hours, or never
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class LaneRequest:
    """A lane that wants to run."""

    name: str
    demand: Callable[[Sequence[Node]], Demand]  # on these nodes; asked anew at every turn
    priority: int = 0
    deadline: float | None = None  # on the clock of `now`


@dataclass
class _Standing:
    """What the scheduler knows of one lane."""

    request: LaneRequest
    demand: Demand
    waits_since: tuple[int, float] | None = None  # its first turn in vain, and when that was
    started: int | None = None  # in which turn
    speakers: list[Assignment] = field(default_factory=list)
    readers: list[Assignment] = field(default_factory=list)
    ended: bool = False
    late: bool = False

    @property
    def running(self) -> bool:
        return self.started is not None and not self.ended

    @property
    def waiting(self) -> bool:
        return self.started is None and not self.ended

    @property
    def held(self) -> list[Bundle]:
        return [seat.bundle for seat in [*self.speakers, *self.readers]]

    @property
    def light(self) -> bool:
        """It only waits for others: no GPU, nothing special, and less than a CPU for any of its actors."""
        return _light(self.demand.bundles())

    @property
    def shares(self) -> bool:
        """It asks as a light one does, but a reader of it takes more: of a GPU a share, say."""
        return not self.light and self.demand.speakers is not None and _light(self.demand.speakers.each)


class Scheduler:
    """Called turn by turn with what the cluster has now; says who starts, and keeps the books of who holds what."""

    def __init__(self, requests: Iterable[LaneRequest], patience_s: float = PATIENCE_S) -> None:
        self._lanes = {request.name: _Standing(request, request.demand(())) for request in requests}
        self._patience_s, self._turn = patience_s, 0
        self._nodes: Sequence[Node] = ()
        self._kept: list[Bundle] = []  # for lanes that lost actors: those, and what else they hold
        self._shares_first = False
        self._idle_since: float | None = None  # nothing runs

    def turn(self, nodes: Sequence[Node], now: float) -> dict[str, Allocation]:
        """The lanes that start now, each with its seats."""
        self._turn += 1
        self._nodes = nodes
        for lane in self._lanes.values():
            lane.demand = lane.request.demand(nodes) if lane.waiting else lane.demand
        rooms = self._free(nodes)
        self._shares_first = self._shares_leave_room()
        grants: dict[str, Allocation] = {}
        for lane in self._order():
            grant = seated(lane.demand, rooms) if self._may(lane, lane.demand.bundles(), now) else None
            if grant is None:
                lane.waits_since = lane.waits_since or (self._turn, now)
            else:
                self._start(lane, grant)
                grants[lane.request.name] = grant
        runs = any(lane.running for lane in self._lanes.values())
        self._idle_since = None if runs else now if self._idle_since is None else self._idle_since
        return {name: self._grown(self._lanes[name], grant, rooms, now) for name, grant in grants.items()}

    def hand_back(self, name: str) -> None:
        """The lane has asked all: what its speakers held is free, its readers go on."""
        self._lanes[name].speakers = []

    def end(self, name: str) -> None:
        lane = self._lanes[name]
        lane.ended, lane.speakers, lane.readers = True, [], []

    def late(self, now: float) -> list[str]:
        """The lanes whose deadline has passed since the last call."""
        late = [
            lane
            for lane in self._lanes.values()
            if not (lane.ended or lane.late) and lane.request.deadline is not None and now >= lane.request.deadline
        ]
        for lane in late:
            lane.late = True
        return [lane.request.name for lane in late]

    def waiting(self) -> list[str]:
        """In the order in which they are served."""
        return [lane.request.name for lane in self._order()]

    def hopeless(self, now: float, grows: Callable[[], bool]) -> dict[str, str]:
        """Where nothing has run for long: the lanes that the cluster cannot hold, and why they are given up."""
        idle_s = 0.0 if self._idle_since is None else now - self._idle_since
        if idle_s < self._patience_s:
            return {}
        why = "the cluster has lost the nodes that it needs"
        if grows():
            if idle_s < _GROWING_S:
                return {}
            why = f"in {_GROWING_S / 60:g} minutes the cluster has not grown to what it needs"
        return {lane.request.name: why for lane in self._order() if not self._holds(lane.demand)}

    def wanted(self) -> list[Bundle]:
        """What is held, and what the first lane needs that the present nodes cannot hold: for an autoscaler."""
        short = next((lane.demand.bundles() for lane in self._order() if not self._holds(lane.demand)), [])
        return [*(bundle for lane in self._lanes.values() for bundle in lane.held), *short] if short else []

    def likely(self, name: str) -> Allocation | None:
        """Where a lane would sit if nobody else were there."""
        return seated(self._lanes[name].demand, FreeResources(self._nodes))

    def standing(self) -> dict[str, str]:
        """Of every lane, in words: who asks where, who reads, who waits for what."""
        return {name: self._in_words(lane) for name, lane in self._lanes.items()}

    def _order(self) -> list[_Standing]:
        """Those that wait, as they are served."""
        return sorted((lane for lane in self._lanes.values() if lane.waiting), key=self._rank)

    def _rank(self, lane: _Standing) -> tuple[float, ...]:
        """The lower, the earlier; among equals the order of the spec stays."""
        bundles = lane.demand.bundles()
        gpus, cpus = sum(bundle.gpus for bundle in bundles), sum(bundle.cpus for bundle in bundles)
        others = sum(amount for bundle in bundles for amount in bundle.others.values())
        first = lane.light or (lane.shares and self._shares_first)
        return (-lane.request.priority, not first, -gpus, -others, -cpus)

    def _shares_leave_room(self) -> bool:
        """Whether every heavy lane that waits would fit beside all those of which only the readers take something."""
        alive = [lane for lane in self._lanes.values() if not lane.ended]
        shares = [bundle for lane in alive if lane.shares for bundle in lane.held or lane.demand.bundles()]
        heavy = [lane.demand.bundles() for lane in self._order() if not (lane.light or lane.shares)]
        return all(fits([*bundles, *shares], self._nodes) for bundles in heavy if fits(bundles, self._nodes))

    def _free(self, nodes: Sequence[Node]) -> FreeResources:
        """What nobody holds. Seats on a node that has gone move elsewhere first; where none is free, room is kept."""
        rooms, lost = FreeResources(nodes), list[tuple[_Standing, list[Assignment], int]]()
        for lane in self._lanes.values():
            for seats in (lane.speakers, lane.readers):
                lost += [(lane, seats, place) for place, seat in enumerate(seats) if not rooms.take(seat)]
        hurt: dict[str, list[Bundle]] = {}
        for lane, seats, place in lost:
            found = rooms.place([seats[place].bundle])
            if found:
                seats[place] = found[0]
            else:
                hurt[lane.request.name] = lane.held
        self._kept = [bundle for held in hurt.values() for bundle in held]
        return rooms

    def _may(self, lane: _Standing, takes: Sequence[Bundle], now: float) -> bool:
        """Whether the lane takes nothing that is kept for another: for actors of a dead node, or for who waits."""
        if not lane.light and fits(self._kept, self._nodes) and not fits([*self._kept, *takes], self._nodes):
            return False
        return not any(self._keeps(head, lane, takes, now) for head in self._ahead(lane))

    def _ahead(self, lane: _Standing) -> list[_Standing]:
        return [
            head
            for head in self._order()
            if head is not lane
            and self._rank(head) < self._rank(lane)
            and head.waits_since
            and self._holds(head.demand)
        ]

    def _keeps(self, head: _Standing, lane: _Standing, takes: Sequence[Bundle], now: float) -> bool:
        """Whether what `head` waits for would not be there if `lane` took this: it would still run when others end."""
        turn, since = head.waits_since or (self._turn, now)
        if head.request.priority == lane.request.priority and (lane.light or now - since < self._patience_s):
            return False
        stay = [one for one in self._lanes.values() if one.running and (one.light or (one.started or 0) > turn)]
        beside = [bundle for one in stay for bundle in one.held]
        return not fits([*head.demand.bundles(), *takes, *beside], self._nodes)

    def _start(self, lane: _Standing, grant: Allocation) -> None:
        lane.started = self._turn
        lane.speakers = [seat for actor in grant.speakers for seat in actor]
        lane.readers = [seat for crew in grant.readers.values() for actor in crew for seat in actor]

    def _grown(self, lane: _Standing, grant: Allocation, rooms: FreeResources, now: float) -> Allocation:
        """With as many more speakers as are of use and fit; where nobody waits it may grow later with the cluster."""
        crew = lane.demand.speakers
        if crew is None or crew.most == crew.least:
            return grant
        actors = list(grant.speakers)
        while len(actors) < crew.most and self._may(lane, crew.each, now):
            actor = rooms.place(crew.each)
            if actor is None:
                break
            actors.append(actor)
            lane.speakers += actor
        most = len(actors) if any(not one.light for one in self._order()) else crew.most
        return replace(grant, speakers=tuple(actors), most=most)

    def _holds(self, demand: Demand) -> bool:
        return fits(demand.bundles(), self._nodes)

    def _in_words(self, lane: _Standing) -> str:
        if lane.ended:
            return "ended"
        if lane.running:
            return "asks" if lane.speakers else "reads"
        needs = f"waits for {lane.demand}"
        if not self._holds(lane.demand):
            return f"{needs}, which the cluster does not have now"
        holders = [one.request.name for one in self._lanes.values() if one.running and _vie(one.held, lane.demand)]
        return f"{needs}, held by {', '.join(holders)}" if holders else needs


def seconds_until(deadline: str, began: datetime) -> float:
    """From `began` to a deadline as a spec has it: 90min, 6h, or the next 07:00 on that clock.

    Without a time zone `began` is on this machine's clock. One with a fixed offset knows of no daylight saving.
    """
    if ":" in deadline:
        hour, minute = map(int, deadline.split(":"))
        today = began.replace(hour=hour, minute=minute, second=0, microsecond=0)
        seconds = (then.timestamp() - began.timestamp() for then in (today, today + timedelta(days=1)))
        return next(left for left in seconds if left > 0)
    number = deadline.rstrip("smindh")
    return float(number) * _UNITS[deadline.removeprefix(number)]


def _light(bundles: Sequence[Bundle]) -> bool:
    return not any(bundle.gpus or bundle.others or bundle.cpus >= 1 for bundle in bundles)


def _vie(held: Sequence[Bundle], demand: Demand) -> bool:
    """Whether it holds something of the scarcest that another wants: its GPUs, its special resources, or its CPUs."""
    wanted = demand.bundles()
    if any(bundle.gpus for bundle in wanted):
        return any(bundle.gpus for bundle in held)
    kinds = {name for bundle in wanted for name in bundle.others}
    return any(kinds & set(bundle.others) for bundle in held) if kinds else any(bundle.cpus for bundle in held)
