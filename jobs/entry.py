"""What the entry scripts have in common: a command line of emoray's, as the driver of a Ray job.

The driver stands in a folder that Ray unpacked for the job and deletes after it: nothing may be written beside it.
It may also be the second driver of its run, on another machine than the first: the lease of a driver that died with
its machine is waited for, and a driver that lives is left alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the job's working folder, where emoray lies

from emoray.exit_codes import WRONG

CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for the driver of a job, and for nobody else
_LOOK_S = 2.0
_INSTALL = "start the cluster from cluster/Dockerfile, or submit with --install (cluster/README.md)"
_SHARED = "give a place that outlasts it and that all nodes reach, such as s3://bucket/run or an absolute path on NFS"


def enter(command: str, words: Sequence[str]) -> int:
    """`emoray COMMAND WORDS…`; returns its exit code."""
    try:
        from emoray.commands.cli import main
    except ModuleNotFoundError as missing:
        print(f"emoray: {sys.executable} has no module {missing.name}: {_INSTALL}", file=sys.stderr)
        return WRONG
    folder = _folder(command, words)
    if CONFIG in os.environ and (wrong := _lost_after(command, folder)):
        print(f"emoray: {wrong}: {_SHARED}", file=sys.stderr)
        return WRONG
    if folder is not None and command != "report":
        outlast(folder)
    return main([command, *words])


def _lost_after(command: str, folder: str | None) -> str | None:
    """Why what a job writes would be gone after it; None where it stays."""
    if folder is None:
        return "a job needs --out" if command == "run" else None
    return None if lasting(folder) else f"{folder} lies in the job's own folder, which is deleted after it"


def lasting(folder: str) -> bool:
    """Whether a run folder means the same place on every node, and after the job."""
    return "://" in folder or Path(folder).is_absolute()


def _folder(command: str, words: Sequence[str]) -> str | None:
    """The folder that a command line names for what it writes; everything else is for emoray's own parser."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--out")
    parser.add_argument("first", nargs="?")
    try:
        found, _ = parser.parse_known_args(list(words))
    except argparse.ArgumentError:
        return None
    out: str | None = found.first if command == "score" else found.out
    return out


def outlast(folder: str, clock: Callable[[], float] = time.time, pause: Callable[[float], object] = time.sleep) -> None:
    """Returns when nobody holds the folder, or when its holder renews the lease, which the dead do not."""
    from emoray.run_folder.errors import StoreError
    from emoray.run_folder.folder import RunFolder
    from emoray.run_folder.lease import holder

    try:
        first = holder(RunFolder(folder), clock())
        if first is not None:
            print(
                f"waiting for the lease of process {first.pid} on {first.host}: it died, or will renew", file=sys.stderr
            )
        while first is not None and holder(RunFolder(folder), clock()) == first:
            pause(_LOOK_S)
    except StoreError:
        return  # the command finds the same, and says it
