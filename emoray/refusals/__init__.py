"""Which answers decline the task, and which leave the role: `flags` of a whole column of answers.

A linear model (`linear.npz`, made by `jobs/training/refusals.py`) weighs the n-grams of characters at an answer's
beginning and end, and the notions that it speaks of (`notions.py`): it goes through a column by array arithmetic,
flags what is plainly a refusal, and lets pass what is plainly none. What lies between is looked at by patterns
(`patterns.py`) too.
`figures.json` holds how all of them together did on labelled answers that none was made from.

The sums are of whole numbers, so that no flag depends on which answers stand beside.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from emoray.refusals import notions, patterns
from emoray.refusals.characters import SPREAD, Codes, Flags, Row, rolled
from emoray.study.circumplex import Array

DETECTOR = "3"  # stands in every row; rows that were flagged by another are flagged anew by a report
_HERE = Path(__file__).parent
# Read with the module, and not where an actor first needs it: when another node of this machine joins, Ray unpacks a
# job's folder anew under the actors that run in it.
_LINEAR = (_HERE / "linear.npz").read_bytes()
_HEAD, _TAIL = 320, 200  # characters: who declines says so at once, or in the end
_ORDERS = (2, 3, 4, 5)
_CHUNK = 256  # texts at a time: what they become stays in a core's cache
_BITS = 17  # of a hash
PATTERNS = 3.0  # what the patterns' verdict counts, in scores
_NOTHING = r"[\s*#`_~|>\"“”„«»「」『』()\[\]{}]+"

Bytes = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Figures:
    """How a detector did on labelled answers: `of` true ones, `flagged` ones, `both`."""

    of: int
    flagged: int
    both: int

    @property
    def precision(self) -> float:
        return self.both / self.flagged

    @property
    def recall(self) -> float:
        return self.both / self.of

    @property
    def precision_interval(self) -> tuple[float, float]:
        """Of 95 %, by Wilson."""
        return _wilson(self.both, self.flagged)

    @property
    def recall_interval(self) -> tuple[float, float]:
        """Of 95 %, by Wilson."""
        return _wilson(self.both, self.of)


@dataclass(frozen=True)
class Judged:
    """What `figures.json` says."""

    answers: int  # labelled, and held out
    looks: int  # at these figures, this one among them
    refusals: Figures
    role_breaks: Figures


@dataclass(frozen=True)
class Linear:
    """A linear model: whole numbers per hashed n-gram and per notion, what one of them is, and what is added."""

    weights: Bytes  # (2^_BITS,)
    notions: npt.NDArray[np.int16]  # (`notions.names`,)
    scale: float
    scale_notions: float
    bias: float
    sure: float  # from this score on it is one


def flags(texts: Sequence[str | None]) -> tuple[Flags, Flags]:
    """(answers,) twice: whether each declines the task, and whether it leaves the role; None does neither."""
    chunks = [_flags(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)]
    refused, left = zip(*chunks, strict=True) if chunks else ([], [])
    nothing = np.zeros(0, dtype=np.bool_)
    return np.concatenate([nothing, *refused]), np.concatenate([nothing, *left])


def _flags(texts: Sequence[str | None]) -> tuple[Flags, Flags]:
    grams, seen = Grams.of(texts), notions.seen(texts)
    models = (("refusal", patterns.is_refusal), ("role_break", patterns.breaks_role))
    refused, left = (_found(texts, _model(name), grams, seen, by_patterns) for name, by_patterns in models)
    return refused, left


def _found(
    texts: Sequence[str | None], model: Linear, grams: Grams, seen: Flags, by_patterns: Callable[[str], bool]
) -> Flags:
    scores = grams.scores(model, seen)
    found = scores >= model.sure
    for place in np.flatnonzero(~found & (scores + PATTERNS >= model.sure)).tolist():
        found[place] = by_patterns(texts[place] or "")
    return np.logical_and(found, [bool(text) for text in texts])


def load() -> None:
    """Makes all ready that otherwise the first texts wait for: half a second of a core."""
    flags([""])
    patterns.load()


def is_refusal(text: str) -> bool:
    """Whether an answer declines to answer."""
    return bool(flags([text])[0][0])


def breaks_role(text: str) -> bool:
    """Whether an answer speaks as a machine instead of the person it was told to be."""
    return bool(flags([text])[1][0])


def _wilson(found: int, of: int) -> tuple[float, float]:
    """Wilson (1927): where a share lies with a probability of 95 %."""
    share, z = found / of, 1.959964
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return middle - half, middle + half


@cache
def judged() -> Judged:
    """How well both are found, on labelled answers that were held out."""
    said = json.loads((_HERE / "figures.json").read_text(encoding="utf-8"))
    return Judged(said["answers"], said["looks"], Figures(**said["refusals"]), Figures(**said["role_breaks"]))


@dataclass(frozen=True)
class Grams:
    """The hashed n-grams of a column of texts, order after order."""

    hashes: tuple[Codes, ...]  # one per order: of the n-gram at each character of all texts in a row
    starts: npt.NDArray[np.int64]  # (texts,)
    lengths: npt.NDArray[np.int64]  # (texts,)

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Grams:
        plain = _plain(texts)
        short = [f" {_ends(text.strip())} " for text in plain.to_pylist()]
        row = Row.of(short)
        return cls(_hashed(row.codes), row.starts, row.lengths)

    @property
    def counts(self) -> Array:
        """(texts,): how many n-grams each has."""
        return sum((np.maximum(self.lengths - order + 1, 0) for order in _ORDERS), np.zeros(len(self.lengths)))

    def scores(self, model: Linear, seen: Flags) -> Array:
        """(texts,): above 0 the model leans to yes; `seen` is what notions saw in the same texts."""
        total = np.zeros(len(self.lengths), dtype=np.int32)
        for order, hashes in zip(_ORDERS, self.hashes, strict=True):
            upto = np.zeros(len(hashes) + 1, dtype=np.int32)  # may wrap around: its differences are exact all the same
            np.cumsum(model.weights[hashes], dtype=np.int32, out=upto[1:])
            ends = self.starts + np.maximum(self.lengths - order + 1, 0)
            total += upto[np.minimum(ends, len(hashes))] - upto[np.minimum(self.starts, len(hashes))]
        spoken = (seen * model.notions.astype(np.int32)).sum(axis=1)
        by_grams = total * model.scale / np.sqrt(np.maximum(self.counts, 1.0))
        return np.asarray(by_grams + spoken * model.scale_notions + model.bias, dtype=np.float64)


def _plain(texts: Sequence[str | None]) -> pa.Array:
    """Small letters, plain quotation marks and blanks."""
    column = pc.utf8_lower(pc.utf8_normalize(pc.fill_null(pa.array(texts, pa.string()), ""), form="NFKC"))
    return pc.replace_substring_regex(pc.replace_substring(column, "’", "'"), _NOTHING, " ")


def _ends(text: str) -> str:
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]} {text[-_TAIL:]}"


def _hashed(codes: Codes) -> tuple[Codes, ...]:
    hashes = ((order, found) for order, found in rolled(codes, max(_ORDERS)) if order in _ORDERS)
    return tuple((found + np.uint32(order)) * SPREAD >> np.uint32(32 - _BITS) for order, found in hashes)


@cache
def _model(name: str) -> Linear:
    """Unpacked where a text is first looked at."""
    with np.load(io.BytesIO(_LINEAR)) as kept:
        return Linear(kept[name], kept[f"{name}_notions"], *kept[f"{name}_scales"].tolist())
