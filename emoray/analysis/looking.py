"""What an interval is worth that was looked at before: alpha spending over any number of looks.

Who looks at a run again and again, and stops when it shows what was hoped for, is wrong more often than 5 % of the
time. The k-th look may spend α · 6 / (π² k²): all looks together, however many there will be and however they depend on
one another, then spend α at most. Of who takes the plain interval at the first look, which spends α by itself, all
looks together spend more: `spent`.
"""

from __future__ import annotations

import math


def alpha_at(look: int, level: float = 0.95) -> float:
    """What the look of this number (1 for the first) may spend of 1 - level: a p below it holds under looking."""
    if look < 1:
        raise ValueError(f"the first look is number 1, got {look}")
    return (1.0 - level) * 6.0 / (math.pi * look) ** 2


def level_at(look: int, level: float = 0.95) -> float:
    """The level of an interval at this look with which the intervals of all looks hold together at `level`."""
    return 1.0 - alpha_at(look, level)


def spent(level: float = 0.95) -> float:
    """What all looks together spend at most, the first by its plain interval: 7 % at a level of 95 %."""
    return (1.0 - level) + (1.0 - level - alpha_at(1, level))
