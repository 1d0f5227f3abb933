"""The host of a model's entry."""

from __future__ import annotations

from datetime import date

import ray

from emoray.hosts.access import Means
from emoray.hosts.protocol import Host, HostDown
from emoray.spec.models import Embedded, Hosted, Local, ModelEntry, Rehearsed, Scripted, Vllm


def host_of(entry: ModelEntry, means: Means | None = None, day: date | None = None) -> Host:
    """The host of a model entry; imports come late, so that nobody needs a library he does not use.

    `day` is today to chat templates that tell the date: a run asks on all its days what it asked on its first.
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

            return VllmHost(entry, across_nodes=ray.util.get_current_placement_group() is not None, day=day)
        case Hosted(host="hosted_api") if means:
            from emoray.hosts.hosted_api import HostedApi

            limits = means.account, means.retry, means.governor
            return HostedApi(entry, *limits, run=means.run, had_answers=means.had_answers, tab=means.tab)
        case Hosted(host="batch_api") if means:
            from emoray.hosts.batch_api import BatchApi

            return BatchApi(entry, means.account, means.retry, means.batches, purse=means.purse, run=means.run)
        case _:
            raise HostDown(f"model {entry.name!r}: host {entry.host!r} is not there yet")
