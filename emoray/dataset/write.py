"""Writes a run as a data set into a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from emoray.dataset.card import card
from emoray.dataset.croissant import metadata
from emoray.notebook import frames
from emoray.report import Source
from emoray.report.phrasing import headline
from emoray.report.summary import Summary
from emoray.run_folder import columns
from emoray.run_folder.parquet import writer

PRIVATE = ("prompt", "question", "reasoning", "error")  # what holds a prompt, or may quote it


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: str
    rows: Mapping[str, int]  # by table
    left_out: tuple[str, ...]  # columns


def is_private(manifest: Mapping[str, Any]) -> bool:
    """Whether a run asks by any text that does not ship with emoray."""
    marks = manifest.get("marks") or {}
    return any(mark == "user" for what in ("templates", "questions") for mark in (marks.get(what) or {}).values())


def write_dataset(
    source: Source, found: Summary, folder: Path, *, licence: str, citation: str, with_prompts: bool
) -> Exported:
    """answers.parquet, rows.parquet, README.md and croissant.json, into a folder that is made.

    Texts that are not public stay out unless `with_prompts`: the columns PRIVATE, of a run that has any.
    """
    left_out = PRIVATE if is_private(source.manifest() or {}) and not with_prompts else ()
    folder.mkdir(parents=True, exist_ok=True)
    answers = (some for model in source.models() for some in frames.said(source, model))
    rows = (table for _, table in frames.scored(source, found))
    schemas = {
        "answers": _without(columns.ANSWERS, left_out),
        "rows": _without(frames.SCHEMA, left_out),
    }
    counts = {
        table: _write(folder / f"{table}.parquet", schemas[table], tables)
        for table, tables in (("answers", answers), ("rows", rows))
    }
    given = {"licence": licence, "citation": citation}
    told = card(found, **given, rows=counts, schemas=schemas, left_out=left_out)
    (folder / "README.md").write_text(told, encoding="utf-8")
    described = metadata(
        name=str(found.run["name"]),
        description=headline(found),
        **given,
        published=datetime.now(UTC).date(),
        files={f"{table}.parquet": _sha256(folder / f"{table}.parquet") for table in schemas},
        tables=schemas,
    )
    text = json.dumps(described, indent=1, ensure_ascii=False)
    (folder / "croissant.json").write_text(f"{text}\n", encoding="utf-8")
    return Exported(str(folder), counts, left_out)


def _without(schema: pa.Schema, names: Iterable[str]) -> pa.Schema:
    left_out = set(names)
    return pa.schema([field for field in schema if field.name not in left_out])


def _write(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Table after table, so that memory holds one; how many rows there were."""
    count = 0
    with path.open("wb") as sink, writer(sink, schema) as file:
        for table in tables:
            file.write_table(table.select(schema.names))
            count += table.num_rows
    return count


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
