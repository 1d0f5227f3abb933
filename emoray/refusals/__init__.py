"""Which answers decline the task, and which leave the role: `flags` of a whole column of answers.

A model (`linear.npz`, made by `jobs/training/refusals.py`) weighs each sentence of an answer (its n-grams of
characters, the notions that it speaks of, where it stands: `sentences.py`), and the answer as a whole; what counts is
the sentence that says it most plainly. It goes through a column by array arithmetic. Where its score is close below
the line, patterns (`patterns.py`) are asked too.
`figures.json` holds how all of them together did on labelled answers that none was made from.

The sums are of whole numbers, so that no flag depends on which answers stand beside.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from emoray.refusals import patterns
from emoray.refusals.characters import Flags
from emoray.refusals.sentences import ORDERS, Column, weighed_pairs
from emoray.study.circumplex import Array

Counts = npt.NDArray[np.int64]

DETECTOR = "5"  # stands in every row; rows that were flagged by another are flagged anew by a report
_HERE = Path(__file__).parent
# Read with the module, and not where an actor first needs it: when another node of this machine joins, Ray unpacks a
# job's folder anew under the actors that run in it.
_WEIGHTS = (_HERE / "linear.npz").read_bytes()
_CHUNK = 256  # texts at a time: what they become stays in a core's cache
PATTERNS = 2.2  # what the patterns' verdict counts, in scores
BOUND = 2.0  # what the n-grams of an answer as a whole count at most, in scores
LABELS = {"refusal": patterns.is_refusal, "role_break": patterns.breaks_role}  # in the order of `flags`
PARTS = ("sentence", "whole")
_DIGITS = 6  # of a score: what machines differ in stands behind them


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

    held_out: str  # how the answers were kept from the detector
    answers: int  # labelled
    refusals: Figures
    role_breaks: Figures


@dataclass(frozen=True)
class Part:
    """What one label's model sees in sentences, or in wholes: whole numbers, and what one of them is."""

    notions: Array  # (notions,)
    pairs: Array  # (notions, notions): above the diagonal
    others: Array  # (features of `around` or `whole`,)
    scale: float
    scale_grams: float

    def of_flags(self, seen: Flags, others: Flags) -> Array:
        """(any,)"""
        flagged = seen @ self.notions + others @ self.others + weighed_pairs(seen, self.pairs)
        return np.asarray(flagged * self.scale, dtype=np.float64)

    def of_grams(self, grams: Counts, lengths: Counts) -> Array:
        """(any,): `grams` are the sums of the weights of all n-grams, `lengths` the characters."""
        return np.asarray(grams * self.scale_grams / np.sqrt(lengths), dtype=np.float64)


@dataclass(frozen=True)
class Model:
    """Of one label."""

    sentence: Part
    whole: Part
    bias: float
    sure: float  # from this score on it is one


def flags(texts: Sequence[str | None]) -> tuple[Flags, Flags]:
    """(answers,) twice: whether each declines the task, and whether it leaves the role; None does neither."""
    chunks = [_flags(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)]
    refused, left = zip(*chunks, strict=True) if chunks else ([], [])
    nothing = np.zeros(0, dtype=np.bool_)
    return np.concatenate([nothing, *refused]), np.concatenate([nothing, *left])


def scores(column: Column) -> Array:
    """(answers, labels): above 0 the model leans to yes."""
    around, whole, sums = column.around(), column.whole(), _grams(column)
    sums_of_all = np.add.reduceat(sums, column.first, axis=0)
    lengths, lengths_of_all = column.lengths, np.add.reduceat(column.lengths, column.first)
    found = []
    for label, model in enumerate(_models()):
        said = model.sentence.of_flags(column.notions, around) + model.sentence.of_grams(sums[:, label, 0], lengths)
        of_all = bounded(model.whole.of_grams(sums_of_all[:, label, 1], lengths_of_all))
        of_all += model.whole.of_flags(column.notions_of_all, whole)
        found.append(np.round(most(said, column) + of_all + model.bias, _DIGITS))
    return np.stack(found, axis=1)


def most(said: Array, column: Column) -> Array:
    """(answers,): of the scores of its sentences, log Σ exp: little more than the highest one."""
    high = np.maximum.reduceat(said, column.first)
    return np.asarray(high + np.log(np.add.reduceat(np.exp(said - high[column.answers]), column.first)))


def bounded(scores: Array) -> Array:
    """(any,): between -BOUND and BOUND, so that what is said again and again cannot outweigh a sentence."""
    return np.asarray(scores / (1.0 + np.abs(scores) / BOUND), dtype=np.float64)


def _flags(texts: Sequence[str | None]) -> tuple[Flags, Flags]:
    column = Column.of(texts)
    found = scores(column)
    refused, left = (_found(column, found[:, label], name) for label, name in enumerate(LABELS))
    return refused, left


def _found(column: Column, scored: Array, name: str) -> Flags:
    sure = _models()[list(LABELS).index(name)].sure
    found = scored >= sure
    for place in np.flatnonzero(~found & (scored + PATTERNS >= sure)).tolist():
        found[place] = LABELS[name](column.said[place].as_py())
    return np.logical_and(found, np.asarray(pc.not_equal(column.raw, ""), dtype=np.bool_))


def _grams(column: Column) -> Counts:
    """(sentences, labels, parts): the sums of the weights of the n-grams that begin in each sentence."""
    sums = np.zeros((len(column.codes), len(LABELS) * len(PARTS)), dtype=np.int16)
    for order, hashes in zip(ORDERS, column.hashes, strict=True):
        sums[: len(column.codes) - order + 1] += _packed()[hashes].view(np.int8).reshape(-1, sums.shape[1])
    sums[column.gaps] = 0
    of_sentences = np.add.reduceat(sums, column.starts, axis=0, dtype=np.int64)
    return of_sentences.reshape(-1, len(LABELS), len(PARTS))


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
    return Judged(said["held_out"], said["answers"], Figures(**said["refusals"]), Figures(**said["role_breaks"]))


@cache
def _models() -> tuple[Model, ...]:
    """One per label; unpacked where a text is first looked at."""
    with np.load(io.BytesIO(_WEIGHTS)) as kept:
        return tuple(_model(name, dict(kept)) for name in LABELS)


def _model(name: str, kept: dict[str, npt.NDArray[np.generic]]) -> Model:
    sentence, whole = (_part(kept[f"{name}_{part}"], kept[f"{name}_{part}_scales"], kept) for part in PARTS)
    bias, sure = kept[f"{name}_line"].astype(np.float64).tolist()
    return Model(sentence, whole, bias, sure)


def _part(
    weights: npt.NDArray[np.generic], scales: npt.NDArray[np.generic], kept: dict[str, npt.NDArray[np.generic]]
) -> Part:
    whole, count = weights.astype(np.float64), int(kept["notions"])
    pairs = np.zeros((count, count))
    pairs[np.triu_indices(count, 1)] = whole[count : count * (count + 1) // 2]
    return Part(whole[:count], pairs, whole[count * (count + 1) // 2 :], *scales.astype(np.float64).tolist())


@cache
def _packed() -> npt.NDArray[np.uint32]:
    """(2^BITS,): a byte per label and part, so one look finds all of them."""
    with np.load(io.BytesIO(_WEIGHTS)) as kept:
        return np.ascontiguousarray(kept["grams"]).view(np.uint32).reshape(-1)
