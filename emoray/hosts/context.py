"""How many tokens a model can hold, its answer included: what its configs, its positions and its tokenizer tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = (  # of the limit, in one family or another
    *("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "max_seq_length"),
    *("seq_length", "seq_len", "n_ctx", "model_max_length", "max_target_positions", "max_context_length"),
)
_SPEAKS = ("text_config", "llm_config", "language_config", "decoder", "generator")  # of what a config is made of
_POSITIONS = ("wpe", "position_embeddings", "position_embedding", "embed_positions", "positions_embed", "pos_embed")
_TOWERS = ("vision", "visual", "image", "audio", "speech", "encoder")  # what sees, hears or reads has its own places
_FIRST = "original_max_position_embeddings"
_SANE = 10**9  # a tokenizer without a limit says 10^30


def longest(model: Any, tokenizer: Any) -> int | None:
    """Tokens of prompt and answer together; None where nothing ends them: recurrent models, relative positions."""
    told = [*_told(model.config), *_positions(model)]
    return min(told, default=None) or _limit(getattr(tokenizer, "model_max_length", None))


def _told(config: Any) -> list[int]:
    """The limits in the config of what speaks; in a wrapper's own, where that tells none."""
    parts = [part for name in _SPEAKS if (part := getattr(config, name, None)) is not None]
    inner = [limit for part in parts if hasattr(part, "to_dict") for limit in _told(part)]
    own = [limit for name in _NAMES if (limit := _limit(getattr(config, name, None)))]
    return inner or ([turned(config, min(own))] if own else [])


def turned(config: Any, limit: int) -> int:
    """A limit as far as scaled rotary positions move it, by vLLM's rule.

    With longrope it is what the model was first trained to: one text beyond it turns all that share its batch. With
    dynamic it stays as told, for what a longer text turns stays so for those after it.
    """
    told = getattr(config, "rope_parameters", None) or {}
    scales = [one for one in told.values() if isinstance(one, Mapping)] or [told]
    for scale in scales if "gemma3" not in str(getattr(config, "model_type", "")) else ():
        kind, factor = scale.get("rope_type"), float(scale.get("factor") or 1.0)
        first = scale.get(_FIRST) or getattr(config, _FIRST, None) or limit
        if kind == "longrope":
            return min(limit, int(first))
        if kind == "yarn":
            return int((scale.get(_FIRST) or limit) * factor)
        if kind == "linear":
            return int(limit * factor)
    return limit


def _positions(model: Any) -> Iterator[int]:
    """Of models that learn each position, how many they learnt: beyond them lies no weight."""
    for name, module in model.named_modules():
        size = _limit(getattr(module, "num_embeddings", None))
        if size and name.rpartition(".")[2] in _POSITIONS and not any(tower in name for tower in _TOWERS):
            yield size - _unused(module)


def _unused(positions: Any) -> int:
    """Places before the first position: OPT's and BART's offset, RoBERTa's padding."""
    if offset := getattr(positions, "offset", 0):
        return int(offset)
    padding = getattr(positions, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def _limit(value: Any) -> int | None:
    """A number of tokens, where it is one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if number and 0 < value < _SANE else None
