"""Waits until a Ray cluster has so many nodes: python jobs/await_nodes.py COUNT [SECONDS], the cluster in RAY_ADDRESS.

A run refuses at once what can never fit, so it must not begin while the nodes are still arriving.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress

import ray

_LOOK_S = 0.5


def main(count: int, patience_s: float = 300.0) -> int:
    """0 when they are there, 2 when time is up."""
    deadline, there = time.monotonic() + patience_s, 0
    while time.monotonic() < deadline:
        with suppress(ConnectionError):
            there = _nodes()
        if there >= count:
            return 0
        time.sleep(_LOOK_S)
    print(f"await_nodes: {there} of {count} nodes came within {patience_s:g} s", file=sys.stderr)
    return 2


def _nodes() -> int:
    if not ray.is_initialized():
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    return sum(1 for node in ray.nodes() if node["Alive"])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *map(float, sys.argv[2:3])))
