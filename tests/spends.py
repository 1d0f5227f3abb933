"""A process that pays for answers as the actors of a lane do, without Ray: RUN, and the address of a provider."""

from __future__ import annotations

import sys

from emoray.hosts.hosted_api import HostedApi
from emoray.rate_limits.local import LocalLimiter
from emoray.run_folder import census, columns
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.run_folder.tabs import PartTab
from emoray.spec.load import parse
from emoray.spec.models import Hosted
from emoray.study.prompts import prompts

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
    owed = list(census.owed(prompts(spec.experiment.grid("a")), part.settled()))
    asked, places = columns.asked(owed), {prompt.key: place for place, prompt in enumerate(owed)}
    with Journal(part, "actor", schema=columns.ANSWERS, every_s=0.4) as journal:
        tab = PartTab(lambda: (part, journal.writer))
        host = HostedApi(entry, spec.spec.accounts["fake"], spec.spec.retry, LocalLimiter(), tab=tab)
        for reply in host.generate(columns.asks(asked)):
            said = columns.with_answers(asked.take([places[reply.key]]), [reply], host="h", revision=None, engine=None)
            journal.append(said)
        host.close()


if __name__ == "__main__":
    spend(*sys.argv[1:])
