"""Keys in texts: what we write ourselves (errors, logs) never holds one. What a model said is not ours to change."""

from __future__ import annotations

import json
import re

_A_SECRET = 12  # characters: a shorter one is a word that stands for none (EMPTY, x), and may be part of other words
HIDDEN = "[key]"


def without_key(text: str, key: str) -> str:
    """A text of ours without the key, in whatever spelling JSON has for it; a short one goes where it stands alone."""
    if not key:
        return text
    if len(key) < _A_SECRET:
        return re.sub(rf"(?<![\w-]){re.escape(key)}(?![\w-])", HIDDEN, text) if key in text else text
    for spelling in (key, json.dumps(key)[1:-1], key.replace("/", "\\/")):
        text = text.replace(spelling, HIDDEN)
    return text


def tells_key(text: str | None, key: str) -> bool:
    """Whether a text holds a key that is a secret."""
    return text is not None and len(key) >= _A_SECRET and key in text
