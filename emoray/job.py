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
from emoray.exit_codes import INTERRUPTED, OK, OWED
from emoray.human import human_labels
from emoray.lease import Lease
from emoray.progress import Progress, Standing
from emoray.spec import (
    Account,
    Hosted,
    JudgeReader,
    ModelEntry,
    ReaderEntry,
    SpecError,
    Study,
    label_map_of,
    readers_of,
    reads_as,
)
from emoray.store import RunFolder, StoreError
from emoray.stream import cluster
from emoray.stream.conduct import Conductor
from emoray.stream.lane import Lane, LaneEnd
from emoray.stream.means import check_budgets, check_keys
from emoray.study.goemotions import LabelMap
from emoray.study.outcomes import FailureKind
from emoray.study.scoring import NeutralRule
from emoray.validate import human_text


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
    return _attempt(folder, study, whole, command, partial(Conductor, study, folder, capacity, limit=limit))


def score(
    uri: str,
    reader: ReaderEntry,
    *,
    command: str,
    accounts: Mapping[str, Account] | None = None,
    address: str | None = None,
    verbose: bool = False,
) -> int:
    """Reads the answers of a run with one more reader, or lets it catch up; asks nothing. Returns the exit code.

    `accounts` are those that a hosted judge needs beside the run's own.
    """
    folder = RunFolder(uri)
    kept = folder.manifest()
    asked = manifest.study(kept, folder.shown)
    alone = {"readers": [reader], "accounts": asked.spec.accounts | dict(accounts or {})}
    study = Study(asked.spec.model_copy(update=alone), label_map=asked.label_map)
    whole = _with_reader(dict(kept or {}), asked, reader)
    check_keys(study.spec.model_copy(update={"models": []}))  # nothing is asked of the models
    check_budgets(study.spec.model_copy(update={"models": []}))
    capacity = cluster.connect(address, verbose=verbose)
    return _attempt(folder, study, whole, command, partial(Conductor, study, folder, capacity, asks=False))


def report(
    folder: RunFolder,
    out: str | None = None,
    *,
    label_map: LabelMap | None = None,
    neutral: NeutralRule | None = None,
    ceilings: Sequence[str] = (),
    human: str | None = None,
) -> str:
    """Writes a run's report (into `out`, or RUN/report) and returns the table for the terminal.

    Another label map or neutral rule than the run's scores its stored readings anew. `ceilings` are files of
    `emoray validate --save`, `human` one of human labels. SpecError, with nothing written, where they do not fit.
    """
    from emoray.report import Unusable, terminal_table, write_report

    kept = folder.manifest()
    study = manifest.study(kept, folder.shown)
    labels = label_map or study.label_map
    readers = [*study.spec.readers, *readers_of((kept or {}).get("more_readers", []))]
    validated = [human_text(path, readers, labels) for path in ceilings]
    target = RunFolder(out) if out else folder
    source: RunFolder | Belonging = folder
    left_out = ""
    if (kept or {}).get("extended"):
        source = Belonging(folder, study)
        left_out = f"\nleft out: {source.strangers():,} answers in the folder that the spec does not ask for"
    try:
        summary = write_report(
            source,
            lambda relative, data: target.write_bytes(relative if out else f"report/{relative}", data),
            labels=labels,
            neutral=neutral or study.spec.neutral,
            own_maps={reader.name: label_map_of(reader, labels) for reader in readers},
            human_text={name: reads for names, reads in validated for name in names},
            human_labels=human_labels(human, labels) if human else None,
        )
    except Unusable as wrong:
        raise SpecError(f"{human}: {wrong}") from None
    return f"{terminal_table(summary)}\n{left_out}\nreport: {target.where('' if out else 'report/')}report.html"


def compact_all(folder: RunFolder) -> str:
    """Turns the small files of every part into few; returns a line per part."""
    manifest.study(folder.manifest(), folder.shown)
    lines = []
    with Lease(folder):
        for part in folder.parts():
            before = len(part.files())
            compact(part)
            lines.append(f"{part.relative}: {before} files are now {len(part.files())}")
    return "\n".join(lines)


def _with_reader(whole: dict[str, Any], asked: Study, reader: ReaderEntry) -> dict[str, Any]:
    """The manifest that also knows a reader which the spec does not have; SpecError where another has its name."""
    own = {entry.name: entry for entry in asked.spec.readers}
    later = {entry.name: entry for entry in readers_of(whole.get("more_readers", []))}
    known = (own | later).get(reader.name, reader)
    if reads_as(known) != reads_as(reader):
        raise SpecError(f"the run has another reader called {reader.name!r} already; give this one a name of its own")
    if reader.name in own:
        return whole
    return whole | {"more_readers": [one.model_dump(mode="json") for one in (later | {reader.name: reader}).values()]}


def _attempt(
    folder: RunFolder, study: Study, whole: dict[str, Any], command: str, conductor_of: Callable[..., Conductor]
) -> int:
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
                paid = _judged(folder, study)
                ends = _conduct(conductor, lease, command)
                left = {lane.model: lane.left() for lane in conductor.lanes}
                judged = {model: usd - paid[model] for model, usd in _judged(folder, study).items()}
                attempt["lanes"] = [_lane(end) | {"read_cost_usd": judged[end.model]} for end in ends]
                folder.write_manifest(whole)
                print(report(folder))
                attempt["end"] = _end(conductor, sum(left.values()))
        except StoreError as wrong:  # a disk that filled up while it was written to: what is there is kept
            print(f"emoray: {wrong}\nresume with: {command}", file=sys.stderr)
            return INTERRUPTED if conductor.stopping else OWED
        except KeyboardInterrupt:  # before the lanes began, or in the report
            print(f"\nemoray: interrupted\nresume with: {command}", file=sys.stderr)
            return INTERRUPTED
    return _say_end(conductor, ends, left, folder, study, command)


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
    manifest.study(kept, folder.shown)
    if kept["digest"] == study.spec.digest or extend:
        return
    strangers = Belonging(folder, study).strangers()
    if strangers:
        raise SpecError(
            f"{folder.shown} holds {strangers:,} answers that this spec does not ask for; "
            "choose another folder with --out, or add --extend to keep both in this one"
        )


@contextmanager
def _kept(folder: RunFolder, whole: dict[str, Any], attempt: dict[str, Any]) -> Iterator[None]:
    """Writes the attempt into run.json when it begins and again when it ends, however it ends."""
    whole["attempts"] = [*(one if "end" in one else one | _died(folder) for one in whole["attempts"]), attempt]
    folder.write_manifest(whole)
    try:
        yield
    except BaseException as wrong:
        interrupted = isinstance(wrong, KeyboardInterrupt)
        attempt["end"] = "stopped: it was interrupted" if interrupted else f"{type(wrong).__name__}: {wrong}"
        raise
    finally:
        attempt["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
        folder.write_manifest(whole)


def _died(folder: RunFolder) -> dict[str, str]:
    """The end of an attempt that could not say so itself; when: the last that it wrote."""
    places = ["", *(part.relative for part in folder.parts()), "report"]
    files = [info for place in places for info in folder.infos(place) if info.is_file]
    times = [info.mtime for info in files if info.mtime is not None]
    last = {"ended": max(times).isoformat(timespec="seconds")} if times else {}
    return {"end": "died: it was killed, or could no longer write to the folder", **last}


def _end(conductor: Conductor, left: int) -> str:
    """How an attempt ended that came to its end."""
    how = "stopped: it was interrupted, or lost the folder" if conductor.stopping else "finished"
    return f"{how}; {left:,} cells are still owed" if left else how


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
        note=tally.down or tally.stopping or (lane.standing if lane.standing.startswith("waits") else starting),
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


def _judged(folder: RunFolder, study: Study) -> dict[str, float]:
    """US dollars that judges have cost so far, by the model that they read."""
    judges = [reader.name for reader in study.spec.readers if isinstance(reader, JudgeReader)]
    return {
        model.name: sum(folder.rows(judge, model.name).counts().read_cost_usd for judge in judges)
        for model in study.spec.models
    }


def _say_end(
    conductor: Conductor,
    ends: Sequence[LaneEnd],
    left: Mapping[str, int],
    folder: RunFolder,
    study: Study,
    command: str,
) -> int:
    """What is still owed, to stderr, and the exit code."""
    for end in ends:
        if end.error:
            print(f"{end.model}: {end.error}", file=sys.stderr)
        elif end.tally.stopping and not conductor.stopping:
            print(f"{end.model}: asked no more: {end.tally.stopping}", file=sys.stderr)
    for model, cells in left.items():
        if cells:
            failed = folder.answers(model).counts().failed
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in failed.items())
            print(f"{model}: {cells:,} cells are still owed{f' ({kinds})' if kinds else ''}", file=sys.stderr)
            for sentence in _alike(study.spec.model(model), failed):
                print(f"{model}: {sentence}", file=sys.stderr)
    if not any(left.values()) and not any(end.error for end in ends):
        return OK
    print(f"resume with: {command}", file=sys.stderr)
    return INTERRUPTED if conductor.stopping else OWED


_FITS = "shorten the template or lower max_tokens, or give the engine more room (max_model_len)"
_SPEAKS = "raise temperature or max_tokens, or change the template"


def _alike(entry: ModelEntry, failed: Mapping[str, int]) -> list[str]:
    """What no further run will mend: on a model of one's own the cell's seed decides, so it would fail alike."""
    if isinstance(entry, Hosted):
        return []
    hints = {FailureKind.CONTEXT_LENGTH: _FITS, FailureKind.EMPTY: _SPEAKS}
    return [
        f"{failed[kind]:,} {kind} will fail alike on every run: {hint}"
        for kind, hint in hints.items()
        if failed.get(kind)
    ]
