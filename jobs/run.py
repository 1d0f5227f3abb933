"""`emoray run` as the entry point of a Ray job:

ray job submit --working-dir . -- python jobs/run.py jobs/quickstart.yaml --out /shared/runs/quickstart
"""

from __future__ import annotations

import sys

from entry import enter

if __name__ == "__main__":
    sys.exit(enter("run", sys.argv[1:]))
