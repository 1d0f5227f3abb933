"""How much a model can hold, whatever its family calls it, and that no answer runs past it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from emoray.commands import plan
from emoray.hosts.context import as_config, longest, lowered
from emoray.hosts.protocol import Ask
from emoray.hosts.transformers import TransformersHost
from emoray.spec.models import Local
from emoray.study.outcomes import Answer, Failure
from tests import runs, tiny_models

ENDLESS = SimpleNamespace(model_max_length=10**30)


@pytest.mark.parametrize(
    ("kind", "settings", "limit"),
    [
        ("llama", {"max_position_embeddings": 300}, 300),
        ("gpt2", {"n_positions": 300}, 300),
        ("gpt2", {"n_positions": 300, "n_ctx": 200}, 200),
        ("mpt", {"max_seq_len": 300}, 300),
        ("bloom", {"seq_length": 300}, 300),
        ("ctrl", {"n_positions": 300}, 300),
        ("opt", {"max_position_embeddings": 300}, 300),
        ("bart", {"max_position_embeddings": 300}, 300),
        ("roberta", {"max_position_embeddings": 302}, 301),  # those up to its padding, token 0, are never read
        ("bert", {"max_position_embeddings": 300}, 300),
        ("openai-gpt", {"n_positions": 300}, 300),
        ("mamba", {}, None),
        ("bloom", {}, None),
        ("llama", {"max_position_embeddings": 300, "max_sequence_length": 250}, 250),
        ("llama", {"max_position_embeddings": 300, "model_max_length": 200.0}, 200),
        ("llama", {"max_position_embeddings": 300, "seq_length": -1, "n_ctx": None, "max_seq_len": True}, 300),
    ],
)
def test_the_limit_is_known_by_the_name_that_a_family_gives_it(
    tmp_path: Path, kind: str, settings: dict[str, Any], limit: int | None
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_models.speaker(tmp_path, kind, **settings))
    assert longest(model, ENDLESS) == limit


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 300}


@pytest.mark.parametrize(
    ("kind", "told", "scaling", "limit"),
    [
        ("llama", 300, {"rope_type": "linear", "factor": 4.0}, 300),  # most tell the length that it became
        ("llama", 300, {"rope_type": "default"}, 300),
        ("llama", 300, {"rope_type": "dynamic", "factor": 4.0}, 300),
        ("llama", 300, YARN, 300),
        ("llama", 400, YARN, 1200),
        ("llama", 1200, {"rope_type": "yarn", "factor": 4.0}, 1200),
        ("llama", 1200, YARN, 1200),  # as DeepSeek's and gpt-oss': told as it became
        ("llama", 1200, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 150}, 1200),
        ("phi3", 1200, {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
                        "original_max_position_embeddings": 150}, 150),
    ],
)  # fmt: skip
def test_scaled_positions_move_the_limit_only_from_a_shorter_one_that_is_told_beside_it(
    kind: str, told: int, scaling: dict[str, Any], limit: int
) -> None:
    shape = {"max_position_embeddings": told, "hidden_size": 32, "num_attention_heads": 4}
    first = {name: told for name, told in scaling.items() if name == "original_max_position_embeddings"}
    config = AutoConfig.for_model(kind, **shape, **first, rope_parameters=scaling)
    model: Any = SimpleNamespace(config=config, named_modules=dict[str, Any]().items)
    assert longest(model, ENDLESS) == limit


LONGROPE = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}


@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("inner", [False, True])
def test_where_less_is_used_than_a_config_tells_a_sentence_says_so_and_how_max_tokens_stands_to_it(
    place: str, inner: bool
) -> None:
    told: dict[str, Any] = {**LONGROPE, place: {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}}
    config = as_config({"text_config": told} if inner else told)
    (short,), (long,) = lowered(config, 256), lowered(config, 16000)
    assert "tells 131072 tokens, of which host transformers uses 4096 for prompt and answer together" in short
    assert "max_tokens 256" not in short
    assert "max_tokens 16000 is more than that; an answer ends there whatever max_tokens is" in long
    assert lowered(as_config({"max_position_embeddings": 4096}), 16000) == []


def test_a_plan_says_that_an_answer_will_end_before_its_max_tokens(tmp_path: Path) -> None:
    config = {**LONGROPE, "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = f"{{name: a, host: transformers, id: {tmp_path}, sampling: {{max_tokens: 16000}}}}"
    study = runs.study(runs.SPEC.replace("{name: a, host: scripted}", model))
    assert "max_tokens 16000 is more than that" in plan.plan(study, str(tmp_path / "run")).text()
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_scaling": {"type": "yarn", "factor": "x"}}))
    assert "is more than that" not in plan.plan(study, str(tmp_path / "run")).text()


def test_a_model_that_scales_its_positions_tells_its_room_and_no_higher_max_tokens_is_asked_for(tmp_path: Path) -> None:
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    size = {"max_position_embeddings": 200, "original_max_position_embeddings": 90, "pad_token_id": 0}
    speaker = TransformersHost(
        Local(host="transformers", name="m", id=tiny_models.speaker(tmp_path, "phi3", **size, rope_parameters=scaling))
    )
    assert any("tells 200 tokens, of which host transformers uses 90" in note for note in speaker.notes)
    empty = speaker._outcome([0] * 80, [5] * 10)
    assert isinstance(empty, Failure)
    assert "the 90 tokens that are read together with the prompt ended before" in empty.detail
    shorter = speaker._outcome([0] * 70, [5] * 10)
    assert isinstance(shorter, Failure)
    assert "raise it" in shorter.detail


def test_where_neither_config_nor_weights_tell_a_limit_the_tokenizer_does(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_models.speaker(tmp_path, "bloom"))
    assert longest(model, SimpleNamespace(model_max_length=77)) == 77
    assert longest(model, SimpleNamespace()) is None


@pytest.mark.parametrize("part", ["text_config", "llm_config", "language_config"])
def test_of_a_wrapper_the_limit_is_that_of_the_part_that_speaks(part: str) -> None:
    inner = AutoConfig.for_model("llama", max_position_embeddings=120)
    outer = SimpleNamespace(**{part: inner}, vision_config=SimpleNamespace(max_position_embeddings=9), n_ctx=5)
    model: Any = SimpleNamespace(config=outer, named_modules=dict[str, Any]().items)
    assert longest(model, ENDLESS) == 120


def test_a_model_that_also_sees_speaks_to_the_end_of_what_it_can_hold_and_no_further(tmp_path: Path) -> None:
    """A Gemma 3, whose config tells nothing of the text's length but in its text_config."""
    words = tiny_models.tokenizer()
    words.chat_template = tiny_models.WITH_SYSTEM
    words.save_pretrained(tmp_path)
    tokens = {"vocab_size": len(words), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    text = {**tiny_models.SHAPE, **tokens, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 90}
    sees = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config=sees)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    speaker = TransformersHost(Local(host="transformers", name="m", id=str(tmp_path)))
    speaker._ends = []  # it never ends by itself
    reply = next(iter(speaker.generate([Ask("0" * 32, [{"role": "user", "content": "Why?"}], 0, 1.0, None, None)])))
    assert isinstance(reply.outcome, Answer)
    assert (reply.outcome.prompt_tokens or 0) + (reply.outcome.completion_tokens or 0) == 90


def test_where_a_part_tells_no_limit_its_wrapper_does() -> None:
    outer = SimpleNamespace(text_config=AutoConfig.for_model("mamba"), max_position_embeddings=64)
    model: Any = SimpleNamespace(config=outer, named_modules=dict[str, Any]().items)
    assert longest(model, ENDLESS) == 64


def test_the_places_of_what_sees_are_not_those_of_what_speaks() -> None:
    places = torch.nn.Embedding(9, 2)
    names = {"model.vision_tower.embeddings.position_embedding": places}.items
    model: Any = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=64), named_modules=names)
    assert longest(model, ENDLESS) == 64


@pytest.mark.parametrize("kind", ["gpt2", "opt", "bart", "roberta", "bert", "openai-gpt", "biogpt"])
def test_an_answer_goes_on_to_the_last_position_that_a_model_has_learnt_and_not_beyond(
    tmp_path: Path, kind: str
) -> None:
    size = {"n_positions": 80} if kind in ("gpt2", "openai-gpt") else {"max_position_embeddings": 80}
    speaker = TransformersHost(
        Local(host="transformers", name="m", id=tiny_models.speaker(tmp_path, kind, **size), batch_size=4)
    )
    speaker._ends = []  # it never ends by itself
    asks = [
        Ask(f"{n:032x}", [{"role": "user", "content": "w" * (5 + 9 * n)}], n, 1.0, None, None if n % 2 else 200)
        for n in range(6)
    ]
    outcomes = [reply.outcome for reply in speaker.generate(asks)]
    lengths = {(o.prompt_tokens or 0) + (o.completion_tokens or 0) for o in outcomes if isinstance(o, Answer)}
    assert lengths == {79 if kind == "roberta" else 80}
    assert {outcome.kind for outcome in outcomes if not isinstance(outcome, Answer)} <= {"context_length"}
