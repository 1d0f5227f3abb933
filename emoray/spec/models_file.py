"""A models file: of whom is asked (`models:`, and the `accounts:` they need), apart from the spec that says what."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoray.spec import yaml_file
from emoray.spec.base import SpecError, short
from emoray.spec.complaints import validated
from emoray.spec.shipped import how_to_name, models_path, shipped_models
from emoray.spec.yaml_file import BadYaml

_HOLDS = ("accounts", "models")


@dataclass(frozen=True)
class ModelsFile:
    path: str  # as it was given
    folder: Path  # from which its models name files
    models: list[Any]
    accounts: dict[str, Any]

    def put_into(self, data: dict[str, Any]) -> dict[str, Any]:
        """The settings of a spec with these models in place of its own.

        Of its accounts those stay that its judges name: SpecError where such a one is another here, since one name is
        one contract with its limits and budget.
        """
        own = data.get("accounts") or {}
        if not isinstance(own, dict):  # complained of by whoever reads the whole
            return data | {"models": deepcopy(self.models)}
        kept = {name: own[name] for name in _named_by_judges(data) if name in own}
        for name, account in kept.items():
            if self.accounts.get(name, account) != account:
                raise SpecError(
                    f"accounts.{name} of a judge is another than that of {self.path}; make them the same, or give one "
                    "another name"
                )
        return data | {"models": deepcopy(self.models), "accounts": kept | self.accounts}


def models_file(path: str | Path) -> ModelsFile:
    """By its path, or by the name of one that ships; SpecError says what is wrong with it, also with its entries and
    with the files that they name.
    """
    file = models_path(path)
    try:
        data = yaml_file.read(_text(path, file))
        _check(data, file.parent)
    except (BadYaml, SpecError) as wrong:
        raise SpecError("\n".join(f"{path}: {line}" for line in str(wrong).splitlines())) from None
    return ModelsFile(str(path), file.parent, data["models"], data.get("accounts") or {})


def sections(data: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, itself) of every section in a list; what is no list is complained of later."""
    entries = data.get(name)
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict):
            yield f"{name}[{index}]", entry


def with_chat_template(entry: dict[str, Any], where: str, folder: Path) -> None:
    """The text in place of the file: an actor on another machine has no such file, and a key covers the text."""
    named = entry.get("chat_template")
    if not isinstance(named, str) or "{" in named:
        return
    try:
        entry["chat_template"] = yaml_file.text_of(folder / named)
    except BadYaml:
        raise SpecError(
            f"{where}.chat_template is {short(named)}, which is neither a readable file nor a template"
        ) from None


def _text(given: str | Path, file: Path) -> str:
    try:
        return yaml_file.text_of(file)
    except BadYaml as wrong:
        hint = f"; {how_to_name('a models file', given, shipped_models())}" if "cannot be read" in str(wrong) else ""
        raise SpecError(f"{wrong}{hint}") from None


def _check(data: Any, folder: Path) -> None:
    if not isinstance(data, dict):
        raise SpecError("holds no models; a models file has `models:`, and the `accounts:` that they need")
    for name in data:
        if name not in _HOLDS:
            raise SpecError(
                f"{short(name)} does not belong into a models file, which has {' and '.join(_HOLDS)} alone; put it "
                "into the spec"
            )
    whole = {"name": "models", **deepcopy(data)}
    for where, entry in sections(whole, "models"):
        with_chat_template(entry, where, folder)
    validated(whole)


def _named_by_judges(data: dict[str, Any]) -> list[str]:
    asked = [entry["model"] for _, entry in sections(data, "readers") if isinstance(entry.get("model"), dict)]
    return [name for model in asked if isinstance(name := model.get("account"), str)]
