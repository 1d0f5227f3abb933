"""init | plan | run | experiments | score | status | report | compare | export | sample | validate | rehearse
| compact | completion.

Exit codes: 0 all cells settled; 2 the user's input is wrong, or Ray is not to be had, and nothing was written; 3
finished, but cells are still owed; 4 two runs lie farther apart than was allowed; 130 interrupted. Progress goes to
stderr, results to stdout.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from emoray import __version__
from emoray.commands.options import RUN, SPEC, shortened
from emoray.commands.terminal import printed
from emoray.errors import UserError
from emoray.exit_codes import INTERRUPTED, OK, WRONG
from emoray.hints import did_you_mean
from emoray.run_folder.errors import StoreError

_ROOMS = {  # each command is a file beside this one
    "an experiment": {
        "init": "ask a few questions and write a spec",
        "plan": "what a spec would ask, and what it takes; asks nothing, writes nothing",
        "run": "ask what is owed, read it, score it; the same command resumes",
        "experiments": "what ships to be asked, and what it takes with given models",
        "score": "read the answers of a run with another reader; asks nothing",
        "status": "settled, owed and failed per model; also while it runs",
    },
    "its results": {
        "report": "tables, figures and one page from a run folder",
        "compare": "two runs held against each other",
        "export": "Parquet, a data card and Croissant metadata, for others",
        "sample": "draw answers of a run for people to label, blind",
    },
    "beside it": {
        "validate": "a reader's accuracy on labelled text",
        "rehearse": "the same run with fake models and real kills, and its ledger",
        "compact": "turn the many small files of a run into few",
        "completion": "what bash, zsh or fish needs to complete commands and flags",
    },
}
_COMMANDS = {name: text for room in _ROOMS.values() for name, text in room.items()}
_WORDS = {
    "SPEC": SPEC,
    "RUN": RUN,
    "READER": "who reads the emotion in an answer: `embedded`, a hub id, a folder, or a YAML file with its entry",
}
_EXAMPLES = {
    "emoray plan quickstart": "what it would ask; costs nothing",
    "emoray run quickstart": "a small shipped model, no key, no GPU, a minute",
    "emoray report runs/quickstart --open": "its page, in the browser",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    with printed():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    parser, words = _parser(), sys.argv[1:] if argv is None else argv
    if not words:
        print(_overview())
        return OK
    if not words[0].startswith("-") and words[0] not in _COMMANDS:
        parser.error(f"there is no command {shortened(words[0])}{did_you_mean(words[0], _COMMANDS)}")
    arguments = parser.parse_args(words)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING,
        format="%(asctime)s %(name)s: %(message)s" if arguments.verbose else "%(message)s",
        stream=sys.stderr,
    )
    try:
        _check_words(words)
        _stand_somewhere()
        return int(arguments.command(arguments))
    except (UserError, StoreError) as wrong:
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
        print(f"emoray: {shortened(str(wrong.filename))}: is too long for the name of a file", file=sys.stderr)
        return WRONG


class _Command(argparse.ArgumentParser):
    """Learns its flags when it is called: what one command imports, the others and `--help` do without.

    Tells of what it does not know itself, under its own usage; argparse would do so under that of all commands.
    """

    def parse_known_args(self, *what: Any, **more: Any) -> tuple[Any, list[str]]:
        self.learn()
        known, unknown = super().parse_known_args(*what, **more)
        if unknown:
            flags = (word.partition("=")[0] for word in unknown if word.startswith("-"))
            hint = next((did_you_mean(flag, list(self._option_string_actions)) for flag in flags), "")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known, unknown

    def learn(self) -> None:
        """Its flags, once."""
        if self.get_default("command") is None:
            self.add_argument("-v", "--verbose", action="store_true", help="also what Ray and the libraries say")
            import_module(f"emoray.commands.{self.prog.split()[-1]}").add(self)

    def flags(self) -> dict[str, str]:
        """Each flag, and what it does."""
        return {flag: action.help or "" for action in self._actions for flag in action.option_strings}


def commands() -> dict[str, str]:
    """Every command, and what it does."""
    return dict(_COMMANDS)


def flags(command: str) -> dict[str, str]:
    """Every flag of a command, and what it does."""
    parser = _Command(prog=f"emoray {command}")
    parser.learn()
    return parser.flags()


def _check_words(words: Sequence[str]) -> None:
    """UserError for what is no text: a run writes its command and its places down."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(f"the argument {word!r} is not UTF-8 text; give the file or folder another name") from None


def _stand_somewhere() -> None:
    """UserError where the folder that this was started in has been deleted; Ray cannot work from nowhere."""
    try:
        Path.cwd()
    except OSError as wrong:
        raise UserError(
            f"the folder that this was started in cannot be reached any more ({wrong.strerror}); change to another"
        ) from None


class _Parser(argparse.ArgumentParser):
    """Of all commands; its help is the overview."""

    def format_help(self) -> str:
        return f"{self.format_usage()}\n{_overview()}\n"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="emoray", usage="emoray COMMAND …")
    parser.add_argument("--version", action="version", version=f"emoray {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", prog="emoray", parser_class=_Command)
    for name, text in _COMMANDS.items():
        commands.add_parser(name, help=text, description=text)
    return parser


def _overview() -> str:
    """What `emoray` can do, by itself and as its help."""
    return "\n\n".join(
        [
            "Asks language models to express emotions, reads the answers with a classifier, says how well they did.",
            *(_section(title, commands) for title, commands in _ROOMS.items()),
            _section("words", _WORDS),
            _section("examples", _EXAMPLES),
            "`emoray COMMAND --help` says more of each; with --json every command writes for programs.",
        ]
    )


def _section(title: str, lines: Mapping[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join([f"{title}:", *(f"    {name:<{width}}  {text}" for name, text in lines.items())])


if __name__ == "__main__":
    sys.exit(main())
