"""Nights with deaths, stalls, jumping clocks and lost messages: what was paid for is there in the morning."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from emoray.rate_limits.account_bucket import Bucket
from emoray.run_folder.lease import Lease
from emoray.run_folder.tabs import PartTab
from emoray.stream.lane_state import LaneState, Verdict
from tests.simulation import night
from tests.simulation.night import Ledger, Night

Plant = Callable[[pytest.MonkeyPatch], None]
_MEMORY = Path("/dev/shm")  # an fsync there costs nothing


def ledger(seed: int) -> Ledger:
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        return Night(seed, Path(folder) / "run").spent()


def wrong(seeds: Iterable[int]) -> Iterator[tuple[int, list[str]]]:
    """The seeds of nights that went wrong, each as it is found, and how."""
    for seed in seeds:
        if found := ledger(seed).wrong:
            yield seed, found


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.campaign) for n in range(300, 10_000, 300))])
def test_in_the_morning_all_is_there_once_and_paid_once(first: int) -> None:
    assert list(wrong(range(first, first + 300))) == []


def test_a_night_is_the_same_again() -> None:
    assert [ledger(seed).__dict__ for seed in range(5)] == [ledger(seed).__dict__ for seed in range(5)]


def _tabs_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    async def keep(_: PartTab) -> None:
        pass

    patch.setattr(PartTab, "_keep", keep)


def _a_journal_promises_too_early(patch: pytest.MonkeyPatch) -> None:
    append = night._Journal.append

    def promised(journal: Any, table: pa.Table) -> Future[None]:
        append(journal, table)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    patch.setattr(night._Journal, "append", promised)


def _a_limiter_that_is_born_again_knows_of_no_money(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Bucket, "remember", lambda *_: None)


def _permits_come_back_with_every_message(patch: pytest.MonkeyPatch) -> None:
    book = Bucket._book

    def booked(bucket: Bucket, holder: str, ledger: Any, name: str, now: float) -> Any:
        if known := bucket._holders.get(holder):  # what was told before is taken for new
            known.ledger = type(ledger)(held=known.ledger.held)
        return book(bucket, holder, ledger, name, now)

    patch.setattr(Bucket, "_book", booked)


def _a_block_is_begun_anew(patch: pytest.MonkeyPatch) -> None:
    begin = LaneState.begin

    def begun(lane: LaneState, block: str, cells: int) -> Verdict:
        verdict = begin(lane, block, cells)
        return Verdict.BEGIN if verdict is Verdict.RESUME else verdict

    patch.setattr(LaneState, "begin", begun)


def _nobody_looks_for_another_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lease, "_others", lambda _: [])


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (_tabs_are_not_kept, "and what is booked"),
        (_a_journal_promises_too_early, "for answers that were on disk"),
        (_a_limiter_that_is_born_again_knows_of_no_money, "under a budget of"),
        (_permits_come_back_with_every_message, "over the limit"),
        (_a_block_is_begun_anew, "for answers that were on disk"),
        (_nobody_looks_for_another_run, "two runs write at once"),
    ],
)
def test_a_planted_fault_is_found(plant: Plant, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    found = (sentence for _, sentences in wrong(range(300)) for sentence in sentences)
    assert any(sentence in one for one in found)
