"""Any Hugging Face sequence classifier of emotions: the 28 GoEmotions labels, or its own with a place for each.

Soft-max or sigmoid follows the model's own config (`problem_type`, or a head that calls itself multi-label), or the
setting `activation`. Labels may be spelled as they like, or be `LABEL_0` … `LABEL_27` in GoEmotions order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from emoray.readers.encoder import Encoder, Outputs, averaged, numbers
from emoray.readers.outputs import Unclear, several_at_once
from emoray.readers.protocol import ReaderDown, Reading
from emoray.spec.readers import GoEmotionsReader
from emoray.study.goemotions import LABELS, canonical_label, plain_label


class GoEmotions:
    """One classifier on one device."""

    def __init__(self, entry: GoEmotionsReader) -> None:
        """Loads the classifier; ReaderDown where that cannot be done or a label is missing."""
        self.name = entry.name
        self._encoder = Encoder(entry)
        self.revision: str | None = self._encoder.revision
        self._labels, self._order = _labels(entry, self._encoder.labels)
        self._sigmoid = self._is_sigmoid(entry)
        self._temperature = entry.temperature
        self._encoder.settle(self._probabilities)
        self.notes = self._encoder.notes

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Readings in the order of the texts; an error for one that the classifier cannot read."""
        return self._encoder.narrowed(self._read, texts)

    def _read(self, texts: Sequence[str]) -> list[Reading]:
        pieces, truncated = self._encoder.pieces(texts)
        chances = self._probabilities(self._encoder.outputs(pieces))
        rows = averaged(chances, pieces, len(texts)) if len(pieces) > len(texts) else chances
        return [self._reading(row, cut) for row, cut in zip(rows.astype(np.float32), truncated, strict=True)]

    def close(self) -> None:
        self._encoder.close()
        del self._encoder

    def _is_sigmoid(self, entry: GoEmotionsReader) -> bool:
        several = entry.activation == "sigmoid" if entry.activation != "auto" else self._told_several(entry)
        if not several and len(self._order) == 1:
            raise ReaderDown(
                f"reader {entry.name!r} ({entry.model}) has one output, of which softmax always makes 1; set "
                "activation: sigmoid if it is the chance of its label"
            )
        if several is None:
            self._encoder.note(
                "does not say in its config.json whether a text can have several labels, so one is taken to rule out "
                "the others; activation: sigmoid or softmax settles it"
            )
        return bool(several)

    def _told_several(self, entry: GoEmotionsReader) -> bool | None:
        try:
            return several_at_once(self._encoder.config)
        except Unclear as wrong:
            hint = "set activation: softmax or sigmoid if they are, or take kind: regressor"
            raise ReaderDown(f"reader {entry.name!r} ({entry.model}) has a config.json that {wrong}; {hint}") from None

    def _reading(self, row: npt.NDArray[np.float32], truncated: bool) -> Reading:
        if np.isnan(row).any():
            return Reading(None, truncated=truncated, error="the model's probabilities are not numbers")
        return Reading(row, truncated=truncated, labels=self._labels)

    def _probabilities(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """(rows, labels), in the order of the labels."""
        logits = numbers(outputs[:, self._order]) / self._temperature
        if self._sigmoid:
            return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float64)  # never overflows
        powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def _labels(entry: GoEmotionsReader, id2label: Mapping[int, str]) -> tuple[tuple[str, ...] | None, list[int]]:
    """The reader's own labels (None for GoEmotions'), and which of the model's outputs stands for each label."""
    if entry.label_map is None:
        return None, _goemotions_order(entry, id2label)
    places = {plain_label(label): label for label in entry.places}
    found = {plain_label(str(spelling)): index for index, spelling in id2label.items()}
    homeless = [str(id2label[index]) for label, index in found.items() if label not in places]
    if homeless:
        raise ReaderDown(
            f"reader {entry.name!r} ({entry.model}) has the label {homeless[0]!r}, for which its label_map has no "
            "place; place every label of the model, with none: true for one without a direction"
        )
    unknown = [label for plain, label in places.items() if plain not in found]
    if unknown:
        known = ", ".join(map(str, id2label.values()))
        raise ReaderDown(f"reader {entry.name!r} ({entry.model}) has no label {unknown[0]!r}; it has {known}")
    return tuple(places.values()), [found[plain] for plain in places]


def _goemotions_order(entry: GoEmotionsReader, id2label: Mapping[int, str]) -> list[int]:
    found = {canonical_label(str(spelling)): index for index, spelling in id2label.items()}
    missing = [label for label in LABELS if label not in found]
    if missing or len(id2label) != len(LABELS):
        known = ", ".join(str(label) for label in list(id2label.values())[:5])
        raise ReaderDown(
            f"reader {entry.name!r} ({entry.model}) has {len(id2label)} labels ({known}, …) and none for "
            f"{', '.join(missing[:3]) or 'some'}; it must have the 28 GoEmotions labels"
        )
    return [found[label] for label in LABELS]
