"""What several commands take: numbers, places, flags in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emoray.errors import UserError
from emoray.printable import cut
from emoray.run_folder.locations import absolute as absolute
from emoray.spec.document import Spec
from emoray.spec.models import ModelEntry
from emoray.spec.readers import JudgeReader, ReaderEntry


def asked_by(reader: ReaderEntry) -> list[ModelEntry]:
    """The model that a judge asks."""
    return [reader.model] if isinstance(reader, JudgeReader) else []


def check_writable(file: Path) -> None:
    with writing(file):  # to look is not allowed everywhere
        is_folder, has_folder = file.is_dir(), file.absolute().parent.is_dir()
    if is_folder:
        raise UserError(f"{file}: is a folder; give a file in it")
    if not has_folder:
        raise UserError(f"{file}: the folder for it is not there")


@contextmanager
def writing(place: str | Path) -> Iterator[None]:
    """While a file or folder is written that the user named: UserError where it cannot be."""
    try:
        yield
    except OSError as wrong:
        raise UserError(f"{place}: cannot be written ({wrong.strerror or wrong})") from None


@contextmanager
def new_folder(folder: Path, given: str) -> Iterator[None]:
    """A folder, there while inside; where that fails, what was made of it and is empty goes again. UserError names it
    as it was given.
    """
    with writing(given):
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for one in missing:
                one.rmdir()
        raise


SPEC = "a YAML file that says who is asked what and who reads it, or the name of one that ships: quickstart"
RUN = "the folder of a run: a path, or a URI such as s3://bucket/run"
MODELS = "of whom: a YAML file with `models` and `accounts`, or the name of one that ships: open"
READER = "a hub id, a folder, or a YAML file with a reader's entry"


def with_grid(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", metavar="RUN", help="the run folder: a path or a URI (runs/<name of the spec>)")
    command.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="change a setting of the spec"
    )
    command.add_argument("--address", metavar="HOST:PORT", help="a Ray cluster (RAY_ADDRESS, or one is started here)")
    command.add_argument("--models", metavar="FILE", help=f"{MODELS}; in place of the spec's")


def at_least_one(text: str) -> int:
    return _between(text, 1, _MOST)


def whole_number(text: str) -> int:
    return _between(text, 0, _MOST)


def kills(text: str) -> int:
    return _between(text, 0, 10_000)


LONGEST_PATH = 4096  # characters of a path
_MOST = 10**15  # exact also where a number becomes a float


def _between(text: str, least: int, most: int) -> int:
    number = int(text) if text.isdecimal() and len(text) <= len(str(most)) else -1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most:,}, got {shortened(text)}")
    return number


def seconds(text: str) -> float:
    return _number(text, 0.0, 86_400.0)


def times(text: str) -> float:
    return _number(text, 1e-6, 1e6)


def cosines_apart(text: str) -> float:
    return _number(text, 0.0, 2.0)


def precision(text: str) -> float:
    return _number(text, 0.001, 1.0)


def _number(text: str, least: float, most: float) -> float:
    with suppress(ValueError):
        if least <= float(text) <= most:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a number from {least:g} to {most:,.0f}, got {shortened(text)}")


def shortened(text: str) -> str:
    return repr(cut(text, 40, "…"))


def folder_of(out: str | None, spec: Spec) -> str:
    return absolute(out or f"runs/{spec.name}")


def warn_of_code(asked: Iterable[ModelEntry]) -> None:
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
