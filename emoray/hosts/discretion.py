"""Keys in texts: what we write ourselves (errors, logs) never holds one. What a model said is not ours to change."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote

_A_SECRET = 12  # characters: a shorter one is a word that stands for none (EMPTY, x), and may be part of other words
_A_LONG_SECRET = 16  # characters: of such a one a part of it is hidden, too
_A_PART = 8  # characters
HIDDEN = "[key]"


def without_key(text: str, key: str) -> str:
    """A text of ours without the key, in whatever spelling; a short one goes where it stands alone.

    Of a secret its spellings in JSON, in an address and in base64 are known, whatever their case; of a long one all
    parts of 8 characters and more.
    """
    if not key:
        return text
    if len(key) < _A_SECRET:
        return re.sub(rf"(?<![\w-]){re.escape(key)}(?![\w-])", HIDDEN, text) if key in text else text
    text = _spelled(key).sub(HIDDEN, text)
    return _without_parts(text, key) if len(key) >= _A_LONG_SECRET else text


def tells_key(text: str | None, key: str) -> bool:
    """Whether a text holds a key that is a secret."""
    return text is not None and len(key) >= _A_SECRET and key in text


@lru_cache(maxsize=64)
def _spelled(key: str) -> re.Pattern[str]:
    spellings = {key, json.dumps(key)[1:-1], key.replace("/", "\\/"), quote(key, safe=""), *_in_base64(key.encode())}
    return re.compile("|".join(map(re.escape, sorted(spellings, key=len, reverse=True))), re.IGNORECASE)


def _in_base64(key: bytes) -> Iterator[str]:
    """Wherever it stands in what was encoded ("user:key"): all but the letters at its ends, which it shares."""
    for before in range(3):
        first, last = -(-before * 4 // 3), (before + len(key)) * 4 // 3
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(b"\0" * before + key).decode()[first:last]


def _without_parts(text: str, key: str) -> str:
    kept, at = [], 0
    for start, end in _parts(text, key):
        kept += [text[at:start], HIDDEN]
        at = end
    return "".join([*kept, text[at:]]) if kept else text


def _parts(text: str, key: str) -> Iterator[tuple[int, int]]:
    """(begin, end) of what a text has in common with the key."""
    starts = [found.start() for found in _any_part(key).finditer(text)]
    while starts:
        first = last = starts.pop(0)
        while starts and starts[0] <= last + _A_PART:
            last = starts.pop(0)
        yield first, last + _A_PART


@lru_cache(maxsize=64)
def _any_part(key: str) -> re.Pattern[str]:
    parts = {key[at : at + _A_PART] for at in range(len(key) - _A_PART + 1)}
    return re.compile(rf"(?={'|'.join(map(re.escape, sorted(parts)))})", re.IGNORECASE)
