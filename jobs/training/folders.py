"""Writes a model and its tokenizer as an ordinary Hugging Face folder that transformers 5 and 4.57 both read."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast


def save(model: Any, tokenizer: PreTrainedTokenizerFast, out: Path, chat_template: str | None = None) -> None:
    """fp16 on disk; a CPU should load it as float32, which is several times faster there."""
    tokenizer.save_pretrained(out)
    settings = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    del settings["backend"]  # transformers 4.57 knows neither this nor the class that 5 writes
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if chat_template is not None:
        settings["chat_template"] = chat_template
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    model.half().save_pretrained(out)
