"""Which prompts may be asked together, so that none is answered otherwise for the company it is in.

Where prompts of different length share a batch, the shorter are filled up. Most models are told to look past what
fills; some count positions through it, or carry it along in a state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

import torch

STEPS = 3  # tokens that a trial lets be said: a cache that is wrong shows from the second on
_CLOSE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}  # of the spread of a token's logits


class Company(Enum):
    ANY = "prompts of any length"
    ALIKE = "prompts of one length"
    NONE = "each prompt alone"


class Thought(NamedTuple):
    """What a model says to a prompt, and how it came to it."""

    tokens: torch.Tensor  # (steps,)
    logits: torch.Tensor  # (steps, vocabulary), float32


Think = Callable[[Sequence[list[int]]], list[Thought]]  # prompts that are asked together -> a thought of each


def tried(think: Think, short: list[int], long: list[int], dtype: torch.dtype) -> Company:
    """The largest company in which prompts are answered as they are alone.

    `short` and `long` are of different length. ArithmeticError where the model computes no numbers.
    """
    turned = long[::-1]  # as long, and something else
    alone = {len(prompt): think([prompt])[0] for prompt in (short, long)}
    if any(bool(thought.logits.isnan().any()) for thought in alone.values()):
        raise ArithmeticError(f"what it computes in {str(dtype).removeprefix('torch.')} are no numbers")
    if _alike(think([short, long]), list(alone.values()), dtype):
        return Company.ANY
    if _alike(think([long, turned]), [alone[len(long)], think([turned])[0]], dtype):
        return Company.ALIKE
    return Company.NONE


def looks_ahead(whole: torch.Tensor, part: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a model reads in both directions: (tokens, vocabulary) logits of a text, and of the same text's first
    tokens alone. It can fill gaps, and what it would say is noise.
    """
    close = _CLOSE.get(dtype, 0.1)
    return not all(_near(*pair, close) for pair in zip(whole, part, strict=False))


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
