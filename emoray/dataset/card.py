"""The card of a data set: what a person reads first, and what a hub reads above it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa

from emoray import __version__
from emoray.notebook import dictionary
from emoray.plurals import count
from emoray.printable import printable
from emoray.report.phrasing import headline
from emoray.report.summary import Summary

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")


def card(
    found: Summary,
    *,
    licence: str,
    citation: str,
    rows: Mapping[str, int],
    schemas: Mapping[str, pa.Schema],
    left_out: Sequence[str],
) -> str:
    """README.md, with the settings of a hub on top; `left_out` are columns whose texts are not public."""
    name = str(found.run["name"])
    without = f"\nLeft out are {_listed(left_out)}: the prompts of this run are not public.\n" if left_out else ""
    parts = [
        _settings(name, licence, rows),
        f"# {name}\n\n{headline(found)}",
        "Language models were asked to express emotional states on Russell's circumplex; readers read the answers, and "
        "the cosine between what was asked for and what was read is the score.",
        *(f"- `{table}.parquet`: {count(n, 'row')}, {_OF[table]}" for table, n in rows.items()),
        without,
        "The mean cosine of a model by a reader is the sum of `weight * cosine` over its rows. Refusals and canaries "
        "are there, flagged. What models wrote is theirs: it may be wrong, or offend.",
        f"## Citation\n\n```\n{citation}\n```",
        *(_columns(table, schema) for table, schema in schemas.items()),
        f"Made by emoray {__version__}.\n",
    ]
    return printable("\n\n".join(part.strip("\n") for part in parts if part) + "\n")


_OF = {"answers": "one per ask, answered or failed", "rows": "one per answer and reader, with its scores"}


def _settings(name: str, licence: str, rows: Mapping[str, int]) -> str:
    """YAML, of which JSON values are a part, so that no name can break it."""
    tables = [{"config_name": table, "data_files": f"{table}.parquet"} for table in rows]
    whole = {
        **({"license": "other", "license_link": licence} if "://" in licence else {"license": licence.lower()}),
        "pretty_name": name,
        "tags": ["emotion", "circumplex", "emoray"],
        "size_categories": [_SIZES[min(len(_SIZES) - 1, max(0, len(str(max(rows.values(), default=0))) - 3))]],
        "configs": tables,
    }
    return "\n".join(
        ["---", *(f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in whole.items()), "---"]
    )


def _columns(table: str, schema: pa.Schema) -> str:
    lines = [f"| `{name}` | {' | '.join(part or '–' for part in dictionary.of(name))} |" for name in schema.names]
    head = ["| column | type | unit | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join([f"## Columns of `{table}`", "", *head, *lines])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
