"""Do contrasts find what there is, and nothing where there is nothing? Simulated experiments whose truth is known.

The worlds are those of `validity`: every answer is one of the 28 labels, questions differ and suit some states better
than others, answers are missing at random, or by state in half of the questions. Sixteen questions are drawn (six
against ten where groups of questions are contrasted). Each estimate is held against its true value, and moved by it, so
that the same experiments tell how often a contrast of nothing is found (type I), how often one of a given size is
(power), how often a difference of just the margin is called equivalent, and how often none is. `--experiments 200` is
quick; the table is a part of docs/validity.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import product

import numpy as np

from emoray.analysis.contrasts import Estimated, combined, estimated
from emoray.study.circumplex import Array
from emoray.study.contrasts import in_group, slope_weights

validity = import_module(f"{__package__}.validity")  # a program's neighbour, under whichever name it runs

QUESTIONS, OF_THE_FIRST_KIND = 16, 6
SIZE = 0.1  # of a difference that is to be found, and of a margin
LEVEL = 0.95
_INTENSITIES = (0.25, 0.5, 0.75, 1.0)
_ANGLES = [state.angle_deg for state in validity.around_the_circle(validity.STATES)]
_PLEASANT, _UNPLEASANT = (
    np.array([in_group(name, angle) for angle in _ANGLES], dtype=np.bool_) for name in ("pleasant", "unpleasant")
)
_GROUPS = _PLEASANT, _UNPLEASANT
_FIRST = np.arange(QUESTIONS) < OF_THE_FIRST_KIND
_KINDS = _FIRST, ~_FIRST
_REPETITIONS = (1, 4)
_TOLD = ("type I", "covered", "power", "equivalent at the margin", "equivalent at 0")


@dataclass
class Told:
    """How often, over experiments."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TOLD, 0))
    experiments: int = 0

    def add(self, found: Estimated, truth: float, size: float) -> None:
        """`size` is that of a difference to be found, and of the margin, in the unit of the contrast."""
        alpha, nothing = 1 - LEVEL, replace(found, value=found.value - truth)
        there, interval = replace(nothing, value=nothing.value + size), found.interval(LEVEL)
        self.experiments += 1
        self.counts["type I"] += nothing.p <= alpha
        self.counts["covered"] += interval.low <= truth <= interval.high
        self.counts["power"] += there.p <= alpha
        self.counts["equivalent at the margin"] += there.p_equivalent(size) <= alpha
        self.counts["equivalent at 0"] += nothing.p_equivalent(size) <= alpha

    def share(self, what: str) -> float:
        return self.counts[what] / max(1, self.experiments)

    def __add__(self, other: Told) -> Told:
        counts = {what: n + other.counts[what] for what, n in self.counts.items()}
        return Told(counts, self.experiments + other.experiments)


Kinds = dict[str, Told]


def run(experiments: int = 1000, seed: int = 1) -> dict[str, float]:
    """Type I and power of every kind of contrast, over all designs."""
    found = simulated(experiments, seed)
    print(section(found, experiments, seed))
    pooled = together(found)
    return {f"{kind}, {what}": round(one.share(what), 4) for kind, one in pooled.items() for what in _TOLD}


def section(found: Mapping[tuple[str, int, str], Kinds], experiments: int, seed: int) -> str:
    """Of docs/validity.md."""
    return _TEXT.format(experiments=experiments, seed=seed, table=table(found), size=f"{SIZE:g}")


def simulated(experiments: int, seed: int) -> dict[tuple[str, int, str], Kinds]:
    """(world, answers per prompt, missing) -> kind of contrast -> how often."""
    designs = list(product(validity.WORLDS[:2], _REPETITIONS, ("random", "state")))
    return {
        (world.name, repetitions, missing): of_design(
            world, repetitions, missing, experiments, np.random.default_rng([seed, place])
        )
        for place, (world, repetitions, missing) in enumerate(designs)
    }


def of_design(world: object, repetitions: int, missing: str, experiments: int, rng: np.random.Generator) -> Kinds:
    pair = validity.models(world, rng)
    found: Kinds = {}
    for _ in range(experiments):
        drawn = rng.integers(len(pair[0].chances), size=QUESTIONS)
        asked = [_table(pair[which], drawn, repetitions, missing, rng) for which in (0, 1, 0, 1)]
        truth = [pair[which].truth["zero"].mean(axis=0) for which in (0, 1)]
        for kind, one, true, size in _told(asked, truth):
            found.setdefault(kind, Told()).add(one, true, size)
    return found


def together(found: Mapping[tuple[str, int, str], Kinds]) -> Kinds:
    """All designs: their experiments are independent."""
    pooled: Kinds = {}
    for kinds in found.values():
        for kind, one in kinds.items():
            pooled[kind] = pooled[kind] + one if kind in pooled else one
    return pooled


def table(found: Mapping[tuple[str, int, str], Kinds]) -> str:
    """In Markdown, each design and all together."""
    names = {"random": "at random", "state": "by state"}
    rows = [
        [world, str(repetitions), names[missing], kind, *_said(one)]
        for (world, repetitions, missing), kinds in found.items()
        for kind, one in kinds.items()
    ]
    rows += [["all together", "", "", kind, *_said(one)] for kind, one in together(found).items()]
    head = ["questions / interaction", "answers per prompt", "missing", "contrast", *_TOLD]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _told(asked: list[Array], truth: list[Array]) -> Iterator[tuple[str, Estimated, float, float]]:
    """(kind, estimate, its true value, a size)."""
    gap, gaps = combined(asked[:2], [1.0, -1.0]), truth[0] - truth[1]
    over_groups = [float(one[_GROUPS[0]].mean() - one[_GROUPS[1]].mean()) for one in (truth[0], gaps)]
    yield "two levels", estimated(gap), float(gaps.mean()), SIZE
    yield "groups of states", estimated(asked[0], states=_GROUPS), over_groups[0], SIZE
    yield "groups of questions", estimated(asked[0], questions=_KINDS, paired=False), 0.0, SIZE
    weights = slope_weights(_INTENSITIES)
    slope = sum(weight * float(one.mean()) for weight, one in zip(weights, [*truth, *truth], strict=True))
    yield "trend", estimated(combined(asked, weights)), slope, SIZE / (_INTENSITIES[-1] - _INTENSITIES[0])
    yield "interaction with states", estimated(gap, states=_GROUPS), over_groups[1], SIZE
    yield "interaction with questions", estimated(gap, questions=_KINDS), 0.0, SIZE


def _table(
    model: object, drawn: np.typing.NDArray[np.int64], repetitions: int, missing: str, rng: np.random.Generator
) -> Array:
    """(questions, states) of mean cosines, NaN where nothing came back."""
    came = rng.binomial(repetitions, 0.97, size=(QUESTIONS, validity.STATES))
    if missing == "state":
        came[rng.permutation(QUESTIONS) < QUESTIONS // 2, validity._FILTERED] = 0
    labels = rng.multinomial(came, model.chances[drawn]).astype(np.float64)  # type: ignore[attr-defined]
    found: Array = validity._cells(labels[None], validity.cosines_of_labels(), "zero").means[0]
    return found


def _said(one: Told) -> list[str]:
    shares = [one.share(what) for what in _TOLD]
    return [f"{100 * p:.1f} ± {100 * math.sqrt(p * (1 - p) / one.experiments):.1f} %" for p in shares]


_TEXT = """
## Contrasts

How often contrasts find what there is, and nothing where there is nothing (docs/experiments.md says what they are). The
worlds are those above, with the rule *zero*; sixteen questions are drawn, six against ten where groups of questions are
contrasted, and *by state* each level has lost other questions. This table alone, in about two minutes:

    python jobs/benchmark.py contrasts --experiments {experiments} --seed {seed}

Each estimate is held against its true value, and moved by it. *Type I*: p is 0.05 or less where the truth is 0.
*Covered*: the 95 % interval holds the truth. *Power*: p is 0.05 or less where the truth is {size}. *Equivalent at the
margin*: the two one-sided tests call a difference of just {size} smaller than {size}, which it is not. *Equivalent at
0*: they call a difference of 0 so. Of a trend, {size} is what lies between the lowest and the highest of the four
intensities. All of it before Holm's correction, which keeps these shares for a family together.

{table}
"""
