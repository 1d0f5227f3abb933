"""Whether a tokenizer knows words.

One whose files are missing is made all the same by transformers, with special tokens alone, and every text is the same
unknown word to it: a model would speak, and a reader read, and all of it would be noise.
"""

from __future__ import annotations

from collections.abc import Sequence

NO_WORDS = (
    "its tokenizer knows no words, and all texts are alike to it; give the files of its vocabulary too "
    "(tokenizer.json, or the vocab.txt, vocab.json with merges.txt, or tokenizer.model that its class reads)"
)
_FEWEST = 4  # different tokens of some words; without a vocabulary there are 0, 1 (unknown) or 2 (and where one begins)


def knows_words(tokens: Sequence[int]) -> bool:
    """By the tokens of a few different words, without those that are put around every text."""
    return len(set(tokens)) >= _FEWEST
