"""The two folders are whole, small, and ordinary Hugging Face models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from training.generator import CHAT_TEMPLATE, chat_text
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from emoray import embedded
from emoray.study.goemotions import LABELS

FOLDERS = (embedded.generator_path(), embedded.reader_path())


def config(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def test_the_weights_are_the_ones_that_were_shipped() -> None:
    embedded.verify()


def test_damaged_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedded.CHECKSUMS, "reader", "0" * 64)
    with pytest.raises(embedded.DamagedModel, match=r"reader.*model\.safetensors is damaged"):
        embedded.verify()


def test_both_models_together_stay_under_thirty_megabytes() -> None:
    assert sum((folder / "model.safetensors").stat().st_size for folder in FOLDERS) < 30e6


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_the_weights_are_half_precision_on_disk(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        kinds = {weights.get_tensor(name).dtype for name in weights.keys()}  # noqa: SIM118 - it is no dict
    assert kinds == {torch.float16}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_the_card_names_the_checksum_and_fills_every_blank(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert embedded.CHECKSUMS[folder.name] in card
    assert not re.search(r"\{\w+\}", card)


def test_the_reader_has_the_real_label_names_in_the_order_of_goemotions() -> None:
    said = config(embedded.reader_path())
    assert tuple(said["id2label"][str(i)] for i in range(28)) == LABELS
    assert said["problem_type"] == "single_label_classification"
    assert said["max_position_embeddings"] == 256


def test_the_reader_loads_as_any_classifier_does() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(embedded.reader_path())
    model: Any = AutoModelForSequenceClassification.from_pretrained(embedded.reader_path(), dtype=torch.float32)
    with torch.no_grad():
        said = model(**tokenizer(["Thank you so much for this!"], return_tensors="pt")).logits.argmax(-1)
    assert model.config.id2label[int(said)] == "gratitude"


def test_the_reader_cuts_what_is_longer_than_it_can_read() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(embedded.reader_path())
    assert len(tokenizer("word " * 1000, truncation=True)["input_ids"]) == 256


def test_the_generator_loads_as_any_chat_model_does() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(embedded.generator_path())
    model: Any = AutoModelForCausalLM.from_pretrained(embedded.generator_path(), dtype=torch.float32)
    chat = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "What is freedom?"}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    said = model.generate(**asked, do_sample=False)[0, asked["input_ids"].shape[1] :].tolist()
    assert said[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(said, skip_special_tokens=True).strip()


def test_the_generator_was_trained_on_what_its_chat_template_writes() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(embedded.generator_path())
    chat = [{"role": "system", "content": " Be sad. "}, {"role": "user", "content": "Why?"}]
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == chat_text(chat)


def test_the_heads_are_as_wide_as_every_attention_kernel_knows() -> None:
    assert config(embedded.generator_path())["head_dim"] == 64


def test_every_digit_is_a_token_so_that_close_numbers_can_be_told_apart() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(embedded.generator_path())
    pieces = tokenizer.tokenize("arousal=0.866 and valence=-0.5")
    assert [piece for piece in pieces if any(c.isdigit() for c in piece)] == ["0", "8", "6", "6", "0", "5"]
