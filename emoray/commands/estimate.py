"""What a run will cost before it starts: tokens and money per model, and what was assumed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from emoray.commands.progress import duration
from emoray.hosts.request_loop import MOST_TOKENS
from emoray.plurals import count
from emoray.readers.judge import rubric, sampling_of
from emoray.spec.accounts import Price
from emoray.spec.models import Hosted
from emoray.spec.prices import price_of, shipped
from emoray.spec.readers import JudgeReader
from emoray.study.prompts import Prompt

CHARS_PER_TOKEN = 4.0  # English text; a real tokenizer would be fetched, and the plan depend on the network
PER_MESSAGE, PER_REQUEST = 4, 3  # tokens of OpenAI's chat format around the texts
LIKELY_SHARE = 0.5  # of max_tokens, where no answer was seen yet
JUDGED = 30  # tokens of a judge's JSON
MOST_UNASKED = 1_000_000  # cells that a run asks without being told twice
_CARRIED_S = 6e-5  # per cell, on two cores (`benchmark.py stream`): the models' own time comes on top
_ANSWER_BYTES, _ROW_BYTES = 190, 300  # of a short answer, and of its row for one reader (`benchmark.py growth`)
_PACKED = 0.5  # of a longer answer's text, on disk
_COUNTED = f"prompt tokens: {CHARS_PER_TOKEN:g} characters each"


@dataclass(frozen=True)
class Estimate:
    """Of one model's owed cells."""

    model: str
    cells: int
    prompt_tokens: int
    completion_tokens: int  # expected
    most_completion_tokens: int  # if every answer is as long as max_tokens allows
    usd: float | None  # expected; None: the price is unknown
    most_usd: float | None
    assumed: tuple[str, ...]  # sentences

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def money(self) -> str:
        """About how many tokens, and what they cost, for people."""
        usd = "price unknown" if self.usd is None else f"about ${self.usd:,.2f}"
        most = "" if self.most_usd is None else f" (at most ${self.most_usd:,.2f})"
        return f"about {count(self.tokens, 'token')}, {usd}{most}"


@dataclass(frozen=True)
class Size:
    """What so many cells take, whoever answers."""

    cells: int
    at_least_s: float  # of carrying them, or under the accounts' limits
    disk_bytes: float  # about
    usd: float  # about, as far as prices are known
    unpriced: tuple[str, ...]  # models

    @property
    def is_very_large(self) -> bool:
        return self.cells > MOST_UNASKED

    def text(self) -> str:
        """`1,200,000 cells: at least 1 h 12 min beside the models' own time, about 0.6 GB on disk, about $3.00`"""
        but = f" and what {', '.join(self.unpriced)} cost, whose price is unknown" if self.unpriced else ""
        money = f"about ${self.usd:,.2f}{but}" if self.usd or but else "no money"
        time = f"at least {duration(self.at_least_s)} beside the models' own time"
        return f"{count(self.cells, 'cell')}: {time}, about {_bytes(self.disk_bytes)} on disk, {money}"


def _bytes(n: float) -> str:
    """1.2 TB, 34 GB, 5.6 MB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n / 1e6:.3g} MB"


def size(cells: int, *, answer_tokens: float, readers: int, limits_s: float, costs: Sequence[Estimate]) -> Size:
    """Of cells whose answers have a mean length in tokens; `limits_s` are the seconds of accounts' limits alone."""
    text = answer_tokens * CHARS_PER_TOKEN * _PACKED
    usd, unpriced = whole(costs)
    disk = cells * (_ANSWER_BYTES + text + readers * (_ROW_BYTES + text))
    return Size(cells, max(limits_s, cells * _CARRIED_S), disk, usd, unpriced)


def estimate(
    entry: Hosted, prompts: Iterable[Prompt], *, max_tokens: int | None, seen_completion_tokens: float | None = None
) -> Estimate:
    """Tokens and US dollars of asking these prompts.

    `max_tokens` is the cells' own; `seen_completion_tokens` the mean of answers that the run has already.
    """
    totals: dict[str, float] = {}  # equal prompts (repetitions) are counted once
    cells, prompt_tokens = 0, 0.0
    for prompt in prompts:
        if prompt.sha not in totals:
            totals[prompt.sha] = _prompt_tokens(prompt.messages)
        cells += 1
        prompt_tokens += totals[prompt.sha]
    longest = max_tokens or MOST_TOKENS
    each, why = _completion(max_tokens, seen_completion_tokens)
    price = price_of(entry)
    return Estimate(
        entry.name,
        cells,
        round(prompt_tokens),
        round(cells * each),
        cells * longest,
        _usd(price, prompt_tokens, cells * each),
        _usd(price, prompt_tokens, cells * longest),
        (_COUNTED, why, _price_sentence(entry, price)),
    )


def estimate_judge(judge: JudgeReader, readings: int, *, answer_tokens: float) -> Estimate:
    """Tokens and US dollars of a hosted judge that reads so many answers, whose mean length is `answer_tokens`."""
    entry, told = judge.model, rubric(judge)
    assert isinstance(entry, Hosted)
    each = PER_REQUEST + 2 * PER_MESSAGE + _tokens(told.system + told.user) + answer_tokens
    price = price_of(entry)
    longest = sampling_of(judge).max_tokens or MOST_TOKENS
    likely, most = readings * min(JUDGED, longest), readings * longest
    return Estimate(
        judge.name,
        readings,
        round(readings * each),
        likely,
        most,
        _usd(price, readings * each, likely),
        _usd(price, readings * each, most),
        (
            _COUNTED,
            f"a judge reads answers of {answer_tokens:.0f} tokens and says {min(JUDGED, longest)} of its own",
            _price_sentence(entry, price),
        ),
    )


def _prompt_tokens(messages: str) -> float:
    texts = [message["content"] for message in json.loads(messages)]
    return PER_REQUEST + sum(PER_MESSAGE + _tokens(text) for text in texts)


def _tokens(text: str) -> float:
    return len(text) / CHARS_PER_TOKEN


def likely_tokens(max_tokens: int | None) -> float:
    """The length of an answer where none was seen yet."""
    return (max_tokens or MOST_TOKENS) * LIKELY_SHARE


def _completion(max_tokens: int | None, seen: float | None) -> tuple[float, str]:
    if seen is not None:
        return seen, f"completion tokens: {seen:.0f} each, the mean of the answers so far"
    limit = f"max_tokens ({max_tokens})" if max_tokens else f"an assumed {MOST_TOKENS}, as max_tokens is not set"
    return likely_tokens(max_tokens), f"completion tokens: {LIKELY_SHARE:.0%} of {limit}"


def _usd(price: Price | None, prompt_tokens: float, completion_tokens: float) -> float | None:
    if price is None:
        return None
    return (prompt_tokens * price.input + completion_tokens * price.output) / 1e6


def _price_sentence(entry: Hosted, price: Price | None) -> str:
    if price is None:
        return f"the price of {entry.id} is unknown, so its money is not counted; give usd_per_million"
    per = f"{price.input:g} USD per million tokens in, {price.output:g} out"
    if entry.usd_per_million is not None:
        return f"price of {entry.id}: {per}, from the spec"
    half = ", half of the listed" if entry.host == "batch_api" else ""
    return f"price of {entry.id}: {per}{half} (table of {shipped().as_of})"


def whole(estimates: Sequence[Estimate]) -> tuple[float, tuple[str, ...]]:
    """The sum of what is known in US dollars, and the models whose price is unknown."""
    return sum(e.usd or 0.0 for e in estimates), tuple(e.model for e in estimates if e.usd is None)
