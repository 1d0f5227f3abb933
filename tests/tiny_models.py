"""Hugging Face folders with random weights, made in a second: real parts, only small."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<turn>", "<end>"]
WITH_SYSTEM = (
    "{{ '<s>' }}{% for m in messages %}{{ '<turn>' + m['role'] + '\\n' + m['content'] + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>assistant\\n' }}{% endif %}"
)
WITHOUT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + WITH_SYSTEM
)
DROPS_SYSTEM = WITH_SYSTEM.replace("{% for m in messages %}", "{% for m in messages if m['role'] == 'user' %}")

THINKS = WITH_SYSTEM + (  # as Qwen 3's and DeepSeek R1's
    "{% if add_generation_prompt %}{{ '<think>\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)


def tokenizer(*, classifier: bool = False) -> PreTrainedTokenizerFast:
    """Bytes as tokens: every text can be written, and its length is known."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *letters])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if classifier:
        ends = [("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
        made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


def generator(folder: Path, *, chat_template: str | None = WITH_SYSTEM, positions: int = 512, seed: int = 1) -> str:
    """A two-layer Llama that babbles; its turn ends with </s> or <end>."""
    torch.manual_seed(seed)
    words = tokenizer()
    words.chat_template = chat_template
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=1,
        eos_token_id=[2, 5],
        pad_token_id=0,
        initializer_range=0.3,  # more than usual: answers that differ
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def sayer(folder: Path, words: Sequence[str], *, special: Sequence[str] = (), chat_template: str = WITH_SYSTEM) -> str:
    """A Llama that says these words, one after the other, whatever it is asked, and ends its turn.

    Each word is a token; those in `special` are special ones, which a decoder leaves out. No word may come twice.
    """
    known = tokenizer()
    known.add_tokens([AddedToken(word, special=word in special, normalized=False) for word in words])
    known.chat_template = chat_template
    says = [*known.convert_tokens_to_ids(list(words)), known.eos_token_id]
    size = 64 * -(-len(known) // 64)
    config = LlamaConfig(
        vocab_size=len(known),
        hidden_size=size,  # a direction for every token
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=size // 64,
        num_key_value_heads=size // 64,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=[2, 5],
        pad_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(weights.ndim == 1)  # nothing but the norms: what comes in goes out
        model.get_input_embeddings().weight.copy_(torch.eye(len(known), size))
        first, *_ = known.convert_tokens_to_ids(["\u010a"])  # the line feed with which every prompt ends
        for before, after in pairwise([first, *says]):
            model.get_output_embeddings().weight[after, before] = 10.0
    model.save_pretrained(folder)
    known.save_pretrained(folder)
    return str(folder)


def classifier(
    folder: Path,
    labels: Sequence[str],
    *,
    kind: str = "bert",
    problem_type: str | None = "single_label_classification",
    positions: int = 40,
    seed: int = 2,
) -> str:
    """A one-layer Bert, Roberta or DistilBert with these labels in this order."""
    torch.manual_seed(seed)
    words = tokenizer(classifier=True)
    shape: Mapping[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "hidden_dim": 64,  # as DistilBert calls it
        "max_position_embeddings": positions,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "pad_token_id": 0,
        "initializer_range": 0.5,
    }
    config = {"bert": BertConfig, "roberta": RobertaConfig, "distilbert": DistilBertConfig}[kind](**shape)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    change(folder, "config.json", problem_type=problem_type)
    return str(folder)


def change(folder: Path | str, file: str, **settings: Any) -> None:
    """Other settings in one of a model's JSON files."""
    path = Path(folder, file)
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def lose_vocabulary(folder: Path | str, kind: str) -> None:
    """As where somebody copied a model without the files of its tokenizer; `kind` is the class that it had."""
    Path(folder, "tokenizer.json").unlink(missing_ok=True)
    change(folder, "tokenizer_config.json", tokenizer_class=kind)


def break_bias(folder: Path, output: int) -> None:
    """Such an output of a Bert is no number any more."""
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][output] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


SHAPE: Mapping[str, Any] = {  # of most families; each takes what it knows
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.3,
}
_OTHER_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 256},
    "codegen": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 256, "n_ctx": 256},
    "gpt_neo": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
                "window_size": 8, "max_position_embeddings": 256},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 256},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64, "max_position_embeddings": 256},
    "biogpt": {"max_position_embeddings": 256},
    "bart": {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64,
             "encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "max_position_embeddings": 256,
             "init_std": 0.3, "is_decoder": True, "is_encoder_decoder": False},
    "roberta": {"is_decoder": True, "max_position_embeddings": 130, "type_vocab_size": 1},
    "bert": {"is_decoder": True, "max_position_embeddings": 128},
    "ctrl": {"n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 64, "n_positions": 256},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 16},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 4},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8},
    "rwkv": {"attention_hidden_size": 32, "context_length": 256},
    "recurrent_gemma": {"num_key_value_heads": 2, "lru_width": 32, "attention_window_size": 16, "num_hidden_layers": 3},
    "falcon": {"alibi": False},
    "qwen2": {"num_key_value_heads": 2},
    "qwen2_moe": {"num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                  "shared_expert_intermediate_size": 32},
}  # fmt: skip


def speaker(folder: Path, kind: str, *, seed: int = 3, **settings: Any) -> str:
    """A small model of any family that says something else to every prompt, with WITH_SYSTEM as its template."""
    torch.manual_seed(seed)
    words = tokenizer()
    words.chat_template = WITH_SYSTEM
    known = {"vocab_size": len(words), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **{**known, **SHAPE, **_OTHER_SHAPES.get(kind, {}), **settings})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # what starts as zeros or ones says the same to everything
        for weights in model.parameters():
            weights.add_((0.3 if weights.ndim > 1 else 0.02) * torch.randn_like(weights))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)
