"""The simulation of `python jobs/benchmark.py validity`, small; the whole of it is a campaign."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from emoray.analysis.looking import spent

validity = import_module("jobs.benchmarks.validity")  # what runs as a program has no types here

EXPERIMENTS = 120
NOT_OURS = ("plain means of questions", "rows as independent")  # what a report does not do


def ours(shares: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(what, one) for what, one in shares.items() if what not in NOT_OURS]


def by_chance(experiments: float, share: float = 0.95) -> float:
    """How far a share strays in so many independent experiments: one standard deviation."""
    return math.sqrt(share * (1 - share) / experiments)


@pytest.mark.parametrize(("repetitions", "missing"), [(1, "random"), (1, "state"), (3, "state")])
def test_intervals_hold_what_they_promise_whatever_is_missing(
    repetitions: int, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validity, "_PEOPLE", 12)  # experiments with labels, which cost most: the campaign has more
    found = validity.coverages(
        validity.WORLDS[1], repetitions, missing, EXPERIMENTS, np.random.default_rng(repetitions)
    )
    for rule, shares in found.items():
        for what, one in ours(shares):
            error = max(one.error, by_chance(one.experiments))
            assert 0.93 - 3 * error <= one.share <= 0.97 + 3 * error, (rule, what)


@pytest.mark.campaign
def test_in_every_world_intervals_and_tests_hold_what_they_promise() -> None:
    """Each design by itself, as the worst of 24 may stray; and all designs together, which tell far more."""
    found = validity.simulated(experiments=2000, seed=1)
    for design, shares in found.designs.items():
        for what, one in ours(shares):
            chance = 3.5 * by_chance(one.experiments)
            assert 0.93 - chance <= one.share <= 0.97 + chance, (design.name, what)
    for (rule, what), one in found.over_designs.items():
        if what not in NOT_OURS:
            chance = 2 * by_chance(one.experiments)
            assert 0.93 - chance <= one.share <= 0.97 + chance, (rule, what)
    asked_again(found.steady)
    for what, one in found.alarms.items():
        chance = 3.5 * by_chance(one.experiments, 0.05)
        assert 0.035 - chance <= one.share <= 0.06 + chance, what
    offered(found.looks, 3.5)
    for what, one in found.stops.items():
        chance = 2 * by_chance(one.experiments, 0.05)
        assert 0.035 - chance <= one.share <= 0.06 + chance, what


def asked_again(steady: Mapping[str, Any]) -> None:
    """Questions that are very unlike pull at one another: those that are nearly always the same have the safe side."""
    for what, one in steady.items():
        most = 1.0 if what.endswith("nearly always the same") else 0.97
        assert 0.93 - 2 * one.error <= one.share <= most + 2 * one.error, what


def test_questions_with_nearly_always_the_same_answer_hold_what_they_promise_and_take_little_from_others() -> None:
    asked_again(validity.steady(3, 200, np.random.default_rng(1)) | validity.unequal(3, 200, np.random.default_rng(1)))


def test_tests_of_nothing_find_nothing_as_often_as_they_say() -> None:
    found = validity.false_alarms(80, np.random.default_rng(1)) | validity.more_false_alarms(
        80, np.random.default_rng(1)
    )
    for what, one in found.items():
        assert one.share <= 0.06 + 3 * by_chance(one.experiments, 0.05), what


def test_who_stops_when_the_truth_is_left_out_is_rarely_wrong_by_the_intervals_that_are_offered() -> None:
    looks = validity.looking(120, np.random.default_rng(2))
    offered(looks, 2.5)
    assert all(one.share > 0.08 for what, one in looks.items() if what.endswith("each look as if the only one"))


def offered(looks: dict[str, Any], errors: float) -> None:
    """The plain interval at the first look, and those that hold under looking at the others."""
    for what, one in looks.items():
        if what.endswith("the intervals that are offered"):
            assert one.share <= spent() + errors * by_chance(one.experiments, spent()), what
