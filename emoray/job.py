"""One `run`, from the checks before anything is written to the table at the end."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from emoray import manifest
from emoray.compact import compact
from emoray.progress import Progress, Standing
from emoray.resume import Settled
from emoray.spec import SpecError, Study
from emoray.store import RunFolder
from emoray.stream import cluster
from emoray.stream.conduct import Conductor
from emoray.stream.lane import Lane, LaneEnd
from emoray.study.prompts import prompts

_log = logging.getLogger(__name__)
OK, OWED, INTERRUPTED = 0, 3, 130


def run(
    study: Study, uri: str, *, command: str, limit: int | None, extend: bool, address: str | None, verbose: bool
) -> int:
    """Asks what is owed, reads, scores and reports; returns the exit code. `command` resumes the run.

    SpecError or StoreError before anything is written, where the folder or the cluster cannot hold the run.
    """
    folder = RunFolder(uri)
    kept = folder.manifest()
    if kept is not None:
        _check_same(study, folder, kept, extend=extend)
    capacity = cluster.connect(address, verbose=verbose)
    cluster.check(study.spec, capacity)
    before = {model.name: len(folder.answers(model.name).settled()) for model in study.spec.models}
    with _attempt(study, folder, kept, manifest.attempt(command.split(), before)) as attempt:
        conductor = Conductor(study, folder, attempt["id"], capacity, limit)
        progress = Progress()
        with _interruptible(conductor, command):
            ends = conductor.run(Lane.run, lambda lanes: progress.show(_standings(lanes, before)))
        progress.show(_standings(conductor.lanes, before), last=True)
        attempt["lanes"] = [_lane(end) for end in ends]
    print("TODO report")
    return _say_end(conductor, ends, folder, command)


def report(folder: RunFolder, out: str | None = None) -> str:
    """Writes a run's report (into `out`, or RUN/report) and returns the table for the terminal."""
    from emoray.report import terminal_table, write_report

    settings = manifest.settings(folder.manifest(), folder.uri)
    target = RunFolder(out) if out else folder
    summary = write_report(
        folder,
        lambda relative, data: target.write_bytes(relative if out else f"report/{relative}", data),
        label_map=settings.label_map,
        neutral=settings.neutral,
    )
    return f"{terminal_table(summary)}\n\nreport: {target.where('' if out else 'report/')}report.html"


def compact_all(folder: RunFolder) -> str:
    """Turns the small files of every part into few; returns a line per part."""
    manifest.settings(folder.manifest(), folder.uri)
    parts = [folder.answers(model) for model in folder.models()]
    parts += [folder.rows(reader, model) for reader in folder.readers() for model in folder.models()]
    lines = []
    for part in parts:
        before = len(part.files())
        compact(part)
        lines.append(f"{part.relative}: {before} files are now {len(part.files())}")
    return "\n".join(lines)


def _check_same(study: Study, folder: RunFolder, kept: Mapping[str, Any], *, extend: bool) -> None:
    """A changed spec may add cells to a folder; to leave answers of the folder aside it must say so."""
    settings = manifest.settings(kept, folder.uri)
    if settings.spec.digest == study.spec.digest or extend:
        return
    known = {model.name for model in study.experiment.models}
    strangers = sum(
        len(answered) - (_asked(study, model, answered) if model in known else 0)
        for model in folder.models()
        if len(answered := folder.answers(model).settled())
    )
    if strangers:
        raise SpecError(
            f"{folder.uri} holds {strangers:,} answers that this spec does not ask for; "
            "choose another folder with --out, or add --extend to keep both in this one"
        )


def _asked(study: Study, model: str, answered: Settled) -> int:
    """How many of the answered keys the spec still asks for."""
    keys = [prompt.key for prompt in prompts(study.experiment.grid(model))]
    return int(answered.has(keys).sum())


@contextmanager
def _attempt(
    study: Study, folder: RunFolder, kept: Mapping[str, Any] | None, attempt: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Writes the attempt into run.json when it begins and again when it ends, however it ends."""
    folder.create()
    whole = dict(kept or manifest.fresh(study)) | manifest.described(study)
    whole["attempts"] = [*whole["attempts"], attempt]
    folder.write_manifest(whole)
    try:
        yield attempt
        attempt["end"] = "finished"
    except BaseException as wrong:
        attempt["end"] = f"{type(wrong).__name__}: {wrong}"
        raise
    finally:
        attempt["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
        folder.write_manifest(whole)


@contextmanager
def _interruptible(conductor: Conductor, command: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop asking and drain what is in flight; a second one does not wait."""

    def stop(number: int, _: FrameType | None) -> None:
        if conductor.stopping:
            print(f"\nnot waiting; resume with: {command}", file=sys.stderr)
            sys.stderr.flush()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        print("\nstopping: what is in flight is still received; once more to stop at once", file=sys.stderr)
        conductor.stop("interrupted")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _standings(lanes: Sequence[Lane], before: Mapping[str, int]) -> dict[str, Standing]:
    return {lane.model: _standing(lane, before[lane.model]) for lane in lanes}


def _standing(lane: Lane, before: int) -> Standing:
    tally = lane.tally()
    note = "" if tally.speakers or tally.answered else "starting"
    return Standing(
        total=lane.cells,
        settled=min(before, lane.cells) + tally.answered,
        failed=sum(tally.failed.values()),
        read=min(tally.read.values(), default=0),
        note=tally.down or tally.stopping or note,
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
    owed = {lane.model: lane.owed() for lane in conductor.lanes}
    for model, cells in owed.items():
        if cells:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in folder.answers(model).counts().failed.items())
            print(f"{model}: {cells:,} cells are still owed{f' ({kinds})' if kinds else ''}", file=sys.stderr)
    if any(owed.values()) or any(end.error for end in ends):
        print(f"resume with: {command}", file=sys.stderr)
        return INTERRUPTED if conductor.stopping else OWED
    return OK
