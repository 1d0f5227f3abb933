"""Stopping once an interval is narrow: what that does to the interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emoray.analysis.intervals import t_bounds
from emoray.study.circumplex import Array

QUESTIONS, BLOCK, MOST = 10, 4, 40


def stopped(half_width: float, runs: int, states: int) -> tuple[Array, Array]:
    """(runs,) whether the interval left the truth out where the rule ended a run, and repetitions asked by then.

    The spread is that of the shipped priors (`commands/precise.py`); the truth is 0.
    """
    rng = np.random.default_rng(1)
    means = math.sqrt(0.11**2 + 0.09**2 / states) * rng.standard_normal((runs, QUESTIONS))
    sums, wrong, asked = np.zeros((runs, QUESTIONS)), np.zeros(runs), np.zeros(runs)
    for repetitions in range(BLOCK, MOST + 1, BLOCK):
        sums += 0.42 * math.sqrt(BLOCK / states) * rng.standard_normal((runs, QUESTIONS))
        _, low, high = t_bounds(means + sums / repetitions, 0.95)
        ends = (asked == 0) & (((high - low) / 2 <= half_width) | (repetitions == MOST))
        wrong[ends], asked[ends] = ((low > 0) | (high < 0))[ends], repetitions
    return wrong, asked


@pytest.mark.parametrize("half_width", [0.084, 0.087, 0.09])
def test_a_run_that_stops_when_its_interval_is_narrow_is_wrong_about_as_often_as_it_says(half_width: float) -> None:
    wrong, asked = stopped(half_width, 8000, states=12)
    print(f"until ±{half_width}: {wrong.mean():.1%} leave the truth out, of {asked.mean():.1f} repetitions")
    assert 0.035 <= wrong.mean() <= 0.06
    assert 0.3 < float((asked < MOST).mean()) < 0.95  # the rule ended many, and not all
