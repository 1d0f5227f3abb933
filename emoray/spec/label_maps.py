"""Label maps by name or file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoray.hints import did_you_mean
from emoray.spec import yaml_file
from emoray.spec.base import SpecError
from emoray.spec.readers import GoEmotionsReader, ReaderEntry
from emoray.spec.yaml_file import BadYaml
from emoray.study import goemotions
from emoray.study.goemotions import BadLabelMap, LabelMap


def chosen_label_map(name: str, folder: Path) -> LabelMap:
    """A shipped map, or a user's own file seen from a folder; SpecError where there is none that can be used."""
    if name in goemotions.shipped_maps():
        return goemotions.label_map(name)
    path = folder / name
    if not is_file(path):
        known = goemotions.shipped_maps()
        raise SpecError(
            f"label_map: {name!r} is neither a file nor one of {', '.join(known)}{did_you_mean(name, known)}"
        )
    try:
        return goemotions.label_map_from(map_entries(path), name=path.stem, source=name)
    except BadLabelMap as wrong:
        raise SpecError(f"{path.name}: {wrong}") from None


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for any file
        return False


def relocated(reader: ReaderEntry, name: str) -> GoEmotionsReader:
    """A reader with labels of its own where a user's file places them; SpecError where it has none, or others."""
    if not isinstance(reader, GoEmotionsReader) or not reader.places:
        raise SpecError(
            f"label_map: reader {reader.name!r} has no labels of its own; a map without a reader's name places the 28 "
            "GoEmotions labels"
        )
    path = Path(name)
    ours = {goemotions.plain_label(label): label for label in reader.places}
    entries = {ours.get(goemotions.plain_label(label), label): entry for label, entry in map_entries(path).items()}
    try:
        goemotions.label_map_from(entries, name=path.stem, labels=tuple(reader.places))
    except BadLabelMap as wrong:
        raise SpecError(f"{path.name}: {wrong}") from None
    return reader.model_copy(update={"label_map": {label: entries[label] for label in reader.places}})


def map_entries(path: Path) -> Mapping[str, Any]:
    """A user's map: YAML {label: {term: …}}, or CSV with the columns label and term, angle, or valence and arousal."""
    try:
        text = yaml_file.text_of(path)
        data: Any = _csv_entries(text) if path.suffix == ".csv" else yaml_file.read(text)
    except (csv.Error, BadYaml) as wrong:
        said = str(wrong) if "cannot be read" in str(wrong) else f"cannot be read: {wrong}"
        raise SpecError(f"label_map: {path.name} {said}") from None
    if not isinstance(data, dict):
        raise SpecError(
            f"label_map: {path.name} holds no labels; write one line per label, such as joy: {{term: happy}}"
        )
    return data


def _csv_entries(text: str) -> dict[str, dict[str, str]]:
    entries: dict[str, dict[str, str]] = {}
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if rows.fieldnames and "label" not in rows.fieldnames:
        meant = did_you_mean("label", rows.fieldnames)
        raise SpecError(f"label_map: no column is called label; there are {', '.join(rows.fieldnames)}{meant}")
    for row in rows:
        label = (row.pop("label", None) or "").strip()
        if label in entries:
            raise SpecError(f"label_map: the label {label!r} is written twice; keep one")
        entries[label] = {
            column: value.strip() for column, value in row.items() if isinstance(value, str) and value.strip()
        }
    return entries
