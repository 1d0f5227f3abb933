"""What nodes have and actors take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SLACK = 1e-6


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
class PoolSize:
    """The actors of one kind: `least` of them must be there, up to `most` are of use."""

    each: tuple[Bundle, ...]  # one, or one per stage of an engine that no node holds
    least: int = 1
    most: int = 1


@dataclass(frozen=True)
class Demand:
    """What a lane takes: all of it at once, or nothing."""

    speakers: PoolSize | None  # None: there is nothing to ask
    readers: Mapping[str, PoolSize]

    def bundles(self) -> list[Bundle]:
        """Of the least that the lane can run with."""
        crews = [*([self.speakers] if self.speakers else []), *self.readers.values()]
        return [bundle for crew in crews for bundle in crew.each * crew.least]

    def __str__(self) -> str:
        return in_words(self.bundles())


@dataclass(frozen=True)
class Assignment:
    """A bundle on its node, and on which of the node's GPUs."""

    bundle: Bundle
    node: str
    gpus: tuple[int, ...] = ()


Actor = tuple[Assignment, ...]


@dataclass(frozen=True)
class Allocation:
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


def in_words(parts: Sequence[Bundle] | Sequence[Node]) -> str:
    """2.5 CPUs, 4 H100 GPUs and 1 slot: the sum of what bundles take, or nodes have."""
    kinds = sorted({part.accelerator for part in parts if part.accelerator and part.gpus})
    gpus, cpus = sum(part.gpus for part in parts), sum(part.cpus for part in parts)
    others: Counter[str] = Counter()
    for part in parts:
        others.update(dict(part.others))
    words = [_amount(cpus, "CPU")]
    words += [_amount(gpus, f"{' or '.join(kinds)} GPU".lstrip())] if gpus else []
    words += [f"{amount:g} {name}" for name, amount in sorted(others.items())]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _amount(n: float, noun: str) -> str:
    """0.5 CPUs, 1 CPU: an amount of one is one."""
    shown = f"{n:g}"
    return f"{shown} {noun if shown == '1' else f'{noun}s'}"
