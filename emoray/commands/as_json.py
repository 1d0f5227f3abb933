"""`--json` of commands that run: what a person reads goes to stderr, and how the run stands to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from typing import Any

from emoray.commands.status import status
from emoray.errors import UserError
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder


def told_as_json(run: Callable[[], int], uri: str) -> int:
    """Runs, and then tells of the folder as `emoray status --json` does, with the `exit_code`, which is returned."""
    with redirect_stdout(sys.stderr):
        code = run()
    found: dict[str, Any] = {"exit_code": code}
    with suppress(UserError, StoreError):  # of a run that ended before it had a folder there is no more to tell
        found |= status(RunFolder(uri)).as_json()
    print(json.dumps(found, indent=2))
    return code
