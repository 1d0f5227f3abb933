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


def held(shares: dict[str, dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(f"{rule}: {what}", one) for rule, of in shares.items() for what, one in of.items() if what not in NOT_OURS]


@pytest.mark.parametrize(("repetitions", "missing"), [(1, "random"), (1, "state"), (3, "state")])
def test_intervals_hold_what_they_promise_whatever_is_missing(repetitions: int, missing: str) -> None:
    found = validity.coverages(
        validity.WORLDS[1], repetitions, missing, EXPERIMENTS, np.random.default_rng(repetitions)
    )
    for what, one in held(found):
        assert 0.93 - 3 * one.error <= one.share <= 0.97 + 3 * one.error, what


@pytest.mark.campaign
def test_in_every_world_intervals_and_tests_hold_what_they_promise() -> None:
    experiments = 2000
    for what, share in validity.run(experiments=experiments).items():
        few = what.startswith("of human text")  # which a fifth of the experiments have
        chance = 3.5 * math.sqrt(0.95 * 0.05 / (experiments / 5 if few else experiments))  # the worst of 36 designs
        low, high = (0.035, 0.06) if what.startswith("false alarms") else (0.93 - chance, 0.97 + chance)
        if not what.startswith(NOT_OURS):
            assert low <= share <= high, what


def test_tests_of_nothing_find_nothing_as_often_as_they_say() -> None:
    for what, one in validity.false_alarms(80, np.random.default_rng(1)).items():
        assert one.share <= 0.06 + 3 * max(one.error, 0.03), what
