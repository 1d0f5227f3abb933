"""How an answer is drawn where we draw it ourselves: one rule, whichever host loads the model.

What the spec says holds. What it leaves open is the model's own (its generation_config) where the model entry says
`sampling_defaults: model`; else nothing shapes an answer that the spec does not name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Protocol

from emoray.study.experiment import Sampling

Settings = dict[str, float | None]
NEUTRAL: Mapping[str, float | None] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "max_tokens": None,  # to the end of what the model can hold
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
ASKED = tuple(setting.name for setting in fields(Sampling))  # by every ask; the others are a model's own alone
_WHOLE = ("max_tokens", "top_k")
_OTHER_NAMES = {"max_new_tokens": "max_tokens"}
# of transformers, what shapes answers there and not with vLLM, and the value by which it shapes nothing
_LEFT_OUT: Mapping[str, Any] = {
    **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias", "stop_strings")),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty")),
    **dict.fromkeys(("penalty_alpha", "watermarking_config", "dola_layers")),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens"), 0),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff", "top_h", "presence_penalty", "frequency_penalty"), 0),
    **dict.fromkeys(("num_beams", "num_beam_groups", "typical_p", "encoder_repetition_penalty", "guidance_scale"), 1),
    "do_sample": True,
}
_CAN_BE: dict[str, Callable[[float], bool]] = {
    "temperature": lambda x: x >= 0,
    "top_p": lambda x: 0 < x <= 1,
    "max_tokens": lambda x: x >= 1 and x == int(x),
    "top_k": lambda x: x >= -1 and x == int(x),  # -1, as 0: all tokens
    "min_p": lambda x: 0 <= x <= 1,
    "repetition_penalty": lambda x: x > 0,
}


class Asked(Protocol):
    """A `Sampling`, or an `Ask`; None leaves a setting open."""

    @property
    def temperature(self) -> float | None: ...
    @property
    def top_p(self) -> float | None: ...
    @property
    def max_tokens(self) -> int | None: ...


class BadDefaults(ValueError):
    """A generation_config that nothing can be drawn by; the message is one sentence."""


def own(config: Mapping[str, Any]) -> Settings:
    """What a generation_config says of the settings that we know; BadDefaults where it cannot be meant."""
    told = {_OTHER_NAMES.get(name, name): value for name, value in config.items() if value is not None}
    return {name: _checked(name, told[name]) for name in NEUTRAL if name in told}


def left_out(config: Mapping[str, Any]) -> list[str]:
    """A sentence where a generation_config says more than is taken from it with `sampling_defaults: model`."""
    more = {name: config[name] for name, none in _LEFT_OUT.items() if config.get(name) not in (None, none)}
    if not more:
        return []
    told = ", ".join(f"{name} {_in_short(value)}" for name, value in more.items())
    hint = "; for the likeliest words set temperature: 0" if more.get("do_sample") is False else ""
    return [f"its generation_config also says {told}, and answers are drawn without{hint}"]


def drawn(asked: Asked, defaults: Mapping[str, float | None]) -> Settings:
    """All settings of an ask: what it says, else the defaults, else what shapes nothing."""
    said = {name: getattr(asked, name) for name in ASKED}
    return {**NEUTRAL, **defaults, **{name: value for name, value in said.items() if value is not None}}


def in_words(settings: Mapping[str, float | None]) -> str:
    """`temperature 1, top_p 0.8, max_tokens 256, top_k 20`; of a setting without a value: that it is not ours."""
    always = [f"{name} {_shown(name, settings.get(name), 'top_k' in settings)}" for name in ASKED]
    beside = [name for name in NEUTRAL if name not in ASKED and settings.get(name, NEUTRAL[name]) != NEUTRAL[name]]
    return ", ".join([*always, *(f"{name} {settings[name]:g}" for name in beside)])


def _shown(name: str, value: float | None, ours: bool) -> str:
    if value is not None:
        return f"{value:g}"
    return "unlimited" if ours and name == "max_tokens" else "the provider's own"


def _in_short(value: object) -> str:
    return f"of {len(value)}" if isinstance(value, list | dict) else f"{value}"


def _checked(name: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not _CAN_BE[name](value):
        raise BadDefaults(f"its generation_config has {name} {value!r}, by which nothing can be drawn")
    return max(0, int(value)) if name in _WHOLE else float(value)
