"""The host of a model's entry."""

from __future__ import annotations

import pkgutil
from datetime import date

from emoray.hosts.access import ProviderAccess
from emoray.hosts.protocol import Host, HostDown
from emoray.spec.entry import AddedModel
from emoray.spec.models import Embedded, Hosted, Local, ModelEntry, Rehearsed, Scripted, Vllm


def host_of(
    entry: ModelEntry, access: ProviderAccess | None = None, day: date | None = None, *, across_nodes: bool = False
) -> Host:
    """The host of a model entry; imports come late, so that nobody needs a library he does not use.

    `day` is today to chat templates that tell the date: a run asks on all its days what it asked on its first.
    `across_nodes`: where the engine has a place on several nodes.
    """
    match entry:
        case Embedded():
            from emoray.hosts.embedded import EmbeddedHost

            return EmbeddedHost(entry, day=day)
        case Local():
            from emoray.hosts.transformers import TransformersHost

            return TransformersHost(entry, day=day)
        case Scripted():
            from emoray.hosts.scripted import ScriptedHost

            return ScriptedHost(entry)
        case Rehearsed():
            from emoray.hosts.rehearsed import RehearsedHost

            return RehearsedHost(entry)
        case Vllm():
            from emoray.hosts.vllm import VllmHost

            return VllmHost(entry, across_nodes=across_nodes, day=day)
        case Hosted(host="hosted_api") if access:
            from emoray.hosts.hosted_api import HostedApi

            limits = access.account, access.retry, access.limiter
            return HostedApi(entry, *limits, run=access.run, had_answers=access.had_answers, tab=access.tab)
        case Hosted(host="batch_api") if access:
            from emoray.hosts.batch_api import BatchApi

            return BatchApi(entry, access.account, access.retry, access.batches, budget=access.budget, run=access.run)
        case AddedModel():
            host: Host = pkgutil.resolve_name(entry.made_by)(entry)
            return host
        case _:
            raise HostDown(f"model {entry.name!r}: host {entry.host!r} is not there yet")
