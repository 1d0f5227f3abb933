"""What every column means, in which unit and range; `docs/columns.md` is this file's table, by
`python -m emoray.notebook.dictionary`.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from emoray.notebook import frames
from emoray.run_folder import columns


class Meaning(NamedTuple):
    """Of one column."""

    unit: str  # "" of texts and flags
    range: str  # "" where any value may stand
    text: str


_DEG, _COSINE, _PLANE = "degrees, counter-clockwise from pleasure", "−1 … 1", "−1 … 1"
MEANINGS: dict[str, Meaning] = {
    "key": Meaning("", "32 hex digits", "names a cell by all that decides its answer; an answer and its rows share it"),
    "model": Meaning("", "", "who was asked, by its name in the spec"),
    "template": Meaning("", "", "the form of the prompt, by its name in the spec"),
    "state_deg": Meaning(_DEG, "0 … < 360", "the direction of the state that was **asked for**"),
    "intensity": Meaning("1", "0 … 1", "how strongly it was **asked for**: its distance from the origin"),
    "valence": Meaning("1", _PLANE, "the valence that was **asked for**: intensity × cos(state_deg); no reading"),
    "arousal": Meaning("1", _PLANE, "the arousal that was **asked for**: intensity × sin(state_deg); no reading"),
    "state_term": Meaning("", "one of Russell's 28", "the term nearest to state_deg, for people alone"),
    "question_id": Meaning("", "", "the question, by its id; intervals are over these"),
    "question": Meaning("", "", "its text"),
    "repetition": Meaning("", "0, 1, …", "which of the equal asks it is"),
    "seed": Meaning("", "0 … 2³¹ − 1", "of the sampling; from the key"),
    "temperature": Meaning("1", "≥ 0", "of the sampling; null: left to the provider"),
    "top_p": Meaning("1", "0 … 1", "of the sampling; null: left to the provider"),
    "max_tokens": Meaning("tokens", "≥ 1", "the most that an answer may have"),
    "prompt": Meaning("", "JSON", "the messages that were sent"),
    "prompt_sha": Meaning("", "hex digits", "equal where the prompt is equal"),
    "canary": Meaning("", "", "asked through the night to watch the model; counts in no mean"),
    "outcome": Meaning("", "`answer`, or the kind of a failure", "what became of the ask"),
    "answer": Meaning("", "", "the text, as it came; null of a failure"),
    "refused": Meaning("", "", "declines the task, by its words or the provider's mark; null of a failure"),
    "role_break": Meaning("", "", "speaks as a machine and not in its role; null of a failure"),
    "flagged_by": Meaning("", "", "the detector of these two; null: the first one"),
    "finish_reason": Meaning("", "`stop`, `length`", "how it ended; `length`: max_tokens cut it"),
    "finish_reason_raw": Meaning("", "", "the same in the provider's word; of failures too"),
    "error": Meaning("", "", "what was said of a failure"),
    "attempts": Meaning("requests", "≥ 1", "that this ask took"),
    "prompt_tokens": Meaning("tokens", "≥ 0", "by the provider's or the engine's count"),
    "completion_tokens": Meaning("tokens", "≥ 0", "the same of the answer, with its reasoning"),
    "cost_usd": Meaning("US dollars", "≥ 0", "of the answer; the most that it may be, where it is not said"),
    "latency_s": Meaning("seconds", "≥ 0", "from the request to the answer"),
    "asked_at": Meaning("UTC", "", "when"),
    "host": Meaning("", "", "the kind of place where the model answered"),
    "model_revision": Meaning("", "", "of a model's files"),
    "engine": Meaning("", "", "what ran it, with its version"),
    "chat_template_sha": Meaning("", "hex digits", "of the template by which messages became a text"),
    "returned_model": Meaning("", "", "which model the provider says that it was"),
    "system_fingerprint": Meaning("", "", "what the provider says of its set-up"),
    "reasoning": Meaning("", "", "what the model thought aloud, apart from its answer; no reader sees it"),
    "reader": Meaning("", "", "who read the answer, by its name in the spec"),
    "reader_revision": Meaning("", "", "of its files, or of the judge's model"),
    "label": Meaning("", "the reader's labels", "the most probable label; null of a reader that knows none"),
    "probability": Meaning("1", "0 … 1", "of that label"),
    "probabilities": Meaning("1", "0 … 1", "of all labels; `rows(probabilities=True)` has them as `p_<label>`"),
    "truncated": Meaning("", "", "the answer was longer than the reader can read, and cut"),
    "read_error": Meaning("", "", "why it could not be read: a kind, a colon, what was said"),
    "labels": Meaning("", "", "whose probabilities they are; null: the 28 of GoEmotions"),
    "felt_valence": Meaning("1", _PLANE, "the valence that a **regressor or judge gave itself**; null of a classifier"),
    "felt_arousal": Meaning("1", _PLANE, "the arousal that a **regressor or judge gave itself**; null of a classifier"),
    "confidence": Meaning("1", "0 … 1", "how sure a judge says that it is"),
    "read_cost_usd": Meaning("US dollars", "≥ 0", "of this reading; `cost_usd` is the answer's"),
    "read_valence": Meaning(
        "1", _PLANE, "the valence that was **read**, and that `cosine` is of: the place of the top label on the label "
        "map, or felt_valence; null of a label without a place"
    ),
    "read_arousal": Meaning("1", _PLANE, "the arousal that was **read**: as read_valence"),
    "cosine": Meaning(
        "1", _COSINE, "**the score**: of the angle between what was asked for and what was read, by the rules "
        "for neutral readings and refusals; null where it counts in no mean"
    ),
    "angle_error_deg": Meaning("degrees", "−180 < … ≤ 180", "the turn from asked to read; null without a direction"),
    "expected_valence": Meaning("1", _PLANE, "the mean valence of the placed labels, by their probabilities"),
    "expected_arousal": Meaning("1", _PLANE, "the mean arousal of the placed labels, by their probabilities"),
    "expected_cosine": Meaning("1", _COSINE, "the mean over all labels of their cosines, by their probabilities"),
    "direction_cosine": Meaning("1", _COSINE, "the cosine with the mean place (expected_valence, expected_arousal)"),
    "resultant_valence": Meaning("1", _PLANE, "the mean of the labels' directions, by their probabilities"),
    "resultant_arousal": Meaning("1", _PLANE, "the same; its product with the direction asked is expected_cosine"),
    "scored_by": Meaning("", "", "label map, rule for neutral readings, rule for refusals, digest of all places"),
    "counted": Meaning(
        "", "", "the mean cosine of this model by this reader is made of it: an answer of the headline's condition "
        "that has a score and is no canary"
    ),
    "weight": Meaning(
        "1", "1 in sum", "what it makes of that mean: the sum of weight × cosine of a model by a reader; "
        "0 where not counted"
    ),
}  # fmt: skip
_SECTIONS = {
    "Asked": columns.ASKED.names,
    "Answered": columns.ANSWERS.names[len(columns.ASKED) :],
    "Read and scored": columns.SCORED.names[len(columns.ANSWERS) :],
    "Of `run.rows()` alone": frames.SCHEMA.names[len(columns.SCORED) :],
}
_HEAD = """# Columns

By `python -m emoray.notebook.dictionary` (`make columns`), from the schema that rows are written by. `RUN/answers` has
the first two sections, `RUN/rows` the first three; `run.answers()` and `run.rows()` of `emoray.load(RUN)` have the
same, the latter without the lists `probabilities` and `labels`, scored as the report scores them, and with the last
section. Null means that there is no value, never 0.

**Three valences, three arousals.** `valence` is what the model was *asked* for. `felt_valence` is what a reader without
labels (a regressor, a judge) *gave as a number*. `read_valence` is what the score takes as *read*, of every kind of
reader. To see what a model expressed, take `read_valence`.
"""


def of(name: str) -> tuple[str, str, str, str]:
    """Type, unit, range and meaning of a column; KeyError for an unknown one."""
    return _said_type(frames.SCHEMA.field(name).type), *MEANINGS[name]


def markdown() -> str:
    """`docs/columns.md`."""
    return "\n".join([_HEAD, *(_section(title, names) for title, names in _SECTIONS.items())])


def _section(title: str, names: list[str]) -> str:
    lines = [f"| `{name}` | {' | '.join(part or '–' for part in of(name))} |" for name in names]
    head = ["| column | type | unit | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *head, *lines, ""])


def _said_type(kind: pa.DataType) -> str:
    return "time" if pa.types.is_timestamp(kind) else str(kind)


if __name__ == "__main__":
    print(markdown(), end="")
