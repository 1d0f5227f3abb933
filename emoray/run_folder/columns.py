"""The columns, and the only place where dataclasses become Arrow and back.

A row is born with what is ASKED and only gains: what was ANSWERED, what was READ in it, what was SCORED. Nulls mean
"no value": a failure has no answer and no score. Stages outside this file see whole tables.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from emoray.refusals import DETECTOR
from emoray.refusals import flags as refusal_flags
from emoray.study import russell
from emoray.study.circumplex import Array
from emoray.study.experiment import Cell
from emoray.study.goemotions import LABELS, LabelMap, plain_label
from emoray.study.outcomes import Answer, Failure, FailureKind, Reply, valid
from emoray.study.prompts import Ask, Prompt
from emoray.study.sampling import ASKED as ASKED_SAMPLING
from emoray.study.scoring import NeutralRule, Reading, RefusalRule, Scores, ruled, score

SCHEMA_VERSION = "2"  # in every file's metadata; a file of a version that is not known is refused, never guessed at
KNOWN_VERSIONS = ("1", SCHEMA_VERSION)
"""1 means another score by `expected_cosine`, knows no rule for refusals, and does not say which detector flagged."""
_TIME = pa.timestamp("us", tz="UTC")

ASKED = pa.schema(
    [
        ("key", pa.string()),
        ("model", pa.string()),
        ("template", pa.string()),
        ("state_deg", pa.float64()),
        ("intensity", pa.float64()),
        ("valence", pa.float64()),
        ("arousal", pa.float64()),
        ("state_term", pa.string()),
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("repetition", pa.int64()),
        ("seed", pa.int64()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("max_tokens", pa.int64()),
        ("prompt", pa.string()),
        ("prompt_sha", pa.string()),
        ("canary", pa.bool_()),  # asked through the night to watch the model; counts in no mean
    ]
)
_SAID = pa.schema(
    [
        ("outcome", pa.string()),
        ("answer", pa.string()),
        ("refused", pa.bool_()),
        ("role_break", pa.bool_()),
        ("flagged_by", pa.string()),  # which detector these two are of; null of the first one
        ("finish_reason", pa.string()),  # "stop" or "length"
        ("finish_reason_raw", pa.string()),  # in the provider's own word, of failures too
        ("error", pa.string()),
        ("attempts", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("latency_s", pa.float64()),
        ("asked_at", _TIME),
        ("host", pa.string()),
        ("model_revision", pa.string()),
        ("engine", pa.string()),
        ("chat_template_sha", pa.string()),
        ("returned_model", pa.string()),
        ("system_fingerprint", pa.string()),
        ("reasoning", pa.string()),
    ]
)
_FELT = pa.schema(
    [
        ("reader", pa.string()),
        ("reader_revision", pa.string()),
        ("label", pa.string()),
        ("probability", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("truncated", pa.bool_()),
        ("read_error", pa.string()),
        ("labels", pa.list_(pa.string())),  # whose probabilities they are; null for the 28 of GoEmotions
        ("felt_valence", pa.float64()),  # of a reader that knows no labels
        ("felt_arousal", pa.float64()),
        ("confidence", pa.float64()),
        ("read_cost_usd", pa.float64()),  # of this reading; cost_usd is the answer's
    ]
)
_SCORED = pa.schema(
    [
        ("read_valence", pa.float64()),
        ("read_arousal", pa.float64()),
        ("cosine", pa.float64()),
        ("angle_error_deg", pa.float64()),
        ("expected_valence", pa.float64()),
        ("expected_arousal", pa.float64()),
        ("expected_cosine", pa.float64()),
        ("direction_cosine", pa.float64()),
        ("resultant_valence", pa.float64()),
        ("resultant_arousal", pa.float64()),
        ("scored_by", pa.string()),  # one spec, one value: rows scored before it was changed keep the older
    ]
)
ANSWERS = pa.schema([*ASKED, *_SAID])  # a row under RUN/answers
SCORED = pa.schema([*ANSWERS, *_FELT, *_SCORED])  # a row under RUN/rows
_OF_REPLIES = ("attempts", "latency_s", "asked_at", "chat_template_sha")
_OF_ANSWERS: dict[str, Callable[[Answer], object]] = {  # null for a failure
    "answer": lambda answer: answer.text,
    "finish_reason": lambda answer: answer.finish_reason,
    "prompt_tokens": lambda answer: answer.prompt_tokens,
    "completion_tokens": lambda answer: answer.completion_tokens,
    "returned_model": lambda answer: answer.returned_model,
    "system_fingerprint": lambda answer: answer.system_fingerprint,
    "reasoning": lambda answer: answer.reasoning,
}
_NOT_READ = Reading(None)
_UNFIT = (UnicodeError, OverflowError, TypeError, ValueError, pa.ArrowException)  # by which Arrow says that a value is
ANSWERED = "answer"  # the outcome of a row that has an answer; any other is a failure's kind


class OtherLabels(ValueError):
    """Readings of other labels than a map places; the message is one sentence."""


def asked(prompts: Sequence[Prompt]) -> pa.Table:
    """One row per prompt, in their order: the ASKED columns. What repetitions share is computed once."""
    alike: dict[tuple[object, ...], int] = {}
    turns = [alike.setdefault(_identity(prompt.cell), len(alike)) for prompt in prompts]
    firsts = dict(zip(reversed(turns), reversed(prompts), strict=True))
    shared = _shared([firsts[turn] for turn in range(len(alike))]).take(pa.array(turns, pa.int64()))
    own = {
        "key": pa.array([prompt.key for prompt in prompts], pa.string()),
        "repetition": pa.array([prompt.cell.repetition for prompt in prompts], pa.int64()),
        "seed": pa.array([prompt.seed for prompt in prompts], pa.int64()),
        "canary": pa.array([prompt.cell.canary for prompt in prompts], pa.bool_()),
    }
    columns = [own[name] if name in own else shared[name] for name in ASKED.names]
    return pa.Table.from_arrays(columns, schema=ASKED)


def _identity(cell: Cell) -> tuple[object, ...]:
    """Equal for cells that differ only in repetition and in being a canary, while they live."""
    return id(cell.model), id(cell.template), id(cell.state), cell.intensity, id(cell.question), cell.canary


def _shared(prompts: Sequence[Prompt]) -> pa.Table:
    """The columns that do not depend on the repetition."""
    cells = [prompt.cell for prompt in prompts]
    wanted = [cell.asked for cell in cells]
    columns = {
        "model": [cell.model.name for cell in cells],
        "template": [cell.template.name for cell in cells],
        "state_deg": [cell.state.angle_deg for cell in cells],
        "intensity": [cell.intensity for cell in cells],
        "valence": [affect.valence for affect in wanted],
        "arousal": [affect.arousal for affect in wanted],
        "state_term": [russell.nearest_term(cell.state.angle_deg) for cell in cells],
        "question_id": [cell.question.id for cell in cells],
        "question": [cell.question.text for cell in cells],
        "temperature": [cell.model.sampling.temperature for cell in cells],
        "top_p": [cell.model.sampling.top_p for cell in cells],
        "max_tokens": [cell.model.sampling.max_tokens for cell in cells],
        "prompt": [prompt.messages for prompt in prompts],
        "prompt_sha": [prompt.sha for prompt in prompts],
        "canary": [cell.canary for cell in cells],
    }
    return pa.table(columns, schema=pa.schema([ASKED.field(name) for name in columns]))


def asks(table: pa.Table) -> list[Ask]:
    """What a host needs of each ASKED row. Asks of one text share one chat."""
    prompts = table["prompt"].combine_chunks().dictionary_encode()
    chats = [json.loads(prompt) for prompt in prompts.dictionary.to_pylist()]
    turns = prompts.indices.to_pylist()
    columns = ("key", "seed", "temperature", "top_p", "max_tokens")
    values = (table[name].to_pylist() for name in columns)
    return [Ask(key, chats[turn], *rest) for turn, key, *rest in zip(turns, *values, strict=True)]


def drawn(table: pa.Table, defaults: Mapping[str, float | None]) -> pa.Table:
    """ASKED rows with what was drawn by where the ask left it open; a default that is None stays open."""
    for name in ASKED_SAMPLING:
        if (value := defaults.get(name)) is not None:
            place, column = table.schema.get_field_index(name), ASKED.field(name)
            table = table.set_column(place, column, pc.fill_null(table[name], pa.scalar(value, column.type)))
    return table


def with_answers(
    table: pa.Table, replies: Sequence[Reply], *, host: str, revision: str | None, engine: str | None
) -> pa.Table:
    """ASKED rows and the reply of each, in the same order: with what was answered."""
    if [reply.key for reply in replies] != table["key"].to_pylist():
        raise ValueError("replies and rows do not belong together")
    same = {"host": host, "model_revision": revision, "engine": engine}
    try:
        return _gain(table, _said(replies, same))
    except _UNFIT:  # one of them cannot become a row: its neighbours can
        return _gain(table, pa.concat_tables([_SAID.empty_table(), *(_said_alone(reply, same) for reply in replies)]))


def _said_alone(reply: Reply, same: Mapping[str, str | None]) -> pa.Table:
    """The row of a reply, or of the failure that it is where it cannot become one."""
    try:
        return _said([reply], same)
    except _UNFIT as wrong:
        detail = f"what the host said cannot become a row: {valid(str(wrong))}"
        cost = known_usd(reply.outcome.cost_usd)
        return _said([replace(reply, outcome=Failure(FailureKind.MALFORMED, detail, cost))], same)


def _said(replies: Sequence[Reply], same: Mapping[str, str | None]) -> pa.Table:
    outcomes = [reply.outcome for reply in replies]
    columns: dict[str, list[object]] = {
        "outcome": [ANSWERED if isinstance(one, Answer) else one.kind.value for one in outcomes],
        "error": [None if isinstance(one, Answer) else one.detail for one in outcomes],
        "cost_usd": [known_usd(one.cost_usd) for one in outcomes],
        "finish_reason_raw": [one.finish_reason_raw for one in outcomes],
        **{name: [getattr(reply, name) for reply in replies] for name in _OF_REPLIES},
        **{name: [value] * len(replies) for name, value in same.items()},
    }
    answers = [one if isinstance(one, Answer) else None for one in outcomes]
    for name, value in _OF_ANSWERS.items():
        columns[name] = [None if answer is None else value(answer) for answer in answers]
    columns |= flagged(columns["answer"], [one is not None and one.declined for one in answers])
    return pa.table(columns, schema=_SAID)


_PROVIDER = "+provider"  # behind the detector's name, of answers that the provider marked as a refusal


def flagged(texts: Sequence[Any], declined: Sequence[bool]) -> dict[str, list[object]]:
    """The columns `refused`, `role_break` and `flagged_by` of answers; None of what is no answer.

    `declined`: what the provider marked as a refusal is one, whatever its words and whoever looks at them.
    """
    refused, left = refusal_flags(texts)
    return {
        "refused": _where_answered(texts, (refused | np.asarray(declined, dtype=np.bool_)).tolist()),
        "role_break": _where_answered(texts, left.tolist()),
        "flagged_by": _where_answered(texts, [f"{DETECTOR}{_PROVIDER}" if one else DETECTOR for one in declined]),
    }


def _where_answered(texts: Sequence[Any], values: Sequence[object]) -> list[object]:
    return [None if text is None else value for text, value in zip(texts, values, strict=True)]


def flagged_before(table: pa.Table) -> bool:
    """Whether any answer of these rows was flagged by another detector than this emoray's."""
    answered = pc.equal(table["outcome"], ANSWERED)
    ours = pc.is_in(table["flagged_by"], pa.array([DETECTOR, f"{DETECTOR}{_PROVIDER}"]))
    return bool(pc.any(pc.and_not(answered, ours)).as_py())


def flagged_anew(table: pa.Table) -> pa.Table:
    """The same rows, which have an `answer` each or none, with the flags of this emoray's detector."""
    if not flagged_before(table):
        return table
    declined = flags(pc.ends_with(table["flagged_by"], _PROVIDER))
    for name, values in flagged(table["answer"].to_pylist(), declined.tolist()).items():
        table = table.set_column(
            table.schema.get_field_index(name), ANSWERS.field(name), pa.array(values, ANSWERS.field(name).type)
        )
    return table


def known_usd(usd: object) -> float | None:
    """An amount of money; None for what is none (NaN, endless, below zero, no number): it is not known."""
    there = isinstance(usd, int | float) and math.isfinite(usd) and usd >= 0
    return float(usd) if there and not isinstance(usd, bool) else None  # type: ignore[arg-type]


def with_readings(
    table: pa.Table, readings: Sequence[Reading | None], *, reader: str, revision: str | None
) -> pa.Table:
    """Answers and what a reader read in each (None where there was nothing to read): with what was read."""
    try:
        return _gain(table, _felt(readings, reader, revision))
    except _UNFIT:
        alone = (_felt_alone(reading, reader, revision) for reading in readings)
        return _gain(table, pa.concat_tables([_FELT.empty_table(), *alone]))


def _felt_alone(reading: Reading | None, reader: str, revision: str | None) -> pa.Table:
    """The columns of a reading, or of the error that it is where it cannot become some."""
    try:
        return _felt([reading], reader, revision)
    except _UNFIT as wrong:
        return _felt([Reading(None, error=f"malformed: cannot become a row: {valid(str(wrong))}")], reader, revision)


def _felt(readings: Sequence[Reading | None], reader: str, revision: str | None) -> pa.Table:
    read = [_NOT_READ if reading is None else reading for reading in readings]
    good = [_NOT_READ if one.error is not None else one for one in read]
    tops = [_top(one) for one in good]
    columns = {
        "reader": [reader] * len(readings),
        "reader_revision": [revision] * len(readings),
        "label": [label for label, _ in tops],
        "probability": [probability for _, probability in tops],
        "probabilities": [one.probabilities for one in good],
        "truncated": [None if reading is None else reading.truncated for reading in readings],
        "read_error": [one.error for one in read],
        "labels": [None if one.probabilities is None else one.labels for one in good],
        "felt_valence": [None if one.affect is None else one.affect.valence for one in good],
        "felt_arousal": [None if one.affect is None else one.affect.arousal for one in good],
        "confidence": [None if one.affect is None else one.confidence for one in good],
        "read_cost_usd": [known_usd(one.cost_usd) for one in read],
    }
    return pa.table(columns, schema=_FELT)


def scored(table: pa.Table, label_map: LabelMap, neutral: NeutralRule, refusals: RefusalRule = "zero") -> pa.Table:
    """Rows that were read, with the scores under a label map (the reader's) and rules, in place of any older ones.

    OtherLabels where the map is not of the labels that were read.
    """
    bare = table.drop_columns([name for name in _SCORED.names if name in table.column_names])
    scores = score(affects(bare), probabilities(bare, label_map.labels), label_map, neutral, felt_affects(bare))
    read = was_read(bare)
    rules = pc.if_else(pa.array(read), scored_by(label_map, neutral, refusals), pa.scalar(None, pa.string()))
    return _gain(bare, _columns(ruled(scores, flags(bare["refused"]), read, refusals), rules))


def under(table: pa.Table, refusals: RefusalRule) -> pa.Table:
    """Rows that were SCORED as they were read, under a rule for refusals."""
    refused = flags(table["refused"])
    if refusals == "as_read" or not refused.any():
        return table
    scores = Scores(**{one.name: table[one.name].to_numpy() for one in fields(Scores)})
    bare = table.drop_columns(_SCORED.names)
    return _gain(bare, _columns(ruled(scores, refused, was_read(bare), refusals), table["scored_by"]))


def _columns(scores: Scores, rules: pa.Array | pa.ChunkedArray) -> pa.Table:
    columns = {name: pa.array(values, from_pandas=True) for name, values in vars(scores).items()}  # NaN -> null
    return pa.table(columns | {"scored_by": rules}, schema=_SCORED)


def scored_by(label_map: LabelMap, neutral: NeutralRule, refusals: RefusalRule = "zero") -> str:
    """What decides a score beside the reading, in one word: `russell/zero/drop/` and 8 hex digits of every place.

    The rules are that of neutral readings, then that of refusals.
    """
    places = sorted((label, affect and astuple(affect)) for label, affect in label_map.affects)
    digest = hashlib.blake2b(json.dumps(places).encode(), digest_size=4).hexdigest()
    return f"{label_map.name}/{neutral}/{refusals}/{digest}"


def flags(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """(rows,): null is False."""
    return np.asarray(pc.fill_null(column, False).to_numpy(), dtype=np.bool_)


def affects(table: pa.Table) -> Array:
    """(rows, 2) of the valence and arousal asked for."""
    return np.column_stack([table["valence"].to_numpy(), table["arousal"].to_numpy()]).astype(np.float64)


def felt_affects(table: pa.Table) -> Array | None:
    """(rows, 2) of the affects that were read directly, NaN where none was; None for a table that has no such column.

    Rows that were written before there were such readers have none.
    """
    if "felt_valence" not in table.column_names or "felt_arousal" not in table.column_names:
        return None
    return np.column_stack([table["felt_valence"].to_numpy(), table["felt_arousal"].to_numpy()]).astype(np.float64)


def was_read(table: pa.Table) -> npt.NDArray[np.bool_]:
    """(rows,): whether a reader found anything, labels or an affect."""
    there = np.asarray(table["probabilities"].is_valid().to_numpy(), dtype=np.bool_)
    felt = felt_affects(table)
    return there if felt is None else np.asarray(there | ~np.isnan(felt).any(axis=1), dtype=np.bool_)


def probabilities(table: pa.Table, labels: Sequence[str] = LABELS) -> npt.NDArray[np.float32]:
    """(rows, labels) of the probabilities read, in the order of `labels`; NaN rows where nothing was read.

    In which order they were stored, the row says. OtherLabels where they are not of these labels: they would be placed
    where they do not belong.
    """
    column = table["probabilities"].combine_chunks()
    whole = np.full((table.num_rows, len(labels)), np.nan, dtype=np.float32)
    there = column.is_valid().to_numpy(zero_copy_only=False)
    orders, order_of = _orders(table)
    for number, stored in enumerate(orders):
        some = np.flatnonzero(there & (order_of == number))
        if len(some):
            whole[some] = _reordered(column.take(pa.array(some)), stored, labels)
    return whole


def _orders(table: pa.Table) -> tuple[list[tuple[str, ...]], npt.NDArray[np.integer[Any]]]:
    """Each order of labels that rows were read in, and (rows,) which of them is a row's."""
    if "labels" not in table.column_names:  # written before a reader could have labels of its own
        return [LABELS], np.zeros(table.num_rows, dtype=np.int64)
    joined = pc.binary_join(table["labels"].combine_chunks(), "\n").dictionary_encode(null_encoding="encode")
    orders = [LABELS if names is None else tuple(names.split("\n")) for names in joined.dictionary.to_pylist()]
    return orders, joined.indices.to_numpy()


def _reordered(read: pa.ListArray, stored: Sequence[str], labels: Sequence[str]) -> npt.NDArray[np.float32]:
    flat: npt.NDArray[np.float32] = read.flatten().to_numpy(zero_copy_only=False)
    places = {plain_label(label): place for place, label in enumerate(stored)}
    wanted = [plain_label(label) for label in labels]
    if sorted(wanted) != sorted(places) or len(flat) != len(read) * len(stored):
        theirs = "GoEmotions" if stored == LABELS else ", ".join(stored)
        raise OtherLabels(
            f"these rows were read with other labels ({theirs}) than the map's; give the reader's own map"
        )
    return flat.reshape(-1, len(stored))[:, [places[label] for label in wanted]]


def _top(reading: Reading) -> tuple[str | None, np.float32 | None]:
    """The label read, and how probable it is."""
    if reading.probabilities is None:
        return None, None
    top = int(reading.probabilities.argmax())
    return (reading.labels or LABELS)[top], reading.probabilities[top]


def _gain(table: pa.Table, more: pa.Table) -> pa.Table:
    arrays: Iterable[pa.ChunkedArray] = [*table.columns, *more.columns]
    return pa.Table.from_arrays(list(arrays), schema=pa.schema([*table.schema, *more.schema]))
