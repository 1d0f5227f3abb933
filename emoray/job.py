"""One attempt at a run folder, from the checks before anything is written to the table at the end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from emoray import manifest
from emoray.belonging import Belonging, as_asked, failure_texts, unread, unread_texts
from emoray.compact import compact
from emoray.exit_codes import INTERRUPTED, OK, OWED
from emoray.hints import did_you_mean
from emoray.human import human_labels
from emoray.lease import Lease
from emoray.progress import Progress, Standing, by_kind, waits_for_ray
from emoray.spec import (
    Account,
    Hosted,
    JudgeReader,
    ModelEntry,
    ReaderEntry,
    SpecError,
    Study,
    Vllm,
    chosen_label_map,
    moved,
    own_map,
    reads_as,
)
from emoray.store import RunFolder, StoreError
from emoray.stream.means import check_budgets, check_ids, check_keys
from emoray.study.goemotions import LabelMap
from emoray.study.outcomes import FailureKind
from emoray.study.sampling import drawn
from emoray.study.scoring import UNREADABLE, NeutralRule
from emoray.validate import human_text

if TYPE_CHECKING:  # Ray takes seconds to import: what is wrong, and what is waited for, is said before
    from emoray.stream.cluster import Capacity
    from emoray.stream.conduct import Conductor
    from emoray.stream.lane import Lane, LaneEnd
    from emoray.stream.ledger import Tally


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
    described = partial(_described, folder, study, extend=extend)
    described()
    _warn_of_older(folder, study)
    check_ids(study.spec, here=_here(address))
    check_keys(study.spec)
    check_budgets(study.spec)
    progress = Progress()
    capacity = _connected(progress, address, verbose=verbose)
    from emoray.stream.conduct import Conductor

    conductor = partial(Conductor, study, folder, capacity, limit=limit)
    return _attempt(folder, study, described, command, conductor, progress)


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
    asked = manifest.study(folder.manifest(), folder.shown)
    alone = {"readers": [reader], "accounts": asked.spec.accounts | dict(accounts or {})}
    study = Study(asked.spec.model_copy(update=alone), label_map=asked.label_map)
    described = partial(_with_reader, folder, reader)
    described()
    readers = study.spec.model_copy(update={"models": []})  # nothing is asked of the models
    check_ids(readers, here=_here(address))
    check_keys(readers)
    check_budgets(readers)
    progress = Progress()
    capacity = _connected(progress, address, verbose=verbose)
    from emoray.stream.conduct import Conductor

    conductor = partial(Conductor, study, folder, capacity, asks=False)
    return _attempt(folder, study, described, command, conductor, progress)


def _connected(progress: Progress, address: str | None, *, verbose: bool) -> Capacity:
    progress.wait(waits_for_ray(address))
    from emoray.stream import cluster

    return cluster.connect(address, verbose=verbose)


def _here(address: str | None) -> bool:
    """Whether all of it runs on this machine."""
    return not (address or os.environ.get("RAY_ADDRESS"))


def report(
    folder: RunFolder,
    out: str | None = None,
    *,
    label_maps: Sequence[str] = (),
    neutral: NeutralRule | None = None,
    ceilings: Sequence[str] = (),
    human: str | None = None,
) -> str:
    """Writes a run's report (into `out`, or RUN/report) and returns the table for the terminal.

    Another label map or neutral rule than the run's scores its stored readings anew; a map is MAP for the 28 labels, or
    READER=MAP for a reader's own. `ceilings` are files of `emoray validate --save`, `human` one of human labels.
    SpecError, with nothing written, where they do not fit.
    """
    from emoray.report import Unusable, terminal_table, write_report

    kept = folder.manifest()
    study = manifest.study(kept, folder.shown)
    readers = manifest.readers(kept)
    labels, placed = _placed(label_maps, readers, study.label_map)
    validated = [human_text(path, list(placed.values()), labels) for path in ceilings]
    target = RunFolder(out) if out else folder
    source, left_out = as_asked(folder, study), ""
    if isinstance(source, Belonging):
        left_out = f"\nleft out: {source.strangers():,} answers in the folder that the spec does not ask for"
    try:
        summary = write_report(
            source,
            lambda relative, data: target.write_bytes(relative if out else f"report/{relative}", data),
            labels=labels,
            neutral=neutral or study.spec.neutral,
            own_maps=_own_maps(readers),
            moved=_own_maps({name: reader for name, reader in placed.items() if reader != readers[name]}),
            human_text={name: reads for names, reads in validated for name in names},
            human_labels=human_labels(human, labels) if human else None,
            looked=_looked(folder),
        )
    except Unusable as wrong:
        raise SpecError(f"{human}: {wrong}" if human else str(wrong)) from None
    return f"{terminal_table(summary)}\n{left_out}\nreport: {target.where('' if out else 'report/')}report.html"


def _looked(folder: RunFolder) -> list[int]:
    """How many answers there were at each report before, as the last one says; none where there is no such."""
    try:
        kept = json.loads(folder.read_bytes("report/summary.json") or b"{}")
        return [int(count) for count in (kept.get("looks") or {}).get("answers", [])]
    except (ValueError, TypeError, AttributeError):  # torn, or edited by hand
        return []


def _placed(
    label_maps: Sequence[str], readers: Mapping[str, ReaderEntry], labels: LabelMap
) -> tuple[LabelMap, dict[str, ReaderEntry]]:
    """The map of the 28 labels, and the readers with their own labels, where MAP and READER=MAP put them."""
    placed = dict(readers)
    for one in label_maps:
        name, of_reader, path = one.partition("=")
        name = unicodedata.normalize("NFC", name)
        if not of_reader or Path(one).is_file():
            labels = chosen_label_map(one, Path())
        elif name in placed:
            placed[name] = moved(placed[name], path)
        else:
            hint = did_you_mean(name, placed)
            raise SpecError(f"label_map: the run has no reader {name!r} for {path}; it has {', '.join(placed)}{hint}")
    return labels, placed


def _own_maps(readers: Mapping[str, ReaderEntry]) -> dict[str, LabelMap]:
    return {name: found for name, reader in readers.items() if (found := own_map(reader)) is not None}


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


def _warn_of_older(folder: RunFolder, study: Study) -> None:
    """Until there were sampling_defaults, engines took unsaid what a model's generation_config has."""
    kept = ((folder.manifest() or {}).get("spec") or {}).get("models", [])
    older = {one.get("name") for one in kept if one.get("host") == "vllm" and "sampling_defaults" not in one}
    for entry in study.spec.models:
        if isinstance(entry, Vllm) and entry.name in older and folder.answers(entry.name).counts().answered:
            print(
                f"warning: model {entry.name!r}: its answers in {folder.shown} were drawn with the model's own "
                "generation_config where the spec leaves something open, and no further ones will be; where that has "
                "top_k, top_p or a penalty, choose another folder with --out",
                file=sys.stderr,
            )


def _described(folder: RunFolder, study: Study, *, extend: bool) -> dict[str, Any]:
    """The manifest of a run of this study; SpecError where the folder holds what does not go with it."""
    kept = folder.manifest()
    if kept is None:
        return manifest.fresh(study) | {"extended": extend}
    _check_same(study, folder, kept, extend=extend)
    read, known = folder.readers(), manifest.readers(kept)
    for reader in study.spec.readers:
        if reader.name in read:
            _check_reader(known, reader)
    own = {reader.name for reader in study.spec.readers}
    more = [entry for name, entry in known.items() if name in read and name not in own]  # their rows stay, and count
    extended = extend or kept.get("extended", False)
    return kept | manifest.described(study) | {"extended": extended, "more_readers": _dumped(more)}


def _with_reader(folder: RunFolder, reader: ReaderEntry) -> dict[str, Any]:
    """The manifest that also knows a reader which the spec does not have; SpecError where another has its name."""
    kept = folder.manifest() or {}
    known = manifest.readers(kept)
    _check_reader(known, reader)
    if reader.name in {entry.name for entry in manifest.study(kept, folder.shown).spec.readers}:
        return kept
    later = manifest.readers({"more_readers": kept.get("more_readers", [])}) | {reader.name: reader}
    return kept | {"more_readers": _dumped(later.values())}


def _check_reader(known: Mapping[str, ReaderEntry], reader: ReaderEntry) -> None:
    """One name is one reader: readings under it must not be of two."""
    if reads_as(known.get(reader.name, reader)) != reads_as(reader):
        raise SpecError(f"the run has another reader called {reader.name!r} already; give this one a name of its own")


def _dumped(readers: Iterable[ReaderEntry]) -> list[dict[str, Any]]:
    return [reader.model_dump(mode="json") for reader in readers]


def _attempt(
    folder: RunFolder,
    study: Study,
    described: Callable[[], dict[str, Any]],
    command: str,
    conductor_of: Callable[..., Conductor],
    progress: Progress | None = None,
) -> int:
    """One attempt, under the folder's lease; `described` reads the manifest that it is written into."""
    attempt = manifest.attempt(shlex.split(command))
    with _Interruption(command) as interruption:
        conductor = conductor_of(attempt["id"])
        with _leased(folder) as lease:
            whole = described()  # once more: a run that ended meanwhile has written to it
            try:
                with _kept(folder, whole, attempt, lease):
                    attempt["settled_before"] = conductor.settled_before()
                    paid = _judged(folder, study)
                    sampled = _Sampled(study, folder, whole, attempt, lease)
                    ends = _conduct(conductor, lease, interruption, sampled, progress or Progress())
                    _check_held(lease, folder)
                    left = {lane.model: lane.left() for lane in conductor.lanes}
                    judged = {model: usd - paid[model] for model, usd in _judged(folder, study).items()}
                    attempt["lanes"] = [_lane(end) | {"read_cost_usd": judged[end.model]} for end in ends]
                    folder.write_manifest(whole)
                    print(report(folder))
                    attempt["end"] = _end(conductor, sum(left.values()))
            except StoreError as wrong:  # a disk that filled up while it was written to: what is there is kept
                print(f"emoray: {wrong}\nresume with: {command}", file=sys.stderr)
                return INTERRUPTED if conductor.stopping or lease.lost.is_set() else OWED
        return _say_end(conductor, ends, left, folder, study, command)
    return INTERRUPTED


@contextmanager
def _leased(folder: RunFolder) -> Iterator[Lease]:
    """The right to write to a folder that all nodes see, in which nothing is torn."""
    from emoray.stream import cluster

    cluster.check_folder(folder)
    with Lease(folder) as lease:
        for part in folder.parts():
            part.repair(now_ns=time.time_ns())
        yield lease


def _check_held(lease: Lease, folder: RunFolder) -> None:
    if lease.lost.is_set():
        raise StoreError(
            f"another run took over {folder.shown}, or it was out of reach for long: this run stopped, and what it "
            "received is kept"
        )


class _Sampled:
    """How each model's answers are drawn, written into run.json as soon as its host has told."""

    def __init__(
        self, study: Study, folder: RunFolder, whole: dict[str, Any], attempt: dict[str, Any], lease: Lease
    ) -> None:
        self._study, self._folder, self._whole, self._lease = study, folder, whole, lease
        self._known: dict[str, Any] = attempt.setdefault("sampling", {})

    def look(self, lanes: Sequence[Lane]) -> None:
        """Nothing is written where nothing new is known, or the folder is another run's."""
        news = {lane.model: self._of(lane) for lane in lanes if lane.model not in self._known}
        told = {model: settings for model, settings in news.items() if settings}
        self._known.update(told)
        if told and not self._lease.lost.is_set():
            with suppress(StoreError):  # whoever cannot write answers either says so himself
                self._folder.write_manifest(self._whole)

    def _of(self, lane: Lane) -> dict[str, Any] | None:
        tally, asked = lane.tally(), self._study.experiment.grid(lane.model).model.sampling
        if tally.defaults is not None:
            return {**drawn(asked, tally.defaults), "defaults": getattr(lane.entry, "sampling_defaults", "spec")}
        return {**asdict(asked), "defaults": "provider"} if tally.speakers and isinstance(lane.entry, Hosted) else None


def _conduct(
    conductor: Conductor, lease: Lease, interruption: _Interruption, sampled: _Sampled, progress: Progress
) -> list[LaneEnd]:
    """Lets the lanes run: watched, and interruptible."""
    progress.begin()
    said = set[tuple[str, str]]()

    def hear(lanes: Sequence[Lane]) -> None:
        sampled.look(lanes)
        for new in [(lane.model, note) for lane in lanes for note in lane.tally().notes]:
            if new not in said:
                said.add(new)
                progress.say(f"warning: model {new[0]!r}: {new[1]}")

    def watch(lanes: Sequence[Lane]) -> None:
        if interruption.asked and not conductor.stopping:
            conductor.stop("interrupted")
            print("\nstopping: what is in flight is still received; once more to stop at once", file=sys.stderr)
        hear(lanes)
        progress.show({lane.model: _standing(lane) for lane in lanes})
        if lease.lost.is_set() and not conductor.stopping:
            conductor.stop("the lease of the folder was lost")

    with interruption.left_to_watch():
        ends = conductor.run(watch)
    hear(conductor.lanes)
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
def _kept(folder: RunFolder, whole: dict[str, Any], attempt: dict[str, Any], lease: Lease) -> Iterator[None]:
    """Writes the attempt into run.json when it begins and again when it ends, however it ends; but for a folder that is
    another run's by then.
    """
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
        if not lease.lost.is_set():
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
    how = "stopped: it was interrupted" if conductor.stopping else "finished"
    return f"{how}; {left:,} cells are still owed" if left else how


class _Interruption:
    """Ctrl-C and SIGTERM. While lanes run the first is acted on by whoever watches: Ray and stderr are no places for a
    handler, which may interrupt either of them in the middle; the second ends the process at once. At any other time
    it ends the attempt with the command that resumes.
    """

    def __init__(self, command: str) -> None:
        self.asked = False
        self._command, self._watched = command, False
        self._before: dict[signal.Signals, Any] = {}  # who heard them

    def __call__(self, number: int, _: FrameType | None) -> None:
        if not self._watched:
            raise KeyboardInterrupt
        if self.asked:
            os.write(sys.stderr.fileno(), f"\nnot waiting; resume with: {self._command}\n".encode())
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.asked = True

    def __enter__(self) -> _Interruption:
        if threading.current_thread() is threading.main_thread():  # signals reach no other
            self._before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, KeyboardInterrupt):
            print(f"\nemoray: interrupted\nresume with: {self._command}", file=sys.stderr)
        return isinstance(error, KeyboardInterrupt)

    @contextmanager
    def left_to_watch(self) -> Iterator[None]:
        """While the lanes run."""
        self._watched = True
        try:
            yield
        finally:
            self._watched = False


def _standing(lane: Lane) -> Standing:
    tally = lane.tally()
    note, waits = _note(lane, tally)
    before = min(lane.settled_before, lane.cells)
    return Standing(
        total=lane.cells,
        before=before,
        settled=before + tally.answered,
        failed=sum(tally.failed.values()),
        read=min(tally.read.values(), default=0),
        note=note,
        waits=waits,
    )


def _note(lane: Lane, tally: Tally) -> tuple[str, str]:
    """What stands in the lane's line, and what is said once where no line is drawn over."""
    if why := tally.down or tally.stopping:
        return why, ""
    if lane.standing.startswith("waits"):
        return lane.standing, f"{lane.model} {lane.standing}"
    return (waits := lane.waits_for(tally)), waits


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
            kinds = f" ({by_kind(failed)})" if failed else ""
            print(f"{model}: {cells:,} cells are still owed{kinds}", file=sys.stderr)
            for kind, text in failure_texts(folder.answers(model)).items() if failed else ():
                print(f"{model}: {kind}, for example: {text}", file=sys.stderr)
            for sentence in [*_alike(study.spec.model(model), failed), *_not_read(folder, study, model)]:
                print(f"{model}: {sentence}", file=sys.stderr)
    if not any(left.values()) and not any(end.error for end in ends):
        return OK
    print(f"resume with: {command}", file=sys.stderr)
    return INTERRUPTED if conductor.stopping else OWED


def _not_read(folder: RunFolder, study: Study, model: str) -> Iterator[str]:
    """Which readers could not read some of the answers, and why."""
    for name in (reader.name for reader in study.spec.readers):
        part = folder.rows(name, model)
        if kinds := unread(part):
            hints = "".join(hint for kind, hint in _READS_ALIKE.items() if kind in kinds)
            yield f"reader {name} could not read {by_kind(kinds)}{hints}"
            yield from (f"{kind}, for example: {text}" for kind, text in unread_texts(part).items())


_FITS = "shorten the template or lower max_tokens, or give the engine more room (max_model_len)"
_SPEAKS = "raise temperature or max_tokens, or change the template"
_READS_ALIKE = {
    "unparsed": "; a judge that says the same each time will fail alike: change its rubric, structured or sampling",
    UNREADABLE: "; a network that fails on a text will fail alike: lower its max_tokens, or take another reader",
}


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
