"""`emoray rehearse`: the same run with fake models and real kills, and its ledger."""

from __future__ import annotations

import argparse
import json
import sys

from emoray.commands.options import (
    SPEC,
    absolute,
    at_least_one,
    kills,
    seconds,
    times,
    whole_number,
    with_grid,
)
from emoray.commands.terminal import hush
from emoray.exit_codes import OK, OWED
from emoray.spec.load import load
from emoray.spec.shipped import spec_file


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("spec", metavar="SPEC", help=SPEC)
    own.add_argument(
        "--kill",
        default="driver,actor,engine,reader",
        metavar="WHAT,…",
        help="driver,actor,engine,reader; also: node (on a cluster of yours it stays away)",
    )
    own.add_argument("--kills", type=kills, default=10, metavar="N", help="how many, spread over these (10)")
    own.add_argument(
        "--seed", type=whole_number, default=0, metavar="N", help="decides who is killed when, and every fault (0)"
    )
    own.add_argument(
        "--faults",
        default="",
        metavar="FAULT=SHARE,…",
        help="of requests; storm=0.3 is all kinds that leave hope, auth=0.001 a passing 401; an unknown one names all",
    )
    own.add_argument("--latency", type=seconds, default=0.3, metavar="S", help="seconds before an answer (0.3)")
    own.add_argument("--slots", type=at_least_one, metavar="N", help="answers worked on at once; others queue")
    own.add_argument("--faster", type=times, default=60.0, metavar="X", help="the accounts' limits, times X (60)")
    own.add_argument("--limit", type=at_least_one, metavar="N", help="only the first N cells of each model")
    own.add_argument("--listen", default="127.0.0.1", metavar="HOST", help="where the nodes reach this machine")
    own.add_argument("--real-readers", action="store_true", help="the spec's classifiers in place of fake ones")
    own.add_argument("--json", action="store_true", help="for programs")
    with_grid(own)


def _call(arguments: argparse.Namespace) -> int:
    from emoray.rehearsal import rehearse

    study = load(arguments.spec, arguments.set, arguments.models)
    options = rehearse.options(
        absolute(arguments.out or f"runs/{study.spec.name}-rehearsal"),
        kill=arguments.kill,
        kills=arguments.kills,
        seed=arguments.seed,
        faults=arguments.faults,
        latency_s=arguments.latency,
        slots=arguments.slots,
        faster=arguments.faster,
        limit=arguments.limit,
        address=arguments.address,
        listen=arguments.listen,
        real_readers=arguments.real_readers,
    )
    if not arguments.verbose:
        hush()
    found = rehearse.rehearse(
        study, spec_file(arguments.spec).parent, options, lambda line: print(line, file=sys.stderr)
    )
    print(json.dumps(found.as_json(), indent=2) if arguments.json else found.text())
    return OWED if found.wrong else OK
