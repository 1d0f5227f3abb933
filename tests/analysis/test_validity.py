"""The simulation of `python jobs/benchmark.py validity`, small; the whole of it is a campaign."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest

validity = import_module("jobs.benchmarks.validity")  # what runs as a program has no types here

EXPERIMENTS = 120
NOT_OURS = ("plain means of questions", "rows as independent")  # what a report does not do
FEW = ("corrected", "direction of states")  # which a fifth of the experiments have


def held(shares: dict[str, dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(f"{rule}: {what}", one) for rule, of in shares.items() for what, one in of.items() if what not in NOT_OURS]


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
    for what, one in held(found):
        error = max(one.error, by_chance(len(np.concatenate(one.held))))
        assert 0.93 - 3 * error <= one.share <= 0.97 + 3 * error, what


@pytest.mark.campaign
def test_in_every_world_intervals_and_tests_hold_what_they_promise() -> None:
    experiments = 2000
    chance = 3.5 * by_chance(experiments)  # the worst of 48 designs
    for what, share in validity.run(experiments=experiments).items():
        if what.startswith(NOT_OURS) or what.endswith("each look as if the only one"):
            continue
        few = math.sqrt(5) * chance if what.startswith(FEW) else chance
        low, high = {"false alarms": (0.035 - chance, 0.06 + chance), "looks": (0.0, 0.05 + chance)}.get(
            what.split(":")[0], (0.93 - few, 0.97 + few)
        )
        assert low <= share <= high, what


def test_tests_of_nothing_find_nothing_as_often_as_they_say() -> None:
    for what, one in validity.false_alarms(80, np.random.default_rng(1)).items():
        assert one.share <= 0.06 + 3 * max(one.error, 0.03), what


def test_who_stops_when_the_truth_is_left_out_is_rarely_wrong_by_the_intervals_that_hold_under_looking() -> None:
    runs = 120
    for what, one in validity.looking(runs, np.random.default_rng(2)).items():
        if what.endswith("each look as if the only one"):
            assert one.share > 0.08, what
        else:
            assert one.share <= 0.05 + 2.5 * by_chance(runs), what
