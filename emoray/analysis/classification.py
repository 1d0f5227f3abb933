"""How well a classifier reads labelled text: the self-check that its card publishes, and its mean cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from emoray.study.circumplex import Array, cosines, directions
from emoray.study.goemotions import LABELS, NEUTRAL, LabelMap

_NOTHING = 1e-12  # of a spread of scores: less is rounding

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
    macro_f1_error: float = math.nan  # standard errors: other comments of this kind
    cosine_neutral_zero_error: float = math.nan
    cosine_neutral_dropped_error: float = math.nan
    constant_label: str = ""  # that would score best if it were read everywhere
    constant_cosine: float = math.nan  # and what it would score
    permuted_cosine: float = math.nan  # what the same readings score when dealt anew among the comments, on average
    constant_cosine_error: float = math.nan  # standard errors, as above
    permuted_cosine_error: float = math.nan

    @property
    def accuracy(self) -> float:
        return math.nan if self.correct is None else self.correct / self.comments

    @property
    def accuracy_error(self) -> float:
        """Of all or none right, as if half a comment were otherwise: few of them do not promise that others will be."""
        return max(math.sqrt(self.accuracy * (1 - self.accuracy) / self.comments), float(_half_a_text(self.comments)))


def quality(true: Indices, read: Indices, label_map: LabelMap) -> Quality:
    """The figures for (n,) true and (n,) read labels; n ≥ 1."""
    placed = quality_of_places(true, label_map.vectors()[read], label_map)
    return replace(
        placed,
        correct=int((true == read).sum()),
        macro_f1=float(np.nanmean(f1_per_label(true, read))),
        macro_f1_error=_macro_f1_error(confusion_matrix(true, read)),
    )


def quality_of_places(true: Indices, read: Array, label_map: LabelMap) -> Quality:
    """The figures for (n,) true labels and the (n, 2) places read, NaN for one without a direction; n ≥ 1."""
    placed = true != NEUTRAL
    cosine = cosines(label_map.vectors()[true[placed]], read[placed])
    truths, readings = _units(label_map.vectors()[true[placed]]), _units(read[placed])
    labels = directions(label_map.vectors())
    constant = labels @ _mean(truths)
    best = int(np.nanargmax(constant)) if np.isfinite(constant).any() else None
    return Quality(
        comments=len(true),
        correct=None,
        macro_f1=math.nan,
        cosine_neutral_zero=float(np.nan_to_num(cosine).mean()) if len(cosine) else math.nan,
        cosine_neutral_dropped=float(np.nanmean(cosine)) if np.isfinite(cosine).any() else math.nan,
        not_neutral=int(placed.sum()),
        cosine_neutral_zero_error=mean_error(np.nan_to_num(cosine)),
        cosine_neutral_dropped_error=mean_error(cosine[np.isfinite(cosine)]),
        constant_label="" if best is None else LABELS[best],
        constant_cosine=math.nan if best is None else float(constant[best]),
        permuted_cosine=float(_mean(truths) @ _mean(readings)),
        constant_cosine_error=math.nan if best is None else mean_error(truths @ labels[best]),
        permuted_cosine_error=mean_error(truths @ _mean(readings) + readings @ _mean(truths)),
    )


def mean_error(values: Array) -> float:
    """The standard error of the mean of (n,) independent values; NaN of fewer than two, or of equal ones.

    That a few are all alike tells nothing of how others would differ.
    """
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return spread / math.sqrt(len(values)) if not spread <= _NOTHING else math.nan


def _half_a_text(texts: npt.ArrayLike) -> Array:
    """The standard error of a share of so many texts that is 0 or 1, as if half a text were otherwise."""
    n = np.asarray(texts, dtype=np.float64)
    half = np.minimum(0.5 / n, 0.5)
    return np.asarray(np.sqrt(half * (1 - half) / n))


def _units(places: Array) -> Array:
    """(n, 2): the directions, readings without one as 0."""
    return np.nan_to_num(directions(places))


def _mean(units: Array) -> Array:
    """(2,): the mean direction; NaN of none."""
    return np.asarray(units.mean(axis=0) if len(units) else np.full(2, np.nan))


def f1_per_label(true: Indices, read: Indices) -> Array:
    """(28,) F1 of every label; NaN for one that is neither true nor read anywhere."""
    confusion = confusion_matrix(true, read)
    hits = np.diag(confusion).astype(np.float64)
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * hits / both, dtype=np.float64)


def f1_errors(true: Indices, read: Indices) -> Array:
    """(28,) the standard error of each F1, by what one comment moves it; NaN where there is no F1.

    Where all comments of a label, or none, were read rightly, as if half of one were otherwise.
    """
    confusion = confusion_matrix(true, read).astype(np.float64)
    squares = np.array([(confusion * move**2).sum() for move in _moves(confusion)])
    texts = (confusion.sum(axis=0) + confusion.sum(axis=1)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squares > 0, np.sqrt(squares), np.where(texts > 0, _half_a_text(texts), np.nan))


def _macro_f1_error(confusion: Indices) -> float:
    moves = [move for move in _moves(confusion.astype(np.float64)) if np.isfinite(move).all()]
    square = float((confusion * np.mean(moves, axis=0) ** 2).sum())
    return math.sqrt(square) if square > 0 else float(_half_a_text(confusion.sum()))


def _moves(confusion: Array) -> list[Array]:
    """Per label (28, 28): what a comment of a true and a read label moves its F1; NaN without one."""
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * np.diag(confusion) / both
        labels = np.eye(len(confusion))
        return [
            (2 * np.outer(one, one) - f1[place] * (one[:, None] + one)) / both[place]
            for place, one in enumerate(labels)
        ]


def confusion_matrix(true: Indices, read: Indices) -> Indices:
    """(28, 28) counts: rows are true labels, columns what was read."""
    n = len(LABELS)
    return np.bincount(true * n + read, minlength=n * n).reshape(n, n).astype(np.int64)
