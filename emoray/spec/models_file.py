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
from emoray.spec.yaml_file import BadYaml

_HOLDS = ("accounts", "models")


@dataclass(frozen=True)
class ModelsFile:
    path: str
    models: list[Any]
    accounts: dict[str, Any]

    @property
    def folder(self) -> Path:
        """From which its models name files."""
        return Path(self.path).parent

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
    """By its path; SpecError says what is wrong with it, also with its entries."""
    try:
        data = yaml_file.read(yaml_file.text_of(Path(path)))
        _check(data)
    except (BadYaml, SpecError) as wrong:
        raise SpecError("\n".join(f"{path}: {line}" for line in str(wrong).splitlines())) from None
    return ModelsFile(str(path), data["models"], data.get("accounts") or {})


def sections(data: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, itself) of every section in a list; what is no list is complained of later."""
    entries = data.get(name)
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict):
            yield f"{name}[{index}]", entry


def _check(data: Any) -> None:
    if not isinstance(data, dict):
        raise SpecError("holds no models; a models file has `models:`, and the `accounts:` that they need")
    for name in data:
        if name not in _HOLDS:
            raise SpecError(
                f"{short(name)} does not belong into a models file, which has {' and '.join(_HOLDS)} alone; put it "
                "into the spec"
            )
    validated({"name": "models", **data})


def _named_by_judges(data: dict[str, Any]) -> list[str]:
    asked = [entry["model"] for _, entry in sections(data, "readers") if isinstance(entry.get("model"), dict)]
    return [name for model in asked if isinstance(name := model.get("account"), str)]
