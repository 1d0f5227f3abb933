"""run.json: what a run folder is a run of, with which software, and every attempt at it. A spec holds no secrets."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, FiniteFloat, NonNegativeInt, ValidationError

from emoray import __version__
from emoray.errors import UserError
from emoray.run_folder import json_file
from emoray.spec.document import Spec
from emoray.spec.readers import ReaderEntry, readers_of
from emoray.spec.study import Study
from emoray.study import paper
from emoray.study.contrasts import meaning
from emoray.study.goemotions import LabelMap, label_map_from

_PACKAGES = ("ray", "torch", "transformers", "vllm", "openai", "pyarrow", "pandas", "numpy", "pydantic")
FORMAT = 1
_LONGEST = 400  # characters of what is wrong


def _moment(text: str) -> str:
    """ValueError for what is no time that can be told from others."""
    with suppress(ValueError):
        if datetime.fromisoformat(text).tzinfo is not None:
            return text
    raise ValueError(f"is no time with its zone, such as 2026-11-30T08:00:00+00:00, but {text[:40]!r}")


_Moment = Annotated[str, AfterValidator(_moment)]


class _Lane(BaseModel):
    model: str
    answered: int = 0
    error: str | None = None


class _Attempt(BaseModel):
    id: str = ""
    began: _Moment
    host: str
    pid: int = 0
    end: str = ""
    settled_before: dict[str, int] = {}
    spent_before: dict[str, dict[str, FiniteFloat]] = {}
    asks_since: dict[str, _Moment] = {}
    lanes: list[_Lane] = []
    sampling: dict[str, dict[str, Any]] = {}


class _Kept(BaseModel):
    """What every command takes for granted of a manifest; what the spec and the label map hold is looked at later."""

    name: str = ""
    digest: str
    cells_per_model: NonNegativeInt
    spec: dict[str, Any]
    label_map: dict[str, Any]
    marks: dict[str, dict[str, str]]
    attempts: list[_Attempt]
    extended: bool = False
    more_readers: list[dict[str, Any]] = []


def fresh(study: Study) -> dict[str, Any]:
    """The manifest of a run that begins."""
    began = datetime.now(UTC).date().isoformat()
    whole = {"format": FORMAT, "name": study.spec.name, "day": began, **described(study), "attempts": []}
    return whole | said_first(study)


def said_first(study: Study) -> dict[str, Any]:
    """The contrasts that were said before there was any answer, and what they meant; what comes later, or means
    something else, is told as looked at after.
    """
    return {
        "contrasts_first": [contrast.model_dump(mode="json") for contrast in study.spec.contrasts],
        "contrasts_meant": meaning(described(study)),
    }


def described(study: Study) -> dict[str, Any]:
    """What the spec decides: the part of the manifest that a changed spec replaces."""
    return {
        "digest": study.spec.digest,
        "cells_per_model": study.experiment.cells_per_model,
        "spec": study.spec.model_dump(mode="json") | _texts(study),
        "label_map": {
            "name": study.label_map.name,
            "mark": study.label_map.mark,
            "source": study.label_map.source,
            "labels": _places(study.label_map),
        },
        "marks": _marks(study),
    }


def study(manifest: Mapping[str, Any] | None, where: str) -> Study:
    """The study that a folder is a run of; UserError where it has no manifest, one of another format, or one in which
    something is missing or odd.
    """
    if manifest is None:
        raise UserError(f"{where}: is no run folder (it has no run.json); give the folder that `emoray run` wrote")
    if manifest.get("format") != FORMAT:
        found = _short(repr(manifest.get("format")))
        raise UserError(f"{where}: run.json has format {found}, this emoray reads {FORMAT}")
    try:
        _Kept.model_validate(manifest, strict=True)
        spec, labels = Spec.model_validate(manifest["spec"]), manifest["label_map"]
        readers(manifest)
        label_map = label_map_from(labels["labels"], name=labels["name"], mark=labels["mark"], source=labels["source"])
        return _marked(Study(spec, label_map=label_map), manifest["marks"])
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as wrong:
        raise UserError(  # of another version, or edited by hand
            f"{where}: run.json cannot be used by emoray {__version__} ({_short(_reason(wrong))}); put back a good "
            "copy, or use the emoray that wrote it"
        ) from None


def _reason(wrong: Exception) -> str:
    """On one line."""
    if isinstance(wrong, ValidationError):
        return json_file.clause(wrong)
    if isinstance(wrong, KeyError):
        return f"{wrong} is missing"
    return next(iter(str(wrong).splitlines()), type(wrong).__name__)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def day(manifest: Mapping[str, Any] | None) -> date | None:
    """The UTC day on which a run began, which is today to chat templates as long as the run is resumed."""
    kept = manifest or {}
    began = [kept.get("day"), *(one.get("began") for one in kept.get("attempts", [])[:1])]
    with suppress(StopIteration, TypeError, ValueError):  # of another version, or edited by hand
        return date.fromisoformat(next(filter(None, began))[:10])
    return None


def readers(manifest: Mapping[str, Any] | None) -> dict[str, ReaderEntry]:
    """Every reader that a folder knows, by name: those of its spec, and those that came before or after."""
    kept = manifest or {}
    entries = readers_of([*kept.get("spec", {}).get("readers", []), *kept.get("more_readers", [])])
    return {entry.name: entry for entry in entries}


def attempt(command: Sequence[str]) -> dict[str, Any]:
    """A new attempt: who begins, where, when, with what. Its id sorts by time."""
    began = datetime.now(UTC)
    return {
        "id": f"{began:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
        "began": began.isoformat(timespec="seconds"),
        "command": list(command),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "user": _user(),
        "versions": versions(),
        "git": _git_revision(),
    }


def versions() -> dict[str, str]:
    """Of emoray, Python and the packages that decide results, where installed."""
    found = {"emoray": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _marks(study: Study) -> dict[str, dict[str, str]]:
    """What is quoted from the paper, ours in place of what is not known of it, and the user's own."""
    e = study.experiment
    return {
        "templates": {template.name: template.mark for template in e.templates},
        "questions": {question.id: question.mark for question in e.questions},
        "models": {model.name: _version(model.name) for model in e.models},
        "neutral": {study.spec.neutral: "ours"},
        "refusals": {study.spec.refusals: "ours"},
        **{what: dict.fromkeys(names, "ours") for what, names in paper.OURS.items()},
    }


def _version(model: str) -> str:
    """Whose the dated version of a model is: ours where it stands for one of the paper's, which tells none."""
    return "ours" if model in paper.MODELS.value else "user"


def _marked(study: Study, marks: Mapping[str, Mapping[str, str]]) -> Study:
    """With the marks that the texts had: written out, they look like a user's own."""
    e = study.experiment
    templates = tuple(replace(template, mark=marks["templates"][template.name]) for template in e.templates)
    questions = tuple(replace(question, mark=marks["questions"][question.id]) for question in e.questions)
    study.experiment = replace(e, templates=templates, questions=questions)
    return study


def _texts(study: Study) -> dict[str, Any]:
    """Templates and questions by their texts: a later emoray may ship others under the same names."""
    e = study.experiment
    return {
        "templates": [{"name": t.name, "system": t.system, "user": t.user, "control": t.control} for t in e.templates],
        "questions": [{"id": q.id, "text": q.text} | ({"tags": list(q.tags)} if q.tags else {}) for q in e.questions],
    }


def _places(label_map: LabelMap) -> dict[str, dict[str, Any]]:
    return {
        place.label: {"none": True, "reason": place.reason}
        if place.affect is None
        else {"valence": place.affect.valence, "arousal": place.affect.arousal, "reason": place.reason}
        for place in label_map.places
    }


def _git_revision() -> str | None:
    """Of the checkout that this package runs from, with + where it has uncommitted changes; None outside one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        revision = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a passwd entry
        return str(os.getuid())
