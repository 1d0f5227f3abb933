"""From a reading to a score: the affect that was read, its cosine with the affect asked for, and the ceiling.

Two scores stand side by side and are never mixed. The *top-label* score is the cosine with the most probable label's
place; the *expected* score is the expectation of that cosine over all labels by their probabilities. Both follow the
neutral rule: a label without a direction scores 0, or is left out. A third number, `direction_cosine`, is no
expectation: it is the cosine with the mean place of the labels that have one, however little of the probability that
is, and it can point between labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from emoray.study.circumplex import Affect, Array, angle_errors_deg, cosines, cosines_with, directions
from emoray.study.goemotions import LabelMap

UNREADABLE = "unreadable"  # the kind, before the colon of an error: this text makes the reader fail, others do not
NeutralRule = Literal["zero", "drop"]  # a reading without a direction scores 0, or is left out of every mean
RefusalRule = Literal["zero", "drop", "as_read"]  # a refused answer scores 0, is left out, or scores as it was read
Flags = npt.NDArray[np.bool_]


class Rules(NamedTuple):
    """What decides a score beside reading and label map."""

    neutral: NeutralRule = "zero"
    refusals: RefusalRule = "zero"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found in one text: probabilities of labels, or an affect; neither where the reading failed."""

    probabilities: npt.NDArray[np.float32] | None  # (28,) in GoEmotions order, or in the order of `labels`
    truncated: bool = False  # longer than the reader can read, and cut at its end, or where the tokenizer cuts
    error: str | None = None  # why the reading failed, in one line: its kind, a colon, and what was said
    labels: tuple[str, ...] | None = None  # the reader's own, where they are not GoEmotions'
    affect: Affect | None = None  # of a reader that knows no labels
    confidence: float | None = None  # 0 … 1, as a judge says it
    cost_usd: float | None = None  # of a judge; also of a reading that failed


@dataclass(frozen=True)
class Scores:
    """Columns of equal length n; NaN stands for "no value"."""

    read_valence: Array
    read_arousal: Array
    cosine: Array
    angle_error_deg: Array
    expected_valence: Array  # the mean place of the labels that have one
    expected_arousal: Array
    expected_cosine: Array
    direction_cosine: Array  # with that mean place
    resultant_valence: Array  # the mean direction, 0 … 1 long; its product with the direction asked is expected_cosine
    resultant_arousal: Array


def top_labels(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The index of the most probable label of each row; the first of equals. (n, labels) -> (n,)."""
    return np.asarray(np.argmax(probabilities, axis=1), dtype=np.int64)


def score(
    asked: Array,
    probabilities: npt.NDArray[np.float32],
    label_map: LabelMap,
    neutral: NeutralRule = "zero",
    felt: Array | None = None,
) -> Scores:
    """Scores of n readings.

    `asked` is (n, 2) of (valence, arousal); `probabilities` is (n, labels) in the order of the map, NaN rows where no
    labels were read. `felt` is (n, 2) of affects that were read directly, NaN where none was: such an affect needs no
    map, and is its own expectation. The neutral rule concerns `cosine`, `expected_cosine` and the resultant.
    """
    nothing = np.asarray(np.isnan(probabilities).any(axis=1))
    probabilities = np.where(nothing[:, None], np.float32(np.nan), probabilities)
    vectors = label_map.vectors()
    read = vectors[top_labels(np.nan_to_num(probabilities))]
    read[nothing] = np.nan
    weights = _by_label(probabilities)
    mean, resultant = _mean_place(weights, vectors), _mean_direction(weights, vectors, neutral)
    expected = _expected_cosines(asked, weights, vectors, neutral)
    if felt is not None:
        direct = ~np.isnan(felt).any(axis=1)
        read[direct], mean[direct] = felt[direct], felt[direct]
        resultant[direct] = _by_rule(directions(felt[direct]), neutral)
        expected[direct] = _by_rule(cosines(asked[direct], felt[direct]), neutral)
        nothing &= ~direct
    cosine = np.where(nothing, np.nan, _by_rule(cosines(asked, read), neutral))
    return Scores(
        read_valence=read[:, 0],
        read_arousal=read[:, 1],
        cosine=cosine,
        angle_error_deg=angle_errors_deg(asked, read),
        expected_valence=mean[:, 0],
        expected_arousal=mean[:, 1],
        expected_cosine=expected,
        direction_cosine=cosines(asked, mean),
        resultant_valence=resultant[:, 0],
        resultant_arousal=resultant[:, 1],
    )


def projections(
    asked: Array,
    probabilities: npt.NDArray[np.float32],
    label_map: LabelMap,
    neutral: NeutralRule = "zero",
    felt: Array | None = None,
) -> Array:
    """(n,) lengths of n readings along the direction asked for; the arguments are those of `score`.

    The expectation over labels of their place's component in that direction, so it grows with how far out the labels
    lie and with how sure the reading is of them; a cosine knows neither. A label without a direction counts 0 under
    `zero` and not at all under `drop`, and so does an affect that was read directly and has none; any other affect is
    its own place. Where all labels of a map lie at length 1 it is the expected cosine. NaN where nothing was read, or
    where what was asked for has no direction.
    """
    vectors, nothing = label_map.vectors(), np.asarray(np.isnan(probabilities).any(axis=1))
    weights = _by_label(np.where(nothing[:, None], np.float32(np.nan), probabilities))
    mean = _mean(weights, np.nan_to_num(vectors), _counted(directions(vectors), neutral))
    if felt is not None:
        direct = ~np.isnan(felt).any(axis=1)
        mean[direct] = felt[direct]
        mean[direct & np.isnan(directions(felt)).any(axis=1)] = 0.0 if neutral == "zero" else np.nan
    return np.asarray((directions(asked) * mean).sum(axis=1), dtype=np.float64)


def ruled(scores: Scores, refused: Flags, was_read: Flags, rule: RefusalRule) -> Scores:
    """The same scores under a rule for refusals; the flags are (n,).

    Under `zero` a refused answer that was read has no direction and scores 0, whatever the neutral rule is; under
    `drop` it has no score at all.
    """
    if rule == "as_read" or not refused.any():
        return scores
    columns = {name: np.where(refused, np.nan, values) for name, values in vars(scores).items()}
    if rule == "zero":
        for name in ("cosine", "expected_cosine", "resultant_valence", "resultant_arousal"):
            columns[name][refused & was_read] = 0.0
    return Scores(**columns)


def expectation(probabilities: npt.NDArray[np.float32], vectors: Array) -> Array:
    """The mean place under the placed labels' probabilities, scaled to sum 1. (n, L), (L, 2) -> (n, 2)."""
    return _mean_place(_by_label(probabilities), vectors)


def mean_direction(probabilities: npt.NDArray[np.float32], vectors: Array, neutral: NeutralRule = "zero") -> Array:
    """The mean of the labels' unit vectors by their probabilities, 0 … 1 long. (n, L), (L, 2) -> (n, 2).

    A label without a direction counts as the origin under `zero`, and not at all under `drop`.
    """
    return _mean_direction(_by_label(probabilities), vectors, neutral)


def _by_label(probabilities: npt.NDArray[np.float32]) -> Array:
    """(n, L) -> (L, n), so that a label's are one piece of memory."""
    return np.asarray(np.ascontiguousarray(probabilities.T), dtype=np.float64)


def _mean_place(weights: Array, vectors: Array) -> Array:
    return _mean(weights, vectors, np.flatnonzero(~np.isnan(vectors).any(axis=1)))


def _mean_direction(weights: Array, vectors: Array, neutral: NeutralRule) -> Array:
    units = directions(vectors)
    return _mean(weights, np.nan_to_num(units), _counted(units, neutral))


def _expected_cosines(asked: Array, weights: Array, vectors: Array, neutral: NeutralRule) -> Array:
    """The sum over labels of probability times cosine, by the sum of probabilities. (n, 2), (L, n), (L, 2) -> (n,).

    A label without a direction, and one asked for that has none, is 0 from everything.
    """
    counted = _counted(directions(vectors), neutral)
    sums, total = np.zeros(len(asked)), np.zeros(len(asked))
    for label, cosine in zip(counted.tolist(), cosines_with(asked, vectors[counted], nothing=0.0), strict=True):
        sums += weights[label] * cosine
        total += weights[label]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / total, dtype=np.float64)


def _counted(units: Array, neutral: NeutralRule) -> npt.NDArray[np.intp]:
    """The labels that an expectation is over."""
    return np.flatnonzero((neutral == "zero") | ~np.isnan(units).any(axis=1))


def _mean(weights: Array, vectors: Array, labels: npt.NDArray[np.intp]) -> Array:
    """The mean of some labels' vectors by their probabilities, scaled to sum 1; NaN where one is not known.

    (L, n), (L, 2) -> (n, 2).
    """
    sums, total = np.zeros((2, weights.shape[1])), np.zeros(weights.shape[1])
    # label after label: numpy's own sums (einsum, BLAS, .sum) add in an order that depends on how many rows there are,
    # and every stored row must recompute exactly, whatever stood beside it
    for label in labels.tolist():
        for axis in (0, 1):
            sums[axis] += weights[label] * vectors[label, axis]
        total += weights[label]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((sums / total).T, dtype=np.float64)


def _by_rule(values: Array, neutral: NeutralRule) -> Array:
    """Nothing counts as 0, or stays nothing."""
    return np.nan_to_num(values) if neutral == "zero" else values


def ceiling(state: Affect, label_map: LabelMap) -> float:
    """The best top-label cosine that any label of the map can reach for a state."""
    vectors = label_map.vectors()
    asked = np.broadcast_to([state.valence, state.arousal], vectors.shape).astype(np.float64)
    return float(np.nanmax(cosines(asked, vectors)))
