"""The processes of one run on a cluster: found by what Ray knows of its job, and killed where they are."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import state  # the public state API needs a dashboard
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from emoray.processes import command_of, descendants
from emoray.rehearsal.heartbeat import Heartbeat, Stall
from emoray.stream import cluster

_PATIENCE_S = 90.0  # on a busy machine an actor takes half a minute to start
_SLOW_S = 5.0  # until a reaper that was patient could say so
_STARTING_S = 90.0


@dataclass(frozen=True)
class Process:
    """An actor's process."""

    node: str
    pid: int
    works: bool  # it asks or reads: not one of those that only watch


class ProcessKiller:
    """Finds and kills the processes of the job that a `run` command began; touches no other job's."""

    def __init__(self, address: str, workers: int = 0) -> None:
        """Joins the cluster, and waits until it has so many workers."""
        cluster.connect(address)
        deadline = time.monotonic() + _STARTING_S
        while len(self.workers()) < workers and time.monotonic() < deadline:
            time.sleep(0.1)
        self._reapers: dict[str, Any] = {}
        self._stalls: dict[str, list[Stall]] = {}
        for node in self._nodes():
            self._reaper(node)

    def leave(self) -> None:
        """Leaves the cluster; it must still be there, or Ray looks for it for a minute before this process may end."""
        ray.shutdown()

    def actors(self, driver: int, of: str = "") -> list[Process]:
        """The living actors of the job of the driver with this pid, whose class has this word in its name."""
        jobs = {job["JobID"] for job in state.jobs() if job["DriverPid"] == driver}
        alive = set(self._nodes())
        for node in alive:
            self._reaper(node)  # a new one has time to start before it is needed
        found = [actor for actor in state.actors().values() if actor["JobID"] in jobs and actor["State"] == "ALIVE"]
        return [
            Process(actor["Address"]["NodeID"], actor["Pid"], "MapBatches" in actor["ActorClassName"])
            for actor in found
            if of in actor["ActorClassName"] and actor["Address"]["NodeID"] in alive
        ]

    def kill(self, victim: Process) -> bool:
        """Whether it was there to be killed; returns when it is dead."""
        return bool(self._told(victim.node, "kill", victim.pid, "ray::"))

    def kill_child(self, victim: Process, of: str) -> bool:
        """Kills a process that an actor started, known by a word of its command; returns when the actor is dead too."""
        child = next(iter(self._told(victim.node, "children", victim.pid, of) or ()), None)
        if child is None or not self._told(victim.node, "kill", child, of):
            return False
        return bool(self._told(victim.node, "gone", victim.pid))

    def kill_node(self, node: str) -> bool:
        """A node's raylet and everything that it started; returns when the cluster knows."""
        self._ask_for_stalls(node)
        with suppress(RayError):
            ray.get(self._reaper(node).fell.remote(), timeout=_PATIENCE_S)
        deadline = time.monotonic() + _PATIENCE_S
        while node in self._nodes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        self._reapers.pop(node, None)
        return True

    def wait_until_gone(self, actors: list[Process]) -> None:
        """Until the processes of these actors are dead; Ray calls an actor dead a little before."""
        for node in {one.node for one in actors}:
            self._told(node, "gone", *(one.pid for one in actors if one.node == node))

    def stalls(self) -> list[list[Stall]]:
        """When each node stood still since it was joined, by the monotonic clock here; of a dead one until its end."""
        for node in self._nodes():
            self._ask_for_stalls(node)
        return list(self._stalls.values())

    def _ask_for_stalls(self, node: str) -> None:
        asked = time.monotonic()
        told = self._told(node, "stalls")
        if told is None:
            return
        now_there, stalls = told
        ahead_s = now_there - (asked + time.monotonic()) / 2  # each machine counts from its own start
        self._stalls[node] = [Stall(began - ahead_s, ended - ahead_s) for began, ended in stalls]

    def workers(self) -> list[str]:
        """The living nodes that are neither the head nor the one that a driver of this machine joins."""
        mine = ray.get_runtime_context().get_node_id()
        heads = {node["NodeID"] for node in ray.nodes() if "node:__internal_head__" in node["Resources"]}
        return [node for node in self._nodes() if node != mine and node not in heads]

    def _nodes(self) -> list[str]:
        return [node["NodeID"] for node in ray.nodes() if node["Alive"]]

    def _told(self, node: str, what: str, *arguments: Any) -> Any:
        with suppress(RayError, GetTimeoutError):
            return ray.get(getattr(self._reaper(node), what).remote(*arguments), timeout=_PATIENCE_S + _SLOW_S)
        self._reapers.pop(node, None)
        return None

    def _reaper(self, node: str) -> Any:
        if node not in self._reapers:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            self._reapers[node] = ray.remote(NodeAgent).options(num_cpus=0, scheduling_strategy=there).remote()
        return self._reapers[node]


class NodeAgent:
    """Kills on one node (Linux), and knows when that stood still: it is as nice as the actors that are killed."""

    def __init__(self) -> None:
        self._heartbeat = Heartbeat().start()

    def stalls(self) -> tuple[float, list[Stall]]:
        """With the time on this machine's monotonic clock."""
        return time.monotonic(), self._heartbeat.stalls

    def kill(self, pid: int, title: str) -> bool:
        """False where there is no such process, or another one has its number by now."""
        if title not in command_of(pid):
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.gone(pid)

    def gone(self, *pids: int) -> bool:
        """Whether they all are; waits for it."""
        deadline = time.monotonic() + _PATIENCE_S
        while any(map(command_of, pids)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def children(self, pid: int, of: str) -> list[int]:
        return [child for child in descendants(pid) if of in command_of(child)]

    def fell(self) -> None:
        """Ends with this process itself."""
        raylet, me = os.getppid(), os.getpid()
        if "raylet" not in command_of(raylet):
            raise RuntimeError("a worker's parent is no raylet here")
        for pid in [raylet, *(pid for pid in descendants(raylet) if pid != me), me]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
