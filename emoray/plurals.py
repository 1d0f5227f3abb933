"""1 model, 1,200 answers."""

from __future__ import annotations


def count(n: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, which has an s where it is not one, or its own plural."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def be(n: int) -> str:
    """`is` of one, else `are`."""
    return "is" if n == 1 else "are"


def were(n: int) -> str:
    """`was` of one, else `were`."""
    return "was" if n == 1 else "were"


def have(n: int) -> str:
    """`has` of one, else `have`."""
    return "has" if n == 1 else "have"
