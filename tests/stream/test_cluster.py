"""What a lane can know of the cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.experimental.internal_kv import _internal_kv_put

from emoray.spec import SpecError
from emoray.stream import cluster
from emoray.stream.placement import Bundle
from tests.stream.conftest import study

pytestmark = pytest.mark.cluster

GPU = Bundle(1, 1)
HUGE = study("- {name: huge, host: vllm, id: x, tensor_parallel_size: 8}").spec


def test_the_nodes_are_known_by_what_they_have(two_cpus: str) -> None:
    (node,) = cluster.nodes()

    assert (node.cpus, node.gpus, dict(node.others)) == (2, 0, {"slot": 1})
    assert len(node.name) == 56  # Ray's id, by which an actor is sent there


def test_only_a_cluster_that_grows_may_have_tomorrow_what_it_has_not_today(two_cpus: str) -> None:
    with pytest.raises(SpecError, match="model 'huge' needs 1 CPUs and 8 GPUs, but the cluster has 2 CPUs"):
        cluster.check(HUGE, HUGE.models[0], cluster.nodes())

    assert any(_grows_with("small-gpu") for _ in range(3))  # Ray's monitor writes the truth there every few seconds
    assert not any(_grows_with(f"node_{node.name}") for node in cluster.nodes())


def test_what_is_wanted_is_told_again_and_again_and_that_nothing_is_wanted_once() -> None:
    """Ray Data's own autoscaler, and every other run, overwrite the one wish that a cluster has."""
    told: list[tuple[float, Sequence[Bundle]]] = []
    now = 0.0
    wish = cluster.Wish(lambda bundles: told.append((now, bundles)))
    for now, bundles in [(0.0, []), (9.0, []), (10.0, [GPU]), (14.0, [GPU]), (15.0, [GPU]), (16.0, []), (99.0, [])]:
        wish.hold(bundles, now)

    assert told == [(0.0, []), (10.0, [GPU]), (15.0, [GPU]), (16.0, [])]


def _grows_with(node_type: str) -> bool:
    told = {"autoscaler_report": {"active_nodes": {node_type: 1}, "idle_nodes": None}}
    _internal_kv_put(DEBUG_AUTOSCALING_STATUS, json.dumps(told), overwrite=True)
    return cluster.grows()
