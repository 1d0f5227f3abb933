"""`emoray compact`: the many small files of a run become few."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

from emoray.commands.options import RUN, absolute
from emoray.exit_codes import OK
from emoray.plurals import be, count
from emoray.run_folder import manifest, recovery
from emoray.run_folder.compaction import compact
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import Lease
from emoray.run_folder.tabs import NOBODY, book


@dataclass(frozen=True)
class Compacted:
    """One part of a run, and how many files it had and has."""

    part: str
    before: int
    files: int

    def __str__(self) -> str:
        return f"{self.part}: {count(self.before, 'file')} {be(self.before)} now {self.files:,}"


def compact_all(folder: RunFolder) -> list[Compacted]:
    """Turns the small files of every part into few."""
    manifest.study(recovery.begun(folder), folder.shown)
    found = []
    with Lease(folder):
        for part in folder.parts():
            before = len(part.files())
            book(part, ended=NOBODY)
            compact(part)
            found.append(Compacted(part.relative, before, len(part.files())))
    return found


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("run", metavar="RUN", help=RUN)
    own.add_argument("--json", action="store_true", help="for programs")


def _call(arguments: argparse.Namespace) -> int:
    found = compact_all(RunFolder(absolute(arguments.run)))
    print(json.dumps([asdict(one) for one in found], indent=2) if arguments.json else "\n".join(map(str, found)))
    return OK
