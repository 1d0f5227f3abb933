"""What a person is told when an attempt has ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from emoray.commands.progress import by_kind
from emoray.exit_codes import INTERRUPTED, OK, OWED
from emoray.plurals import be, count
from emoray.run_folder.errors import Deleted, StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.subset import failure_texts, unread, unread_texts
from emoray.spec.models import Hosted, ModelEntry, Vllm
from emoray.spec.study import Study
from emoray.study.outcomes import FailureKind
from emoray.study.scoring import UNREADABLE

if TYPE_CHECKING:  # Ray takes seconds to import: what is wrong, and what is waited for, is said before
    from emoray.stream.driver import RunDriver
    from emoray.stream.lane import LaneEnd


def say_cut_off(wrong: StoreError, ends: Sequence[LaneEnd], *, stopped: bool, command: str) -> int:
    """Of an attempt that could not be written down to its end: why, and what became of what its lanes received."""
    print(f"emoray: {wrong}", file=sys.stderr)
    for end in ends:
        if end.tally.unwritten:
            print(f"{end.model}: {end.tally.unwritten.removeprefix('; ')}", file=sys.stderr)
    print(f"resume with: {command}", file=sys.stderr)
    return INTERRUPTED if stopped and not isinstance(wrong, Deleted) else OWED


def say_end(
    driver: RunDriver,
    ends: Sequence[LaneEnd],
    left: Mapping[str, int],
    folder: RunFolder,
    study: Study,
    command: str,
) -> int:
    """What is still owed, to stderr, and the exit code."""
    for end in ends:
        if end.error:
            print(f"{end.model}: {end.error}", file=sys.stderr)
        elif end.tally.stopping and not driver.stopping:
            print(f"{end.model}: asked no more: {end.tally.stopping}", file=sys.stderr)
    for model, cells in left.items():
        if cells:
            failed = folder.answers(model).counts().failed
            kinds = f" ({by_kind(failed)})" if failed else ""
            print(f"{model}: {count(cells, 'cell')} {be(cells)} still owed{kinds}", file=sys.stderr)
            for kind, text in failure_texts(folder.answers(model)).items() if failed else ():
                print(f"{model}: {kind}, for example: {text}", file=sys.stderr)
            for sentence in [*_alike(study.spec.model(model), failed), *_not_read(folder, study, model)]:
                print(f"{model}: {sentence}", file=sys.stderr)
    if not any(left.values()) and not any(end.error for end in ends):
        return OK
    print(f"resume with: {command}", file=sys.stderr)
    return INTERRUPTED if driver.stopping else OWED


def _not_read(folder: RunFolder, study: Study, model: str) -> Iterator[str]:
    """Which readers could not read some of the answers, and why."""
    for name in (reader.name for reader in study.spec.readers):
        part = folder.rows(name, model)
        if kinds := unread(part):
            hints = "".join(hint for kind, hint in _READS_ALIKE.items() if kind in kinds)
            yield f"reader {name} could not read {by_kind(kinds)}{hints}"
            yield from (f"{kind}, for example: {text}" for kind, text in unread_texts(part).items())


_FITS = "shorten the template or lower max_tokens"
_MORE_ROOM = ", or give the engine more room (max_model_len)"
_SPEAKS = "raise temperature or max_tokens, or change the template"
_READS_ALIKE = {
    "unparsed": "; a judge that says the same each time will fail alike: change its rubric, structured or sampling",
    UNREADABLE: "; a network that fails on a text will fail alike: lower its max_tokens, or take another reader",
}


def _alike(entry: ModelEntry, failed: Mapping[str, int]) -> list[str]:
    """What no further run will mend: on a model of one's own the cell's seed decides, so it would fail alike."""
    if isinstance(entry, Hosted):
        return []
    fits = f"{_FITS}{_MORE_ROOM}" if isinstance(entry, Vllm) else _FITS  # no other host has such a setting
    hints = {FailureKind.CONTEXT_LENGTH: fits, FailureKind.EMPTY: _SPEAKS}
    return [
        f"{failed[kind]:,} {kind} will fail alike on every run: {hint}"
        for kind, hint in hints.items()
        if failed.get(kind)
    ]
