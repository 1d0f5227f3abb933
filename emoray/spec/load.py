"""From YAML to a study: files that it names are read, settings on the command line put in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emoray.hints import did_you_mean
from emoray.printable import cut
from emoray.spec import yaml_file
from emoray.spec.base import SpecError, short
from emoray.spec.complaints import validated
from emoray.spec.contrasts import BadContrast
from emoray.spec.document import Spec
from emoray.spec.label_maps import is_file, map_entries
from emoray.spec.models_file import ModelsFile, models_file, sections, with_chat_template
from emoray.spec.shipped import how_to_name, shipped_specs, spec_file
from emoray.spec.study import Study
from emoray.spec.yaml_file import BadYaml
from emoray.study import rubrics
from emoray.study.goemotions import BadLabelMap
from emoray.study.prompts import BadPrompt
from emoray.study.rubrics import BadRubric

_NOBODY = {"name": "nobody", "host": "scripted"}


def load(path: str | Path, changes: Sequence[str] = (), models: str | Path | None = None) -> Study:
    """The spec in a YAML file, or that ships by this name, with `--set` changes ("path=value") applied.

    `models` is a file that says of whom is asked (`spec.models_file`), or the name of one that ships, in place of what
    the spec says of it.
    SpecError says what is wrong.
    """
    file, whom = spec_file(path), models_file(models) if models is not None else None
    try:
        text = yaml_file.text_of(file)
    except BadYaml as wrong:
        hint = f"; {how_to_name('a spec', path, shipped_specs())}" if "cannot be read" in str(wrong) else ""
        raise SpecError(f"{path}: {wrong}{hint}") from None
    return parse(text, source=str(path), folder=file.parent, changes=changes, models=whom)


def parse(
    text: str,
    *,
    source: str = "spec",
    folder: Path = Path(),
    changes: Sequence[str] = (),
    models: ModelsFile | None = None,
) -> Study:
    """The study in a YAML text, asked of its own models or of those of a file; `source` is what complaints call it."""
    try:
        settings = _settings(text, changes, models)
        return Study(validated(_with_texts(settings, folder, models.folder if models else folder)), folder)
    except (BadYaml, SpecError, BadPrompt, BadLabelMap, BadContrast) as wrong:
        raise SpecError("\n".join(f"{source}: {_with_hint(line)}" for line in str(wrong).splitlines())) from None


def with_reader(path: str | Path, spec: Spec | None = None) -> Spec:
    """The spec (or an empty one) with the one reader that a YAML file holds in place of its own.

    The file says what a spec says of a reader (kind, name, …), with the `accounts` that a hosted judge needs beside it.
    SpecError says what is wrong.
    """
    file = Path(path)
    try:
        return validated(_reader_only(yaml_file.text_of(file), file.parent, spec))
    except (BadYaml, SpecError, BadLabelMap) as wrong:
        lines = str(wrong).replace("readers[0].", "").replace("readers[0]", "the reader").splitlines()
        raise SpecError("\n".join(f"{path}: {line}" for line in lines)) from None


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _with_hint(line: str) -> str:
    """What to do about a spec that says what is asked and not of whom."""
    return f"{line}; name some, or give a file of them with --models" if line == "models is missing" else line


def _settings(text: str, changes: Sequence[str], models: ModelsFile | None = None) -> dict[str, Any]:
    data = yaml_file.read(text)
    if not isinstance(data, dict):
        raise SpecError("holds no settings; a spec begins with `name:` and `models:`")
    data = models.put_into(data) if models else data
    for change in changes:
        _change(data, change)
    return data


def _reader_only(text: str, folder: Path, spec: Spec | None) -> dict[str, Any]:
    """The settings of a spec whose one reader, and what accounts it needs, are these."""
    entry = yaml_file.read(text)
    if not isinstance(entry, dict):
        raise SpecError("holds no reader; one begins with `kind:` and `name:`, as under `readers` of a spec")
    base: dict[str, Any] = _as_kept(spec) if spec else {"name": "reader", "models": [_NOBODY]}
    own = entry.pop("accounts", None)
    accounts = {**base.get("accounts", {}), **own} if isinstance(own, dict) else own or base.get("accounts", {})
    return base | _with_texts({"readers": [entry]}, folder, folder) | {"accounts": accounts}


def _as_kept(spec: Spec) -> dict[str, Any]:
    """Its settings, of which the models, which may be a run folder's and older than a rule, are not looked at again."""
    return spec.model_dump(mode="json", exclude={"models"}) | {"models": spec.models}


def _with_texts(data: dict[str, Any], folder: Path, of_models: Path) -> dict[str, Any]:
    """The contents in place of the files that the spec names, so that the spec says all by itself; those that its
    models name are seen from the folder `of_models`.
    """
    for where, entry in sections(data, "models"):
        with_chat_template(entry, where, of_models)
    for where, entry in sections(data, "readers"):
        _with_own_map(entry, where, folder)
        _with_rubric(entry, where, folder)
        if isinstance(judge := entry.get("model"), dict):
            with_chat_template(judge, f"{where}.model", folder)
    return data


def _with_own_map(entry: dict[str, Any], where: str, folder: Path) -> None:
    named = entry.get("label_map")
    if not isinstance(named, str):
        return
    if not is_file(folder / named):
        raise SpecError(f"{where}.label_map is {short(named)}, which is no file")
    entry["label_map"] = dict(map_entries(folder / named))


def _with_rubric(entry: dict[str, Any], where: str, folder: Path) -> None:
    named = entry.get("rubric")
    if not isinstance(named, str):
        return
    try:
        text = yaml_file.text_of(folder / named) if named.endswith(".toml") else named
        rubrics.rubric(text)
    except BadYaml:
        raise SpecError(f"{where}.rubric is {short(named)}, which is no readable file") from None
    except BadRubric as wrong:
        raise SpecError(f"{where}.rubric: {wrong}{did_you_mean(named, rubrics.shipped_rubrics())}") from None
    entry["rubric"] = text


def _change(data: dict[str, Any], change: str) -> None:
    """One `--set models[0].sampling.temperature=0.7`; the value is read as YAML."""
    path, equals, text = change.partition("=")
    shown = cut(" ".join(change.split()))
    steps: list[int | str] = [int(i[:18]) if i else k for k, i in re.findall(r"([^.\[\]]+)|\[([0-9]+)\]", path)]
    if not equals or not steps or len(steps) > yaml_file.MOST_DEEP:
        raise SpecError(f"--set {shown} is not path=value, such as --set repetitions=3 or --set models[0].actors=2")
    here: Any = data
    for step in steps[:-1]:
        try:
            here = here.setdefault(step, {}) if isinstance(here, dict) else here[step]
        except (KeyError, IndexError, TypeError):
            raise SpecError(f"--set {shown}: the spec has no {cut(path)}") from None
    try:
        here[steps[-1]] = yaml_file.read(text)
    except (IndexError, TypeError):
        raise SpecError(f"--set {shown}: the spec has no {cut(path)}") from None
    except BadYaml as wrong:
        hint = (
            f"{short(text)} is no YAML value; quote what has brackets, colons or commas" if wrong.syntax else wrong.what
        )
        raise SpecError(f"--set {shown}: {hint}") from None
