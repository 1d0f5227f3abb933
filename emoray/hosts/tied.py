"""Whether a checkpoint says words by the weights that it reads them by, as its config.json tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from emoray.hosts.weights import file_of, json_of

_SAYS, _READS = "lm_head.weight", ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_TOWERS = re.compile(r"vision|visual|image|audio|speech|encoder|talker|(^|[._])mtp|draft")  # no part that speaks
_ROWS = 64  # that are compared


def untied(model: str, revision: str | None) -> str | None:
    """Why a folder cannot be given to vLLM, as the end of a sentence: where config.json ties the two it passes over the
    weights of the head, and transformers takes them.
    """
    config = file_of(model, revision, "config.json")
    if config is None or not Path(model).is_dir() or not _ties(json_of(config)):
        return None
    with suppress(Exception), ExitStack() as opened:  # whoever loads a broken file meets the same, and tells
        stored = dict(_stored(Path(model), opened))
        for says, reads in _pairs(sorted(stored)):
            if not _alike(stored[says], stored[reads]):
                return (
                    f"its config.json ties {says} to {reads}, and their weights differ: vLLM takes the latter alone; "
                    "set tie_word_embeddings: false there, or take host: transformers"
                )
    return None


def _pairs(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each head of what speaks with what reads in the same part: nearest to it under the same prefix."""
    heads = [name for name in names if name.endswith(_SAYS) and not _TOWERS.search(name)]
    reads = [name for name in names if name.endswith(_READS) and not _TOWERS.search(name)]
    for head in heads:
        others = tuple(part for one in heads if (part := _part(one)).startswith(_part(head)) and one != head)
        inside = [name for name in reads if name.startswith(_part(head)) and not name.startswith(others)]
        found = inside or (reads if len(heads) == len(reads) == 1 else [])
        if found:
            yield head, min(found, key=lambda name: name.count("."))


def _part(head: str) -> str:
    """`thinker.` of `thinker.lm_head.weight`."""
    return head.removesuffix(_SAYS)


def _ties(config: dict[str, Any]) -> bool:
    """What speaks decides, where its own part of the config tells."""
    inner = config.get("text_config")
    told = inner if isinstance(inner, dict) and "tie_word_embeddings" in inner else config
    return bool(told.get("tie_word_embeddings"))


def _stored(folder: Path, opened: ExitStack) -> Iterator[tuple[str, Any]]:
    """Each tensor of each file, unread."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        weights = opened.enter_context(safe_open(file, "pt"))
        yield from ((name, weights.get_slice(name)) for name in weights.keys())  # noqa: SIM118 - no mapping


def _alike(one: Any, other: Any) -> bool:
    rows, columns = one.get_shape()
    if other.get_shape() != [rows, columns]:
        return False
    step = max(1, rows // _ROWS)
    return all(bool((one[row : row + 1] == other[row : row + 1]).all()) for row in range(0, rows, step))
