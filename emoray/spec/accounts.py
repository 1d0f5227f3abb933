"""An account with a provider: where it is, its key by name, its limits, prices and budget."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    field_validator,
)

from emoray import hints
from emoray.spec.base import MOST_USD, Many, Rate, Seconds, Section, SpecError, Usd, Word, short


class Price(Section):
    """US dollars per million tokens."""

    input: Annotated[float, Field(ge=0, le=1e6)]
    output: Annotated[float, Field(ge=0, le=1e6)]


def _address(url: str) -> str:
    """A base URL, without blanks around it; ValueError where it is none."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        known = parts.hostname is not None and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # brackets that do not close, a port beyond all ports
        known = False
    if not known:
        raise ValueError("is no address; write it as https://host/v1")
    if parts.query or parts.fragment:  # which may be a key: said without it
        raise ValueError(
            "goes on after its path (?… or #…); leave that out, and put a key into the variable of key_env"
        )
    if url.rstrip("/").endswith("/chat/completions"):
        raise ValueError("ends in /chat/completions, which is added to it; leave that out")
    return url


class Account(Section):
    """A contract with a provider: its limits hold for all actors, lanes and jobs together."""

    kind: Literal["openai", "azure"] = "openai"
    """The protocol: OpenAI's (also Gemini's and Cohere's compatible endpoints, any vLLM server), or Azure's."""
    base_url: Annotated[str, Field(pattern=r"^https?://", max_length=4096)] = "https://api.openai.com/v1"
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)] | None = None
    """The NAME of the environment variable that holds the key; none for a server that asks for none."""
    api_version: Word | None = None
    """Azure only."""
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    """Prompt and completion tokens together."""
    tokens_counted: Literal["used", "reserved"] | None = None
    """Of an answer: those it used, or max_tokens however short it is; none: reserved at OpenAI and Azure, else used."""
    requests_per_day: Rate | None = None
    concurrency: Many | None = None
    """Most requests in flight at once, over all actors."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The part of the limits that this job may use: 0.7 leaves 30 % for colleagues."""
    budget_usd: Usd | None = None
    """Asking stops before a run has spent this sum on the account."""

    @field_validator("base_url")
    @classmethod
    def _without_key(cls, value: str) -> str:
        if "@" in value:  # said without the address
            raise ValueError("holds a name or key before its @; put the key in the variable that key_env names")
        return _address(value)

    @property
    def reserves_tokens(self) -> bool:
        """Whether max_tokens counts for every request, however short the answer."""
        if self.tokens_counted is None:
            return self.kind == "azure" or self.base_url.startswith("https://api.openai.com")
        return self.tokens_counted == "reserved"


class Retry(Section):
    """How long a host insists before an ask becomes a failure (which the next run asks again)."""

    attempts: Many = 8
    refused_attempts: Many = 3
    """Of these, as many may end in a refusal of this one ask (bad_request, context_length, content_filtered, empty), or
    in a reply that cannot be read, which is paid all the same.
    """
    timeout_s: Seconds = 120.0
    """For one request."""
    first_wait_s: Seconds = 0.5
    longest_wait_s: Seconds = 60.0


def budget(max_cost: str | None) -> list[str]:
    """The `--set` changes of `--max-cost`; SpecError where it is no sum of money."""
    if max_cost is None:
        return []
    try:
        usd = float(max_cost)
    except ValueError:
        meant = hints.numbers_meant(max_cost, "budget_usd", lambda usd: 0 < float(usd) <= MOST_USD)
        raise SpecError(
            f"--max-cost must be US dollars, such as 20 or 2.5, got {short(max_cost)}{as_meant(*meant)}"
        ) from None
    if not 0 < usd <= MOST_USD:
        raise SpecError(f"--max-cost must be more than 0 and at most {MOST_USD:,.0f} US dollars, got {short(max_cost)}")
    return [f"budget_usd={usd!r}" if "e" not in repr(usd) else f"budget_usd={usd:.12f}"]


def as_meant(meant: str | None = None, or_else: str | None = None) -> str:
    """The hint for a number in other words; `or_else` with a decimal comma."""
    other = f", or {or_else} if its comma is a decimal one" if or_else else ""
    return f"; write {meant}{other}" if meant else ""
