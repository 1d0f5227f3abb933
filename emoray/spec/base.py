"""What every part of a spec is made of: sections, names, and numbers within bounds."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
)

from emoray.errors import UserError
from emoray.printable import cut


class SpecError(UserError):
    """The user's spec or flag is wrong; each line of the message is one sentence that says where and what to do."""


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,  # `yes` and '3' are no numbers
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float | dict) else value


def or_one(of: Any, most: int) -> BeforeValidator:
    """A list may be written as its one member; the JSON schema says so too."""
    both = of | Annotated[list[of], Field(min_length=1, max_length=most)]
    return BeforeValidator(_as_list, json_schema_input_type=both)


def composed(text: str) -> str:
    """One spelling of a name: é as one character, however a keyboard or a disk writes it."""
    return unicodedata.normalize("NFC", text)


def _named(name: str) -> str:
    """A name that can be a folder's anywhere; ValueError otherwise."""
    name = composed(name)
    kinds = [unicodedata.category(character)[0] for character in name if not character.isascii()]
    if set(kinds) - set("LMN") or not name[0].isalnum() or len(name.encode()) > _NAME_BYTES:
        raise ValueError(f"must be {NAME_SAYS}, got {name!r}")
    return name


def _finite(settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """ValueError for a number that JSON does not know."""
    if any(isinstance(value, float) and not math.isfinite(value) for value in _leaves(settings)):
        raise ValueError("holds a number without end, or none (.inf, .nan), which JSON cannot say; write another")
    return settings


def _leaves(value: Any) -> Iterator[Any]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inside is None:
        yield value
    for one in inside or ():
        yield from _leaves(one)


# the context of a validation of what a run folder has kept: it is read for ever, whatever is refused since
KEPT = {"kept": True}


def is_kept(info: ValidationInfo) -> bool:
    return info.context == KEPT


def _share(gpus: float, info: ValidationInfo) -> float:
    """What Ray gives to one actor; ValueError otherwise."""
    if gpus > 1 and not gpus.is_integer() and not is_kept(info):
        raise ValueError(f"must be a share of one GPU (up to 1) or a whole number of them, got {gpus:g}")
    return _divisible(gpus, info)


def _divisible(amount: float, info: ValidationInfo) -> float:
    if 0 < amount < _LEAST and not is_kept(info):
        raise ValueError(f"must be at least {_LEAST:g}, the smallest part that Ray gives away, got {amount:g}")
    return amount


def _custom(resources: dict[str, float], info: ValidationInfo) -> dict[str, float]:
    """ValueError for what Ray itself gives away, by settings of their own."""
    for name in () if is_kept(info) else resources:
        if name in _OF_RAY:
            raise ValueError(f"has {name!r}, which is no custom resource; {_OF_RAY[name]}")
    return resources


_LEAST = 1e-4
_OF_RAY = {
    "CPU": "set cpus",
    "GPU": "set gpus (of vllm: tensor_parallel_size)",
    **dict.fromkeys(("memory", "object_store_memory"), "it cannot be asked for"),
}

# letters and digits of any script (of others than ASCII's `_named` looks), and . _ + - and blanks after the first
NAME = r"^[^\x00-/:-@\[-`{-\x7f][^\x00-\x1f!-*,/:-@\[-\^`{-\x7f]{0,63}$"
_NAME_BYTES = 80  # as a folder's name each byte may take three
NAME_SAYS = f"up to 64 letters, digits, spaces and . _ + - ({_NAME_BYTES} bytes of UTF-8), first a letter or digit"

Name = Annotated[str, Field(pattern=NAME, max_length=64), AfterValidator(_named)]
Text = Annotated[str, Field(max_length=1_000_000)]
Word = Annotated[str, Field(max_length=4096)]  # an id, a path, a word of somebody else's
Id = Annotated[str, Field(min_length=1, max_length=4096)]
Angle = Annotated[float, Field(ge=-360, le=360)]
Intensity = Annotated[float, Field(gt=0, le=1)]
Actors = Annotated[int, Field(ge=1, le=10_000)]
Many = Annotated[int, Field(ge=1, le=1_000_000)]  # things at once, or tries
Gpus = Annotated[int, Field(ge=1, le=1024)]  # of one engine
Tokens = Annotated[int, Field(ge=1, le=100_000_000)]
Huge = Annotated[int, Field(ge=1, le=1_000_000_000)]  # repetitions, and cells between two of something
Rate = Annotated[float, Field(gt=0, le=1e12)]
MOST_USD = 1e9
Usd = Annotated[float, Field(gt=0, le=MOST_USD)]
Seconds = Annotated[float, Field(gt=0, le=604_800)]  # a week
Cpus = Annotated[float, Field(gt=0, le=10_000), AfterValidator(_divisible)]
CpusOrNone = Annotated[float, Field(ge=0, le=10_000), AfterValidator(_divisible)]
GpuShare = Annotated[float, Field(ge=0, le=1024), AfterValidator(_share)]
Settings = Annotated[
    dict[str, JsonValue], Field(max_length=1000), AfterValidator(_finite)
]  # of somebody else's, passed on
Resources = Annotated[
    dict[Name, Annotated[float, Field(gt=0, le=1e9), AfterValidator(_divisible)]],
    Field(max_length=100),
    AfterValidator(_custom),
]
TagPair = Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(min_length=2, max_length=2)]


def short(value: Any) -> str:
    return cut(repr(value))


def stated(entry: BaseModel, *names: str) -> dict[str, str]:
    """The named settings that the spec sets to something else than their default."""
    fields = type(entry).model_fields
    return {name: str(getattr(entry, name)) for name in names if getattr(entry, name) != fields[name].default}


def digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
