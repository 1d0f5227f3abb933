"""Entry classes from other packages, by their entry points."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field

log = logging.getLogger(__name__)

Entry = type[BaseModel]


def added(group: str, base: Entry) -> list[tuple[str, Entry]]:
    """The entry classes of a group (`emoray.hosts`, `emoray.readers`) by the names of their entry points, in order.

    What is no entry class is left out and logged in one sentence: a spec that does not name it goes on, and one that
    does is told which names there are.
    """
    points = sorted(entry_points(group=group), key=lambda point: point.name)
    return [(point.name, entry) for point in points if (entry := _loaded(point, base))]


def one_of(shipped: Any, by: str, others: Sequence[tuple[str, Entry]]) -> Any:
    """What pydantic reads an entry as: one of the shipped union's classes or of the others, told apart by a field."""
    taken = {name for entry in get_args(shipped) for name in _names(entry, by)}
    return Annotated[Union[(shipped, *_fitting(by, others, taken))], Field(discriminator=by)]


def _loaded(point: EntryPoint, base: Entry) -> Entry | None:
    try:
        entry = point.load()
    except Exception as wrong:  # whatever somebody else's module does when it is imported
        _leave_out(point.name, f"{point.value} cannot be imported: {wrong}")
        return None
    if why := _wrong(entry, base):
        _leave_out(point.name, f"{point.value} {why}")
        return None
    checked: Entry = entry
    return checked


def _wrong(entry: Any, base: Entry) -> str | None:
    """Why it is no entry class, as the end of a sentence."""
    if not (isinstance(entry, type) and issubclass(entry, base)):
        return f"is no subclass of {base.__module__}.{base.__name__}"
    if not isinstance(getattr(entry, "made_by", None), str):
        return "does not say made_by, such as 'package.module:Class'"
    return None


def _fitting(by: str, others: Sequence[tuple[str, Entry]], taken: set[str]) -> Iterator[Entry]:
    for name, entry in others:
        if name in taken:
            _leave_out(name, f"there is a {by} of that name already")
        elif _names(entry, by) != (name,):
            _leave_out(name, f"the field {by} of {entry.__module__}.{entry.__name__} must be Literal[{name!r}]")
        else:
            taken.add(name)
            yield entry


def _leave_out(name: str, why: str) -> None:
    log.warning("the entry point %s of another package is left out: %s", name, why)


def _names(entry: Any, by: str) -> tuple[Any, ...]:
    """What the field may say, of an entry class (one that no schema shows is wrapped)."""
    whole = get_args(entry)[0] if get_origin(entry) is Annotated else entry
    annotation = whole.model_fields[by].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()
