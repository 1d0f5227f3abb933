"""A process that pays for answers as the actors of a lane do, without Ray: RUN, and the address of a provider."""

from __future__ import annotations

import sys

from emoray import resume, rows
from emoray.governor.local import LocalGovernor
from emoray.hosts.hosted_api import HostedApi
from emoray.journal import Journal
from emoray.spec import Hosted, parse
from emoray.store import RunFolder
from emoray.study.prompts import prompts
from emoray.tabs import PartTab

SPEC = """
name: t
accounts: {{fake: {{base_url: "{url}"}}}}
models:
- {{name: a, host: hosted_api, account: fake, id: x, in_flight: 16, usd_per_million: {{input: 0, output: 100}}}}
states: 6
questions: [freedom, art]
repetitions: 25
sampling: {{max_tokens: 10}}
readers: [{{kind: scripted, name: r}}]
"""
EACH_USD = 0.001  # 10 tokens said, and none asked for money


def spend(run: str, url: str) -> None:
    """Asks what is owed."""
    spec, part = parse(SPEC.format(url=url)), RunFolder(run).answers("a")
    entry = spec.spec.models[0]
    assert isinstance(entry, Hosted)
    owed = list(resume.owed(prompts(spec.experiment.grid("a")), part.settled()))
    asked, places = rows.asked(owed), {prompt.key: place for place, prompt in enumerate(owed)}
    with Journal(part, "actor", schema=rows.SAID, every_s=0.4) as journal:
        tab = PartTab(lambda: (part, journal.writer))
        host = HostedApi(entry, spec.spec.accounts["fake"], spec.spec.retry, LocalGovernor(), tab=tab)
        for reply in host.generate(rows.asks(asked)):
            said = rows.said(asked.take([places[reply.key]]), [reply], host="h", revision=None, engine=None)
            journal.append(said)
        host.close()


if __name__ == "__main__":
    spend(*sys.argv[1:])
