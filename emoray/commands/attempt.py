"""One attempt at a run folder, from the checks before anything is written to the table at the end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from emoray.commands.progress import Progress, Standing
from emoray.exit_codes import INTERRUPTED, OWED
from emoray.plurals import be, count
from emoray.run_folder import manifest, recovery
from emoray.run_folder.errors import StoreError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import Lease
from emoray.run_folder.run_json import Manifest, UntilRecord
from emoray.spec.accounts import Account
from emoray.spec.readers import ReaderEntry
from emoray.spec.study import Study
from emoray.stream.accounts import check_budgets, check_ids, check_keys
from emoray.stream.address import waits_for_ray

if TYPE_CHECKING:  # Ray takes seconds to import: what is wrong, and what is waited for, is said before
    from emoray.stream.cluster import Capacity
    from emoray.stream.driver import RunDriver
    from emoray.stream.lane import Lane, LaneEnd
    from emoray.stream.lane_state import LaneCounts
from emoray.commands.described import check_place, described_as, described_with, readable, warn_of_lost, warn_of_older
from emoray.commands.held import check_held, guarded, is_gone, leased, lost_ray
from emoray.commands.interruption import Interruption
from emoray.commands.record import SampledBy, costs_of, end_of, kept_record, lane_record, open_account, tell_late
from emoray.commands.report import report
from emoray.commands.summary import say_cut_off, say_end


def run(
    study: Study,
    uri: str,
    *,
    command: str,
    limit: int | None = None,
    extend: bool = False,
    address: str | None = None,
    verbose: bool = False,
    until: UntilRecord | None = None,
) -> int:
    """Asks what is owed, reads, scores and reports; returns the exit code. `command` resumes the run, `until` is the
    stopping rule that this is a wave of.

    UserError or StoreError before anything is written, where the folder or the cluster cannot hold the run.
    """
    folder = RunFolder(uri, begun=True)
    check_place(folder)
    described = partial(described_as, folder, study, extend=extend)
    warn_of_lost(folder, described())
    warn_of_older(folder, study)
    check_ids(study.spec, here=_here(address))
    check_keys(study.spec, readable(folder))
    check_budgets(study.spec)
    progress = Progress()
    capacity = _connected(progress, address, verbose=verbose)
    from emoray.stream.driver import RunDriver

    if extend:
        folder.set_aside_broken_manifest()
    driver = partial(RunDriver, study, folder, capacity, limit=limit)
    return _attempt(folder, study, described, command, driver, progress, limit, until)


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
    kept = recovery.begun(folder)
    asked = manifest.study(kept, folder.shown)
    own = {"accounts": asked.spec.accounts | dict(accounts or {}), "contrasts": []}  # the report has the run's
    alone = {"readers": [reader], **own}
    study = Study(asked.spec.model_copy(update=alone), label_map=asked.label_map)
    described = partial(described_with, folder, reader)
    described()
    readers = study.spec.model_copy(update={"models": []})  # nothing is asked of the models
    check_ids(readers, here=_here(address))
    check_keys(readers, kept)
    check_budgets(readers)
    progress = Progress()
    capacity = _connected(progress, address, verbose=verbose)
    from emoray.stream.driver import RunDriver

    driver = partial(RunDriver, study, folder, capacity, asks=False)
    return _attempt(folder, study, described, command, driver, progress)


def _connected(progress: Progress, address: str | None, *, verbose: bool) -> Capacity:
    progress.wait(waits_for_ray(address))
    from emoray.stream import cluster

    return cluster.connect(address, verbose=verbose)


def _here(address: str | None) -> bool:
    """Whether all of it runs on this machine."""
    return not (address or os.environ.get("RAY_ADDRESS"))


def _attempt(
    folder: RunFolder,
    study: Study,
    described: Callable[[], Manifest],
    command: str,
    conductor_of: Callable[..., RunDriver],
    progress: Progress | None = None,
    limit: int | None = None,
    until: UntilRecord | None = None,
) -> int:
    """One attempt, under the folder's lease; `described` reads the manifest that it is written into."""
    from emoray.stream.vigil import vigil

    attempt = manifest.attempt(shlex.split(command))
    if limit is not None:
        attempt.limit = limit
    if until is not None:
        attempt.until = until
    ends: list[LaneEnd] = []
    with Interruption(command) as interruption:
        driver = conductor_of(attempt.id)
        with leased(folder) as lease:
            whole = described()  # once more: a run that ended meanwhile has written to it
            if _take_in(folder, whole):
                driver = conductor_of(attempt.id)  # what was spent before is more than the first one knew
            try:
                lost = partial(lost_ray, folder, whole, attempt, lease, command)
                with kept_record(folder, whole, attempt, lease), vigil(lost, OWED):
                    open_account(driver, whole, attempt)
                    folder.write_manifest(whole.as_json())
                    sampled = SampledBy(study, folder, whole, attempt, lease)
                    with guarded(folder, lease):
                        ends += _conduct(driver, folder, lease, interruption, sampled, progress or Progress())
                    check_held(lease, folder)
                    _take_in(folder, whole)
                    left = {lane.model: lane.left() for lane in driver.lanes}
                    costs = costs_of(attempt, {lane.model: lane.spent() for lane in driver.lanes}, driver.lanes)
                    attempt.lanes = [lane_record(end, costs[end.model]) for end in ends]
                    tell_late(driver.lanes, whole.attempts[:-1])
                    folder.write_manifest(whole.as_json())
                    print(report(folder))
                    attempt.end = end_of(driver, sum(left.values()))
            except StoreError as wrong:  # a disk that filled up while it was written to: what is there is kept
                return say_cut_off(wrong, ends, stopped=driver.stopping or lease.lost.is_set(), command=command)
        return say_end(driver, ends, left, folder, study, command)
    return INTERRUPTED


def _take_in(folder: RunFolder, whole: Manifest) -> bool:
    """Whether anything was, of what the attempts at a run had put aside; what stays where it is is said."""
    from emoray.stream import cluster

    taken = cluster.take_in(folder, [one.id for one in whole.attempts if one.id])
    if taken.files:
        print(
            f"{count(taken.files, 'file')} of rows that had been put aside {be(taken.files)} now in {folder.shown}",
            file=sys.stderr,
        )
    if taken.wrong:
        print(f"warning: rows that were put aside stay there: {taken.wrong}", file=sys.stderr)
    for left in taken.left:
        print(f"warning: {left} has rows of a run that {folder.shown} does not know: they stay there", file=sys.stderr)
    return taken.files > 0


def _conduct(
    driver: RunDriver,
    folder: RunFolder,
    lease: Lease,
    interruption: Interruption,
    sampled: SampledBy,
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
        if interruption.asked and not driver.stopping:
            driver.stop("interrupted")
            progress.say("stopping: what is in flight is still received; once more to stop at once")
        hear(lanes)
        progress.show({lane.model: _standing(lane) for lane in lanes})
        if lease.lost.is_set() and not driver.stopping:
            driver.stop("the folder was deleted" if is_gone(folder) else "the lease of the folder was lost")

    with interruption.left_to_watch(), progress.says_what_is_logged():
        ends = driver.run(watch)
    hear(driver.lanes)
    progress.show({lane.model: _standing(lane) for lane in driver.lanes}, last=True)
    return ends


def _standing(lane: Lane) -> Standing:
    tally = lane.tally()
    note, waits = _note(lane, tally)
    before = min(lane.settled_before, lane.cells)
    return Standing(
        total=lane.cells,
        before=before,
        settled=before + tally.answered,
        failed=sum(tally.failed.values()),
        read=lane.read_by_all(tally),
        note=note,
        waits=waits,
        kinds=dict(tally.failed),
    )


def _note(lane: Lane, tally: LaneCounts) -> tuple[str, str]:
    """What stands in the lane's line, and what is said once where no line is drawn over."""
    if why := tally.down or tally.stopping:
        return why, ""
    if lane.standing.startswith("waits"):
        return lane.standing, f"{lane.model} {lane.standing}"
    return (waits := lane.waits_for(tally)), waits
