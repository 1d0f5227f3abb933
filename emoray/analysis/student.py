"""Student's t distribution, by scipy, which is imported when the first number is wanted: no spec needs it."""

from __future__ import annotations

import math
from functools import lru_cache


def tail(t: float, df: float) -> float:
    """P(T > t) with `df` degrees of freedom: half of an incomplete beta function, of whichever end keeps its digits."""
    if math.isnan(t) or math.isnan(df):
        return math.nan
    if df <= 0:
        raise ValueError(f"Student's t needs degrees of freedom above 0, got {df}")
    half = 0.5 * _outside(t * t, df)
    return half if t >= 0 else 1.0 - half


@lru_cache(maxsize=1024)
def quantile(p: float, df: float) -> float:
    """The t below which a share p of the distribution lies, 0 < p < 1."""
    from scipy.special import stdtrit

    if not 0.0 < p < 1.0:
        raise ValueError(f"a quantile belongs to a probability between 0 and 1, got {p}")
    return float(stdtrit(df, p))


def _outside(square: float, df: float) -> float:
    """P(T² > square)."""
    from scipy.special import betainc, betaincc

    if square > df:
        return float(betainc(df / 2, 0.5, df / (df + square)))
    return float(betaincc(0.5, df / 2, square / (df + square)))
