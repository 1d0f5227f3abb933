"""`emoray compact`: the many small files of a run become few."""

from __future__ import annotations

import argparse

from emoray.commands.options import absolute
from emoray.exit_codes import OK
from emoray.run_folder import manifest, recovery
from emoray.run_folder.compaction import compact
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import Lease
from emoray.run_folder.tabs import NOBODY, book


def compact_all(folder: RunFolder) -> str:
    """Turns the small files of every part into few; returns a line per part."""
    manifest.study(recovery.begun(folder), folder.shown)
    lines = []
    with Lease(folder):
        for part in folder.parts():
            before = len(part.files())
            book(part, ended=NOBODY)
            compact(part)
            lines.append(f"{part.relative}: {before} files are now {len(part.files())}")
    return "\n".join(lines)


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("run", metavar="RUN")


def _call(arguments: argparse.Namespace) -> int:
    print(compact_all(RunFolder(absolute(arguments.run))))
    return OK
