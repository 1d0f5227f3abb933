"""A small disk, and how to fill it: real, where this user may mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of its own; only root can have one (CI's containers are root's), others skip."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    if (done := subprocess.run(mount, capture_output=True)).returncode:
        pytest.skip(f"this user may mount nothing: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """With a file that takes all that is left."""
    with path.open("wb", buffering=0) as sink:
        try:
            while True:
                sink.write(bytes(1 << 16))
        except OSError:
            return
