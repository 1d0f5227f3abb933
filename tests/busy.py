"""Runs a command beside so many busy loops: `python tests/busy.py 2 make pytest`; so it goes on a slow machine."""

from __future__ import annotations

import subprocess
import sys

LOOP = "while True: pass"


def main(loops: str, *command: str) -> int:
    """The command's exit code."""
    busy = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(int(loops))]
    try:
        return subprocess.run(command).returncode
    finally:
        for loop in busy:
            loop.kill()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
