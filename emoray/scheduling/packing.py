"""Where engines and classifiers go on a cluster's nodes, and the sentence that refuses what it cannot hold. Pure.

Tensor parallel stays inside a node: an engine that fits into one is one actor with all its GPUs. Only an engine with
pipeline stages that no node holds whole is spread, stage by stage, in a placement group. An engine on a single GPU
takes the share of it that its `gpu_memory_utilization` says, so that a classifier may have the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from emoray.hosts.weights import has_weights
from emoray.spec.models import Embedded, Local, ModelEntry, Vllm
from emoray.spec.readers import JudgeReader, ReaderEntry

_SLACK = 1e-6


@dataclass(frozen=True)
class Bundle:
    """What must lie on one node. A fraction of a GPU lies on one GPU."""

    cpus: float = 0.0
    gpus: float = 0.0
    accelerator: str | None = None
    others: Mapping[str, float] = field(default_factory=dict)  # the cluster's custom resources, by name

    def __str__(self) -> str:
        return in_words([self])


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster has."""

    cpus: float
    gpus: float = 0.0
    accelerator: str | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    name: str = ""  # Ray's id of it; "" is a node that nothing can be sent to by name
    host: str = ""  # what a person calls it


@dataclass(frozen=True)
class Crew:
    """The actors of one kind: `least` of them must be there, up to `most` are of use."""

    each: tuple[Bundle, ...]  # one, or one per stage of an engine that no node holds
    least: int = 1
    most: int = 1


@dataclass(frozen=True)
class Demand:
    """What a lane takes: all of it at once, or nothing."""

    speakers: Crew | None  # None: there is nothing to ask
    readers: Mapping[str, Crew]

    def bundles(self) -> list[Bundle]:
        """Of the least that the lane can run with."""
        crews = [*([self.speakers] if self.speakers else []), *self.readers.values()]
        return [bundle for crew in crews for bundle in crew.each * crew.least]

    def __str__(self) -> str:
        return in_words(self.bundles())


@dataclass(frozen=True)
class Seat:
    """A bundle on its node, and on which of the node's GPUs."""

    bundle: Bundle
    node: str
    gpus: tuple[int, ...] = ()


Actor = tuple[Seat, ...]


@dataclass(frozen=True)
class Grant:
    """The seats of a lane that may run."""

    speakers: tuple[Actor, ...]
    most: int  # speakers that it may grow to
    readers: Mapping[str, tuple[Actor, ...]]

    @property
    def nodes(self) -> list[str]:
        """Where it speaks; where it only reads, there."""
        actors = self.speakers or tuple(actor for crew in self.readers.values() for actor in crew)
        return list(dict.fromkeys(seat.node for actor in actors for seat in actor))


@dataclass(frozen=True)
class Load:
    """A model's weights, on a node that will need them."""

    id: str
    revision: str | None
    node: str


def engine(entry: Vllm, nodes: Sequence[Node] = ()) -> tuple[Bundle, ...]:
    """The bundles of one engine: one for an engine inside a node, else one per stage; the actor sits in the first."""
    gpus = entry.tensor_parallel_size * entry.pipeline_parallel_size
    if entry.device == "cpu":
        return (Bundle(entry.cpus, others=entry.resources),)
    if gpus == 1:
        return (Bundle(entry.cpus, entry.gpu_memory_utilization, entry.accelerator, entry.resources),)
    whole = Bundle(entry.cpus, float(gpus), entry.accelerator, entry.resources)
    if entry.pipeline_parallel_size == 1 or not nodes or any(Rooms([node]).place([whole]) for node in nodes):
        return (whole,)
    stage = Bundle(0.0, float(entry.tensor_parallel_size), entry.accelerator)
    return (replace(stage, cpus=entry.cpus, others=entry.resources), *[stage] * (entry.pipeline_parallel_size - 1))


def replicas(entry: Vllm) -> tuple[int, int]:
    """(least, most) engines."""
    if isinstance(entry.replicas, int):
        return entry.replicas, entry.replicas
    return entry.replicas[0], entry.replicas[1]


def speakers(entry: ModelEntry, nodes: Sequence[Node] = ()) -> Crew:
    """The actors that ask a model."""
    match entry:
        case Vllm():
            return Crew(engine(entry, nodes), *replicas(entry))
        case Embedded() | Local():
            one = Bundle(entry.cpus, entry.gpus, others=entry.resources)
        case _ if entry.host in ("hosted_api", "batch_api"):
            one = Bundle(0.1, others=entry.resources)
        case _:
            one = Bundle(getattr(entry, "cpus", 0.1), others=entry.resources)
    actors = 1 if entry.host == "batch_api" else entry.actors
    return Crew((one,), actors, actors)


def listeners(entry: ReaderEntry, nodes: Sequence[Node] = ()) -> Crew:
    """The actors of a reader; a fraction of a GPU lies beside an engine, or on a GPU of its own."""
    if isinstance(entry, JudgeReader):  # a speaker that listens, and no more of them than it takes
        judge = speakers(entry.model, nodes)
        return replace(judge, most=judge.least)
    return Crew((Bundle(entry.cpus, entry.gpus, others=entry.resources),), entry.actors, entry.actors)


def demand(entry: ModelEntry | None, readers: Sequence[ReaderEntry], nodes: Sequence[Node] = ()) -> Demand:
    """What the lane of a model takes; without a model, that of readers that catch up."""
    return Demand(
        speakers(entry, nodes) if entry else None, {reader.name: listeners(reader, nodes) for reader in readers}
    )


def refusal(entry: ModelEntry | None, readers: Sequence[ReaderEntry], nodes: Sequence[Node]) -> str | None:
    """Why a lane can never run on these nodes, in one sentence; None where it can. Without a model, of its readers."""
    if isinstance(entry, Vllm) and entry.device == "gpu" and (sentence := _no_gpus(entry, nodes)):
        return sentence
    who = f"model {entry.name!r}" if entry else "reading"
    asked = demand(entry, readers, nodes).bundles()
    if fits(asked, nodes):
        return None
    missing = {name for bundle in asked for name in bundle.others} - {name for node in nodes for name in node.others}
    if missing:
        return f"{who} asks for the resource {min(missing)!r}, which no node of the cluster has; {_RAY_START}"
    judges = [reader for reader in readers if isinstance(reader, JudgeReader)]
    networks = [reader for reader in readers if not isinstance(reader, JudgeReader)]
    beside = [replace(bundle, gpus=0.0) for bundle in demand(None, networks, nodes).bundles()]
    engines = demand(entry, judges, nodes).bundles()
    if any(bundle.gpus for bundle in engines) and fits([*engines, *beside], nodes):
        return f"{who} leaves no room on a GPU for the readers; give them gpus: 0, which reads on CPUs"
    hint = "lower replicas" if isinstance(entry, Vllm) and replicas(entry)[0] > 1 else _LARGER
    both = f"{who} and its readers need" if entry else "the readers need"
    return f"{both} {in_words(asked)}, but the cluster has {_nodes(nodes)}; {hint}"


_LARGER = "submit to a larger cluster, or ask for less in the spec"
_RAY_START = "a node has what `ray start --resources` says"


def _no_gpus(entry: Vllm, nodes: Sequence[Node]) -> str | None:
    """What a look at the kinds of GPUs can tell already."""
    kinds = sorted({node.accelerator for node in nodes if node.accelerator})
    largest = max((node.gpus for node in nodes), default=0.0)
    tensor = entry.tensor_parallel_size
    reason, hint = None, _LARGER
    if not largest:
        reason = f"needs {in_words(engine(entry, nodes))}, but the cluster has {_nodes(nodes)}"
        hint = "a small model can be tried with device: cpu"
    elif entry.accelerator and entry.accelerator not in kinds:
        reason = f"asks for {entry.accelerator}, but the cluster has {', '.join(kinds) or 'no known type'}"
    elif tensor > largest + _SLACK:
        reason = f"shares every layer among {tensor} GPUs of one node, but the largest has {largest:g}"
        hint = "lower it, and raise pipeline_parallel_size, whose stages may lie on several nodes"
    return reason and f"model {entry.name!r} {reason}; {hint}"


class Rooms:
    """What is free on each node; bundles are seated there, and free their room again with it."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._rooms = [_Room(node) for node in nodes]

    def place(self, bundles: Sequence[Bundle]) -> tuple[Seat, ...] | None:
        """Seats for all bundles at once, in their order; None (and nothing is taken) where they do not fit.

        The largest are placed first. What takes a GPU goes where the fewest are left; what takes none is spread,
        unless only close packing holds all.
        """
        return self._placed(bundles, spread=True) or self._placed(bundles, spread=False)

    def take(self, seat: Seat) -> bool:
        """Notes a seat that is taken already; False where its node has gone."""
        room = next((room for room in self._rooms if room.node.name == seat.node), None)
        if room is not None:
            room.take(seat)
        return room is not None

    def _placed(self, bundles: Sequence[Bundle], *, spread: bool) -> tuple[Seat, ...] | None:
        before = [room.copy() for room in self._rooms]
        seats: dict[int, Seat] = {}
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


class _Room:
    """What is free on one node; Ray fills its GPUs one by one, so they are counted one by one."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._cpus, self._gpus, self._others = node.cpus, [1.0] * int(node.gpus), dict(node.others)

    def copy(self) -> _Room:
        same = _Room(self.node)
        same._cpus, same._gpus, same._others = self._cpus, list(self._gpus), dict(self._others)
        return same

    def left(self, *, roomy: bool) -> tuple[float, float]:
        """Sorts rooms: the fullest first, or (`roomy`) the one with the most CPUs and the fewest GPUs."""
        return (-self._cpus, sum(self._gpus)) if roomy else (sum(self._gpus), self._cpus)

    def place(self, bundle: Bundle) -> Seat | None:
        """Takes a seat for the bundle; None where it does not fit."""
        right = not bundle.gpus or bundle.accelerator in (None, self.node.accelerator)
        gpus = self._fullest(bundle.gpus) if right else None
        short = any(amount > self._others.get(name, 0.0) + _SLACK for name, amount in bundle.others.items())
        if gpus is None or short or bundle.cpus > self._cpus + _SLACK:
            return None
        seat = Seat(bundle, self.node.name, gpus)
        self.take(seat)
        return seat

    def take(self, seat: Seat) -> None:
        self._cpus -= seat.bundle.cpus
        for gpu in seat.gpus:
            self._gpus[gpu] -= min(seat.bundle.gpus, 1.0)
        for name, amount in seat.bundle.others.items():
            self._others[name] = self._others.get(name, 0.0) - amount

    def _fullest(self, gpus: float) -> tuple[int, ...] | None:
        """Which GPUs so many would be: the fullest one that has such a fraction, or whole ones."""
        many = max(1, round(gpus)) if gpus else 0
        with_room = [gpu for gpu, free in enumerate(self._gpus) if free >= min(gpus, 1.0) - _SLACK]
        chosen = sorted(with_room, key=self._gpus.__getitem__)[:many]
        return tuple(chosen) if len(chosen) == many else None


def seated(demand: Demand, rooms: Rooms) -> Grant | None:
    """Seats for the least that a lane can run with; None where they are not all there."""
    seats = rooms.place(demand.bundles())
    if seats is None:
        return None
    left = iter(seats)
    speaking = _actors(demand.speakers, left) if demand.speakers else ()
    return Grant(speaking, len(speaking), {name: _actors(crew, left) for name, crew in demand.readers.items()})


def loads(entry: ModelEntry | None, readers: Sequence[ReaderEntry], grant: Grant) -> list[Load]:
    """What a lane on these seats will load: the weights of its model, and of judges that run here."""
    crews: list[tuple[ModelEntry | None, Sequence[Actor]]] = [(entry, grant.speakers)]
    crews += [(reader.model, grant.readers[reader.name]) for reader in readers if isinstance(reader, JudgeReader)]
    return [
        Load(one.id, one.revision, node)
        for one, actors in crews
        if has_weights(one)
        for node in dict.fromkeys(seat.node for actor in actors for seat in actor if seat.node)
    ]


def _actors(crew: Crew, seats: Iterator[Seat]) -> tuple[Actor, ...]:
    return tuple(tuple(next(seats) for _ in crew.each) for _ in range(crew.least))


def fits(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> bool:
    """Whether the nodes hold all bundles at once."""
    return Rooms(nodes).place(bundles) is not None


def in_words(parts: Sequence[Bundle] | Sequence[Node]) -> str:
    """2.5 CPUs, 4 H100 GPUs and 1 slot: the sum of what bundles take, or nodes have."""
    kinds = sorted({part.accelerator for part in parts if part.accelerator and part.gpus})
    gpus, cpus = sum(part.gpus for part in parts), sum(part.cpus for part in parts)
    others: Counter[str] = Counter()
    for part in parts:
        others.update(dict(part.others))
    words = [f"{cpus:g} CPUs"]
    words += [f"{gpus:g} {' or '.join(kinds)} GPUs".replace("  ", " ")] if gpus else []
    words += [f"{amount:g} {name}" for name, amount in sorted(others.items())]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _nodes(nodes: Sequence[Node]) -> str:
    return in_words(nodes) + (f" on {len(nodes)} nodes" if len(nodes) > 1 else "")


def _size(bundle: Bundle) -> tuple[float, float, float]:
    return bundle.gpus, sum(bundle.others.values()), bundle.cpus
