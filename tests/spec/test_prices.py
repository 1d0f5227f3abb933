"""Money: what models cost, and what a run will cost."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from emoray.commands.estimate import estimate, whole
from emoray.spec.accounts import Price
from emoray.spec.load import parse
from emoray.spec.models import Hosted
from emoray.spec.prices import PriceTable, price_of, shipped
from emoray.study.prompts import Prompt, prompts

TABLE = PriceTable(
    date(2026, 1, 1),
    {
        "gpt-4o": Price(input=2.5, output=10.0),
        "gpt-4o-2024-05-13": Price(input=5.0, output=15.0),
        "gpt-4o-mini": Price(input=0.15, output=0.6),
    },
)


def entry(id: str, **settings: Any) -> Hosted:
    return Hosted(**{"host": "hosted_api", "name": "m", "id": id, "account": "lab"} | settings)


@pytest.mark.parametrize(
    ("id", "price"),
    [
        ("gpt-4o", 2.5),
        ("gpt-4o-2024-08-06", 2.5),  # a version costs what the id costs
        ("gpt-4o-2024-05-13", 5.0),  # unless it is listed
        ("gpt-4o-mini", 0.15),
        ("gpt-4o-mini-2024-07-18", 0.15),
        ("gpt-4o-audio-preview", None),  # another model
        ("gpt-4", None),
        ("gpt-4oo", None),
    ],
)
def test_a_price_is_found_by_id_or_by_the_id_that_it_is_a_version_of(id: str, price: float | None) -> None:
    found = price_of(entry(id), TABLE)
    assert (found.input if found else None) == price


def test_the_spec_goes_before_the_table() -> None:
    own = Price(input=1.0, output=2.0)
    assert price_of(entry("gpt-4o", usd_per_million=own), TABLE) == own
    assert price_of(entry("gpt-4o", usd_per_million=own, host="batch_api"), TABLE) == own


def test_a_batch_costs_half() -> None:
    assert price_of(entry("gpt-4o", host="batch_api"), TABLE) == Price(input=1.25, output=5.0)


def test_the_shipped_table_has_a_date_and_knows_the_hosted_models_of_the_paper() -> None:
    assert isinstance(shipped().as_of, date)
    openai, others = ["gpt-3.5-turbo", "gpt-4", "gpt-4-turbo", "gpt-4o"], ["gemini-1.5-flash", "gemini-1.5-pro"]
    for id in [*openai, *others, "command-r-plus"]:
        price = price_of(entry(id))
        assert price is not None
        assert 0 < price.input < price.output


SPEC = """
name: plan
accounts: {lab: {}}
models: [{name: m, host: hosted_api, id: gpt-4o, account: lab}]
states: 4
questions: [freedom]
repetitions: 3
"""


def asked() -> list[Prompt]:
    return list(prompts(parse(SPEC).experiment.grid("m")))


def test_an_estimate_adds_up_and_says_what_it_assumed() -> None:
    found = estimate(entry("gpt-4o"), asked(), max_tokens=100)
    chars = sum(len(message["content"]) for prompt in asked() for message in prompt.chat)
    assert found.cells == 12
    assert found.prompt_tokens == pytest.approx(chars / 4 + 12 * (3 + 2 * 4), abs=1)
    assert found.completion_tokens == 12 * 50
    assert found.most_completion_tokens == 12 * 100
    assert found.usd == pytest.approx((found.prompt_tokens * 2.5 + 600 * 10.0) / 1e6, rel=1e-3)
    assert found.most_usd == pytest.approx((found.prompt_tokens * 2.5 + 1200 * 10.0) / 1e6, rel=1e-3)
    assumed = " ".join(found.assumed)
    assert "4 characters each" in assumed
    assert "50% of max_tokens" in assumed
    assert str(shipped().as_of) in assumed


def test_answers_that_are_there_tell_how_long_the_others_will_be() -> None:
    found = estimate(entry("gpt-4o"), asked(), max_tokens=100, seen_completion_tokens=20.0)
    assert found.completion_tokens == 240
    assert any("mean of the answers so far" in sentence for sentence in found.assumed)


def test_an_unknown_price_is_said_and_never_counted_as_zero() -> None:
    known, unknown = (estimate(entry(id), asked(), max_tokens=100) for id in ("gpt-4o", "somebody/else"))
    assert unknown.usd is None
    assert unknown.most_usd is None
    assert "unknown" in unknown.assumed[-1]
    assert whole([known, unknown]) == (known.usd, ("m",))
