"""What a lane can know of the cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.experimental.internal_kv import _internal_kv_put

from emoray.errors import UserError
from emoray.run_folder.spill import Spill, TakenIn
from emoray.scheduling import feeding
from emoray.scheduling.resources import Bundle
from emoray.spec.models import Scripted
from emoray.stream import cluster
from tests import runs
from tests.stream.conftest import study

pytestmark = pytest.mark.cluster

GPU = Bundle(1, 1)
HUGE = study("- {name: huge, host: vllm, id: x, tensor_parallel_size: 8}").spec


def test_the_nodes_are_known_by_what_they_have(two_cpus: str) -> None:
    (node,) = cluster.nodes()

    assert (node.cpus, node.gpus, dict(node.others)) == (2, 0, {"slot": 1})
    assert len(node.name) == 56  # Ray's id, by which an actor is sent there


def test_only_a_cluster_that_grows_may_have_tomorrow_what_it_has_not_today(two_cpus: str) -> None:
    with pytest.raises(UserError, match="model 'huge' needs 1 CPU and 8 GPUs, but the cluster has 2 CPUs"):
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


@pytest.mark.parametrize(("in_flight", "latency_s"), [(24, 0.5), (1, 2.0), (256, 0.1), (64, 15.0), (512, 0.0)])
def test_a_scripted_speaker_is_given_enough_to_hold_all_that_it_says_while_as_much_waits_for_the_disk(
    in_flight: int, latency_s: float
) -> None:
    pool = feeding.speakers(Scripted(name="a", host="scripted", in_flight=in_flight, latency_s=latency_s))
    assert pool.calls * pool.block_rows >= 2 * in_flight
    in_a_while = in_flight * 0.1 / latency_s if latency_s else 4000
    assert pool.block_rows <= max(1, in_flight // 8, in_a_while)  # no block waits long for its last answer


def test_rows_are_looked_for_where_a_node_puts_them_aside_and_where_this_process_would(
    two_cpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.begun(tmp_path / "run")
    Spill(folder, "attempt-1").keep("answers/model_folder=m-m/1.parquet", b"x")  # in the node's place
    monkeypatch.setenv("EMORAY_SPILL_DIR", str(tmp_path / "mine"))
    Spill(folder, "attempt-1").keep("answers/model_folder=m-m/2.parquet", b"x")
    assert cluster.take_in(folder, ["attempt-1"]) == TakenIn(files=2)
    assert sorted(info.base_name for info in folder.infos("answers/model_folder=m-m")) == ["1.parquet", "2.parquet"]


def test_the_umask_is_looked_at_and_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")
            assert cluster.current_umask() == 0o027
    finally:
        os.umask(before)
