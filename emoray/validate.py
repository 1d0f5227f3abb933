"""A reader against labelled text in the format of GoEmotions: does it do what its card says, is it as sure as it is
right, and how high does it score where people did express an emotion? By that, kept in a file, a report divides.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emoray import __version__
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
from emoray.readers import Reader, Reading
from emoray.spec import GoEmotionsReader, ReaderEntry, SpecError, label_map_of, reads_as
from emoray.study import paper
from emoray.study.circumplex import Array, around_the_circle, directions
from emoray.study.goemotions import LABELS, LabelMap
from emoray.study.scoring import mean_direction, top_labels

FORMAT = 2  # of a saved file
_CHUNK = 2048  # texts: so many that those of like length fill whole batches
_STATES = 12  # the paper's
_HALF = "every other comment"
_UNMOVED = ("temperature", "activation")  # settings of a classifier that leave the order of its labels as it is


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
        told = asdict(self) | accuracy | {"reads": _reads_as_json(self.reads)}
        found: dict[str, Any] = _without_nan(told)
        return found


def single_labelled(path: str | Path) -> Labelled:
    """The single-label comments of a GoEmotions TSV: text, comma-separated label numbers, id; no header.

    SpecError where the file is none. A text that holds a quote is quoted, as csv does it.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
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

    SpecError where it cannot read a single comment, or where a temperature is wanted and it has none or would be judged
    on what it was fitted to.
    """
    own_map = label_map_of(entry, label_map)
    if fit_on == labelled:
        raise SpecError(
            f"--calibrate {fit_name} and --data hold the same comments: a temperature is judged on others than it was "
            "fitted to"
        )
    if fit_on is not None and not _knows_the_labels(own_map, label_map):
        raise SpecError(
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

    SpecError where it could read nothing.
    """
    found: list[Reading] = []
    for start in range(0, len(labelled.texts), _CHUNK):
        found += reader.read(labelled.texts[start : start + _CHUNK])
    there = [place for place, reading in enumerate(found) if reading.error is None]
    if not there:
        raise SpecError(f"reader {reader.name!r} could not read a comment: {found[0].error}")
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


# ── a saved file ───────────────────────────────────────────────────────────────────────────────────────────────────


def saved(found: Validation, entry: ReaderEntry, revision: str | None, data: str, label_map: LabelMap) -> str:
    """The figures as a file, with what a report needs to know whose they are."""
    whose = {"name": entry.name, "revision": revision, "reads_as": _reads_as(entry)}
    places = {place.label: place.affect and asdict(place.affect) for place in label_map.places}
    head = {"format": FORMAT, "emoray": __version__, "reader": whose, "data": data}
    whole = head | {"label_map": {"name": label_map.name, "places": places}, **found.as_json()}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def human_text(
    path: str | Path, readers: Sequence[ReaderEntry], label_map: LabelMap
) -> tuple[tuple[str, ...], HumanReads]:
    """A saved file: the names of the run's readers that it is about, and what they made of human text.

    SpecError where it is no such file, of none of the readers, or made with another label map than the report's.
    """
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        whose, places, reads = _Whose(**kept["reader"]), kept["label_map"]["places"], _reads_of(kept["reads"])
        known = kept["format"] == FORMAT
    except OSError as wrong:
        raise SpecError(f"{path}: cannot be read ({wrong.strerror}); `emoray validate … --save` writes one") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        known = False
    if not known:
        raise SpecError(f"{path}: is no file that `emoray validate … --save` of this emoray wrote")
    other = {entry.name: _differences(whose, entry) for entry in readers}
    names = tuple(name for name, settings in other.items() if not settings)
    if not names:
        there = " and ".join(f"{name} ({', '.join(settings)})" for name, settings in other.items())
        raise SpecError(f"{path}: is about the reader {whose.name!r}, from which those of this run differ: {there}")
    if places != {place.label: place.affect and asdict(place.affect) for place in label_map.places}:
        raise SpecError(
            f"{path}: was made with the label map {kept['label_map'].get('name')!r}, and this report places labels by "
            f"{label_map.name!r}; validate once more with --label-map"
        )
    return names, reads


@dataclass(frozen=True)
class _Whose:
    """Of which reader a saved file is."""

    name: str
    revision: str | None  # of its model, as resolved
    reads_as: Mapping[str, Any]


def _differences(whose: _Whose, entry: ReaderEntry) -> list[str]:
    """The settings by which an entry reads otherwise than the reader of a file, whatever the two are called.

    A revision differs only where both are known; the file's is, as it was asked for and as it was resolved.
    """
    ours, theirs = _reads_as(entry), whose.reads_as
    if ours["kind"] != theirs.get("kind"):
        return ["kind"]
    pinned, known = ours.get("revision"), {theirs.get("revision"), whose.revision} - {None}
    other_revision = pinned and known and pinned not in known
    return [name for name in ours if (other_revision if name == "revision" else ours[name] != theirs.get(name))]


def _reads_as(entry: ReaderEntry) -> dict[str, Any]:
    """`reads_as` as JSON has it, less what leaves every top label as it is, and with where its own labels lie."""
    unmoved = _UNMOVED if isinstance(entry, GoEmotionsReader) else ()
    own = {"label_map": entry.label_map} if isinstance(entry, GoEmotionsReader) else {}
    decides = {name: value for name, value in (reads_as(entry) | own).items() if name not in unmoved}
    as_json: dict[str, Any] = json.loads(json.dumps(decides, default=lambda section: section.model_dump()))
    return as_json


def _reads_as_json(reads: HumanReads) -> list[dict[str, Any]]:
    columns = zip(LABELS, *(array.tolist() for array in vars(reads).values()), strict=True)
    return [dict(zip(("label", *vars(reads)), line, strict=True)) for line in columns]


def _reads_of(lines: Sequence[Mapping[str, Any]]) -> HumanReads:
    if [line["label"] for line in lines] != list(LABELS):
        raise ValueError("other labels than GoEmotions'")
    angles = np.array([math.nan if line["angles_deg"] is None else line["angles_deg"] for line in lines])
    texts, directed = (np.array([line[name] for line in lines], dtype=np.int64) for name in ("texts", "directed"))
    top, expected = (np.array([line[name] for line in lines], dtype=np.float64) for name in ("top", "expected"))
    if top.shape != (len(LABELS), 2) or expected.shape != top.shape:
        raise ValueError("no unit vectors")
    return HumanReads(angles, texts, directed, top, expected, *(_squares(lines, f"{name}_squares") for name in _SCORES))


_SCORES = ("top", "expected")


def _squares(lines: Sequence[Mapping[str, Any]], name: str) -> Array:
    """Of a file that an earlier emoray wrote they are not known: its ceilings have no error."""
    found = np.array([line.get(name, [math.nan] * 3) for line in lines], dtype=np.float64)
    if found.shape != (len(LABELS), 3):
        raise ValueError("no squares of unit vectors")
    return found


# ── for people ─────────────────────────────────────────────────────────────────────────────────────────────────────


def table(name: str, found: Quality, label_map: LabelMap) -> str:
    """The figures beside what is known of the paper's classifier."""
    theirs, cosine = paper.CLASSIFIER_ACCURACY.value, paper.CLASSIFIER_MEAN_COSINE.value
    labels = [
        f"  accuracy       {found.accuracy:.4f} ± {found.accuracy_error:.4f}  ({found.correct}/{found.comments}; the "
        f"paper's: {theirs:.4f})",
        f"  macro-F1       {found.macro_f1:.4f} ± {found.macro_f1_error:.4f}",
    ]
    zero = _with_error(found.cosine_neutral_zero, found.cosine_neutral_zero_error)
    dropped = _with_error(found.cosine_neutral_dropped, found.cosine_neutral_dropped_error)
    return "\n".join(
        [
            f"{name} on {found.comments:,} single-label comments, label map {label_map.name} ({label_map.mark})",
            *(labels if found.correct is not None else []),
            f"  mean cosine    {zero} with neutral readings as 0, {dropped} without them",
            f"                 (over {found.not_neutral:,} comments that are not neutral; the paper says {cosine:.3f}, "
            "and not which rule or map)",
            "  ±              one standard error: what other comments of this kind would change",
            *_baselines(found),
        ]
    )


def _baselines(found: Quality) -> list[str]:
    """What a reader that knows nothing would score, by the rule that counts neutral readings as 0."""
    if math.isnan(found.constant_cosine):
        return []
    return [
        f"  baselines      {_number(found.constant_cosine)} by reading {found.constant_label} everywhere, the best "
        "constant label;",
        f"                 {_number(found.permuted_cosine)} by the same readings dealt anew among the comments",
    ]


def whole_table(name: str, found: Validation, label_map: LabelMap) -> str:
    """The same, then calibration, every label and every state."""
    lines = [table(name, found.quality, label_map)]
    lines += [f"  not readable   {found.unread:,} more comments"] if found.unread else []
    lines += [f"  cost           ${found.cost_usd:,.2f}"] if found.cost_usd else []
    lines += _calibration_lines(found.calibration) if found.calibration else []
    lines += ["", f"  {'label':<15}{'comments':>9}{'F1':>15}{'cosine':>15}"]
    lines += [
        f"  {one.label:<15}{one.comments:>9,}{_with_error(one.f1, one.f1_error):>15}"
        f"{_with_error(one.cosine, one.cosine_error):>15}"
        for one in found.labels
    ]
    lines += [
        "",
        f"  {'state':<15}{'comments':>9}{'top':>15}{'expected':>15}   what it scores on human text near a state",
    ]
    lines += [
        f"  {f'{one.state_deg:.0f}°':<15}{one.texts:>9,}{_with_error(one.top, one.top_error):>15}"
        f"{_with_error(one.expected, one.expected_error):>15}"
        for one in found.ceilings
    ]
    return "\n".join(lines)


def _calibration_lines(sure: Calibration) -> list[str]:
    error, loss = _with_error(sure.error, sure.error_spread, 4), _with_error(sure.log_loss, sure.log_loss_spread, 4)
    before = _with_error(sure.error_before, sure.error_before_spread, 4)
    after = _with_error(sure.error_after, sure.error_after_spread, 4)
    doubt = f" (± {sure.temperature_spread:.2f})" if math.isfinite(sure.temperature_spread) else ""
    return [
        f"  calibration    expected error {error}, log loss {loss}",
        f"                 `temperature: {sure.temperature:.2f}`{doubt} in its entry makes it {after}, from {before} "
        f"(fitted to {sure.fitted_to}, judged on others)",
    ]


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


def _number(x: float, digits: int = 3) -> str:
    return "–" if math.isnan(x) else f"{x:.{digits}f}"


def _with_error(x: float, error: float, digits: int = 3) -> str:
    said = _number(x, digits)
    return f"{said} ± {_number(error, digits)}" if math.isfinite(error) else said


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
