"""`emoray compact`: the many small files of a run become few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emoray.run_folder import manifest, recovery
from emoray.run_folder.compaction import compact
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import Lease
from emoray.run_folder.tabs import book

if TYPE_CHECKING:  # Ray takes seconds to import: what is wrong, and what is waited for, is said before
    pass


def compact_all(folder: RunFolder) -> str:
    """Turns the small files of every part into few; returns a line per part."""
    manifest.study(recovery.kept(folder), folder.shown)
    lines = []
    with Lease(folder):
        for part in folder.parts():
            before = len(part.files())
            book(part)
            compact(part)
            lines.append(f"{part.relative}: {before} files are now {len(part.files())}")
    return "\n".join(lines)
