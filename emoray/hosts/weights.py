"""A model's weights on a machine before the engine that loads them: downloaded, read into the page cache, and told
apart where they are no model by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

from emoray.spec.models import Local, ModelEntry, Vllm

_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
_ADAPTER = "adapter_config.json"  # PEFT's
_PIECE = 1 << 24  # bytes read at once
_SHARE = 0.5  # of the memory that is free; more would push out what is wanted sooner


def has_weights(entry: ModelEntry | None) -> TypeGuard[Vllm | Local]:
    """Whether there is something to fetch; an address such as s3:// is the engine's own business."""
    return isinstance(entry, Vllm | Local) and "://" not in entry.id


def fetch(model: str, revision: str | None) -> int:
    """Downloads a hub id where it is missing, and reads the weights once; returns the bytes read.

    It is only a head start: what fails here, the engine will say.
    """
    folder = Path(model) if Path(model).is_dir() else _downloaded(model, revision)
    weights = sorted(folder.glob("*.safetensors")) if folder else []
    if sum(file.stat().st_size for file in weights) > _SHARE * _free_bytes():
        return 0
    return sum(_read(file) for file in weights)


def adapter_of(model: str, revision: str | None) -> dict[str, Any] | None:
    """What a LoRA or another PEFT adapter says of itself, such as `base_model_name_or_path`; None of a whole model."""
    file = file_of(model, revision, _ADAPTER)
    if file is None or not _has_adapter_weights(_names(model, revision, file.parent)):
        return None
    return json_of(file)


def processor_template(model: str, revision: str | None) -> str | None:
    """The chat template that is kept for a model's processor: some that also see have it nowhere else."""
    file = file_of(model, revision, "chat_template.json")
    text = json_of(file).get("chat_template") if file else None
    return text if isinstance(text, str) else None


def unmerged(adapter: Mapping[str, Any]) -> str:
    """Why an adapter is nothing by itself, as the end of a sentence."""
    base = adapter.get("base_model_name_or_path") or "a model that it does not name"
    merge = "merge it into those weights (peft: merge_and_unload, save_pretrained) and give that folder"
    return f"it is an adapter of {base}; {merge}"


def commit_of(model: str, revision: str | None) -> str | None:
    """The commit that a revision of a hub id is now; the revision itself of a folder, or where no hub can be asked."""
    if "://" in model or Path(model).exists():
        return revision
    with suppress(Exception):  # no network, no such model: who loads it meets the same, and tells
        from huggingface_hub import HfApi, constants

        return HfApi().resolve_revision(model, revision=revision, local_files_only=constants.HF_HUB_OFFLINE).resolved
    return revision


def unusual(model: str) -> str | None:
    """Why a path is nothing that PyTorch's engines load, as the end of a sentence; None where it may be."""
    path = Path(model)
    ggufs = path.suffix == ".gguf" or (any(path.glob("*.gguf")) and not any(path.glob("*.safetensors")))
    if ggufs:
        return "it is a GGUF file of llama.cpp's; give the model that it was made of, or serve it (host: hosted_api)"
    return None


def broken_settings(model: str, revision: str | None) -> str | None:
    """Why a generation_config.json cannot be read, as the end of a sentence: whoever loads the model would go on
    without, and ask by other settings and to another end.
    """
    file = file_of(model, revision, "generation_config.json")
    if file is None or json_of(file):
        return None
    with suppress(ValueError):
        if json.loads(file.read_text(encoding="utf-8")) == {}:
            return None
    return "its generation_config.json is no JSON object; correct it, or delete it"


def file_of(model: str, revision: str | None, name: str) -> Path | None:
    """A file of a folder, or of a hub id."""
    if Path(model).exists():
        file = Path(model, name)
        return file if file.is_file() else None
    if "://" in model:
        return None
    with suppress(Exception):
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(model, name, revision=revision))
    return None


def json_of(file: Path) -> dict[str, Any]:
    """What a JSON file says."""
    with suppress(ValueError):
        told = json.loads(file.read_text(encoding="utf-8"))
        return told if isinstance(told, dict) else {}
    return {}


def _has_adapter_weights(names: Collection[str]) -> bool:
    """Beside the weights of a whole model, adapter_config.json alone is what was left of a merge."""
    whole = any(name.endswith((".safetensors", ".bin")) for name in names)
    return not whole or any(name.startswith("adapter_model") for name in names)


def _names(model: str, revision: str | None, folder: Path) -> list[str]:
    """Of a hub id the files on the hub; where it cannot be reached, those in the cache."""
    if not Path(model).exists():
        from huggingface_hub import HfApi

        with suppress(Exception):  # no network, no permission: whoever loads it meets the same, and tells
            return list(HfApi().list_repo_files(model, revision=revision))
    return [file.name for file in folder.iterdir()]


def _downloaded(model: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download

    with suppress(Exception):  # no network, no such model, no permission: the engine meets the same, and tells
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(_FILES)))
    return None


def _read(file: Path) -> int:
    with file.open("rb") as data:
        return sum(len(piece) for piece in iter(lambda: data.read(_PIECE), b""))


def _free_bytes() -> int:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0
