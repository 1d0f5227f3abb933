"""Is a reader as sure as it should be, and how high can it score where people were sure?

Everything here is about labelled human texts: `true` are (n,) label indices, `probabilities` (n, labels) in the same
order of labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emoray.analysis.classification import Indices
from emoray.study.circumplex import Array, cosines
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import expectation, top_labels

Probabilities = npt.NDArray[np.float32]
BINS = 15
_COLDEST, _HOTTEST = math.log(0.05), math.log(20.0)  # where a temperature is looked for
_STEPS = 60
_FLOOR = 1e-12  # of a probability inside a logarithm


@dataclass(frozen=True)
class Bin:
    """Readings that were about equally sure."""

    low: float
    high: float
    readings: int
    confidence: float  # their mean probability of the label they chose
    accuracy: float  # the share that was right


@dataclass(frozen=True)
class Ceiling:
    """What the reader scores on human text whose emotion lies towards a state."""

    state_deg: float
    texts: int  # human texts whose true label lies within `reach_deg` of the state
    top: float  # their mean top-label cosine with the state, readings without a direction as 0; NaN without texts
    expected: float  # the same of the probability-weighted place


def reliability(true: Indices, probabilities: Probabilities, bins: int = BINS) -> list[Bin]:
    """The readings in bins of equal width by their confidence, empty bins left out."""
    sure = probabilities.max(axis=1).astype(np.float64)
    right = (top_labels(probabilities) == true).astype(np.float64)
    where = np.minimum((sure * bins).astype(np.int64), bins - 1)
    return [
        Bin(k / bins, (k + 1) / bins, int(some.sum()), float(sure[some].mean()), float(right[some].mean()))
        for k in range(bins)
        if (some := where == k).any()
    ]


def expected_calibration_error(true: Indices, probabilities: Probabilities, bins: int = BINS) -> float:
    """The mean distance between confidence and accuracy over the bins, weighted by their readings; NaN of none."""
    found = reliability(true, probabilities, bins)
    total = sum(one.readings for one in found)
    return sum(one.readings * abs(one.confidence - one.accuracy) for one in found) / total if total else math.nan


def log_loss(true: Indices, probabilities: Probabilities) -> float:
    """The mean negative logarithm of the true label's probability, rows scaled to sum 1."""
    rows = probabilities.astype(np.float64)
    chosen = rows[np.arange(len(true)), true] / rows.sum(axis=1)
    return float(-np.log(np.maximum(chosen, _FLOOR)).mean())


def tempered(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Soft-max probabilities as the same logits divided by a temperature would give; rows sum to 1."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), _FLOOR)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def fitted_temperature(true: Indices, probabilities: Probabilities) -> float:
    """The temperature that gives the least log loss on labelled text (golden section); above 1: the reader is too sure.

    Fit it on one split and report on another. It changes no top label.
    """
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    low, high = _COLDEST, _HOTTEST
    for _ in range(_STEPS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if _loss_at(left, true, probabilities) < _loss_at(right, true, probabilities):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2.0)


def cosine_per_label(true: Indices, read: Indices, label_map: LabelMap) -> Array:
    """(labels,) mean cosine between a true label's place and the place read; a reading without one scores 0.

    NaN for a label that never occurs, or has no place itself.
    """
    vectors = label_map.vectors()
    placed = ~np.isnan(vectors).any(axis=1)
    scores = np.nan_to_num(cosines(vectors[true], vectors[read]))
    n = len(vectors)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(true, weights=scores, minlength=n) / np.bincount(true, minlength=n)
    return np.where(placed, means, np.nan)


def empirical_ceilings(
    states_deg: Array, true: Indices, probabilities: Probabilities, label_map: LabelMap, reach_deg: float = 30.0
) -> list[Ceiling]:
    """Per state: what the reader scores on human texts whose true label lies within `reach_deg` of it.

    The label map's own ceiling says what a perfect reader could reach; this one says what *this* reader reaches where
    people did express the emotion, so a model's score divided by it is free of the reader's errors. A state without
    human texts near has none.
    """
    vectors = label_map.vectors()
    top, mean = vectors[top_labels(probabilities)], expectation(probabilities, vectors)
    angles = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0]))
    found = []
    for state in states_deg:
        near = np.abs((angles - state + 180.0) % 360.0 - 180.0) <= reach_deg
        some = near[true]
        found.append(_ceiling(float(state), top[some], mean[some]))
    return found


def _ceiling(state: float, top: Array, mean: Array) -> Ceiling:
    if not len(top):
        return Ceiling(state, 0, math.nan, math.nan)
    turn = math.radians(state)
    asked = np.broadcast_to([math.cos(turn), math.sin(turn)], top.shape).astype(np.float64)
    scores = [float(np.nan_to_num(cosines(asked, read)).mean()) for read in (top, mean)]
    return Ceiling(state, len(top), *scores)


def _loss_at(log_temperature: float, true: Indices, probabilities: Probabilities) -> float:
    return log_loss(true, tempered(probabilities, math.exp(log_temperature)))
