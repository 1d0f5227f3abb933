"""Looking again and again: what it does to an interval, and what alpha spending makes good."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emoray.analysis.intervals import t_bounds
from emoray.analysis.looking import alpha_at, level_at, spent
from emoray.study.circumplex import Array

LOOKS, RUNS, QUESTIONS = 8, 1500, 10


def at_each_look() -> list[Array]:
    """(runs, questions) of question means at eight looks: the repetitions double, the questions stay."""
    rng = np.random.default_rng(1)
    means = 0.03 * rng.standard_normal((RUNS, QUESTIONS))
    sums, n, found = np.zeros((RUNS, QUESTIONS)), 0, []
    for look in range(LOOKS):
        more = 2**look - n
        sums += math.sqrt(more) * 0.4 * rng.standard_normal((RUNS, QUESTIONS))
        n += more
        found.append(means + sums / n)
    return found


def wrong_once(levels: list[float]) -> float:
    """The share of runs in which the interval of some look leaves the truth out."""
    out = np.zeros(RUNS, dtype=np.bool_)
    for means, level in zip(at_each_look(), levels, strict=True):
        _, low, high = t_bounds(means, level)
        out |= (low > 0) | (high < 0)
    return float(out.mean())


def test_eight_looks_at_five_per_cent_are_wrong_far_more_often_and_spent_ones_are_not() -> None:
    assert wrong_once([0.95] * LOOKS) > 0.15
    later = [level_at(look) for look in range(2, LOOKS + 1)]
    assert wrong_once([level_at(1), *later]) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / RUNS)
    assert wrong_once([0.95, *later]) <= spent() + 2 * math.sqrt(spent() * (1 - spent()) / RUNS)  # as reports show them


def test_all_looks_together_spend_what_one_may() -> None:
    assert sum(alpha_at(look, 0.9) for look in range(1, 200_000)) == pytest.approx(0.1, rel=1e-4)
    assert spent(0.9) == pytest.approx(0.1 + sum(alpha_at(look, 0.9) for look in range(2, 200_000)), rel=1e-4)
    assert 0.069 < spent() < 0.07
    assert level_at(1) == pytest.approx(1 - 0.05 * 6 / math.pi**2)
    with pytest.raises(ValueError, match="number 1, got 0"):
        alpha_at(0)
