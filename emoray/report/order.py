"""Which model stands where, and which cannot be told apart: ranks with the places that are not ruled out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emoray.analysis.paired import Difference, holm
from emoray.analysis.simultaneous import Rank, ranks


@dataclass(frozen=True)
class Ranked:
    """The place of one model among those that a reader has scored, best mean first."""

    reader: str
    model: str
    rank: Rank
    first: bool  # whether it is not told apart from the highest mean
    last: bool  # whether it is not told apart from the lowest


def ranked(
    means: Mapping[tuple[str, str], float], pairs: Mapping[str, Sequence[Difference]], level: float
) -> tuple[Ranked, ...]:
    """The ranks of all models under every reader, in the order given, which is that of their means.

    `means` are of what was scored, by reader and model; `pairs` are a reader's paired differences, p after Holm for all
    of them.
    """
    found: list[Ranked] = []
    for reader in dict.fromkeys(reader for reader, _ in means):
        mine = {model: mean for (whose, model), mean in means.items() if whose == reader}
        apart = [one for one in pairs.get(reader, ()) if one.a in mine and one.b in mine]
        told = {frozenset((one.a, one.b)) for one in apart if one.p_holm <= 1 - level}
        best, worst = max(mine, key=mine.__getitem__), min(mine, key=mine.__getitem__)
        found += [
            Ranked(reader, model, rank, {model, best} not in told, {model, worst} not in told)
            for model, rank in zip(mine, ranks(list(mine), list(mine.values()), apart, level), strict=True)
        ]
    return tuple(found)


def fair(p_values: Mapping[str, float]) -> dict[str, float]:
    """p by model, after Holm: one of them is looked at because it came out best."""
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))
