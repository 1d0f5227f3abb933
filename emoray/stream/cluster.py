"""The cluster as a lane sees it: how to reach it, what it holds, and what a spec needs of it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.autoscaler.sdk import request_resources
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from emoray.errors import UserError
from emoray.run_folder import spill
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.probe import check_probe, probe, write_probe
from emoray.run_folder.spill import TakenIn
from emoray.scheduling.refusal import refusal
from emoray.scheduling.resources import Bundle, Node
from emoray.spec.document import Spec
from emoray.spec.models import ModelEntry
from emoray.stream.cause import sentence
from emoray.stream.entrance import enter

_ACCELERATOR = "accelerator_type:"
_AGAIN_S = 5.0  # as often as an autoscaler looks
_RAYS_OWN = {"CPU", "GPU", "memory", "object_store_memory"}


Capacity = Callable[[], Sequence[Node]]  # what the cluster has now


def check(spec: Spec, model: ModelEntry | None, nodes: Sequence[Node]) -> None:
    """UserError where a lane can never run: Ray itself would wait for it for ever, silently.

    A cluster that grows may have tomorrow what it has not today: there a lane waits, and `status` says for what.
    """
    sentence = refusal(model, spec.readers, nodes)
    if sentence and not grows():
        raise UserError(sentence)


def check_folder(folder: RunFolder) -> None:
    """StoreError where the run folder cannot be written, or a node of the cluster does not see it."""
    probe(folder)
    nodes = _alive()
    if len(nodes) == 1:
        return
    mark = write_probe(folder, held=False)
    try:
        look = ray.remote(_look)
        looks = [
            look.options(num_cpus=0, scheduling_strategy=_on(node)).remote(folder, mark, _name(node)) for node in nodes
        ]
        missing = [told for told in ray.get(looks) if told]
    except RayError as wrong:  # a node that has just died
        raise StoreError(f"a node could not look for the run folder: {sentence(wrong)}") from wrong
    finally:
        folder.delete(mark)
    if missing:
        raise StoreError(missing[0])


def take_in(folder: RunFolder, attempts: Collection[str]) -> TakenIn:
    """Moves into the run folder what these attempts have put aside on any node, or on this machine.

    For a run that holds the lease. Which places there are is a matter of the environment, and that of a cluster's node
    is not ours, also where there is but one.
    """
    here = spill.take_in(folder, attempts)
    take = ray.remote(_take_in)
    arguments = current_umask(), folder, frozenset(attempts)
    taken = [take.options(num_cpus=0, scheduling_strategy=_on(node)).remote(*arguments) for node in _alive()]
    return sum(map(_taken, taken), here)


def _take_in(umask: int, folder: RunFolder, attempts: Collection[str]) -> TakenIn:
    """With the rights that the driver's own files have."""
    os.umask(umask)
    return spill.take_in(folder, attempts)


def current_umask() -> int:
    """Of this process; where the system does not tell (Linux does), there is no way to look but to set it."""
    with suppress(OSError, StopIteration, LookupError, ValueError):
        told = Path("/proc/self/status").read_text(errors="replace").splitlines()
        return int(next(line for line in told if line.startswith("Umask:")).split()[1], 8)
    found = os.umask(0o077)
    os.umask(found)
    return found


def _taken(there: Any) -> TakenIn:
    try:
        taken: TakenIn = ray.get(there)
    except RayError as wrong:  # a node that has just died
        return TakenIn(wrong=sentence(wrong))
    return taken


def _look(folder: RunFolder, mark: str, node: str) -> str | None:
    return check_probe(folder, mark, node=node)


def _on(node: Mapping[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def connect(address: str | None = None, *, verbose: bool = False) -> Capacity:
    """Joins the cluster at an address (or in RAY_ADDRESS), or starts one on this machine; returns how to look at it.

    UserError where there is none, it cannot be started, or its nodes import another emoray.
    """
    level = logging.INFO if verbose else logging.CRITICAL  # what goes wrong is said by the lane that it ends
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        enter(address, log_to_driver=verbose, logging_level=level)
    if not verbose:
        # Ray tells of dead nodes on stdout, among our results, even where log_to_driver is False
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    logging.getLogger("ray.data").setLevel(level)
    return nodes


def nodes() -> list[Node]:
    """The living nodes of the cluster, by what they have."""
    return [_node(node) for node in _alive()]


def this_machine() -> Node:
    """What a cluster that is started here would have, as Ray counts it; starts none."""
    manager = get_accelerator_manager_for_resource("GPU")
    gpus = manager.get_current_node_num_accelerators() if manager else 0
    visible = manager.get_current_process_visible_accelerator_ids() if manager else None
    return Node(float(os.cpu_count() or 1), float(gpus if visible is None else min(gpus, len(visible))))


def _alive() -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _node(node: Mapping[str, Any]) -> Node:
    has: dict[str, float] = node["Resources"]
    kinds = [name.partition(":")[2] for name in has if name.startswith(_ACCELERATOR)]
    others = {name: amount for name, amount in has.items() if name not in _RAYS_OWN and ":" not in name}
    return Node(
        has.get("CPU", 0.0), has.get("GPU", 0.0), kinds[0] if kinds else None, others, node["NodeID"], _name(node)
    )


def grows() -> bool:
    """Whether an autoscaler can add nodes. Ray runs one on every head; without node types it only looks on."""
    told = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report = (json.loads(told).get("autoscaler_report") or {}) if told else {}
    kinds = [*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {}), *_node_groups()]
    return any(not kind.startswith("node_") for kind in kinds)  # a node without a type is called by its id


def _node_groups() -> list[str]:
    """What the second autoscaler calls its nodes."""
    if not is_autoscaler_v2():
        return []
    found = get_cluster_status(ray.get_runtime_context().gcs_address)
    return [node.ray_node_type_name for node in [*found.active_nodes, *found.idle_nodes]]


def want(bundles: Sequence[Bundle]) -> None:
    """Tells the autoscaler, where there is one, what the cluster should hold."""
    if grows():
        request_resources(bundles=[resources(bundle) for bundle in bundles])


class Wish:
    """What a run wants the cluster to hold. A cluster has a single wish: it outlives the driver that made it, so the
    first is always told, also that nothing is wanted; and others overwrite it (another run; Ray Data, every 20 s), so
    while something is wanted it is told again.
    """

    def __init__(self, tell: Callable[[Sequence[Bundle]], None] = want) -> None:
        self._tell = tell
        self._told: tuple[Sequence[Bundle], float] | None = None  # and when

    def hold(self, bundles: Sequence[Bundle], now: float) -> None:
        told, when = self._told or (None, now)
        if bundles != told or (bundles and now - when >= _AGAIN_S):
            self._tell(bundles)
            self._told = bundles, now


def resources(bundle: Bundle) -> dict[str, float]:
    """A bundle in Ray's names."""
    kind = {f"{_ACCELERATOR}{bundle.accelerator}": 0.001} if bundle.accelerator and bundle.gpus else {}
    amounts = {"CPU": bundle.cpus, "GPU": bundle.gpus, **bundle.others, **kind}
    return {name: amount for name, amount in amounts.items() if amount}
