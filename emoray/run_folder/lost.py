"""What was spent on answers that nobody has, whoever looks."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import at_work
from emoray.run_folder.tabs import NOBODY, lost_by_model


def lost_usd(folder: RunFolder, kept: Mapping[str, Any]) -> dict[str, float]:
    """US dollars at most for answers that nobody has, by model; of an attempt that another process works on, nothing is
    lost yet.
    """
    last: dict[str, Any] = next(iter(kept.get("attempts", [])[-1:]), {})
    who = at_work(folder, last, time.time())
    another = who is not None and who.pid != os.getpid()
    found = lost_by_model(folder, but=str(last.get("id", NOBODY)) if another else None)
    return {model: usd for model, usd in found.items() if usd > 0}
