"""What two run.json say otherwise: of the spec, of where labels lie, of the software of their last attempts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_NAMED_BY = ("name", "id")


@dataclass(frozen=True)
class Apart:
    """One setting; None where it is not there."""

    what: str
    a: Any
    b: Any

    def __str__(self) -> str:
        return f"{self.what}: {_shown(self.a)} → {_shown(self.b)}"


def apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Apart, ...]:
    """Every setting in which two manifests differ, in their order; a spec's name is none, nor when and where it ran."""
    return apart_in("", _told(a), _told(b))


def apart_in(what: str, a: Any, b: Any) -> tuple[Apart, ...]:
    """The same of two values called `what`."""
    return tuple(Apart(*found) for found in _apart(what, a, b))


def _told(manifest: Mapping[str, Any]) -> dict[str, Any]:
    spec = {name: value for name, value in (manifest.get("spec") or {}).items() if name != "name"}
    labels = (manifest.get("label_map") or {}).get("labels")
    last: Mapping[str, Any] = next(iter(manifest.get("attempts", [])[-1:]), {})
    return {**spec, "labels": labels, "versions": last.get("versions") or {}}


def _apart(where: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    a, b = _by_name(a), _by_name(b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in dict.fromkeys([*a, *b]):
            yield from _apart(f"{where}.{name}" if where else str(name), a.get(name), b.get(name))
    elif a != b:
        yield where, a, b


def _by_name(value: Any) -> Any:
    """A list of sections by what they are called, so that one more is one more and moves no other."""
    for key in _NAMED_BY:
        if isinstance(value, list) and value and all(isinstance(one, Mapping) and key in one for one in value):
            return {str(one[key]): one for one in value}
    return value


_LONGEST = 60


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "one" if {*_NAMED_BY} & {*value} else f"{len(value)} settings"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
