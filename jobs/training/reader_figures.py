"""How well the reader reads: the figures of its model card, on the GoEmotions test comments with one label."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from emoray.study.circumplex import cosines
from emoray.study.goemotions import LABELS, NEUTRAL, label_map
from emoray.study.scoring import top_labels
from training.comments import read_comments, unmasked, with_one_label

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReaderFigures:
    comments: int
    accuracy: float  # 28-way
    macro_f1: float  # mean over the 28 labels
    cosine_neutral_zero: float  # mean over the comments that are not neutral; neutral predicted counts 0
    cosine_neutral_out: float  # the same without the comments that were read as neutral
    calibration_error: float  # expected calibration error, 15 bins of equal width
    accuracy_with_masks: float  # with [NAME] and [RELIGION] left in
    f1: dict[str, float]  # per label
    confusions: list[tuple[str, str, int]]  # true label, predicted label, comments; the twelve most frequent


def measure_reader(reader: Path, data: Path) -> ReaderFigures:
    masked = with_one_label(read_comments(data, "test"))
    comments = unmasked(masked, random.Random(30))
    truth = np.array([comment.labels[0] for comment in comments])
    shares = read(reader, [comment.text for comment in comments])
    raw = read(reader, [comment.text for comment in masked])
    said = top_labels(shares)
    zero, out = cosine_means(truth, said)
    f1 = f1_scores(truth, said)
    return ReaderFigures(
        len(comments), _share(truth == said), float(f1.mean()), zero, out, calibration_error(truth, shares),
        _share(truth == top_labels(raw)), dict(zip(LABELS, f1.round(3).tolist(), strict=True)), confusions(truth, said),
    )  # fmt: skip


def read(reader: Path, texts: Sequence[str], batch: int = 128) -> Floats:
    """Probabilities (texts, 28) in GoEmotions order."""
    tokenizer: Any = AutoTokenizer.from_pretrained(reader)
    model: Any = AutoModelForSequenceClassification.from_pretrained(reader, dtype=torch.float32).eval()
    result = np.empty((len(texts), len(LABELS)), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        inputs = tokenizer([texts[row] for row in rows], padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            result[rows] = model(**inputs).logits.softmax(-1).numpy()
    return result


def cosine_means(truth: Labels, said: Labels) -> tuple[float, float]:
    """Mean cosine between true and predicted label over the comments that are not neutral."""
    vectors = label_map("russell").vectors()
    felt = truth != NEUTRAL
    values = cosines(vectors[truth[felt]], vectors[said[felt]])
    return float(np.nan_to_num(values).mean()), float(np.nanmean(values))


def f1_scores(truth: Labels, said: Labels) -> npt.NDArray[np.float64]:
    """(28,); 0 for a label that is never right."""
    right = np.array([np.sum((truth == label) & (said == label)) for label in range(len(LABELS))])
    both = np.array([np.sum(truth == label) + np.sum(said == label) for label in range(len(LABELS))])
    return np.asarray(2 * right / np.maximum(both, 1), dtype=np.float64)


def calibration_error(truth: Labels, shares: Floats, bins: int = 15) -> float:
    """Mean distance between how sure the reader is and how often it is right, weighted by comments."""
    sure, right = shares.max(axis=1), top_labels(shares) == truth
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(sure[place == b].mean() - right[place == b].mean()) * np.mean(place == b) for b in np.unique(place)]
    return float(np.sum(gaps))


def confusions(truth: Labels, said: Labels, most: int = 12) -> list[tuple[str, str, int]]:
    pairs = Counter((LABELS[t], LABELS[s]) for t, s in zip(truth, said, strict=True) if t != s)
    return [(true, predicted, count) for (true, predicted), count in pairs.most_common(most)]


def _share(flags: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(flags))
