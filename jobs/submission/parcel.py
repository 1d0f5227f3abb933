"""What travels to the cluster: the package, the entry scripts, a spec, and the files that the spec names.

Nothing else does, whatever lies beside them: keys, notebooks, runs and environments stay here.
"""

from __future__ import annotations

import posixpath
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from emoray.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
_ENTRIES = ("entry.py", "run.py", "score.py", "report.py")
_ABROAD = "spec"  # the folder of a spec that lies outside of the checkout
_MODELS_ABROAD = "models"
_LONGEST = 255  # of a file's name


@dataclass(frozen=True)
class Parcel:
    """Files by their place in the job's working folder, `/` between the parts."""

    files: Mapping[str, Path]
    spec: str  # one of these places
    models: str | None = None  # another, where of whom is asked stands in a file of its own

    def pack(self, folder: Path) -> None:
        """Copies everything into a folder."""
        for place, file in self.files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / place)


def parcel(spec: Path, changes: Sequence[str] = (), models: Path | None = None) -> Parcel:
    """Of a spec that can be loaded, with its `--set` changes and its file of models; UserError where one of them names
    what cannot travel.
    """
    files = {_place(spec.absolute()): spec}
    if models is not None:
        files[_place(models.absolute(), _MODELS_ABROAD)] = models
    named = {at: there for place, file in files.items() for at, there in _named(file, place, changes)}
    entries = {f"jobs/{name}": ROOT / "jobs" / name for name in _ENTRIES}
    return Parcel(dict(_package()) | entries | named | files, *files)


def _named(file: Path, place: str, changes: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The files that a YAML file names, and what is set in it."""
    settings = [yaml.safe_load(file.read_text(encoding="utf-8"))]
    settings += [yaml.safe_load(change.partition("=")[2]) for change in changes]
    for where, text in _texts(settings):
        _refuse_folder(file, where, text)
        if _is_file(file.parent, text):
            yield _inside(file, posixpath.dirname(place), text), file.parent / text


def pins(extras: Sequence[str]) -> list[str]:
    """What pyproject.toml asks for, and its extras, in the versions of this machine: for a cluster whose image lacks
    them. Ray itself is the cluster's.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = map(Requirement, [*project["dependencies"], *(pin for extra in extras for pin in optional[extra])])
    return [_installed(one) for one in wanted if one.name != "ray"]


def _installed(wanted: Requirement) -> str:
    """As `==`, without what tells a build (+cpu), which the index may not have; as it was where it is not installed."""
    try:
        version = Version(metadata.version(wanted.name)).public
    except metadata.PackageNotFoundError:
        return str(wanted)
    return str(Requirement(f"{wanted.name}[{','.join(sorted(wanted.extras))}]=={version}"))


def _package() -> Iterator[tuple[str, Path]]:
    for file in sorted((ROOT / "emoray").rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file.relative_to(ROOT).as_posix(), file


def _place(file: Path, abroad: str = _ABROAD) -> str:
    return file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else f"{abroad}/{file.name}"


def _texts(settings: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text in the settings, with the name of the setting it stands under."""
    if isinstance(settings, str):
        yield where, settings
    elif isinstance(settings, dict):
        for name, value in settings.items():
            yield from _texts(value, str(name))
    elif isinstance(settings, list):
        for value in settings:
            yield from _texts(value, where)


def _is_file(folder: Path, text: str) -> bool:
    return bool(text) and "\n" not in text and len(text) <= _LONGEST and (folder / text).is_file()


def _inside(spec: Path, folder: str, text: str) -> str:
    """The place of a file that the spec names from its own folder."""
    place = posixpath.normpath(posixpath.join(folder, text))
    if posixpath.isabs(place) or place.startswith("../"):
        raise UserError(
            f"{spec}: names the file {text}, which lies outside of what travels to the cluster; "
            "put it beside the spec, and name it from there"
        )
    return place


def _refuse_folder(spec: Path, where: str, text: str) -> None:
    """A model's folder does not travel (it may have gigabytes); an absolute path may be on a disk that all share."""
    if where in ("id", "model") and text != "embedded" and not Path(text).is_absolute() and Path(text).is_dir():
        raise UserError(
            f"{spec}: {where} is {text}, a folder of this machine, which does not travel to the cluster; "
            "give its absolute path on a disk that all nodes share, or a hub id"
        )
