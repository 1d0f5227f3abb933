"""`emoray score`: the answers of a run read by another reader."""

from __future__ import annotations

import argparse
import os
import shlex
from functools import partial

from emoray.commands.as_json import told_as_json
from emoray.commands.named_reader import named_reader
from emoray.commands.options import READER, RUN, absolute, asked_by, warn_of_code
from emoray.commands.terminal import hush
from emoray.run_folder.locations import without_secrets
from emoray.spec.readers import readers_of


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("run", metavar="RUN", help=RUN)
    own.add_argument("--reader", required=True, metavar="READER", help=f"a reader of the spec by name, {READER}")
    own.add_argument("--json", action="store_true", help="how the run stands in the end, for programs")
    own.add_argument("--address", metavar="HOST:PORT", help="a Ray cluster (RAY_ADDRESS, or one is started here)")


def _call(arguments: argparse.Namespace) -> int:
    from emoray.commands import attempt
    from emoray.run_folder import manifest, recovery
    from emoray.run_folder.folder import RunFolder

    folder = RunFolder(absolute(arguments.run))
    kept = recovery.begun(folder)
    spec = manifest.study(kept, folder.shown).spec
    later = readers_of(kept.more_readers)
    here = not (arguments.address or "RAY_ADDRESS" in os.environ)
    entry, accounts = named_reader(arguments.reader, spec, later, here=here)
    warn_of_code(asked_by(entry))
    if not arguments.verbose:
        hush()
    command = shlex.join(["emoray", "score", without_secrets(arguments.run), "--reader", arguments.reader])
    reading = partial(
        attempt.score,
        folder.uri,
        entry,
        command=command,
        accounts=accounts,
        address=arguments.address,
        verbose=arguments.verbose,
    )
    return told_as_json(reading, folder.uri) if arguments.json else reading()
