"""What the files of a model say before it is loaded, where they are on this machine; nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from emoray.spec.models import Local, Vllm

_TEMPLATES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")


def generation_config(entry: Local | Vllm) -> dict[str, Any] | None:
    """The model's own, or what its config says in its place; None where this machine does not know it."""
    found = _file(entry.id, entry.revision, "generation_config.json")
    if found is None and Path(entry.id).is_dir():
        found = _file(entry.id, entry.revision, "config.json")
    return _json(found) if found else None


def config_file(entry: Local | Vllm) -> dict[str, Any]:
    """Its config.json; {} where this machine does not know it."""
    found = _file(entry.id, entry.revision, "config.json")
    return _json(found) if found else {}


def chat_template(entry: Local | Vllm) -> str:
    """All that is there of the model's chat templates, or the spec's own; "" where this machine knows of none."""
    if isinstance(entry, Vllm) and entry.chat_template:
        return entry.chat_template
    return "\n".join(_templates(_tokenizer_of(entry), entry.revision))


def _tokenizer_of(entry: Local | Vllm) -> str:
    other = entry.engine_kwargs.get("tokenizer") if isinstance(entry, Vllm) else None
    return str(other or entry.id)


def _templates(model: str, revision: str | None) -> Iterator[str]:
    for name in _TEMPLATES:
        file = _file(model, revision, name)
        if file is None:
            continue
        if file.suffix == ".jinja":
            yield _text(file)
        elif told := _json(file).get("chat_template"):
            yield told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)  # several, by name


def _file(model: str, revision: str | None, name: str) -> Path | None:
    """A file of a local folder, or of a hub id that was downloaded before."""
    if Path(model).is_dir():
        file = Path(model, name)
        return file if file.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    with suppress(Exception):  # no hub id at all, or a cache that nobody can read
        cached = try_to_load_from_cache(model, name, revision=revision)
        return Path(cached) if isinstance(cached, str) else None
    return None


def _json(file: Path) -> dict[str, Any]:
    with suppress(ValueError):
        told = json.loads(_text(file))
        return told if isinstance(told, dict) else {}
    return {}


def _text(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""
