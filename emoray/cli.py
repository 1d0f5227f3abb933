"""plan | run | score | status | report | sample | validate | rehearse | compact: parse, configure logging, call, print.

Exit codes: 0 all cells settled; 2 the user's input is wrong, or Ray is not to be had, and nothing was written; 3
finished, but cells are still owed; 130 interrupted. Progress goes to stderr, results to stdout.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from emoray import __version__
from emoray.exit_codes import INTERRUPTED, OK, OWED, WRONG
from emoray.hints import did_you_mean
from emoray.printable import Printable
from emoray.progress import Progress, waits_for_ray
from emoray.spec import (
    Account,
    GoEmotionsReader,
    Hosted,
    JudgeReader,
    ModelEntry,
    ReaderEntry,
    Retry,
    Spec,
    SpecError,
    Study,
    budget,
    chosen_label_map,
    json_schema,
    label_map_of,
    load,
    readers_of,
    with_reader,
)
from emoray.store import StoreError, without_secrets

if TYPE_CHECKING:
    from emoray.readers import Reader


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    with _printed():
        return _main(argv)


@contextmanager
def _printed() -> Iterator[None]:
    """Names and words of others that reach a terminal are printable, wherever it is that they are printed."""
    out, err = sys.stdout, sys.stderr
    sys.stdout = Printable(out)
    sys.stderr = ours = Printable(err)
    try:
        yield
    finally:
        sys.stdout = out
        if sys.stderr is ours:  # else it is no longer where the old one writes
            sys.stderr = err


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING,
        format="%(asctime)s %(name)s: %(message)s" if arguments.verbose else "%(message)s",
        stream=sys.stderr,
    )
    try:
        _check_words(sys.argv[1:] if argv is None else argv)
        _stand_somewhere()
        return int(arguments.command(arguments))
    except (SpecError, StoreError) as wrong:
        print(f"emoray: {wrong}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("emoray: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `emoray plan … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as wrong:
        if wrong.errno != errno.ENAMETOOLONG:
            raise
        print(f"emoray: {_short(str(wrong.filename))}: is too long for the name of a file", file=sys.stderr)
        return WRONG


class _Command(argparse.ArgumentParser):
    """Tells of what it does not know itself, under its own usage; argparse would do so under that of all commands."""

    def parse_known_args(self, *what: Any, **more: Any) -> tuple[Any, list[str]]:
        known, unknown = super().parse_known_args(*what, **more)
        if unknown:
            flags = (word.partition("=")[0] for word in unknown if word.startswith("-"))
            hint = next((did_you_mean(flag, list(self._option_string_actions)) for flag in flags), "")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known, unknown


def _check_words(words: Sequence[str]) -> None:
    """SpecError for what is no text: a run writes its command and its places down."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise SpecError(f"the argument {word!r} is not UTF-8 text; give the file or folder another name") from None


def _stand_somewhere() -> None:
    """SpecError where the folder that this was started in has been deleted; Ray cannot work from nowhere."""
    try:
        Path.cwd()
    except OSError as wrong:
        raise SpecError(
            f"the folder that this was started in cannot be reached any more ({wrong.strerror}); change to another"
        ) from None


def _plan(arguments: argparse.Namespace) -> int:
    if arguments.schema:
        print(json.dumps(json_schema(), indent=2))
        return OK
    if not arguments.spec:
        raise SpecError("plan needs a spec, such as jobs/quickstart.yaml (or --schema)")
    study = load(arguments.spec, arguments.set)
    _warn_of_code(study.spec.asked)
    if arguments.address or os.environ.get("RAY_ADDRESS"):
        Progress().wait(waits_for_ray(arguments.address))
        if not arguments.verbose:
            _hush()
    from emoray import plan

    folder = _folder(arguments.out, study.spec)
    planned = plan.plan(study, folder, address=arguments.address)
    print(json.dumps(planned.as_json(), indent=2) if arguments.json else planned.text())
    return OK


def _run(arguments: argparse.Namespace) -> int:
    study = load(arguments.spec, [*arguments.set, *budget(arguments.max_cost)])
    _warn_of_code(study.spec.asked)
    if not arguments.yes and arguments.limit is None:
        _ask_about_size(study, _folder(arguments.out, study.spec))
    from emoray import job  # Ray takes seconds to import: not before the spec is known to be right

    if not arguments.verbose:
        _hush()
    return job.run(
        study,
        _folder(arguments.out, study.spec),
        command=_again(arguments),
        limit=arguments.limit,
        extend=arguments.extend,
        address=arguments.address,
        verbose=arguments.verbose,
    )


def _ask_about_size(study: Study, folder: str) -> None:
    """Of a run that is very large: somebody at a terminal is asked, and SpecError tells everybody else of --yes."""
    from emoray.estimate import MOST_UNASKED

    if len(study.experiment) <= MOST_UNASKED:
        return
    from emoray.plan import owed_size
    from emoray.store import RunFolder

    size = owed_size(study, RunFolder(folder))
    if not size.is_very_large:
        return
    told = f"{study.spec.name} would ask {size.text()}"
    hint = f"more than {MOST_UNASKED:,} want --yes, or --limit N for the first N of each model"
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise SpecError(f"{told}; {hint}")
    print(f"{told}\nask them all? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SpecError(f"nothing was asked; {hint}")


def _score(arguments: argparse.Namespace) -> int:
    from emoray import job, manifest, recovery
    from emoray.store import RunFolder

    folder = RunFolder(_absolute(arguments.run))
    kept = recovery.kept(folder)
    spec = manifest.study(kept, folder.shown).spec
    later, here = (
        readers_of((kept or {}).get("more_readers", [])),
        not (arguments.address or "RAY_ADDRESS" in os.environ),
    )
    entry, accounts = _reader(arguments.reader, spec, later, here=here)
    _warn_of_code(_asked_by(entry))
    if not arguments.verbose:
        _hush()
    command = shlex.join(["emoray", "score", without_secrets(arguments.run), "--reader", arguments.reader])
    return job.score(
        folder.uri, entry, command=command, accounts=accounts, address=arguments.address, verbose=arguments.verbose
    )


def _reader(
    reader: str, spec: Spec | None = None, later: Sequence[ReaderEntry] = (), *, here: bool = True
) -> tuple[ReaderEntry, dict[str, Account]]:
    """A reader of the run by its name, in a YAML file, or a classifier by its hub id or folder; and the accounts.

    `later` are those that have read the run beside its spec's; `here`: it is to read on this machine.
    """
    from emoray.hosts.hub import unusable

    if reader.endswith((".yaml", ".yml")):
        found = with_reader(reader, spec)
        return found.readers[0], found.accounts
    known = {entry.name: entry for entry in [*later, *(spec.readers if spec else [])]}
    reader = unicodedata.normalize("NFC", reader)
    if not reader.strip() or len(reader) > _LONGEST:
        raise SpecError(f"{_short(reader)} is no reader; give one of the spec by name, {_READER}")
    own = GoEmotionsReader(kind="goemotions", name=_safe(reader), model=_model(reader))
    if reader not in known and reader != "embedded" and (why := unusable(own.model, here=here)):
        raise SpecError(f"the reader {why}")
    entry, accounts = known.get(reader, own), spec.accounts if spec else {}
    for asked in _asked_by(entry):
        if isinstance(asked, Hosted) and asked.account not in accounts:
            raise SpecError(f"reader {reader!r} needs the account {asked.account!r}; give the YAML file that has both")
    return entry, accounts


def _asked_by(reader: ReaderEntry) -> list[ModelEntry]:
    """The model that a judge asks."""
    return [reader.model] if isinstance(reader, JudgeReader) else []


def _model(reader: str) -> str:
    """A folder by its whole path, so that every node finds it; a hub id as it is."""
    return _absolute(reader) if Path(reader).is_dir() else reader


def _safe(reader: str) -> str:
    """A reader's name from its hub id or path: owner/model is called model."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "-", reader.rstrip("/").rsplit("/", 1)[-1]).lstrip("._+-")
    return plain[:64] or "reader"


def _status(arguments: argparse.Namespace) -> int:
    from emoray import status
    from emoray.store import RunFolder

    found = status.status(RunFolder(_absolute(arguments.run)))
    print(json.dumps(found.as_json(), indent=2) if arguments.json else found.text())
    return OK


def _report(arguments: argparse.Namespace) -> int:
    from emoray import job
    from emoray.store import RunFolder

    table = job.report(
        RunFolder(_absolute(arguments.run)),
        arguments.out and _absolute(arguments.out),
        label_maps=arguments.label_map,
        neutral=arguments.neutral,
        refusals=arguments.refusals,
        ceilings=arguments.ceilings,
        human=arguments.human,
        contrasts=arguments.contrast,
    )
    print(table)
    return OK


def _sample(arguments: argparse.Namespace) -> int:
    from emoray import human, manifest, recovery
    from emoray.belonging import as_asked
    from emoray.report.labels import plan_of_labels
    from emoray.store import RunFolder
    from emoray.study.scoring import Rules

    out, folder = Path(arguments.out), RunFolder(_absolute(arguments.run))
    study = manifest.study(recovery.kept(folder), folder.shown)
    if out.exists():
        raise SpecError(f"{out}: is there already, and may hold labels; choose another file")
    _writable(out)
    drawn = human.slice_of(
        as_asked(folder, study), arguments.cells, arguments.seed, study.headline, study.spec.refusals
    )
    out.write_text(human.as_csv(drawn), encoding="utf-8", newline="")
    rules = Rules(study.spec.neutral, study.spec.refusals)
    print(plan_of_labels(as_asked(folder, study), study.label_map, rules, study.headline), end="")
    print(
        f"{out}: {len(drawn):,} answers to label, each with a label or with valence and arousal (-1 to 1); then\n"
        f"emoray report {shlex.quote(without_secrets(arguments.run))} --human {shlex.quote(str(out))}"
    )
    return OK


def _writable(file: Path) -> None:
    if file.is_dir():
        raise SpecError(f"{file}: is a folder; give a file in it")
    if not file.absolute().parent.is_dir():
        raise SpecError(f"{file}: the folder for it is not there")


def _validate(arguments: argparse.Namespace) -> int:
    from emoray import rated, validate
    from emoray.hosts import HostDown
    from emoray.readers import ReaderDown

    if rated.is_rated(arguments.data):
        return _validate_rated(arguments)
    labelled = validate.single_labelled(arguments.data).first(arguments.limit)
    fit_on = validate.single_labelled(arguments.calibrate).first(arguments.limit) if arguments.calibrate else None
    label_map = chosen_label_map(arguments.label_map, Path())
    entry, accounts = _reader(arguments.reader)
    _warn_of_code(_asked_by(entry))
    entry = entry.model_copy(update={"cpus": float(os.cpu_count() or 1)})
    if arguments.save:
        _writable(Path(arguments.save))
    try:
        reader = _started(entry, accounts, labelled.texts)
        found = validate.examine(reader, entry, labelled, label_map, fit_on=fit_on, fit_name=arguments.calibrate or "")
    except (ReaderDown, HostDown) as wrong:
        raise SpecError(str(wrong)) from None
    if arguments.save:
        kept = validate.saved(found, entry, reader.revision, Path(arguments.data).name, label_map)
        Path(arguments.save).write_text(kept, encoding="utf-8")
    text = validate.whole_table(arguments.reader, found, label_map)
    print(json.dumps(found.as_json(), indent=2) if arguments.json else text)
    return OK


def _validate_rated(arguments: argparse.Namespace) -> int:
    """Against people's valence and arousal."""
    from emoray import rated
    from emoray.hosts import HostDown
    from emoray.readers import ReaderDown

    for option in ("calibrate", "save"):
        if getattr(arguments, option):
            raise SpecError(
                f"--{option} goes with labelled comments, and {arguments.data} holds ratings of valence and arousal"
            )
    people = rated.rated(arguments.data).first(arguments.limit)
    own_map = chosen_label_map(arguments.label_map, Path())
    entry, accounts = _reader(arguments.reader)
    _warn_of_code(_asked_by(entry))
    entry = entry.model_copy(update={"cpus": float(os.cpu_count() or 1)})
    try:
        reader = _started(entry, accounts, people.texts)
        found = rated.compare(reader, people, label_map_of(entry, own_map))
    except (ReaderDown, HostDown) as wrong:
        raise SpecError(str(wrong)) from None
    print(json.dumps(found.as_json(), indent=2) if arguments.json else rated.whole_table(arguments.reader, found))
    return OK


def _started(entry: ReaderEntry, accounts: Mapping[str, Account], texts: Sequence[str]) -> Reader:
    """The reader by itself, without a run; a hosted judge keeps its account's limits, and says what it will cost."""
    if not (isinstance(entry, JudgeReader) and isinstance(entry.model, Hosted)):
        from emoray.stream.actors import reader_of

        return reader_of(entry)
    from emoray.estimate import CHARS_PER_TOKEN, estimate_judge
    from emoray.governor import Limits
    from emoray.governor.local import LocalGovernor
    from emoray.hosts.hosted_api import HostedApi
    from emoray.readers.judge import Judge, asked_of

    account, asked = accounts[entry.model.account], asked_of(entry)
    assert isinstance(asked, Hosted)
    judge = Judge(entry, HostedApi(asked, account, Retry(), LocalGovernor(Limits.of(account))))
    mean = sum(map(len, texts)) / len(texts) / CHARS_PER_TOKEN
    cost = estimate_judge(entry, len(texts), answer_tokens=mean)
    print(f"{entry.model.id} judges {len(texts):,} comments: {cost.money()}", file=sys.stderr)
    return judge


def _compact(arguments: argparse.Namespace) -> int:
    from emoray import job
    from emoray.store import RunFolder

    print(job.compact_all(RunFolder(_absolute(arguments.run))))
    return OK


def _rehearse(arguments: argparse.Namespace) -> int:
    from emoray import rehearse

    study = load(arguments.spec, arguments.set)
    options = rehearse.options(
        _absolute(arguments.out or f"runs/{study.spec.name}-rehearsal"),
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
    say = sys.stderr if arguments.verbose else _quiet()
    found = rehearse.rehearse(study, Path(arguments.spec).parent, options, lambda line: print(line, file=say))
    print(json.dumps(found.as_json(), indent=2) if arguments.json else found.text())
    return OWED if found.wrong else OK


def _quiet() -> TextIO:
    _hush()
    return sys.stderr


def _hush() -> None:
    """Keeps stderr for us alone: Ray's C++ side writes to file descriptor 2 whatever its log level says."""
    before = sys.stderr
    before.flush()
    sys.stderr = Printable(os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is before:
            handler.setStream(sys.stderr)  # what we log is still said
            handler.addFilter(logging.Filter("emoray"))


_READER = "a hub id, a folder, or a YAML file with a reader's entry"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emoray", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--version", action="version", version=f"emoray {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)

    plan = _command(commands, "plan", _plan, "what a spec would ask, and what it takes; asks nothing, writes nothing")
    plan.add_argument("spec", nargs="?", metavar="SPEC")
    plan.add_argument("--schema", action="store_true", help="print the JSON schema of a spec")
    plan.add_argument("--json", action="store_true", help="for programs")
    _grid(plan)

    run = _command(commands, "run", _run, "ask what is owed, read it, score it; the same command resumes")
    run.add_argument("spec", metavar="SPEC")
    run.add_argument("--limit", type=_at_least_one, metavar="N", help="only the first N cells of each model")
    run.add_argument("--max-cost", metavar="USD", help="stop asking before the run has cost more; all is kept")
    run.add_argument("--yes", action="store_true", help="ask also what is very large (more than 1,000,000 cells)")
    run.add_argument("--extend", action="store_true", help="let a changed spec share the folder with older answers")
    _grid(run)

    score = _command(commands, "score", _score, "read the answers of a run with another reader; asks nothing")
    score.add_argument("run", metavar="RUN")
    score.add_argument("--reader", required=True, metavar="READER", help=f"a reader of the spec by name, {_READER}")
    score.add_argument("--address", metavar="HOST:PORT", help="a Ray cluster (RAY_ADDRESS, or one is started here)")

    status = _command(commands, "status", _status, "settled, owed and failed per model; also while it runs")
    status.add_argument("run", metavar="RUN")
    status.add_argument("--json", action="store_true", help="for programs")

    report = _command(commands, "report", _report, "tables, figures and one page from a run folder")
    report.add_argument("run", metavar="RUN")
    report.add_argument("--out", metavar="DIR", help="in place of RUN/report")
    report.add_argument(
        "--label-map",
        action="append",
        default=[],
        metavar="[READER=]MAP",
        help="score the stored readings by another map of the 28 labels, or of a reader's own; asks no reader",
    )
    report.add_argument("--neutral", choices=["zero", "drop"], help="score the stored readings by another neutral rule")
    report.add_argument(
        "--refusals",
        choices=["zero", "drop", "as_read"],
        help="count an answer that declines as 0, leave it out, or score it as it was read",
    )
    report.add_argument(
        "--ceilings", action="append", default=[], metavar="FILE", help="of `validate --save`; once per reader"
    )
    report.add_argument(
        "--contrast",
        action="append",
        default=[],
        metavar="factor=…,a=…,b=…",
        help="an exploratory contrast, such as factor=template,a=words,b=parameters; kept apart from the spec's own",
    )
    report.add_argument("--human", metavar="CSV", help="labels by people, to correct the means; see `emoray sample`")

    sample = _command(commands, "sample", _sample, "draw answers of a run for people to label, blind")
    sample.add_argument("run", metavar="RUN")
    sample.add_argument("--out", required=True, metavar="CSV", help="the file to fill in")
    sample.add_argument("--cells", type=_at_least_one, default=200, metavar="N", help="how many answers (200)")
    sample.add_argument("--seed", type=_whole, default=0, metavar="N", help="decides which are drawn (0)")

    validate = _command(commands, "validate", _validate, "a reader's accuracy on labelled text")
    validate.add_argument("reader", metavar="READER", help=f"`embedded`, {_READER}")
    validate.add_argument("--data", required=True, metavar="FILE", help="a TSV of GoEmotions, or a CSV of EmoBank")
    validate.add_argument("--calibrate", metavar="TSV", help="fit a temperature to this data, and judge it on --data")
    validate.add_argument("--save", metavar="FILE", help="keep the figures as JSON, for `report --ceilings`")
    validate.add_argument("--limit", type=_at_least_one, metavar="N", help="only the first N comments")
    validate.add_argument("--label-map", default="russell", metavar="MAP", help="a shipped map or a file (russell)")
    validate.add_argument("--json", action="store_true", help="for programs")

    rehearse = _command(commands, "rehearse", _rehearse, "the same run with fake models and real kills, and its ledger")
    rehearse.add_argument("spec", metavar="SPEC")
    rehearse.add_argument(
        "--kill",
        default="driver,actor,engine,reader",
        metavar="WHAT,…",
        help="driver,actor,engine,reader; also: node (on a cluster of yours it stays away)",
    )
    rehearse.add_argument("--kills", type=_kills, default=10, metavar="N", help="how many, spread over these (10)")
    rehearse.add_argument(
        "--seed", type=_whole, default=0, metavar="N", help="decides who is killed when, and every fault (0)"
    )
    rehearse.add_argument(
        "--faults",
        default="",
        metavar="FAULT=SHARE,…",
        help="of requests; storm=0.3 is all kinds that leave hope, auth=0.001 a passing 401; an unknown one names all",
    )
    rehearse.add_argument("--latency", type=_seconds, default=0.3, metavar="S", help="seconds before an answer (0.3)")
    rehearse.add_argument("--slots", type=_at_least_one, metavar="N", help="answers worked on at once; others queue")
    rehearse.add_argument("--faster", type=_times, default=60.0, metavar="X", help="the accounts' limits, times X (60)")
    rehearse.add_argument("--limit", type=_at_least_one, metavar="N", help="only the first N cells of each model")
    rehearse.add_argument("--listen", default="127.0.0.1", metavar="HOST", help="where the nodes reach this machine")
    rehearse.add_argument("--real-readers", action="store_true", help="the spec's classifiers in place of fake ones")
    rehearse.add_argument("--json", action="store_true", help="for programs")
    _grid(rehearse)

    compact = _command(commands, "compact", _compact, "turn the many small files of a run into few")
    compact.add_argument("run", metavar="RUN")
    return parser


def _command(commands: argparse._SubParsersAction, name: str, call: object, text: str) -> argparse.ArgumentParser:  # type: ignore[type-arg]
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("-v", "--verbose", action="store_true", help="also what Ray and the libraries say")
    command.set_defaults(command=call)
    return command


def _grid(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", metavar="RUN", help="the run folder: a path or a URI (runs/<name of the spec>)")
    command.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="change a setting of the spec"
    )
    command.add_argument("--address", metavar="HOST:PORT", help="a Ray cluster (RAY_ADDRESS, or one is started here)")


def _at_least_one(text: str) -> int:
    return _between(text, 1, _MOST)


def _whole(text: str) -> int:
    return _between(text, 0, _MOST)


def _kills(text: str) -> int:
    return _between(text, 0, 10_000)


_LONGEST = 4096  # characters of a path
_MOST = 10**15  # exact also where a number becomes a float


def _between(text: str, least: int, most: int) -> int:
    number = int(text) if text.isdecimal() and len(text) <= len(str(most)) else -1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most:,}, got {_short(text)}")
    return number


def _seconds(text: str) -> float:
    return _number(text, 0.0, 86_400.0)


def _times(text: str) -> float:
    return _number(text, 1e-6, 1e6)


def _number(text: str, least: float, most: float) -> float:
    with suppress(ValueError):
        if least <= float(text) <= most:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a number from {least:g} to {most:,.0f}, got {_short(text)}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _folder(out: str | None, spec: Spec) -> str:
    return _absolute(out or f"runs/{spec.name}")


def _absolute(place: str) -> str:
    """A folder that means the same in every process of the job; a URI does already."""
    if "://" in place:
        return place
    path = Path(place).expanduser().absolute()
    if path.is_file():
        raise SpecError(f"{place}: is a file, not a folder")
    return str(path)


def _warn_of_code(asked: Iterable[ModelEntry]) -> None:
    """Says which models bring code of their own that their entries let run."""
    for entry in asked:
        if getattr(entry, "trust_remote_code", False):
            revision = getattr(entry, "revision", None)
            pinned = f"at revision {revision}" if revision else "at no fixed revision"
            print(
                f"warning: model {entry.name!r} runs the Python code that comes with {entry.id} ({pinned}), with the "
                "rights and the keys of this run: trust_remote_code is for code that you have read",
                file=sys.stderr,
            )


def _again(arguments: argparse.Namespace) -> str:
    """The command that resumes this run; it is kept in run.json, so a secret in a URI is left out."""
    words = ["emoray", "run", arguments.spec]
    words += [word for change in arguments.set for word in ("--set", change)]
    for flag in ("out", "limit", "max_cost", "address"):
        if getattr(arguments, flag):
            words += [f"--{flag.replace('_', '-')}", without_secrets(str(getattr(arguments, flag)))]
    return shlex.join([*words, *(f"--{flag}" for flag in ("extend", "yes") if getattr(arguments, flag))])


if __name__ == "__main__":
    sys.exit(main())
