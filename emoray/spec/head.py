"""What the first comment of a spec says of it: question, hypothesis, cost, what is expected."""

from __future__ import annotations

import re

_SAID = re.compile(r"^# (?P<name>[A-Z][a-z]+):\s+(?P<text>.*(?:\n#  .*)*)", re.MULTILINE)


def said_in_head(text: str) -> dict[str, str]:
    """By the word before its colon, in lower case, each on one line."""
    head = re.match(r"(?:#.*\n)*", text)
    found = _SAID.finditer(head[0] if head else "")
    return {one["name"].lower(): " ".join(one["text"].replace("\n#", " ").split()) for one in found}
