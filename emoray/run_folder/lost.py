"""What was spent on answers that nobody has, whoever looks."""

from __future__ import annotations

import os
import time

from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import at_work
from emoray.run_folder.run_json import Manifest
from emoray.run_folder.tabs import NOBODY, lost_by_model


def lost_usd(folder: RunFolder, kept: Manifest) -> dict[str, float]:
    """US dollars at most for answers that nobody has, by model; of an attempt that another process works on, nothing is
    lost yet.
    """
    last = kept.last_attempt
    who = at_work(folder, last, time.time())
    another = who is not None and who.pid != os.getpid()
    found = lost_by_model(folder, but=(last.id or NOBODY) if another and last else None)
    return {model: usd for model, usd in found.items() if usd > 0}
