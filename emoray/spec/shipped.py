"""The specs and models files that ship, by name: `emoray run quickstart`, also where there is no checkout."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from emoray.hints import did_you_mean

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_specs() -> dict[str, Path]:
    """By name: the YAML files of `jobs/` in a checkout, of `emoray/specs/` where a wheel was installed (setup.py)."""
    return _by_name([*_folder().glob("*.yaml"), *shipped_experiments().glob("*.yaml")])


def shipped_models() -> dict[str, Path]:
    """Files of models (`--models open`), by name."""
    return _by_name((_folder() / "models").glob("*.yaml"))


def shipped_experiments() -> Path:
    """The folder of those specs that `emoray experiments` lists."""
    return _folder() / "experiments"


def spec_file(given: str | Path) -> Path:
    """A spec's file by its path, or by the name of one that ships; a file that is there comes first."""
    return _file(given, shipped_specs())


def models_path(given: str | Path) -> Path:
    """As `spec_file`, of a file of models."""
    return _file(given, shipped_models())


def how_to_name(what: str, given: str | Path, shipped: Iterable[str]) -> str:
    """What to give in place of what cannot be read."""
    names = list(shipped)
    return (
        f"give the path of {what}, or the name of one that ships ({', '.join(names)}){did_you_mean(str(given), names)}"
    )


def _folder() -> Path:
    inside = _PACKAGE / "specs"
    return inside if inside.is_dir() else _PACKAGE.parent / "jobs"


def _by_name(files: Iterable[Path]) -> dict[str, Path]:
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}


def _file(given: str | Path, shipped: dict[str, Path]) -> Path:
    path, known = Path(given), shipped.get(str(given))
    return path if known is None or path.is_file() else known
