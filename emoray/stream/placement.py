"""Where engines and classifiers go on a cluster's nodes, and the sentence that refuses what it cannot hold. Pure.

Tensor parallel stays inside a node: an engine that fits into one is one actor with all its GPUs. Only an engine with
pipeline stages that no node holds whole is spread: a placement group with one bundle per GPU. An engine on a single
GPU takes the share of it that its `gpu_memory_utilization` says, so that a classifier may have the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emoray.spec import GoEmotionsReader, ReaderEntry, Vllm

_SLACK = 1e-6


@dataclass(frozen=True)
class Bundle:
    """What must lie on one node."""

    cpus: float
    gpus: float = 0.0
    accelerator: str | None = None


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster has."""

    cpus: float
    gpus: float = 0.0
    accelerator: str | None = None

    def holds(self, bundle: Bundle) -> bool:
        right = not bundle.gpus or bundle.accelerator in (None, self.accelerator)
        return right and bundle.cpus <= self.cpus + _SLACK and bundle.gpus <= self.gpus + _SLACK


def engine(entry: Vllm, nodes: Sequence[Node] = ()) -> tuple[Bundle, ...]:
    """The bundles of one engine: one for an engine inside a node, else the actor's own and one per GPU."""
    gpus = entry.tensor_parallel_size * entry.pipeline_parallel_size
    if entry.device == "cpu":
        return (Bundle(entry.cpus),)
    if gpus == 1:
        return (Bundle(entry.cpus, entry.gpu_memory_utilization, entry.accelerator),)
    whole = Bundle(entry.cpus, float(gpus), entry.accelerator)
    if entry.pipeline_parallel_size == 1 or not nodes or any(node.holds(whole) for node in nodes):
        return (whole,)
    return (Bundle(entry.cpus), *[Bundle(0.0, 1.0, entry.accelerator)] * gpus)


def replicas(entry: Vllm) -> tuple[int, int]:
    """(least, most) engines."""
    if isinstance(entry.replicas, int):
        return entry.replicas, entry.replicas
    return entry.replicas[0], entry.replicas[1]


def classifiers(readers: Sequence[ReaderEntry]) -> list[Bundle]:
    """The bundles of all actors of the readers; a fraction of a GPU lies beside an engine, or on a GPU of its own."""
    return [
        Bundle(reader.cpus, reader.gpus if isinstance(reader, GoEmotionsReader) else 0.0)
        for reader in readers
        for _ in range(reader.actors)
    ]


def refusal(entry: Vllm, readers: Sequence[ReaderEntry], nodes: Sequence[Node]) -> str | None:
    """Why the lane of this model can never run on these nodes, in one sentence; None where it can."""
    kinds = sorted({node.accelerator for node in nodes if node.accelerator})
    largest = max((node.gpus for node in nodes), default=0.0)
    together, tensor = engine(entry, nodes), entry.tensor_parallel_size
    if entry.device == "gpu" and not largest:
        return _no(entry, "needs GPUs, but the cluster has none", "a small model can be tried with device: cpu")
    if entry.device == "gpu" and entry.accelerator and entry.accelerator not in kinds:
        return _no(entry, f"asks for {entry.accelerator}, but the cluster has {', '.join(kinds) or 'no known type'}")
    if entry.device == "gpu" and tensor > largest + _SLACK:
        hint = "lower it, and raise pipeline_parallel_size, whose stages may lie on several nodes"
        return _no(entry, f"shares every layer among {tensor} GPUs of one node, but the largest has {largest:g}", hint)
    demands = [*together * replicas(entry)[0], *classifiers(readers)]
    if fits(demands, nodes):
        return None
    if fits([Bundle(bundle.cpus, 0.0 if bundle in classifiers(readers) else bundle.gpus) for bundle in demands], nodes):
        return _no(entry, "leaves no room on a GPU for the readers", "give them gpus: 0, which reads on CPUs")
    return _no(entry, f"and its readers need {_sum(demands)}, but the nodes have {_sum(nodes)}", "lower replicas")


def fits(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> bool:
    """Whether the nodes hold all bundles at once; the largest are placed first, each on the fullest node it fits."""
    left = list(nodes)
    for bundle in sorted(bundles, key=lambda bundle: (-bundle.gpus, -bundle.cpus)):
        there = [place for place, node in enumerate(left) if node.holds(bundle)]
        if not there:
            return False
        place = min(there, key=lambda place: (left[place].gpus, left[place].cpus))
        node = left[place]
        left[place] = Node(node.cpus - bundle.cpus, node.gpus - bundle.gpus, node.accelerator)
    return True


def _no(entry: Vllm, reason: str, hint: str = "submit to a larger cluster, or ask for less in the spec") -> str:
    return f"model {entry.name!r} {reason}; {hint}"


def _sum(parts: Sequence[Bundle] | Sequence[Node]) -> str:
    return f"{sum(part.cpus for part in parts):g} CPUs and {sum(part.gpus for part in parts):g} GPUs"
