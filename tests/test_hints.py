"""What somebody may have meant."""

from __future__ import annotations

import pytest

from emoray import hints


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
    "text", ["", "free", "many", "k", "%", "-", ".", "e5", "sk-proj-1234", "1,2", "1e400", "10kk", "a10"]
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


def test_a_word_is_near_in_whatever_case() -> None:
    assert hints.did_you_mean("Freedum", ["freedom", "art"]) == "; did you mean 'freedom'?"
    assert hints.did_you_mean("wibble", ["freedom", "art"]) == ""


@pytest.mark.parametrize("word", ["OpenAI", "openai", "open-ai", " openai "])
def test_a_provider_is_known_by_its_name(word: str) -> None:
    assert hints.tag_meant("host", word) == "hosted_api, with an account of kind: openai"
    assert hints.tag_meant("host", "wibble") is None
