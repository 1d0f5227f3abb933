"""A Hugging Face causal language model on this machine, through transformers: simple, on CPU or GPU.

Each row draws from its own generator, seeded by its cell, so what a row says does not depend on which rows stand
beside it; up to floating point, where a near-tie can fall either way in a batch of another shape.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import torch
import transformers
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from emoray.hosts.chat_template import BadChat, ChatTemplate
from emoray.hosts.checkpoint import load
from emoray.hosts.company import STEPS, Company, Thought, looks_ahead, tried
from emoray.hosts.context import longest, lowered
from emoray.hosts.protocol import Ask, HostDown, Reply
from emoray.hosts.reasoning import Wording, no_answer, tags_of, unsettled
from emoray.reasons import reason_of
from emoray.spec.models import Local
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome
from emoray.study.sampling import NEUTRAL, BadDefaults, Settings, drawn, left_out, own

_ENDLESS = 2**31  # tokens, of a model whose context nothing ends
_TRIAL = [{"role": "user", "content": "Would you mind telling me what it is like?"}]


class TransformersHost:
    """One model, one batch at a time."""

    name = "transformers"

    def __init__(self, entry: Local, *, day: date | None = None) -> None:
        """Loads the model; HostDown where that cannot be done. `day` is today to its chat template."""
        torch.set_num_threads(max(1, math.ceil(entry.cpus)))
        self.in_flight = entry.batch_size
        self.engine = f"transformers {transformers.__version__}"
        self._tokenizer, self._model, self.revision, left_over = load(entry)
        self._device = self._model.device
        self._template = _template(entry, self._tokenizer, day)
        self._ends = _ends(self._tokenizer, self._model, self._template)
        self._pad = _padding(self._tokenizer, self._model)
        self.defaults = _defaults(entry, self._model.generation_config)
        taken = entry.sampling_defaults == "model"
        unheard = left_out(self._model.generation_config.to_diff_dict()) if taken else []
        self._model.generation_config = GenerationConfig()  # `generate` would take from it what is not asked
        self._tags = tags_of(entry.reasoning_tags)
        self._wording = Wording(self._tokenizer, self._tags)
        self._longest = longest(self._model, self._tokenizer) or _ENDLESS
        self._one_at_a_time = threading.Lock()
        self._company = self._tried(entry)
        self.notes = [
            *unsettled(entry, self._template.text), *self._template.notes, *_notes(self._company), *unheard,
            *lowered(self._model.config), *left_over,
        ]  # fmt: skip

    def generate(self, asks: Iterable[Ask]) -> Iterator[Reply]:
        """Replies a batch at a time; only asks that are sampled alike, and may answer as long, share a batch."""
        alike: dict[tuple[Any, ...], list[tuple[Ask, list[int]]]] = {}
        for ask in asks:
            tokens = self._prompt(ask)
            if isinstance(tokens, Failure):
                yield Reply(ask.key, tokens, datetime.now(UTC), 0.0, chat_template_sha=self._template.sha)
                continue
            room = self._longest - len(tokens)
            settings = drawn(ask, self.defaults)
            most = min(int(settings["max_tokens"] or room), room)
            length = None if self._company is Company.ANY else len(tokens)
            group_of = (settings["temperature"], settings["top_p"], most, length)
            alike.setdefault(group_of, []).append((ask, tokens))
        together = 1 if self._company is Company.NONE else self.in_flight
        for (_, _, most, _), group in alike.items():
            group.sort(key=lambda pair: len(pair[1]))  # equal lengths together: less padding
            for start in range(0, len(group), together):
                yield from self._batch(group[start : start + together], most)

    def close(self) -> None:
        del self._model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _tried(self, entry: Local) -> Company:
        """How its prompts may stand together; HostDown where it cannot answer one."""
        try:
            return self._trial(entry)
        except HostDown:
            raise
        except Exception as wrong:  # somebody's code, or a vocabulary that is not the tokenizer's
            raise HostDown(f"model {entry.name!r} ({entry.id}) cannot answer a question: {reason_of(wrong)}") from wrong

    def _trial(self, entry: Local) -> Company:
        prompt = self._template.tokens(_TRIAL)[: self._longest - STEPS]
        if len(prompt) < 2:
            return Company.ALIKE
        self._check_vocabulary(entry, prompt)
        company = tried(self._thoughts, prompt[len(prompt) // 2 :], prompt, self._model.dtype)
        self._check_direction(entry, prompt)
        return company

    def _check_vocabulary(self, entry: Local, tokens: Sequence[int]) -> None:
        known = _vocabulary(self._model)
        if max(tokens) >= known:
            raise HostDown(
                f"model {entry.name!r} ({entry.id}): its tokenizer writes token {max(tokens)} and the model knows "
                f"{known}; give the tokenizer that belongs to its weights"
            )

    def _check_direction(self, entry: Local, tokens: Sequence[int]) -> None:
        quantised = getattr(self._model, "hf_quantizer", None) is not None
        if looks_ahead(self._read, tokens, self._model.dtype, quantised=quantised):
            raise HostDown(
                f"model {entry.name!r} ({entry.id}) reads a text in both directions ({type(self._model).__name__}), "
                "and cannot go on with one; give a causal model"
            )

    @torch.inference_mode()
    def _read(self, tokens: Sequence[int]) -> torch.Tensor:
        """(tokens, vocabulary) logits of a text."""
        logits: torch.Tensor = self._model(input_ids=torch.tensor([list(tokens)], device=self._device)).logits
        return logits[0].float()

    def _thoughts(self, prompts: Sequence[list[int]]) -> list[Thought]:
        config = GenerationConfig(do_sample=False, max_new_tokens=STEPS, pad_token_id=self._pad)
        said = self._generated(prompts, config, return_dict_in_generate=True, output_logits=True)
        logits = torch.stack(said.logits, dim=1).float()
        return [Thought(*row) for row in zip(said.sequences[:, -STEPS:], logits, strict=True)]

    def _prompt(self, ask: Ask) -> list[int] | Failure:
        try:
            tokens = self._template.tokens(ask.chat)
        except BadChat as wrong:
            return Failure(FailureKind.BAD_REQUEST, str(wrong))
        if len(tokens) >= self._longest:
            detail = f"the prompt has {len(tokens)} tokens, the model reads {self._longest} together with its answer"
            return Failure(FailureKind.CONTEXT_LENGTH, detail)
        if max(tokens, default=0) >= (
            known := _vocabulary(self._model)
        ):  # on a GPU it would be the last that the process does
            detail = f"the prompt has token {max(tokens)}, and the model knows {known}: its tokenizer is another's"
            return Failure(FailureKind.BAD_REQUEST, detail)
        return tokens

    def _batch(self, batch: Sequence[tuple[Ask, list[int]]], most: int) -> Iterator[Reply]:
        with self._one_at_a_time:
            began, clock = datetime.now(UTC), time.monotonic()
            outcomes = self._speak(batch, most)
            took = time.monotonic() - clock
        for (ask, _), outcome in zip(batch, outcomes, strict=True):
            yield Reply(ask.key, outcome, began, took, chat_template_sha=self._template.sha)

    def _speak(self, batch: Sequence[tuple[Ask, list[int]]], most: int) -> list[Outcome]:
        asks, prompts = zip(*batch, strict=True)
        config = GenerationConfig(
            do_sample=False,  # the draw is ours: see _Draw
            max_new_tokens=most,
            pad_token_id=self._pad,
            eos_token_id=self._ends or None,
        )
        draw = LogitsProcessorList([_Draw(asks, prompts, self._device, drawn(asks[0], self.defaults))])
        said = self._generated(prompts, config, logits_processor=draw)[:, max(map(len, prompts)) :].tolist()
        return [self._outcome(row, prompt) for row, prompt in zip(said, prompts, strict=True)]

    @torch.inference_mode()
    def _generated(self, prompts: Sequence[list[int]], config: GenerationConfig, **how: Any) -> Any:
        """What `generate` returns for prompts that are filled up on their left."""
        width = max(map(len, prompts))
        ids = torch.tensor([[self._pad] * (width - len(p)) + p for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        return self._model.generate(input_ids=ids, attention_mask=mask, generation_config=config, **how)

    def _outcome(self, said: list[int], prompt: list[int]) -> Outcome:
        end = next((i for i, token in enumerate(said) if token in self._ends), None)
        reasoning, text = self._tags.split(self._wording.text(said[:end]).strip(), self._wording.opened(prompt))
        word = "length" if end is None else "stop"
        if not text:
            full = len(prompt) + len(said) >= self._longest
            return no_answer(reasoning, cut=end is None, word=word, full=self._longest if full else None)
        tokens = len(said) if end is None else end + 1
        return Answer(text, word, len(prompt), tokens, reasoning=reasoning, finish_reason_raw=word)


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's next token from its own generator, by the Gumbel trick: the highest of logit + noise.

    transformers' own sampling draws all rows from one global generator, so that a row would depend on its neighbours.
    """

    def __init__(
        self, asks: Sequence[Ask], prompts: Sequence[Sequence[int]], device: torch.device, settings: Settings
    ) -> None:
        """Rows that are drawn alike, by the names of `study.sampling.NEUTRAL`; `prompts` are their tokens."""
        self._settings = {name: float(value) for name, value in settings.items() if value is not None}
        self._device = device
        self._prompts = prompts
        self._said: torch.Tensor | None = None  # (rows, vocabulary): what stands in a prompt or an answer
        # on the CPU whatever the device is, so that a seed means the same noise everywhere
        self._generators = [torch.Generator("cpu").manual_seed(ask.seed) for ask in asks]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, vocabulary) logits -> the same with noise, masked where nothing is drawn from. In vLLM's order."""
        if self._settings["repetition_penalty"] != 1:
            scores = self._penalised(input_ids, scores.float())
        if self._settings["temperature"] == 0:
            return scores
        scores = self._narrowed(scores.float() / self._settings["temperature"])
        noise = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=g) for g in self._generators])
        return scores - noise.clamp_min_(1e-30).log_().to(self._device)

    def _penalised(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """What was said before is less likely. Padding was not: else a row would hang on its neighbours' length."""
        if self._said is None:
            self._said = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
            for row, tokens in zip(self._said, self._prompts, strict=True):
                row[list(tokens)] = True
        self._said.scatter_(1, input_ids[:, -1:], value=True)
        penalty = self._settings["repetition_penalty"]
        return torch.where(self._said, torch.where(scores > 0, scores / penalty, scores * penalty), scores)

    def _narrowed(self, scores: torch.Tensor) -> torch.Tensor:
        min_p, top_k, top_p = (self._settings[name] for name in ("min_p", "top_k", "top_p"))
        if min_p > 0:
            scores = scores.masked_fill(scores < scores.amax(1, keepdim=True) + math.log(min_p), -math.inf)
        if 0 < top_k < scores.shape[1]:
            scores = scores.masked_fill(scores < scores.topk(int(top_k)).values[:, -1:], -math.inf)
        return _nucleus(scores, top_p) if top_p < 1 else scores


def _nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keeps the fewest tokens whose probabilities reach top_p together."""
    ranked, order = scores.sort(dim=-1, descending=True)
    before = ranked.softmax(dim=-1).cumsum(dim=-1) - ranked.softmax(dim=-1)
    return scores.masked_fill((before >= top_p).scatter(1, order, before >= top_p), -math.inf)


def _defaults(entry: Local, config: GenerationConfig) -> Settings:
    """What holds where an ask leaves a setting open; HostDown where the model's own cannot."""
    try:
        return {**NEUTRAL, **(own(config.to_diff_dict()) if entry.sampling_defaults == "model" else {})}
    except BadDefaults as wrong:
        raise HostDown(f"model {entry.name!r} ({entry.id}): {wrong}; leave sampling_defaults out") from None


def _template(entry: Local, tokenizer: Any, day: date | None) -> ChatTemplate:
    try:
        return ChatTemplate(tokenizer, kwargs=entry.chat_template_kwargs, day=day)
    except HostDown as wrong:
        raise HostDown(f"model {entry.name!r} ({entry.id}): {wrong}") from wrong


def _ends(tokenizer: Any, model: Any, template: ChatTemplate) -> list[int]:
    """The tokens that end a turn: a family may have several (Llama 3's <|eot_id|> beside <|end_of_text|>)."""
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    known = [*ends, tokenizer.eos_token_id, *template.ends()]
    return list(dict.fromkeys(end for end in known if end is not None))


def _padding(tokenizer: Any, model: Any) -> int:
    """The token that fills up: the model's own, by which some count positions, where its vocabulary has it."""
    known = [getattr(model.config, "pad_token_id", None), tokenizer.pad_token_id, tokenizer.eos_token_id]
    return next((token for token in known if isinstance(token, int) and 0 <= token < _vocabulary(model)), 0)


def _vocabulary(model: Any) -> int:
    """How many tokens it knows."""
    return int(model.get_input_embeddings().weight.shape[0])


def _notes(company: Company) -> list[str]:
    return [] if company is Company.ANY else [f"it answers otherwise beside others, so it is asked {company.value}"]
