"""Nodes with addresses of their own on one machine: a bridge, and network namespaces that hang on it (Linux, root)."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from emoray.rehearsal.local_cluster import Place


@contextmanager
def networks(count: int) -> Iterator[list[Place]]:
    """Where so many nodes may live: the first on the bridge, in this namespace, the others in their own.

    None where this machine does not let us make namespaces.
    """
    mark = secrets.token_hex(3)
    bridge, spaces = f"emo{mark}", [f"emo{mark}-{number}" for number in range(1, count)]
    subnet = f"10.{200 + int(mark[:2], 16) % 50}.{int(mark[2:4], 16)}"
    try:
        yield _made(bridge, spaces, subnet) if _may() else []
    finally:
        for space in spaces:
            _quietly("netns", "del", space)
        _quietly("link", "del", bridge)


def _made(bridge: str, spaces: list[str], subnet: str) -> list[Place]:
    _ip("link", "add", bridge, "type", "bridge")
    _ip("addr", "add", f"{subnet}.1/24", "dev", bridge)
    _ip("link", "set", bridge, "up")
    places = [Place(f"{subnet}.1")]
    for number, space in enumerate(spaces, start=2):
        _ip("netns", "add", space)
        _ip("link", "add", f"{bridge}v{number}", "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", f"{bridge}v{number}", "master", bridge, "up")
        _ip("-n", space, "addr", "add", f"{subnet}.{number}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", space, "link", "set", device, "up")
        places.append(Place(f"{subnet}.{number}", ("ip", "netns", "exec", space)))
    return places


def _may() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    space = f"emo{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", space], capture_output=True).returncode == 0
    _quietly("netns", "del", space)
    return made


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _quietly(*words: str) -> None:
    with suppress(subprocess.CalledProcessError, FileNotFoundError):
        _ip(*words)
