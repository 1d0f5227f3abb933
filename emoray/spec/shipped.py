"""The specs that ship with emoray, by name: `emoray run quickstart`, also where there is no checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_specs() -> dict[str, Path]:
    """By name: the YAML files of `jobs/` in a checkout, of `emoray/specs/` where a wheel was installed (setup.py)."""
    inside = _PACKAGE / "specs"
    folder = inside if inside.is_dir() else _PACKAGE.parent / "jobs"
    files = [*folder.glob("*.yaml"), *folder.glob("experiments/*.yaml")]
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}


def spec_file(given: str | Path) -> Path:
    """A spec's file by its path, or by the name of one that ships; a file that is there comes first."""
    path, shipped = Path(given), shipped_specs().get(str(given))
    return path if shipped is None or path.is_file() else shipped
