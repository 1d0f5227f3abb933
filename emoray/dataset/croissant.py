"""Croissant 1.0 (mlcommons.org/croissant): what a data set holds, for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pyarrow as pa

from emoray.notebook import dictionary

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
            "transform",
        )
    },
    "rai": "http://mlcommons.org/croissant/RAI/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}  # fmt: skip


def metadata(
    *,
    name: str,
    description: str,
    licence: str,
    citation: str,
    published: date,
    files: Mapping[str, str],
    tables: Mapping[str, pa.Schema],
) -> dict[str, Any]:
    """The JSON-LD of a data set whose Parquet `files` have these sha256, each a table of that name."""
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": description,
        "license": licence if "://" in licence else f"https://spdx.org/licenses/{licence}.html",
        "citeAs": citation,
        "url": "https://arxiv.org/abs/2504.14706",
        "version": "1.0.0",
        "datePublished": published.isoformat(),
        "distribution": [_file(file, sha) for file, sha in files.items()],
        "recordSet": [_records(table, schema) for table, schema in tables.items()],
    }


def _file(name: str, sha256: str) -> dict[str, Any]:
    kind = {"@type": "cr:FileObject", "encodingFormat": "application/x-parquet"}
    return {**kind, "@id": name, "name": name, "contentUrl": name, "sha256": sha256}


def _records(table: str, schema: pa.Schema) -> dict[str, Any]:
    fields: Sequence[pa.Field] = list(schema)
    return {
        "@type": "cr:RecordSet", "@id": table, "name": table, "field": [_field(table, field) for field in fields],
    }  # fmt: skip


def _field(table: str, field: pa.Field) -> dict[str, Any]:
    several = pa.types.is_list(field.type)
    _, unit, within, meaning = dictionary.of(field.name)
    aside = ", ".join(filter(None, [unit, within]))
    return {
        "@type": "cr:Field",
        "@id": f"{table}/{field.name}",
        "name": field.name,
        "description": f"{meaning} ({aside})" if aside else meaning,
        "dataType": _type(field.type.value_type if several else field.type),
        **({"repeated": True} if several else {}),
        "source": {"fileObject": {"@id": f"{table}.parquet"}, "extract": {"column": field.name}},
    }


def _type(kind: pa.DataType) -> str:
    for name, of in {
        "sc:Boolean": pa.types.is_boolean,
        "sc:Integer": pa.types.is_integer,
        "sc:Float": pa.types.is_floating,
        "sc:DateTime": pa.types.is_timestamp,
    }.items():
        if of(kind):
            return name
    return "sc:Text"
