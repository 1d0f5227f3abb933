"""One rule for how answers are drawn: the spec, then perhaps the model, then nothing."""

from __future__ import annotations

from typing import Any

import pytest

from emoray.study.experiment import Sampling
from emoray.study.sampling import NEUTRAL, BadDefaults, drawn, in_words, left_out, own

QWEN = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "eos_token_id": [1, 2], "do_sample": True, "min_p": None}


def test_the_spec_decides_then_the_defaults_then_nothing_shapes_an_answer() -> None:
    assert drawn(Sampling(0.0, 0.5, 9), own(QWEN)) == dict(NEUTRAL) | {
        "temperature": 0.0, "top_p": 0.5, "max_tokens": 9, "top_k": 20
    }  # fmt: skip
    assert drawn(Sampling(None, None, None), own(QWEN)) == dict(NEUTRAL) | {
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
    }
    assert drawn(Sampling(None, None, None), {}) == NEUTRAL


def test_a_models_own_settings_are_those_that_vllm_takes_from_it() -> None:
    told: dict[str, Any] = {
        "repetition_penalty": 1.1,
        "max_new_tokens": 2048,
        "top_k": -1,
        "num_beams": 4,
        "max_length": 9,
    }
    assert own(told) == {"repetition_penalty": 1.1, "max_tokens": 2048, "top_k": 0}
    assert own({}) == own({"temperature": None}) == {}


def test_what_is_not_taken_of_a_models_own_settings_is_said() -> None:
    told = {"no_repeat_ngram_size": 3, "suppress_tokens": [7, 8], "do_sample": False, "num_beams": 1, "top_k": 20}
    assert left_out(told) == [
        "its generation_config also says suppress_tokens of 2, no_repeat_ngram_size 3, do_sample False, and answers "
        "are drawn without; for the likeliest words set temperature: 0"
    ]
    assert left_out(QWEN) == left_out({}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("top_p", 0),
        ("top_p", 7.0),
        ("top_k", 1.5),
        ("top_k", -2),
        ("top_k", float("inf")),
        ("min_p", 1.1),
        ("repetition_penalty", 0),
        ("max_new_tokens", 0),
        ("temperature", "0.6"),
        ("top_p", True),
        ("min_p", [0.1]),
        ("temperature", float("nan")),
        ("repetition_penalty", float("inf")),
    ],
)
def test_by_what_nothing_can_be_drawn_is_said_in_a_sentence(name: str, value: Any) -> None:
    with pytest.raises(BadDefaults, match=r"^its generation_config has \w+ .*, by which nothing can be drawn$"):
        own({name: value})


def test_in_words_what_shapes_nothing_is_left_out_and_what_is_not_ours_is_said() -> None:
    asked = Sampling(0.7, None, None)
    assert in_words(drawn(asked, {})) == "temperature 0.7, top_p 1, max_tokens unlimited"
    assert in_words(drawn(asked, own(QWEN))) == "temperature 0.7, top_p 0.95, max_tokens unlimited, top_k 20"
    provider = {"temperature": 0.7, "top_p": None, "max_tokens": 256}
    assert in_words(provider) == "temperature 0.7, top_p the provider's own, max_tokens 256"
