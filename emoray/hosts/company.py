"""Which prompts may be asked together, so that none is answered otherwise for the company it is in.

Where prompts of different length share a batch, the shorter are filled up. Most models are told to look past what
fills; some count positions through it, or carry it along in a state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import cache
from typing import NamedTuple

import torch

STEPS = 3  # tokens that a trial lets be said: a cache that is wrong shows from the second on
_CLOSE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}  # of the spread of a token's logits
_PLACES, _READ = 5, 24  # at which a text is changed, and of how many tokens it is
# of that spread, where a text keeps its length: causal models were off by 0 (dense ones, to the last bit) to 1e-3, also
# with 24 layers of experts; by 0.03 where a batch of another shape moved them, as can happen to an expert. Encoders
# were off by 0.05 to 1; those that were never trained by 0.002, which only float32 shows
_DEAF = {torch.float32: 1e-3, torch.float16: 0.01, torch.bfloat16: 0.04}
_QUANTISED = 0.1  # a scale that all tokens of a text share moves with any of them


class Company(Enum):
    ANY = "prompts of any length"
    ALIKE = "prompts of one length"
    NONE = "each prompt alone"


class Thought(NamedTuple):
    """What a model says to a prompt, and how it came to it."""

    tokens: torch.Tensor  # (steps,)
    logits: torch.Tensor  # (steps, vocabulary), float32


Think = Callable[[Sequence[list[int]]], list[Thought]]  # prompts that are asked together -> a thought of each
Read = Callable[[Sequence[int]], torch.Tensor]  # a text -> (tokens, vocabulary) logits, float32


def tried(think: Think, short: list[int], long: list[int], dtype: torch.dtype) -> Company:
    """The largest company in which prompts are answered as they are alone.

    `short` and `long` are of different length. Who minds company minds it whatever is asked; of two trials one may fail
    by chance, where two experts of a mixture are as good as each other. ArithmeticError where the model computes no
    numbers.
    """

    @cache
    def alone(*prompt: int) -> Thought:
        thought = think([list(prompt)])[0]
        if bool(thought.logits.isnan().any()):
            raise ArithmeticError(f"what it computes in {str(dtype).removeprefix('torch.')} are no numbers")
        return thought

    def bears(*prompts: list[int]) -> bool:
        return _alike(think(prompts), [alone(*prompt) for prompt in prompts], dtype)

    other_short, other_long = short[::-1], long[::-1]  # as long, and something else
    if bears(short, long) or bears(other_short, other_long):
        return Company.ANY
    return Company.ALIKE if bears(long, other_long) or bears(short, other_short) else Company.NONE


def looks_ahead(read: Read, tokens: Sequence[int], dtype: torch.dtype, *, quantised: bool = False) -> bool:
    """Whether a model reads in both directions: it can fill gaps, and what it would say is noise.

    What it says after a token then hangs on what follows. A text is changed from one place on, at some places; the last
    token before is compared. Where a text keeps its length a causal model computes the same, but for single tokens
    that an expert or a shared scale reads otherwise: so most places decide.
    """
    tokens = tokens[:_READ]
    close, whole = _QUANTISED if quantised else _DEAF.get(dtype, _QUANTISED), read(tokens)
    places = range(1, len(tokens), -(-len(tokens) // _PLACES))
    heard = [not _near(read(_otherwise(tokens, place))[place - 1], whole[place - 1], close) for place in places]
    return 2 * sum(heard) > len(heard)


def _otherwise(tokens: Sequence[int], place: int) -> list[int]:
    """The same up to a place, and from there another token wherever there are two."""
    known = sorted(set(tokens))
    return [*tokens[:place], *(known[known.index(token) - 1] for token in tokens[place:])]


def _alike(together: Sequence[Thought], alone: Sequence[Thought], dtype: torch.dtype) -> bool:
    return all(_same(*pair, _CLOSE.get(dtype, 0.1)) for pair in zip(together, alone, strict=True))


def _same(one: Thought, other: Thought, close: float) -> bool:
    """Whether every step is the same, up to one where a near-tie falls another way: what follows is another text."""
    for step in range(STEPS):
        if not _near(one.logits[step], other.logits[step], close):
            return False
        if one.tokens[step] != other.tokens[step]:
            return True
    return True


def _near(one: torch.Tensor, other: torch.Tensor, close: float) -> bool:
    """(vocabulary,) each. What is impossible is -inf in both."""
    possible = other.isfinite()
    if not torch.equal(one.isfinite(), possible):
        return False
    one, other = one[possible], other[possible]
    return bool((one - other).square().mean().sqrt() <= close * other.std(correction=0))
