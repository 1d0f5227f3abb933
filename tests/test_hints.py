"""What somebody may have meant."""

from __future__ import annotations

import pytest

from emoray import hints
from emoray.study.sampling import ASKED, NEUTRAL


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10k", "10000"),
        ("10K", "10000"),
        ("10 k", "10000"),
        ("1.5M", "1500000"),
        ("2 million", "2000000"),
        ("1bn", "1000000000"),
        ("10,000", "10000"),
        ("1,234,567", "1234567"),
        ("10 000", "10000"),
        ("1'000", "1000"),
        ("1e5", "100000"),
        ("1e-5", "0.00001"),
        ("-3", "-3"),
        ("70%", "0.7"),
        ("$20", "20"),
        ("20 USD", "20"),
        ("500/min", "500"),
        ("10k per minute", "10000"),
        ("3", "3"),
        ("90°", "90"),
        ("512 tokens", "512"),
    ],
)
def test_a_number_is_found_however_it_is_written(text: str, number: str) -> None:
    assert hints.number_meant(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "free", "many", "k", "%", "-", ".", "e5", "sk-proj-1234", "1,2", "1e400", "10kk", "a10", "0,700", "0 700"],
)
def test_what_is_no_number_stays_none(text: str) -> None:
    assert hints.number_meant(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120s", "120"), ("2 min", "120"), ("2m", "120"), ("1h", "3600"), ("500ms", "0.5"), ("1k", "1000")],
)
def test_a_time_is_meant_in_seconds(text: str, seconds: str) -> None:
    assert hints.seconds_meant(text) == seconds


@pytest.mark.parametrize(
    ("text", "minutely"),
    [
        ("10/s", "600"),
        ("10 rps", "600"),
        ("500 rpm", "500"),
        ("10k", "10000"),
        ("600 per hour", "10"),
        ("1/fortnight", None),
    ],
)
def test_a_rate_is_meant_in_the_unit_of_its_setting(text: str, minutely: str | None) -> None:
    assert hints.rate_meant(text, "minute") == minutely


@pytest.mark.parametrize(
    ("text", "setting", "meant"),
    [
        ("1,500", "budget_usd", ["1500", "1.5"]),
        ("0,700", "temperature", ["0.7"]),
        ("-0,250", "valence", ["-0.25"]),
        ("1,234,567", "tokens_per_minute", ["1234567"]),
        ("5%", "first_wait_s", []),
        ("5%", "budget_usd", []),
        ("5%", "requests_per_minute", []),
        ("70%", "share", ["0.7"]),
        ("€20", "budget_usd", []),
        ("$20", "timeout_s", []),
        ("500 tpm", "requests_per_minute", []),
        ("512 tokens", "budget_usd", []),
        ("20/day", "budget_usd", []),
        ("90s", "timeout_s", ["90"]),
        ("10 rps", "requests_per_minute", ["600"]),
    ],
)
def test_a_number_is_meant_in_the_unit_of_its_setting_or_none_is(text: str, setting: str, meant: list[str]) -> None:
    assert hints.numbers_meant(text, setting, lambda _: True) == meant


@pytest.mark.parametrize(
    ("word", "setting", "value", "how"),
    [
        ("requests_per_second", "requests_per_minute", 10, ", times 60: 600"),
        ("rps", "requests_per_minute", 0.5, ", times 60: 30"),
        ("tps", "tokens_per_minute", 1000, ", times 60: 60000"),
        ("requests_per_hour", "requests_per_minute", 600, ", divided by 60: 10"),
        ("rpm", "requests_per_minute", 10, ""),
        ("rpd", "requests_per_day", 10, ""),
        ("timeout_ms", "timeout_s", 60000, ", in seconds: 60"),
        ("timeout_minutes", "timeout_s", 2, ", in seconds: 120"),
        ("timeout_ms", "timeout_s", "long", ", in seconds"),
        ("timeout", "timeout_s", 60, ""),
        ("rate_limit", "requests_per_minute", 60, ""),
        ("max_length", "max_tokens", 60, ""),
        ("budget_eur", "budget_usd", 5, ", in US dollars"),
        ("deadline_h", "deadline", 6, ", with its unit"),
    ],
)
def test_a_name_of_another_unit_tells_how_its_value_changes(word: str, setting: str, value: object, how: str) -> None:
    assert hints.in_its_unit(word, setting, value) == how


def test_of_what_shapes_answers_a_model_has_of_its_own_what_is_taken_from_it() -> None:
    assert set(NEUTRAL) - set(ASKED) == hints.OF_THE_MODEL


def test_a_word_is_near_in_whatever_case() -> None:
    assert hints.did_you_mean("Freedum", ["freedom", "art"]) == "; did you mean 'freedom'?"
    assert hints.did_you_mean("wibble", ["freedom", "art"]) == ""


@pytest.mark.parametrize("word", ["OpenAI", "openai", "open-ai", " openai "])
def test_a_provider_is_known_by_its_name(word: str) -> None:
    assert hints.tag_meant("host", word) == "hosted_api, with an account of kind: openai"
    assert hints.tag_meant("host", "wibble") is None
