"""`emoray experiments`: what ships to be asked, what each would tell, and what it takes with given models."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emoray.commands.estimate import Size
from emoray.commands.plan import whole_size
from emoray.errors import UserError
from emoray.exit_codes import OK
from emoray.home import HOME
from emoray.spec.head import said_in_head
from emoray.spec.load import load

SHIPPED = Path(HOME) / "jobs" / "experiments"  # in a checkout; a package alone has no jobs


@dataclass(frozen=True)
class Shipped:
    """One experiment, by its file."""

    name: str
    path: str
    head: dict[str, str]  # question, hypothesis, contrasts, cost, expected: as its first comment says them
    models: tuple[str, ...]
    cells_per_model: int
    contrasts: tuple[str, ...]
    size: Size  # of all of it, nothing settled

    @property
    def question(self) -> str:
        return self.head.get("question", "(its file says no question)")

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        told = asdict(self) | {"question": self.question, "cells": self.size.cells}
        return told | {"usd": self.size.usd, "unpriced": list(self.size.unpriced)}


def experiments(folder: Path = SHIPPED, models: str | None = None) -> list[Shipped]:
    """Every spec in a folder, by name, asked of its own models or of those of a file; UserError where one is wrong."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise UserError(
            f"{folder}: has no experiments (*.yaml); give a folder of specs, such as jobs/experiments of emoray's "
            "checkout"
        )
    return [_shipped(file, models) for file in files]


def _shipped(file: Path, models: str | None) -> Shipped:
    study = load(file, models=models)
    return Shipped(
        study.spec.name,
        str(file),
        said_in_head(file.read_text(encoding="utf-8")),
        tuple(model.name for model in study.spec.models),
        study.experiment.cells_per_model,
        tuple(map(str, study.contrasts)),
        whole_size(study),
    )


def _text(found: list[Shipped], models: str | None) -> str:
    """For a terminal."""
    return "\n\n".join("\n".join(_lines(one, models)) for one in found)


def _lines(one: Shipped, models: str | None) -> list[str]:
    whom = f"{one.cells_per_model:,} cells per model: {', '.join(one.models)}"
    command = ["emoray", "run", _near(one.path), *(["--models", models] if models else [])]
    return [one.name, f"  {one.question}", f"  {whom}", f"  {one.size.text()}", f"  {shlex.join(command)}"]


def _near(path: str) -> str:
    """As it is written from here, where it lies below."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("folder", nargs="?", metavar="FOLDER", help="of experiments (jobs/experiments of the checkout)")
    own.add_argument("--models", metavar="FILE", help="of whom: a YAML file with `models` and `accounts`")
    own.add_argument("--json", action="store_true", help="for programs")


def _call(arguments: argparse.Namespace) -> int:
    found = experiments(Path(arguments.folder) if arguments.folder else SHIPPED, arguments.models)
    told = json.dumps([one.as_json() for one in found], indent=2)
    print(told if arguments.json else _text(found, arguments.models))
    return OK
