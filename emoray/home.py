"""Where this emoray lies, and how other processes import the same one, whatever lies in the folder they start in.

Python looks first where it was started: a folder called `emoray` there (the parent of a clone), an emoray.py, or a
numpy.py, would take the place of what is meant.
"""

from __future__ import annotations

import os
import sys

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib would be looked for
# where it is installed every process finds it, and in front of the standard library it would bring its neighbours along
PATH = [] if os.path.basename(HOME) in ("site-packages", "dist-packages") else [HOME]  # noqa: PTH119


def leave_out_cwd() -> None:
    """Takes the folder that `python -m emoray` was started in out of where this process imports from.

    Where emoray is installed from a clone and that folder has one called `emoray`, Python took that for the package,
    before it came to ours. An emoray.py there it runs in our place: `emoray`, or `python -P -m emoray`, does not.
    """
    try:
        started_in = os.getcwd()  # noqa: PTH109
    except OSError:  # it was deleted, and Python did not look there
        return
    if not sys.flags.safe_path and sys.path[:1] == [started_in]:
        sys.path[:1] = PATH
    if getattr(sys.modules.get("emoray"), "__file__", None) is None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "emoray"]:
            del sys.modules[name]


def module(name: str) -> list[str]:
    """The command that runs one of our modules in a process of its own; with the environment of `environment`."""
    return [sys.executable, "-P", "-m", name]


def environment() -> dict[str, str]:
    """What such a process finds in its environment."""
    found = os.environ.get("PYTHONPATH")
    path = [*PATH, *([found] if found else [])]
    return os.environ | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})
