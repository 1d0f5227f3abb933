"""One attempt at a run folder, from the checks before anything is written to the table at the end."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any

from emoray import manifest
from emoray.belonging import Belonging
from emoray.compact import compact
from emoray.lease import Lease
from emoray.progress import Progress, Standing
from emoray.spec import ReaderEntry, SpecError, Study, label_map_of
from emoray.store import RunFolder, StoreError
from emoray.stream import cluster
from emoray.stream.conduct import Conductor
from emoray.stream.lane import Lane, LaneEnd
from emoray.stream.means import check_budgets, check_keys

OK, OWED, INTERRUPTED = 0, 3, 130


def run(
    study: Study,
    uri: str,
    *,
    command: str,
    limit: int | None = None,
    extend: bool = False,
    address: str | None = None,
    verbose: bool = False,
) -> int:
    """Asks what is owed, reads, scores and reports; returns the exit code. `command` resumes the run.

    SpecError or StoreError before anything is written, where the folder or the cluster cannot hold the run.
    """
    folder = RunFolder(uri)
    kept = folder.manifest()
    if kept is not None:
        _check_same(study, folder, kept, extend=extend)
    check_keys(study.spec)
    check_budgets(study.spec)
    whole = dict(kept or manifest.fresh(study)) | manifest.described(study)
    whole["extended"] = extend or whole.get("extended", False)
    capacity = cluster.connect(address, verbose=verbose)
    return _attempt(folder, whole, command, partial(Conductor, study, folder, capacity, limit=limit))


def score(uri: str, reader: ReaderEntry, *, command: str, address: str | None = None, verbose: bool = False) -> int:
    """Reads the answers of a run with one more reader, or lets it catch up; asks nothing. Returns the exit code."""
    folder = RunFolder(uri)
    kept = folder.manifest()
    asked = manifest.study(kept, uri)
    study = Study(asked.spec.model_copy(update={"readers": [reader]}), label_map=asked.label_map)
    capacity = cluster.connect(address, verbose=verbose)
    return _attempt(folder, dict(kept or {}), command, partial(Conductor, study, folder, capacity, asks=False))


def report(folder: RunFolder, out: str | None = None) -> str:
    """Writes a run's report (into `out`, or RUN/report) and returns the table for the terminal."""
    from emoray.report import terminal_table, write_report

    kept = folder.manifest()
    study = manifest.study(kept, folder.uri)
    target = RunFolder(out) if out else folder
    source: RunFolder | Belonging = folder
    left_out = ""
    if (kept or {}).get("extended"):
        source = Belonging(folder, study)
        left_out = f"\nleft out: {source.strangers():,} answers in the folder that the spec does not ask for"
    summary = write_report(
        source,
        lambda relative, data: target.write_bytes(relative if out else f"report/{relative}", data),
        labels=study.label_map,
        neutral=study.spec.neutral,
        own_maps={reader.name: label_map_of(reader, study.label_map) for reader in study.spec.readers},
    )
    return f"{terminal_table(summary)}\n{left_out}\nreport: {target.where('' if out else 'report/')}report.html"


def compact_all(folder: RunFolder) -> str:
    """Turns the small files of every part into few; returns a line per part."""
    manifest.study(folder.manifest(), folder.uri)
    lines = []
    with Lease(folder):
        for part in folder.parts():
            before = len(part.files())
            compact(part)
            lines.append(f"{part.relative}: {before} files are now {len(part.files())}")
    return "\n".join(lines)


def _attempt(folder: RunFolder, whole: dict[str, Any], command: str, conductor_of: Callable[..., Conductor]) -> int:
    """One attempt, under the folder's lease; `whole` is the manifest it is written into."""
    attempt = manifest.attempt(shlex.split(command))
    conductor = conductor_of(attempt["id"])
    cluster.check_folder(folder)
    with Lease(folder) as lease:
        for part in folder.parts():
            part.repair(now_ns=time.time_ns())
        try:
            with _kept(folder, whole, attempt):
                attempt["settled_before"] = conductor.settled_before()
                ends = _conduct(conductor, lease, command)
                attempt["lanes"] = [_lane(end) for end in ends]
            print(report(folder))
        except StoreError as wrong:  # a disk that filled up while it was written to: what is there is kept
            print(f"emoray: {wrong}\nresume with: {command}", file=sys.stderr)
            return INTERRUPTED if conductor.stopping else OWED
    return _say_end(conductor, ends, folder, command)


def _conduct(conductor: Conductor, lease: Lease, command: str) -> list[LaneEnd]:
    """Lets the lanes run: watched, and interruptible."""
    progress, interruption = Progress(), _Interruption(command)

    def watch(lanes: Sequence[Lane]) -> None:
        if interruption.asked and not conductor.stopping:
            conductor.stop("interrupted")
            print("\nstopping: what is in flight is still received; once more to stop at once", file=sys.stderr)
        progress.show({lane.model: _standing(lane) for lane in lanes})
        if lease.lost.is_set() and not conductor.stopping:
            conductor.stop("another run took over the folder")

    with interruption.heard():
        ends = conductor.run(watch)
    progress.show({lane.model: _standing(lane) for lane in conductor.lanes}, last=True)
    return ends


def _check_same(study: Study, folder: RunFolder, kept: Mapping[str, Any], *, extend: bool) -> None:
    """A changed spec may add cells to a folder; to leave answers of the folder aside it must say so."""
    manifest.study(kept, folder.uri)
    if kept["digest"] == study.spec.digest or extend:
        return
    strangers = Belonging(folder, study).strangers()
    if strangers:
        raise SpecError(
            f"{folder.uri} holds {strangers:,} answers that this spec does not ask for; "
            "choose another folder with --out, or add --extend to keep both in this one"
        )


@contextmanager
def _kept(folder: RunFolder, whole: dict[str, Any], attempt: dict[str, Any]) -> Iterator[None]:
    """Writes the attempt into run.json when it begins and again when it ends, however it ends."""
    earlier = [{"end": "died: it was killed, or lost the folder", **one} for one in whole["attempts"]]
    whole["attempts"] = [*earlier, attempt]
    folder.write_manifest(whole)
    try:
        yield
        attempt["end"] = "finished"
    except BaseException as wrong:
        attempt["end"] = f"{type(wrong).__name__}: {wrong}"
        raise
    finally:
        attempt["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
        folder.write_manifest(whole)


class _Interruption:
    """Counts Ctrl-C and SIGTERM. The first is acted on by whoever watches: Ray and stderr are no places for a handler,
    which may interrupt either of them in the middle. The second ends the process at once.
    """

    def __init__(self, command: str) -> None:
        self.asked = False
        self._command = command

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            os.write(sys.stderr.fileno(), f"\nnot waiting; resume with: {self._command}\n".encode())
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.asked = True

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While this lasts; signals reach the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _standing(lane: Lane) -> Standing:
    tally = lane.tally()
    starting = "" if tally.speakers or tally.answered or tally.read else "starting"
    before = min(lane.settled_before, lane.cells)
    return Standing(
        total=lane.cells,
        before=before,
        settled=before + tally.answered,
        failed=sum(tally.failed.values()),
        read=min(tally.read.values(), default=0),
        note=tally.down or tally.stopping or starting,
    )


def _lane(end: LaneEnd) -> dict[str, Any]:
    tally = end.tally
    return {
        "model": end.model,
        "answered": tally.answered,
        "failed": dict(tally.failed),
        "read": tally.read,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "cost_usd": tally.cost_usd,
        "error": end.error,
    }


def _say_end(conductor: Conductor, ends: Sequence[LaneEnd], folder: RunFolder, command: str) -> int:
    """What is still owed, to stderr, and the exit code."""
    for end in ends:
        if end.error:
            print(f"{end.model}: {end.error}", file=sys.stderr)
    left = {lane.model: lane.left() for lane in conductor.lanes}
    for model, cells in left.items():
        if cells:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in folder.answers(model).counts().failed.items())
            print(f"{model}: {cells:,} cells are still owed{f' ({kinds})' if kinds else ''}", file=sys.stderr)
    if not any(left.values()) and not any(end.error for end in ends):
        return OK
    print(f"resume with: {command}", file=sys.stderr)
    return INTERRUPTED if conductor.stopping else OWED
