"""run.json: what a run folder is a run of, with which software, and every attempt at it. A spec holds no secrets."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emoray import __version__
from emoray.errors import UserError
from emoray.printable import cut
from emoray.reasons import reason_of
from emoray.run_folder import json_file
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.run_json import FORMAT, Attempt, Json, Manifest, is_known
from emoray.spec.base import KEPT
from emoray.spec.document import Spec
from emoray.spec.readers import ReaderEntry, readers_of
from emoray.spec.study import Study
from emoray.study import paper
from emoray.study.contrasts import meaning
from emoray.study.goemotions import LabelMap, label_map_from

_PACKAGES = ("ray", "torch", "transformers", "vllm", "openai", "pyarrow", "pandas", "numpy", "pydantic")
_LONGEST = 400  # characters of what is wrong


def fresh(study: Study) -> Manifest:
    """The manifest of a run that begins."""
    began = datetime.now(UTC).date().isoformat()
    whole = {"format": FORMAT, "name": study.spec.name, "day": began, **described(study), "attempts": []}
    return Manifest.model_validate(whole | said_first(study))


def redescribed(kept: Manifest, study: Study, *, first: bool) -> Manifest:
    """With all that the spec decides in place of what it decided before; `first` where there is no answer yet."""
    return Manifest.model_validate(kept.as_json() | described(study) | (said_first(study) if first else {}))


def said_first(study: Study) -> Json:
    """The contrasts that were said before there was any answer, and what they meant; what comes later, or means
    something else, is told as looked at after.
    """
    return {
        "contrasts_first": [contrast.model_dump(mode="json") for contrast in study.spec.contrasts],
        "contrasts_meant": meaning(described(study)),
    }


def described(study: Study) -> Json:
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


def read(folder: RunFolder) -> Manifest | None:
    """The manifest of a folder; None where there is none. UserError where it is of another format, or something in it
    is missing or odd; BrokenManifest where it is no JSON.
    """
    found = folder.manifest()
    return None if found is None else parsed(found, folder.shown)


def parsed(found: Mapping[str, Any], where: str) -> Manifest:
    """What run.json holds, as a manifest; UserError as of `read`."""
    if not is_known(found):
        format_ = cut(repr(found.get("format")), _LONGEST, "…")
        raise UserError(f"{where}: run.json has format {format_}, this emoray reads {FORMAT}")
    with _usable(where):
        return Manifest.model_validate(found)


def study(kept: Manifest, where: str) -> Study:
    """The study that a folder is a run of; UserError where its spec, readers or label map are odd."""
    with _usable(where):
        spec, labels = Spec.model_validate(kept.spec, context=KEPT), kept.label_map
        readers(kept)
        label_map = label_map_from(labels.labels, name=labels.name, mark=labels.mark, source=labels.source, kept=True)
        return _marked(Study(spec, label_map=label_map), kept.marks)


@contextmanager
def _usable(where: str) -> Iterator[None]:
    """UserError for whatever a run.json of another version, or one that was edited by hand, makes go wrong."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as wrong:
        why = cut(_reason(wrong), _LONGEST, "…")
        raise UserError(
            f"{where}: run.json cannot be used by emoray {__version__} ({why}); put back a good copy, or use the "
            "emoray that wrote it"
        ) from None


def _reason(wrong: Exception) -> str:
    """On one line."""
    if isinstance(wrong, ValidationError):
        return json_file.clause(wrong)
    if isinstance(wrong, KeyError):
        return f"{wrong} is missing"
    return reason_of(wrong)


def day(kept: Manifest | None) -> date | None:
    """The UTC day on which a run began, which is today to chat templates as long as the run is resumed."""
    if kept is None:
        return None
    began = [kept.day, *(attempt.began for attempt in kept.attempts[:1])]
    told = next(filter(None, began), None)
    with suppress(ValueError):  # of another version, or edited by hand
        return date.fromisoformat(told[:10]) if isinstance(told, str) else None
    return None


def readers(kept: Manifest | None) -> dict[str, ReaderEntry]:
    """Every reader that a folder knows, by name: those of its spec, and those that came before or after."""
    if kept is None:
        return {}
    return {entry.name: entry for entry in readers_of([*kept.spec.get("readers", []), *kept.more_readers])}


def attempt(command: Sequence[str]) -> Attempt:
    """A new attempt: who begins, where, when, with what."""
    began = datetime.now(UTC)
    return Attempt(
        id=f"{began:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
        began=began.isoformat(timespec="seconds"),
        command=list(command),
        host=socket.gethostname(),
        pid=os.getpid(),
        user=_user(),
        versions=versions(),
        git=_git_revision(),
    )


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


def _texts(study: Study) -> Json:
    """Templates and questions by their texts: a later emoray may ship others under the same names."""
    e = study.experiment
    return {
        "templates": [{"name": t.name, "system": t.system, "user": t.user, "control": t.control} for t in e.templates],
        "questions": [{"id": q.id, "text": q.text} | ({"tags": list(q.tags)} if q.tags else {}) for q in e.questions],
    }


def _places(label_map: LabelMap) -> Json:
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
