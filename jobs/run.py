"""`emoray run` as the entry point of a Ray job:

ray job submit --working-dir . -- python jobs/run.py jobs/quickstart.yaml --out /shared/runs/quickstart
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the job's working folder, where emoray lies

from emoray.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
