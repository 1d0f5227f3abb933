"""Where each model's answers to each state point, and the wave of its scores around the circle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emoray.analysis import circular
from emoray.analysis.circular import Direction, Profile, profile
from emoray.analysis.paired import holm
from emoray.analysis.summaries import moments, state_by_question
from emoray.analysis.tally import Tally


@dataclass(frozen=True)
class Directions:
    """Circular statistics of one model by one reader."""

    reader: str
    model: str
    states: tuple[Direction, ...]
    p_holm: tuple[float, ...]  # of each state's V-test, for all states of the model
    profile: Profile | None  # None of fewer than four states


def directions(reader: str, model: str, tally: Tally, level: float) -> Directions:
    """Of a tally with the axes of a design and `refused`, as the tables have it."""
    both = tally.without("refused")
    states = [float(state) for state in both.axis("state").levels]
    vectors = moments(both, "cosine").units.sum(axis=1)  # (questions, states, 2)
    directed = both.sums["directed"].sum(axis=(0, 1))  # (states, questions)
    found = circular.directions(states, vectors, directed.T, level)
    around = profile(np.array(states), state_by_question(both).T, level)
    return Directions(reader, model, tuple(found), holm([one.p for one in found]), around)
