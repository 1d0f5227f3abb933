"""How the rooms grow: 10^4, 10^6, 10^8 and 10^9 cells of one model, from constants measured here and now.

What grows by the cell is measured on `rows` cells and multiplied; the small files of the journal and the requests they
make to an object store are simulated with the journal's own rules. A size at which a room passes what one machine
bears (its limit in the table) is marked with `!`; the first mark in a line says where that room breaks.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import report as report_benchmark
from benchmarks import stream as stream_benchmark
from emoray.hosts.permits import _SHORTEST_TURN_S
from emoray.rate_limits.protocol import Feedback, Limits, Request, Usage
from emoray.report import into, write_report
from emoray.run_folder import journal
from emoray.run_folder.census import KeySet, owed
from emoray.run_folder.compaction import compact
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.partition import Partition
from emoray.stream import cluster
from emoray.stream.actor_context import COMMIT_S
from emoray.stream.limiter_actor import SharedLimiter
from emoray.study.prompts import prompts

SIZES = (10**4, 10**6, 10**8, 10**9)
_NIGHT_S = 8 * 3600.0
_PUT_S = 0.05  # a small object, as S3 takes it
_ACTORS = 16


@dataclass(frozen=True)
class Room:
    """One line: what grows, by how much, and what one machine bears."""

    name: str
    unit: str
    of: Callable[[float], float]  # cells -> amount
    bears: float


def run(rows: int = 200_000) -> dict[str, float]:
    """Prints the table; the figures are the constants, per cell."""
    with tempfile.TemporaryDirectory(prefix="emoray-growth-") as place:
        per_cell = _on_disk(RunFolder(f"{place}/run"), rows) | _of_the_grid(rows)
        per_cell["report_s"] -= _figures_s(RunFolder(f"{place}/few")) / rows
    per_cell |= _of_the_stream(rows // 10, rows)
    lease_s = _lease_s()
    rooms = _rooms(per_cell, lease_s)
    print(table(rooms))
    return {f"{name}_per_cell": value for name, value in per_cell.items()} | {"lease_ms": lease_s * 1e3}


def table(rooms: list[Room]) -> str:
    """A Markdown table: a line per room, a column per size."""
    lines = ["| room | " + " | ".join(f"10^{len(str(n)) - 1}" for n in SIZES) + " | one machine bears |"]
    lines.append("|---|" + "---:|" * (len(SIZES) + 1))
    for room in rooms:
        cells = [f"{_short(room.of(n))}{' !' if room.of(n) > room.bears else ''}" for n in SIZES]
        lines.append(f"| {room.name}, {room.unit} | " + " | ".join(cells) + f" | {_short(room.bears)} |")
    return "\n".join(lines)


def _rooms(per_cell: dict[str, float], lease_s: float) -> list[Room]:
    def times(name: str, scale: float = 1.0) -> Callable[[float], float]:
        return lambda cells: cells * per_cell[name] * scale

    return [
        Room("the grid: rendering and hashing, one core", "s", times("grid_s"), _NIGHT_S),
        Room("settled keys, in the object store", "GB", lambda cells: cells * 16 / 1e9, 8.0),
        Room("resuming: reading and subtracting them", "s", times("resume_s"), 1800.0),
        Room("answers on disk", "GB", times("answer_bytes", 1e-9), 1000.0),
        Room("rows on disk, per reader", "GB", times("row_bytes", 1e-9), 1000.0),
        Room("journal: files before compaction", "files", lambda cells: _journal(cells)[0], 100_000.0),
        Room("journal: requests to the object store", "per s", lambda cells: _journal(cells)[1] / _NIGHT_S, 3500.0),
        Room("compaction", "s", times("compact_s"), 3600.0),
        Room("the stream, one model", "hours", times("stream_s", 1 / 3600), 8.0),
        Room("the driver beyond its start", "MB", times("driver_bytes", 1e-6), 4000.0),
        Room(
            "limiter: calls if asked in one night", "per s", lambda cells: _calls_per_s(cells / _NIGHT_S), 1 / lease_s
        ),
        Room("the report", "s", times("report_s"), 3600.0),
    ]


# ── measured ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _on_disk(folder: RunFolder, rows: int) -> dict[str, float]:
    """Three models' answers and rows, as a run leaves them: compacted, read back, reported."""
    report_benchmark.build(folder, rows)
    models = folder.models()
    answers = [folder.answers(model) for model in models]
    felt = [folder.rows("reader", model) for model in models]
    count = sum(len(part.settled()) for part in answers)
    times = {  # in this order: what is resumed and reported was compacted before
        "compact_s": seconds(lambda: [compact(part) for part in (*answers, *felt)]),
        "resume_s": seconds(lambda: _look_up(answers)),
        "report_s": seconds(lambda: _report(folder)),
    }
    sizes = {"answer_bytes": _bytes(answers), "row_bytes": _bytes(felt)}
    return {name: amount / count for name, amount in (sizes | times).items()}


def _look_up(parts: list[Partition]) -> None:
    """Reads the keys of what is settled, as a run does that goes on, and finds each of them."""
    for part in parts:
        settled = part.settled()
        settled.has_words(settled.high, settled.low)


def _figures_s(folder: RunFolder) -> float:
    """What a report takes however few rows there are."""
    report_benchmark.build(folder, 3_600)
    return seconds(lambda: _report(folder))


def _report(folder: RunFolder) -> None:
    write_report(folder, into(f"{folder.uri}/report"))


def _bytes(parts: list[Partition]) -> float:
    return float(sum(info.size for part in parts for info in part.infos()))


def _of_the_grid(rows: int) -> dict[str, float]:
    grid = stream_benchmark.scripted(rows).experiment.grid("a")
    return {"grid_s": seconds(lambda: sum(1 for _ in owed(prompts(grid), KeySet()))) / len(grid)}


def _of_the_stream(few: int, many: int) -> dict[str, float]:
    """With a scripted speaker and reader on the CPUs there are; the slope leaves the start out."""
    cluster.connect()
    timed, peak = stream_benchmark.timed, stream_benchmark.peak_memory
    timed(stream_benchmark.scripted(1_200))
    few_s, before = timed(stream_benchmark.scripted(few)), peak()
    many_s, after = timed(stream_benchmark.scripted(many)), peak()
    return {"stream_s": (many_s - few_s) / (many - few), "driver_bytes": (after - before) / (many - few)}


def _lease_s(calls: int = 2_000, at_once: int = 32) -> float:
    """A lease from the limiter as an actor, where many hosts ask at once."""
    limiter = SharedLimiter("growth", "growth", Limits(requests_per_minute=6e6)).restate()

    async def host(name: int) -> None:
        for _ in range(calls // at_once):
            await limiter.lease(f"growth/{name}", Usage(), Request(1), Feedback())

    async def all_of_them() -> None:
        await asyncio.gather(*(host(name) for name in range(at_once)))

    return seconds(lambda: asyncio.run(all_of_them())) / calls


# ── simulated ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _journal(cells: float) -> tuple[float, float]:
    """(files that stand at the end, requests made) of actors that write for a night, under journal.py's rules."""
    writes = min(cells, _ACTORS * _NIGHT_S / (_PUT_S + journal.pause_s(_PUT_S, COMMIT_S)))
    standing, requests, level = 0.0, writes, writes / _ACTORS
    while level >= 1:  # per actor: sixty files of a level become one of the next
        merged = level // journal._MERGE
        standing += level - merged * journal._MERGE
        requests += _ACTORS * merged * (2 * journal._MERGE + 1)  # each read once and deleted, one written
        level = merged
    return standing * _ACTORS, requests


def _calls_per_s(cells_per_s: float) -> float:
    """A host asks the limiter at most once a turn, and not at all where nothing is asked."""
    return min(cells_per_s, _ACTORS / _SHORTEST_TURN_S)


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}"
