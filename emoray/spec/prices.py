"""What a model costs: the dated table `prices.toml`, or the spec's own numbers. An unknown price is None, never 0."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

from emoray.spec.accounts import Price
from emoray.spec.models import Hosted

BATCH_SHARE = 0.5  # of the price, through a batch endpoint (checked with the table's date)


@dataclass(frozen=True)
class PriceTable:
    """US dollars per million tokens by model id, as listed on a day."""

    as_of: date
    by_id: dict[str, Price]

    def find(self, model_id: str) -> Price | None:
        """The price of an id, or of the longest listed id that it is a dated version of (gpt-4o-2024-08-06)."""
        if model_id in self.by_id:
            return self.by_id[model_id]
        shorter = [listed for listed in self.by_id if _is_version(model_id, of=listed)]
        return self.by_id[max(shorter, key=len)] if shorter else None


@cache
def shipped() -> PriceTable:
    data = tomllib.loads((Path(__file__).parent / "prices.toml").read_text(encoding="utf-8"))
    return PriceTable(data["as_of"], {entry["id"]: _price(entry) for entry in data["models"]})


def price_of(entry: Hosted, table: PriceTable | None = None) -> Price | None:
    """What a model entry pays, half of it through a batch endpoint; the spec's own price is taken as it is."""
    if entry.usd_per_million is not None:
        return entry.usd_per_million
    listed = (table or shipped()).find(entry.id)
    if listed is None or entry.host != "batch_api":
        return listed
    return Price(input=listed.input * BATCH_SHARE, output=listed.output * BATCH_SHARE)


def unpriced(entry: Hosted, budget_usd: float | None) -> str | None:
    """Why a budget cannot be kept for a model: its price is unknown. None where it can, or where there is no budget."""
    if budget_usd is None or price_of(entry) is not None:
        return None
    return (
        f"the price of {entry.id!r} is unknown, so a budget of {budget_usd:g} USD cannot be kept; "
        f"give usd_per_million for model {entry.name!r}, or take the budget away"
    )


def _price(entry: dict[str, float]) -> Price:
    return Price(input=entry["input"], output=entry["output"])


def _is_version(model_id: str, *, of: str) -> bool:
    """gpt-4o-2024-08-06 and gemini-1.5-pro-002 are versions; gpt-4o-mini is another model."""
    rest = model_id.removeprefix(f"{of}-")
    return rest != model_id and all(part.isdigit() for part in rest.split("-"))
