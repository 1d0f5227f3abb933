"""What two run.json say otherwise: of the spec and the readers, of where labels lie, of the software of attempts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from emoray.printable import cut

_NAMED_BY = ("name", "id")
_DID = ("answered", "failed", "read", "put_aside", "lost")  # of a lane


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
    readers = [*(spec.get("readers") or ()), *(manifest.get("more_readers") or ())]
    labels = (manifest.get("label_map") or {}).get("labels")
    return {**spec, "readers": readers, "labels": labels, "versions": _versions(manifest)}


def worked(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The attempts that asked or read something, or died before they could say so; the last where none did."""
    attempts = manifest.get("attempts") or []
    return [one for one in attempts if not _was_idle(one)] or attempts[-1:]


def _was_idle(attempt: Mapping[str, Any]) -> bool:
    """Whether its lanes say so. One that another attempt told of, which knows of answers alone, says nothing `read`."""
    lanes = attempt.get("lanes") or ()
    return bool(lanes) and all("read" in lane and not any(_some(lane.get(what)) for what in _DID) for lane in lanes)


def _some(count: Any) -> bool:
    return any(count.values()) if isinstance(count, Mapping) else bool(count)


def _versions(manifest: Mapping[str, Any]) -> dict[str, str]:
    """By package, one after the other where attempts differ."""
    each = [one.get("versions") or {} for one in worked(manifest)]
    packages = dict.fromkeys(name for one in each for name in one)
    return {name: ", ".join(dict.fromkeys(str(one.get(name, "nothing")) for one in each)) for name in packages}


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
    return cut(value if isinstance(value, str) else repr(value), _LONGEST)
