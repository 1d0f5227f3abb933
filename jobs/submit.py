"""Hands a run to a Ray cluster as a job, follows its log, and returns its exit code.

python jobs/submit.py jobs/paper.yaml --out s3://bucket/paper --address http://127.0.0.1:8265

The job's id comes from the spec and the folder. The same command therefore joins the run while it goes on, and resumes
it after it ended or died. Keys do not travel: every node has those that the spec's accounts name in the environment
that its `ray start` was given (cluster/README.md).

Exit codes: those of the run (0 settled, 2 wrong, 3 cells owed, 130 interrupted); 1 the driver died.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where emoray lies

from entry import lasting
from submission.following import DIED, LOST, Ending, Jobs, connect, show, stem
from submission.parcel import Parcel, parcel, pins

from emoray.errors import UserError
from emoray.exit_codes import INTERRUPTED, OK, WRONG
from emoray.spec.accounts import budget
from emoray.spec.document import Spec
from emoray.spec.load import load
from emoray.spec.models import Hosted
from emoray.spec.shipped import spec_file

_CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
_SECRET = re.compile(r"//\S*:\S*@|[?&](?:client_secret|sig)=")  # it may have a / in it; in a query they are Azure's
_DRAIN_S = 300  # `ray job stop` waits so long for what is in flight; Ray's own three seconds would throw it away


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return _submit(arguments)
    except UserError as wrong:
        print(f"submit: {wrong}", file=sys.stderr)
        return WRONG
    except LOST:
        print("submit: the head of the cluster stopped answering; the same command joins or resumes", file=sys.stderr)
        return DIED
    except KeyboardInterrupt:
        print("\nthe job goes on; the same command joins it, `ray job stop` ends it", file=sys.stderr)
        return INTERRUPTED


def _submit(arguments: argparse.Namespace) -> int:
    if not lasting(arguments.out):
        raise UserError(
            f"--out {arguments.out} would be another place on every node; give s3://… or an absolute path on a disk "
            "that all nodes share"
        )
    for flag, texts in (("--out", [arguments.out]), ("--set", arguments.set)):
        if any(map(_SECRET.search, texts)):
            raise UserError(
                f"{flag} has a secret in it, which whoever may list jobs could read; "
                "leave it out, and give it to the nodes in their environment (cluster/README.md)"
            )
    spec = load(arguments.spec, [*arguments.set, *budget(arguments.max_cost)], arguments.models).spec
    what = parcel(spec_file(arguments.spec), arguments.set, Path(arguments.models) if arguments.models else None)
    if arguments.address:  # or Ray would prefer the environment's
        os.environ["RAY_API_SERVER_ADDRESS"] = arguments.address
    jobs = Jobs(connect(arguments.address), stem(spec.name, spec.digest, arguments.out))
    _say_keys(spec)
    for left in range(arguments.resubmit, -1, -1):
        id = _joined_or_started(jobs, what, arguments)
        if arguments.no_wait:
            return OK
        ending = jobs.follow(id, show, patience_s=arguments.patience)
        if not ending.again or not left:
            return _end(ending)
        print(f"submit: {ending.why}; submitting again, {left - 1} more times if need be", file=sys.stderr)
    return DIED


def _joined_or_started(jobs: Jobs, what: Parcel, arguments: argparse.Namespace) -> str:
    entrypoint = shlex.join(["python", "jobs/run.py", what.spec, *_of_whom(what), *_flags(arguments)])
    if (found := jobs.running()) is None:
        try:
            with tempfile.TemporaryDirectory(prefix="emoray-job-") as folder:
                what.pack(Path(folder))
                id = jobs.start(entrypoint, _runtime_env(folder, arguments.install))
        except RuntimeError as wrong:
            if (found := jobs.running()) is None:
                raise UserError(f"the head refuses the job: {str(wrong).splitlines()[0]}") from None
        else:
            print(f"submit: job {id}: {entrypoint}", file=sys.stderr)
            return id
    id, runs = found
    other = "" if runs == entrypoint else f" (as {runs})"
    print(f"submit: job {id} is under way{other}; joining it", file=sys.stderr)
    return id


def _runtime_env(folder: str, install: Sequence[str] | None) -> dict[str, Any]:
    """Without packages the job uses those of the cluster's image. No environment variable in it holds a secret: whoever
    may list jobs may read them.
    """
    env: dict[str, Any] = {"working_dir": folder, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_DRAIN_S)}}
    return env if install is None else env | {"pip": pins(install)}


def _of_whom(what: Parcel) -> list[str]:
    return ["--models", what.models] if what.models else []


def _flags(arguments: argparse.Namespace) -> list[str]:
    """Of the run, as `emoray run` knows them."""
    words = [word for change in arguments.set for word in ("--set", change)]
    for flag in ("out", "limit", "max_cost"):
        if getattr(arguments, flag) is not None:
            words += [f"--{flag.replace('_', '-')}", str(getattr(arguments, flag))]
    return [*words, *(f"--{flag}" for flag in ("extend", "yes") if getattr(arguments, flag))]


def _say_keys(spec: Spec) -> None:
    used = {entry.account for entry in spec.asked if isinstance(entry, Hosted)}
    names = sorted({key for name in used if (key := spec.accounts[name].key_env)})
    if names:
        print(f"submit: {', '.join(names)}: taken from the nodes' environment, not from here", file=sys.stderr)


def _end(ending: Ending) -> int:
    if ending.why:
        resumes = "; the same command resumes" if ending.code in (DIED, INTERRUPTED) else ""
        print(f"submit: {ending.why}{resumes}", file=sys.stderr)
    return ending.code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="submit.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spec", metavar="SPEC")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder: s3://…, or a path all nodes share")
    parser.add_argument("--address", metavar="URL", help="of the dashboard (RAY_API_SERVER_ADDRESS)")
    parser.add_argument("--resubmit", type=int, default=0, metavar="N", help="go on up to N times when the driver dies")
    parser.add_argument("--patience", type=float, default=60.0, metavar="S", help="wait so long for a silent head (60)")
    parser.add_argument("--no-wait", action="store_true", help="do not follow the job")
    parser.add_argument(
        "--install", nargs="*", choices=("local", "hosted"), help="our packages and these extras, where nodes lack them"
    )
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change a setting of the spec")
    parser.add_argument("--models", metavar="FILE", help="of whom: a YAML file, in place of what the spec says of it")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N cells of each model")
    parser.add_argument("--max-cost", metavar="USD", help="stop asking before the run has cost more; all is kept")
    parser.add_argument("--yes", action="store_true", help="ask also what is very large (more than 1,000,000 cells)")
    parser.add_argument("--extend", action="store_true", help="let a changed spec share the folder with older answers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
