"""Does a model change while it is asked? Tests over rounds: the same prompts asked again and again through the night.

Without a change the rounds are exchangeable, so every test compares what was seen with the same rounds in permuted
order: no distribution is assumed, and answers of one round may resemble one another. Fewer than `LEAST` rounds have
too few orders to tell anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from emoray.analysis.paired import holm_of_groups
from emoray.study.circumplex import Array

LEAST = 6  # rounds: 720 orders
_SIDE = 2  # rounds at least before and after a change
_ALIKE = 1e-12  # sizes that differ by less are the same: the rest is rounding


@dataclass(frozen=True)
class Drift:
    """How a value moved over the rounds; the `p` are of two-sided permutation tests."""

    rounds: int
    hours: float  # from the first round to the last
    per_hour: float  # slope of the rounds' means, each prompt taken relative to its own mean
    per_hour_p: float
    step: float  # mean after minus mean before, at the moment where they differ most
    step_at: float  # hours: the first round after it
    step_p: float
    per_hour_p_pair: float = math.nan  # corrected for these two tests, by the same orders: what moves one moves both
    step_p_pair: float = math.nan
    per_hour_p_holm: float = math.nan  # corrected for all tests of drift in a report, which are looked at together
    step_p_holm: float = math.nan


@dataclass(frozen=True)
class Change:
    """The moment that best divides texts into two voices: alike before, alike after, different across."""

    rounds: int
    alike: float  # share of equal texts between two rounds, over all pairs of rounds
    contrast: float  # share of equal texts within the two sides, less that across
    at: float  # hours: the first round after it
    p: float
    p_holm: float = math.nan  # as above


def drift(values: Array, hours: Array, rng: np.random.Generator, *, shuffles: int = 2000) -> Drift | None:
    """The drift of `values` (rounds, prompts), NaN where there is none, asked at `hours` (rounds,), rising.

    None with fewer than LEAST rounds that have a value, or where no time passed.
    """
    there = ~np.isnan(values).all(axis=1)
    values, hours = values[there], hours[there]
    if len(hours) < LEAST or hours[-1] <= hours[0]:
        return None
    known = ~np.isnan(values)
    own = np.divide(
        np.nansum(values, axis=0), known.sum(axis=0), out=np.zeros(values.shape[1]), where=known.any(axis=0)
    )
    level = np.nansum(values - own, axis=1) / known.sum(axis=1)  # of a round, relative to its prompts' own means
    orders = np.vstack([level, rng.permuted(np.tile(level, (shuffles, 1)), axis=1)])
    centred = hours - hours.mean()
    slopes = orders @ centred / (centred @ centred)
    steps = _steps(orders)
    sizes = np.abs(steps) * _weights(len(hours))
    where = int(np.argmax(sizes[0]))
    each = np.array([_shares_as_large(np.abs(slopes)), _shares_as_large(sizes.max(axis=1))])
    least = each.min(axis=0)
    return Drift(
        rounds=len(hours),
        hours=float(hours[-1] - hours[0]),
        per_hour=float(slopes[0]),
        per_hour_p=float(each[0, 0]),
        step=float(steps[0, where]),
        step_at=float(hours[where + _SIDE]),
        step_p=float(each[1, 0]),
        per_hour_p_pair=float((least <= each[0, 0]).mean()),
        step_p_pair=float((least <= each[1, 0]).mean()),
    )


def one_family(drifts: Sequence[Drift], changes: Sequence[Change] = ()) -> tuple[list[Drift], list[Change]]:
    """The same, with every p corrected for all of these tests: whoever looks at one looks at all.

    The two tests of one drift ask the same rounds, and mostly find the same: together they count once.
    """
    groups = [(one.per_hour_p_pair, one.step_p_pair) for one in drifts] + [(one.p,) for one in changes]
    fair = holm_of_groups(groups)
    return (
        [replace(one, per_hour_p_holm=a, step_p_holm=b) for one, (a, b) in zip(drifts, fair, strict=False)],
        [replace(one, p_holm=p) for one, (p,) in zip(changes, fair[len(drifts) :], strict=True)],
    )


def change(same: Array, hours: Array, rng: np.random.Generator, *, shuffles: int = 2000) -> Change | None:
    """Where the texts change; `same` (rounds, rounds) is the share of prompts with equal texts in both rounds.

    None with fewer than LEAST rounds.
    """
    rounds = len(hours)
    if rounds < LEAST:
        return None
    contrasts = np.array([_contrasts(same)] + [_contrasts(_dealt(same, rng)) for _ in range(shuffles)])
    where = int(np.argmax(contrasts[0]))
    return Change(
        rounds=rounds,
        alike=float(same[np.triu_indices(rounds, 1)].mean()),
        contrast=float(contrasts[0, where]),
        at=float(hours[where + _SIDE]),
        p=_share_as_large(contrasts.max(axis=1)),
    )


def _steps(levels: Array) -> Array:
    """(orders, splits): mean after minus mean before, for every split that leaves _SIDE rounds on both sides."""
    rounds = levels.shape[1]
    before = np.arange(_SIDE, rounds - _SIDE + 1)
    sums = np.cumsum(levels, axis=1)
    first = sums[:, before - 1]
    return np.asarray((sums[:, -1:] - first) / (rounds - before) - first / before)


def _weights(rounds: int) -> Array:
    """What makes the differences of all splits comparable: the inverse of their standard error, up to a factor."""
    before = np.arange(_SIDE, rounds - _SIDE + 1)
    return np.asarray(1.0 / np.sqrt(1.0 / before + 1.0 / (rounds - before)))


def _contrasts(same: Array) -> Array:
    """(splits,): equal texts within the sides less those across, in units that make splits comparable."""
    rounds = len(same)
    upper = np.triu(same, 1)
    total = upper.sum()
    whole = np.cumsum(np.cumsum(upper, axis=0), axis=1)
    before = np.arange(_SIDE, rounds - _SIDE + 1)
    early = whole[before - 1, before - 1]  # pairs with both rounds before
    across = whole[before - 1, -1] - early
    pairs_across = before * (rounds - before)
    pairs_within = rounds * (rounds - 1) / 2 - pairs_across
    return np.asarray((total - across) / pairs_within - across / pairs_across)


def _dealt(same: Array, rng: np.random.Generator) -> Array:
    order: npt.NDArray[np.intp] = rng.permutation(len(same))
    return same[np.ix_(order, order)]


def _share_as_large(found: Array) -> float:
    """The share of all orders, the first being the real one, at least as large as the real one."""
    return float((found >= found[0] - _ALIKE).mean())


def _shares_as_large(found: Array) -> Array:
    """(orders,) the same of each order, were it the real one."""
    return np.asarray(1.0 - np.searchsorted(np.sort(found), found - _ALIKE) / len(found))
