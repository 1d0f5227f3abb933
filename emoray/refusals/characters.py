"""Texts as one long row of characters, which array arithmetic goes over at once, and hashes of what stands in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]

BASE = np.uint32(0x01000193)
SPREAD = np.uint32(0x9E3779B1)  # what a hash is multiplied by, so that its first bits hang on all characters


@dataclass(frozen=True)
class Row:
    """Some texts, one behind the other."""

    codes: Codes  # (characters of all,)
    starts: npt.NDArray[np.int64]  # (texts,)
    lengths: npt.NDArray[np.int64]  # (texts,)

    @classmethod
    def of(cls, texts: Sequence[str]) -> Row:
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        return cls(codes, np.cumsum(lengths) - lengths, lengths)


def rolled(codes: Codes, longest: int) -> Iterator[tuple[int, Codes]]:
    """Every length up to the longest, and at each character the hash of so many from there on, not yet spread."""
    running = codes
    for length in range(1, longest + 1):
        if length > 1:
            running = running[:-1] * BASE + codes[length - 1 :]
        yield length, running


@cache
def table(characters: str) -> Flags:
    """(2^16,): whether a character, by its code, is one of these; higher codes are to be cut to the last."""
    found = np.zeros(0x10000, dtype=np.bool_)
    found[[ord(one) for one in characters]] = True
    return found
