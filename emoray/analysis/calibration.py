"""Is a reader as sure as it should be, and how high can it score where people were sure?

Everything here is about labelled human texts: `true` are (n,) label indices, `probabilities` (n, labels) in the same
order of labels. Rows sum to 1 (soft-max), or every label has a chance of its own (sigmoid, as multi-label heads have).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emoray.analysis.classification import Indices, mean_error
from emoray.analysis.intervals import PRIOR_FREEDOM
from emoray.study.circumplex import NO_DIRECTION, Array, cosines
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import NeutralRule, mean_direction, top_labels

Probabilities = npt.NDArray[np.float32]
BINS = 15
_COLDEST, _HOTTEST = math.log(0.05), math.log(20.0)  # where a temperature is looked for
_STEPS = 60
_MOVE = 0.02  # of a temperature's logarithm, to see how a loss bends
_FLOOR = 1e-12  # of a probability inside a logarithm
_EDGE = 1e-7  # of a sigmoid: float32 knows no chance between 1 - 6e-8 and 1
_REACH_DEG = 30.0
_NOTHING = 1e-12  # of a variance of cosines: less is rounding


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
    texts: int  # human texts whose true label lies within reach of the state
    top: float  # their mean top-label cosine with the state; NaN without texts
    expected: float  # their mean expected cosine with the state, labels without a direction as 0
    top_error: float = math.nan  # standard errors: other texts of these labels
    expected_error: float = math.nan


@dataclass(frozen=True)
class HumanReads:
    """What a reader made of human texts, per true label: enough for its ceiling at any state."""

    angles_deg: Array  # (labels,) where the true labels lie; NaN for one without a direction
    texts: Indices  # (labels,)
    directed: Indices  # (labels,) how many of them were read as having a direction
    top: Array  # (labels, 2) sums of the unit vectors read, by the most probable label
    expected: Array  # (labels, 2) the same of the mean directions by all probabilities
    top_squares: Array  # (labels, 3) sums of valence², valence × arousal, arousal² of `top`; NaN where not known
    expected_squares: Array  # (labels, 3) the same of `expected`


@dataclass(frozen=True)
class OnHumanText:
    """What a reader scores on human text of some states, by the top label, and how surely."""

    states_deg: Array  # (states,)
    means: Array  # (states,) NaN where there is no such text
    covariance: Array  # (states, states) of the means, as neighbours share texts; NaN where it is not known


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


def calibration_error_spread(true: Indices, probabilities: Probabilities, bins: int = BINS) -> float:
    """The standard error of that, by what one text moves it (which way each bin errs is taken as known)."""
    sure = probabilities.max(axis=1).astype(np.float64)
    gaps = sure - (top_labels(probabilities) == true)
    where = np.minimum((sure * bins).astype(np.int64), bins - 1)
    return mean_error(gaps * np.sign(np.bincount(where, weights=gaps, minlength=bins))[where])


def log_losses(true: Indices, probabilities: Probabilities) -> Array:
    """(n,) of each text."""
    rows = probabilities.astype(np.float64)
    chosen = rows[np.arange(len(true)), true] / rows.sum(axis=1)
    return np.asarray(-np.log(np.maximum(chosen, _FLOOR)))


def log_loss(true: Indices, probabilities: Probabilities) -> float:
    """The mean negative logarithm of the true label's probability, rows scaled to sum 1."""
    return float(log_losses(true, probabilities).mean())


def one_of_many(probabilities: Probabilities) -> bool:
    """Whether the rows are soft-max probabilities, which sum to 1."""
    return bool((np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1.0) < 1e-3).all())


def tempered(probabilities: Probabilities, temperature: float) -> Probabilities:
    """The probabilities that the same logits, divided by a temperature, would give."""
    if not one_of_many(probabilities):
        return _tempered_each(probabilities, temperature)
    logs = np.log(np.maximum(probabilities.astype(np.float64), _FLOOR)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def fitted_temperature(true: Indices, probabilities: Probabilities) -> float:
    """The temperature that gives the least log loss on labelled text (golden section); above 1: the reader is too sure.

    The loss is that of the one true label for soft-max, of every label's yes or no for sigmoid. Fit it on one split and
    report on another. It changes no top label.
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


def temperature_error(true: Indices, probabilities: Probabilities, temperature: float) -> float:
    """The standard error of a fitted temperature: what other texts would make of it (a sandwich estimate)."""
    at = math.log(temperature)
    lower, middle, upper = (_losses_at(at + move, true, probabilities) for move in (-_MOVE, 0.0, _MOVE))
    bend = float((upper - 2 * middle + lower).mean()) / _MOVE**2
    return temperature * mean_error((upper - lower) / (2 * _MOVE)) / bend if bend > 0 else math.nan


def cosine_errors(true: Indices, read: Array, label_map: LabelMap) -> Array:
    """(labels,) the standard error of each of `cosine_per_label`; NaN for fewer than two comments.

    The variance of few comments is drawn up to that of all labels' comments, as of human text (`ceilings_at`).
    """
    vectors = label_map.vectors()
    placed = ~np.isnan(vectors).any(axis=1)
    scores, n = np.nan_to_num(cosines(vectors[true], read)), len(vectors)
    texts = np.bincount(true, minlength=n) * placed
    each = [scores[true == label].var() / count if count else math.nan for label, count in enumerate(texts)]
    found = np.sqrt(np.diag(_moderated(np.diag(each), texts.astype(np.float64))))
    return np.where(texts > 1, found, np.nan)


def cosine_per_label(true: Indices, read: Array, label_map: LabelMap) -> Array:
    """(labels,) mean cosine between a true label's place and the (n, 2) place read; one without a direction scores 0.

    NaN for a label that never occurs, or has no place itself.
    """
    vectors = label_map.vectors()
    placed = ~np.isnan(vectors).any(axis=1)
    scores = np.nan_to_num(cosines(vectors[true], read))
    n = len(vectors)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(true, weights=scores, minlength=n) / np.bincount(true, minlength=n)
    return np.where(placed, means, np.nan)


def human_reads(true: Indices, read: Array, expected: Array, label_map: LabelMap) -> HumanReads:
    """What was read of n human texts, by their true labels in the order of the map.

    `read` is (n, 2) places of (valence, arousal), NaN where a reading has no direction; `expected` (n, 2) mean
    directions, as `scoring.mean_direction` gives them.
    """
    vectors = label_map.vectors()
    n = len(vectors)
    units = _units(read)
    return HumanReads(
        angles_deg=np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360.0,
        texts=np.bincount(true, minlength=n).astype(np.int64),
        directed=np.bincount(true[np.isfinite(units).all(axis=1)], minlength=n).astype(np.int64),
        top=_sums(true, units, n),
        expected=_sums(true, expected, n),
        top_squares=_sums(true, _products(units), n),
        expected_squares=_sums(true, _products(expected), n),
    )


def ceilings_at(
    states_deg: Array, reads: HumanReads, neutral: NeutralRule = "zero", reach_deg: float = _REACH_DEG
) -> list[Ceiling]:
    """Per state: what the reader scores on human texts whose true label lies within `reach_deg` of it.

    The label map's own ceiling says what its best label would reach; this one says what *this* reader reaches where
    people did express the emotion, so a model's score divided by it is free of the reader's errors. A state without
    human texts near has none.
    """
    top = _on(states_deg, reads.angles_deg, _scored(reads, neutral), reads.top, reads.top_squares, reach_deg)
    soft = _on(states_deg, reads.angles_deg, reads.texts, reads.expected, reads.expected_squares, reach_deg)
    near = _near(states_deg, reads.angles_deg, reach_deg)
    columns = (states_deg, near @ reads.texts, top.means, soft.means, _errors(top), _errors(soft))
    return [Ceiling(float(s), int(n), *map(float, rest)) for s, n, *rest in zip(*columns, strict=True)]


def on_human_text(
    states_deg: Array, reads: HumanReads, neutral: NeutralRule = "zero", reach_deg: float = _REACH_DEG
) -> OnHumanText:
    """The same of top labels, with the covariance of the states: what other texts of these labels would score."""
    return _on(states_deg, reads.angles_deg, _scored(reads, neutral), reads.top, reads.top_squares, reach_deg)


def empirical_ceilings(
    states_deg: Array,
    true: Indices,
    probabilities: Probabilities,
    label_map: LabelMap,
    reach_deg: float = _REACH_DEG,
) -> list[Ceiling]:
    """The ceilings of a reader of the map's labels, straight from its (n, labels) probabilities."""
    vectors = label_map.vectors()
    reads = human_reads(true, vectors[top_labels(probabilities)], mean_direction(probabilities, vectors), label_map)
    return ceilings_at(states_deg, reads, reach_deg=reach_deg)


def _tempered_each(probabilities: Probabilities, temperature: float) -> Probabilities:
    chances = np.clip(probabilities.astype(np.float64), _EDGE, 1.0 - _EDGE)
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.log(chances / (1.0 - chances)) / temperature)), dtype=np.float32)


def _loss_at(log_temperature: float, true: Indices, probabilities: Probabilities) -> float:
    return float(_losses_at(log_temperature, true, probabilities).mean())


def _losses_at(log_temperature: float, true: Indices, probabilities: Probabilities) -> Array:
    """(n,)"""
    found = tempered(probabilities, math.exp(log_temperature))
    if one_of_many(probabilities):
        return log_losses(true, found)
    chances = np.clip(found.astype(np.float64), _EDGE, 1.0 - _EDGE)
    there = np.arange(chances.shape[1]) == true[:, None]
    return np.asarray(-np.log(np.where(there, chances, 1.0 - chances)).mean(axis=1))


def _units(places: Array) -> Array:
    """(n, 2) of length 1; NaN rows for places without a direction."""
    lengths = np.hypot(places[:, 0], places[:, 1])[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(lengths > NO_DIRECTION, places / lengths, np.nan), dtype=np.float64)


def _products(units: Array) -> Array:
    """(n, 2) -> (n, 3): valence², valence × arousal, arousal²."""
    return np.column_stack([units[:, 0] ** 2, units[:, 0] * units[:, 1], units[:, 1] ** 2])


def _sums(labels: Indices, units: Array, n: int) -> Array:
    """(n labels, columns): the sum of the units of each label, NaN adding nothing."""
    columns = (np.bincount(labels, weights=column, minlength=n) for column in np.nan_to_num(units).T)
    return np.column_stack([column.astype(np.float64) for column in columns])


def _scored(reads: HumanReads, neutral: NeutralRule) -> Indices:
    """(labels,) how many texts count."""
    return reads.texts if neutral == "zero" else reads.directed


def _near(states_deg: Array, angles_deg: Array, reach_deg: float) -> npt.NDArray[np.bool_]:
    """(states, labels)"""
    return np.abs((angles_deg - np.asarray(states_deg)[:, None] + 180.0) % 360.0 - 180.0) <= reach_deg


def _errors(found: OnHumanText) -> Array:
    return np.asarray(np.sqrt(np.diag(found.covariance)))


def _moderated(covariance: Array, texts: Array) -> Array:
    """The covariance of the means of so many `texts`, where few of them were all read alike by chance.

    `covariance` has the squares over n, as if the mean were known. The variance of a state's single texts, over n - 1,
    is drawn up to what they vary by in all states (as `additive.squeezed` does), and a state with one text has that of
    all. NaN where no text differs from another of its state: then nothing tells how others would.
    """
    freedom = np.where(texts > 0, texts - 1.0, np.nan)
    several = freedom > 0
    more = np.where(several, texts / np.where(several, freedom, 1.0), 1.0)
    own = np.maximum(np.diag(covariance), 0.0) * texts * more  # less than 0 is rounding
    pooled = float((own * freedom)[several].sum()) / max(1.0, float(freedom[several].sum()))
    if not pooled > _NOTHING:
        return np.full_like(covariance, np.nan)
    drawn = (PRIOR_FREEDOM * pooled + freedom * own) / (PRIOR_FREEDOM + freedom)
    found = covariance * np.sqrt(np.outer(more, more))
    np.fill_diagonal(found, np.maximum(own, drawn) / np.where(texts > 0, texts, np.nan))
    return np.asarray(found)


def _on(
    states_deg: Array, angles_deg: Array, texts: Indices, sums: Array, squares: Array, reach_deg: float
) -> OnHumanText:
    """Means of the cosines of unit vectors with the states, from their sums per label; (labels,) `texts` count."""
    near = _near(states_deg, angles_deg, reach_deg)
    turns = np.radians(states_deg)
    along = np.column_stack([np.cos(turns), np.sin(turns)])  # (states, 2)
    n = near @ texts
    with np.errstate(invalid="ignore", divide="ignore"):
        share = near / n[:, None]  # (states, labels): of a text of a label in the mean of a state
        share[n == 0] = np.nan
        means = ((along @ sums.T) * share).sum(axis=1)
        # what one text adds to the error of a state's mean: share × (its cosine - the mean)
        matrices = squares[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
        products = np.einsum("sa,lab,tb->stl", along, matrices, along)
        cross = (along @ sums.T)[:, None, :] * means[None, :, None]
        about = products - cross - np.swapaxes(cross, 0, 1) + means[:, None, None] * means[None, :, None] * texts
        covariance = np.einsum("sl,tl,stl->st", share, share, about)
    return OnHumanText(np.asarray(states_deg, dtype=np.float64), means, _moderated(covariance, n.astype(np.float64)))
