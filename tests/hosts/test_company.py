"""What a model says to a prompt is what it says when nobody else is asked, in every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from emoray.hosts.company import STEPS, Company, Thought, looks_ahead, tried
from emoray.hosts.protocol import Ask, HostDown
from emoray.hosts.transformers import TransformersHost
from emoray.spec.models import Local
from emoray.study.outcomes import Answer
from tests import tiny_models
from tests.tiny_models import change

QUESTIONS = ("?", "Why?", "How does it feel to be asked a question of such a length?", "What is art, to you, today?")
FAMILIES = {
    "gpt2": Company.ANY,
    "gpt_bigcode": Company.ANY,
    "gptj": Company.ANY,
    "codegen": Company.ANY,
    "gpt_neo": Company.ANY,
    "gpt_neox": Company.ANY,
    "bloom": Company.ANY,
    "mpt": Company.ANY,
    "opt": Company.ANY,
    "xglm": Company.ANY,
    "biogpt": Company.ANY,
    "falcon": Company.ANY,
    "llama": Company.ANY,
    "mistral": Company.ANY,
    "mixtral": Company.ANY,
    "phi": Company.ANY,
    "qwen2": Company.ANY,
    "qwen2_moe": Company.ANY,
    "roberta": Company.ANY,
    "bart": Company.ALIKE,
    "bert": Company.ANY,
    "openai-gpt": Company.ANY,
    "ctrl": Company.ANY,
    "rwkv": Company.NONE,  # its state is of one prompt: from the second token on two mix theirs
    "mamba": Company.ANY,
    "mamba2": Company.ANY,
    "recurrent_gemma": Company.ALIKE,
}


def ask(question: str, **settings: Any) -> Ask:
    usual: dict[str, Any] = {"temperature": 0.0, "top_p": None, "max_tokens": 12, "seed": 0}
    return Ask(key=question, chat=[{"role": "user", "content": question}], **usual | settings)


def host(folder: str, **settings: Any) -> TransformersHost:
    return TransformersHost(Local(host="transformers", name="m", id=folder, **settings))


def said(speaker: TransformersHost, *asks: Ask) -> dict[str, str]:
    found = {reply.key: reply.outcome for reply in speaker.generate(asks)}
    return {key: outcome.text if isinstance(outcome, Answer) else "" for key, outcome in found.items()}


def alone(folder: str, question: str, most: int = 12) -> str:
    """What bare transformers says, greedily, to the one prompt."""
    model, words = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer(folder)
    chat = [{"role": "user", "content": question}]
    prompt = words.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    model.generation_config, ends = GenerationConfig(), [words.eos_token_id]
    whole = {"attention_mask": torch.ones_like(prompt), "do_sample": False, "max_new_tokens": most}
    out = model.generate(prompt, **whole, pad_token_id=0, eos_token_id=ends)[0, prompt.shape[1] :]
    return str(words.decode(out, skip_special_tokens=True)).strip()


def tokenizer(folder: str) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_says_in_company_what_bare_transformers_says_to_the_prompt_alone(
    tmp_path: Path, kind: str
) -> None:
    folder = tiny_models.speaker(tmp_path, kind)
    speaker = host(folder, batch_size=8)
    right = {question: alone(folder, question) for question in QUESTIONS}
    assert len(set(right.values())) > 1
    assert said(speaker, *map(ask, QUESTIONS)) == right
    assert speaker._company is FAMILIES[kind]


PADS = [(2, 2), (1, 0), (0, 1), (None, None)]  # (of the tokenizer, of the config)
NO_TOKEN = 10_000  # as some configs name that were never used with one


@pytest.mark.parametrize(
    ("kind", "of_tokenizer", "of_config"),
    [
        *((kind, *pads) for kind in ("llama", "gpt2", "bloom") for pads in [*PADS, (None, -1)]),
        *(("roberta", of_tokenizer, of_config) for of_tokenizer, of_config in PADS if of_config is not None),
        ("gpt2", 0, NO_TOKEN),
    ],
)
def test_which_token_fills_up_changes_nothing_that_is_said(
    tmp_path: Path, kind: str, of_tokenizer: int | None, of_config: int | None
) -> None:
    folder = tiny_models.speaker(tmp_path, kind, seed=4)
    named = None if of_tokenizer is None else tokenizer(folder).convert_ids_to_tokens(of_tokenizer)
    change(folder, "tokenizer_config.json", pad_token=named)
    change(folder, "config.json", pad_token_id=of_config)
    speaker = host(folder)
    right = {question: alone(folder, question) for question in QUESTIONS}
    assert said(speaker, *map(ask, QUESTIONS)) == right
    assert speaker._company is Company.ANY


@pytest.mark.parametrize(
    ("kind", "company"),
    [
        ("mistral", Company.ANY),
        ("mixtral", Company.ANY),
        ("qwen2_moe", Company.ANY),
        ("bart", Company.ALIKE),
        ("rwkv", Company.NONE),
    ],
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_also_in_half_precision_a_model_is_asked_in_the_company_that_it_does_not_mind(
    tmp_path: Path, kind: str, company: Company, dtype: str
) -> None:
    """What rounding moves is at most 0.005 of the logits' spread here, and what padding does at least 0.2."""
    assert host(tiny_models.speaker(tmp_path, kind), dtype=dtype)._company is company


# ── the trial itself ──


def thinking(by_neighbour: float = 0.0, by_padding: float = 0.0) -> Any:
    """A model whose logits shift by the neighbours a prompt has, or by how much it is filled up."""

    def think(prompts: Any) -> list[Thought]:
        width = max(map(len, prompts))
        shifts = [
            by_padding * (width - len(prompt)) + by_neighbour * (len(prompts) - 1) * (sum(prompt) % 7 + 1)
            for prompt in prompts
        ]
        logits = [torch.linspace(-1, 1, 9).roll(sum(p) % 9).repeat(STEPS, 1) for p in prompts]
        return [Thought(one.argmax(-1), one * (1 + shift)) for one, shift in zip(logits, shifts, strict=True)]

    return think


SHORT, LONG = [1, 2], [1, 3, 4, 5]


def test_a_model_that_minds_nobody_is_asked_in_any_company() -> None:
    assert tried(thinking(), SHORT, LONG, torch.float32) is Company.ANY


def test_a_model_that_minds_padding_is_asked_prompts_of_one_length() -> None:
    assert tried(thinking(by_padding=0.01), SHORT, LONG, torch.float32) is Company.ALIKE


def test_a_model_that_minds_its_neighbours_is_asked_one_prompt_at_a_time() -> None:
    assert tried(thinking(by_neighbour=0.01), SHORT, LONG, torch.float32) is Company.NONE


def test_half_precision_is_not_asked_for_more_than_it_has() -> None:
    assert tried(thinking(by_padding=0.002), SHORT, LONG, torch.bfloat16) is Company.ANY
    assert tried(thinking(by_padding=0.2), SHORT, LONG, torch.bfloat16) is Company.ALIKE


@pytest.mark.parametrize("company", [Company.ANY, Company.ALIKE])
def test_an_expert_that_is_as_good_as_another_costs_a_model_no_company(company: Company) -> None:
    """Once, in a batch of several, a near-tie between experts falls the other way, and the logits are far off."""
    usual, ties = thinking(by_padding=0.01 if company is Company.ALIKE else 0.0), 0

    def think(prompts: Any) -> list[Thought]:
        nonlocal ties
        found = usual(prompts)
        if len(prompts) > 1 and len({*map(len, prompts)}) == (2 if company is Company.ANY else 1):
            ties += 1
            return [found[0]._replace(logits=-found[0].logits), *found[1:]] if ties == 1 else found
        return found  # type: ignore[no-any-return]

    assert tried(think, SHORT, LONG, torch.float32) is company
    assert ties == 2


# ── what comes after ──

TEXT = list(range(20, 44))


def reading(after: int = 0, shared: float = 0.0, tie: int | None = None) -> Any:
    """A model whose logits hang on all before, and on so many tokens after; a scale that all tokens share moves them
    a little; where the text is changed behind `tie`, the expert of the token before it is another.
    """

    def read(tokens: Any) -> torch.Tensor:
        heard = torch.tensor([sum(tokens[: place + 1 + after]) for place in range(len(tokens))], dtype=torch.float32)
        waves = (heard[:, None] * torch.linspace(1, 2, 11)).sin()
        logits: torch.Tensor = waves * (1 + shared * (sum(tokens) % 3))
        if tie is not None and tokens[tie + 1] != TEXT[tie + 1] and tokens[tie] == TEXT[tie]:
            logits[tie] = -logits[tie]
        return logits

    return read


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("after", [1, 2, 100])
def test_a_model_that_hears_what_follows_is_found_out_however_little_it_hears(after: int, dtype: torch.dtype) -> None:
    assert looks_ahead(reading(after), TEXT, dtype)
    assert looks_ahead(reading(after), TEXT[:2], dtype)
    assert looks_ahead(reading(after), TEXT, dtype, quantised=True)


@pytest.mark.parametrize("tie", range(len(TEXT) - 1))
def test_a_token_that_another_expert_reads_hears_nothing(tie: int) -> None:
    assert not looks_ahead(reading(tie=tie), TEXT, torch.float32)


def test_a_scale_that_the_tokens_of_a_quantised_model_share_is_no_hearing() -> None:
    assert not looks_ahead(reading(shared=0.03), TEXT, torch.float32, quantised=True)
    assert looks_ahead(reading(shared=0.03), TEXT, torch.float32)


def test_a_text_of_one_token_tells_nothing() -> None:
    assert not looks_ahead(reading(1), [7] * 9, torch.float32)
    assert not looks_ahead(reading(1), [7], torch.float32)


def test_a_model_that_minds_padding_is_still_asked_several_prompts_at_once(tmp_path: Path) -> None:
    speaker = host(tiny_models.speaker(tmp_path, "bart"), batch_size=8)
    batches: list[int] = []
    generated = speaker._generated
    speaker._generated = lambda prompts, *how, **more: (  # type: ignore[method-assign]
        batches.append(len(prompts)) or generated(prompts, *how, **more)  # type: ignore[func-returns-value]
    )
    list(speaker.generate([ask(f"Why is it {number}?") for number in range(10, 26)] + [ask("And?")]))
    assert sorted(batches) == [1, 8, 8]


def test_a_model_that_computes_no_numbers_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.speaker(tmp_path, "llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(
        HostDown, match=r"model 'm' \(.*\) cannot answer a question: what it computes in float32 are no"
    ):
        host(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.speaker(tmp_path, "llama", vocab_size=100)
    with pytest.raises(HostDown, match=r"its tokenizer writes token \d+ and the model knows 100; give the tokenizer"):
        host(folder)
