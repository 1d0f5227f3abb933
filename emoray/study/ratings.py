"""What people read in an answer: one reading, or those of several raters."""

from __future__ import annotations

from dataclasses import dataclass

from emoray.study.circumplex import Affect


@dataclass(frozen=True)
class Rating:
    """One rater's reading of one answer."""

    rater: str  # "" where nobody said who
    place: Affect | None  # None: without a direction


Label = Affect | None | tuple[Rating, ...]  # of one rater who needs no name, or of several


def ratings(label: Label) -> tuple[Rating, ...]:
    """A label as those who gave it."""
    return label if isinstance(label, tuple) else (Rating("", label),)
