"""A manifest for a folder that has lost its own, from a spec and from what the folder's answers tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow.compute as pc

from emoray.errors import UserError
from emoray.run_folder import manifest
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.run_json import Attempt, Json, Manifest
from emoray.spec.study import Study

_WRITER = re.compile(r"\d{8}T\d{6}\.\d{6}-(?P<stamp>\d{8}T\d{6})_(?P<unique>[0-9a-f]{6})_")  # of a journal's file
_LOST = "its record was lost with run.json"


def has_answers(folder: RunFolder) -> bool:
    """Whether there is anything that a manifest should tell what it is."""
    return any(part.files() for part in folder.parts())


def kept(folder: RunFolder) -> Manifest | None:
    """The manifest; None in no run folder. UserError where it is odd; or not there and there are answers, and so there
    was one.
    """
    found = manifest.read(folder)
    if found is None and has_answers(folder):
        raise UserError(
            f"{folder.shown} holds answers and no run.json, which says to what they are answers; put it back, or run "
            "their spec once more with --extend, which makes a new one"
        )
    return found


def begun(folder: RunFolder) -> Manifest:
    """The manifest of a run folder; UserError where it is none, and as of `kept`."""
    if (found := kept(folder)) is None:
        raise UserError(
            f"{folder.shown}: is no run folder (it has no run.json); give the folder that `emoray run` wrote"
        )
    return found


def rebuilt(folder: RunFolder, study: Study) -> Manifest:
    """As the spec has it; the day of the run and its attempts are told by its answers. It counts as extended: what the
    spec does not ask for is left aside.
    """
    times = [moment for model in folder.models() for moment in _asked_between(folder, model)]
    first, last = min(times, default=datetime.now(UTC)), max(times, default=datetime.now(UTC))
    ids = sorted(_attempts(folder)) or [f"{first:%Y%m%dT%H%M%S}-000000"]
    began = [_began(id) for id in ids]
    ends = [*began[1:], max(last, began[-1])]
    attempts = [_lost(id, *times) for id, *times in zip(ids, began, ends, strict=True)]
    day = min(first, began[0]).date().isoformat()
    fresh, nobody_knows_which = manifest.fresh(study), list[Json]()
    return fresh.changed(day=day, extended=True, attempts=attempts, contrasts_first=nobody_knows_which)


def _asked_between(folder: RunFolder, model: str) -> Iterator[datetime]:
    """When each table of answers was asked first and last."""
    for table in folder.answers(model).tables(["asked_at"]):
        between = pc.min_max(table["asked_at"]).as_py()
        yield from (moment for moment in between.values() if moment is not None)


def _attempts(folder: RunFolder) -> set[str]:
    """The ids of the attempts that stand in the names of files; a compacted one names none."""
    found = (_WRITER.match(name) for part in folder.parts() for name in part.files())
    return {f"{one['stamp']}-{one['unique']}" for one in found if one}


def _began(id: str) -> datetime:
    return datetime.strptime(id.partition("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def _lost(id: str, began: datetime, ended: datetime) -> Attempt:
    """An attempt of which no more is known."""
    return Attempt(
        id=id,
        began=began.isoformat(timespec="seconds"),
        ended=ended.isoformat(timespec="seconds"),
        command=[],
        host="?",
        pid=0,
        user="?",
        versions={},
        git=None,
        end=_LOST,
    )
