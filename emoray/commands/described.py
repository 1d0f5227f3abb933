"""What a folder is a run of, as its manifest will say, and whether a command may share it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from emoray.errors import UserError
from emoray.run_folder import columns, manifest, recovery
from emoray.run_folder.errors import BrokenManifest
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.subset import AskedSubset
from emoray.spec.models import Vllm
from emoray.spec.readers import ReaderEntry, reads_as
from emoray.spec.study import Study


def warn_of_lost(folder: RunFolder, described: Mapping[str, Any]) -> None:
    """Of what the answers in a folder may be, where it does not say itself."""
    if described["attempts"] and readable(folder) is None:
        print(
            f"warning: the run.json of {folder.shown} is lost: of its answers those are taken that this spec asks for, "
            "and its readings for those of the readers of that name",
            file=sys.stderr,
        )


def check_place(folder: RunFolder) -> None:
    """UserError for a new run below a folder that DuckDB and others, who read paths, would take for a column of ours:
    its value would stand in place of every row's.
    """
    ours = {name.casefold() for name in columns.SCORED.names}
    taken = [part for part in folder.path().split("/") if "=" in part and part.partition("=")[0].casefold() in ours]
    if taken and readable(folder) is None:
        raise UserError(
            f"{folder.shown} lies in a folder called {taken[0]!r}, which DuckDB and others would take for the column "
            f"{taken[0].partition('=')[0]!r} of all its rows; give it another name, without ="
        )


def warn_of_older(folder: RunFolder, study: Study) -> None:
    """Until there were sampling_defaults, engines took unsaid what a model's generation_config has."""
    kept = ((readable(folder) or {}).get("spec") or {}).get("models", [])
    older = {one.get("name") for one in kept if one.get("host") == "vllm" and "sampling_defaults" not in one}
    for entry in study.spec.models:
        if isinstance(entry, Vllm) and entry.name in older and folder.answers(entry.name).counts().answered:
            print(
                f"warning: model {entry.name!r}: its answers in {folder.shown} were drawn with the model's own "
                "generation_config where the spec leaves something open, and no further ones will be; where that has "
                "top_k, top_p or a penalty, choose another folder with --out",
                file=sys.stderr,
            )


def described_as(folder: RunFolder, study: Study, *, extend: bool) -> dict[str, Any]:
    """The manifest of a run of this study; UserError where the folder holds what does not go with it."""
    kept = readable(folder) if extend else folder.manifest()
    if kept is None:
        return _first(folder, study, extend=extend)
    _check_same(study, folder, kept, extend=extend)
    read, known = folder.readers(), manifest.readers(kept)
    for reader in study.spec.readers:
        if reader.name in read:
            _check_reader(known, reader)
    own = {reader.name for reader in study.spec.readers}
    more = [entry for name, entry in known.items() if name in read and name not in own]  # their rows stay, and count
    extended = extend or kept.get("extended", False)
    new = bool(study.spec.contrasts or kept.get("contrasts_first")) and not recovery.has_answers(folder)
    first = manifest.said_first(study) if new else {}
    return kept | manifest.described(study) | first | {"extended": extended, "more_readers": _dumped(more)}


def _first(folder: RunFolder, study: Study, *, extend: bool) -> dict[str, Any]:
    """The manifest where there is none; UserError where there are answers of which then nobody knows what they are."""
    if not recovery.has_answers(folder):
        return manifest.fresh(study) | {"extended": extend}
    if not extend:
        raise UserError(
            f"{folder.shown} holds answers and no run.json, so nobody knows to what they are answers; put its run.json "
            "back, choose another folder with --out, or add --extend to take those that this spec asks for"
        )
    return recovery.rebuilt(folder, study)


def readable(folder: RunFolder) -> dict[str, Any] | None:
    """The manifest; None where there is none, or a broken one."""
    try:
        return folder.manifest()
    except BrokenManifest:
        return None


def described_with(folder: RunFolder, reader: ReaderEntry) -> dict[str, Any]:
    """The manifest that also knows a reader which the spec does not have; UserError where another has its name."""
    kept = folder.manifest() or {}
    known = manifest.readers(kept)
    _check_reader(known, reader)
    if reader.name in {entry.name for entry in manifest.study(kept, folder.shown).spec.readers}:
        return kept
    later = manifest.readers({"more_readers": kept.get("more_readers", [])}) | {reader.name: reader}
    return kept | {"more_readers": _dumped(later.values())}


def _check_reader(known: Mapping[str, ReaderEntry], reader: ReaderEntry) -> None:
    """One name is one reader: readings under it must not be of two."""
    if reads_as(known.get(reader.name, reader)) != reads_as(reader):
        raise UserError(f"the run has another reader called {reader.name!r} already; give this one a name of its own")


def _dumped(readers: Iterable[ReaderEntry]) -> list[dict[str, Any]]:
    return [reader.model_dump(mode="json") for reader in readers]


def _check_same(study: Study, folder: RunFolder, kept: Mapping[str, Any], *, extend: bool) -> None:
    """A changed spec may add cells to a folder; to leave answers of the folder aside it must say so."""
    manifest.study(kept, folder.shown)
    if kept["digest"] == study.spec.digest or extend:
        return
    strangers = AskedSubset(folder, study).strangers()
    if strangers:
        raise UserError(
            f"{folder.shown} holds {strangers:,} answers that this spec does not ask for; "
            "choose another folder with --out, or add --extend to keep both in this one"
        )
