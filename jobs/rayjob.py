"""`emoray run` as the entry point of a RayJob, whose operator buys a new cluster after every job that fails:

python jobs/rayjob.py jobs/paper.yaml --out s3://bucket/paper

A death is a failure, and the next cluster resumes. Wrong input (2) and owed cells (3) are none: a new cluster would end
alike, or read a deadline of 07:00 as tomorrow's. They end as 0, and the last line of the log says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from entry import enter

from emoray.exit_codes import OK, OWED, WRONG


def main(words: Sequence[str]) -> int:
    """The exit code for KubeRay, which repeats whatever is not 0."""
    try:
        code = enter("run", words)
    except SystemExit as end:  # as argparse ends where a flag is wrong
        if end.code != WRONG:
            raise
        code = WRONG
    if code not in (WRONG, OWED):
        return code
    print(
        f"emoray: this run ended with exit code {code}, and not well; KubeRay hears 0, or it would buy another cluster",
        file=sys.stderr,
    )
    return OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
