"""Nights with deaths, stalls, jumping clocks and lost messages: what was paid for is there in the morning."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from emoray.rate_limits.account_bucket import Bucket
from emoray.rate_limits.protocol import Limits, Usage
from emoray.rate_limits.token_bucket import Allowance
from emoray.run_folder.lease import Lease
from emoray.run_folder.tabs import PartTab
from emoray.stream.lane_state import LaneState, Verdict
from tests.simulation import night
from tests.simulation.night import Ledger, Night, Plan
from tests.simulation.provider import Nature

Plant = Callable[[pytest.MonkeyPatch], None]
_MEMORY = Path("/dev/shm")  # an fsync there costs nothing


def ledger(seed: int, plan: Plan | None = None) -> Ledger:
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        return Night(seed, Path(folder) / "run", plan).spent()


def wrong(seeds: Iterable[int], plan: Plan | None = None) -> Iterator[tuple[int, list[str]]]:
    """The seeds of nights that went wrong, each as it is found, and how."""
    for seed in seeds:
        if found := ledger(seed, plan).wrong:
            yield seed, found


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.campaign) for n in range(300, 10_000, 300))])
def test_in_the_morning_all_is_there_once_and_paid_once(first: int) -> None:
    assert list(wrong(range(first, first + 300))) == []


def test_a_night_is_the_same_again() -> None:
    assert [ledger(seed).__dict__ for seed in range(5)] == [ledger(seed).__dict__ for seed in range(5)]


def _tabs_tell_too_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PartTab, "sent", lambda _: None)


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


def _what_a_holder_says_adds_up(patch: pytest.MonkeyPatch) -> None:
    book = Bucket._book

    def booked(bucket: Bucket, holder: str, ledger: Usage, name: str, now: float) -> Any:
        known = bucket._holders.get(holder)
        before_usd = known.ledger.spent_usd if known else 0.0
        return book(bucket, holder, replace(ledger, spent_usd=ledger.spent_usd + before_usd), name, now)

    patch.setattr(Bucket, "_book", booked)


def _nothing_is_taken_from_a_rate(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Allowance, "take", lambda *_: None)


def _a_block_is_begun_anew(patch: pytest.MonkeyPatch) -> None:
    begin = LaneState.begin

    def begun(lane: LaneState, block: str, cells: int) -> Verdict:
        verdict = begin(lane, block, cells)
        return Verdict.BEGIN if verdict is Verdict.RESUME else verdict

    patch.setattr(LaneState, "begin", begun)


def _nobody_looks_for_another_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lease, "_others", lambda _: [])


SLOW = Nature(30, 0.5)


def plan(*kills: tuple[float, str], **more: Any) -> Plan:
    """A night in which a planted fault of one kind shows soon."""
    ours: dict[str, Any] = {"cells": 24, "actors": 2, "in_flight": 4, "nature": Nature(latency_s=0.5), "kills": kills}
    return Plan(**ours | more)


@pytest.mark.parametrize(
    ("plant", "nights", "sentence"),
    [
        (_tabs_tell_too_late, plan((1.0, "actor")), "and what is booked"),
        (_a_journal_promises_too_early, plan((1.0, "actor"), (2.0, "actor")), "for answers that were on disk"),
        (_a_block_is_begun_anew, plan((1.0, "actor"), (2.0, "actor")), "for answers that were on disk"),
        (
            _a_limiter_that_is_born_again_knows_of_no_money,
            plan((2.0, "actor"), *((at, "limiter") for at in (2.5, 2.8, 3.1)), cells=48, budget_usd=0.3),
            "under a budget of",
        ),
        (_what_a_holder_says_adds_up, plan(budget_usd=0.9, actors=1, in_flight=1, cells=64), "of the budget were left"),
        (_nothing_is_taken_from_a_rate, plan(nature=SLOW, limits=Limits(30), cells=48), "over the limit"),
        (_nobody_looks_for_another_run, plan(rivals=[1.0]), "two runs write at once"),
    ],
)
def test_a_planted_fault_is_found(plant: Plant, nights: Plan, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert next(wrong(range(3), nights), None) is None
    plant(monkeypatch)
    found = (one for _, sentences in wrong(range(60), nights) for one in sentences)
    assert any(sentence in one for one in found)
