"""How long a resuming run takes to learn what it owes: read all settled keys from disk, subtract them from all asked.

The data are real part files with every column. What is timed runs in a process of its own, on two cores, so that
its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from emoray.run_folder import columns
from emoray.run_folder.census import hexes
from emoray.run_folder.file_names import Name
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.parquet import writer
from emoray.run_folder.partition import Partition

_MODEL = "benchmark"
_FILE_ROWS = 100_000  # about what sixty merged files of an actor hold
_CHUNK = 8192  # keys asked at a time
_CORES = 2


def run(rows: int = 10_000_000) -> dict[str, float]:
    """`seconds` (of which `settled_s`, `subtract_s`), `peak_gb` (resident), `keys`, `files`."""
    folder = Path(tempfile.mkdtemp(prefix="emoray-resume-"))
    try:
        build(RunFolder(str(folder)).answers(_MODEL), rows)
        command = [sys.executable, "-m", "jobs.benchmarks.resume", str(folder), str(rows)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    finally:
        shutil.rmtree(folder)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def build(part: Partition, rows: int) -> None:
    """A part of so many answers, in files of 100,000."""
    filler = _filler(min(rows, _FILE_ROWS))
    for number in range(-(-rows // _FILE_ROWS)):
        count = min(_FILE_ROWS, rows - number * _FILE_ROWS)
        table = filler.slice(0, count).set_column(0, columns.ANSWERS.field("key"), pa.array(_keys(number, count)))
        part.write(str(Name(number + 1, "benchmark", 1)), lambda sink, table=table: _write(sink, table))  # type: ignore[misc]


def measure(folder: str, rows: int) -> dict[str, float]:
    """Every settled key is asked, and as many that are not."""
    part = RunFolder(folder).answers(_MODEL)
    began = time.perf_counter()
    settled = part.settled()
    settled_s = time.perf_counter() - began
    owed, subtract_s = 0, 0.0
    for number in range(2 * (-(-rows // _FILE_ROWS))):
        keys = _keys(number, _FILE_ROWS)
        began = time.perf_counter()
        for start in range(0, len(keys), _CHUNK):
            owed += int((~settled.has(keys[start : start + _CHUNK])).sum())
        subtract_s += time.perf_counter() - began
    assert len(settled) == rows, "keys were lost"
    assert rows % _FILE_ROWS or owed == rows, "the subtraction is wrong"
    return {
        "seconds": settled_s + subtract_s,
        "settled_s": settled_s,
        "subtract_s": subtract_s,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "keys": rows,
        "files": len(part.files()),
    }


def _write(sink: object, table: pa.Table) -> None:
    with writer(sink, table.schema) as file:  # type: ignore[arg-type]
        file.write_table(table)


def _keys(number: int, count: int) -> list[str]:
    """The keys of one file; the same number gives the same keys."""
    words = np.random.default_rng(number).integers(0, 2**64, size=(2, count), dtype=np.uint64)
    return hexes(words[0], words[1])


def _filler(count: int) -> pa.Table:
    """Every column of an answer, the key excepted."""
    texts = [f"I would say this feels like the sea in winter, number {i}." for i in range(997)]
    values: dict[str, object] = {"outcome": columns.ANSWERED, "prompt": "You are a person who feels. " * 20}
    arrays = []
    for field in columns.ANSWERS:
        if field.name == "answer":
            arrays.append(pa.array([texts[i % len(texts)] for i in range(count)]))
        elif pa.types.is_string(field.type):
            arrays.append(pa.array([values.get(field.name, "some")] * count, field.type))
        else:
            arrays.append(
                pa.array(np.arange(count) % 251).cast(field.type)
                if _is_number(field.type)
                else pa.nulls(count, field.type)
            )
    return pa.Table.from_arrays(arrays, schema=columns.ANSWERS)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


if __name__ == "__main__":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    pa.set_cpu_count(_CORES)
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
