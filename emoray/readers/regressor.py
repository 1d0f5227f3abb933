"""A Hugging Face regression head with an output for valence and one for arousal: no labels, no map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from emoray.readers.encoder import Encoder, Outputs, averaged, numbers
from emoray.readers.protocol import ReaderDown, Reading
from emoray.spec.readers import RegressorReader
from emoray.study.circumplex import Affect
from emoray.study.goemotions import plain_label


class Regressor:
    """One regressor on one device; what it says is moved from its own range to -1 … 1, and no further."""

    def __init__(self, entry: RegressorReader) -> None:
        """Loads the regressor; ReaderDown where that cannot be done or an output is missing."""
        self.name = entry.name
        self._encoder = Encoder(entry)
        self.revision: str | None = self._encoder.revision
        self._columns = [_column(entry, self._encoder.labels, name) for name in (entry.valence, entry.arousal)]
        self._low, self._high = entry.range
        self._sigmoid = entry.activation == "sigmoid"
        self._encoder.settle(self._affects)
        self.notes = self._encoder.notes

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Readings in the order of the texts, each with an affect; an error for one that the network cannot read."""
        return self._encoder.narrowed(self._read, texts)

    def _read(self, texts: Sequence[str]) -> list[Reading]:
        pieces, truncated = self._encoder.pieces(texts)
        rows = averaged(self._affects(self._encoder.outputs(pieces)), pieces, len(texts))
        return [_reading(row, cut) for row, cut in zip(rows, truncated, strict=True)]

    def close(self) -> None:
        self._encoder.close()
        del self._encoder

    def _affects(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """(rows, 2) of valence and arousal, moved from the model's range to -1 … 1."""
        said = numbers(outputs[:, self._columns])
        if self._sigmoid:
            said = 0.5 * (1.0 + np.tanh(0.5 * said))
        share = (said - self._low) / (self._high - self._low)
        return np.asarray(np.clip(2.0 * share - 1.0, -1.0, 1.0), dtype=np.float64)


def _reading(row: npt.NDArray[np.float64], truncated: bool) -> Reading:
    if np.isnan(row).any():
        return Reading(None, truncated=truncated, error="the model's valence or arousal is not a number")
    return Reading(None, truncated=truncated, affect=Affect(float(row[0]), float(row[1])))


def _column(entry: RegressorReader, labels: Mapping[int, str], name: str) -> int:
    found = {plain_label(spelling): index for index, spelling in labels.items()}
    if plain_label(name) not in found:
        known = ", ".join(labels.values())
        raise ReaderDown(
            f"reader {entry.name!r} ({entry.model}) has no output {name!r}; it has {known}: "
            "name the two with `valence` and `arousal`"
        )
    return int(found[plain_label(name)])
