"""A Llama with random weights and two layers, small enough for a test.

It has Llama 3's ways: a turn ends with <|eot_id|>, which only generation_config.json names beside <|end_of_text|>.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
THINKING = ["<think>", "</think>"]
POSITIONS = 2048  # its tokens are bytes, and prompts are long


TINY = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 64,  # vLLM's attention on CPU knows few sizes
}


def tiny_llama(folder: Path, shape: Mapping[str, int] = TINY) -> Path:
    """Writes the model, its tokenizer and its chat template into the folder, and returns it."""
    _tokenizer(folder)
    _weights(folder, shape)
    return folder


def llama_without_weights(folder: Path, shape: Mapping[str, int], vocabulary: int) -> Path:
    """For load_format=dummy: a shape, and a tokenizer with that many tokens."""
    _tokenizer(folder, vocabulary)
    _config(shape, vocabulary).save_pretrained(folder)
    return folder


def _tokenizer(folder: Path, size: int = 0) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = [*SPECIAL, *letters]
    known += [f"\u0120w{number}" for number in range(size - len(known) - len(THINKING))]  # spoken, never read
    vocabulary = {token: place for place, token in enumerate(known)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token) for token in THINKING])  # as DeepSeek's: not special, so they stay in texts
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1])
    fast.chat_template = LLAMA_3
    fast.save_pretrained(folder)


def _config(shape: Mapping[str, int], vocabulary: int) -> Any:
    from transformers import LlamaConfig

    known = {"architectures": ["LlamaForCausalLM"], "vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1}
    return LlamaConfig(**known, max_position_embeddings=POSITIONS, **shape)


def _weights(folder: Path, shape: Mapping[str, int]) -> None:
    import torch
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(_config(shape, len(SPECIAL) + 256 + len(THINKING)))
    model.generation_config.eos_token_id = [1, 2]
    model.save_pretrained(folder)
