"""What the paper concludes, put to the numbers of a run under each of its readers.

The conclusions are the paper's, each with the mark of how firmly it is known; how each is tested here is ours. Verdicts
are "yes", "no", "open" (the questions leave both possible) or "unknown" (this run cannot tell).

Every conclusion has two one-sided p-values: one against its contrary, one against itself. One of the two hypotheses is
true, so a report of k verdicts can err in k ways, and all of them are one family: the smaller p of each, after Holm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from emoray.analysis.additive import Additive, one_line
from emoray.analysis.agreement import Conclusion
from emoray.analysis.paired import holm
from emoray.analysis.simultaneous import Fitted, p_all_above, p_any_above
from emoray.study import paper
from emoray.study.circumplex import Array
from emoray.study.paper import Fact

SMALL = 0.1  # a correlation between -0.1 and 0.1 is none: Cohen's smallest effect

Models = Mapping[str, Array]  # model -> (questions, prompts) mean scores


@dataclass(frozen=True)
class Claim:
    """One conclusion of the paper under each reader of this run."""

    conclusion: Conclusion
    mark: str  # of the paper's conclusion
    where: str
    test: str  # how it is tested here, in a sentence; ours
    p: Mapping[str, float] = field(default_factory=dict)  # reader -> of the verdict, after Holm over the whole report


@dataclass(frozen=True)
class _Told:
    """One-sided p-values of a conclusion."""

    so: float  # that it is not so, and the data look as if it were
    not_so: float

    @property
    def p(self) -> float:
        return min(self.so, self.not_so)

    def verdict(self, p_holm: float, level: float) -> str:
        if math.isnan(p_holm):
            return "unknown"
        return "open" if p_holm > 1 - level else "yes" if self.so < self.not_so else "no"


@dataclass(frozen=True)
class _Draft:
    fact: Fact[Any]
    what: str
    test: str
    told: Mapping[str, _Told]  # by reader


Test = Callable[[Models], _Told]


def claims(
    scores: Mapping[str, Models], lengths: Mapping[str, Array] | None = None, level: float = 0.95
) -> list[Claim]:
    """The conclusions that this run can test, in the paper's order, one reader or several.

    `scores` is reader -> model -> (questions, prompts) mean scores, NaN for none, the same prompts everywhere: models
    are compared by the prompts that both were scored on. `lengths` is reader -> (questions,) correlations of an
    answer's words with its score. What speaks of models by name is there only where the run has models of these names.
    At `level`, all verdicts of all readers hold together.
    """
    names = {model.casefold(): model for of in scores.values() for model in of}
    drafts = [*_of_every_model(scores), *_of_named_models(scores, names)]
    if lengths is not None:
        test = (
            f"the correlation within a model and question lies between −{SMALL:g} and {SMALL:g} (two one-sided t tests)"
        )
        told = {reader: _no_correlation(each) for reader, each in lengths.items()}
        drafts.append(_Draft(paper.LENGTH_IS_NOTHING, paper.LENGTH_IS_NOTHING.value, test, told))
    return _decided(drafts, level)


def _decided(drafts: Sequence[_Draft], level: float) -> list[Claim]:
    every = [(place, reader) for place, draft in enumerate(drafts) for reader in draft.told]
    fair = dict(zip(every, holm([drafts[place].told[reader].p for place, reader in every]), strict=True))
    found = []
    for place, one in enumerate(drafts):
        p = {reader: fair[place, reader] for reader in one.told}
        verdicts = {reader: told.verdict(p[reader], level) for reader, told in one.told.items()}
        found.append(Claim(Conclusion(one.what, verdicts), one.fact.mark, one.fact.where, one.test, p))
    return found


def _of_every_model(scores: Mapping[str, Models]) -> list[_Draft]:
    half = paper.CAPABLE_ABOVE.value
    return [
        _draft(
            paper.EVERY_MODEL_EXPRESSES,
            paper.EVERY_MODEL_EXPRESSES.value,
            "every model’s mean cosine lies above 0 (t test over questions of each)",
            scores,
            lambda models: _every([_mean_over(one) for one in models.values()]),
        ),
        _draft(
            paper.CAPABLE_ABOVE,
            f"capable models reach more than {half:g}",
            f"at least one model’s mean cosine lies above {half:g} (test of the largest, among as many as there are)",
            scores,
            lambda models: _any([_mean_over(one - half) for one in models.values()]),
        ),
    ]


def _of_named_models(scores: Mapping[str, Models], names: Mapping[str, str]) -> list[_Draft]:
    """What the paper says of models by name, as far as they are here."""
    best = [names[name.casefold()] for name in paper.CLOSEST_MODELS.value if name.casefold() in names]
    worst = names.get(paper.FARTHEST_MODEL.value.casefold())
    below, above = (names.get(name.casefold()) for name in paper.BELOW_THE_SMALL.value)
    found = []
    if best and len(best) < len(names):
        what = f"{', '.join(best)} come{'s' if len(best) == 1 else ''} closest"
        test = "each one's mean lies above that of each other model, paired by question"
        found.append(_draft(paper.CLOSEST_MODELS, what, test, scores, _above(best, None)))
    if worst and len(names) > 1:
        test = "the mean lies below that of each other model, paired by question"
        what = f"{worst} stays farthest"
        found.append(_draft(paper.FARTHEST_MODEL, what, test, scores, _above(None, [worst])))
    if below and above:
        test = "the paired difference of their means lies below 0"
        what = f"{below} stays below {above}"
        found.append(_draft(paper.BELOW_THE_SMALL, what, test, scores, _above([above], [below])))
    return found


def _draft(fact: Fact[Any], what: str, test: str, scores: Mapping[str, Models], told: Test) -> _Draft:
    return _Draft(fact, what, test, {reader: told(models) for reader, models in scores.items()})


def _above(high: list[str] | None, low: list[str] | None) -> Test:
    """Whether each mean of some models lies above each of others; None stands for all the others."""

    def told(models: Models) -> _Told:
        upper = [one for name, one in models.items() if (name in high if high else name not in (low or []))]
        lower = [one for name, one in models.items() if (name in low if low else name not in (high or []))]
        return _every([_mean_over(above - below, paired=True) for above, below in product(upper, lower)])

    return told


_Mean = tuple[Array, float, float]  # of a model, or of a difference: by question, and what the fit made of it


def _mean_over(table: Array, *, paired: bool = False) -> _Mean:
    """Of (questions, prompts), what is missing filled in as everywhere."""
    fit = Additive(table)
    line = fit.lines(one_line(table.shape[1]))
    return fit.question_means, float(line.added[0]), float(line.variance(moderated=False, paired=paired)[1][0])


def _every(means: list[_Mean]) -> _Told:
    """That every mean over questions lies above 0, or that any lies below."""
    if not means:
        return _Told(math.nan, math.nan)
    each, fitted = _together(means)
    return _Told(p_all_above(each, fitted), p_any_above(-each, fitted))


def _any(means: list[_Mean]) -> _Told:
    """That any mean over questions lies above 0, or that every one lies below."""
    if not means:
        return _Told(math.nan, math.nan)
    each, fitted = _together(means)
    return _Told(p_any_above(each, fitted), p_all_above(-each, fitted))


def _together(means: list[_Mean]) -> tuple[Array, Fitted]:
    """(questions, tests), and what the fits made of them."""
    columns, added, freedom = zip(*means, strict=True)
    return np.column_stack(columns), Fitted(np.array(added), np.array(freedom))


def _no_correlation(each: Array) -> _Told:
    """That correlations lie where none is worth the name, or beyond on either side."""
    inside, outside = ([p_all_above(side[:, None]) for side in sides] for sides in (
        (SMALL - each, each + SMALL), (each - SMALL, -SMALL - each)))  # fmt: skip
    return _Told(max(inside), min(1.0, 2 * min(outside)))
