"""The shuffled control: the mean cosine of the same answers when the asked states are dealt anew among them.

*What is permuted.* Within one model, template, intensity and question, the asked states are labels on stacks of
answers: all repetitions of one prompt form one stack. A shuffle deals the labels anew among the stacks of each
question, independently of other questions. What a question or a model's favourite mood adds stays; only the tie between
what was asked and what was answered is cut. Stacks and not single answers move, because repetitions of one prompt
resemble one another: dealing single answers would make the control narrower than chance really is.

*Why it is quick.* A cosine is the product of two unit vectors, so a stack enters through the mean of its read unit
vectors alone (a reading without a direction is the zero vector and scores 0, by the neutral rule `zero`; under `drop`
it is not in the mean). A million rows reduce to a few hundred vectors once, exactly, and every shuffle works on those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emoray.study.circumplex import Array


@dataclass(frozen=True)
class Shuffled:
    """What chance would score; `p` is the share of shuffles (and the real one) at least as good as the real mean."""

    observed: float
    mean: float
    p95: float
    p: float
    shuffles: int
    states_low: Array  # (states,) 5th and 95th percentile of each asked state's mean
    states_high: Array


def shuffled_control(
    asked: Array, read: Array, rng: np.random.Generator, *, shuffles: int = 1000, weights: Array | None = None
) -> Shuffled:
    """The control for one model.

    `asked` is (states, 2), unit vectors; `read` is (questions, conditions, states, 2), the mean of the read unit
    vectors per prompt, NaN where nothing was scored; a condition is a template with an intensity. The mean is that of
    the tables: `weights` (questions, conditions, states) are those of the prompts in it; without them, prompts weigh
    the same within a question and questions the same. A question with one state cannot be dealt anew and keeps its
    score. Everything NaN: the control is NaN.
    """
    there = ~np.isnan(read[..., 0])  # (questions, conditions, states)
    prompts = np.asarray(there.sum(axis=2).sum(axis=1))  # per question
    if not prompts.any():
        nothing = np.full(len(asked), np.nan)
        return Shuffled(math.nan, math.nan, math.nan, math.nan, shuffles, nothing, nothing)
    dealt = _Dealt(len(asked), shuffles)
    for question, condition in np.ndindex(there.shape[:2]):
        states = np.flatnonzero(there[question, condition])
        level = 1.0 / (max(int(prompts[question]), 1) * int((prompts > 0).sum()))
        each = np.full(len(states), level) if weights is None else weights[question, condition, states]
        scores = asked[states] @ read[question, condition, states].T  # (asked as, answered for)
        dealt.add(states, scores, rng, each)
    return dealt.control()


class _Dealt:
    """The running sums of all shuffles."""

    def __init__(self, states: int, shuffles: int) -> None:
        self._observed = 0.0
        self._means = np.zeros(shuffles)
        self._state_sums = np.zeros((shuffles, states))
        self._state_counts = np.zeros(states)

    def add(self, states: np.typing.NDArray[np.intp], scores: Array, rng: np.random.Generator, weights: Array) -> None:
        """Deal the labels of one question and condition; `scores[i, j]` is label i on stack j, `weights[i]` its own."""
        shuffles, stacks = len(self._means), len(states)
        label = rng.permuted(np.broadcast_to(np.arange(stacks), (shuffles, stacks)).copy(), axis=1)
        drawn = scores[np.arange(stacks), label]  # row i: the stack that label i came to lie on
        self._observed += float(weights @ np.diag(scores))
        self._means += drawn @ weights
        self._state_sums[:, states] += drawn
        self._state_counts[states] += 1

    def control(self) -> Shuffled:
        with np.errstate(invalid="ignore", divide="ignore"):
            by_state = self._state_sums / self._state_counts
        low, high = np.quantile(by_state, [0.05, 0.95], axis=0)
        as_good = int((self._means >= self._observed - 1e-12).sum())
        return Shuffled(
            observed=self._observed,
            mean=float(self._means.mean()),
            p95=float(np.quantile(self._means, 0.95)),
            p=(1 + as_good) / (1 + len(self._means)),
            shuffles=len(self._means),
            states_low=low,
            states_high=high,
        )
