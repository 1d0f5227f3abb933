"""Weights that are not the model's are said in one sentence, and never spoken with."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSeq2SeqLM

from emoray.hosts.protocol import Ask, HostDown
from emoray.hosts.tied import untied
from emoray.hosts.transformers import TransformersHost
from emoray.hosts.vllm import VllmHost
from emoray.hosts.weights import adapter_of, commit_of
from emoray.spec.models import Local, Vllm
from emoray.study.outcomes import Answer
from tests import tiny_models
from tests.tiny_models import change

Weights = dict[str, torch.Tensor]
PEFT = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")


def host(folder: Path | str, **settings: Any) -> TransformersHost:
    return TransformersHost(Local(host="transformers", name="m", id=str(folder), **settings))


def said(speaker: TransformersHost) -> list[str]:
    chat = [{"role": "user", "content": "Why?"}]
    replies = speaker.generate([Ask("0" * 32, chat, 0, 0.0, None, 20)])
    return [reply.outcome.text for reply in replies if isinstance(reply.outcome, Answer)]


def complaint(folder: Path | str, **settings: Any) -> str:
    with pytest.raises(HostDown) as told:
        host(folder, **settings)
    sentence = str(told.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"model 'm' ({folder}) cannot be loaded: ")
    return sentence.partition("cannot be loaded: ")[2]


def rewritten(folder: str, change: Callable[[Weights], Weights]) -> str:
    """The checkpoint with other weights in it."""
    file = Path(folder, "model.safetensors")
    weights = change({name: weight.clone() for name, weight in load_file(file).items()})
    save_file(weights, file, {"format": "pt"})
    return folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    return tiny_models.speaker(tmp_path / "model", "llama")


# ── weights that are missing, of another shape, or too many ──


@pytest.mark.parametrize("prefix", ["module.", "base_model.model.", "_orig_mod.", "language_model.", "a.b.c."])
def test_a_checkpoint_whose_names_have_a_prefix_of_another_is_refused_and_the_prefix_named(
    model: str, prefix: str
) -> None:
    rewritten(model, lambda weights: {prefix + name: weight for name, weight in weights.items()})
    assert complaint(model) == (
        "the checkpoint has no weights for lm_head.weight, model.embed_tokens.weight and 19 more of LlamaForCausalLM, "
        f"for its names begin with {prefix!r}; save it without"
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "bloom", "gpt_neox"])
def test_a_checkpoint_that_lacks_a_weight_is_refused(tmp_path: Path, kind: str) -> None:
    folder = tiny_models.speaker(tmp_path, kind)
    lost = min(load_file(tmp_path / "model.safetensors"))
    rewritten(folder, lambda weights: {name: weight for name, weight in weights.items() if name != lost})
    told = complaint(folder)
    assert told.startswith("the checkpoint has no weights for ")
    assert lost.rpartition(".")[2] in told
    assert told.endswith("; take a complete checkpoint")


def test_weights_of_another_shape_are_refused_with_both_shapes(model: str) -> None:
    change(model, "config.json", intermediate_size=48)
    assert complaint(model) == (
        "the weights do not fit LlamaForCausalLM: model.layers.0.mlp.down_proj.weight has the shape 32×64, config.json "
        "makes it 32×48 and 5 more; take the config.json that belongs to them"
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_hidden_layers": 1}, "model.layers.1.input_layernorm.weight, model.layers.1.mlp.down_proj.weight and"),
        ({"attention_bias": False}, "model.layers.0.self_attn.k_proj.bias, model.layers.0.self_attn.o_proj.bias and"),
    ],
    ids=["fewer layers", "another architecture"],
)
def test_a_checkpoint_with_more_inside_than_the_config_has_room_for_is_refused(
    tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    folder = tiny_models.speaker(tmp_path, "llama", attention_bias=True)
    change(folder, "config.json", **settings)
    told = complaint(folder)
    assert told.startswith(f"LlamaForCausalLM has no place for {named}")
    assert told.endswith("for this one describes another architecture or fewer layers")


@pytest.mark.parametrize("bare", [False, True], ids=["whole", "saved without its head"])
@pytest.mark.parametrize(
    "name",
    [
        "layers.0.self_attn.rotary_emb.inv_freq",
        "layers.0.self_attn.k_scale",
        "rotary_emb.inv_freq",
        "vision_tower.layers.0.mlp.fc1.weight",
        "v_head.summary.weight",
        "mtp.layers.0.weight",
    ],
)
def test_what_a_checkpoint_has_too_much_without_any_loss_hinders_nobody(tmp_path: Path, name: str, bare: bool) -> None:
    folder = tiny_models.speaker(tmp_path, "llama", tie_word_embeddings=True)
    before = said(host(folder))
    rewritten(folder, lambda weights: {key.removeprefix("model.") if bare else key: w for key, w in weights.items()})
    rewritten(folder, lambda weights: weights | {name if bare else f"model.{name}": torch.ones(3)})
    assert said(host(folder)) == before != []


@pytest.mark.parametrize(
    "name",
    [
        *(
            "model.embed_positions.weight",
            "model.norm2.weight",
            "lm_head.dense.weight",
            "output.weight",
            "score.weight",
        ),
        "model.embed_norm.bias",
    ],
)
def test_a_weight_that_only_another_architecture_has_a_place_for_is_refused(tmp_path: Path, name: str) -> None:
    folder = tiny_models.speaker(tmp_path, "llama", tie_word_embeddings=True)
    rewritten(folder, lambda weights: weights | {name: torch.ones(3)})
    assert complaint(folder).startswith(f"LlamaForCausalLM has no place for {name} of the checkpoint; ")


@pytest.mark.parametrize("name", ["score.weight", "regression_head.weight", "critic.bias", "model.qa_outputs.weight"])
def test_a_head_for_another_task_is_left_out_beside_the_models_own_and_refused_in_its_place(
    tmp_path: Path, name: str
) -> None:
    folder = tiny_models.speaker(tmp_path / "whole", "llama", tie_word_embeddings=False)
    before = said(host(folder))
    rewritten(folder, lambda weights: weights | {name: torch.ones(3)})
    speaker = host(folder)
    assert said(speaker) == before != []
    assert f"its checkpoint has a head for another task ({name}), which is left out" in speaker.notes
    tied = tiny_models.speaker(tmp_path / "tied", "llama", tie_word_embeddings=True)
    rewritten(tied, lambda weights: weights | {name: torch.ones(3)})
    assert complaint(tied).startswith(
        f"LlamaForCausalLM has no place for {name} of the checkpoint; it is a head for another task, and nobody"
    )


@pytest.mark.parametrize("bits", [(False, False), (False, True), (None, None)])
def test_full_weights_whose_config_speaks_of_bits_that_are_not_used_are_no_quantised_ones(
    model: str, bits: tuple[bool | None, bool | None]
) -> None:
    before = said(host(model))
    four, eight = bits
    told = {"quant_method": "bitsandbytes", "load_in_4bit": four, "load_in_8bit": eight}
    change(model, "config.json", quantization_config=told)
    if bits == (False, False):
        assert said(host(model)) == before != []
    else:
        assert complaint(model)


@pytest.mark.parametrize(
    "kind", ["LlamaForSequenceClassification", "Qwen2ForRewardModel", "LlamaForTokenClassification"]
)
def test_a_model_that_judges_is_not_let_speak(tmp_path: Path, kind: str) -> None:
    """With tied weights it has all that a speaker has."""
    folder = tiny_models.speaker(tmp_path, "llama", tie_word_embeddings=True)
    change(folder, "config.json", architectures=[kind])
    assert complaint(folder) == f"it was trained to judge texts ({kind}) and not to speak; give a model that speaks"


@pytest.mark.parametrize("method", ["nonsense", "modelopt", "exl2"])
def test_a_way_of_quantising_that_transformers_does_not_know_is_refused(model: str, method: str) -> None:
    """It would go on with bits for weights."""
    change(model, "config.json", quantization_config={"quant_method": method})
    told = f"its config.json says that it is quantised ({method}), which transformers does not know; take its weights"
    assert complaint(model).startswith(told)


@pytest.mark.parametrize("text", ["{not json", "[1, 2]", "", '"text"'])
def test_a_generation_config_that_cannot_be_read_is_refused(model: str, text: str) -> None:
    """Without it a model would be asked by other settings, and go on where its turn has ended."""
    Path(model, "generation_config.json").write_text(text)
    assert complaint(model) == "its generation_config.json is no JSON object; correct it, or delete it"
    with pytest.raises(HostDown, match=r"cannot start: its generation_config.json is no JSON object; correct it"):
        VllmHost(Vllm(host="vllm", name="m", id=model))


def test_an_empty_generation_config_says_nothing(model: str) -> None:
    Path(model, "generation_config.json").write_text("{}")
    assert said(host(model))


def test_a_head_that_the_config_ties_and_the_weights_do_not_is_refused_where_it_would_be_passed_over(
    tmp_path: Path,
) -> None:
    folder = tiny_models.speaker(tmp_path / "untied", "llama", tie_word_embeddings=False)
    before = said(host(folder))
    assert untied(folder, None) is None
    change(folder, "config.json", tie_word_embeddings=True)
    assert said(host(folder)) == before != []
    with pytest.raises(HostDown, match=r"ties lm_head.weight to model.embed_tokens.weight, and their weights differ"):
        VllmHost(Vllm(host="vllm", name="m", id=folder))
    rewritten(folder, lambda weights: weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()})
    assert untied(folder, None) is None


def test_a_head_is_compared_with_what_its_own_part_reads_by(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
    ours, other = torch.ones(4, 2), torch.zeros(4, 2)
    stored = {
        "audio.embed_tokens.weight": other,
        "a.lm_head.weight": ours,
        "a.model.embed_tokens.weight": ours.clone(),
        "b.lm_head.weight": other.clone(),
        "b.model.embed_tokens.weight": other.clone(),
    }
    save_file(stored, tmp_path / "model.safetensors")
    assert untied(str(tmp_path), None) is None
    save_file(stored | {"b.lm_head.weight": ours.clone()}, tmp_path / "model.safetensors")
    assert "ties b.lm_head.weight to b.model.embed_tokens.weight, and" in str(untied(str(tmp_path), None))


@pytest.mark.parametrize(("inner", "outer", "ties"), [(False, True, False), (True, False, True), (None, True, True)])
def test_what_speaks_decides_whether_it_is_tied(tmp_path: Path, inner: bool | None, outer: bool, ties: bool) -> None:
    text = {} if inner is None else {"tie_word_embeddings": inner}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text, "tie_word_embeddings": outer}))
    stored = {"lm_head.weight": torch.ones(4, 2), "model.language_model.embed_tokens.weight": torch.zeros(4, 2)}
    save_file(stored, tmp_path / "model.safetensors")
    assert (untied(str(tmp_path), None) is not None) == ties


def test_weights_that_are_tied_need_not_be_there_twice(tmp_path: Path) -> None:
    folder = tiny_models.speaker(tmp_path, "llama", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert said(host(folder))


def test_weights_as_pytorch_saves_them_are_as_good(model: str) -> None:
    before = said(host(model))
    weights = load_file(Path(model, "model.safetensors"))
    Path(model, "model.safetensors").unlink()
    torch.save(weights, Path(model, "pytorch_model.bin"))
    assert said(host(model)) == before


def test_a_file_of_llama_cpp_is_told_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.Q4_K_M.gguf").write_bytes(b"GGUF")
    for place in (tmp_path, tmp_path / "model.Q4_K_M.gguf"):
        assert complaint(place).startswith("it is a GGUF file of llama.cpp's; give the model that it was made of, or")


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "hqq"])
def test_a_quantized_checkpoint_names_the_library_that_is_missing(model: str, method: str) -> None:
    change(model, "config.json", quantization_config={"quant_method": method, "bits": 4, "load_in_4bit": True})
    assert complaint(model).endswith("; install what it names where the model runs")


# ── models of another kind ──


SMALL = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64,
         "decoder_attention_heads": 2, "decoder_ffn_dim": 64}  # fmt: skip


@pytest.mark.parametrize("kind", ["bart", "mbart", "pegasus"])
def test_the_decoder_of_an_encoder_decoder_is_not_let_speak_alone(tmp_path: Path, kind: str) -> None:
    config = AutoConfig.for_model(kind, vocab_size=262, pad_token_id=0, eos_token_id=2, bos_token_id=1, **SMALL)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    assert re.fullmatch(
        r"it answers with a decoder what an encoder has read \(\w+ForConditionalGeneration\); give one that goes on "
        "with a text", complaint(tmp_path)
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_a_model_that_fills_gaps_is_not_let_speak(tmp_path: Path, kind: str, dtype: str) -> None:
    folder = tiny_models.speaker(tmp_path, kind, is_decoder=False, max_position_embeddings=128)
    with pytest.raises(HostDown, match=r"reads a text in both directions \(\w+\), and cannot go on with one; give a"):
        host(folder, dtype=dtype)


def test_a_model_that_also_sees_speaks_without_a_picture(tmp_path: Path) -> None:
    """A LLaVA, which transformers does not count among causal models, with its chat template beside its processor."""
    words = tiny_models.tokenizer()
    tokens = {"vocab_size": len(words), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    text = {"model_type": "llama", **tiny_models.SHAPE, **tokens, "max_position_embeddings": 300}
    sees = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 28, "patch_size": 14}  # fmt: skip
    torch.manual_seed(1)
    config = AutoConfig.for_model("llava", text_config=text, vision_config=sees, image_token_index=4)
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": tiny_models.WITH_SYSTEM}))
    speaker = host(tmp_path)
    assert speaker._longest == 300
    chat = [{"role": "user", "content": "Why?"}]
    written = speaker._tokenizer.decode(speaker._template.tokens(chat))
    assert written == "<s><turn>user\nWhy?<end><turn>assistant\n"
    assert said(speaker)


# ── adapters ──


def adapter(folder: Path, base: str, **settings: Any) -> Path:
    """A LoRA on a Llama's attention, as peft writes it."""
    folder.mkdir(exist_ok=True)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": 2, "lora_alpha": 4,
        "lora_dropout": 0.0, "bias": "none", "target_modules": ["q_proj"], "inference_mode": True,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    drawn = torch.Generator().manual_seed(9)
    names = [f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{half}" for layer in (0, 1) for half in "AB"]
    shapes = {"A": (2, 32), "B": (32, 2)}
    weights = {f"{name}.weight": torch.randn(shapes[name[-1]], generator=drawn) for name in names}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def merged(base: str, adapter: Path, folder: Path) -> str:
    """The same by arithmetic: W + (alpha / r) B A."""
    low = load_file(adapter / "adapter_model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            name = f"base_model.model.model.layers.{number}.self_attn.q_proj.lora_"
            layer.self_attn.q_proj.weight += 2 * low[f"{name}B.weight"] @ low[f"{name}A.weight"]
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / file).write_bytes(Path(base, file).read_bytes())
    return str(folder)


@PEFT
@pytest.mark.parametrize("together", [False, True], ids=["names its base", "beside its base"])
def test_an_adapter_speaks_as_the_model_that_it_is_merged_into(tmp_path: Path, model: str, together: bool) -> None:
    folder = adapter(Path(model) if together else tmp_path / "adapter", "nobody/no-model" if together else model)
    base = tiny_models.speaker(tmp_path / "base", "llama")
    right = said(host(merged(base, folder, tmp_path / "merged")))
    speaker = host(folder)
    assert said(speaker) == right != said(host(base))
    assert speaker.revision == f"adapter on {folder if together else model}"


@PEFT
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"base_model_name_or_path": None}, "its adapter_config.json names no base_model_name_or_path"),
        ({"task_type": "SEQ_CLS"}, r"its adapter is for another task \(SEQ_CLS\) than to speak"),
        ({"target_modules": ["k_proj"]}, "the adapter does not fit the model that it names: "),
        ({"target_modules": ["q_proj", "v_proj"]}, "the adapter does not fit the model that it names: "),
        ({"base_model_name_or_path": "/no/such/model"}, "; give a hub id, or a folder"),
    ],
    ids=["no base", "a classifier's", "other weights", "fewer weights", "a base that is not there"],
)
def test_an_adapter_that_does_not_fit_is_refused(
    tmp_path: Path, model: str, settings: dict[str, Any], sentence: str
) -> None:
    assert re.search(sentence, complaint(adapter(tmp_path / "adapter", **{"base": model}, **settings)))


@pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
@pytest.mark.parametrize("together", [False, True], ids=["alone", "beside its base"])
def test_an_adapter_needs_a_library_and_says_which(tmp_path: Path, model: str, together: bool) -> None:
    folder = adapter(Path(model) if together else tmp_path / "adapter", model)
    assert complaint(folder) == (
        "it is an adapter (LORA), and peft is not installed where the model runs: pip install 'emoray[lora]'"
    )


def test_what_a_merge_left_behind_is_no_adapter(model: str) -> None:
    before = said(host(model))
    Path(adapter(Path(model), "some/base"), "adapter_model.safetensors").unlink()
    assert adapter_of(model, None) is None
    assert said(host(model)) == before


def test_an_adapter_is_refused_before_an_engine_starts(tmp_path: Path, model: str) -> None:
    for folder in (adapter(tmp_path / "adapter", "some/base"), adapter(Path(model), "some/base")):
        with pytest.raises(HostDown) as told:
            VllmHost(Vllm(host="vllm", name="m", id=str(folder), device="cpu"))
        assert str(told.value) == (
            f"model 'm' ({folder}): the vLLM engine cannot start: it is an adapter of some/base; merge it into those "
            "weights (peft: merge_and_unload, save_pretrained) and give that folder, or take host: transformers"
        )


# ── revisions ──


def test_the_revision_of_a_hub_id_is_the_commit_that_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    kept = tmp_path / "models--some--model"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    (kept / "snapshots" / commit).mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert commit_of("some/model", None) == commit_of("some/model", "main") == commit
    assert commit_of("some/model", commit) == commit
    assert commit_of("some/other", "v1") == "v1"  # it cannot be asked for
    assert commit_of(str(tmp_path), None) is None
