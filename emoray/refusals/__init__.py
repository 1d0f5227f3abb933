"""Which answers decline the task, and which leave the role: `flags` of a whole column of answers.

Two detectors stand one behind the other. The first is a linear model over the n-grams of characters at an answer's
beginning and end (`linear.npz`, made by `jobs/training/refusals.py`): it goes through a column by array arithmetic,
flags what is plainly a refusal, and lets pass what is plainly none. What lies between is looked at by patterns
(`patterns.py`), which alone tell who leaves the role. `figures.json` holds how both together did on labelled
answers that neither was made from.

The sums are of whole numbers, so that no flag depends on which answers stand beside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from emoray.refusals import patterns
from emoray.study.circumplex import Array

DETECTOR = "2"  # stands in every row; rows that were flagged by another are flagged anew by a report
_HERE = Path(__file__).parent
_HEAD, _TAIL = 320, 200  # characters: who declines says so at once, or in the end
_ORDERS = (2, 3, 4, 5)
_CHUNK = 256  # texts at a time: what they become stays in a core's cache
_BITS = 17  # of a hash
_BASE, _SPREAD = np.uint32(0x01000193), np.uint32(0x9E3779B1)
_NOTHING = r"[\s*#`_~|>\"“”„«»「」『』()\[\]{}]+"

_MACHINES = (
    r"(?:^|[^\pL'])(?:ai|a\.i\.|llm)(?:[^\pL]|$)|chat ?bot|chatgpt|language model|artificial intel"
    r"|künstliche intel|sprachmodell"
    r"|(?:trained|created|developed|made|built) by (?:openai|anthropic|google|meta|cohere|mistral|alibaba|deepseek)"
    r"|inteligencia artificial|modelo de leng|intelligence artificielle|modèle de lang|intelligenza artificiale"
    r"|modello lingu|inteligência artificial|modelo de ling|kunstmatige intel|taalmodel|sztuczn.{1,3} intel"
    r"|model.{0,3} językow|искусственн.{2,3} интеллект|языков.{2,3} модел|人工智能|语言模型|人工知能|言語モデル"
    r"|인공지능|언어 ?모델|ذكاء اصطناعي|نموذج.{0,2} لغوي|कृत्रिम बुद्धि|भाषा मॉडल|एआई"
)
Flags = npt.NDArray[np.bool_]
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


@dataclass(frozen=True)
class Judged:
    """What `figures.json` says."""

    answers: int  # labelled, and held out
    refusals: Figures
    role_breaks: Figures


@dataclass(frozen=True)
class Linear:
    """A linear model: hundredths per hashed n-gram, and what is added."""

    weights: Bytes  # (2^_BITS,)
    scale: float
    bias: float


@dataclass(frozen=True)
class Model:
    refusal: Linear
    role_break: Linear
    sure: float  # of a refusal: from here on it is one
    refusal_least: float  # below both of these, neither is looked for
    role_break_least: float


def flags(texts: Sequence[str | None]) -> tuple[Flags, Flags]:
    """(answers,) twice: whether each declines the task, and whether it leaves the role; None does neither."""
    chunks = [_flags(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)]
    refused, left = zip(*chunks, strict=True) if chunks else ([], [])
    nothing = np.zeros(0, dtype=np.bool_)
    return np.concatenate([nothing, *refused]), np.concatenate([nothing, *left])


def _flags(texts: Sequence[str | None]) -> tuple[Flags, Flags]:
    model, grams = _model(), Grams.of(texts)
    declines, breaks = grams.scores(model.refusal), grams.scores(model.role_break)
    refused, left = declines >= model.sure, np.zeros(len(texts), dtype=np.bool_)
    near = (declines >= model.refusal_least) | (breaks >= model.role_break_least) | grams.of_machines
    for place in np.flatnonzero(near).tolist():
        text = texts[place] or ""
        refused[place] |= patterns.is_refusal(text)
        left[place] = patterns.breaks_role(text)
    return refused, left


def is_refusal(text: str) -> bool:
    """Whether an answer declines to answer."""
    return bool(flags([text])[0][0])


def breaks_role(text: str) -> bool:
    """Whether an answer speaks as a machine instead of the person it was told to be."""
    return bool(flags([text])[1][0])


@cache
def judged() -> Judged:
    """How well both are found, on labelled answers that were held out."""
    said = json.loads((_HERE / "figures.json").read_text(encoding="utf-8"))
    return Judged(said["answers"], Figures(**said["refusals"]), Figures(**said["role_breaks"]))


@dataclass(frozen=True)
class Grams:
    """The hashed n-grams of a column of texts, order after order."""

    hashes: tuple[npt.NDArray[np.uint32], ...]  # one per order: of the n-gram at each character of all texts in a row
    starts: npt.NDArray[np.int64]  # (texts,)
    lengths: npt.NDArray[np.int64]  # (texts,)
    of_machines: Flags  # (texts,): whether a text, anywhere, has a word that machines are called by

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Grams:
        plain = _plain(texts)
        short = [f" {_ends(text.strip())} " for text in plain.to_pylist()]
        lengths = np.array([len(text) for text in short], dtype=np.int64)
        codes = np.frombuffer("".join(short).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        named = np.asarray(pc.match_substring_regex(plain, _MACHINES), dtype=np.bool_)
        return cls(_hashed(codes), np.cumsum(lengths) - lengths, lengths, named)

    @property
    def counts(self) -> Array:
        """(texts,): how many n-grams each has."""
        return sum((np.maximum(self.lengths - order + 1, 0) for order in _ORDERS), np.zeros(len(self.lengths)))

    def scores(self, model: Linear) -> Array:
        """(texts,): above 0 the model leans to yes."""
        total = np.zeros(len(self.lengths), dtype=np.int32)
        for order, hashes in zip(_ORDERS, self.hashes, strict=True):
            upto = np.zeros(len(hashes) + 1, dtype=np.int32)  # may wrap around: its differences are exact all the same
            np.cumsum(model.weights[hashes], dtype=np.int32, out=upto[1:])
            ends = self.starts + np.maximum(self.lengths - order + 1, 0)
            total += upto[np.minimum(ends, len(hashes))] - upto[np.minimum(self.starts, len(hashes))]
        return total * model.scale / np.sqrt(np.maximum(self.counts, 1.0)) + model.bias


def _plain(texts: Sequence[str | None]) -> pa.Array:
    """Small letters, plain quotation marks and blanks."""
    column = pc.utf8_lower(pc.utf8_normalize(pc.fill_null(pa.array(texts, pa.string()), ""), form="NFKC"))
    return pc.replace_substring_regex(pc.replace_substring(column, "’", "'"), _NOTHING, " ")


def _ends(text: str) -> str:
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]} {text[-_TAIL:]}"


def _hashed(codes: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint32], ...]:
    found, running = [], codes
    for order in range(2, max(_ORDERS) + 1):
        running = running[:-1] * _BASE + codes[order - 1 :] if len(codes) >= order else codes[:0]
        if order in _ORDERS:
            found.append((running + np.uint32(order)) * _SPREAD >> np.uint32(32 - _BITS))
    return tuple(found)


@cache
def _model() -> Model:
    """Read where a text is first looked at."""
    with np.load(_HERE / "linear.npz") as kept:
        refusal, role_break = (
            Linear(kept[name], *kept[f"{name}_scale_bias"].tolist()) for name in ("refusal", "role_break")
        )
        return Model(refusal, role_break, *kept["thresholds"].tolist())
