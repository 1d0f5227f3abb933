"""Where engines and classifiers go on a cluster's nodes, and the sentence that refuses what it cannot hold. Pure.

Tensor parallel stays inside a node: an engine that fits into one is one actor with all its GPUs. Only an engine with
pipeline stages that no node holds whole is spread, stage by stage, in a placement group. An engine on a single GPU
takes the share of it that its `gpu_memory_utilization` says, so that a classifier may have the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from emoray.scheduling.resources import SLACK, Actor, Allocation, Assignment, Bundle, Demand, Node, PoolSize


class FreeResources:
    """What is free on each node; bundles are seated there, and free their room again with it."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._rooms = [_FreeNode(node) for node in nodes]

    def place(self, bundles: Sequence[Bundle]) -> tuple[Assignment, ...] | None:
        """Seats for all bundles at once, in their order; None (and nothing is taken) where they do not fit.

        The largest are placed first. What takes a GPU goes where the fewest are left; what takes none is spread,
        unless only close packing holds all.
        """
        return self._placed(bundles, spread=True) or self._placed(bundles, spread=False)

    def take(self, seat: Assignment) -> bool:
        """Notes a seat that is taken already; False where its node has gone."""
        room = next((room for room in self._rooms if room.node.name == seat.node), None)
        if room is not None:
            room.take(seat)
        return room is not None

    def _placed(self, bundles: Sequence[Bundle], *, spread: bool) -> tuple[Assignment, ...] | None:
        before = [room.copy() for room in self._rooms]
        seats: dict[int, Assignment] = {}
        for place in sorted(range(len(bundles)), key=lambda place: _size(bundles[place]), reverse=True):
            bundle = bundles[place]
            roomy = spread and not bundle.gpus
            chosen = sorted(self._rooms, key=lambda room: room.left(roomy=roomy))
            seat = next((seat for room in chosen if (seat := room.place(bundle))), None)
            if seat is None:
                self._rooms = before
                return None
            seats[place] = seat
        return tuple(seats[place] for place in range(len(bundles)))


class _FreeNode:
    """What is free on one node; Ray fills its GPUs one by one, so they are counted one by one."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._cpus, self._gpus, self._others = node.cpus, [1.0] * int(node.gpus), dict(node.others)

    def copy(self) -> _FreeNode:
        same = _FreeNode(self.node)
        same._cpus, same._gpus, same._others = self._cpus, list(self._gpus), dict(self._others)
        return same

    def left(self, *, roomy: bool) -> tuple[float, float]:
        """Sorts rooms: the fullest first, or (`roomy`) the one with the most CPUs and the fewest GPUs."""
        return (-self._cpus, sum(self._gpus)) if roomy else (sum(self._gpus), self._cpus)

    def place(self, bundle: Bundle) -> Assignment | None:
        """Takes a seat for the bundle; None where it does not fit."""
        right = not bundle.gpus or bundle.accelerator in (None, self.node.accelerator)
        gpus = self._fullest(bundle.gpus) if right else None
        short = any(amount > self._others.get(name, 0.0) + SLACK for name, amount in bundle.others.items())
        if gpus is None or short or bundle.cpus > self._cpus + SLACK:
            return None
        seat = Assignment(bundle, self.node.name, gpus)
        self.take(seat)
        return seat

    def take(self, seat: Assignment) -> None:
        self._cpus -= seat.bundle.cpus
        for gpu in seat.gpus:
            self._gpus[gpu] -= min(seat.bundle.gpus, 1.0)
        for name, amount in seat.bundle.others.items():
            self._others[name] = self._others.get(name, 0.0) - amount

    def _fullest(self, gpus: float) -> tuple[int, ...] | None:
        """Which GPUs so many would be: the fullest one that has such a fraction, or whole ones."""
        many = max(1, round(gpus)) if gpus else 0
        with_room = [gpu for gpu, free in enumerate(self._gpus) if free >= min(gpus, 1.0) - SLACK]
        chosen = sorted(with_room, key=self._gpus.__getitem__)[:many]
        return tuple(chosen) if len(chosen) == many else None


def seated(demand: Demand, rooms: FreeResources) -> Allocation | None:
    """Seats for the least that a lane can run with; None where they are not all there."""
    seats = rooms.place(demand.bundles())
    if seats is None:
        return None
    left = iter(seats)
    speaking = _actors(demand.speakers, left) if demand.speakers else ()
    return Allocation(speaking, len(speaking), {name: _actors(crew, left) for name, crew in demand.readers.items()})


def fits(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> bool:
    """Whether the nodes hold all bundles at once."""
    return FreeResources(nodes).place(bundles) is not None


def _size(bundle: Bundle) -> tuple[float, float, float]:
    return bundle.gpus, sum(bundle.others.values()), bundle.cpus


def _actors(crew: PoolSize, seats: Iterator[Assignment]) -> tuple[Actor, ...]:
    return tuple(tuple(next(seats) for _ in crew.each) for _ in range(crew.least))
