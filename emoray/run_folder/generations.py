"""Which files a file has taken the place of, over all generations: a backup may bring any of them back.

What the smallest files of a writer are called is decided by the time at which each was begun, and merged files remember
these times. So a set of files is a set of times per writer: about three bytes a file, where a name takes sixty.
"""

from __future__ import annotations

import base64
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Stamps = npt.NDArray[np.int64]  # µs since 1970, ascending, each once


@dataclass(frozen=True, eq=False)
class Files:
    """A set of files of one part: small ones by writer and time, others by their whole names."""

    stamps: Mapping[str, Stamps] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    @classmethod
    def written(cls, writer: str, stamps: Iterable[int]) -> Files:
        return cls({writer: np.unique(np.fromiter(stamps, dtype=np.int64))})

    @classmethod
    def union(cls, parts: Iterable[Files]) -> Files:
        found: defaultdict[str, list[Stamps]] = defaultdict(list)
        names: set[str] = set()
        for part in parts:
            names |= part.names
            for writer, stamps in part.stamps.items():
                found[writer].append(stamps)
        return cls({writer: np.unique(np.concatenate(some)) for writer, some in found.items()}, frozenset(names))

    def has(self, other: Files) -> bool:
        """Whether all of the other, which is not empty, is in it."""
        known = all(_all_in(stamps, self.stamps.get(writer, _NONE)) for writer, stamps in other.stamps.items())
        return known and other.names <= self.names and bool(other.names or any(map(len, other.stamps.values())))

    def packed(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"stamps": {name: _packed(some) for name, some in self.stamps.items()}, "names": sorted(self.names)}

    @classmethod
    def unpacked(cls, data: Mapping[str, Any]) -> Files:
        """ValueError when it is none."""
        try:
            stamps = {str(writer): _unpacked(text) for writer, text in data.get("stamps", {}).items()}
            return cls(stamps, frozenset(map(str, data.get("names", ()))))
        except (AttributeError, TypeError, zlib.error) as wrong:
            raise ValueError(f"its older generations cannot be read: {wrong}") from None


_NONE: Stamps = np.empty(0, dtype=np.int64)


def _all_in(some: Stamps, all_: Stamps) -> bool:
    """By searching: a folder asks this of thousands of small files."""
    places = np.searchsorted(all_, some)
    return bool((places < len(all_)).all()) and bool((all_[places] == some).all())


def _packed(stamps: Stamps) -> str:
    """Differences, the like bytes of all together: most of these are zero."""
    steps = np.diff(stamps, prepend=np.int64(0)).astype("<i8")
    return base64.b64encode(zlib.compress(steps.view(np.uint8).reshape(-1, 8).T.tobytes(), 9)).decode()


def _unpacked(text: str) -> Stamps:
    raw = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    steps = np.ascontiguousarray(raw.reshape(8, -1).T).view("<i8").ravel()
    return np.cumsum(steps, dtype=np.int64)
