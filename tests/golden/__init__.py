"""Texts that may only change on purpose.

What a model is asked, and the key of an ask, decide whether old answers still count. After a change that is meant:

    EMORAY_RENEW_GOLDEN=1 make pytest TESTS=tests/study     then read the difference in git, and say why in the commit
"""

from __future__ import annotations

import os
from pathlib import Path

_HERE = Path(__file__).parent


def assert_golden(name: str, text: str) -> None:
    """The text is the one in tests/golden/<name>; EMORAY_RENEW_GOLDEN=1 writes it there first."""
    path = _HERE / name
    if os.environ.get("EMORAY_RENEW_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path} is not there; EMORAY_RENEW_GOLDEN=1 writes it"
    assert text == path.read_text(encoding="utf-8"), f"{path} has changed; if that is meant: EMORAY_RENEW_GOLDEN=1"
