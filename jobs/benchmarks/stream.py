"""The whole stream with a scripted speaker and reader: rows per second, driver memory, our own overhead, and nodes.

`rows_per_s` counts cells that went all the way: asked, durable as an answer, read, scored, durable as a row, compacted;
start-up is in it. The peer is bare Ray Data in the same run: three trivial actor stages and write_parquet.
`memory_growth` compares the most that the driver ever held (resident) at few and at many cells.
`overhead_share` is of the time from the first ask to the last answer, where the speaker takes 20 ms per row at 256 in
flight: what the stream takes longer than a bare loop over the same speaker. `with_ends_share` counts all that comes
after the last answer too (the disk, the last blocks' reading, compaction), start-up excepted.
`scaling_2` and `scaling_4` are rows per second and node over those of one node. Each node has a speaker that sleeps a
second per row at 500 in flight; the rate is that of the middle six tenths of all answers, so no start-up is in it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from emoray.hosts.scripted import ScriptedHost
from emoray.rehearsal.local_cluster import Nodes
from emoray.run_folder import columns, manifest
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.partition import Partition
from emoray.spec.load import parse
from emoray.spec.models import Scripted
from emoray.spec.study import Study
from emoray.stream import cluster
from emoray.stream.driver import RunDriver
from emoray.study.prompts import prompts

_CUT = 0.2  # of the answers at either end


def run(
    many: int = 1_000_000, few: int = 100_000, paced: int = 128_040, cpus: int = 2, nodes: int = 4
) -> dict[str, float]:
    """Figures at `many` cells, beside `few`; `paced` cells are asked of a speaker that takes its time.

    `cpus` are given to Ray; the scaling is measured with 1, 2, … `nodes`.
    """
    figures = {f"scaling_{count}": rate for count, rate in _scaling(nodes).items()}
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="error")
    start_up_s = timed(scripted(120))  # with the imports and the actors' code, once
    few_s, few_memory = timed(scripted(few)), peak_memory()
    many_s, many_memory = timed(scripted(many)), peak_memory()
    bare_s = _bare(many)
    return {
        "rows_per_s_over_bare": bare_s / many_s,
        "memory_growth": many_memory / few_memory,
        **_overhead(paced),
        **figures,
        "rows_per_s": many / many_s,
        "rows_per_s_few": few / few_s,
        "bare_rows_per_s": many / bare_s,
        "first_start_up_s": start_up_s,
        "driver_memory_mb": many_memory / 2**20,
        "driver_bytes_per_cell": (many_memory - few_memory) / (many - few),
    }


def scripted(cells: int, latency_s: float = 0.0, in_flight: int = 1000, actors: int = 1, cpus: float = 0.1) -> Study:
    speaker = f"latency_s: {latency_s}, in_flight: {in_flight}, actors: {actors}, cpus: {cpus}"
    return parse(
        f"name: bench\nmodels: [{{name: a, host: scripted, {speaker}}}]\nrepetitions: {max(1, cells // 120)}\n"
        "readers: [{kind: scripted, name: r}]"
    )


def timed(of: Study) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return _run(of, folder)


def _run(study: Study, folder: str) -> float:
    """Seconds."""
    run = RunFolder(f"{folder}/run")
    run.create()
    run.write_manifest(manifest.fresh(study).as_json())
    capacity = cluster.connect()
    began = time.perf_counter()
    ends = RunDriver(study, run, capacity, "bench").run(lambda _: None)
    seconds = time.perf_counter() - began
    if ends[0].error or ends[0].tally.answered != study.experiment.cells_per_model:
        raise RuntimeError(f"the stream lost rows: {ends[0]}")
    return seconds


def peak_memory() -> int:
    """Of the driver, in bytes, up to now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Trivial:
    def __call__(self, batch: pa.Table) -> pa.Table:
        return batch


def _bare(rows: int) -> float:
    """Seconds."""
    actors: Any = ray.data.ActorPoolStrategy(size=1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        stages = ray.data.range(rows, override_num_blocks=max(1, rows // 10_000))
        for _ in range(3):
            stages = stages.map_batches(_Trivial, batch_format="pyarrow", compute=actors, num_cpus=0.1)
        stages.write_parquet(str(Path(folder) / "rows"))
    return time.perf_counter() - began


def _overhead(cells: int, latency_s: float = 0.02, in_flight: int = 256) -> dict[str, float]:
    study = scripted(cells, latency_s, in_flight)
    alone_s = _alone(study)
    start_up_s = timed(scripted(120, latency_s, in_flight))
    with tempfile.TemporaryDirectory() as folder:
        whole_s = _run(study, folder) - start_up_s
        answered = _answered(RunFolder(f"{folder}/run").answers("a"))
    asking_s = float(answered[-1] - answered[0]) + latency_s
    return {
        "overhead_share": 1 - alone_s / asking_s,
        "with_ends_share": 1 - alone_s / whole_s,
        "speaker_alone_s": alone_s,
        "asking_s": asking_s,
    }


def _alone(study: Study) -> float:
    """Seconds that a bare loop over the speaker takes for all asks of a study."""
    entry = study.spec.models[0]
    assert isinstance(entry, Scripted)
    asks = columns.asks(columns.asked(list(prompts(study.experiment.grid(entry.name)))))
    host = ScriptedHost(entry)
    began = time.perf_counter()
    assert sum(1 for _ in host.generate(asks)) == len(asks)
    return time.perf_counter() - began


def _answered(part: Partition) -> np.ndarray[Any, np.dtype[np.float64]]:
    """When the answers came, sorted, in seconds."""
    table = pa.concat_tables(part.tables(["asked_at", "latency_s"]))
    when: Any = table["asked_at"].cast(pa.int64()).to_numpy() / 1e6 + table["latency_s"].to_numpy()
    return np.sort(when)


def _scaling(nodes: int) -> dict[int, float]:
    """The rate per node with 2, 4, … nodes over that with one."""
    counts = [count for count in (1, 2, 4, 8) if count <= nodes]
    rates = {count: _rate(count) / count for count in counts}
    return {count: rates[count] / rates[1] for count in counts[1:]}


def _rate(count: int) -> float:
    """Rows per second on so many nodes; in a process of its own, since a driver joins one cluster only."""
    with Nodes(count, cpus=2) as there:
        done = subprocess.run(
            [sys.executable, "-m", "jobs.benchmarks.stream", there.address, str(count)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | dict(there.environment),
        )
    rate: float = json.loads(done.stdout.splitlines()[-1])
    return rate


def _paced(address: str, count: int) -> float:
    """Rows per second, in the middle of a run with a speaker on each of so many nodes."""
    cluster.connect(address)
    study = scripted(10_000 * count, latency_s=1.0, in_flight=500, actors=count, cpus=1.5)
    with tempfile.TemporaryDirectory() as folder:
        _run(study, folder)
        answered = _answered(RunFolder(f"{folder}/run").answers("a"))
    first, last = (int(len(answered) * share) for share in (_CUT, 1 - _CUT))
    return float((last - first) / (answered[last] - answered[first]))


if __name__ == "__main__":
    print(json.dumps(_paced(sys.argv[1], int(sys.argv[2]))))
