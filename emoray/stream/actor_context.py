"""What the actors of a lane have in common: where they write, whom they tell, and who they are."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import date
from typing import Any, NamedTuple

import pyarrow as pa
import ray

from emoray.hosts.access import ProviderAccess
from emoray.run_folder import columns
from emoray.run_folder.census import owed_rows
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.manifest import day as day_of
from emoray.run_folder.manifest import read as read_manifest
from emoray.run_folder.partition import Partition
from emoray.run_folder.probe import check_probe
from emoray.run_folder.tabs import PartTab
from emoray.stream.lane_state import LaneCounts, Verdict

COMMIT_S = 0.4  # the most a commit waits: with a slow disk's own time, an answer is durable within a second


class Work(NamedTuple):
    """Where the actors of a lane write, and whom they tell."""

    run: str  # URI of the run folder
    model: str
    attempt: str  # which `run` command this is; part of every file name it writes
    ledger: Any
    access: ProviderAccess | None = None  # of a hosted model
    mark: str = ""  # what the driver left in the run folder, for every node to see
    umask: int = 0o077  # of the driver: the rights of what is written are not those of Ray's processes


def wait_for(kept: Sequence[Future[None]]) -> None:
    """Until it is known of each whether it is durable; raises what the first failed by."""
    failures = [durable.exception() for durable in kept]
    for wrong in filter(None, failures):
        raise wrong


def actor_id() -> str:
    """The same for an actor and for what Ray starts in its place."""
    return str(ray.get_runtime_context().get_actor_id())


def access_of_actor(work: Work, answers: Callable[[LaneCounts], int], tab: PartTab) -> ProviderAccess | None:
    """Those of the lane, with what its ledger knows of answers, and the tab of this actor."""
    ledger = work.ledger
    return work.access and replace(
        work.access, had_answers=lambda: answers(ray.get(ledger.tally.remote())) > 0, tab=tab
    )


def day_of_run(work: Work) -> date | None:
    """The day on which the run began."""
    return day_of(read_manifest(RunFolder(work.run)))


def check_node(work: Work) -> None:
    """StoreError where this node, which may have joined late, does not see the run folder as the driver does: what
    became durable here would be lost with it.
    """
    node = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    if sentence := check_probe(RunFolder(work.run), work.mark, node=node):
        raise StoreError(sentence)


def block_name(block: pa.Table) -> str:
    """Its first key: the same when Ray makes the block anew."""
    name: str = block["key"][0].as_py()
    return name


def still_owed(block: pa.Table, verdict: Verdict, part: Partition) -> pa.Table:
    """The block, less what is durable already where Ray runs it again (a killed actor, a lost node)."""
    match verdict:
        case Verdict.BEGIN:
            return block
        case Verdict.RESUME:
            return owed_rows(block, part.settled())
        case Verdict.STOP:
            return block.slice(0, 0)


def counts_of(table: pa.Table) -> dict[str, Any]:
    kinds = Counter(table["outcome"].to_pylist())
    return {"answered": kinds.pop(columns.ANSWERED, 0), "failed": dict(kinds)}


def writer_name(work: Work) -> str:
    return f"{work.attempt}-{ray.get_runtime_context().get_actor_id()[:12]}"


def is_across_nodes() -> bool:
    """Whether the actor has a place on several nodes, for its engine."""
    return ray.util.get_current_placement_group() is not None
