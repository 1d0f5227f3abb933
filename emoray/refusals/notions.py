"""What a column of answers speaks of: notions such as a role, a policy, somebody's mother, and which stand together.

A notion has words in fifteen languages (`notions.toml`), so what one language taught is known in all others. Each word
is a hash of its characters; all hashes of a length are looked up at once, at every character of all answers in a row.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from emoray.refusals.characters import BASE, SPREAD, Codes, Flags, Row, rolled

_DATA = Path(__file__).with_name("notions.toml").read_text(encoding="utf-8")  # now: see `emoray.refusals`
_BITS = 16  # of a hash, by which a word is looked for; whether it is that word, all 32 say
_LONGEST = 16  # characters of a word, blanks around it among them
_HEAD, _TAIL = 600, 300
_LITTLE = 20  # characters: what is left beside quotations is no answer of its own
_ENDS = ".!?;:\n。！？؟।…"  # of a sentence
_PUNCTUATION = "\"'#()*+,/<=>@[\\]^_`{|}~-.!?;:，、。！？؟،।…—–«»„“”「」『』【】（）：；\u00a0\u200b\u200e\u200f"
_BLANKS = "".join(map(chr, range(33))) + _PUNCTUATION
_THOUGHTS = r"(?s)<think(?:ing)?>.*?</think(?:ing)?>"
_QUOTED = r'"[^"\n]*"|“[^“”\n]*”|„[^„“”\n]*[“”]|«[^«»\n]*»|「[^「」\n]*」|『[^『』\n]*』'
_LENGTHS = (12, 25, 45, 80, 130, 200, 320, 520)  # characters, between which lengths are told apart
_SURFACE = (
    r"!",
    r"\?",
    r"…|\.\.\.",
    r'["“”„«»「」『』]',
    r"\*\*|^#|\n- |\n\d\.",
    r"^\s*[\[\(【{]",
    r"<think",
    r"\*[^*]+\*",
    r"!.*!",
    r"\n",
    r"\d{3}",
)


@dataclass(frozen=True)
class _Words:
    """The words of all notions, by their length in characters."""

    names: tuple[str, ...]  # of notions; a bit of a mask each, in this order
    likely: dict[int, Flags]  # (2^_BITS,) per length: whether a hash that begins so may be a word's
    hashes: dict[int, Codes]  # (words,), sorted
    masks: dict[int, Codes]  # (words,): whose words these are


def names() -> list[str]:
    """What each column of `seen` is."""
    notions = _words().names
    pairs = [f"{one} & {other}" for one, other in combinations(notions, 2)]
    where = [f"{name} {place}" for place in ("in the first", "in the last") for name in notions]
    return [
        *notions, *pairs, *(f"{one}, {other}" for one, other in combinations(notions, 2)), *where,
        *(f"{least} characters" for least in _LENGTHS), *_SURFACE,
    ]  # fmt: skip


def seen(texts: Sequence[str | None]) -> Flags:
    """(answers, `names`): which notions are there, which two in one sentence, which in the first and the last one."""
    raw = pc.fill_null(pa.array(texts, pa.string()), "")
    plain = _plain(raw)
    short = [f" {_ends(text)} " for text in plain.to_pylist()]
    row = Row.of(short)
    sentences, first = _sentences(row.codes, row.starts)
    masks = np.bitwise_or.reduceat(_masks(row.codes), sentences) if len(row.codes) else np.zeros(0, dtype=np.uint32)
    return np.concatenate([_of_masks(masks, first), _of_lengths(row.lengths), _of_surface(raw)], axis=1)


def _plain(raw: pa.Array) -> pa.Array:
    """Small letters, without thoughts and without what is quoted, unless it is all one quotation."""
    small = pc.utf8_lower(pc.utf8_normalize(pc.replace_substring_regex(raw, _THOUGHTS, " "), form="NFKC"))
    small = pc.replace_substring_regex(small, "[’‘ʼ]", "'")
    bare = pc.replace_substring_regex(small, _QUOTED, " ")
    return pc.if_else(pc.greater_equal(pc.utf8_length(pc.utf8_trim_whitespace(bare)), _LITTLE), bare, small)


def _ends(text: str) -> str:
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"


def _sentences(codes: Codes, starts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where sentences begin, and which of them is each text's first."""
    begins = np.zeros(len(codes), dtype=np.bool_)
    begins[1:] = _table(_ENDS)[np.minimum(codes[:-1], 0xFFFF)]
    begins &= ~_table(_ENDS)[np.minimum(codes, 0xFFFF)]
    begins[starts] = True
    ends = np.cumsum(np.append(starts, len(codes))[1:] - starts) - 1
    begins[ends[ends > 0]] &= np.isin(ends[ends > 0], starts)  # the blank behind the last sentence is none
    places = np.flatnonzero(begins)
    return places, np.searchsorted(places, starts)


def _masks(codes: Codes) -> Codes:
    """(characters,): the notions whose words begin there."""
    small = np.where(_table(_BLANKS)[np.minimum(codes, 0xFFFF)], np.uint32(32), codes)
    words, masks = _words(), np.zeros(len(codes), dtype=np.uint32)
    for length, hashes in rolled(small, _LONGEST):
        if length in words.likely and len(hashes):
            spread = hashes * SPREAD
            at = np.flatnonzero(words.likely[length][spread >> np.uint32(32 - _BITS)])
            which = np.minimum(np.searchsorted(words.hashes[length], spread[at]), len(words.hashes[length]) - 1)
            sure = words.hashes[length][which] == spread[at]
            masks[at[sure]] |= words.masks[length][which[sure]]
    return masks


def _of_masks(masks: Codes, first: npt.NDArray[np.int64]) -> Flags:
    count = len(_words().names)
    said = (masks[:, None] >> np.arange(count, dtype=np.uint32) & np.uint32(1)).astype(np.bool_)
    one, other = map(np.array, zip(*combinations(range(count), 2), strict=True))
    if not len(first):
        return np.zeros((0, 3 * count + 2 * len(one)), dtype=np.bool_)
    whole = np.logical_or.reduceat(said, first, axis=0)
    together = np.logical_or.reduceat(said[:, one] & said[:, other], first, axis=0)
    last = np.append(first[1:], len(masks)) - 1
    return np.concatenate([whole, together, whole[:, one] & whole[:, other], said[first], said[last]], axis=1)


def _of_lengths(lengths: npt.NDArray[np.int64]) -> Flags:
    return np.asarray(lengths[:, None] - 2 >= np.array(_LENGTHS), dtype=np.bool_)


def _of_surface(raw: pa.Array) -> Flags:
    found = [np.asarray(pc.match_substring_regex(raw, pattern), dtype=np.bool_) for pattern in _SURFACE]
    return np.stack(found, axis=1)


@cache
def _table(characters: str) -> Flags:
    table = np.zeros(0x10000, dtype=np.bool_)
    table[[ord(one) for one in characters]] = True
    return table


@cache
def _words() -> _Words:
    """Made where a text is first looked at."""
    lists = tomllib.loads(_DATA)
    masks: dict[str, int] = {}
    for bit, of in enumerate(lists.values()):
        for word in _grams(of):
            masks[word] = masks.get(word, 0) | 1 << bit
    tables = {length: _of_length(masks, length) for length in sorted(set(map(len, masks)))}
    return _Words(
        tuple(lists),
        {length: likely for length, (likely, _, _) in tables.items()},
        {length: hashes for length, (_, hashes, _) in tables.items()},
        {length: of_words for length, (_, _, of_words) in tables.items()},
    )


def _grams(of: dict[str, str]) -> list[str]:
    """The words as characters of a text: with the blank before, and with the one behind where that is asked for."""
    begin = [f" {word.replace('$', ' ')}" for word in of["words"].split()]
    return [_blanks(word)[:_LONGEST] for word in [*begin, *of["inside"].split()]]


def _blanks(word: str) -> str:
    plain = unicodedata.normalize("NFKC", word.replace("’", "'")).lower()
    return "".join(" " if one in _BLANKS else one for one in plain)


def _of_length(masks: dict[str, int], length: int) -> tuple[Flags, Codes, Codes]:
    found = {_hash(word): mask for word, mask in masks.items() if len(word) == length}
    hashes = np.array(sorted(found), dtype=np.uint32)
    likely = np.zeros(1 << _BITS, dtype=np.bool_)
    likely[hashes >> np.uint32(32 - _BITS)] = True
    return likely, hashes, np.array([found[one] for one in sorted(found)], dtype=np.uint32)


def _hash(word: str) -> int:
    value = 0
    for one in word:
        value = (value * int(BASE) + ord(one)) & 0xFFFFFFFF
    return (value * int(SPREAD)) & 0xFFFFFFFF
