"""What a report reads of a run folder, batch by batch, and what it keeps of it: sums, a few hashes, a few examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from emoray.analysis.summaries import AXES, score_values
from emoray.analysis.tally import Factor, Tally
from emoray.analysis.variance import identical_share
from emoray.report.kept_answers import Kept, Readings
from emoray.report.maps import map_values
from emoray.report.timeline import FELT_COLUMNS, SAID_COLUMNS, Heard, Rounds, canaries
from emoray.run_folder import columns
from emoray.study.circumplex import NO_DIRECTION, Affect, Array
from emoray.study.conditions import Condition
from emoray.study.experiment import BLOCK_REPETITIONS, Sampling
from emoray.study.goemotions import LabelMap
from emoray.study.ratings import Label
from emoray.study.scoring import NeutralRule, RefusalRule, Scores, projections

BATCH = 65_536  # rows at a time: a report of ten million rows needs the memory of one batch
EXAMPLES = 2  # answers kept per model and state
SAMPLE = 100_000  # answers per model on which readers are compared one by one

_COLUMN_OF = {"template": "template", "intensity": "intensity", "state": "state_deg", "question": "question_id"}
_SAMPLING = tuple(column.name for column in fields(Sampling))
_SAID = (
    "key", "prompt_sha", "template", "intensity", "state_deg", "question_id", "question", "state_term",
    "outcome", "answer", "refused", "role_break", "flagged_by",
    "finish_reason", "finish_reason_raw", "host", "model_revision",
    "cost_usd", "error", *_SAMPLING, *SAID_COLUMNS,
)  # fmt: skip
_FELT = (
    "key", "prompt_sha", "template", "intensity", "state_deg", "question_id", "valence", "arousal", "outcome",
    "refused", "role_break", "flagged_by", "reader_revision",
    "label", "probability", "probabilities", "labels", "felt_valence", "felt_arousal",
    "truncated", "read_error", *FELT_COLUMNS,
)  # fmt: skip


class Rows(Protocol):
    """Rows of a run folder, one per key."""

    def tables(self, columns: Sequence[str] | None = None) -> Iterable[pa.Table]: ...


class Source(Protocol):
    """What a report needs of a run folder."""

    def manifest(self) -> dict[str, Any] | None: ...
    def readers(self) -> Sequence[str]: ...
    def models(self) -> Sequence[str]: ...
    def answers(self, model: str) -> Rows: ...
    def rows(self, reader: str, model: str) -> Rows: ...


@dataclass(frozen=True)
class Example:
    """One answer, chosen by its key alone (the smallest ones of each state), so by chance."""

    key: str
    model: str
    state_deg: float
    question_id: str
    template: str
    intensity: float
    answer: str
    refused: bool
    role_break: bool
    reader: str = ""
    label: str | None = None
    probability: float | None = None
    felt_valence: float | None = None  # of a reader that knows no labels
    felt_arousal: float | None = None
    cosine: float | None = None


@dataclass
class Sampled:
    """Numbers of single answers, of `SAMPLE` at most: those whose keys hash lowest, so the same under every reader."""

    keys: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))  # hashes, each once
    columns: dict[str, npt.NDArray[Any]] = field(default_factory=dict)  # name -> one value per key
    highest: np.uint64 | None = None  # hash that is still wanted, once there were more than `SAMPLE`

    def wanted(self, table: pa.Table) -> pa.Table:
        """The rows that may be among the lowest: what the others hold need not be looked at."""
        if self.highest is None:
            return table
        return table.filter(pa.array(_hash(table["key"].to_numpy()) <= self.highest))

    def add(self, keys: pa.ChunkedArray, **columns: npt.NDArray[Any]) -> None:
        self.keys = np.concatenate([self.keys, _hash(keys.to_numpy())])
        self.columns = {name: np.concatenate([self.columns.get(name, new[:0]), new]) for name, new in columns.items()}
        if len(self.keys) > 2 * SAMPLE:
            self.cut()

    def cut(self) -> None:
        """Brings the keys into order and lets go of what is too much."""
        lowest = np.argsort(self.keys, kind="stable")[:SAMPLE]
        self.keys, self.columns = self.keys[lowest], {name: one[lowest] for name, one in self.columns.items()}
        self.highest = self.keys[-1] if len(self.keys) == SAMPLE else None


@dataclass(frozen=True)
class HumanRead:
    """An answer that people have labelled, and what the reader scored it."""

    key: str
    question_id: str
    asked: Affect
    human: Label
    cosine: float  # the reader's; NaN where it found nothing
    refused: bool = False


@dataclass(frozen=True)
class Closely:
    """What is wanted of single answers, beside sums and examples."""

    headline: Condition | None = None  # the only one whose single answers count; None: all do
    controls: frozenset[str] = frozenset()  # templates that enter no mean
    sample: bool = False  # for comparing readers
    human: Mapping[str, Label] = field(default_factory=dict)  # what people read, by key
    round_width: int = BLOCK_REPETITIONS  # repetitions that make a round of cells
    browsed: int = 0  # answers that the page holds
    projections: bool = False  # also the lengths of readings along what was asked for


@dataclass
class Said:
    """What one model said."""

    outcomes: Tally  # by outcome and state: n, refused, role_break, cut, cost_usd
    failed: Tally  # n by the axes of a design
    conditions: set[Condition] = field(default_factory=set)
    heard: Heard = field(default_factory=Heard)  # when, and what the provider said it was
    hashes: dict[Condition, list[npt.NDArray[np.uint64]]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    questions: dict[str, str] = field(default_factory=dict)  # id -> text
    terms: dict[float, str] = field(default_factory=dict)  # state -> Russell's nearest term
    hosts: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=set)
    samplings: set[Sampling] = field(default_factory=set)
    endings: Counter[str] = field(default_factory=Counter)  # answers by the provider's own word for why they ended
    sample: Sampled = field(default_factory=Sampled)  # words
    kept: Kept = field(default_factory=Kept)  # answers that the page holds
    labelled: dict[str, str] = field(default_factory=dict)  # key -> question id of answers that people have labelled
    failure_texts: dict[str, str] = field(default_factory=dict)  # what was said of one failure of each kind
    earlier: int = 0  # answers written before anybody noted which detector flags them, and what the provider declared

    @property
    def identical(self) -> float:
        """The share of answers that repeat an earlier one to the same prompt word for word."""
        return _identical([one for some in self.hashes.values() for one in some])

    def identical_in(self, condition: Condition | None) -> float:
        """The same of one condition's answers; None: of all."""
        return self.identical if condition is None else _identical(self.hashes.get(condition, []))


def _identical(hashes: Sequence[npt.NDArray[np.uint64]]) -> float:
    return identical_share(np.concatenate(hashes)) if hashes else float("nan")


@dataclass
class Felt:
    """What one reader read in one model's answers."""

    scores: Tally  # by refused and the axes of a design
    rounds: Rounds = field(default_factory=Rounds)
    examples: list[Example] = field(default_factory=list)
    revisions: set[str] = field(default_factory=set)
    sample: Sampled = field(default_factory=Sampled)  # cosine, angle_deg, prompt and question (hashes)
    human: list[HumanRead] = field(default_factory=list)
    readings: Readings | None = None  # of the answers that the page holds


def said(model: str, source: Rows, closely: Closely = Closely()) -> Said:
    """One pass over a model's answers and failures."""
    found = Said(_count_outcomes(columns.ANSWERS.empty_table()), _count_failed(columns.ANSWERS.empty_table()))
    found.kept.most = closely.browsed
    for kept in _batches(source, _SAID):
        found.earlier += _earlier(kept)
        whole = columns.flagged_anew(kept)
        found.heard.add(whole)
        batch = _measured(whole)
        found.outcomes += _count_outcomes(batch)
        found.failed += _count_failed(batch.filter(pc.not_equal(batch["outcome"], columns.ANSWERED)))
        found.conditions |= _conditions(batch)
        found.questions |= _pairs(batch, "question_id", "question")
        found.terms |= _pairs(batch, "state_deg", "state_term")
        found.failure_texts = _failure_texts(batch) | found.failure_texts
        found.hosts |= _distinct(batch, "host")
        found.revisions |= _distinct(batch, "model_revision")
        found.samplings |= {
            Sampling(**one) for one in batch.select(_SAMPLING).group_by(_SAMPLING).aggregate([]).to_pylist()
        }
        answers = batch.filter(pc.equal(batch["outcome"], columns.ANSWERED))
        found.endings.update(_counted(answers, "finish_reason_raw"))
        for condition in _conditions(answers):
            found.hashes.setdefault(condition, []).append(_hashes(_of_condition(answers, condition)))
        found.kept.add(answers)
        found.examples = _few([*found.examples, *_candidates(model, answers)])
        found.labelled |= _pairs(_with_keys(answers, closely.human), "key", "question_id") if closely.human else {}
        if closely.sample:
            some = found.sample.wanted(answers)
            found.sample.add(some["key"], words=_words(some["answer"]))
    found.sample.cut()
    return found


def felt(
    reader: str,
    source: Rows,
    label_map: LabelMap,
    neutral: NeutralRule,
    examples: Sequence[Example] = (),
    closely: Closely = Closely(),
    refusals: RefusalRule = "zero",
    kept: Kept | None = None,
) -> Felt:
    """One pass over a reader's rows, scored anew from the stored probabilities under a label map and rules.

    The tally holds scores as they were read, by `refused`, so that `under` finds any rule in it; everything else is by
    the rule given. rows.OtherLabels where the map is not of the labels that were read.
    """
    wanted = {example.key: example for example in examples}
    arguments = (reader, source, label_map, neutral, wanted, closely, refusals, kept)
    try:
        return _felt(*arguments, _FELT)
    except _FlaggedBefore:
        return _felt(*arguments, (*_FELT, "answer"))


def _felt(
    reader: str,
    source: Rows,
    label_map: LabelMap,
    neutral: NeutralRule,
    wanted: dict[str, Example],
    closely: Closely,
    refusals: RefusalRule,
    kept: Kept | None,
    names: Sequence[str],
) -> Felt:
    lengths = label_map if closely.projections else None
    found = Felt(_score_tally(columns.SCORED.empty_table(), neutral, lengths), Rounds(closely.round_width))
    found.readings = Readings((kept or Kept()).keys(), label_map.labels)
    for batch in _flagged(source, names):
        whole = columns.scored(
            batch.filter(pc.equal(batch["outcome"], columns.ANSWERED)), label_map, neutral, "as_read"
        )
        found.scores += _score_tally(_measured(whole), neutral, lengths)
        found.revisions |= _distinct(batch, "reader_revision")
        by_rule = columns.under(whole, refusals)
        told = {closely.headline.template} if closely.headline else set()
        found.rounds.add(_without(by_rule, closely.controls - told))
        scored = _measured(by_rule)
        found.readings.add(scored)
        found.examples += _read_examples(reader, scored, wanted)
        if closely.human or closely.sample:
            single = _of_condition(scored, closely.headline)
            found.human += _human_reads(single, closely.human)
        if closely.sample:
            some = found.sample.wanted(single)
            found.sample.add(some["key"], **_single(some))
    found.sample.cut()
    found.examples.sort(key=lambda example: (example.state_deg, example.key))
    return found


def under(tally: Tally, refusals: RefusalRule) -> Tally:
    """A tally of scores as they were read, under a rule for refusals; its axes stay."""
    if refusals == "as_read" or True not in tally.axis("refused").levels:
        return tally
    at = [axis.name for axis in tally.axes].index("refused")
    of_refused = np.array(tally.axes[at].levels, dtype=np.bool_).reshape(
        [-1 if i == at else 1 for i in range(len(tally.axes))]
    )
    return Tally(
        tally.axes,
        {
            name: array if name in _COUNTS else np.where(of_refused, _instead(name, tally, refusals), array)
            for name, array in tally.sums.items()
        },
    )


_COUNTS = ("read", "unread", "read_truncated", "neutral", "map_read")


def _instead(name: str, tally: Tally, refusals: RefusalRule) -> Array | float:
    """What stands in place of a sum over refused answers: as many zeros as were read, or nothing."""
    if refusals != "zero" or not name.endswith("_n"):
        return 0.0
    return tally.sums["map_read" if name.startswith("map_") else "read"]  # only labels have a place on a map


def _earlier(batch: pa.Table) -> int:
    answered = pc.equal(batch["outcome"], columns.ANSWERED)
    return int(pc.sum(pc.and_(answered, pc.is_null(batch["flagged_by"]))).as_py() or 0)


class _FlaggedBefore(Exception):
    """Rows with flags of an older detector, and no texts beside them."""


def _flagged(source: Rows, names: Sequence[str]) -> Iterator[pa.Table]:
    """Rows with the flags of this emoray's detector."""
    for batch in _batches(source, names):
        if "answer" not in names and columns.flagged_before(batch):
            raise _FlaggedBefore
        yield batch if "answer" not in names else columns.flagged_anew(batch)


def _conditions(batch: pa.Table) -> set[Condition]:
    distinct = batch.select(["template", "intensity"]).group_by(["template", "intensity"]).aggregate([])
    return {Condition(one["template"], one["intensity"]) for one in distinct.to_pylist()}


def _of_condition(table: pa.Table, condition: Condition | None) -> pa.Table:
    if condition is None:
        return table
    of_template = pc.equal(table["template"], condition.template)
    mine = pc.and_(of_template, pc.equal(table["intensity"], condition.intensity))
    return table if pc.all(mine).as_py() else table.filter(mine)


def _without(table: pa.Table, controls: frozenset[str]) -> pa.Table:
    """Canaries stay, whatever their template: they are compared with themselves alone."""
    if not controls:
        return table
    control = pc.is_in(table["template"], pa.array(sorted(controls), pa.string()))
    return table.filter(pc.or_(canaries(table), pc.invert(control)))


def _batches(source: Rows, names: Sequence[str]) -> Iterator[pa.Table]:
    for table in source.tables(columns=list(names)):
        for start in range(0, table.num_rows, BATCH):
            yield table.slice(start, BATCH).combine_chunks()


def _measured(batch: pa.Table) -> pa.Table:
    """Without the canaries, which count in no mean."""
    canary = canaries(batch)
    return batch.filter(pc.invert(canary)) if pc.any(canary).as_py() else batch


def _failure_texts(batch: pa.Table) -> dict[str, str]:
    """By kind."""
    failed = batch.select(["outcome", "error"]).filter(pc.is_valid(batch["error"]))
    if not failed.num_rows:
        return {}
    firsts = failed.group_by("outcome", use_threads=False).aggregate([("error", "first")])
    return dict(zip(firsts["outcome"].to_pylist(), firsts["error_first"].to_pylist(), strict=True))


def _count_outcomes(batch: pa.Table) -> Tally:
    values = {
        "n": np.ones(batch.num_rows),
        "refused": columns.flags(batch["refused"]),
        "role_break": columns.flags(batch["role_break"]),
        "cut": columns.flags(pc.equal(batch["finish_reason"], "length")),
        "cost_usd": _amounts(batch["cost_usd"].to_numpy()),
    }
    return Tally.of({"outcome": _factor(batch["outcome"]), "state": _factor(batch["state_deg"])}, values)


def _amounts(usd: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(rows,): NaN for what is no amount, as for what is not known."""
    return np.where(np.isfinite(usd) & (usd >= 0), usd, np.nan)


def _count_failed(failed: pa.Table) -> Tally:
    factors = {axis: _factor(failed[_COLUMN_OF[axis]]) for axis in AXES}
    return Tally.of(factors, {"n": np.ones(failed.num_rows)})


def _score_tally(scored: pa.Table, neutral: NeutralRule, lengths: LabelMap | None) -> Tally:
    """`lengths`: the map by which lengths of readings are summed up too."""
    refused = columns.flags(scored["refused"])
    factors = {"refused": Factor((False, True), refused.astype(np.int64))}
    factors |= {axis: _factor(scored[_COLUMN_OF[axis]]) for axis in AXES}
    measured = {column.name: scored[column.name].to_numpy() for column in fields(Scores)}
    was_read, angles_deg = columns.was_read(scored), _angles_deg(scored)
    counts = {
        "read": was_read,
        "unread": scored["read_error"].is_valid().to_numpy(),
        "read_truncated": columns.flags(scored["truncated"]),
        "neutral": was_read & np.isnan(angles_deg),
        "directed": was_read & ~np.isnan(angles_deg),
    }
    along = _projections(scored, lengths, neutral) if lengths else {}
    return Tally.of(factors, counts | score_values(measured) | map_values(scored, neutral) | along)


def _projections(scored: pa.Table, label_map: LabelMap, neutral: NeutralRule) -> dict[str, npt.NDArray[np.generic]]:
    if not scored.num_rows:
        return dict.fromkeys(("projection_n", "projection_sum"), np.zeros(0))
    read = columns.probabilities(scored, label_map.labels)
    found = projections(columns.affects(scored), read, label_map, neutral, columns.felt_affects(scored))
    return {"projection_n": ~np.isnan(found), "projection_sum": found}


def _factor(column: pa.ChunkedArray) -> Factor:
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return Factor(tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy().astype(np.int64))


def _pairs(batch: pa.Table, key: str, value: str) -> dict[Any, Any]:
    distinct = batch.select([key, value]).group_by([key, value]).aggregate([])
    return dict(zip(distinct[key].to_pylist(), distinct[value].to_pylist(), strict=True))


def _distinct(batch: pa.Table, name: str) -> set[str]:
    return {value for value in pc.unique(batch[name]).to_pylist() if value is not None}


def _counted(batch: pa.Table, name: str) -> dict[str, int]:
    counts = pc.value_counts(batch[name].drop_null())
    return {one["values"]: one["counts"] for one in counts.to_pylist()}


def _hashes(answers: pa.Table) -> npt.NDArray[np.uint64]:
    """One number per answer, equal where prompt and text are equal."""
    prompts = _factor(answers["prompt_sha"])
    of_prompt = _hash(np.array(prompts.levels, dtype=object))[prompts.codes]
    of_text = _hash(answers["answer"].to_numpy())
    return of_text * np.uint64(0x9E3779B97F4A7C15) ^ of_prompt


def _hash(texts: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    return pd.util.hash_array(texts.astype(object), categorize=False)


def _candidates(model: str, answers: pa.Table) -> list[Example]:
    """The answers with the smallest keys of each state."""
    chosen: list[Example] = []
    left = answers
    for _ in range(EXAMPLES):
        first = pc.is_in(left["key"], left.group_by("state_deg").aggregate([("key", "min")])["key_min"])
        chosen += [_example(model, row) for row in left.filter(first).to_pylist()]
        left = left.filter(pc.invert(first))
    return chosen


def _example(model: str, row: dict[str, Any]) -> Example:
    names = ("key", "state_deg", "question_id", "template", "intensity", "answer", "refused", "role_break")
    return Example(model=model, **{name: row[name] for name in names})


def _few(candidates: list[Example]) -> list[Example]:
    kept: dict[float, list[Example]] = {}
    for example in sorted(candidates, key=lambda one: one.key):
        kept.setdefault(example.state_deg, []).append(example)
    return [example for state in sorted(kept) for example in kept[state][:EXAMPLES]]


def _single(scored: pa.Table) -> dict[str, npt.NDArray[Any]]:
    """The numbers of single readings by which readers are compared."""
    prompts, questions = _factor(scored["prompt_sha"]), _factor(scored["question_id"])
    return {
        "cosine": scored["cosine"].to_numpy(),
        "angle_deg": _angles_deg(scored),
        "prompt": _hash(np.array(prompts.levels, dtype=object))[prompts.codes],
        "question": _hash(np.array(questions.levels, dtype=object))[questions.codes],
    }


def _angles_deg(scored: pa.Table) -> npt.NDArray[np.float64]:
    """(rows,) of the directions read; NaN where none was."""
    valence, arousal = (scored[f"read_{axis}"].to_numpy() for axis in ("valence", "arousal"))
    directed = np.hypot(valence, arousal) >= NO_DIRECTION
    return np.where(directed, np.degrees(np.arctan2(arousal, valence)), np.nan)


def _words(texts: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(pc.count_substring_regex(texts, r"\S+").to_numpy(), dtype=np.float64)


def _with_keys(table: pa.Table, keys: Collection[str]) -> pa.Table:
    return table.filter(pc.is_in(table["key"], pa.array(list(keys), pa.string())))


def _human_reads(scored: pa.Table, human: Mapping[str, Label]) -> list[HumanRead]:
    names = ("key", "question_id", "valence", "arousal", "cosine", "refused")
    return [
        HumanRead(
            row["key"],
            row["question_id"],
            Affect(row["valence"], row["arousal"]),
            human[row["key"]],
            float("nan") if row["cosine"] is None else row["cosine"],
            bool(row["refused"]),
        )
        for row in _with_keys(scored.select(list(names)), human).to_pylist()
    ]


def _read_examples(reader: str, scored: pa.Table, wanted: dict[str, Example]) -> list[Example]:
    names = ("key", "label", "probability", "felt_valence", "felt_arousal", "cosine")
    found = _with_keys(scored.select(list(names)), wanted)
    return [replace(wanted[row.pop("key")], reader=reader, **row) for row in found.to_pylist()]
