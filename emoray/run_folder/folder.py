"""The folder of a run: manifest, models, readers, and the partition of each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from pyarrow import fs as pafs

from emoray.run_folder import columns, json_file
from emoray.run_folder.atomic_write import HALF_WRITTEN, put
from emoray.run_folder.directory import BALLAST, Directory
from emoray.run_folder.errors import BrokenManifest, StoreError, telling
from emoray.run_folder.file_names import SET_ASIDE
from emoray.run_folder.partition import Partition

LANES = "lanes.json"
_BEGINNINGS = {"model": "model_folder=m-", "reader": "reader_folder=r-"}  # of the folders of a model, of a reader
_OLD_BEGINNINGS = {"model": "model=", "reader": "reader="}
_LONGEST_FOLDER = 255  # bytes that a filesystem gives a name
MARK, LOOK, PROBE = ".mark-", ".look-", ".probe-"


@dataclass(frozen=True)
class RunFolder(Directory):
    """One run: its manifest, and the parts with its answers and rows. Making one opens nothing; it can be pickled."""

    def manifest(self) -> dict[str, Any] | None:
        """What run.json says; None when there is none, BrokenManifest when it is broken."""
        raw = self.read_bytes("run.json")
        if raw is None:
            return None
        try:
            return json_file.read(dict[str, Any], raw)
        except json_file.BadJson as wrong:
            raise BrokenManifest(self._broken_manifest(str(wrong))) from None

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """On a local disk for its owner only (0600), until somebody gives it other rights: these it keeps."""
        data = (json.dumps(dict(manifest), indent=2, ensure_ascii=False) + "\n").encode()
        self.check_there()
        with telling("write", self.where("run.json")):
            put(self.fs, self.path("run.json"), lambda sink: sink.write(data), self.path(), mode=0o600)

    def set_aside_broken_manifest(self) -> None:
        """Moved to RUN/torn, for whoever wants to look."""
        try:
            self.manifest()
        except BrokenManifest:
            aside = f"{SET_ASIDE}/run.json-{secrets.token_hex(4)}"
            with telling("set aside", self.where("run.json")):
                self.fs.create_dir(self.path(SET_ASIDE), recursive=True)
                self.fs.move(self.path("run.json"), self.path(aside))

    def sweep(self, before_ns: int) -> None:
        """Delete what dead runs have left beside the parts: all marks of runs, and what is not whole and was written
        before `before_ns` (since 1970). For a run that holds the lease.
        """
        for place in ("", *(info.base_name for info in self.infos("") if info.type == pafs.FileType.Directory)):
            for info in self.infos(place):
                if info.is_file and _is_left(info, before_ns):
                    self.delete(f"{place}/{info.base_name}" if place else info.base_name)

    def answers(self, model: str) -> Partition:
        return Partition(self, f"answers/{self._folder('model', model)}", columns.ANSWERS)

    def rows(self, reader: str, model: str) -> Partition:
        return Partition(self, f"rows/{self._folder('reader', reader)}/{self._folder('model', model)}", columns.SCORED)

    def models(self, within: str = "answers") -> list[str]:
        """The models that have answers here (or a folder in another place like that of answers), sorted."""
        return self._names(within, "model")

    def readers(self, within: str = "rows") -> list[str]:
        """The readers that have rows here (or a folder in another place like that of rows), sorted."""
        return self._names(within, "reader")

    def parts(self) -> list[Partition]:
        """Every part that is there: the answers of each model, then the rows of each reader and model."""
        answered = [self.answers(model) for model in self.models()]
        read = [(reader, f"rows/{self._folder('reader', reader)}") for reader in self.readers()]
        return answered + [self.rows(reader, model) for reader, path in read for model in self._names(path, "model")]

    def _names(self, relative: str, what: str) -> list[str]:
        begins = self._beginnings()[what]
        found = [folder.removeprefix(begins) for folder in self._folders(relative) if folder.startswith(begins)]
        return sorted(map(unquote, found))

    def _folder(self, what: str, name: str) -> str:
        """The folder of a model or a reader, safe on every filesystem."""
        quoted, room = quote(name, safe=""), _LONGEST_FOLDER - len(_BEGINNINGS[what])
        if not 0 < len(quoted) <= room:
            raise StoreError(
                f"the {what} name {name[:40]!r} cannot be a folder name, where it would take {len(quoted)} characters "
                f"(a letter beyond ASCII takes six or more): give it one of 1 to {room}"
            )
        return self._beginnings()[what] + quoted

    def _beginnings(self) -> Mapping[str, str]:
        """How the folders of models and readers begin here: a run keeps the names that it began with."""
        if (known := _KNOWN_BEGINNINGS.get(self.uri)) is not None:
            return known
        folders = [folder for place in ("answers", "rows") for folder in self._folders(place)]
        ways = (_BEGINNINGS, _OLD_BEGINNINGS)
        there = [way for way in ways if any(folder.startswith(tuple(way.values())) for folder in folders)]
        if len(there) > 1:
            raise StoreError(self._of_two_versions())
        return _KNOWN_BEGINNINGS.setdefault(self.uri, there[0]) if there else _BEGINNINGS

    def _folders(self, relative: str) -> list[str]:
        return [info.base_name for info in self.infos(relative) if info.type == pafs.FileType.Directory]

    def _of_two_versions(self) -> str:
        old, new = (" or ".join(f"{begins}…" for begins in way.values()) for way in (_OLD_BEGINNINGS, _BEGINNINGS))
        return (
            f"{self.where('')} holds folders of two versions of emoray, some called {old} and some {new}: keep either "
            "here, and move the others to a run folder of their own"
        )

    def _broken_manifest(self, why: str) -> str:
        return (
            f"{self.where('run.json')} is broken ({why}): put back a good copy, or run its spec once more with "
            "--extend, which makes a new one and takes of the answers here those that the spec asks for"
        )


def _is_left(info: pafs.FileInfo, before_ns: int) -> bool:
    """Whether a file beside the parts is nobody's any more."""
    name, written_ns = info.base_name, info.mtime_ns
    if name.startswith((MARK, BALLAST)):
        return True
    half = name.startswith((LOOK, PROBE)) or (name.startswith(".") and HALF_WRITTEN in name)
    return half and written_ns is not None and written_ns < before_ns


_KNOWN_BEGINNINGS: dict[str, Mapping[str, str]] = {}  # of the URIs in which there was something to see
