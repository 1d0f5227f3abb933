"""What the statistics of one model cost: tally, intervals, groups, shuffled control, variance parts.

Rows are arrays in memory, scored already: 12 states × 10 questions × 2 templates, a thousand shuffles of both scores.
What is timed runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from emoray.analysis.summaries import groups, score_values, whole
from emoray.analysis.tally import Factor, Tally
from emoray.study.circumplex import around_the_circle
from emoray.study.goemotions import LABELS, label_map
from emoray.study.scoring import score

_BATCH = 65_536


def run(rows: int = 1_000_000) -> dict[str, float]:
    """`seconds` (of which `score_s`, `tally_s`, `statistics_s`), `peak_gb` (resident), `rows`."""
    command = [sys.executable, "-m", "jobs.benchmarks.analysis", str(rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(rows: int) -> dict[str, float]:
    """Batches are made, scored and tallied one by one; making them is not timed."""
    labels, rng = label_map(), np.random.default_rng(0)
    states = np.array([(state.valence, state.arousal) for state in around_the_circle(12)])
    score_s = tally_s = 0.0
    found: Tally | None = None
    for start in range(0, rows, _BATCH):
        n = min(_BATCH, rows - start)
        state, question, template = (rng.integers(levels, size=n) for levels in (12, 10, 2))
        probabilities = rng.random((n, len(LABELS)), dtype=np.float32) ** 8
        began = time.perf_counter()
        scores = score(states[state], probabilities, labels)
        score_s += time.perf_counter() - began
        began = time.perf_counter()
        factors = {
            "template": Factor(("a", "b"), template),
            "intensity": Factor((1.0,), np.zeros(n, dtype=np.int64)),
            "state": Factor(tuple(30.0 * i for i in range(12)), state),
            "question": Factor(tuple("abcdefghij"), question),
        }
        tally = Tally.of(factors, score_values(vars(scores)))
        found = tally if found is None else found + tally
        tally_s += time.perf_counter() - began
    assert found is not None
    began = time.perf_counter()
    whole(found, labels, rng, level=0.95, shuffles=1000)
    for axis in ("state", "question", "template"):
        groups(found, axis, labels)
    statistics_s = time.perf_counter() - began
    return {
        "seconds": score_s + tally_s + statistics_s,
        "score_s": score_s,
        "tally_s": tally_s,
        "statistics_s": statistics_s,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "rows": rows,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
