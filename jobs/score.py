"""`emoray score` as the entry point of a Ray job: the answers of a run, read by one more classifier or judge.

ray job submit --working-dir . -- python jobs/score.py s3://bucket/paper --reader SamLowe/roberta-base-go_emotions
"""

from __future__ import annotations

import sys

from entry import enter

if __name__ == "__main__":
    sys.exit(enter("score", sys.argv[1:]))
