"""Do the readers of a run say the same, and do the conclusions survive a change of reader? Numbers for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emoray.analysis.additive import Additive
from emoray.analysis.agreement import (
    Conclusion,
    Pair,
    conclusions,
    correlation,
    krippendorff_alpha,
    pairs,
    rank_agreement,
    surviving_share,
)
from emoray.analysis.concord import direction_alpha, order_interval, order_p, score_alpha
from emoray.analysis.intervals import Interval
from emoray.analysis.paper_claims import Claim, claims
from emoray.analysis.summaries import moments
from emoray.analysis.tally import Tally
from emoray.report.read_run import SAMPLE, Sampled
from emoray.study.circumplex import Array

ALL = "all models"
Who = tuple[str, str]  # reader, model


@dataclass(frozen=True)
class PairOn:
    """How two readers agree on the answers of one model, or of all."""

    model: str
    pair: Pair


@dataclass(frozen=True)
class Agreement:
    """What several readers of the same answers have in common."""

    readers: tuple[str, ...]
    answers: int  # that at least two readers scored, of those that were looked at one by one
    sampled: bool  # whether some model has more answers than that
    alpha: float  # Krippendorff's, of the directions read in single answers
    alpha_interval: Interval  # over questions
    alpha_of_scores: float  # the same of the cosines, as intervals
    alpha_of_scores_interval: Interval  # over questions
    pairs: tuple[PairOn, ...]
    ranks: float  # Kendall's W of the order of models, corrected for chance; NaN of one model
    ranks_interval: Interval  # over questions
    ranks_p: float  # how often readers that know nothing of one another agree as much
    kendalls_w: float  # not corrected: 1 / readers by chance
    claims: tuple[Claim, ...]  # the paper's conclusions
    conclusions: tuple[Conclusion, ...]  # the run's own
    surviving: float  # the share of the run's own, as far as any reader draws them, that every reader draws alike


@dataclass(frozen=True)
class _Joined:
    """The same answers under every reader: one row per answer, one column per reader, NaN where one found nothing."""

    scores: Array
    angles_deg: Array
    cells: Array  # a number per prompt
    questions: Array  # a number per question
    words: Array  # (answers,)


def paper_claims(
    tallies: Mapping[Who, Tally], readings: Mapping[Who, Sampled], words: Mapping[str, Sampled], level: float
) -> tuple[Claim, ...]:
    """The paper's conclusions under the readers that have read something, one or several: one family of tests."""
    readers, models = _readers(readings), _models(readings)
    if not readers:
        return ()
    joined = [_joined([readings[reader, model] for reader in readers], words[model]) for model in models]
    return tuple(claims(_by_reader(readers, models, tallies), _lengths(readers, joined), level))


def agreement(
    tallies: Mapping[Who, Tally],
    readings: Mapping[Who, Sampled],
    words: Mapping[str, Sampled],
    level: float,
    of_the_paper: tuple[Claim, ...] = (),
) -> Agreement | None:
    """The agreement of the readers, in their order; None for fewer than two that have read something.

    `readings` holds cosine, angle_deg, prompt and question of single answers, `words` their lengths by model.
    """
    readers, models = _readers(readings), _models(readings)
    if len(readers) < 2:
        return None
    joined = {model: _joined([readings[reader, model] for reader in readers], words[model]) for model in models}
    by_question = _by_reader(readers, models, tallies)
    means = {
        reader: {model: Additive(one).question_means for model, one in of.items()} for reader, of in by_question.items()
    }
    scores, angles_deg, questions = (
        np.concatenate([getattr(one, name) for one in joined.values()])
        for name in ("scores", "angles_deg", "questions")
    )
    orders = np.array([[means[reader][model] for model in models] for reader in readers])
    alpha, ranks = direction_alpha(angles_deg, questions, level), order_interval(orders, level)
    order = np.array([[_mean(of_model) for of_model in of_reader] for of_reader in orders])
    own = conclusions(by_question, level)
    return Agreement(
        readers=tuple(readers),
        answers=int(((~np.isnan(scores)).sum(axis=1) > 1).sum()),
        sampled=any(len(one.keys) >= SAMPLE for one in readings.values()),
        alpha=alpha.estimate,
        alpha_interval=alpha,
        alpha_of_scores=krippendorff_alpha(scores),
        alpha_of_scores_interval=score_alpha(scores, questions, level),
        pairs=tuple(_pairs(readers, joined)),
        ranks=ranks.estimate,
        ranks_interval=ranks,
        ranks_p=order_p(order),
        kendalls_w=rank_agreement(order),
        claims=of_the_paper,
        conclusions=tuple(own),
        surviving=surviving_share(own),
    )


def _readers(readings: Mapping[Who, Sampled]) -> list[str]:
    """Those that have read something."""
    return [name for name in dict.fromkeys(reader for reader, _ in readings) if _has_read(name, readings)]


def _models(readings: Mapping[Who, Sampled]) -> list[str]:
    return list(dict.fromkeys(model for _, model in readings))


def _by_reader(
    readers: Sequence[str], models: Sequence[str], tallies: Mapping[Who, Tally]
) -> dict[str, dict[str, Array]]:
    """Reader -> model -> (questions, prompts) of scores."""
    return {
        reader: {model: _by_question(tallies[reader, model]) for model in models if (reader, model) in tallies}
        for reader in readers
    }


def _has_read(reader: str, readings: Mapping[Who, Sampled]) -> bool:
    mine = [one.columns["cosine"] for (name, _), one in readings.items() if name == reader and one.columns]
    return any(np.isfinite(scores).any() for scores in mine)


def _by_question(tally: Tally) -> Array:
    return moments(tally.without("refused"), "cosine").by_question


def _joined(readings: Sequence[Sampled], words: Sampled) -> _Joined:
    """The answers of one model by key; where a sample was cut, those below the lowest cut."""
    whole = [one.keys[-1] for one in readings if len(one.keys) >= SAMPLE]
    keys = np.unique(np.concatenate([one.keys for one in readings]))
    keys = keys[keys <= min(whole)] if whole else keys
    names = ("cosine", "angle_deg", "prompt", "question")
    columns = {name: [_at(keys, one, name) for one in readings] for name in names}
    return _Joined(
        scores=np.column_stack(columns["cosine"]),
        angles_deg=np.column_stack(columns["angle_deg"]),
        cells=np.fmax.reduce(columns["prompt"]),
        questions=np.fmax.reduce(columns["question"]),
        words=_at(keys, words, "words"),
    )


def _at(keys: Array, sample: Sampled, name: str) -> Array:
    """The values of a sample at these keys (both ascending); NaN where it has none. Of a hash, 53 bits are enough."""
    found = np.full(len(keys), np.nan)
    if sample.columns:
        there = np.isin(keys, sample.keys, assume_unique=True)
        found[there] = sample.columns[name][np.isin(sample.keys, keys, assume_unique=True)]
    return found


def _pairs(readers: Sequence[str], joined: Mapping[str, _Joined]) -> list[PairOn]:
    """Of all models together, then of each where there are several."""
    cells = [np.unique(one.cells, return_inverse=True)[1] for one in joined.values()]
    offsets = np.cumsum([0, *(int(one.max(initial=-1)) + 1 for one in cells)])
    of = {model: (one.scores, one.angles_deg, cell) for (model, one), cell in zip(joined.items(), cells, strict=True)}
    together = (
        np.concatenate([scores for scores, _, _ in of.values()]),
        np.concatenate([angles for _, angles, _ in of.values()]),
        np.concatenate([cell + offset for cell, offset in zip(cells, offsets, strict=False)]),
    )
    shown = {ALL: together} | (of if len(of) > 1 else {})
    return [PairOn(model, one) for model, columns in shown.items() for one in pairs(readers, *columns)]


def _lengths(readers: Sequence[str], joined: Sequence[_Joined]) -> dict[str, Array]:
    """Reader -> (questions,): how an answer's words and its score go together within a model and a question."""
    questions = np.unique(np.concatenate([one.questions for one in joined]))
    rows = [_rows_of(questions, one) for one in joined]
    return {
        reader: np.array(
            [
                _mean([_within(one, place, mine[number]) for one, mine in zip(joined, rows, strict=True)])
                for number in range(len(questions))
            ]
        )
        for place, reader in enumerate(readers)
    }


def _rows_of(questions: Array, one: _Joined) -> list[npt.NDArray[np.intp]]:
    """The rows of each question, in their order."""
    order = np.argsort(one.questions, kind="stable")
    bounds = np.searchsorted(one.questions[order], questions, side="right")
    return np.split(order, bounds[:-1])


def _within(one: _Joined, reader: int, rows: npt.NDArray[np.intp]) -> float:
    return correlation(one.words[rows], one.scores[rows, reader])


def _mean(values: Sequence[float] | Array) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
