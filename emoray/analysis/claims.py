"""What the paper concludes, put to the numbers of a run under each of its readers.

The conclusions are the paper's, each with the mark of how firmly it is known; how each is tested here is ours. Verdicts
are "yes", "no", "open" (the interval over questions leaves both possible) or "unknown" (this run cannot tell).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from emoray.analysis.agreement import Conclusion
from emoray.analysis.intervals import t_bounds
from emoray.study import paper
from emoray.study.circumplex import Array
from emoray.study.paper import Fact

SMALL = 0.1  # a correlation between -0.1 and 0.1 is none: Cohen's smallest effect

Models = Mapping[str, Array]  # model -> (questions,) mean scores
Verdict = Callable[[Models], str]


@dataclass(frozen=True)
class Claim:
    """One conclusion of the paper under each reader of this run."""

    conclusion: Conclusion
    mark: str  # of the paper's conclusion
    where: str
    test: str  # how it is tested here, in a sentence; ours


def claims(
    question_means: Mapping[str, Models], lengths: Mapping[str, Array] | None = None, level: float = 0.95
) -> list[Claim]:
    """The conclusions that this run can test, in the paper's order.

    `question_means` is reader -> model -> (questions,) mean scores, the same questions everywhere. `lengths` is
    reader -> (questions,) correlations of an answer's words with its score. What speaks of models by name is there
    only where the run has models of these names.
    """
    names = {model.casefold(): model for of in question_means.values() for model in of}
    found = [
        _claim(
            paper.EVERY_MODEL_EXPRESSES,
            paper.EVERY_MODEL_EXPRESSES.value,
            "the interval of every model's mean cosine lies above 0",
            question_means,
            lambda models: _all([_sign(means, level) for means in models.values()]),
        ),
        _claim(
            paper.CAPABLE_ABOVE,
            f"capable models reach more than {paper.CAPABLE_ABOVE.value:g}",
            f"the interval of at least one model's mean cosine lies above {paper.CAPABLE_ABOVE.value:g}",
            question_means,
            lambda models: _any([_sign(means - paper.CAPABLE_ABOVE.value, level) for means in models.values()]),
        ),
        *_of_named_models(question_means, names, level),
    ]
    if lengths is not None:
        verdicts = {reader: _no_correlation(each, level) for reader, each in lengths.items()}
        fact = paper.LENGTH_IS_NOTHING
        test = f"the interval of the correlation within a model and question lies between −{SMALL:g} and {SMALL:g}"
        found.append(Claim(Conclusion(fact.value, verdicts), fact.mark, fact.where, test))
    return found


def _of_named_models(question_means: Mapping[str, Models], names: Mapping[str, str], level: float) -> list[Claim]:
    """What the paper says of models by name, as far as they are here."""
    best = [names[name.casefold()] for name in paper.CLOSEST_MODELS.value if name.casefold() in names]
    worst = names.get(paper.FARTHEST_MODEL.value.casefold())
    below, above = (names.get(name.casefold()) for name in paper.BELOW_THE_SMALL.value)
    found = []
    if best and len(best) < len(names):
        what = f"{', '.join(best)} come{'s' if len(best) == 1 else ''} closest"
        test = "each one's mean lies above that of each other model, paired by question"
        found.append(_claim(paper.CLOSEST_MODELS, what, test, question_means, _above(best, None, level)))
    if worst and len(names) > 1:
        test = "the mean lies below that of each other model, paired by question"
        what = f"{worst} stays farthest"
        found.append(_claim(paper.FARTHEST_MODEL, what, test, question_means, _above(None, [worst], level)))
    if below and above:
        test = "the paired difference of their means lies below 0"
        what = f"{below} stays below {above}"
        found.append(_claim(paper.BELOW_THE_SMALL, what, test, question_means, _above([above], [below], level)))
    return found


def _claim(fact: Fact[Any], what: str, test: str, question_means: Mapping[str, Models], verdict: Verdict) -> Claim:
    verdicts = {reader: verdict(models) for reader, models in question_means.items()}
    return Claim(Conclusion(what, verdicts), fact.mark, fact.where, test)


def _above(high: list[str] | None, low: list[str] | None, level: float) -> Verdict:
    """Whether each mean of some models lies above each of others; None stands for all the others."""

    def verdict(models: Models) -> str:
        upper = [means for name, means in models.items() if (name in high if high else name not in (low or []))]
        lower = [means for name, means in models.items() if (name in low if low else name not in (high or []))]
        return _all([_sign(above - below, level) for above, below in product(upper, lower)])

    return verdict


def _sign(means: Array, level: float) -> str:
    """Whether the mean over questions lies above 0."""
    low, high = _bounds(means, level)
    return "unknown" if math.isnan(low) else "yes" if low > 0 else "no" if high < 0 else "open"


def _no_correlation(each: Array, level: float) -> str:
    """Whether correlations lie where none is worth the name."""
    low, high = _bounds(each, level)
    if math.isnan(low):
        return "unknown"
    return "yes" if max(-low, high) < SMALL else "no" if low > SMALL or high < -SMALL else "open"


def _bounds(means: Array, level: float) -> tuple[float, float]:
    _, low, high = (float(bound[0]) for bound in t_bounds(means[None, :], level))
    return low, high


def _all(verdicts: list[str]) -> str:
    """All of them: "no" where any is."""
    known = [verdict for verdict in verdicts if verdict != "unknown"]
    return "unknown" if not known else "no" if "no" in known else "open" if "open" in known else "yes"


def _any(verdicts: list[str]) -> str:
    """Any of them: "yes" where one is."""
    known = [verdict for verdict in verdicts if verdict != "unknown"]
    return "unknown" if not known else "yes" if "yes" in known else "open" if "open" in known else "no"
