"""How the speakers of a hosted model reach their provider: the account, its governor, and what was spent before."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from emoray.governor import Both, Governor
from emoray.spec import Account, Hosted, ModelEntry, Retry, Spec, SpecError
from emoray.store import RunFolder
from emoray.stream.governor_actor import account_governor, purse


@dataclass(frozen=True)
class Means:
    """What a hosted model's speakers need beside its entry; can be sent to any actor, and holds no key."""

    account: Account
    retry: Retry
    governor: Governor
    run: str  # the run's name towards governors, the same whenever it is resumed


def check_keys(spec: Spec) -> None:
    """SpecError where the environment lacks a key that the models need."""
    for name in dict.fromkeys(entry.account for entry in spec.models if isinstance(entry, Hosted)):
        variable = spec.accounts[name].key_env
        if variable and not os.environ.get(variable):
            raise SpecError(
                f"accounts.{name}.key_env names the environment variable {variable}, which is not set; "
                "export the key under that name"
            )


def means_of(spec: Spec, entry: ModelEntry, folder: RunFolder) -> Means | None:
    """The means of a hosted model; None for any other. Tells the governors the limits as the spec has them now."""
    if not isinstance(entry, Hosted):
        return None
    account, run = spec.accounts[entry.account], hashlib.blake2b(folder.uri.encode(), digest_size=8).hexdigest()
    spent = {
        model.name: folder.answers(model.name).counts().cost_usd for model in spec.models if isinstance(model, Hosted)
    }
    same = [model.name for model in spec.models if isinstance(model, Hosted) and model.account == entry.account]
    governor: Governor = account_governor(account, run, sum(spent[name] for name in same))
    if spec.budget_usd is not None:
        governor = Both(governor, purse(run, spec.budget_usd, sum(spent.values())))
    return Means(account, spec.retry, governor, run)
