"""`emoray run`: asks what is owed, reads it, scores it."""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import partial

from emoray.commands.as_json import told_as_json
from emoray.commands.options import SPEC, at_least_one, folder_of, precision, warn_of_code, with_grid
from emoray.commands.terminal import hush
from emoray.commands.until import check_until, run_until
from emoray.errors import UserError
from emoray.run_folder.locations import without_secrets
from emoray.spec.accounts import budget
from emoray.spec.load import load
from emoray.spec.study import Study


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("spec", metavar="SPEC", help=SPEC)
    own.add_argument("--limit", type=at_least_one, metavar="N", help="only the first N cells of each model")
    own.add_argument(
        "--until",
        type=precision,
        metavar="HALF",
        help="ask in waves, and no more once every mean is known to ± that (such as 0.02)",
    )
    own.add_argument("--max-cost", metavar="USD", help="stop asking before the run has cost more; all is kept")
    own.add_argument("--yes", action="store_true", help="ask also what is very large (more than 1,000,000 cells)")
    own.add_argument("--extend", action="store_true", help="let a changed spec share the folder with older answers")
    own.add_argument(
        "--json", action="store_true", help="how the run stands in the end, for programs; nothing where Ray dies"
    )
    with_grid(own)


def _call(arguments: argparse.Namespace) -> int:
    study = load(arguments.spec, [*arguments.set, *budget(arguments.max_cost)], arguments.models)
    warn_of_code(study.spec.asked)
    if arguments.until is not None:
        check_until(study, arguments.limit)
    if not arguments.yes and arguments.limit is None:
        _ask_about_size(study, folder_of(arguments.out, study.spec))
    from emoray.commands import attempt  # Ray takes seconds to import: not before the spec is known to be right

    if not arguments.verbose:
        hush()
    folder = folder_of(arguments.out, study.spec)
    wave = partial(
        attempt.run,
        study,
        folder,
        command=_again(arguments),
        extend=arguments.extend,
        address=arguments.address,
        verbose=arguments.verbose,
    )
    if arguments.until is None:
        asking = partial(wave, limit=arguments.limit)
    else:
        asking = partial(run_until, study, folder, arguments.until, wave)
    return told_as_json(asking, folder) if arguments.json else asking()


def _ask_about_size(study: Study, folder: str) -> None:
    """Of a run that is very large: somebody at a terminal is asked, and UserError tells everybody else of --yes."""
    from emoray.commands.estimate import MOST_UNASKED

    if len(study.experiment) <= MOST_UNASKED:
        return
    from emoray.commands.plan import owed_size
    from emoray.run_folder.folder import RunFolder

    size = owed_size(study, RunFolder(folder))
    if not size.is_very_large:
        return
    told = f"{study.spec.name} would ask {size.text()}"
    hint = f"more than {MOST_UNASKED:,} want --yes, or --limit N for the first N of each model"
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(f"{told}; {hint}")
    print(f"{told}\nask them all? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError(f"nothing was asked; {hint}")


def _again(arguments: argparse.Namespace) -> str:
    """The command that resumes this run; it is kept in run.json, so a secret in a URI is left out."""
    words = ["emoray", "run", arguments.spec]
    words += [word for change in arguments.set for word in ("--set", change)]
    for flag in ("models", "out", "limit", "until", "max_cost", "address"):
        if getattr(arguments, flag):
            words += [f"--{flag.replace('_', '-')}", without_secrets(str(getattr(arguments, flag)))]
    return shlex.join([*words, *(f"--{flag}" for flag in ("extend", "yes") if getattr(arguments, flag))])
