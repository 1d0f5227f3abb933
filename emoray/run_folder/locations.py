"""Where a run folder is: from a path or URI to a filesystem, and how it is shown without secrets."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from pyarrow import fs as pafs

from emoray.errors import UserError
from emoray.printable import one_line
from emoray.reasons import on_one_line
from emoray.run_folder.errors import StoreError

_QUERY_SECRETS = re.compile(r"([?&](?:client_secret|sig)=)[^&]*")  # of Azure; other stores take none there
_KEY_AND_SECRET = re.compile(r"//([^/:]*:.*|[^/]*)@", re.DOTALL)  # a secret of AWS may hold a /, where a URI must not


def without_secrets(uri: str, instead: str = "…@") -> str:
    """A URI less the key and secret that may stand before its @ or in its query; a path as it is."""
    if "://" not in uri:
        return uri
    return _QUERY_SECRETS.sub(r"\1…", _KEY_AND_SECRET.sub(f"//{instead}", uri))


def shown_uri(uri: str) -> str:
    return one_line(without_secrets(uri, "").split("?")[0] if "://" in uri else uri)


def absolute(place: str) -> str:
    """A folder that means the same in every process of the job; a URI does already."""
    if "://" in place:
        return place
    path = Path(place).expanduser().absolute()
    if path.is_file():
        raise UserError(f"{place}: is a file, not a folder")
    return str(path)


@lru_cache(maxsize=64)
def opened(uri: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a URI and the path in it."""
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        fs, path = pafs.FileSystem.from_uri(uri)
    except (OSError, ValueError, pa.ArrowException) as wrong:
        why = on_one_line(wrong).replace(uri, shown_uri(uri))
        raise StoreError(f"{shown_uri(uri)!r} is no place that can be written to: {why}") from None
    if not path.strip("/"):
        raise StoreError(f"{shown_uri(uri)!r} is no place that can be written to: it names no folder")
    return fs, path.rstrip("/")
