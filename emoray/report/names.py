"""Names where there is little room: shortened, and still told apart."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 40  # characters of a name above a panel


def shortened(name: str, longest: int = LONGEST) -> str:
    """A name of at most so many characters; versions are told apart at its end as often as at its beginning."""
    if len(name) <= longest:
        return name
    kept = (longest - 1) // 2
    return f"{name[: longest - 1 - kept]}…{name[-kept:]}"


def apart(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """Names of at most so many characters; those that look alike then are numbered by their place."""
    cut = [shortened(name, longest) for name in names]
    places = [f"{place}: " if cut.count(one) > 1 else "" for place, one in enumerate(cut, start=1)]
    return [f"{before}{shortened(name, longest - len(before))}" for before, name in zip(places, names, strict=True)]
