"""What answers speak of: notions such as a role, a policy, somebody's mother.

A notion has words in fifteen languages (`notions.toml`), so what one language taught is known in all others. Each word
is a hash of its characters; all hashes of a length are looked up at once, at every character of all answers in a row.
"""

from __future__ import annotations

import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emoray.refusals.characters import BASE, SPREAD, Codes, Flags, rolled, table

Masks = npt.NDArray[np.uint64]  # a bit per notion, in the order of `names`

_DATA = Path(__file__).with_name("notions.toml").read_text(encoding="utf-8")  # now: see `emoray.refusals`
_BITS = 16  # of a hash, by which a word is looked for; whether it is that word, all 32 say
_LONGEST = 16  # characters of a word, blanks around it among them
_PUNCTUATION = "\"'#()*+,/<=>@[\\]^_`{|}~-.!?;:，、。！？؟،।…—–«»„“”「」『』【】（）：；\u00a0\u200b\u200e\u200f"
_BLANKS = "".join(map(chr, range(33))) + _PUNCTUATION


@dataclass(frozen=True)
class _Words:
    """The words of all notions of one length in characters."""

    likely: Flags  # (2^_BITS,): whether a hash that begins so may be a word's
    hashes: Codes  # (words,), sorted
    masks: Masks  # (words,): whose words these are


@cache
def names() -> tuple[str, ...]:
    return tuple(tomllib.loads(_DATA))


def at(codes: Codes) -> Masks:
    """(characters,): the notions whose words begin there."""
    small = np.where(table(_BLANKS)[np.minimum(codes, 0xFFFF)], np.uint32(32), codes)
    words, masks = _words(), np.zeros(len(codes), dtype=np.uint64)
    for length, hashes in rolled(small, _LONGEST):
        if length in words and len(hashes):
            places, found = _looked_up(words[length], hashes * SPREAD)
            masks[places] |= found
    return masks


def flags(masks: Masks) -> Flags:
    """(sentences, notions)"""
    return (masks[:, None] >> np.arange(len(names()), dtype=np.uint64) & np.uint64(1)).astype(np.bool_)


def _looked_up(words: _Words, hashes: Codes) -> tuple[npt.NDArray[np.int64], Masks]:
    """At which characters words are, and whose these are."""
    places = np.flatnonzero(words.likely[hashes >> np.uint32(32 - _BITS)])
    which = np.minimum(np.searchsorted(words.hashes, hashes[places]), len(words.hashes) - 1)
    sure = words.hashes[which] == hashes[places]
    return places[sure], words.masks[which[sure]]


@cache
def _words() -> dict[int, _Words]:
    """By their length; made where a text is first looked at."""
    masks: dict[str, int] = {}
    for bit, of in enumerate(tomllib.loads(_DATA).values()):
        for word in _grams(of):
            masks[word] = masks.get(word, 0) | 1 << bit
    return {length: _of_length(masks, length) for length in sorted(set(map(len, masks)))}


def _grams(of: dict[str, str]) -> list[str]:
    """The words as characters of a text: with the blank before, and with the one behind where that is asked for."""
    begin = [f" {word.replace('$', ' ')}" for word in of["words"].split()]
    return [_blanks(word)[:_LONGEST] for word in [*begin, *of["inside"].split()]]


def _blanks(word: str) -> str:
    plain = unicodedata.normalize("NFKC", word.replace("’", "'")).lower()
    return "".join(" " if one in _BLANKS else one for one in plain)


def _of_length(masks: dict[str, int], length: int) -> _Words:
    found = {_hash(word): mask for word, mask in masks.items() if len(word) == length}
    hashes = np.array(sorted(found), dtype=np.uint32)
    likely = np.zeros(1 << _BITS, dtype=np.bool_)
    likely[hashes >> np.uint32(32 - _BITS)] = True
    return _Words(likely, hashes, np.array([found[one] for one in sorted(found)], dtype=np.uint64))


def _hash(word: str) -> int:
    value = 0
    for one in word:
        value = (value * int(BASE) + ord(one)) & 0xFFFFFFFF
    return (value * int(SPREAD)) & 0xFFFFFFFF
