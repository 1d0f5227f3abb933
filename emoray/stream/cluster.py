"""The cluster as a lane sees it: how to reach it, what it holds, and what a spec needs of it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import ray

from emoray.spec import Embedded, GoEmotionsReader, Local, ModelEntry, ReaderEntry, Spec, SpecError, Vllm


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
            least = entry.replicas if isinstance(entry.replicas, int) else entry.replicas[0]
            gpus = entry.tensor_parallel_size * entry.pipeline_parallel_size
            return Pool(least, Resources(1.0, float(gpus)), 32, 16)
        case _:
            rows = max(1, min(1000, entry.in_flight // 8)) if entry.host != "scripted" else min(1000, entry.in_flight)
            cpus = getattr(entry, "cpus", 0.1)
            return Pool(entry.actors, Resources(cpus), rows, max(2, -(-3 * entry.in_flight // (2 * rows))))


def listeners(entry: ReaderEntry) -> Pool:
    """The pool of a reader's listeners; blocks come as the speakers made them."""
    gpus = entry.gpus if isinstance(entry, GoEmotionsReader) else 0.0
    return Pool(entry.actors, Resources(entry.cpus, gpus), 0, 2)


def needs(spec: Spec, model: ModelEntry) -> Resources:
    """What the lane of one model holds while it runs."""
    return sum((listeners(reader).needs for reader in spec.readers), speakers(model).needs)


def check(spec: Spec, capacity: Resources) -> None:
    """SpecError where a lane cannot fit into the whole cluster: Ray itself would wait for it for ever, silently."""
    for model in spec.models:
        lane = needs(spec, model)
        if not lane <= capacity:
            raise SpecError(
                f"model {model.name!r} needs {lane}, but the cluster has {capacity}; "
                "submit to a larger cluster, or ask for less in the spec"
            )


def connect(address: str | None = None, *, verbose: bool = False) -> Resources:
    """Joins the cluster at an address (or in RAY_ADDRESS), or starts one on this machine; returns what it holds."""
    level = logging.INFO if verbose else logging.ERROR
    if not verbose:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray's C++ side ignores logging_level
    if not ray.is_initialized():
        where = address or os.environ.get("RAY_ADDRESS") or "local"
        local = {"include_dashboard": False} if where == "local" else {}
        try:
            ray.init(address=where, log_to_driver=verbose, logging_level=level, **local)
        except ConnectionError as wrong:
            raise SpecError(f"no Ray cluster answers at {where}: {str(wrong).splitlines()[0]}") from None
    logging.getLogger("ray.data").setLevel(level)
    whole = ray.cluster_resources()
    return Resources(whole.get("CPU", 0.0), whole.get("GPU", 0.0))
