"""A column of answers as sentences, and what the detector sees of each: n-grams, notions, where it stands.

Thoughts are left out, and so is what an answer quotes (`quotations.py`). Of a long answer the beginning and the end are
looked at: who declines says so there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from emoray.refusals import notions, quotations
from emoray.refusals.characters import SPREAD, Codes, Flags, Row, rolled, table
from emoray.study.circumplex import Array

Places = npt.NDArray[np.int64]

ORDERS = (2, 3, 4, 5)  # of n-grams
BITS = 17  # of an n-gram's hash

_HEAD, _TAIL = 600, 400  # characters of an answer that are looked at
_APART = " " * (max(ORDERS) - 1)  # so no n-gram of an answer reaches into the next one
_ENDS = ".!?;\n。！？؟।…；"  # of a sentence
_FENCED = r"(?s)\A\s*```\w*\n(.*?)\n?```\s*\z"
_THOUGHTS = r"(?s)<think(?:ing)?>.*?</think(?:ing)?>"
_FIELDS = r"""\A\s*(?s:\{\s*["']?[^"'\n:]+["']?\s*:.*\}|\[\s*["{].*\])\s*\z"""  # JSON
_INNER = r'\\"[^"\\]*\\"'  # what a field quotes
_NOTICE = r"\A\s*[\[{<][^\[\]{}<>\n]*[\]}>]\s*\z"  # what a filter says in brackets
_MARKUP = r"[ \t#`~*]+"
_LENGTHS = (8, 15, 25, 40, 60, 90, 130, 200)  # characters of a sentence, between which lengths are told apart
_LENGTHS_OF_ALL = (12, 25, 45, 80, 130, 200, 320, 520)  # the same of an answer
_COUNTS = (2, 3, 4, 6)  # sentences of an answer
_INSIDE = ("?？؟", "!！", '"', "0123456789", "([【（", ":：", "…")  # what a sentence may hold
_SURFACE = (
    r"!",
    r"\?",
    r"…|\.\.\.",
    r'["“”„«»「」『』]',
    r"\*\*|^#|\n- |\n\d\.",
    r"^\s*[\[\(【{<]",
    r"<think",
    r"\*[^*]+\*",
    r"!.*!",
    r"\n",
    r"\d{3}",
    r"[\(\[【（][^\)\]】）]*[\)\]】）]\s*$",
    r"^[A-Z_ ]{6,}",
    r"^\s*[–—-] ",
)


@dataclass(frozen=True)
class Column:
    """The sentences of some answers, answer after answer; each answer has at least one."""

    raw: pa.Array  # (answers,): as they are
    said: pa.Array  # (answers,): in small letters, without thoughts, markup and quotations
    codes: Codes  # (characters of all,)
    starts: Places  # (sentences,): the first character of each
    first: Places  # (answers,): the first sentence of each

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Column:
        raw = pc.fill_null(_strings(texts), "")
        said = _plain(raw)
        row = Row.of([f" {_ends(text.strip())}{_APART}" for text in said.to_pylist()])
        starts = _starts(row)
        return cls(raw, said, row.codes, starts, np.searchsorted(starts, row.starts))

    @cached_property
    def lengths(self) -> Places:
        """(sentences,): characters."""
        return np.diff(self.starts, append=len(self.codes))

    @cached_property
    def last(self) -> Places:
        """(answers,): the last sentence of each."""
        return np.append(self.first[1:], len(self.starts)) - 1

    @cached_property
    def answers(self) -> Places:
        """(sentences,): whose each is."""
        return np.repeat(np.arange(len(self.first)), self.last - self.first + 1)

    @cached_property
    def hashes(self) -> list[Codes]:
        """Of the n-gram that begins at each character, an array per order; the last characters have none."""
        found = ((order, one) for order, one in rolled(self.codes, max(ORDERS)) if order in ORDERS)
        return [(one + np.uint32(order)) * SPREAD >> np.uint32(32 - BITS) for order, one in found]

    @cached_property
    def gaps(self) -> Places:
        """(characters,): where n-grams begin that hold characters of the next answer, and count for none."""
        ends = np.append(self.starts[self.first[1:]], len(self.codes))
        return np.asarray(ends[:, None] - np.arange(1, len(_APART) + 1)).ravel()

    @cached_property
    def notions(self) -> Flags:
        """(sentences, notions)"""
        return notions.flags(np.bitwise_or.reduceat(notions.at(self.codes), self.starts))

    @cached_property
    def notions_of_all(self) -> Flags:
        """(answers, notions)"""
        return np.logical_or.reduceat(self.notions, self.first, axis=0)

    def around(self) -> Flags:
        """(sentences, features): notions of the sentences before and after, and how each looks."""
        before, after = np.zeros_like(self.notions), np.zeros_like(self.notions)
        before[1:], after[:-1] = self.notions[:-1], self.notions[1:]
        before[self.first], after[self.last] = False, False
        return np.concatenate([before, after, self._places(), self._marks()], axis=1)

    def whole(self) -> Flags:
        """(answers, features): notions of the first and the last sentence, and how each answer looks."""
        lengths = np.add.reduceat(self.lengths, self.first)[:, None] - len(_APART) - 1 >= np.array(_LENGTHS_OF_ALL)
        counts = (self.last - self.first + 1)[:, None] >= np.array(_COUNTS)
        return np.concatenate(
            [self.notions[self.first], self.notions[self.last], lengths, counts, _of_surface(self.raw)], axis=1
        )

    def _places(self) -> Flags:
        """(sentences, 3): whether each is the first, the last, the only one."""
        at = np.zeros((len(self.starts), 3), dtype=np.bool_)
        at[self.first, 0] = at[self.last, 1] = True
        at[:, 2] = at[:, 0] & at[:, 1]
        return at

    def _marks(self) -> Flags:
        """(sentences, features): lengths, and marks that are in it."""
        low = np.minimum(self.codes, 0xFFFF)
        marks = [np.logical_or.reduceat(table(characters)[low], self.starts) for characters in _INSIDE]
        return np.concatenate([self.lengths[:, None] >= np.array(_LENGTHS), np.stack(marks, axis=1)], axis=1)


def pairs(flags: Flags) -> Flags:
    """(any, pairs of notions): which two are both there."""
    one, other = np.triu_indices(flags.shape[1], 1)
    return flags[:, one] & flags[:, other]


def weighed_pairs(flags: Flags, weights: Array) -> Array:
    """(any,): what the `pairs` weigh; `weights` (notions, notions) hold whole numbers above the diagonal."""
    there = flags.astype(np.float64)
    return np.asarray(((there @ weights) * there).sum(axis=1), dtype=np.float64)


def _plain(raw: pa.Array) -> pa.Array:
    """Small letters, without markup, thoughts and quotations."""
    open_ = pc.replace_substring_regex(raw, _FENCED, r"\1")
    small = pc.utf8_lower(pc.utf8_normalize(open_, form="NFKC"))
    bare = pc.replace_substring_regex(small, _THOUGHTS, " ")
    said = pc.if_else(pc.match_substring_regex(bare, r"\S"), bare, small)
    plain = pc.if_else(pc.match_substring_regex(said, _FIELDS), _fields(said), _notices(quotations.without(said)))
    return pc.replace_substring_regex(plain, _MARKUP, " ")


def _fields(said: pa.Array) -> pa.Array:
    values = pc.replace_substring_regex(pc.replace_substring_regex(said, _INNER, " "), "[’‘ʼ`´]", "'")
    return pc.replace_substring_regex(values, r'["{}\[\]_]', " ")


def _notices(said: pa.Array) -> pa.Array:
    within = pc.replace_substring_regex(said, r"[{}\[\]_]", " ")
    return pc.if_else(pc.match_substring_regex(said, _NOTICE), within, said)


def _strings(texts: Sequence[str | None]) -> pa.Array:
    """As Arrow has them: half a character (a lone surrogate) is a question mark there."""
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        return pa.array([text and text.encode("utf-8", "replace").decode() for text in texts], pa.string())


def _ends(text: str) -> str:
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"


def _starts(row: Row) -> Places:
    """Where sentences begin: behind a mark that ends one, and at the beginning of an answer."""
    ends = table(_ENDS)[np.minimum(row.codes, 0xFFFF)]
    begins = np.zeros(len(row.codes), dtype=np.bool_)
    begins[1:] = ends[:-1]
    begins &= ~ends
    begins[row.starts + row.lengths - len(_APART)] = False  # what stands between two answers is no sentence
    begins[row.starts] = True
    return np.flatnonzero(begins)


def _of_surface(raw: pa.Array) -> Flags:
    found = [np.asarray(pc.match_substring_regex(raw, pattern), dtype=np.bool_) for pattern in _SURFACE]
    return np.stack(found, axis=1)
