"""What goes wrong with a run folder, in one sentence each."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from emoray.errors import EmorayError
from emoray.reasons import on_one_line


class StoreError(EmorayError):
    """One sentence: what is wrong, where, and what to do."""


class NoSpaceOrPermission(StoreError):
    """No space or no permission: trying again helps nobody before somebody has changed that."""


class Deleted(NoSpaceOrPermission):
    """The run folder is not there any more, and nobody makes it anew but a run that begins."""


class BrokenManifest(StoreError):
    """A run.json that says nothing: empty, cut, or no object."""


class FileVanished(Exception):
    """A file that was listed was merged meanwhile, or could not be read for a moment. Look again."""


class CorruptFile(Exception):
    """A file that is no whole file of ours: cut, empty, corrupt or foreign."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name


@contextmanager
def telling(doing: str, where: str) -> Iterator[None]:
    """Turns the errors of disks and networks into StoreError, one sentence each."""
    try:
        yield
    except (OSError, pa.ArrowException) as wrong:
        raise _complaint(doing, where, wrong) from wrong


def _complaint(doing: str, where: str, wrong: BaseException) -> StoreError:
    match getattr(wrong, "errno", None):
        case errno.ENOSPC | errno.EDQUOT:
            return NoSpaceOrPermission(
                f"there is no space left to {doing} {where}: free some and run the same command again, "
                "everything written so far is kept"
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            why = on_one_line(wrong)
            return NoSpaceOrPermission(
                f"no permission to {doing} {where}: change it, or choose another run folder ({why})"
            )
        case _:
            return StoreError(f"cannot {doing} {where}: {on_one_line(wrong)}")


def deleted(shown: str) -> str:
    """What to say of a run folder that has gone under its run."""
    return (
        f"{shown} was deleted or moved away while this run wrote to it, so nothing more is asked: put it back and run "
        "the same command again, which otherwise begins anew"
    )
