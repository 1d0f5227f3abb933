"""Rows a second that become durable through a journal, beside a bare loop that writes and syncs one file per table.

Both write the same tables of answers to the same disk; the loop promises less: nobody merges its files, and a writer
that dies leaves half of one under its real name. What matters beside it is what a lane brings: some thousand a second.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emoray.run_folder import columns
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal


def run(tables: int = 40, rows_each: int = 1000, words: int = 80) -> dict[str, float]:
    """Rows/s of both, and ratio: the journal's by the loop's."""
    some = [_table(number, rows_each, "word " * words) for number in range(tables)]
    ours, bare = _rate(some, _by_journal), _rate(some, _bare)
    return {"rows_per_s": round(ours), "bare_rows_per_s": round(bare), "ratio": round(ours / bare, 2)}


def _rate(tables: list[pa.Table], write: Callable[[list[pa.Table], str], None]) -> float:
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        write(tables, place)
        return sum(map(len, tables)) / (time.perf_counter() - began)


def _by_journal(tables: list[pa.Table], place: str) -> None:
    part = RunFolder(place).answers("m")
    with Journal(part, "actor", schema=columns.ANSWERS) as journal:
        for durable in [journal.append(table) for table in tables]:
            durable.result()


def _bare(tables: list[pa.Table], place: str) -> None:
    for number, table in enumerate(tables):
        with (Path(place) / f"{number}.parquet").open("wb") as file:
            pq.write_table(table, file, compression="zstd", compression_level=1)
            file.flush()
            os.fsync(file.fileno())


def _table(number: int, length: int, text: str) -> pa.Table:
    """Answers, in the columns that are never empty."""
    given = {
        "key": [f"{number:08x}{row:024x}" for row in range(length)],
        "answer": [f"{row} {text}" for row in range(length)],
        "outcome": [columns.ANSWERED] * length,
    }
    arrays = [pa.array(given.get(field.name, [None] * length), field.type) for field in columns.ANSWERS]
    return pa.table(arrays, schema=columns.ANSWERS)
