"""Parquet as a run folder holds it: how it is written, what of it is read, and how older files fit."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from emoray.run_folder import columns
from emoray.run_folder.census import Keys, Places
from emoray.run_folder.file_names import Name, Note, files_of

VERSION = b"emoray.schema_version"
WHOLE_READ = 8 << 20  # bytes: up to here a file is fetched in one request
BATCH = 16_384  # rows
_KEY_BATCH = 262_144  # rows


def encoded(table: pa.Table, note: Note | None = None) -> bytes:
    """A small table as the bytes of a file."""
    sink = io.BytesIO()
    with writer(sink, table.schema) as file:
        file.write_table(table)
        if note is not None:
            file.add_key_value_metadata(note.metadata())
    return sink.getvalue()


def writer(sink: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer with our settings: checksums on every page, the schema version in the metadata."""
    marked = schema.with_metadata({VERSION: columns.SCHEMA_VERSION.encode()})
    return pq.ParquetWriter(
        sink,
        marked,
        compression="zstd",
        compression_level=1,
        write_page_checksum=True,
        write_statistics=["key"],
        use_dictionary=[field.name for field in schema if pa.types.is_string(field.type) and field.name not in _UNIQUE],
    )


_UNIQUE = {"key", "answer", "error", "reasoning"}  # columns in which a dictionary would save nothing


def opened_file(source: pa.NativeFile | IO[bytes]) -> pq.ParquetFile:
    """Of any schema version; ValueError, OSError or ArrowException when it is no file of ours."""
    file = pq.ParquetFile(source, page_checksum_verification=True)
    metadata, names = file.metadata.metadata or {}, file.schema_arrow.names
    if VERSION not in metadata or "key" not in names or "outcome" not in names:
        raise ValueError("it is Parquet, but not of emoray")
    if _stored_schema(metadata).names != names:
        raise ValueError("its footer is corrupt")
    return file


def keys_of(file: pq.ParquetFile, info: pafs.FileInfo, wanted: Sequence[str]) -> Keys:
    """The keys of a file and what decides which rows count; of the columns that are wanted and there."""
    columns = _columns_of(file, wanted)
    batches = file.iter_batches(batch_size=_KEY_BATCH, columns=columns)
    name, note = Name.of(info.base_name, info.mtime_ns), Note.of(file.metadata.metadata)
    blocks = note.blocks or ((name.stamp, file.metadata.num_rows),)
    when = np.repeat([name.when(stamp) for stamp, _ in blocks], [count for _, count in blocks])
    files = files_of(info.base_name, name, [stamp for stamp, _ in blocks])
    return Keys.of(batches, when=when, replaces=note.replaces, dropped=note.dropped, files=files, taken=note.taken)


def _columns_of(file: pq.ParquetFile, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted columns that are there; a file is asked once, since it makes its schema anew each time."""
    there = set(file.schema_arrow.names)
    return [name for name in wanted if name in there]


def picked(
    file: pq.ParquetFile, places: Places, schema: pa.Schema, batch_rows: int
) -> Iterator[tuple[pa.Table, slice]]:
    """The rows at these places (ascending) of a file, with the slice of `places` that each table holds."""
    there = _columns_of(file, schema.names)
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        some = np.searchsorted(places, [start, stop])
        if some[0] == some[1]:
            start = stop
            continue
        for batch in file.iter_batches(batch_size=batch_rows, row_groups=[group], columns=there):
            first, last = np.searchsorted(places, [start, start + len(batch)])
            if first < last:
                inside = places[first:last] - start
                table = pa.Table.from_batches([batch])
                yield fitted(table if len(inside) == len(batch) else table.take(inside), schema), slice(first, last)
            start += len(batch)


def _stored_schema(metadata: Mapping[bytes, bytes]) -> pa.Schema:
    """The schema as Arrow wrote it beside Parquet's own: a footer has no checksum, but it says its columns twice."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(metadata.get(b"ARROW:schema", b""))))


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """These columns in this order; nulls where a file has none."""
    if table.schema.equals(schema):
        return table.replace_schema_metadata(None)
    arrays = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
