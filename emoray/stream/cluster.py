"""The cluster as a lane sees it: how to reach it, what it holds, and what a spec needs of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from emoray.hosts.scripted import GROUP
from emoray.spec import (
    Embedded,
    Hosted,
    JudgeReader,
    Local,
    ModelEntry,
    ReaderEntry,
    Rehearsed,
    Scripted,
    Spec,
    SpecError,
    Vllm,
)
from emoray.store import RunFolder, StoreError, leave_mark, missing_mark, probe
from emoray.stream import placement

_ENGINE_ROWS = 16  # rows that travel to an engine together


@dataclass(frozen=True)
class Resources:
    """Ray's logical resources; fractions are allowed."""

    cpus: float = 0.0
    gpus: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.cpus + other.cpus, self.gpus + other.gpus)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.cpus - other.cpus, self.gpus - other.gpus)

    def __le__(self, other: Resources) -> bool:
        return self.cpus <= other.cpus + 1e-6 and self.gpus <= other.gpus + 1e-6

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")


@dataclass(frozen=True)
class Pool:
    """How many actors of a kind, what each needs, and how it is fed."""

    actors: int
    each: Resources
    block_rows: int  # rows that travel together
    calls: int  # blocks that one actor works on at once

    @property
    def needs(self) -> Resources:
        return Resources(self.actors * self.each.cpus, self.actors * self.each.gpus)


def speakers(entry: ModelEntry) -> Pool:
    """The pool of a model's speakers."""
    match entry:
        case Embedded():
            return Pool(entry.actors, Resources(entry.cpus), entry.batch_size, 2)
        case Local():
            return Pool(entry.actors, Resources(entry.cpus, entry.gpus), entry.batch_size, 2)
        case Vllm():
            whole = placement.engine(entry)[0]
            calls = _calls(entry.max_num_seqs, _ENGINE_ROWS)  # a block waits for its longest answer: most of it is done
            return Pool(placement.replicas(entry)[0], Resources(whole.cpus, whole.gpus), _ENGINE_ROWS, calls)
        case Scripted():
            rows = min(GROUP, entry.in_flight) if entry.latency_s else 1000
            calls = _calls(entry.in_flight, rows) if entry.latency_s else 3
            return Pool(entry.actors, Resources(entry.cpus), rows, calls)
        case Rehearsed():
            rows = max(1, entry.in_flight // 8)
            return Pool(entry.actors, Resources(entry.cpus), rows, _calls(entry.in_flight, rows))
        case Hosted(host="batch_api"):
            return Pool(1, Resources(0.1), 50_000, 1)  # the more asks come together, the fewer batches
        case Hosted():
            rows = max(1, entry.in_flight // 8)
            return Pool(entry.actors, Resources(0.1), rows, _calls(entry.in_flight, rows))


def _calls(in_flight: int, rows: int) -> int:
    """Blocks at once that keep a host full while as many again and more wait for the disk and for Ray."""
    return max(2, -(-6 * in_flight // rows))


def listeners(entry: ReaderEntry) -> Pool:
    """The pool of a reader's listeners; blocks come as the speakers made them. A judge is a speaker that listens."""
    if isinstance(entry, JudgeReader):
        return replace(speakers(entry.model), block_rows=0)
    return Pool(entry.actors, Resources(entry.cpus, entry.gpus), 0, 2)  # one computes, the other tokenizes


def needs(spec: Spec, model: ModelEntry | None) -> Resources:
    """What the lane of one model holds while it runs; without a model, that of readers that catch up."""
    return sum((listeners(reader).needs for reader in spec.readers), speakers(model).needs if model else Resources())


def check(model: str, lane: Resources, capacity: Resources) -> None:
    """SpecError where a lane cannot fit into the whole cluster: Ray itself would wait for it for ever, silently."""
    if not lane <= capacity:
        raise SpecError(
            f"model {model!r} needs {lane}, but the cluster has {capacity}; "
            "submit to a larger cluster, or ask for less in the spec"
        )


def check_folder(folder: RunFolder) -> None:
    """StoreError where the run folder cannot be written, or a node of the cluster does not see it."""
    probe(folder)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1:
        return
    mark = leave_mark(folder)
    try:
        look = ray.remote(_look)
        looks = [
            look.options(num_cpus=0, scheduling_strategy=_on(node)).remote(folder, mark, _name(node)) for node in nodes
        ]
        missing = [sentence for sentence in ray.get(looks) if sentence]
    finally:
        folder.delete(mark)
    if missing:
        raise StoreError(missing[0])


def _look(folder: RunFolder, mark: str, node: str) -> str | None:
    return missing_mark(folder, mark, node=node)


def _on(node: Mapping[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def connect(address: str | None = None, *, verbose: bool = False) -> Resources:
    """Joins the cluster at an address (or in RAY_ADDRESS), or starts one on this machine; returns what it holds."""
    level = logging.INFO if verbose else logging.ERROR
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        where = address or os.environ.get("RAY_ADDRESS") or "local"
        local = {"include_dashboard": False} if where == "local" else {}
        try:
            ray.init(address=where, log_to_driver=verbose, logging_level=level, **local)
        except ConnectionError as wrong:
            raise SpecError(f"no Ray cluster answers at {where}: {str(wrong).splitlines()[0]}") from None
    if not verbose:
        # Ray tells of dead nodes on stdout, among our results, even where log_to_driver is False
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    logging.getLogger("ray.data").setLevel(level)
    whole = ray.cluster_resources()
    return Resources(whole.get("CPU", 0.0), whole.get("GPU", 0.0))
