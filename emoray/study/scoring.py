"""From a reading to a score: the affect that was read, its cosine with the affect asked for, and the ceiling.

Two scores stand side by side and are never mixed. The *top-label* score takes the most probable label's place;
the *expected* score takes the probability-weighted mean over the labels that have a place. Only the first is capped
where no label lies near a state; the second can point between labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from emoray.study.circumplex import Affect, Array, angle_errors_deg, cosines
from emoray.study.goemotions import LabelMap

UNREADABLE = "unreadable"  # the kind, before the colon of an error: this text makes the reader fail, others do not
NeutralRule = Literal["zero", "drop"]  # a reading without a direction scores 0, or is left out of every mean


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
    expected_valence: Array
    expected_arousal: Array
    expected_cosine: Array


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
    map, and is its own expectation. The neutral rule concerns `cosine` alone, and every reading without a direction.
    """
    nothing = np.isnan(probabilities).any(axis=1)
    vectors = label_map.vectors()
    read = vectors[top_labels(np.nan_to_num(probabilities))]
    read[nothing] = np.nan
    mean = expectation(probabilities, vectors)
    if felt is not None:
        direct = ~np.isnan(felt).any(axis=1)
        read[direct], mean[direct] = felt[direct], felt[direct]
        nothing &= ~direct
    cosine = cosines(asked, read)
    if neutral == "zero":
        cosine = np.where(np.isnan(cosine) & ~nothing, 0.0, cosine)
    return Scores(
        read[:, 0], read[:, 1], cosine, angle_errors_deg(asked, read), mean[:, 0], mean[:, 1], cosines(asked, mean)
    )


def expectation(probabilities: npt.NDArray[np.float32], vectors: Array) -> Array:
    """The mean place under the placed labels' probabilities, scaled to sum 1. (n, L), (L, 2) -> (n, 2)."""
    sums, total = np.zeros((len(probabilities), 2)), np.zeros((len(probabilities), 1))
    # label after label: numpy's own sums (einsum, BLAS, .sum) add in an order that depends on how many rows there are,
    # and every stored row must recompute exactly, whatever stood beside it
    for label in np.flatnonzero(~np.isnan(vectors).any(axis=1)):
        weights = probabilities[:, label, None].astype(np.float64)
        sums += weights * vectors[label]
        total += weights
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / total, dtype=np.float64)


def ceiling(state: Affect, label_map: LabelMap) -> float:
    """The best top-label cosine that any label of the map can reach for a state."""
    vectors = label_map.vectors()
    asked = np.broadcast_to([state.valence, state.arousal], vectors.shape).astype(np.float64)
    return float(np.nanmax(cosines(asked, vectors)))
