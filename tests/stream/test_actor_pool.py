"""A pool's actors on the seats that they were given, on a real cluster with logical GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from emoray.stream.actor_pool import _only

pytestmark = pytest.mark.cluster

PROGRAM = """
import json, os, sys, tempfile, time
from dataclasses import replace
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table
from emoray.stream import cluster
from emoray.scheduling.feeding import Pool
from emoray.scheduling.resources import Bundle, Demand, PoolSize
from emoray.scheduling.packing import FreeResources, seated
from emoray.stream.actor_pool import ActorPool

class Says:
    # who begins waits until all have begun: so all are busy until the pool has grown, however slow the machine
    def __init__(self, all_here, hall):
        self.all_here, self.hall = all_here, Path(hall)

    def __call__(self, batch):
        (self.hall / str(os.getpid())).touch()
        while len(list(self.hall.iterdir())) < self.all_here:
            time.sleep(0.05)
        group = ray.util.get_current_placement_group()
        nodes = placement_group_table(group)["bundles_to_node_id"] if group else {}
        stages = [nodes[bundle] for bundle in sorted(nodes)]
        here = {"pid": os.getpid(), "bundles": json.dumps(group.bundle_specs if group else None)}
        here |= {"stages": json.dumps(stages), "address": os.environ.get("RAY_ADDRESS", "")}
        return {name: [value] for name, value in here.items()}

def told(pool, most):
    grant = seated(Demand(pool.crew, {}), FreeResources(cluster.nodes()))
    staff = ActorPool(pool, grant.speakers, most)
    asked = ray.data.range(20, override_num_blocks=20)
    arguments = staff.arguments() | {"fn_constructor_args": (most, tempfile.mkdtemp(dir=sys.argv[1]))}
    said = asked.map_batches_internal(Says, batch_size=None, **arguments)
    said.context.autoscaling_config = replace(
        said.context.autoscaling_config, actor_pool_util_upscaling_threshold=1.0
    )
    rows = said.take_all()
    staff.leave()
    return rows

# which would itself wait for half a minute only, and a busy machine is no broken one
has = {"wait": False, "num_gpus": 3}
machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False} | has)
machines.add_node(num_cpus=1, **has)
ray.init(address=machines.address, log_to_driver=False, logging_level=40)
while ray.cluster_resources().get("GPU") != 6:
    time.sleep(0.05)
cluster.connect()
grown = told(Pool(PoolSize((Bundle(0.5, 1),), 1, 3), 1, 1), most=3)
spread = told(Pool(PoolSize((Bundle(0.5, 2), Bundle(0, 2))), 1, 1), most=1)
while ray.available_resources().get("GPU") != 6:
    time.sleep(0.05)
first, second, third, fourth = json.loads(spread[0]["stages"])
print("TOLD", json.dumps({
    "grown": len({row["pid"] for row in grown}),
    "spread": json.loads(spread[0]["bundles"]),
    "stages": [first == second, second == third, third == fourth],
    "here": spread[0]["address"] == machines.address,
}))
"""


def test_a_range_grows_while_all_are_busy_and_an_engine_over_nodes_has_a_bundle_per_gpu_which_it_gives_back(
    tmp_path: Path,
) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True)

    told = next((line for line in done.stdout.splitlines() if line.startswith("TOLD")), None)
    assert told, done.stderr[-3000:]
    assert json.loads(told.removeprefix("TOLD")) == {
        "grown": 3,
        "spread": [{"CPU": 0.5, "GPU": 1.0}, *[{"GPU": 1.0}] * 3],
        "stages": [True, False, True],  # left to itself, Ray fills the first node's three GPUs
        "here": True,  # the engine's own process joins the cluster whose GPUs it was given
    }


def test_the_stages_of_an_engine_keep_to_their_nodes_while_these_live_and_may_move_to_one_that_comes_later() -> None:
    seats = ["a", "a", "b"]

    assert _only(seats, ["a", "b", "c"]) == [
        {"ray.io/node-id": "!in(b,c)"},
        {"ray.io/node-id": "!in(b,c)"},
        {"ray.io/node-id": "!in(a,c)"},
    ]
    assert _only(seats, ["a", "c"]) is None
    assert _only(["a", "a"], ["a"]) == [{}, {}]
