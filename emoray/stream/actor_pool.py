"""The actors of a pool in Ray's words, each on the node that it was given.

A node is asked for softly: an actor whose node has died, or was filled by somebody else's job, starts on another one.
The stages of an engine over nodes keep to theirs, as long as all of them live: packed by Ray, a stage would fill the
GPUs that another one leaves free, and its layers would be shared across the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.data import ActorPoolStrategy
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from emoray.scheduling.feeding import Pool
from emoray.scheduling.resources import Actor, Assignment, Bundle
from emoray.stream import cluster
from emoray.stream.cluster import resources

_NODE = "ray.io/node-id"  # a label that every node has


class ActorPool:
    """The actors of one pool, for one Ray Data execution."""

    def __init__(self, pool: Pool, actors: Sequence[Actor], most: int) -> None:
        """`actors` have their seats; up to `most` may be there in all, wherever Ray finds room for the others."""
        self._pool, self._size, self._most = pool, len(actors), max(most, len(actors))
        self._each = [seat.bundle for seat in actors[0]] if actors else []
        self._seats = list(actors)
        self._groups: list[Any] = []

    def arguments(self) -> dict[str, Any]:
        """For `map_batches`; nothing but `ray_remote_args_fn` gives each actor of a pool a place of its own."""
        first = self._each[0]
        return {
            "num_cpus": first.cpus,
            "num_gpus": None if self._spread else first.gpus or None,
            "resources": dict(first.others) or None,
            "accelerator_type": None if self._spread else first.accelerator,
            "ray_remote_args_fn": self._next,
            "compute": ActorPoolStrategy(
                min_size=min(self._pool.crew.least, self._size),
                initial_size=self._size,
                max_size=self._most,
                max_tasks_in_flight_per_actor=self._pool.calls + 2,
                max_concurrent_calls_per_actor=self._pool.calls,
                enable_true_multi_threading=self._pool.calls > 1,
            ),
        }

    def leave(self) -> None:
        """Gives back what Ray would keep for actors that are not there any more."""
        while self._groups:
            ray.util.remove_placement_group(self._groups.pop())

    @property
    def _spread(self) -> bool:
        return len(self._each) > 1

    def _next(self) -> dict[str, Any]:
        """Called by Ray Data for each actor that it starts."""
        seats = self._seats.pop(0) if self._seats else tuple(Assignment(bundle, "") for bundle in self._each)
        if self._spread:
            return self._grouped(_one_by_one(seats))
        there = seats[0].node and NodeAffinitySchedulingStrategy(seats[0].node, soft=True, _spill_on_unavailable=True)
        return {"scheduling_strategy": there or "DEFAULT"}

    def _grouped(self, seats: Sequence[Assignment]) -> dict[str, Any]:
        """The engine is a program of its own that joins the cluster; on a node of several it must be told which."""
        group = ray.util.placement_group(
            [resources(seat.bundle) for seat in seats],
            strategy="PACK",
            bundle_label_selector=_only([seat.node for seat in seats], [node.name for node in cluster.nodes()]),
        )
        self._groups.append(group)
        return {
            "scheduling_strategy": PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True),
            "runtime_env": {"env_vars": {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}},
        }


def _one_by_one(stages: Sequence[Assignment]) -> list[Assignment]:
    """As vLLM wants them: a bundle per GPU. What else a stage takes is in its first."""
    return [
        Assignment(replace(bundle, gpus=1.0) if first else Bundle(0.0, 1.0, bundle.accelerator), node)
        for bundle, node in ((stage.bundle, stage.node) for stage in stages)
        for first in [True, *[False] * (round(bundle.gpus) - 1)]
    ]


def _only(seats: Sequence[str], living: Sequence[str]) -> list[dict[str, str]] | None:
    """For each bundle, its node or one that joins the cluster later; None where a node has died: then Ray may choose.

    Told by the nodes that it must not take: to its own it would be bound for ever, also when that has died.
    """
    if not set(seats) <= set(living):
        return None
    others = [",".join(node for node in living if node != seat) for seat in seats]
    return [{_NODE: f"!in({nodes})"} if nodes else {} for nodes in others]
