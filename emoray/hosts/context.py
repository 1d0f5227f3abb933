"""How many tokens a model can hold, its answer included: what its configs, its positions and its tokenizer tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
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
    told = [*_told(model.config, turned), *_positions(model)]
    return min(told, default=None) or _limit(getattr(tokenizer, "model_max_length", None))


def lowered(config: Any, max_tokens: int | None = None) -> list[str]:
    """A sentence where less of a model is used than its config tells; `max_tokens` are those of an answer, if known."""
    written, used = (min(_told(config, move), default=0) for move in (_as_written, turned))
    if used >= written:
        return []
    wanted = f", and max_tokens {max_tokens} is more than that" if (max_tokens or 0) > used else ""
    return [
        f"its config.json tells {written} tokens, of which host transformers uses {used} for prompt and answer "
        f"together, as scaled positions read a longer text otherwise{wanted}; an answer ends there whatever "
        "max_tokens is, and host: vllm goes further"
    ]


def as_config(told: Mapping[str, Any]) -> Any:
    """What a config.json says, as `lowered` reads it."""
    parts = {name: as_config(told[name]) for name in _SPEAKS if isinstance(told.get(name), Mapping)}
    scaling = told.get("rope_parameters") or told.get("rope_scaling")
    known = scaling if isinstance(scaling, Mapping) else {}
    kind = known.get("rope_type") or known.get("type")
    rope = {**known, "rope_type": "longrope" if kind == "su" else kind}
    return SimpleNamespace(**{**told, **parts, "rope_parameters": rope})


def _told(config: Any, move: Callable[[Any, int], int]) -> list[int]:
    """The limits in the config of what speaks; in a wrapper's own, where that tells none."""
    parts = [part for name in _SPEAKS if (part := getattr(config, name, None)) is not None]
    inner = [limit for part in parts if hasattr(part, "__dict__") for limit in _told(part, move)]
    own = [limit for name in _NAMES if (limit := _limit(getattr(config, name, None)))]
    return inner or ([move(config, min(own))] if own else [])


def _as_written(_config: Any, limit: int) -> int:
    return limit


def turned(config: Any, limit: int) -> int:
    """A limit as far as scaled rotary positions move it; never beyond what is told, but where the length before
    scaling is told too, and is less.

    With longrope it is what the model was first trained to: one text beyond it turns all that share its batch. With
    dynamic it stays as told, for what a longer text turns stays so for those after it; and with linear, for some
    families tell the length before scaling, and others the one after it.
    """
    told = getattr(config, "rope_parameters", None) or {}
    scales = [one for one in told.values() if isinstance(one, Mapping)] or [told]
    for scale in scales if "gemma3" not in str(getattr(config, "model_type", "")) else ():
        kind, factor = scale.get("rope_type"), float(scale.get("factor") or 1.0)
        first = int(scale.get(_FIRST) or getattr(config, _FIRST, None) or limit)
        if kind == "longrope":
            return min(limit, first)
        if kind == "yarn" and first < limit:
            return int(first * factor)
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
