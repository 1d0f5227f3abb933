"""A Hugging Face regression head with an output for valence and one for arousal: no labels, no map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from emoray.readers.encoder import TRIAL, Encoder, Outputs, averaged, numbers
from emoray.readers.protocol import ReaderDown, Reading
from emoray.spec.readers import RegressorReader
from emoray.study.circumplex import Affect
from emoray.study.goemotions import plain_label

_FAR = 0.25  # of the range: some overshoot is usual


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
        self._note_range(entry)
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
        return np.asarray(np.clip(2.0 * self._shares(outputs) - 1.0, -1.0, 1.0), dtype=np.float64)

    def _shares(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """(rows, 2) of the way from the lowest to the highest that the model says; less than 0 or more than 1 where the
        spec tells another range than it has.
        """
        said = numbers(outputs[:, self._columns])
        if self._sigmoid:
            said = 0.5 * (1.0 + np.tanh(0.5 * said))
        return np.asarray((said - self._low) / (self._high - self._low), dtype=np.float64)

    def _note_range(self, entry: RegressorReader) -> None:
        """A range that is not the model's makes the same end of it of many texts, whatever they say."""
        shares = self._shares(self._encoder.outputs(self._encoder.pieces(TRIAL)[0]))
        for name, share in zip((entry.valence, entry.arousal), shares.T, strict=True):
            if (np.abs(share - 0.5) > 0.5 + _FAR).any():
                said = self._low + (self._high - self._low) * share
                self._encoder.note(
                    f"says {said.min():.3g} to {said.max():.3g} as {name} of a few plain texts, and its range in the "
                    f"spec is {self._low:g} to {self._high:g}: what lies outside is cut to its ends"
                )


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
