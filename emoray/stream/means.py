"""How the speakers of a hosted model reach their provider: the account, its governor, and what was spent before."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass

from emoray.batches import FolderBook
from emoray.governor import Both, Governor
from emoray.hosts.batch_book import BatchBook
from emoray.prices import unpriced
from emoray.spec import Account, Hosted, JudgeReader, ModelEntry, Retry, Spec, SpecError
from emoray.store import RunFolder
from emoray.stream.governor_actor import account_governor, purse


@dataclass(frozen=True)
class Means:
    """What a hosted model's speakers need beside its entry; can be sent to any actor, and holds no key."""

    account: Account
    retry: Retry
    governor: Governor
    run: str  # the run's name towards governors, the same whenever it is resumed
    batches: BatchBook
    purse: Governor | None = None  # money alone, for batches, which have no rate


def check_keys(spec: Spec) -> None:
    """SpecError where the environment lacks a key that the models need."""
    for name in dict.fromkeys(entry.account for entry in spec.asked if isinstance(entry, Hosted)):
        variable = spec.accounts[name].key_env
        if variable and not os.environ.get(variable):
            raise SpecError(
                f"accounts.{name}.key_env names the environment variable {variable}, which is not set; "
                "export the key under that name (on a cluster: where its nodes are started)"
            )


def check_budgets(spec: Spec) -> None:
    """SpecError where money is limited and a price is not known: it would count as nothing."""
    for entry in spec.asked:
        if isinstance(entry, Hosted):
            for budget in (spec.budget_usd, spec.accounts[entry.account].budget_usd):
                if sentence := unpriced(entry, budget):
                    raise SpecError(sentence)


def means_of(spec: Spec, entry: ModelEntry, folder: RunFolder) -> Means | None:
    """The means of a hosted model or judge; None for any other. Tells the governors the limits as the spec has them."""
    if not isinstance(entry, Hosted):
        return None
    account, run = spec.accounts[entry.account], hashlib.blake2b(folder.uri.encode(), digest_size=8).hexdigest()
    spent = _spent(spec, folder)
    governor: Governor = account_governor(account, run, spent[entry.account])
    purses: list[Governor] = []
    if spec.budget_usd is not None:
        purses.append(purse(run, spec.budget_usd, sum(spent.values())))
        governor = Both(governor, purses[0])
    if account.budget_usd is not None:
        purses.append(purse(f"{run} {entry.account}", account.budget_usd, spent[entry.account]))
    money = None if not purses else purses[0] if len(purses) == 1 else Both(purses[1], purses[0])
    return Means(account, spec.retry, governor, run, FolderBook(folder), money)


def _spent(spec: Spec, folder: RunFolder) -> defaultdict[str, float]:
    """US dollars that the run has spent before, by the name of the account."""
    spent: defaultdict[str, float] = defaultdict(float)
    for model in spec.models:
        if isinstance(model, Hosted):
            spent[model.account] += folder.answers(model.name).counts().cost_usd
    for reader in spec.readers:
        if isinstance(reader, JudgeReader) and isinstance(reader.model, Hosted):
            read = [folder.rows(reader.name, model.name).counts().read_cost_usd for model in spec.models]
            spent[reader.model.account] += sum(read)
    return spent
