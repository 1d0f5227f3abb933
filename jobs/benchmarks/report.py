"""How long a report takes, from a run folder on disk to report.html, and how much memory.

Three models by one reader, 12 states × 10 questions, real part files with every column and answers of about 300
characters. What is timed runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emoray import embedded
from emoray.readers.protocol import Reading
from emoray.report import into, write_report
from emoray.run_folder import columns
from emoray.run_folder.census import hexes
from emoray.run_folder.file_names import Name
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.parquet import writer
from emoray.run_folder.partition import Partition
from emoray.study import prompts
from emoray.study.circumplex import around_the_circle
from emoray.study.experiment import Experiment, Model, State
from emoray.study.goemotions import LABELS, label_map
from emoray.study.outcomes import Answer, Reply

_MODELS = 3
_FILE_ROWS = 100_000


def run(rows: int = 1_000_000) -> dict[str, float]:
    """`seconds` (of which `figures_s`), `rows_per_s`, `peak_gb` (resident), `rows`."""
    folder = tempfile.mkdtemp(prefix="emoray-report-")
    try:
        build(RunFolder(f"{folder}/run"), rows)
        command = [sys.executable, "-m", "jobs.benchmarks.report", folder, str(rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    finally:
        shutil.rmtree(folder)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def build(folder: RunFolder, rows: int) -> None:
    """A run folder of so many rows; probabilities and texts differ from row to row."""
    each = rows // _MODELS
    for model in range(_MODELS):
        pattern, rng = _pattern(f"model-{model}"), np.random.default_rng(model)
        for number in range(-(-each // _FILE_ROWS)):
            table = _varied(pattern, min(_FILE_ROWS, each - number * _FILE_ROWS), rng)
            answers, felt = folder.answers(f"model-{model}"), folder.rows("reader", f"model-{model}")
            _write(answers, number, table.select(columns.ANSWERS.names))
            _write(felt, number, table)


def measure(folder: str, rows: int) -> dict[str, float]:
    began = time.perf_counter()
    written: dict[str, float] = {}

    def note(name: str, data: bytes) -> None:
        into(f"{folder}/report")(name, data)
        written[name] = time.perf_counter() - began

    write_report(RunFolder(f"{folder}/run"), note)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "figures_s": seconds - written["summary.json"],
        "rows_per_s": rows / seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "rows": rows,
    }


def _pattern(name: str) -> pa.Table:
    """One answered row per cell of ten repetitions, made as a run makes them."""
    experiment = Experiment(
        models=(Model(name, name),),
        states=tuple(State(affect, affect.angle_deg) for affect in around_the_circle(12)),
        questions=tuple(prompts.shipped_questions().values()),
        templates=(prompts.template("parameters"),),
        repetitions=10,
    )
    asked = list(prompts.prompts(experiment.grid(name)))
    then = datetime(2025, 1, 1, tzinfo=UTC)
    replies = [Reply(prompt.key, Answer(prompt.cell.question.text * 6), then, latency_s=0.5) for prompt in asked]
    said = columns.with_answers(columns.asked(asked), replies, host="scripted", revision="r", engine="e")
    flat = np.full(len(LABELS), 1 / len(LABELS), dtype=np.float32)
    felt = columns.with_readings(said, [Reading(flat)] * len(asked), reader="reader", revision="r")
    return columns.scored(felt, label_map(), "zero")


def _varied(pattern: pa.Table, count: int, rng: np.random.Generator) -> pa.Table:
    """So many rows of the pattern, each with a key, a text and probabilities of its own."""
    table = pattern.take(np.arange(count) % len(pattern)).combine_chunks()
    keys = pa.array(hexes(*rng.integers(0, 2**64, size=(2, count), dtype=np.uint64)), pa.string())
    odds = rng.random((count, len(LABELS)), dtype=np.float32) ** 8
    odds /= odds.sum(axis=1, keepdims=True)
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * len(LABELS))
    new = {
        "key": keys,
        "answer": _texts(count, rng),
        "probabilities": pa.ListArray.from_arrays(offsets, pa.array(odds.ravel())),
        "label": pa.array(np.array(LABELS)[odds.argmax(axis=1)]),
    }
    for name, values in new.items():
        place = columns.SCORED.get_field_index(name)
        table = table.set_column(place, columns.SCORED.field(place), values)
    return table


def _texts(count: int, rng: np.random.Generator) -> pa.Array:
    """Answers of sixty words drawn anew each: they compress about as badly as what models write."""
    words = pa.array(_vocabulary()).take(pa.array(rng.integers(len(_vocabulary()), size=60 * count)))
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * 60)
    return pc.binary_join(pa.ListArray.from_arrays(offsets, words), " ")


@cache
def _vocabulary() -> list[str]:
    corpus = Path(embedded.__file__).parent / "corpus"
    return sorted({word for path in corpus.glob("*.yaml") for word in re.findall(r"[a-z']+", path.read_text())})


def _write(part: Partition, number: int, table: pa.Table) -> None:
    def fill(sink: object) -> None:
        with writer(sink, table.schema) as file:  # type: ignore[arg-type]
            file.write_table(table, row_group_size=8192)

    part.write(str(Name(number + 1, "benchmark", 1)), fill)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
