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

from emoray import manifest, recovery
from emoray.belonging import Belonging, as_asked, failure_texts, unread, unread_texts
from emoray.compact import compact
from emoray.exit_codes import INTERRUPTED, OK, OWED
from emoray.hints import did_you_mean
from emoray.human import human_labels
from emoray.lease import Lease, holder
from emoray.progress import Progress, Standing, by_kind, waits_for_ray
from emoray.spec import (
    Account,
    Hosted,
    ModelEntry,
    ReaderEntry,
    SpecError,
    Study,
    Vllm,
    chosen_label_map,
    explored,
    moved,
    own_map,
    reads_as,
)
from emoray.store import STALE_NS, BrokenManifest, Deleted, RunFolder, StoreError, deleted
from emoray.stream.means import check_budgets, check_ids, check_keys
from emoray.study.goemotions import LabelMap
from emoray.study.outcomes import FailureKind
from emoray.study.sampling import drawn
from emoray.study.scoring import UNREADABLE, NeutralRule, RefusalRule
from emoray.tabs import book, lost_by_model
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
    folder = RunFolder(uri, begun=True)
    described = partial(_described, folder, study, extend=extend)
    _warn_of_lost(folder, described())
    _warn_of_older(folder, study)
    check_ids(study.spec, here=_here(address))
    check_keys(study.spec)
    check_budgets(study.spec)
    progress = Progress()
    capacity = _connected(progress, address, verbose=verbose)
    from emoray.stream.conduct import Conductor

    if extend:
        folder.set_aside_broken_manifest()
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
    folder = RunFolder(uri, begun=True)
    asked = manifest.study(recovery.kept(folder), folder.shown)
    own = {"accounts": asked.spec.accounts | dict(accounts or {}), "contrasts": []}  # the report has the run's
    alone = {"readers": [reader], **own}
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
    refusals: RefusalRule | None = None,
    ceilings: Sequence[str] = (),
    human: str | None = None,
    contrasts: Sequence[str] = (),
) -> str:
    """Writes a run's report (into `out`, or RUN/report) and returns the table for the terminal.

    Another label map or rule than the run's scores its stored readings anew; a map is MAP for the 28 labels, or
    READER=MAP for a reader's own. `ceilings` are files of `emoray validate --save`, `human` one of human labels,
    `contrasts` exploratory ones, as `spec.explored` takes them.
    SpecError, with nothing written, where they do not fit.
    """
    from emoray.report import Unusable, chosen, terminal_lines, terminal_table, write_report

    kept = recovery.kept(folder)
    study = manifest.study(kept, folder.shown)
    readers = manifest.readers(kept)
    labels, placed = _placed(label_maps, readers, study.label_map)
    validated = [human_text(path, list(placed.values()), labels) for path in ceilings]
    target, lost = RunFolder(out) if out else folder, _lost(folder, kept or {})
    source, left_out = as_asked(folder, study), ""
    if isinstance(source, Belonging):
        left_out = f"\nleft out: {source.strangers():,} answers in the folder that the spec does not ask for"
    settings = chosen(
        kept or {},
        labels=labels,
        neutral=neutral or study.spec.neutral,
        refusals=refusals or study.spec.refusals,
        own_maps=_own_maps(readers),
        moved=_own_maps({name: reader for name, reader in placed.items() if reader != readers[name]}),
        human_text={name: reads for names, reads in validated for name in names},
        human_labels=human_labels(human, labels) if human else None,
        looked=_looked(folder),
        explored=explored(study, contrasts, list(readers.values())),
    )
    try:
        summary = write_report(
            source,
            lambda relative, data: target.write_bytes(relative if out else f"report/{relative}", data),
            settings,
            lost_usd=lost,
        )
    except Unusable as wrong:
        raise SpecError(f"{human}: {wrong}" if human else str(wrong)) from None
    told = "".join(
        f"\nup to ${usd:,.2f} was spent on answers of {model} that nobody has" for model, usd in lost.items()
    )
    told += "".join(f"\n{line}" for line in terminal_lines(summary))
    return f"{terminal_table(summary)}\n{told}{left_out}\nreport: {target.where('' if out else 'report/')}report.html"


def _lost(folder: RunFolder, kept: Mapping[str, Any]) -> dict[str, float]:
    """US dollars at most for answers that nobody has, by model; of an attempt that another process works on, nothing is
    lost yet.
    """
    last: dict[str, Any] = next(iter(kept.get("attempts", [])[-1:]), {})
    held = holder(folder, time.time())
    at_work = held is not None and held.pid != os.getpid() and "end" not in last
    found = lost_by_model(folder, but=str(last.get("id", "?")) if at_work else None)
    return {model: usd for model, usd in found.items() if usd > 0}


def _looked(folder: RunFolder) -> list[int]:
    """How many answers there were at each report before, as the last one says; none where there is no such."""
    try:
        kept = json.loads(folder.read_bytes("report/summary.json") or b"{}")
        if kept and "looks" not in kept:  # of an earlier emoray, which counted none: it is one itself
            return [sum({one["model"]: int(one["counts"]["answers"]) for one in kept["models"]}.values())]
        return [int(count) for count in (kept.get("looks") or {}).get("answers", [])]
    except (KeyError, ValueError, TypeError, AttributeError):  # torn, or edited by hand
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
    manifest.study(recovery.kept(folder), folder.shown)
    lines = []
    with Lease(folder):
        for part in folder.parts():
            before = len(part.files())
            book(part)
            compact(part)
            lines.append(f"{part.relative}: {before} files are now {len(part.files())}")
    return "\n".join(lines)


def _warn_of_lost(folder: RunFolder, described: Mapping[str, Any]) -> None:
    """Of what the answers in a folder may be, where it does not say itself."""
    if described["attempts"] and _readable(folder) is None:
        print(
            f"warning: the run.json of {folder.shown} is lost: of its answers those are taken that this spec asks for, "
            "and its readings for those of the readers of that name",
            file=sys.stderr,
        )


def _warn_of_older(folder: RunFolder, study: Study) -> None:
    """Until there were sampling_defaults, engines took unsaid what a model's generation_config has."""
    kept = ((_readable(folder) or {}).get("spec") or {}).get("models", [])
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
    kept = _readable(folder) if extend else folder.manifest()
    if kept is None:
        return _first(folder, study, extend=extend)
    _check_same(study, folder, kept, extend=extend)
    read, known = folder.readers(), manifest.readers(kept)
    for reader in study.spec.readers:
        if reader.name in read:
            _check_reader(known, reader)
    own = {reader.name for reader in study.spec.readers}
    more = [entry for name, entry in known.items() if name in read and name not in own]  # their rows stay, and count
    extended = extend or kept.get("extended", False)
    new = bool(study.spec.contrasts) and not recovery.has_answers(folder)
    first = manifest.said_first(study) if new else {}
    return kept | manifest.described(study) | first | {"extended": extended, "more_readers": _dumped(more)}


def _first(folder: RunFolder, study: Study, *, extend: bool) -> dict[str, Any]:
    """The manifest where there is none; SpecError where there are answers of which then nobody knows what they are."""
    if not recovery.has_answers(folder):
        return manifest.fresh(study) | {"extended": extend}
    if not extend:
        raise SpecError(
            f"{folder.shown} holds answers and no run.json, so nobody knows to what they are answers; put its run.json "
            "back, choose another folder with --out, or add --extend to take those that this spec asks for"
        )
    return recovery.rebuilt(folder, study)


def _readable(folder: RunFolder) -> dict[str, Any] | None:
    """The manifest; None where there is none, or a broken one."""
    try:
        return folder.manifest()
    except BrokenManifest:
        return None


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
    from emoray.stream.vigil import vigil

    attempt = manifest.attempt(shlex.split(command))
    ends: list[LaneEnd] = []
    with _Interruption(command) as interruption:
        conductor = conductor_of(attempt["id"])
        with _leased(folder) as lease:
            whole = described()  # once more: a run that ended meanwhile has written to it
            if _take_in(folder, whole):
                conductor = conductor_of(attempt["id"])  # what was spent before is more than the first one knew
            try:
                lost = partial(_lost_ray, folder, whole, attempt, lease, command)
                with _kept(folder, whole, attempt, lease), vigil(lost, OWED):
                    _open_account(conductor, whole, attempt)
                    folder.write_manifest(whole)
                    sampled = _Sampled(study, folder, whole, attempt, lease)
                    with _guarded(folder, lease):
                        ends += _conduct(conductor, folder, lease, interruption, sampled, progress or Progress())
                    _check_held(lease, folder)
                    _take_in(folder, whole)
                    left = {lane.model: lane.left() for lane in conductor.lanes}
                    costs = _costs(attempt, {lane.model: lane.spent() for lane in conductor.lanes}, conductor.lanes)
                    attempt["lanes"] = [_lane(end) | costs[end.model] for end in ends]
                    folder.write_manifest(whole)
                    print(report(folder))
                    attempt["end"] = _end(conductor, sum(left.values()))
            except StoreError as wrong:  # a disk that filled up while it was written to: what is there is kept
                return _say_cut_off(wrong, ends, stopped=conductor.stopping or lease.lost.is_set(), command=command)
        return _say_end(conductor, ends, left, folder, study, command)
    return INTERRUPTED


def _say_cut_off(wrong: StoreError, ends: Sequence[LaneEnd], *, stopped: bool, command: str) -> int:
    """Of an attempt that could not be written down to its end: why, and what became of what its lanes received."""
    print(f"emoray: {wrong}", file=sys.stderr)
    for end in ends:
        if end.tally.unwritten:
            print(f"{end.model}: {end.tally.unwritten.removeprefix('; ')}", file=sys.stderr)
    print(f"resume with: {command}", file=sys.stderr)
    return INTERRUPTED if stopped and not isinstance(wrong, Deleted) else OWED


def _take_in(folder: RunFolder, whole: Mapping[str, Any]) -> bool:
    """Whether anything was, of what the attempts at a run had put aside; what stays where it is is said."""
    from emoray.stream import cluster

    taken = cluster.take_in(folder, [one.get("id") for one in whole["attempts"]])
    if taken.files:
        print(f"{taken.files:,} files of rows that had been put aside are now in {folder.shown}", file=sys.stderr)
    if taken.wrong:
        print(f"warning: rows that were put aside stay there: {taken.wrong}", file=sys.stderr)
    for left in taken.left:
        print(f"warning: {left} has rows of a run that {folder.shown} does not know: they stay there", file=sys.stderr)
    return taken.files > 0


@contextmanager
def _leased(folder: RunFolder) -> Iterator[Lease]:
    """The right to write to a folder that all nodes see, in which nothing is torn and nothing left by the dead."""
    from emoray.stream import cluster

    cluster.check_folder(folder)
    began_ns = time.time_ns()
    with Lease(folder) as lease:
        for part in folder.parts():
            part.repair(now_ns=began_ns)
        folder.sweep(began_ns - STALE_NS)
        folder.lay_ballast()
        try:
            yield lease
        finally:
            if not lease.lost.is_set():
                with suppress(StoreError):
                    _sweep(folder, began_ns)


def _sweep(folder: RunFolder, began_ns: int) -> None:
    """What was begun before this run is nobody's any more when it ends."""
    folder.sweep(began_ns)
    for part in folder.parts():
        part.sweep(began_ns)


@contextmanager
def _guarded(folder: RunFolder, lease: Lease) -> Iterator[None]:
    """While lanes run: where somebody deletes the folder, its lease is lost at once and not at the next beat."""
    over, look_s = threading.Event(), 0.5 if folder.fs.type_name == "local" else _FAR_LOOK_S

    def look() -> None:
        missed = 0
        while missed < 2 and not over.wait(look_s):
            missed = 0 if folder.holds("run.json") else missed + 1
        if missed == 2:
            lease.lost.set()

    thread = threading.Thread(target=look, name="guard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


_FAR_LOOK_S = 3.0  # an object store wants a request for each look


def _lost_ray(
    folder: RunFolder, whole: dict[str, Any], attempt: dict[str, Any], lease: Lease, command: str, why: str
) -> None:
    """Says and writes down that Ray has died under this run; from a thread, while the others may wait for Ray."""
    print(f"emoray: this run cannot go on: {why}; what it received is kept\nresume with: {command}", file=sys.stderr)
    attempt |= {"end": f"died: {why}", "ended": datetime.now(UTC).isoformat(timespec="seconds")}
    with suppress(StoreError, RuntimeError):  # the attempt may change while it is written
        if not lease.lost.is_set():
            folder.write_manifest(whole)
            lease.release()


def _check_held(lease: Lease, folder: RunFolder) -> None:
    if why := _taken(lease, folder):
        raise why


def _gone(folder: RunFolder) -> bool:
    return not folder.holds("run.json")


def _taken(lease: Lease, folder: RunFolder) -> StoreError | None:
    """Why the folder is not ours any more."""
    if not lease.lost.is_set():
        return None
    if _gone(folder):
        return Deleted(deleted(folder.shown))
    return StoreError(
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
        self._since: dict[str, str] = attempt.setdefault("asks_since", {})

    def look(self, lanes: Sequence[Lane]) -> None:
        """Nothing is written where nothing new is known, or the folder is another run's. Who has told begins to ask."""
        news = {lane.model: self._of(lane) for lane in lanes if lane.model not in self._known}
        told = {model: settings for model, settings in news.items() if settings}
        self._known.update(told)
        self._since.update(dict.fromkeys(told, datetime.now(UTC).isoformat(timespec="seconds")))
        if told and not self._lease.lost.is_set():
            with suppress(StoreError):  # whoever cannot write answers either says so himself
                self._folder.write_manifest(self._whole)

    def _of(self, lane: Lane) -> dict[str, Any] | None:
        tally, asked = lane.tally(), self._study.experiment.grid(lane.model).model.sampling
        if tally.defaults is not None:
            return {**drawn(asked, tally.defaults), "defaults": getattr(lane.entry, "sampling_defaults", "spec")}
        return {**asdict(asked), "defaults": "provider"} if tally.speakers and isinstance(lane.entry, Hosted) else None


def _open_account(conductor: Conductor, whole: dict[str, Any], attempt: dict[str, Any]) -> None:
    """Notes what there is as an attempt begins, and what one before it did and cost that could not say so: of the
    models that both ask. Of any other the next that asks it tells, before it adds to it.
    """
    attempt["settled_before"] = conductor.settled_before()
    attempt["spent_before"] = spent = {lane.model: lane.spent() for lane in conductor.lanes}
    for silent in [one for one in whole["attempts"][:-1] if "spent_before" in one]:
        told = {lane["model"] for lane in silent.get("lanes", ())}
        new = {model: n - silent["settled_before"].get(model, 0) for model, n in attempt["settled_before"].items()}
        costs = _costs(silent, spent, [lane for lane in conductor.lanes if lane.model not in told])
        if lanes := [{"model": model, "answered": new[model], **costs[model], "error": None} for model in costs]:
            silent["lanes"] = [*silent.get("lanes", ()), *lanes]


def _costs(
    attempt: Mapping[str, Any], spent: Mapping[str, Mapping[str, float]], lanes: Sequence[Lane]
) -> dict[str, dict[str, float]]:
    """By model: what the rows cost that came since an attempt began, and what it lost, whoever of it died."""
    before = attempt["spent_before"]
    return {
        lane.model: {name: n - before[lane.model][name] for name, n in spent[lane.model].items()}
        | lane.lost(attempt["id"])
        for lane in lanes
        if lane.model in before
    }


def _conduct(
    conductor: Conductor,
    folder: RunFolder,
    lease: Lease,
    interruption: _Interruption,
    sampled: _Sampled,
    progress: Progress,
) -> list[LaneEnd]:
    """Lets the lanes run: watched, and interruptible."""
    progress.begin()
    said = set[str]()

    def hear(lanes: Sequence[Lane]) -> None:
        sampled.look(lanes)
        for new in [(lane.model, *note) for lane in lanes for note in lane.tally().notes]:
            warning = f"warning: {f'reader {new[1]!r}' if new[1] else f'model {new[0]!r}'}: {new[2]}"
            if warning not in said:
                said.add(warning)
                progress.say(warning)

    def watch(lanes: Sequence[Lane]) -> None:
        if interruption.asked and not conductor.stopping:
            conductor.stop("interrupted")
            print("\nstopping: what is in flight is still received; once more to stop at once", file=sys.stderr)
        hear(lanes)
        progress.show({lane.model: _standing(lane) for lane in lanes})
        if lease.lost.is_set() and not conductor.stopping:
            conductor.stop("the folder was deleted" if _gone(folder) else "the lease of the folder was lost")

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
        "put_aside": sum(tally.aside.values()),
        "lost": tally.lost,
        "error": end.error,
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
