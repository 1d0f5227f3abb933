"""How the speakers of a hosted model reach their provider: the account, its limiter, and what was spent before."""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterator

from emoray.errors import UserError
from emoray.hosts import hub
from emoray.hosts.access import ProviderAccess, key_in
from emoray.rate_limits.local import CombinedLimiter
from emoray.rate_limits.protocol import RateLimiter
from emoray.run_folder import manifest, tabs
from emoray.run_folder.batch_log import FolderBook
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.partition import Partition
from emoray.run_folder.run_json import Manifest
from emoray.spec.document import Spec
from emoray.spec.models import Hosted, Local, ModelEntry, Vllm
from emoray.spec.prices import unpriced
from emoray.spec.readers import GoEmotionsReader, JudgeReader, ReaderEntry, RegressorReader
from emoray.stream import told_keys

_NOBODYS = "?"  # the account of what no spec knows any more: it counts for the run alone


def check_keys(spec: Spec, kept: Manifest | None = None) -> None:
    """UserError where the environment lacks a key that the models need, or holds one that cannot be sent; or where the
    spec itself holds one, which would be kept in run.json. Where the manifest has `kept` the same one there already, it
    is a warning: without it all would be asked, and paid, again.
    """
    there = told_keys.in_manifest(kept)
    for told in told_keys.in_spec(spec):
        if told not in there:
            raise UserError(told.refused)
        print(f"warning: {told.warned}", file=sys.stderr)
    for sentence in missing_keys(spec):
        raise UserError(sentence)


def check_ids(spec: Spec, *, here: bool) -> None:
    """UserError where an id cannot name a model; folders must be there where all runs on this machine (`here`)."""
    for sentence in unusable_ids(spec, here=here):
        raise UserError(sentence)


def unusable_ids(spec: Spec, *, here: bool) -> Iterator[str]:
    """A sentence for every id of a model or reader that is neither a folder nor a hub id."""
    for where, id, vllm in _weights(spec):
        if why := hub.unusable(id, here=here, vllm=vllm):
            yield f"{where} {why}"


def _weights(spec: Spec) -> Iterator[tuple[str, str, bool]]:
    """(where it stands, id, whether vLLM loads it) of all that is loaded from a folder or the hub."""
    asked: dict[str, ModelEntry] = {f"models[{place}]": entry for place, entry in enumerate(spec.models)}
    for place, reader in enumerate(spec.readers):
        if isinstance(reader, JudgeReader):
            asked[f"readers[{place}].model"] = reader.model
        elif isinstance(reader, GoEmotionsReader | RegressorReader) and reader.model != "embedded":
            yield f"readers[{place}].model", reader.model, False
    for where, entry in asked.items():
        if isinstance(entry, Local | Vllm):
            yield f"{where}.id", entry.id, isinstance(entry, Vllm)


def missing_keys(spec: Spec) -> Iterator[str]:
    """A sentence for every key that the environment lacks, or that cannot be sent."""
    for name in dict.fromkeys(entry.account for entry in spec.asked if isinstance(entry, Hosted)):
        variable = spec.accounts[name].key_env
        if variable is None:
            continue
        named = f"accounts.{name}.key_env names the environment variable {variable}"
        try:
            key = key_in(variable)
        except ValueError as wrong:
            yield f"{named}, {wrong}"
            continue
        if not key:
            there = "(on a cluster: where its nodes are started)"
            yield f"{named}, which is not set; export the key under that name {there}"


def check_budgets(spec: Spec) -> None:
    """UserError where money is limited and a price is not known: it would count as nothing."""
    for entry in spec.asked:
        if isinstance(entry, Hosted):
            for budget in (spec.budget_usd, spec.accounts[entry.account].budget_usd):
                if sentence := unpriced(entry, budget):
                    raise UserError(sentence)


def access_of(spec: Spec, entry: ModelEntry, folder: RunFolder) -> ProviderAccess | None:
    """The access of a hosted model or judge; None for any other. Tells the limiters the limits as the spec has them."""
    if not isinstance(entry, Hosted):
        return None
    from emoray.stream.limiter_actor import account_limiter, run_budget  # late: what is checked before needs no Ray

    account, run = spec.accounts[entry.account], hashlib.blake2b(folder.uri.encode(), digest_size=8).hexdigest()
    capped = spec.budget_usd is not None or account.budget_usd is not None
    spent = _spent(spec, folder) if capped else defaultdict[str, float](float)
    limiter: RateLimiter = account_limiter(account, run)
    money: RateLimiter | None = None
    if spec.budget_usd is not None:
        money = run_budget(run, spec.budget_usd, sum(spent.values()))
    if account.budget_usd is not None:
        own = run_budget(run, account.budget_usd, spent[entry.account], account=entry.account)
        money = own if money is None else CombinedLimiter(own, money)
    if money is not None:
        limiter = CombinedLimiter(limiter, money)
    return ProviderAccess(account, spec.retry, limiter, run, FolderBook(folder), money)


def _spent(spec: Spec, folder: RunFolder) -> defaultdict[str, float]:
    """US dollars that the run has spent before, by the name of the account."""
    spent: defaultdict[str, float] = defaultdict(float)
    for account, usd in _payments(spec, folder):
        spent[account] += usd
    return spent


def _payments(spec: Spec, folder: RunFolder) -> Iterator[tuple[str, float]]:
    """What each model and judge in the folder has cost at most, also those that the spec does not have."""
    readers = manifest.readers(manifest.read(folder)) | {reader.name: reader for reader in spec.readers}
    of_readers = {reader.name: _account(reader) for reader in readers.values()}
    of_models = {model.name: _account(model) for model in spec.models}
    lost = tabs.lost(folder)  # first: what becomes a row meanwhile counts twice rather than never
    models = folder.models()
    for model in models:
        if account := of_models.get(model, _NOBODYS):
            yield account, _paid(folder.answers(model))
    for reader in folder.readers():
        if account := of_readers.get(reader, _NOBODYS):
            yield account, sum(_paid(folder.rows(reader, model)) for model in models)
    for (model, judge), usd in lost.items():
        if account := of_models.get(model, _NOBODYS) if judge is None else of_readers.get(judge, _NOBODYS):
            yield account, usd


def _paid(part: Partition) -> float:
    """US dollars, by its rows."""
    return sum(tabs.paid_usd(part, spent) for spent in part.spent().values())


def _account(entry: ModelEntry | ReaderEntry) -> str | None:
    """From which it is paid; None where it costs nothing."""
    asked = entry.model if isinstance(entry, JudgeReader) else entry
    return asked.account if isinstance(asked, Hosted) else None
