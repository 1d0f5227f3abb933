"""JSON that lies in a run folder, read as what it should hold: or a clause that says where it does not.

pydantic's own parser is strict where Python's is not: half a character, levels without end and bytes that are no UTF-8
are refused, and none of them ends in a traceback.
"""

from __future__ import annotations

import codecs
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from emoray.printable import cut

_Kind = TypeVar("_Kind")
_SHOWN = 40  # characters of a value, to a person


class BadJson(ValueError):
    """The message is a clause, to stand in brackets: `attempts[0].began is missing`."""


def read(kind: type[_Kind], data: bytes) -> _Kind:
    """What `data` holds, as a type, a dataclass or a pydantic model; a mark before it is left out. Unknown names are
    ignored: a later emoray may have written them.
    """
    whatever: Any = kind  # a type can be hashed, though not to mypy
    try:
        found: _Kind = _adapter(whatever).validate_json(data.removeprefix(codecs.BOM_UTF8), strict=True)
    except ValidationError as wrong:
        raise BadJson(clause(wrong)) from None
    return found


def clause(wrong: ValidationError) -> str:
    """The first of pydantic's complaints, on one line: where it is, and what."""
    first = wrong.errors(include_url=False)[0]
    where, said = _place(first["loc"]), str(first["msg"])
    match first["type"]:
        case "json_invalid":
            return f"it is no JSON: {said.partition(': ')[2]}"
        case "missing":
            return f"{where} is missing"
        case "value_error":
            return f"{where} {first['ctx']['error']}"
        case "union_tag_invalid":
            by, tag = first["ctx"]["discriminator"].strip("'"), cut(repr(first["ctx"]["tag"]), _SHOWN)
            return f"{where} has the {by} {tag}, which no package here brings: install the one that does"
        case _:
            wanted = said.removeprefix("Input ").partition(" or instance of ")[0]
            return f"{where} {wanted}, and is {cut(repr(first['input']), _SHOWN)}"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _place(steps: tuple[int | str, ...]) -> str:
    """attempts[0].began; the whole is `it`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".") or "it"
