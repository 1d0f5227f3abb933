"""`emoray init`: asks a few questions and writes a spec."""

from __future__ import annotations

import argparse
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emoray.commands.options import at_least_one, check_writable, writing
from emoray.errors import UserError
from emoray.exit_codes import OK
from emoray.spec.load import parse
from emoray.spec.yaml_file import quoted

_ASKED = {  # by flag: what is asked, and what an empty answer means
    "name": ("What is the run called?", "mine"),
    "host": ("Who runs the model: embedded, transformers, vllm or hosted_api?", "embedded"),
    "model": ("Which model: a hub id, a folder, or the provider's name for it?", None),
    "key_env": ("Which environment variable holds the provider's key (its name, never the key)?", "OPENAI_API_KEY"),
    "reader": ("Who reads the emotion: embedded, or the hub id or folder of a classifier?", "embedded"),
    "states": ("How many states around the circle?", "12"),
    "repetitions": ("How often is each prompt asked?", "3"),
}
_HOSTED = "hosted_api"
_LOCAL = "embedded"


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument(
        "file", metavar="FILE", nargs="?", default="spec.yaml", help="where to (spec.yaml); never over one"
    )
    own.add_argument("--name", help="of the run (mine)")
    own.add_argument("--host", choices=[_LOCAL, "transformers", "vllm", _HOSTED], help="who runs the model (embedded)")
    own.add_argument("--model", metavar="ID", help="a hub id, a folder, or the provider's name for it")
    own.add_argument("--key-env", metavar="NAME", help="of hosted_api: the variable with the key (OPENAI_API_KEY)")
    own.add_argument("--reader", metavar="ID", help="a classifier: embedded, a hub id or a folder (embedded)")
    own.add_argument("--states", type=at_least_one, metavar="N", help="around the circle (12)")
    own.add_argument("--repetitions", type=at_least_one, metavar="N", help="of each prompt (3)")
    own.add_argument("--yes", action="store_true", help="ask nothing; what no flag says is what stands in brackets")
    own.add_argument("--json", action="store_true", help="for programs; asks nothing either")


def _call(arguments: argparse.Namespace) -> int:
    file = Path(arguments.file)
    check_writable(file)
    if file.exists():
        raise UserError(f"{file}: is there already, and is not written over; give another name")
    silent = arguments.yes or arguments.json or not (sys.stdin and sys.stdin.isatty())
    text = written(_answers(vars(arguments), _default if silent else _ask))
    study = parse(text, source=str(file), folder=file.parent)
    with writing(file), file.open("x", encoding="utf-8") as out:
        out.write(text)
    print(json.dumps({"file": str(file), "name": study.spec.name}) if arguments.json else _next(file))
    return OK


def _next(file: Path) -> str:
    return f"{file} is written; `emoray plan {file}` says what it would ask and take, `emoray run {file}` asks it"


def _answers(given: Mapping[str, Any], ask: Callable[[str], str]) -> dict[str, str]:
    """By flag: what a flag says, else what `ask` says of it, and only what matters to that host."""
    found: dict[str, str] = {}
    for flag in _ASKED:
        if _matters(flag, found):
            found[flag] = ask(flag) if given[flag] is None else str(given[flag])
        elif given[flag] is not None:
            raise UserError(f"--{flag.replace('_', '-')} says nothing of host {found['host']}; leave it out")
    return found


def _matters(flag: str, found: Mapping[str, str]) -> bool:
    return {"model": found.get("host") != _LOCAL, "key_env": found.get("host") == _HOSTED}.get(flag, True)


def _default(flag: str) -> str:
    value = _ASKED[flag][1]
    if value is None:
        raise UserError(f"--{flag} is needed: {_ASKED[flag][0]}")
    return value


def _ask(flag: str) -> str:
    question, default = _ASKED[flag]
    print(f"{question} {f'[{default}] ' if default else ''}", end="", file=sys.stderr, flush=True)
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError:
        raise UserError("what was typed is not UTF-8 text, and nothing was written") from None
    if not line:
        raise UserError("the questions were not answered to the end, and nothing was written")
    return line.strip() or _default(flag)


def written(answers: Mapping[str, str]) -> str:
    """The text of a spec; what was answered is quoted, and stays text whatever it holds."""
    said = {flag: quoted(answer) for flag, answer in answers.items()}
    account = f"accounts:\n  provider:\n    key_env: {said['key_env']}\n\n" if "key_env" in said else ""
    return f"""\
name: {said["name"]}

{account}models:
  - name: {_model_name(answers)}
    host: {said["host"]}
{"".join(_model_lines(said))}
states: {answers["states"]} # evenly spaced around the circle
questions: all # the paper's two known questions and eight of ours
templates: [parameters] # arousal and valence as numbers
repetitions: {answers["repetitions"]}
sampling: {{ temperature: 0.8, max_tokens: 96 }}

readers:
  - name: reader
    kind: goemotions
    model: {said["reader"]}

label_map: russell
neutral: zero # an answer without a readable emotion scores 0
"""


def _model_lines(said: Mapping[str, str]) -> list[str]:
    account = ["    account: provider\n"] if "key_env" in said else []
    return [*account, *([f"    id: {said['model']}\n"] if "model" in said else [])]


def _model_name(answers: Mapping[str, str]) -> str:
    """The last part of its id, as a folder is called too, of what may stand in a name."""
    last = answers.get("model", _LOCAL).rstrip("/").rpartition("/")[2]
    letters = re.sub(r"[^\w. +-]", "-", unicodedata.normalize("NFC", last)).lstrip("._ +-")
    return quoted(letters.encode()[:64].decode(errors="ignore") or "model")
