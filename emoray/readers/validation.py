"""A reader against labelled text in the format of GoEmotions: does it do what its card says, is it as sure as it is
right, and how high does it score where people did express an emotion? By that, kept in a file, a report divides.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emoray.analysis import calibration
from emoray.analysis.calibration import Ceiling, HumanReads
from emoray.analysis.classification import (
    Quality,
    confusion_matrix,
    f1_errors,
    f1_per_label,
    mean_error,
    quality,
    quality_of_places,
)
from emoray.analysis.without_nan import without_nan
from emoray.errors import UserError
from emoray.readers.protocol import Reader, Reading
from emoray.spec.readers import ReaderEntry, label_map_of
from emoray.study.circumplex import Array, around_the_circle, directions
from emoray.study.goemotions import LABELS, LabelMap
from emoray.study.scoring import mean_direction, top_labels

_CHUNK = 2048  # texts: so many that those of like length fill whole batches
_STATES = 12  # the paper's
_HALF = "every other comment"


@dataclass(frozen=True)
class Labelled:
    """Comments that carry exactly one label."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]  # GoEmotions order

    def first(self, n: int | None) -> Labelled:
        return Labelled(self.texts[:n], self.labels[:n])


@dataclass(frozen=True)
class OneLabel:
    """How well one label is read."""

    label: str
    comments: int  # that truly carry it
    f1: float  # NaN for a label that is neither true nor read anywhere
    cosine: float  # mean, between its place and the place read; NaN for a label without a place
    f1_error: float  # standard errors: other comments of this kind
    cosine_error: float


@dataclass(frozen=True)
class Calibration:
    """Is the reader as sure as it is right? The temperature was not fitted to the comments that judge it."""

    error: float  # expected calibration error over all comments
    log_loss: float
    temperature: float  # for the reader's entry; above 1: the reader is too sure
    fitted_to: str
    error_before: float  # on comments that the temperature has not seen
    error_after: float
    error_spread: float = math.nan  # standard errors, in the order of the above
    log_loss_spread: float = math.nan
    temperature_spread: float = math.nan
    error_before_spread: float = math.nan
    error_after_spread: float = math.nan


@dataclass(frozen=True)
class Validation:
    """All that labelled text says of a reader."""

    quality: Quality
    labels: tuple[OneLabel, ...]  # GoEmotions order
    calibration: Calibration | None  # None for a reader without the 28 labels
    ceilings: tuple[Ceiling, ...]  # of the paper's twelve states
    confusion: tuple[tuple[int, ...], ...] | None  # rows are true labels, columns what was read
    reads: HumanReads
    unread: int = 0  # comments that it could not read: a judge's reply that is no reading
    cost_usd: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For programs; what is not known is null."""
        accuracy = {"accuracy": self.quality.accuracy, "accuracy_error": self.quality.accuracy_error}
        told = asdict(self) | accuracy | {"reads": reads_as_json(self.reads)}
        found: dict[str, Any] = without_nan(told)
        return found


def single_labelled(path: str | Path) -> Labelled:
    """The single-label comments of a GoEmotions TSV: text, comma-separated label numbers, id; no header.

    UserError where the file is none. A text that holds a quote is quoted, as csv does it.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = [(row[0], row[1].split(",")) for row in csv.reader(file, delimiter="\t") if row]
        pairs = [(text, int(labels[0])) for text, labels in rows if len(labels) == 1]
    except OSError as wrong:
        raise UserError(
            f"{path}: cannot be read ({wrong.strerror}); give a TSV of GoEmotions, such as test.tsv"
        ) from None
    except (ValueError, IndexError, csv.Error):
        raise UserError(
            f"{path}: is no GoEmotions TSV; each line is text, label numbers, id, with tabs between"
        ) from None
    if not pairs or not all(0 <= label < len(LABELS) for _, label in pairs):
        raise UserError(f"{path}: holds no single-label comments with labels 0 … {len(LABELS) - 1}")
    return Labelled(tuple(text for text, _ in pairs), tuple(label for _, label in pairs))


def examine(
    reader: Reader,
    entry: ReaderEntry,
    labelled: Labelled,
    label_map: LabelMap,
    *,
    fit_on: Labelled | None = None,
    fit_name: str = "",
) -> Validation:
    """All figures of a reader on labelled comments. A temperature is fitted on `fit_on`, or on half of the comments.

    UserError where it cannot read a single comment, or where a temperature is wanted and it has none or would be judged
    on what it was fitted to.
    """
    own_map = label_map_of(entry, label_map)
    if fit_on == labelled:
        raise UserError(
            f"--calibrate {fit_name} and --data hold the same comments: a temperature is judged on others than it was "
            "fitted to"
        )
    if fit_on is not None and not _knows_the_labels(own_map, label_map):
        raise UserError(
            f"--calibrate needs a reader with the 28 GoEmotions labels, and {reader.name!r} has others or none"
        )
    true, readings, unread, cost = read(reader, labelled)
    if not _knows_the_labels(own_map, label_map):
        return judged_by_place(true, readings, label_map, own_map, unread=unread, cost_usd=cost)
    fit = None
    if fit_on is not None:
        fit_true, fit_readings, *_ = read(reader, fit_on)
        fit = (fit_true, _probabilities(fit_readings))
    setting = getattr(entry, "temperature", 1.0)
    return judged(true, _probabilities(readings), label_map, fit=fit, fit_name=fit_name, setting=setting, unread=unread)


def read(reader: Reader, labelled: Labelled) -> tuple[npt.NDArray[np.int64], list[Reading], int, float]:
    """(true labels, readings, unread, US dollars): what the reader found, and how much it could not read.

    UserError where it could read nothing.
    """
    found: list[Reading] = []
    for start in range(0, len(labelled.texts), _CHUNK):
        found += reader.read(labelled.texts[start : start + _CHUNK])
    there = [place for place, reading in enumerate(found) if reading.error is None]
    if not there:
        raise UserError(f"reader {reader.name!r} could not read a comment: {found[0].error}")
    true = np.array([labelled.labels[place] for place in there], dtype=np.int64)
    cost = sum(reading.cost_usd or 0.0 for reading in found)
    return true, [found[place] for place in there], len(found) - len(there), cost


def judged(
    true: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float32],
    label_map: LabelMap,
    *,
    fit: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None = None,
    fit_name: str = "",
    setting: float = 1.0,
    unread: int = 0,
) -> Validation:
    """The figures for (n,) true labels and (n, 28) probabilities; `setting` is the temperature they were read with."""
    chosen, vectors = top_labels(probabilities), label_map.vectors()
    top, mean = vectors[chosen], mean_direction(probabilities, vectors)
    reads = calibration.human_reads(true, top, mean, label_map)
    return Validation(
        quality=quality(true, chosen, label_map),
        labels=_labels(true, (f1_per_label(true, chosen), f1_errors(true, chosen)), top, label_map),
        calibration=_calibration(true, probabilities, fit, fit_name, setting),
        ceilings=_ceilings(reads),
        confusion=tuple(tuple(row) for row in confusion_matrix(true, chosen).tolist()),
        reads=reads,
        unread=unread,
    )


def judged_by_place(
    true: npt.NDArray[np.int64],
    readings: Sequence[Reading],
    label_map: LabelMap,
    own_map: LabelMap,
    *,
    unread: int = 0,
    cost_usd: float = 0.0,
) -> Validation:
    """The figures of a reader of other labels, or of none: all that is known of a reading is its place."""
    top, mean = _places(readings, own_map)
    reads = calibration.human_reads(true, top, mean, label_map)
    return Validation(
        quality=quality_of_places(true, top, label_map),
        labels=_labels(true, (np.full(len(LABELS), math.nan),) * 2, top, label_map),
        calibration=None,
        ceilings=_ceilings(reads),
        confusion=None,
        reads=reads,
        unread=unread,
        cost_usd=cost_usd,
    )


def _knows_the_labels(own_map: LabelMap, label_map: LabelMap) -> bool:
    return own_map is label_map


def _probabilities(readings: Sequence[Reading]) -> npt.NDArray[np.float32]:
    return np.array([reading.probabilities for reading in readings], dtype=np.float32)


def _places(readings: Sequence[Reading], own_map: LabelMap) -> tuple[Array, Array]:
    """(n, 2) twice: where a reading lies by its top label, and its mean direction; NaN without a direction."""
    felt = [reading.affect for reading in readings]
    direct = np.array([(one.valence, one.arousal) if one else (np.nan, np.nan) for one in felt], dtype=np.float64)
    if all(reading.probabilities is None for reading in readings):
        return direct, directions(direct)
    probabilities, vectors = _probabilities(readings), own_map.vectors()
    return vectors[top_labels(probabilities)], mean_direction(probabilities, vectors)


def _labels(
    true: npt.NDArray[np.int64], f1: tuple[Array, Array], places: Array, label_map: LabelMap
) -> tuple[OneLabel, ...]:
    """`f1` is of every label, and their errors."""
    counts = np.bincount(true, minlength=len(LABELS))
    cosines, errors = (of(true, places, label_map) for of in (calibration.cosine_per_label, calibration.cosine_errors))
    each = zip(LABELS, counts, f1[0], cosines, f1[1], errors, strict=True)
    return tuple(OneLabel(label, int(n), *map(float, figures)) for label, n, *figures in each)


def _ceilings(reads: HumanReads) -> tuple[Ceiling, ...]:
    states = np.array([state.angle_deg for state in around_the_circle(_STATES)])
    return tuple(calibration.ceilings_at(states, reads))


def _calibration(
    true: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float32],
    fit: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None,
    fit_name: str,
    setting: float,
) -> Calibration:
    unseen, rest = (true, probabilities) if fit else (true[1::2], probabilities[1::2])
    temperature = calibration.fitted_temperature(*(fit or (true[::2], probabilities[::2])))
    error, spread = calibration.expected_calibration_error, calibration.calibration_error_spread
    fitted, mended = fit or (true[::2], probabilities[::2]), calibration.tempered(rest, temperature)
    return Calibration(
        error=error(true, probabilities),
        log_loss=calibration.log_loss(true, probabilities),
        temperature=temperature * setting,
        fitted_to=fit_name if fit else _HALF,
        error_before=error(unseen, rest),
        error_after=error(unseen, mended),
        error_spread=spread(true, probabilities),
        log_loss_spread=mean_error(calibration.log_losses(true, probabilities)),
        temperature_spread=calibration.temperature_error(*fitted, temperature) * setting,
        error_before_spread=spread(unseen, rest),
        error_after_spread=spread(unseen, mended),
    )


def reads_as_json(reads: HumanReads) -> list[dict[str, Any]]:
    columns = zip(LABELS, *(array.tolist() for array in vars(reads).values()), strict=True)
    return [dict(zip(("label", *vars(reads)), line, strict=True)) for line in columns]
