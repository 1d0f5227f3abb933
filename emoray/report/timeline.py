"""When each model was asked, and whether it stayed the same meanwhile.

Three witnesses: canaries (a few prompts asked again and again, at temperature 0), all cells by the rounds in which
they were asked (every block of the asking order has every prompt), and what the provider said that it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from emoray.analysis.drift import Change, Drift, change, drift
from emoray.analysis.drift import one_family as one_family_of
from emoray.run_folder import columns
from emoray.study.circumplex import Array
from emoray.study.experiment import BLOCK_REPETITIONS

SAID_COLUMNS = ("asked_at", "latency_s", "canary", "repetition", "returned_model", "system_fingerprint")
FELT_COLUMNS = ("asked_at", "canary", "repetition")  # and what names the prompt
_BINS = 120  # of the timeline
_MOST_ROUNDS = 60  # more are thinned: the tests permute rounds
_HOUR_S = 3600.0
_WHOLE = 0.8  # of the usual round's answers: a shorter last round is noisier than others, and so not exchangeable
_LASTING = 10  # answers before a change of fingerprint, and after it: fewer may be machines that take turns


@dataclass(frozen=True)
class Voice:
    """What a provider said it was, and from when to when (UTC)."""

    returned_model: str | None
    system_fingerprint: str | None
    answers: int
    first: str
    last: str


@dataclass(frozen=True)
class Timeline:
    """When one model was asked."""

    model: str
    began: str  # UTC
    ended: str
    bin_s: float
    answers: tuple[int, ...]  # per bin of the timeline, from `began`
    failures: tuple[int, ...]
    voices: tuple[Voice, ...]  # by their first answer
    canary_texts: Change | None  # None without enough rounds of canaries

    def apart(self, other: Timeline) -> bool:
        """Whether the two were asked at different times altogether; a model that was not asked was at no time."""
        asked = all(any(one.answers) or any(one.failures) for one in (self, other))
        return asked and (self.ended < other.began or other.ended < self.began)

    @property
    def voice_changed(self) -> bool:
        """Whether the returned model changed; fingerprints may alternate among a provider's machines."""
        return len({voice.returned_model for voice in self.voices}) > 1

    @property
    def fingerprint_changed(self) -> bool:
        """Whether there is a moment after which no fingerprint from before it came again."""
        signed = [voice for voice in self.voices if voice.system_fingerprint]
        return any(_parted(signed[:place], signed[place:]) for place in range(1, len(signed)))


@dataclass(frozen=True)
class Watched:
    """How the cosines of one model moved under one reader."""

    model: str
    reader: str
    canaries: Drift | None
    cells: Drift | None

    @property
    def drifts(self) -> tuple[tuple[str, Drift], ...]:
        """Those that there are, and by what they were seen: `canaries` or `cells`."""
        both = (("canaries", self.canaries), ("cells", self.cells))
        return tuple((by, found) for by, found in both if found is not None)


@dataclass
class Heard:
    """What one model's answers say of time, gathered batch by batch."""

    seconds: Counter[tuple[int, bool]] = field(default_factory=Counter)  # (second since 1970, answered): how many
    voices: dict[tuple[str | None, str | None], list[float]] = field(default_factory=dict)  # answers, first, last
    texts: dict[tuple[int, str], tuple[float, int]] = field(default_factory=dict)  # (round, prompt): hour, text's hash

    def add(self, batch: pa.Table) -> None:
        if batch.num_rows == 0:
            return
        answered = pc.equal(batch["outcome"], columns.ANSWERED).to_numpy()
        arrived = seconds(batch) + np.nan_to_num(batch["latency_s"].to_numpy())
        moments = np.stack([arrived.astype(np.int64), answered.astype(np.int64)], axis=1)
        for (second, good), n in zip(*np.unique(moments, axis=0, return_counts=True), strict=True):
            self.seconds[int(second), bool(good)] += int(n)
        self._voices(batch.filter(pa.array(answered)))
        self._texts(batch.filter(pc.and_(pa.array(answered), canaries(batch))))

    def _voices(self, answers: pa.Table) -> None:
        names = ["returned_model", "system_fingerprint"]
        when = answers.select(names).append_column("at", pa.array(seconds(answers)))
        found = when.group_by(names).aggregate([("at", "count"), ("at", "min"), ("at", "max")])
        for row in found.to_pylist():
            voice = (row["returned_model"], row["system_fingerprint"])
            n, first, last = self.voices.get(voice, [0, np.inf, -np.inf])
            self.voices[voice] = [n + row["at_count"], min(first, row["at_min"]), max(last, row["at_max"])]

    def _texts(self, answers: pa.Table) -> None:
        if answers.num_rows == 0:
            return
        hashes = pd.util.hash_array(answers["answer"].to_numpy().astype(object), categorize=False)
        columns = (answers["repetition"].to_pylist(), answers["prompt_sha"].to_pylist())
        for number, prompt, at, text in zip(*columns, seconds(answers) / _HOUR_S, hashes, strict=True):
            self.texts[number, prompt] = (float(at), int(text))


@dataclass
class Rounds:
    """One reader's cosines by round and prompt, gathered batch by batch: of the canaries, and of all cells."""

    width: int = BLOCK_REPETITIONS  # repetitions that make a round of cells
    canaries: dict[tuple[int, str], Array] = field(default_factory=dict)  # (round, prompt): cosine, hour, n as sums
    cells: dict[tuple[int, str], Array] = field(default_factory=dict)

    def add(self, scored: pa.Table) -> None:
        """Rows with a cosine; those that a reader could not read, or that are dropped, tell nothing."""
        scored = scored.filter(scored["cosine"].is_valid())
        if scored.num_rows == 0:
            return
        watching = canaries(scored).to_numpy(zero_copy_only=False)
        numbers = scored["repetition"].to_numpy() // np.where(watching, 1, self.width)
        columns = {
            "canary": watching,
            "round": numbers,
            "prompt": scored["prompt_sha"],
            "cosine": scored["cosine"],
            "hour": seconds(scored) / _HOUR_S,
        }
        sums = [("cosine", "sum"), ("hour", "sum"), ("cosine", "count")]
        for row in pa.table(columns).group_by(["canary", "round", "prompt"]).aggregate(sums).to_pylist():
            into = self.canaries if row["canary"] else self.cells
            more = np.array([row["cosine_sum"], row["hour_sum"], row["cosine_count"]])
            into[row["round"], row["prompt"]] = into.get((row["round"], row["prompt"]), np.zeros(3)) + more

    def watched(self, model: str, reader: str, rng: np.random.Generator) -> Watched:
        return Watched(model, reader, _drift(self.canaries, rng), _drift(self.cells, rng))


def round_width(repetitions: int) -> int:
    """Repetitions that make a round of cells: whole blocks, so that rounds are few enough to permute."""
    blocks = -(-repetitions // BLOCK_REPETITIONS)
    return BLOCK_REPETITIONS * -(-blocks // _MOST_ROUNDS)


def canaries(table: pa.Table) -> pa.Array:
    """(rows,) of bool: which are canaries; rows written before there were any are none."""
    if "canary" not in table.column_names:
        return pa.array(np.zeros(table.num_rows, dtype=np.bool_))
    return pc.fill_null(table["canary"].combine_chunks(), False)


def seconds(table: pa.Table) -> Array:
    """(rows,) of when each was asked, in seconds since 1970."""
    return np.asarray(table["asked_at"].cast(pa.int64()).to_numpy() / 1e6, dtype=np.float64)


def timeline(model: str, heard: Heard, rng: np.random.Generator) -> Timeline:
    """What was heard, for the report."""
    first = min((second for second, _ in heard.seconds), default=0)
    last = max((second for second, _ in heard.seconds), default=0)
    bin_s = max(1.0, (last - first + 1) / _BINS)
    bins = np.zeros((int((last - first) // bin_s) + 1, 2), dtype=np.int64)
    for (second, good), n in heard.seconds.items():
        bins[int((second - first) // bin_s), int(good)] += n
    voices = sorted(heard.voices.items(), key=lambda one: one[1][1])
    return Timeline(
        model=model,
        began=_moment(first),
        ended=_moment(last),
        bin_s=bin_s,
        answers=tuple(bins[:, 1].tolist()),
        failures=tuple(bins[:, 0].tolist()),
        voices=tuple(Voice(*who, int(n), _moment(begin), _moment(end)) for who, (n, begin, end) in voices),
        canary_texts=_change(heard.texts, rng),
    )


def one_family(
    nights: Sequence[Timeline], watched: Sequence[Watched]
) -> tuple[tuple[Timeline, ...], tuple[Watched, ...]]:
    """The same, with every p corrected for all the tests of drift: whoever looks at one looks at all."""
    drifts = [found for one in watched for _, found in one.drifts]
    texts = [one.canary_texts for one in nights if one.canary_texts]
    fair = one_family_of(drifts, texts)
    corrected = {id(one): better for one, better in zip(drifts, fair[0], strict=True)}
    changes = {id(one): better for one, better in zip(texts, fair[1], strict=True)}
    return (
        tuple(replace(one, canary_texts=changes.get(id(one.canary_texts))) for one in nights),
        tuple(
            replace(one, canaries=corrected.get(id(one.canaries)), cells=corrected.get(id(one.cells)))
            for one in watched
        ),
    )


def _drift(sums: Mapping[tuple[int, str], Array], rng: np.random.Generator) -> Drift | None:
    if not sums:
        return None
    numbers, prompts = (sorted(set(one)) for one in zip(*sums, strict=True))
    values = np.full((len(numbers), len(prompts)), np.nan)
    hours = np.zeros((len(numbers), 2))  # sum, n
    row_of = {number: row for row, number in enumerate(numbers)}
    column_of = {prompt: column for column, prompt in enumerate(prompts)}
    for (number, prompt), (cosine, hour, n) in sums.items():
        values[row_of[number], column_of[prompt]] = cosine / n
        hours[row_of[number]] += (hour, n)
    kept = _thinned(_whole(hours[:, 1]))
    at = hours[:, 0] / hours[:, 1]
    order = kept[np.argsort(at[kept], kind="stable")]
    return drift(values[order], at[order] - at[kept].min(), rng)


def _change(texts: Mapping[tuple[int, str], tuple[float, int]], rng: np.random.Generator) -> Change | None:
    """Of the rounds in which every canary was answered."""
    prompts = sorted({prompt for _, prompt in texts})
    numbers = sorted({number for number, _ in texts})
    whole = [number for number in numbers if all((number, prompt) in texts for prompt in prompts)]
    whole = [whole[place] for place in _thinned(len(whole))]
    if not whole:
        return None
    said = np.array([[texts[number, prompt][1] for prompt in prompts] for number in whole], dtype=np.uint64)
    at = np.array([np.mean([texts[number, prompt][0] for prompt in prompts]) for number in whole])
    order = np.argsort(at, kind="stable")
    said, at = said[order], at[order]
    return change((said[:, None, :] == said[None, :, :]).mean(axis=2), at - at[0], rng)


def _whole(answers: Array) -> int:
    """How many of the rounds count, by the answers in each: all, or all but a last one that was cut short."""
    return len(answers) - int(answers[-1] < _WHOLE * np.median(answers))


def _thinned(rounds: int) -> npt.NDArray[np.int64]:
    """Places of at most _MOST_ROUNDS rounds, evenly spread."""
    return np.unique(np.linspace(0, max(rounds - 1, 0), min(rounds, _MOST_ROUNDS)).round().astype(np.int64))


def _parted(before: Sequence[Voice], after: Sequence[Voice]) -> bool:
    """Whether all answers of some voices came before those of others, by other fingerprints, and enough of both."""
    prints = ({voice.system_fingerprint for voice in side} for side in (before, after))
    enough = min(sum(voice.answers for voice in side) for side in (before, after)) >= _LASTING
    return enough and set.isdisjoint(*prints) and max(one.last for one in before) < min(one.first for one in after)


def _moment(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat(timespec="seconds")
