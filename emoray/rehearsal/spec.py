"""The rehearsed spec: the user's own, with every model asking the misbehaving provider instead of its real one.

Names, grid, sampling, limits and retries stay. Ids begin with `rehearsal/`, so that no answer of a rehearsal has the
key of a real one: should a real run ever be given its folder, it finds nothing there that it asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoray.scheduling import demand
from emoray.spec.accounts import Account
from emoray.spec.document import Spec
from emoray.spec.models import Hosted, ModelEntry, Rehearsed
from emoray.spec.prices import price_of
from emoray.spec.readers import GoEmotionsReader, ReaderEntry, RegressorReader, ScriptedReader
from emoray.study.goemotions import shipped_maps

ENGINES = "engines"  # the provider of everything that is not behind an account
_MOST_LETTERS, _MOST_BYTES = 64, 80  # of a name
_MOST_PER_MINUTE = 1e12  # that a spec may say
_RATES = ("requests_per_minute", "tokens_per_minute", "requests_per_day")


def accounts_of(spec: Spec, faster: float) -> dict[str, Account]:
    """The accounts that models use, with their limits `faster` times as wide: an hour's asks in minutes."""
    used = dict.fromkeys(entry.account for entry in spec.models if isinstance(entry, Hosted))
    return {name: spec.accounts[name].model_copy(update=_wider(spec.accounts[name], faster)) for name in used}


def rehearsed(
    spec: Spec, accounts: Mapping[str, Account], urls: Mapping[str, str], folder: Path, *, real_readers: bool
) -> Spec:
    """The spec to run. `urls` has a provider for each account and one for ENGINES; `folder` is the user's spec's."""
    settings: dict[str, Any] = spec.model_dump(mode="json")
    settings["name"] = _called(spec.name)
    settings["models"] = [_model(entry, urls).model_dump(mode="json") for entry in spec.models]
    settings["accounts"] = {name: _account(account, urls[name]) for name, account in accounts.items()}
    settings["readers"] = [_reader(entry, real=real_readers).model_dump(mode="json") for entry in spec.readers]
    if spec.label_map not in shipped_maps():
        settings["label_map"] = str((folder / spec.label_map).absolute())
    return Spec.model_validate(settings)


def _called(name: str) -> str:
    end = "-rehearsal"
    while len(f"{name}{end}") > _MOST_LETTERS or len(f"{name}{end}".encode()) > _MOST_BYTES:
        name = name[:-1]
    return f"{name}{end}"


def _model(entry: ModelEntry, urls: Mapping[str, str]) -> ModelEntry:
    id = f"rehearsal/{entry.id}"
    if isinstance(entry, Hosted):
        here: dict[str, Any] = {"id": id, "usd_per_million": price_of(entry), "deadline": None, "resources": {}}
        return entry.model_copy(update=here)
    return Rehearsed(
        host="rehearsed",
        name=entry.name,
        id=id,
        sampling=entry.sampling,
        priority=entry.priority,
        reasoning_tags=entry.reasoning_tags,
        base_url=urls[ENGINES],
        actors=demand.actors(entry).least,
        in_flight=demand.in_flight(entry),
    )


def _account(account: Account, url: str) -> dict[str, Any]:
    """Plain OpenAI without a key: nothing of a rehearsal ever reaches the real provider."""
    here = {"kind": "openai", "base_url": url, "key_env": None, "api_version": None}
    return account.model_copy(update=here).model_dump(mode="json")


def _wider(account: Account, faster: float) -> dict[str, float]:
    rates = {name: getattr(account, name) for name in _RATES}
    return {name: min(rate * faster, _MOST_PER_MINUTE) for name, rate in rates.items() if rate is not None}


def _reader(entry: ReaderEntry, *, real: bool) -> ReaderEntry:
    """A judge is never real: it would be asked, and paid."""
    if real and isinstance(entry, GoEmotionsReader | RegressorReader):
        return entry.model_copy(update={"resources": {}})
    return ScriptedReader(kind="scripted", name=entry.name, actors=demand.listeners(entry).least)
