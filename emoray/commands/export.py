"""`emoray export`: a run as a data set for others."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

from emoray.commands.options import RUN, absolute, shortened
from emoray.errors import UserError
from emoray.exit_codes import OK
from emoray.plurals import count
from emoray.spec.label_maps import is_file

_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{1,60}|https?://[^\s\"<>]{1,400}")


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("run", metavar="RUN", help=RUN)
    own.add_argument("--to", required=True, metavar="DIR", help="a new folder for Parquet, card and metadata")
    own.add_argument("--license", metavar="ID", help="an SPDX id such as CC-BY-4.0, or a URL; asked at a terminal")
    own.add_argument("--cite", metavar="TEXT", help="how to cite it, or a file that says so; asked at a terminal")
    own.add_argument("--with-prompts", action="store_true", help="also prompts that do not ship with emoray")
    own.add_argument("--json", action="store_true", help="what was written, for programs")


def _call(arguments: argparse.Namespace) -> int:
    from emoray.dataset.write import write_dataset  # pandas takes a second to import
    from emoray.notebook.run import load

    to = Path(absolute(arguments.to))
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{arguments.to}: is there already; choose a new folder")
    run = load(arguments.run)
    licence = _licence(arguments.license or _asked("--license", "the licence of this data set, such as CC-BY-4.0"))
    citation = _citation(arguments.cite or _asked("--cite", "how it is to be cited"))
    written = write_dataset(
        run.source, run.found, to, licence=licence, citation=citation, with_prompts=arguments.with_prompts
    )
    if arguments.json:
        print(json.dumps(asdict(written), indent=2))
        return OK
    asks, readings = (count(written.rows[table], what) for table, what in (("answers", "ask"), ("rows", "reading")))
    print(f"{written.folder}: answers.parquet ({asks}), rows.parquet ({readings}), README.md, croissant.json")
    if written.left_out:
        print(f"left out, since this run's prompts are not public: {', '.join(written.left_out)} (--with-prompts)")
    return OK


def _asked(flag: str, what: str) -> str:
    """What somebody at a terminal says; UserError tells everybody else of the flag."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(f"{flag} says {what}, and nobody is here to be asked")
    print(f"{what}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _licence(text: str) -> str:
    if not _LICENCE.fullmatch(text):
        raise UserError(f"--license must be an SPDX id such as CC-BY-4.0, or a URL, got {shortened(text)}")
    return text


def _citation(text: str) -> str:
    """The text, or that of the file which it names."""
    try:
        said = (Path(text).read_text(encoding="utf-8") if is_file(Path(text)) else text).strip()
    except (OSError, UnicodeDecodeError) as wrong:
        raise UserError(f"--cite: {shortened(text)} cannot be read ({wrong})") from None
    if not said or "```" in said:
        raise UserError("--cite must say how the data set is to be cited, in a line or as BibTeX, without ```")
    return said
