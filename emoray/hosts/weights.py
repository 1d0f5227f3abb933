"""A model's weights on a machine before the engine that loads them: downloaded, and read into the page cache."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TypeGuard

from emoray.spec import Local, ModelEntry, Vllm

_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
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
