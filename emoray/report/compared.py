"""Two runs held against each other: the same cells one by one where both have them, else by state and question.

A state is the valence and arousal that were asked for: one of half the length is another, as it is asked otherwise.

Both are scored by the rules and label maps of the first, at the condition of its headline, so that what is left is what
was said and how it was read. A difference is the second run minus the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from emoray.analysis.additive import over_questions
from emoray.analysis.intervals import (
    ASKED_AGAIN,
    Interval,
    bounded,
    pooled_variance,
    questions_asked_again,
    together,
)
from emoray.analysis.paired import difference, holm
from emoray.analysis.without_nan import without_nan
from emoray.report.read_run import BATCH, Rows, Source
from emoray.report.timeline import canaries
from emoray.run_folder import columns
from emoray.study.circumplex import Array
from emoray.study.conditions import Condition
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import NeutralRule, RefusalRule

_REVISIONS = ("model_revision", "reader_revision")
_READ = (
    "key", "question", "template", "intensity", "state_deg", "valence", "arousal", "outcome", "answer",
    "refused", "role_break", "flagged_by", "label", "probability", "probabilities", "labels",
    "felt_valence", "felt_arousal", "read_error", "canary", *_REVISIONS,
)  # fmt: skip
_STATE = ["valence", "arousal"]
_PROMPT = ["question", *_STATE]
_NOTHING = pd.DataFrame({name: [] for name in ("key", *_PROMPT, "state_deg", "cosine")})
_DECIMALS = 6  # of what was asked, which tell keys apart
_FARTHEST = 2.0  # that two mean cosines can lie apart


@dataclass(frozen=True)
class Rule:
    """By which both runs are scored, and at which condition."""

    headline: Condition
    neutral: NeutralRule
    refusals: RefusalRule
    labels: LabelMap
    own_maps: dict[str, LabelMap]  # of readers with labels of their own, by name

    def map_of(self, reader: str) -> LabelMap:
        return self.own_maps.get(reader, self.labels)


@dataclass(frozen=True)
class Line:
    """How far one mean lies from the other; NaN where nothing tells."""

    of: Literal["model", "state", "question"]
    level: str
    reader: str
    model: str
    a: float  # mean cosines over what is paired
    b: float
    difference: Interval  # b − a
    p: float  # two-sided, of no difference; NaN of a question, which is one unit
    p_holm: float  # corrected for all lines of its kind: of the models under a reader, or of the states of a model

    def as_json(self) -> dict[str, Any]:
        """Plain values; None for NaN."""
        found = self.difference
        told = {name: value for name, value in asdict(self).items() if name != "difference"}
        told |= {"difference": found.estimate, "low": found.low, "high": found.high, "over": found.over}
        return dict(without_nan(told))


@dataclass(frozen=True)
class Compared:
    """One model by one reader in both runs."""

    reader: str
    model: str  # `a → b` where the runs call it differently
    same: int  # cells that both have, paired one by one
    by_means: int  # prompts without such, paired by their means
    unpaired_a: int  # scored cells that no other stands against
    unpaired_b: int
    revisions_a: tuple[str, ...]  # of the model, then of the reader, as their hosts told them
    revisions_b: tuple[str, ...]
    lines: tuple[Line, ...]  # the model's own first

    @property
    def whole(self) -> Line:
        return self.lines[0]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        told = {name: value for name, value in asdict(self).items() if name != "lines"}
        return told | {"lines": [line.as_json() for line in self.lines]}


def compared(
    a: Source, b: Source, rule: Rule, models: Sequence[tuple[str, str]], readers: Sequence[str]
) -> tuple[Compared, ...]:
    """Reader by reader, pair by pair of models, as they are given; OtherLabels where a label map does not fit."""
    found = []
    for reader in readers:
        pairs = [
            _Pair(_cells(a.rows(reader, one), rule, reader), _cells(b.rows(reader, other), rule, reader))
            for one, other in models
        ]
        wholes = [difference(pair.b, pair.a) for pair in pairs]
        fair = holm([p for _, p in wholes])
        for (one, other), pair, (interval, p), p_holm in zip(models, pairs, wholes, fair, strict=True):
            name = one if one == other else f"{one} → {other}"
            whole = Line("model", name, reader, name, pair.mean(pair.a), pair.mean(pair.b), interval, p, p_holm)
            lines = (whole, *_states(pair, reader, name), *_questions(pair, reader, name))
            found.append(Compared(reader, name, pair.same, pair.by_means, *pair.unpaired, *pair.revisions, lines))
    return tuple(found)


# ── pairing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Cells:
    scored: pd.DataFrame  # key, question (its text), state (3 columns) and cosine of every cell of the condition
    revisions: tuple[str, ...]


def _cells(rows: Rows, rule: Rule, reader: str) -> _Cells:
    parts, revisions = [_NOTHING], dict.fromkeys(_REVISIONS, frozenset[str]())
    for table in rows.tables(columns=list(_READ)):
        for start in range(0, table.num_rows, BATCH):
            batch = table.slice(start, BATCH).combine_chunks()
            parts.append(_scored(batch, rule, reader))
            revisions = {name: seen | set(pc.unique(batch[name]).to_pylist()) for name, seen in revisions.items()}
    told = tuple(", ".join(sorted(seen - {None})) for seen in revisions.values())
    return _Cells(pd.concat([one for one in parts if len(one)] or parts, ignore_index=True), told)


def _scored(table: pa.Table, rule: Rule, reader: str) -> pd.DataFrame:
    mine = pc.and_(pc.equal(table["template"], rule.headline.template), pc.invert(canaries(table)))
    mine = pc.and_(mine, pc.equal(table["intensity"], pa.scalar(rule.headline.intensity, table["intensity"].type)))
    answers = table.filter(pc.and_(mine, pc.equal(table["outcome"], columns.ANSWERED))).combine_chunks()
    read = columns.scored(columns.flagged_anew(answers), rule.map_of(reader), rule.neutral, "as_read")
    told = columns.under(read, rule.refusals)
    found = pd.DataFrame(
        {
            "key": told["key"].to_numpy(),
            "question": told["question"].to_numpy(),
            **{axis: np.round(told[axis].to_numpy().astype(np.float64), _DECIMALS) + 0.0 for axis in _STATE},
            "state_deg": told["state_deg"].to_numpy().astype(np.float64),
            "cosine": told["cosine"].to_numpy().astype(np.float64),
        }
    )
    return found[found["cosine"].notna()]


class _Pair:
    """Means of two runs over the prompts of both, (questions, states); NaN where one of them has nothing."""

    def __init__(self, of_a: _Cells, of_b: _Cells) -> None:
        a, b = of_a.scored, of_b.scored
        self.revisions = (of_a.revisions, of_b.revisions)
        same = a.merge(b[["key", "cosine"]], on="key", suffixes=("", "_b"))
        there = pd.MultiIndex.from_frame(same[_PROMPT])
        rest = [one[~pd.MultiIndex.from_frame(one[_PROMPT]).isin(there)] for one in (a, b)]
        self.questions = sorted({*a["question"], *b["question"]})
        asked = pd.concat([a, b]).drop_duplicates(_STATE).sort_values(["state_deg", *_STATE])
        self._asked = pd.MultiIndex.from_frame(asked[_STATE])
        self.states = _named(asked)
        gaps = same.assign(cosine=same["cosine_b"] - same["cosine"])
        self._gaps = self._moments(gaps)
        self._a = self._moments(pd.concat([same[[*_PROMPT, "cosine"]], rest[0]]))
        self._b = self._moments(pd.concat([same[_PROMPT].assign(cosine=same["cosine_b"]), rest[1]]))
        both = (self._a[0] > 0) & (self._b[0] > 0)
        self.a, self.b = (np.where(both, found[1], np.nan) for found in (self._a, self._b))
        alone = both & (self._gaps[0] == 0)
        self.same, self.by_means = len(same), int(alone.sum())
        used = [len(same) + int(found[0][alone].sum()) for found in (self._a, self._b)]
        self.unpaired = (len(a) - used[0], len(b) - used[1])

    @property
    def gaps(self) -> Array:
        """(questions, states) of b − a."""
        return self.b - self.a

    def mean(self, table: Array) -> float:
        """As `difference` weighs them: the two of them differ by what it says."""
        return float(over_questions(table, paired=True)[0]) if (~np.isnan(table)).any() else math.nan

    def of_questions(self) -> tuple[Array, Array]:
        """(questions,) the variance of each one's mean gap were the same prompts asked again, and its freedom."""
        one_by_one = _asked_again(self._gaps)
        apart = together(_asked_again(self._a), _asked_again(self._b))
        alike = ((self._gaps[0] > 0) | np.isnan(self.gaps)).all(axis=1)
        return np.where(alike, one_by_one[0], apart[0]), np.where(alike, one_by_one[1], apart[1])

    def _moments(self, cells: pd.DataFrame) -> tuple[Array, Array, Array]:
        """(questions, states) each: how many, their mean, and their summed squared deviations from it."""
        question = pd.Index(self.questions).get_indexer(cells["question"])
        where = question, self._asked.get_indexer(pd.MultiIndex.from_frame(cells[_STATE]))
        shape = len(self.questions), len(self.states)
        flat = np.ravel_multi_index(where, shape) if len(cells) else np.zeros(0, dtype=np.int64)
        values = cells["cosine"].to_numpy(dtype=np.float64)
        counts = np.bincount(flat, minlength=shape[0] * shape[1]).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.bincount(flat, values, minlength=len(counts)) / counts
        within = np.bincount(flat, (values - means[flat]) ** 2, minlength=len(counts)).astype(np.float64)
        return counts.reshape(shape), means.reshape(shape), within.reshape(shape)


def _named(asked: pd.DataFrame) -> list[str]:
    """By direction, and by length too where another state has the same."""
    names = [f"{degrees:g}°" for degrees in asked["state_deg"]]
    lengths = np.hypot(asked["valence"], asked["arousal"])
    return [
        f"{name} at {length:.3g}" if names.count(name) > 1 else name
        for name, length in zip(names, lengths, strict=True)
    ]


def _asked_again(found: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    counts, _, within = found
    return questions_asked_again(counts, within, pooled_variance(counts.reshape(-1), within.reshape(-1)))


def _states(pair: _Pair, reader: str, model: str) -> Iterator[Line]:
    columns_of = [(state, pair.a[:, [place]], pair.b[:, [place]]) for place, state in enumerate(pair.states)]
    found = [difference(b, a) for _, a, b in columns_of]
    fair = holm([p for _, p in found])
    for (state, a, b), (interval, p), p_holm in zip(columns_of, found, fair, strict=True):
        yield Line("state", state, reader, model, pair.mean(a), pair.mean(b), interval, p, p_holm)


def _questions(pair: _Pair, reader: str, model: str) -> Iterator[Line]:
    variances, freedoms = pair.of_questions() if pair.questions else (np.zeros(0), np.zeros(0))
    for place, question in enumerate(pair.questions):
        a, b, gaps = (table[place] for table in (pair.a, pair.b, pair.gaps))
        there = ~np.isnan(gaps)
        units = int(there.sum())
        estimate = float(gaps[there].mean()) if units else math.nan
        interval = bounded(
            estimate, float(variances[place]), float(freedoms[place]), 0.95, units, ASKED_AGAIN, reach=_FARTHEST
        )
        mean_a, mean_b = (float(table[there].mean()) if units else math.nan for table in (a, b))
        yield Line("question", question, reader, model, mean_a, mean_b, interval, math.nan, math.nan)
