"""How well a classifier reads labelled text: the self-check that its card publishes, and its mean cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from emoray.study.circumplex import NO_DIRECTION, Array, cosines
from emoray.study.goemotions import LABELS, NEUTRAL, LabelMap

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Quality:
    """A reader against single-label comments; label indices are in GoEmotions order."""

    comments: int
    correct: int | None  # None for a reader that knows other labels, or none
    macro_f1: float  # over the labels that occur, unweighted; NaN for such a reader
    cosine_neutral_zero: float  # over comments that are not neutral; a neutral reading scores 0
    cosine_neutral_dropped: float  # the same; a neutral reading is left out
    not_neutral: int
    constant_label: str = ""  # that would score best if it were read everywhere
    constant_cosine: float = math.nan  # and what it would score
    permuted_cosine: float = math.nan  # what the same readings score when dealt anew among the comments, on average

    @property
    def accuracy(self) -> float:
        return math.nan if self.correct is None else self.correct / self.comments


def quality(true: Indices, read: Indices, label_map: LabelMap) -> Quality:
    """The figures for (n,) true and (n,) read labels; n ≥ 1."""
    placed = quality_of_places(true, label_map.vectors()[read], label_map)
    return replace(placed, correct=int((true == read).sum()), macro_f1=float(np.nanmean(f1_per_label(true, read))))


def quality_of_places(true: Indices, read: Array, label_map: LabelMap) -> Quality:
    """The figures for (n,) true labels and the (n, 2) places read, NaN for one without a direction; n ≥ 1."""
    placed = true != NEUTRAL
    cosine = cosines(label_map.vectors()[true[placed]], read[placed])
    truths, readings = _mean_unit(label_map.vectors()[true[placed]]), _mean_unit(read[placed])
    constant = _units(label_map.vectors()) @ truths
    return Quality(
        comments=len(true),
        correct=None,
        macro_f1=math.nan,
        cosine_neutral_zero=float(np.nan_to_num(cosine).mean()) if len(cosine) else math.nan,
        cosine_neutral_dropped=float(np.nanmean(cosine)) if np.isfinite(cosine).any() else math.nan,
        not_neutral=int(placed.sum()),
        constant_label=LABELS[int(np.nanargmax(constant))] if np.isfinite(constant).any() else "",
        constant_cosine=float(np.nanmax(constant)) if np.isfinite(constant).any() else math.nan,
        permuted_cosine=float(truths @ readings),
    )


def _units(places: Array) -> Array:
    """(n, 2) of length 1; NaN rows without a direction."""
    lengths = np.hypot(places[:, 0], places[:, 1])[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(lengths >= NO_DIRECTION, places / lengths, np.nan), dtype=np.float64)


def _mean_unit(places: Array) -> Array:
    """(2,): the mean direction, readings without one as 0; NaN of none."""
    return np.asarray(np.nan_to_num(_units(places)).mean(axis=0) if len(places) else np.full(2, np.nan))


def f1_per_label(true: Indices, read: Indices) -> Array:
    """(28,) F1 of every label; NaN for one that is neither true nor read anywhere."""
    confusion = confusion_matrix(true, read)
    hits = np.diag(confusion).astype(np.float64)
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * hits / both, dtype=np.float64)


def confusion_matrix(true: Indices, read: Indices) -> Indices:
    """(28, 28) counts: rows are true labels, columns what was read."""
    n = len(LABELS)
    return np.bincount(true * n + read, minlength=n * n).reshape(n, n).astype(np.int64)
