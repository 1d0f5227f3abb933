"""`emoray report` as the entry point of a Ray job, where the run folder is near the cluster and far from here:

ray job submit --working-dir . -- python jobs/report.py s3://bucket/paper
"""

from __future__ import annotations

import sys

from entry import enter

if __name__ == "__main__":
    sys.exit(enter("report", sys.argv[1:]))
