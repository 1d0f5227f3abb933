"""Keys that stand in a spec where they do not belong: it is kept in run.json, and shown in reports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from emoray.run_folder.run_json import Manifest
from emoray.spec.document import Spec
from emoray.spec.readers import JudgeReader

_TEMPLATE = "chat_template_kwargs"
_SETTINGS = ("extra_body", "engine_kwargs", _TEMPLATE)  # of somebody else's: they may be called anything
_INSTEAD = {
    "extra_body": "the key of an account comes from the environment variable that its key_env names, and what a server "
    "wants beside it has to be set at that server, or at a proxy before it",
    "engine_kwargs": "vLLM takes the key of a hub from the environment variable HF_TOKEN",
    _TEMPLATE: "no chat template needs one",
}
_KEY_NAME = re.compile(
    r"(x|api|aws|secret|access|auth|hf|bearer|session|private)*(key|token)|authorization|password|secret"
)
_INNOCENT = frozenset({"key", "token"})  # of themselves: words of many a schema
_BESIDE = frozenset({"key", "token", "value"})  # what they say is a key where the name of one stands beside them
_KEY = re.compile(
    r"(?:Bearer|Basic)\s+\S{6,}|sk-[\w-]{6,}|(?:xai|nvapi|pplx|gsk|hf|r8|ghp|glpat)[-_]\w{16,}|github_pat_\w{20,}"
    r"|AIza[\w-]{30,}|(?:AKIA|ASIA)[A-Z0-9]{16}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
)
_LONG = re.compile(r"(?=.*\d)\S{16,}")  # no word of a template


@dataclass(frozen=True)
class ToldKey:
    """One setting that holds a key."""

    whose: str  # model 'a', or reader 'j'
    settings: str
    name: str
    place: tuple[str | int, ...]
    value: str = field(repr=False)

    def __str__(self) -> str:
        """Without what it holds."""
        return f"{self.whose}: {self.settings} holds a key ({self.name}), which stands in run.json and in reports"

    @property
    def refused(self) -> str:
        """Where nothing is kept yet."""
        return f"{self}; leave it out: {_INSTEAD[self.settings]}"

    @property
    def warned(self) -> str:
        """Where it is part of the keys of all cells."""
        return f"{self}; the run goes on with it: keep the folder to yourself, and have the key replaced in the end"


def in_spec(spec: Spec) -> list[ToldKey]:
    """Those of all that is asked."""
    judges = [reader for reader in spec.readers if isinstance(reader, JudgeReader)]
    asked = [(f"model {entry.name!r}", entry) for entry in spec.models]
    asked += [(f"reader {reader.name!r}", reader.model) for reader in judges]
    return [
        told
        for whose, entry in asked
        for settings in _SETTINGS
        for told in _found(whose, settings, getattr(entry, settings, {}))
    ]


def in_manifest(kept: Manifest | None) -> list[ToldKey]:
    """Those of the run that a folder is of, and of all its readers, as far as that can be read."""
    if kept is None:
        return []
    spec = kept.spec
    readers = [*map(_as_mapping, [*_as_list(spec.get("readers")), *kept.more_readers])]
    asked = [(f"model {entry.get('name')!r}", entry) for entry in map(_as_mapping, _as_list(spec.get("models")))]
    asked += [(f"reader {reader.get('name')!r}", _as_mapping(reader.get("model"))) for reader in readers]
    return [
        told
        for whose, entry in asked
        for settings in _SETTINGS
        for told in _found(whose, settings, entry.get(settings))
    ]


def _as_mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _as_list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _found(whose: str, settings: str, found: object, place: tuple[str | int, ...] = ()) -> Iterator[ToldKey]:
    """At any depth."""
    inner = dict(found) if isinstance(found, Mapping) else dict(enumerate(_as_list(found)))
    called = any(isinstance(value, str) and _is_key_name(value) for value in inner.values())
    for name, value in inner.items():
        here = (*place, name)
        word = _TEMPLATE in (settings, *place)
        if isinstance(value, str) and _is_key(name, value.strip(), called=called, word=word):
            shown = next(step for step in reversed((settings, *here)) if isinstance(step, str))
            yield ToldKey(whose, settings, shown, here, value)
        yield from _found(whose, settings, value, here)


def _is_key(name: str | int, value: str, *, called: bool, word: bool) -> bool:
    """By what it says, or is called; `called`: the name of a key stands beside it, as in {type: api_key, key: …};
    `word`: it goes to a chat template, to which a token is a word.
    """
    if _KEY.fullmatch(value):
        return True
    named = isinstance(name, str) and (_is_key_name(name) or (called and name.lower() in _BESIDE))
    if word:
        return named and _LONG.fullmatch(value) is not None
    return named and bool(value) and not _is_key_name(value)


def _is_key_name(name: str) -> bool:
    plain = "".join(filter(str.isalnum, name.lower()))
    return plain not in _INNOCENT and _KEY_NAME.fullmatch(plain) is not None
