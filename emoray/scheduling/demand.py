"""What an entry of a spec needs of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from emoray.hosts.weights import has_weights
from emoray.scheduling.packing import FreeResources
from emoray.scheduling.resources import Actor, Allocation, Bundle, Demand, Load, Node, PoolSize
from emoray.spec.entry import AddedModel
from emoray.spec.models import Embedded, Hosted, Local, ModelEntry, Rehearsed, Replicas, Scripted, Vllm
from emoray.spec.readers import JudgeReader, ReaderEntry


def engine(entry: Vllm, nodes: Sequence[Node] = ()) -> tuple[Bundle, ...]:
    """The bundles of one engine: one for an engine inside a node, else one per stage; the actor sits in the first."""
    gpus = entry.tensor_parallel_size * entry.pipeline_parallel_size
    if entry.device == "cpu":
        return (Bundle(entry.cpus, others=entry.resources),)
    if gpus == 1:
        return (Bundle(entry.cpus, entry.gpu_memory_utilization, entry.accelerator, entry.resources),)
    whole = Bundle(entry.cpus, float(gpus), entry.accelerator, entry.resources)
    if entry.pipeline_parallel_size == 1 or not nodes or any(FreeResources([node]).place([whole]) for node in nodes):
        return (whole,)
    stage = Bundle(0.0, float(entry.tensor_parallel_size), entry.accelerator)
    return (replace(stage, cpus=entry.cpus, others=entry.resources), *[stage] * (entry.pipeline_parallel_size - 1))


def speakers(entry: ModelEntry, nodes: Sequence[Node] = ()) -> PoolSize:
    """The actors that ask a model."""
    match entry:
        case Vllm():
            return PoolSize(engine(entry, nodes), *actors(entry))
        case Embedded() | Local() | AddedModel():
            one = Bundle(entry.cpus, entry.gpus, others=entry.resources)
        case _ if entry.host in ("hosted_api", "batch_api"):
            one = Bundle(0.1, others=entry.resources)
        case _:
            one = Bundle(getattr(entry, "cpus", 0.1), others=entry.resources)
    return PoolSize((one,), *actors(entry))


def actors(entry: ModelEntry) -> Replicas:
    """How many actors ask a model: of vLLM the engines, of a batch endpoint the one that holds its batches."""
    if isinstance(entry, Vllm):
        return entry.engines
    one_batch = entry.host == "batch_api"
    return Replicas(1, 1) if one_batch else Replicas(entry.actors, entry.actors)


def in_flight(entry: ModelEntry) -> int:
    """Asks that one actor of a model works on at once."""
    match entry:
        case Embedded() | Local():
            return entry.batch_size
        case Vllm():
            return entry.max_num_seqs
        case Scripted() | Rehearsed() | Hosted() | AddedModel():
            return entry.in_flight


def listeners(entry: ReaderEntry, nodes: Sequence[Node] = ()) -> PoolSize:
    """The actors of a reader; a fraction of a GPU lies beside an engine, or on a GPU of its own."""
    if isinstance(entry, JudgeReader):  # a speaker that listens, and no more of them than it takes
        judge = speakers(entry.model, nodes)
        return replace(judge, most=judge.least)
    return PoolSize((Bundle(entry.cpus, entry.gpus, others=entry.resources),), entry.actors, entry.actors)


def demand(entry: ModelEntry | None, readers: Sequence[ReaderEntry], nodes: Sequence[Node] = ()) -> Demand:
    """What the lane of a model takes; without a model, that of readers that catch up."""
    return Demand(
        speakers(entry, nodes) if entry else None, {reader.name: listeners(reader, nodes) for reader in readers}
    )


def loads(entry: ModelEntry | None, readers: Sequence[ReaderEntry], grant: Allocation) -> list[Load]:
    """What a lane on these seats will load: the weights of its model, and of judges that run here."""
    crews: list[tuple[ModelEntry | None, Sequence[Actor]]] = [(entry, grant.speakers)]
    crews += [(reader.model, grant.readers[reader.name]) for reader in readers if isinstance(reader, JudgeReader)]
    return [
        Load(one.id, one.revision, node)
        for one, actors in crews
        if has_weights(one)
        for node in dict.fromkeys(seat.node for actor in actors for seat in actor if seat.node)
    ]
