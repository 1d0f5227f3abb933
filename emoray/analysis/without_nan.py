"""Numbers for JSON, which knows no NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def without_nan(value: object) -> Any:
    """The same dicts, lists and numbers, however deep, with None for NaN; tuples become lists."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
