"""What run.json says of attempts that could not say it themselves."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emoray.commands.record import tell_late
from emoray.run_folder import manifest
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import in_name
from emoray.run_folder.partition import Partition
from emoray.run_folder.run_json import LaneRecord
from emoray.run_folder.tabs import lost_usd_of

ENDS = ["died: it was killed", "stopped: it was interrupted", "StoreError: cannot write", "finished"]


@dataclass
class Asked:
    """A lane, as far as a folder tells of it."""

    model: str
    part: Partition

    def lost_of(self, attempts: Collection[str]) -> dict[str, dict[str, float]]:
        return {one: {"lost_usd": usd} for one, usd in lost_usd_of(self.part, attempts).items()}


@pytest.mark.parametrize("end", ENDS)
def test_what_an_attempt_lost_later_is_told_unless_its_lanes_came_to_their_end(end: str, tmp_path: Path) -> None:
    """Of one that did, rows that are torn later are no requests whose answers never came."""
    part, attempt = RunFolder(str(tmp_path)).answers("a"), manifest.attempt(["emoray", "run"])
    attempt.end = end
    came_to_its_end: dict[str, Any] = {"failed": {}, "read": {}} if end == "finished" else {}
    attempt.lanes = [LaneRecord(model=model, answered=1, lost_usd=0.5, **came_to_its_end) for model in "ab"]
    tab = f"tabs/{part.relative}/{in_name(attempt.id)}1_0.json"
    part.folder.write_text(tab, json.dumps({"usd": 0.75}))
    assert lost_usd_of(part, [attempt.id]) == {attempt.id: 0.75}

    lanes: Any = [Asked("a", part)]
    tell_late(lanes, [attempt])

    assert [lane.lost_usd for lane in attempt.lanes] == [0.5 if came_to_its_end else 0.75, 0.5]
