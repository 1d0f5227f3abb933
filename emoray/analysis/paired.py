"""Is one model better than another? Paired differences over questions, and Holm's correction for a family of them.

Two models answered the same prompts, so their difference is taken prompt by prompt: what makes a question hard for both
cancels, and the interval is narrower than two separate intervals suggest. Templates and readers compare alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from emoray.analysis import student
from emoray.analysis.additive import over_questions
from emoray.analysis.intervals import OVER_QUESTIONS, Interval, bounded
from emoray.study.circumplex import Array

_FARTHEST = 2.0  # that two mean cosines can lie apart


@dataclass(frozen=True, slots=True)
class Difference:
    """a minus b over the prompts that both were scored on."""

    a: str
    b: str
    interval: Interval
    p: float  # two-sided, of this pair alone
    p_holm: float  # corrected for the family it was tested in


def difference(a: Array, b: Array, level: float = 0.95) -> tuple[Interval, float]:
    """The mean of a - b over questions like these, and its two-sided p; both (questions, prompts), NaN for none.

    Only prompts that both were scored on count; where one question lacks some that another has, the gaps are filled in
    as means are (`additive`). Questions are the sample (Student's t, questions - 1 degrees of freedom where nothing is
    missing). Fewer than two common questions: NaN bounds and NaN p. Differences that agree exactly: p is 0, or 1 at 0.
    """
    gaps = a - b  # NaN wherever one of the two is
    mean, variance, freedom = over_questions(gaps, paired=True)
    questions = int((~np.isnan(gaps)).any(axis=1).sum())
    interval = bounded(mean, variance, freedom, level, questions, OVER_QUESTIONS, reach=_FARTHEST)
    if math.isnan(interval.low):
        return interval, math.nan
    if variance <= 1e-30:
        return interval, 1.0 if abs(mean) <= 1e-15 else 0.0
    return interval, min(1.0, 2 * student.tail(abs(mean) / math.sqrt(variance), freedom))


def differences(scores: Mapping[str, Array], level: float = 0.95) -> tuple[Difference, ...]:
    """Every pair of a family, in its order; p-values corrected for the number of pairs."""
    pairs = list(combinations(scores, 2))
    found = [difference(scores[a], scores[b], level) for a, b in pairs]
    corrected = holm([p for _, p in found])
    return tuple(
        Difference(a, b, interval, p, fair) for (a, b), (interval, p), fair in zip(pairs, found, corrected, strict=True)
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjustment, in the order given: rejecting at p ≤ α keeps the family's error rate at α.

    A NaN is a test that could not be done: it stays NaN and is not counted.
    """
    done = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(done):
        highest = max(highest, min(1.0, (len(done) - rank) * p))
        adjusted[place] = highest
    return tuple(adjusted)


def holm_of_groups(groups: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """Holm's adjustment of groups of p-values that are each corrected within their group already, as they come.

    At every step the least p left is multiplied by how many groups have a p left. While no true null is rejected, every
    group that has one is among these, and rejects one of its own with probability α at most: so the family's error rate
    is α (Bonferroni over the groups). NaN as in `holm`, which is this of groups of one.
    """
    done = sorted(
        (p, at, place) for at, group in enumerate(groups) for place, p in enumerate(group) if not math.isnan(p)
    )
    left = Counter(at for _, at, _ in done)
    adjusted, highest = [[math.nan] * len(group) for group in groups], 0.0
    for p, at, place in done:
        highest = max(highest, min(1.0, len(+left) * p))
        adjusted[at][place] = highest
        left[at] -= 1
    return [tuple(group) for group in adjusted]
