"""A reader against labelled text in the format of GoEmotions: does it do what its card says, and is it as sure as it is
right? And the human labels that a user brings, to correct a run's means.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emoray.analysis import calibration
from emoray.analysis.calibration import Ceiling
from emoray.analysis.classification import Quality, confusion_matrix, f1_per_label, quality
from emoray.readers import Reader
from emoray.spec import SpecError
from emoray.study import paper
from emoray.study.circumplex import Affect, around_the_circle
from emoray.study.goemotions import LABELS, LabelMap
from emoray.study.scoring import top_labels

_CHUNK = 2048  # texts: so many that those of like length fill whole batches
_STATES = 12  # the paper's


@dataclass(frozen=True)
class Labelled:
    """Comments that carry exactly one label."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]  # GoEmotions order


@dataclass(frozen=True)
class OneLabel:
    """How well one label is read."""

    label: str
    comments: int  # that truly carry it
    f1: float  # NaN for a label that is neither true nor read anywhere
    cosine: float  # mean, between its place and the place read; NaN for a label without a place


@dataclass(frozen=True)
class Calibration:
    """Is the reader as sure as it is right? Temperature is fitted on every other comment, and judged on the rest."""

    error: float  # expected calibration error over all comments
    log_loss: float
    temperature: float  # above 1: the reader is too sure
    error_before: float  # on the comments that the temperature has not seen
    error_after: float


@dataclass(frozen=True)
class Validation:
    """All that labelled text says of a reader."""

    quality: Quality
    labels: tuple[OneLabel, ...]  # GoEmotions order
    calibration: Calibration
    ceilings: tuple[Ceiling, ...]  # of the paper's twelve states
    confusion: tuple[tuple[int, ...], ...]  # rows are true labels, columns what was read

    def as_json(self) -> dict[str, Any]:
        """For programs; what is not known is null."""
        found: dict[str, Any] = _without_nan(asdict(self) | {"accuracy": self.quality.accuracy})
        return found


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
    """The reader's quality on labelled comments; SpecError where it reads no GoEmotions labels."""
    true, chosen = np.array(labelled.labels, dtype=np.int64), top_labels(read(reader, labelled.texts))
    return quality(true, chosen, label_map)


def examine(reader: Reader, labelled: Labelled, label_map: LabelMap) -> Validation:
    """All figures of the reader on labelled comments; SpecError where it reads no GoEmotions labels."""
    return judged(np.array(labelled.labels, dtype=np.int64), read(reader, labelled.texts), label_map)


def read(reader: Reader, texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """(texts, 28) probabilities; SpecError where a text could not be read, or the reader knows other labels."""
    found = []
    for start in range(0, len(texts), _CHUNK):
        for reading in reader.read(texts[start : start + _CHUNK]):
            if reading.probabilities is None or reading.labels is not None:
                why = reading.error or "it reads other labels than the 28 of GoEmotions, or none"
                raise SpecError(f"reader {reader.name!r} could not read a comment: {why}")
            found.append(reading.probabilities)
    return np.array(found, dtype=np.float32)


def judged(true: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], label_map: LabelMap) -> Validation:
    """The figures for (n,) true labels and (n, 28) probabilities."""
    chosen = top_labels(probabilities)
    states = np.array([state.angle_deg for state in around_the_circle(_STATES)])
    counts = np.bincount(true, minlength=len(LABELS))
    each = zip(
        LABELS, counts, f1_per_label(true, chosen), calibration.cosine_per_label(true, chosen, label_map), strict=True
    )
    return Validation(
        quality=quality(true, chosen, label_map),
        labels=tuple(OneLabel(label, int(n), float(f1), float(cosine)) for label, n, f1, cosine in each),
        calibration=_calibration(true, probabilities),
        ceilings=tuple(calibration.empirical_ceilings(states, true, probabilities, label_map)),
        confusion=tuple(tuple(row) for row in confusion_matrix(true, chosen).tolist()),
    )


def human_scores(path: str | Path, label_map: LabelMap) -> dict[str, Affect | None]:
    """A user's labelled slice by key: CSV with the columns key and label, or key, valence and arousal.

    None stands for a label without a direction. SpecError where a line cannot be used.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as wrong:
        raise SpecError(f"{path}: cannot be read as CSV: {wrong}") from None
    places = {place.label: place.affect for place in label_map.places}
    found: dict[str, Affect | None] = {}
    for number, line in enumerate(lines, start=2):
        key = (line.get("key") or "").strip()
        if not key or key in found:
            raise SpecError(f"{path}: line {number} has {'a key that came before' if key else 'no key'}")
        found[key] = _human(f"{path}: line {number}", line, places)
    if not found:
        raise SpecError(f"{path}: holds no labels; its columns are key and label, or key, valence and arousal")
    return found


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


def whole_table(name: str, found: Validation, label_map: LabelMap) -> str:
    """The same, then calibration, every label and every state."""
    sure = found.calibration
    lines = [
        table(name, found.quality, label_map),
        f"  calibration    expected error {sure.error:.4f}, log loss {sure.log_loss:.4f}; "
        f"temperature {sure.temperature:.2f} makes it {sure.error_after:.4f} (from {sure.error_before:.4f}, on the "
        "comments it was not fitted to)",
        "",
        f"  {'label':<15}{'comments':>9}{'F1':>8}{'cosine':>9}",
    ]
    lines += [
        f"  {one.label:<15}{one.comments:>9,}{_number(one.f1):>8}{_number(one.cosine):>9}" for one in found.labels
    ]
    lines += [
        "",
        f"  {'state':<15}{'comments':>9}{'top':>8}{'expected':>9}   what it scores on human text near a state",
    ]
    lines += [
        f"  {f'{one.state_deg:.0f}°':<15}{one.texts:>9,}{_number(one.top):>8}{_number(one.expected):>9}"
        for one in found.ceilings
    ]
    return "\n".join(lines)


def _calibration(true: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32]) -> Calibration:
    temperature = calibration.fitted_temperature(true[::2], probabilities[::2])
    rest, unseen = true[1::2], probabilities[1::2]
    error = calibration.expected_calibration_error
    return Calibration(
        error=error(true, probabilities),
        log_loss=calibration.log_loss(true, probabilities),
        temperature=temperature,
        error_before=error(rest, unseen),
        error_after=error(rest, calibration.tempered(unseen, temperature)),
    )


def _human(where: str, line: Mapping[str, str | None], places: Mapping[str, Affect | None]) -> Affect | None:
    label = (line.get("label") or "").strip().lower()
    if label:
        if label not in places:
            raise SpecError(f"{where} has the label {label!r}, which the label map does not place")
        return places[label]
    try:
        affect = Affect(float(line.get("valence") or "nan"), float(line.get("arousal") or "nan"))
    except ValueError:
        affect = Affect(math.nan, math.nan)
    if not (abs(affect.valence) <= 1 and abs(affect.arousal) <= 1):
        raise SpecError(f"{where} needs a label, or valence and arousal between -1 and 1")
    return affect


def _number(x: float) -> str:
    return "–" if math.isnan(x) else f"{x:.3f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
