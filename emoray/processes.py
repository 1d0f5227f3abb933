"""The processes of this machine, by what the kernel tells of them (Linux)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def command_of(pid: int) -> str:
    """What a process was started as; "" where there is none, or only its remains (Linux)."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started (Linux)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(pid, ()))
    for one in found:  # grows as it goes
        found += children.get(one, ())
    return found
