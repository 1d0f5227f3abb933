"""The generator: a Llama of two million parameters learns the authored corpus and to follow the asked state."""

import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.asking import Ask, Chat, asks
from training.folders import save
from training.reader import best_device, warm_then_linear

logger = logging.getLogger(__name__)

PAD, BEGIN, SYSTEM, USER, ASSISTANT, END = SPECIALS = (
    "<|pad|>", "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
NOT_LEARNED = -100  # the label of a token that is read but not learned


@dataclass(frozen=True)
class Shape:
    """The size of the model; heads are 64 wide, which every attention kernel knows."""

    vocabulary: int = 3072
    hidden: int = 192
    inner: int = 512
    layers: int = 4
    positions: int = 1024


@dataclass(frozen=True)
class Course:
    """One way of training; a step is one batch of prompts, each with several answers."""

    steps: int = 6400
    prompts: int = 10
    answers: int = 3
    learning_rate: float = 2e-3
    seed: int = 7


@dataclass(frozen=True)
class Batch:
    """Prompts, each followed by answers that see the prompt and themselves, but not one another."""

    ids: Tensor  # (prompts, length)
    positions: Tensor  # (prompts, length): every answer begins where the prompt ends
    mask: Tensor  # (prompts, 1, length, length) bool: who may look at whom
    labels: Tensor  # (prompts, length): the next token, NOT_LEARNED outside the answers


SHAPE, COURSE = Shape(), Course()


def train_generator(out: Path, shape: Shape = SHAPE, course: Course = COURSE) -> None:
    """The whole recipe; leaves a Hugging Face folder in `out`."""
    tokenizer = learn_tokenizer(list(islice(asks(random.Random(course.seed), 4), 8000)), shape.vocabulary)
    torch.manual_seed(course.seed)
    model = untrained(shape, tokenizer)
    logger.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    taught(model, tokenizer, course)
    save_generator(model, tokenizer, shape, out)


def learn_tokenizer(examples: Sequence[Ask], size: int) -> Tokenizer:
    """Byte-level BPE in which every digit is a token of its own: -0.866 and -0.5 must be told apart."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIALS), initial_alphabet=alphabet)
    texts = (text for ask in examples for text in (*(m["content"] for m in ask.chat), *ask.answers))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def untrained(shape: Shape, tokenizer: Tokenizer) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.hidden // 64, head_dim=64,
        num_key_value_heads=shape.hidden // 64, max_position_embeddings=shape.positions, tie_word_embeddings=True,
        bos_token_id=SPECIALS.index(BEGIN), eos_token_id=SPECIALS.index(END), pad_token_id=SPECIALS.index(PAD),
    )  # fmt: skip
    return LlamaForCausalLM(config)


def taught(model: Any, tokenizer: Tokenizer, course: Course) -> None:
    device, began = best_device(), time.monotonic()
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=course.learning_rate, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_linear(course.steps, warm=0.03))
    for step, batch in enumerate(islice(batches(tokenizer, course), course.steps)):
        loss = loss_of(model, batch, device)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            logger.info("step %d of %d: loss %.3f, %.0f s", step, course.steps, loss.item(), time.monotonic() - began)
    model.cpu().eval()


def loss_of(model: Any, batch: Batch, device: torch.device) -> Tensor:
    """Mean surprise per token of the answers; the logits are computed for those tokens only."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        hidden = model.model(
            input_ids=batch.ids.to(device), position_ids=batch.positions.to(device),
            attention_mask=batch.mask.to(device), use_cache=False,
        ).last_hidden_state  # fmt: skip
        labels = batch.labels.to(device)
        learned = labels != NOT_LEARNED
        return torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]).float(), labels[learned])


def batches(tokenizer: Tokenizer, course: Course) -> Iterator[Batch]:
    """Batches of prompts of like length, so that little is padded."""
    rng = random.Random(course.seed)
    stream, pool = asks(rng, course.answers), 32
    while True:
        rows = [tokens(ask, tokenizer) for ask in islice(stream, pool * course.prompts)]
        rows.sort(key=lambda row: len(row[0]) + sum(len(answer) for answer in row[1]))
        groups = [rows[start : start + course.prompts] for start in range(0, len(rows), course.prompts)]
        rng.shuffle(groups)
        yield from (stacked(group) for group in groups)


def tokens(ask: Ask, tokenizer: Any) -> tuple[list[int], list[list[int]]]:
    """The prompt up to the assistant's turn, and each answer with its end."""
    prompt = tokenizer.encode(chat_text(ask.chat)).ids
    end = tokenizer.token_to_id(END)
    return prompt, [[*one.ids, end] for one in tokenizer.encode_batch(list(ask.answers))]


def chat_text(chat: Chat) -> str:
    """What CHAT_TEMPLATE makes of a chat; a test holds the two together."""
    return BEGIN + "".join(f"<|{turn['role']}|>{turn['content'].strip()}{END}" for turn in chat) + ASSISTANT


def stacked(rows: Sequence[tuple[list[int], list[list[int]]]]) -> Batch:
    length = max(len(prompt) + sum(map(len, answers)) for prompt, answers in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    positions, owner = torch.zeros_like(ids), torch.full_like(ids, -1)
    labels = torch.full_like(ids, NOT_LEARNED)
    for row, (prompt, answers) in enumerate(rows):
        _lay_out(prompt, answers, ids[row], positions[row], owner[row], labels[row])
    same = (owner[:, :, None] == owner[:, None, :]) | (owner == 0)[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return Batch(ids, positions, (same & causal)[:, None], labels)


def _lay_out(
    prompt: list[int], answers: list[list[int]], ids: Tensor, positions: Tensor, owner: Tensor, labels: Tensor
) -> None:
    """One row: the prompt but for its last token (owner 0), then that token and an answer, per answer (1, 2, …)."""
    shared, last = prompt[:-1], prompt[-1]
    at = len(shared)
    ids[:at], positions[:at], owner[:at] = torch.tensor(shared), torch.arange(at), 0
    for number, answer in enumerate(answers, 1):
        until = at + len(answer)
        ids[at:until] = torch.tensor([last, *answer[:-1]])
        labels[at:until] = torch.tensor(answer)
        positions[at:until] = torch.arange(len(shared), len(shared) + len(answer))
        owner[at:until] = number
        at = until


def save_generator(model: Any, tokenizer: Tokenizer, shape: Shape, out: Path) -> None:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD,
        model_max_length=shape.positions, model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    ends = {name: getattr(model.config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(do_sample=True, max_new_tokens=160, **ends)
    save(model, wrapped, out, CHAT_TEMPLATE)
