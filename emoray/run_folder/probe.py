"""Whether a run folder can be written, and is the same for every node."""

from __future__ import annotations

import os
import secrets

from emoray.run_folder.atomic_write import is_local
from emoray.run_folder.errors import StoreError, telling
from emoray.run_folder.folder import LOOK, MARK, PROBE, RunFolder


def probe(folder: RunFolder, *, need_mb: float = 256) -> None:
    """StoreError when a run could not be written here: no permission, no space. Makes the folder."""
    folder.create()
    _try_writing(folder)
    if not is_local(folder.fs):
        return
    with telling("look at", folder.where("")):
        disk = os.statvfs(folder.path())
    free_mb = disk.f_bavail * disk.f_frsize / 2**20
    if free_mb < need_mb:
        raise StoreError(
            f"only {free_mb:.0f} MB are free at {folder.where('')}, and {need_mb:.0f} MB are needed: "
            "free some, or choose another run folder"
        )


def write_probe(folder: RunFolder, *, held: bool = True) -> str:
    """Write something that every node must then see (`check_probe`); its name. `folder.delete` removes it.

    `held`: by who holds the lease, so that the next who does may remove it at once.
    """
    mark = f"{MARK if held else LOOK}{secrets.token_hex(8)}"
    folder.write_text(mark, "emoray was here\n")
    return mark


def check_probe(folder: RunFolder, mark: str, *, node: str) -> str | None:
    """None when this node sees the mark and can write beside it; else a sentence for the user."""
    try:
        if folder.read_bytes(mark) is None:
            return (
                f"node {node} does not see {folder.where('')} as the driver does: "
                "choose a run folder that all nodes share (NFS, s3://…)"
            )
        _try_writing(folder)
    except StoreError as wrong:
        return f"on node {node}: {wrong}"
    return None


def _try_writing(folder: RunFolder) -> None:
    name = f"{PROBE}{secrets.token_hex(8)}"
    folder.write_bytes(name, b"emoray\n")
    folder.delete(name)
