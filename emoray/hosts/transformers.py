"""A Hugging Face causal language model on this machine, through transformers: simple, on CPU or GPU.

Each row draws from its own generator, seeded by its cell, so what a row says does not depend on which rows stand
beside it; up to floating point, where a near-tie can fall either way in a batch of another shape.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from emoray.hosts import Ask, HostDown, Reply, hub
from emoray.hosts.chat_template import ChatTemplate, turn_ends
from emoray.hosts.reasoning import Wording, no_answer, tags_of
from emoray.spec import Local
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome


class TransformersHost:
    """One model, one batch at a time."""

    name = "transformers"

    def __init__(self, entry: Local) -> None:
        """Loads the model; HostDown where that cannot be done."""
        torch.set_num_threads(max(1, math.ceil(entry.cpus)))
        self.in_flight = entry.batch_size
        self.engine = f"transformers {transformers.__version__}"
        self._tokenizer, self._model = _load(entry)
        self._device = self._model.device
        self._ends = _ends(self._tokenizer, self._model)
        # what the spec says is all that shapes an answer: nothing is inherited, such as a repetition penalty
        self._model.generation_config = GenerationConfig()
        self.revision = getattr(self._model.config, "_commit_hash", None) or entry.revision
        self._template = ChatTemplate(self._tokenizer)
        self._tags = tags_of(entry.reasoning_tags)
        self._wording = Wording(self._tokenizer, self._tags)
        self._longest = int(getattr(self._model.config, "max_position_embeddings", 0) or 2**31)
        self._one_at_a_time = threading.Lock()

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Replies a batch at a time; only asks that are sampled alike, and may answer as long, share a batch."""
        alike: dict[tuple[Any, ...], list[tuple[Ask, list[int]]]] = {}
        for ask in asks:
            tokens = self._template.tokens(ask.chat)
            room = self._longest - len(tokens)
            if room < 1:
                yield self._too_long(ask, len(tokens))
                continue
            most = room if ask.max_tokens is None else min(ask.max_tokens, room)
            alike.setdefault((ask.temperature, ask.top_p, most), []).append((ask, tokens))
        for (_, _, most), group in alike.items():
            group.sort(key=lambda pair: len(pair[1]))  # equal lengths together: less padding
            for start in range(0, len(group), self.in_flight):
                yield from self._batch(group[start : start + self.in_flight], most)

    def close(self) -> None:
        del self._model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _too_long(self, ask: Ask, tokens: int) -> Reply:
        detail = f"the prompt has {tokens} tokens, the model reads {self._longest} together with its answer"
        outcome = Failure(FailureKind.CONTEXT_LENGTH, detail)
        return Reply(ask.key, outcome, datetime.now(UTC), 0.0, chat_template_sha=self._template.sha)

    def _batch(self, batch: Sequence[tuple[Ask, list[int]]], most: int) -> Iterator[Reply]:
        with self._one_at_a_time:
            began, clock = datetime.now(UTC), time.monotonic()
            outcomes = self._speak(batch, most)
            took = time.monotonic() - clock
        for (ask, _), outcome in zip(batch, outcomes, strict=True):
            yield Reply(ask.key, outcome, began, took, chat_template_sha=self._template.sha)

    @torch.inference_mode()
    def _speak(self, batch: Sequence[tuple[Ask, list[int]]], most: int) -> list[Outcome]:
        width = max(len(tokens) for _, tokens in batch)
        pad = self._tokenizer.pad_token_id
        pad = next(iter(self._ends), 0) if pad is None else pad
        ids = torch.tensor([[pad] * (width - len(tokens)) + tokens for _, tokens in batch], device=self._device)
        mask = torch.tensor([[0] * (width - len(t)) + [1] * len(t) for _, t in batch], device=self._device)
        config = GenerationConfig(
            do_sample=False,  # the draw is ours: see _Draw
            max_new_tokens=most,
            pad_token_id=pad,
            eos_token_id=self._ends or None,
        )
        draw = LogitsProcessorList([_Draw([ask for ask, _ in batch], self._device, self._model.generation_config)])
        out = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=draw,
        )
        said = out[:, width:].tolist()
        return [self._outcome(row, len(tokens)) for row, (_, tokens) in zip(said, batch, strict=True)]

    def _outcome(self, said: list[int], prompt_tokens: int) -> Outcome:
        end = next((i for i, token in enumerate(said) if token in self._ends), None)
        reasoning, text = self._tags.split(self._wording.text(said[:end]).strip())
        word = "length" if end is None else "stop"
        if not text:
            return no_answer(reasoning, cut=end is None, word=word)
        tokens = len(said) if end is None else end + 1
        return Answer(text, word, prompt_tokens, tokens, reasoning=reasoning, finish_reason_raw=word)


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's next token from its own generator, by the Gumbel trick: the highest of logit + noise.

    transformers' own sampling draws all rows from one global generator, so that a row would depend on its neighbours.
    """

    def __init__(self, asks: Sequence[Ask], device: torch.device, defaults: GenerationConfig) -> None:
        """`defaults` are the model's own, for what the asks leave open."""
        self._greedy = asks[0].temperature == 0
        self._temperature = _first(asks[0].temperature, defaults.temperature, 1.0)
        self._top_p = _first(asks[0].top_p, defaults.top_p, 1.0)
        self._device = device
        # on the CPU whatever the device is, so that a seed means the same noise everywhere
        self._generators = [torch.Generator("cpu").manual_seed(ask.seed) for ask in asks]

    def __call__(self, _input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, vocabulary) logits -> the same with noise, masked outside the nucleus."""
        if self._greedy:
            return scores
        scores = scores.float() / self._temperature
        if self._top_p < 1:
            scores = _nucleus(scores, self._top_p)
        noise = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=g) for g in self._generators])
        return scores - noise.clamp_min_(1e-30).log_().to(self._device)


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keeps the fewest tokens whose probabilities reach top_p together."""
    ranked, order = scores.sort(dim=-1, descending=True)
    before = ranked.softmax(dim=-1).cumsum(dim=-1) - ranked.softmax(dim=-1)
    return scores.masked_fill((before >= top_p).scatter(1, order, before >= top_p), -math.inf)


def _ends(tokenizer: Any, model: Any) -> list[int]:
    """The tokens that end a turn: a family may have several (Llama 3's <|eot_id|> beside <|end_of_text|>)."""
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    known = [*ends, tokenizer.eos_token_id, *turn_ends(tokenizer)]
    return list(dict.fromkeys(end for end in known if end is not None))


def _load(entry: Local) -> tuple[Any, Any]:
    device = "cuda" if entry.gpus and torch.cuda.is_available() else "cpu"
    auto = "bfloat16" if device == "cuda" else "float32"  # half precision is several times slower on most CPUs
    dtype = getattr(torch, auto if entry.dtype == "auto" else entry.dtype)
    options = {"revision": entry.revision, "trust_remote_code": entry.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(entry.id, **options)
        model = AutoModelForCausalLM.from_pretrained(entry.id, dtype=dtype, **options)
    except Exception as wrong:  # somebody's files, somebody's code: a cut file, a missing library, too little memory
        reason = next(iter(str(wrong).strip().splitlines()), type(wrong).__name__).rstrip(".")
        hint = "give a hub id, or a folder with config.json, the tokenizer and the weights"
        reason, hint = hub.told(wrong) or (reason, hint)
        raise HostDown(f"model {entry.name!r} ({entry.id}) cannot be loaded: {reason}; {hint}") from wrong
    return tokenizer, model.to(device).eval()
