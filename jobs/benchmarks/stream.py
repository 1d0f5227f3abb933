"""The whole stream with a scripted speaker and reader: rows per second, driver memory, and our own overhead.

`rows_per_s` counts cells that went all the way: asked, durable as an answer, read, scored, durable as a row. The peer
is bare Ray Data in the same run: three trivial actor stages and write_parquet on as many rows.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import ray

from emoray import manifest
from emoray.spec import Study, parse
from emoray.store import RunFolder
from emoray.stream import cluster
from emoray.stream.conduct import Conductor


def run(rows: int = 1_000_000, small: int = 100_000, cpus: int = 2) -> dict[str, float]:
    """Figures at `rows` cells; memory growth is from `small` to `rows`; `cpus` are given to Ray."""
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="error")
    cluster.connect()
    _stream(1_200)  # imports and actor code, once
    few, few_memory = _stream(small)
    many, many_memory = _stream(rows)
    bare = _bare(rows)
    busy = _overhead()
    return {
        "rows_per_s_over_bare": (rows / many) / (rows / bare),
        "memory_growth": many_memory / few_memory,
        "overhead_share": busy,
        "rows_per_s": rows / many,
        "rows_per_s_small": small / few,
        "bare_rows_per_s": rows / bare,
        "driver_memory_mb": many_memory / 2**20,
    }


def _study(cells: int, latency_s: float = 0.0, in_flight: int = 1000) -> Study:
    model = f"{{name: a, host: scripted, latency_s: {latency_s}, in_flight: {in_flight}}}"
    return parse(
        f"name: bench\nmodels: [{model}]\nrepetitions: {max(1, cells // 120)}\nreaders: [{{kind: scripted, name: r}}]"
    )


def _stream(cells: int) -> tuple[float, int]:
    """Seconds, and the driver's memory at the end in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = _run(_study(cells), folder)
    return seconds, psutil.Process().memory_info().rss


def _run(study: Study, folder: str) -> float:
    run = RunFolder(f"{folder}/run")
    run.create()
    run.write_manifest(manifest.fresh(study))
    began = time.perf_counter()
    ends = Conductor(study, run, cluster.Resources(64, 0), "bench").run(lambda _: None)
    seconds = time.perf_counter() - began
    if ends[0].error or ends[0].tally.answered != study.experiment.cells_per_model:
        raise RuntimeError(f"the stream lost rows: {ends[0]}")
    return seconds


class _Trivial:
    def __call__(self, batch: pa.Table) -> pa.Table:
        return batch


def _bare(rows: int) -> float:
    actors: Any = ray.data.ActorPoolStrategy(size=1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        stages = ray.data.range(rows, override_num_blocks=max(1, rows // 10_000))
        for _ in range(3):
            stages = stages.map_batches(_Trivial, batch_format="pyarrow", compute=actors, num_cpus=0.1)
        stages.write_parquet(str(Path(folder) / "rows"))
    return time.perf_counter() - began


def _overhead() -> float:
    """The share of time outside the speaker, where it takes 20 ms per row at 256 in flight.

    5 s of work, so 64,000 rows; start-up of Ray's actors (measured with an empty run) is left out.
    """
    cells, in_flight, latency_s = 64_080, 256, 0.02
    with tempfile.TemporaryDirectory() as folder:
        start = _run(_study(120), folder)
    with tempfile.TemporaryDirectory() as folder:
        seconds = _run(_study(cells, latency_s, in_flight), folder) - start
    return max(0.0, 1 - cells / in_flight * latency_s / seconds)
