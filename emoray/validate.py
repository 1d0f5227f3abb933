"""A reader against labelled text in the format of GoEmotions: does it do what its card says?"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoray.analysis.classification import Quality, quality
from emoray.readers import Reader
from emoray.spec import SpecError
from emoray.study import paper
from emoray.study.goemotions import LABELS, LabelMap

_CHUNK = 512  # texts


@dataclass(frozen=True)
class Labelled:
    """Comments that carry exactly one label."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]  # GoEmotions order


def single_labelled(path: str | Path) -> Labelled:
    """The single-label comments of a GoEmotions TSV: text, comma-separated label numbers, id; no header.

    SpecError where the file is none. A text that holds a quote is quoted, as csv does it.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = [(row[0], row[1].split(",")) for row in csv.reader(file, delimiter="\t") if row]
        pairs = [(text, int(labels[0])) for text, labels in rows if len(labels) == 1]
    except OSError as wrong:
        raise SpecError(
            f"{path}: cannot be read ({wrong.strerror}); give a TSV of GoEmotions, such as test.tsv"
        ) from None
    except (ValueError, IndexError, csv.Error):
        raise SpecError(
            f"{path}: is no GoEmotions TSV; each line is text, label numbers, id, with tabs between"
        ) from None
    if not pairs or not all(0 <= label < len(LABELS) for _, label in pairs):
        raise SpecError(f"{path}: holds no single-label comments with labels 0 … {len(LABELS) - 1}")
    return Labelled(tuple(text for text, _ in pairs), tuple(label for _, label in pairs))


def validate(reader: Reader, labelled: Labelled, label_map: LabelMap) -> Quality:
    """The reader's quality on labelled comments."""
    read: list[int] = []
    for start in range(0, len(labelled.texts), _CHUNK):
        for reading in reader.read(labelled.texts[start : start + _CHUNK]):
            if reading.probabilities is None:
                raise SpecError(f"reader {reader.name!r} could not read a comment: {reading.error}")
            read.append(int(np.argmax(reading.probabilities)))
    return quality(np.array(labelled.labels, dtype=np.int64), np.array(read, dtype=np.int64), label_map)


def table(name: str, found: Quality, label_map: LabelMap) -> str:
    """The figures beside what is known of the paper's classifier."""
    theirs, cosine = paper.CLASSIFIER_ACCURACY.value, paper.CLASSIFIER_MEAN_COSINE.value
    return "\n".join(
        [
            f"{name} on {found.comments:,} single-label comments, label map {label_map.name} ({label_map.mark})",
            f"  accuracy       {found.accuracy:.4f}  ({found.correct}/{found.comments}; the paper's: {theirs:.4f})",
            f"  macro-F1       {found.macro_f1:.4f}",
            f"  mean cosine    {found.cosine_neutral_zero:.3f} with neutral readings as 0, "
            f"{found.cosine_neutral_dropped:.3f} without them",
            f"                 (over {found.not_neutral:,} comments that are not neutral; the paper says {cosine:.3f}, "
            "and not which rule or map)",
        ]
    )
