"""The actors of a pool in Ray's words, each on the node that it was given.

A node is asked for softly: an actor whose node has died, or was filled by somebody else's job, starts on another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.data import ActorPoolStrategy
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from emoray.stream.cluster import Pool, resources
from emoray.stream.placement import Actor, Bundle


class Staff:
    """The actors of one pool, for one Ray Data execution."""

    def __init__(self, pool: Pool, actors: Sequence[Actor], most: int) -> None:
        """`actors` have their seats; up to `most` may be there in all, wherever Ray finds room for the others."""
        self._pool, self._size, self._most = pool, len(actors), max(most, len(actors))
        self._each = [seat.bundle for seat in actors[0]] if actors else []
        self._seats = [actor[0].node for actor in actors]
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
        if self._spread:
            group = ray.util.placement_group([resources(gpu) for gpu in _one_by_one(self._each)], strategy="PACK")
            self._groups.append(group)
            strategy = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)
            return {"scheduling_strategy": strategy}
        node = self._seats.pop(0) if self._seats else ""
        there = node and NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
        return {"scheduling_strategy": there or "DEFAULT"}


def _one_by_one(stages: Sequence[Bundle]) -> list[Bundle]:
    """As vLLM wants them: a bundle per GPU. What else a stage takes is in its first."""
    return [
        replace(stage, gpus=1.0) if first else Bundle(0.0, 1.0, stage.accelerator)
        for stage in stages
        for first in [True, *[False] * (round(stage.gpus) - 1)]
    ]
