"""A Hugging Face causal language model on this machine, through transformers: simple, on CPU or GPU.

Each row draws from its own generator, seeded by its cell, so what a row says does not depend on which rows stand
beside it; up to floating point, where a near-tie can fall either way in a batch of another shape.
"""

from __future__ import annotations

import hashlib
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

from emoray.hosts import Ask, HostDown, Reply
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
        self.revision = getattr(self._model.config, "_commit_hash", None) or entry.revision
        self._template = self._tokenizer.chat_template
        self._template_sha = hashlib.sha256(str(self._template).encode()).hexdigest()[:16] if self._template else None
        self._longest = int(getattr(self._model.config, "max_position_embeddings", 0) or 2**31)
        self._one_at_a_time = threading.Lock()

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Replies a batch at a time; only asks that are sampled alike share a batch."""
        alike: dict[tuple[Any, ...], list[tuple[Ask, list[int]]]] = {}
        for ask in asks:
            alike.setdefault((ask.temperature, ask.top_p, ask.max_tokens), []).append((ask, self._tokens(ask)))
        for group in alike.values():
            group.sort(key=lambda pair: len(pair[1]))  # equal lengths together: less padding
            for start in range(0, len(group), self.in_flight):
                yield from self._batch(group[start : start + self.in_flight])

    def close(self) -> None:
        del self._model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _tokens(self, ask: Ask) -> list[int]:
        if not self._template:
            return list(self._tokenizer.encode("\n\n".join(message["content"] for message in ask.chat)))
        return list(self._tokenizer.apply_chat_template(self._chat(ask), add_generation_prompt=True, return_dict=False))

    def _chat(self, ask: Ask) -> list[dict[str, str]]:
        """The messages; a system text is put before the user's for a model whose template knows no system role."""
        if "system" in str(self._template) and "System role not supported" not in str(self._template):
            return ask.chat
        return [{"role": "user", "content": "\n\n".join(message["content"] for message in ask.chat)}]

    def _batch(self, batch: Sequence[tuple[Ask, list[int]]]) -> Iterator[Reply]:
        fits = [(ask, tokens) for ask, tokens in batch if len(tokens) < self._longest]
        with self._one_at_a_time:
            began, clock = datetime.now(UTC), time.monotonic()
            outcomes = self._speak(fits) if fits else []
            took = time.monotonic() - clock
        for (ask, _), outcome in zip(fits, outcomes, strict=True):
            yield Reply(ask.key, outcome, began, took, chat_template_sha=self._template_sha)
        for ask, tokens in batch:
            if len(tokens) >= self._longest:
                detail = f"the prompt has {len(tokens)} tokens, the model reads {self._longest}"
                yield Reply(ask.key, Failure(FailureKind.CONTEXT_LENGTH, detail), began, 0.0)

    @torch.inference_mode()
    def _speak(self, batch: Sequence[tuple[Ask, list[int]]]) -> list[Outcome]:
        width = max(len(tokens) for _, tokens in batch)
        ends = self._ends()
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else ends[0]
        ids = torch.tensor([[pad] * (width - len(tokens)) + tokens for _, tokens in batch], device=self._device)
        mask = torch.tensor([[0] * (width - len(t)) + [1] * len(t) for _, t in batch], device=self._device)
        first = batch[0][0]
        room = self._longest - width
        config = GenerationConfig(
            do_sample=False,  # the draw is ours: see _Draw
            max_new_tokens=max(1, room if first.max_tokens is None else min(first.max_tokens, room)),
            pad_token_id=pad,
            eos_token_id=ends,
        )
        draw = LogitsProcessorList([_Draw([ask for ask, _ in batch], self._device)])
        out = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=draw,
            use_model_defaults=False,
        )
        said = out[:, width:].tolist()
        return [self._outcome(row, len(tokens), ends) for row, (_, tokens) in zip(said, batch, strict=True)]

    def _outcome(self, said: list[int], prompt_tokens: int, ends: list[int]) -> Outcome:
        end = next((i for i, token in enumerate(said) if token in ends), None)
        text = self._tokenizer.decode(said[:end], skip_special_tokens=True).strip()
        if not text:
            return Failure(FailureKind.EMPTY, "the model ended its turn without a word")
        return Answer(text, "length" if end is None else "stop", prompt_tokens, len(said) if end is None else end + 1)

    def _ends(self) -> list[int]:
        """The tokens that end a turn: a family may have several (Llama 3's <|eot_id|> beside <|end_of_text|>)."""
        configured = self._model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return [end for end in [*ends, self._tokenizer.eos_token_id] if end is not None] or [-1]


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's next token from its own generator, by the Gumbel trick: the highest of logit + noise.

    transformers' own sampling draws all rows from one global generator, so that a row would depend on its neighbours.
    """

    def __init__(self, asks: Sequence[Ask], device: torch.device) -> None:
        self._greedy = asks[0].temperature == 0
        self._temperature = 1.0 if asks[0].temperature is None else asks[0].temperature
        self._top_p = asks[0].top_p
        self._device = device
        # on the CPU whatever the device is, so that a seed means the same noise everywhere
        self._generators = [torch.Generator("cpu").manual_seed(ask.seed) for ask in asks]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, vocabulary) logits -> the same with noise, masked outside the nucleus."""
        if self._greedy:
            return scores
        scores = scores.float() / self._temperature
        if self._top_p is not None and self._top_p < 1:
            scores = _nucleus(scores, self._top_p)
        noise = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=g) for g in self._generators])
        return scores - noise.clamp_min_(1e-30).log_().to(self._device)


def _nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keeps the fewest tokens whose probabilities reach top_p together."""
    ranked, order = scores.sort(dim=-1, descending=True)
    before = ranked.softmax(dim=-1).cumsum(dim=-1) - ranked.softmax(dim=-1)
    return scores.masked_fill((before >= top_p).scatter(1, order, before >= top_p), -math.inf)


def _load(entry: Local) -> tuple[Any, Any]:
    device = "cuda" if entry.gpus and torch.cuda.is_available() else "cpu"
    auto = "bfloat16" if device == "cuda" else "float32"  # half precision is several times slower on most CPUs
    dtype = getattr(torch, auto if entry.dtype == "auto" else entry.dtype)
    options = {"revision": entry.revision, "trust_remote_code": entry.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(entry.id, **options)
        model = AutoModelForCausalLM.from_pretrained(entry.id, dtype=dtype, **options)
    except (OSError, ValueError) as wrong:
        reason = str(wrong).strip().splitlines()[0]
        raise HostDown(f"model {entry.name!r} ({entry.id}) cannot be loaded: {reason}") from wrong
    return tokenizer, model.to(device).eval()
