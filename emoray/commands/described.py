"""What a folder is a run of, as its manifest will say, and whether a command may share it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from emoray.errors import UserError
from emoray.plurals import count
from emoray.run_folder import columns, manifest, recovery
from emoray.run_folder.errors import BrokenManifest
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.run_json import Json, Manifest
from emoray.run_folder.subset import AskedSubset
from emoray.spec.models import Vllm
from emoray.spec.readers import ReaderEntry, readers_of, reads_as
from emoray.spec.study import Study


def warn_of_lost(folder: RunFolder, described: Manifest) -> None:
    """Of what the answers in a folder may be, where it does not say itself."""
    if described.attempts and readable(folder) is None:
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
    kept = readable(folder)
    models = kept.spec.get("models", []) if kept else []
    older = {one.get("name") for one in models if one.get("host") == "vllm" and "sampling_defaults" not in one}
    for entry in study.spec.models:
        if isinstance(entry, Vllm) and entry.name in older and folder.answers(entry.name).counts().answered:
            print(
                f"warning: model {entry.name!r}: its answers in {folder.shown} were drawn with the model's own "
                "generation_config where the spec leaves something open, and no further ones will be; where that has "
                "top_k, top_p or a penalty, choose another folder with --out",
                file=sys.stderr,
            )


def described_as(folder: RunFolder, study: Study, *, extend: bool) -> Manifest:
    """The manifest of a run of this study; UserError where the folder holds what does not go with it."""
    kept = readable(folder) if extend else manifest.read(folder)
    if kept is None:
        return _first(folder, study, extend=extend)
    _check_same(study, folder, kept, extend=extend)
    read, known = folder.readers(), manifest.readers(kept)
    for reader in study.spec.readers:
        if reader.name in read:
            _check_reader(known, reader)
    own = {reader.name for reader in study.spec.readers}
    more = [entry for name, entry in known.items() if name in read and name not in own]  # their rows stay, and count
    new = bool(study.spec.contrasts or kept.contrasts_first) and not recovery.has_answers(folder)
    now = manifest.redescribed(kept, study, first=new)
    return now.changed(extended=extend or kept.extended, more_readers=_dumped(more))


def _first(folder: RunFolder, study: Study, *, extend: bool) -> Manifest:
    """The manifest where there is none; UserError where there are answers of which then nobody knows what they are."""
    if not recovery.has_answers(folder):
        return manifest.fresh(study).changed(extended=extend)
    if not extend:
        raise UserError(
            f"{folder.shown} holds answers and no run.json, so nobody knows to what they are answers; put its run.json "
            "back, choose another folder with --out, or add --extend to take those that this spec asks for"
        )
    return recovery.rebuilt(folder, study)


def readable(folder: RunFolder) -> Manifest | None:
    """The manifest; None where there is none, or a broken one."""
    try:
        return manifest.read(folder)
    except BrokenManifest:
        return None


def described_with(folder: RunFolder, reader: ReaderEntry) -> Manifest:
    """The manifest that also knows a reader which the spec does not have; UserError where another has its name."""
    kept = recovery.begun(folder)
    known = manifest.readers(kept)
    _check_reader(known, reader)
    if reader.name in {entry.name for entry in manifest.study(kept, folder.shown).spec.readers}:
        return kept
    later = {entry.name: entry for entry in [*readers_of(kept.more_readers), reader]}
    return kept.changed(more_readers=_dumped(later.values()))


def _check_reader(known: Mapping[str, ReaderEntry], reader: ReaderEntry) -> None:
    """One name is one reader: readings under it must not be of two."""
    if reads_as(known.get(reader.name, reader)) != reads_as(reader):
        raise UserError(f"the run has another reader called {reader.name!r} already; give this one a name of its own")


def _dumped(readers: Iterable[ReaderEntry]) -> list[Json]:
    return [reader.model_dump(mode="json") for reader in readers]


def _check_same(study: Study, folder: RunFolder, kept: Manifest, *, extend: bool) -> None:
    """A changed spec may add cells to a folder; to leave answers of the folder aside it must say so."""
    manifest.study(kept, folder.shown)
    if kept.digest == study.spec.digest or extend:
        return
    strangers = AskedSubset(folder, study).strangers()
    if strangers:
        raise UserError(
            f"{folder.shown} holds {count(strangers, 'answer')} that this spec does not ask for; "
            "choose another folder with --out, or add --extend to keep both in this one"
        )
