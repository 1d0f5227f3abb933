"""What is wrong with a spec, in one sentence: where, what, and what was meant."""

from __future__ import annotations

import operator
import re
import types
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ValidationError,
)
from pydantic.fields import FieldInfo

from emoray import hints
from emoray.hints import did_you_mean
from emoray.spec.accounts import as_meant
from emoray.spec.base import NAME, NAME_SAYS, SpecError, short
from emoray.spec.document import Spec
from emoray.spec.entry import DEADLINE
from emoray.spec.models import Rehearsed

_SURE = 0.8  # so much alike, a word is a typo


# ── complaining ────────────────────────────────────────────────────────────────────────────────────────────────────


def validated(data: dict[str, Any]) -> Spec:
    try:
        return Spec.model_validate(data)
    except ValidationError as wrong:
        of_field: dict[str, list[dict[str, Any]]] = {}
        for error in wrong.errors():
            of_field.setdefault(_field(dict(error), data), []).append(dict(error))
        said = {field: _sentence(_to_the_point(errors), data) for field, errors in of_field.items()}
        for field in _taken_back(said):
            said.pop(field, None)
        deepest = [f for f in said if not any(other.startswith((f"{f}[", f"{f}.")) for other in said)]
        raise SpecError("\n".join(said[field] for field in deepest)) from None


def _taken_back(said: Mapping[str, str]) -> set[str]:
    """Of fields that are missing, those that stand there, but misspelt."""
    missing = {field for field, text in said.items() if text.endswith(" is missing")}
    found: set[str] = set()
    for field, text in said.items():
        before, meant = field.rpartition(".")[0], re.search(r" is not a setting; did you mean '([^']+)'", text)
        if meant:
            found |= {meant[1], f"{before}.{meant[1]}".lstrip(".")} & missing
        elif text.endswith(_COLON):
            found |= {other for other in missing if other.rpartition(".")[0] == before}
    return found


def _to_the_point(errors: list[dict[str, Any]]) -> dict[str, Any]:
    """Of a field's complaints, one by each member of a union, the one that says it; of wrong types alone, all."""
    wants = [_TYPES[error["type"]] for error in errors if error["type"] in _TYPES]
    told = next((error for error in errors if error["type"] not in _TYPES), None)
    return told or errors[0] | {"type": "wrong_type", "wants": " or ".join(dict.fromkeys(wants))}


def _sentence(error: dict[str, Any], data: Any) -> str:
    """One complaint of pydantic's as a sentence that starts with the field."""
    where, value, context = _field(error, data), _quoted(error), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"{where} is not a setting{_in_its_unit(_setting_meant(error['loc'], where), error)}"
        case "invalid_key":
            return f"{where} is not a setting: the name of one is text"
        case "string_unicode":
            return f"{where} holds half a character, which no file can bear; write the whole character"
        case "missing":
            return f"{where} is missing"
        case "value_error":
            return str(context["error"]) if not error["loc"] else f"{where}: {context['error']}"
        case "union_tag_not_found":
            by = context["discriminator"].strip("'")
            return f"{where} needs {by}: one of {', '.join(_tags(error['loc'], by))}{_tag_called(error['input'], by)}"
        case "union_tag_invalid":
            by, asked = context["discriminator"].strip("'"), str(context["tag"])
            tags = _tags(error["loc"], by)
            if asked == "None":
                return f"{where} needs {by}: one of {', '.join(tags)}"
            meant = hints.tag_meant(by, asked)
            hint = f"; write {meant}" if meant else did_you_mean(asked, tags)
            return f"{where}.{by} must be one of {', '.join(tags)}, got {short(asked)}{hint}"
        case "greater_than_equal":
            return f"{where} must be at least {_figure(context['ge'])}, got {value}"
        case "less_than_equal":
            return f"{where} must be at most {_figure(context['le'])}, got {value}"
        case "greater_than":
            return f"{where} must be more than {_figure(context['gt'])}, got {value}"
        case "less_than":
            return f"{where} must be less than {_figure(context['lt'])}, got {value}"
        case "literal_error":
            expected = re.findall(r"'([^']*)'", context["expected"])
            return f"{where} must be {context['expected']}, got {value}{_value_meant(error, expected)}"
        case "string_pattern_mismatch":
            return f"{where} must be {_PATTERNS.get(context['pattern'], context['pattern'])}, got {value}"
        case "string_too_short" if context["min_length"] == 1:
            return f"{where} must not be empty"
        case "too_short":
            return f"{where} must have at least {context['min_length']}, got {value}"
        case "too_long":
            return f"{where} must have at most {context['max_length']:,}, got {len(error['input']):,}"
        case "wrong_type":
            return f"{where} must be {error['wants']}, got {value}{_as_written(error, where)}"
        case "string_too_long":
            return f"{where} must have at most {context['max_length']:,} characters, got {len(error['input']):,}"
        case _:
            message = str(error["msg"])
            return f"{where} is {value}, but it {_lower(message).replace('input should', 'should')}"


def _figure(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"


_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "model_type": "a section of settings (name: value)",
    "model_attributes_type": "a section of settings (name: value)",
    "dict_type": "a section of settings (name: value)",
    "invalid-json-value": "text, a number, true or false, a list or a section",
}


_MODEL, _READER = "{name: …, host: …, id: …}", "{kind: …, name: …, model: …}"
_FORMS = {  # of a setting, where something simpler stands
    **dict.fromkeys(("models", "model"), _MODEL),
    "readers": _READER,
    "accounts": "{key_env: …, base_url: …}",
    "sampling": "{temperature: …, max_tokens: …}",
    "retry": "{attempts: …, timeout_s: …}",
    "canaries": "{every: …, prompts: …}",
    "questions": "a sentence, or {id: …, text: …}",
    "templates": "a template's name, or {name: …, user: …}",
    "deadline": '90min, 6h or "07:00"',
}


def _as_written(error: Mapping[str, Any], where: str) -> str:
    """The hint for a value of a wrong type: what to write."""
    return _in_form(error, where) or _in_quotes(error) or _in_figures(error)


def _in_form(error: Mapping[str, Any], where: str) -> str:
    """The hint for a list or a section in whose place something else stands."""
    settings = re.sub(r"\[[0-9]+\]", "", where).split(".")
    name = settings[-1]
    if settings[0] == "accounts" and len(settings) < 3:
        return f"; write {'' if len(settings) == 2 else '<name>: '}{_FORMS['accounts']}"
    if name not in _FORMS or (error["wants"] == "text" and name == "model"):
        return ""
    return f"; write [{_FORMS[name]}, …]" if error["wants"] == "a list" else f"; write {_FORMS[name]}"


def _value_meant(error: Mapping[str, Any], known: list[str]) -> str:
    """The hint for a word that is none of a few."""
    word = str(error["input"])
    if error["loc"][:1] == ("accounts",) and (server := hints.server_of(word)):
        return f"; leave kind out, and write base_url: {server}"
    meant = hints.value_meant(word)
    return f"; did you mean {meant!r}?" if meant in known else did_you_mean(word, known)


def _in_quotes(error: Mapping[str, Any]) -> str:
    """The hint for what YAML takes for a number, a date or a truth, where a text may stand."""
    plain = isinstance(error["input"], int | float | date)
    return "; write it in quotes" if plain and "text" in error["wants"] else ""


def _in_figures(error: Mapping[str, Any]) -> str:
    """The hint for a number, or a truth, that was written as a text; or for a whole number with a point."""
    given, whole = error["input"], "whole" in error["wants"]
    if isinstance(given, float) and whole and given.is_integer():
        return as_meant(f"{given:.0f}")
    if not isinstance(given, str):
        return ""
    if "number" in error["wants"]:
        return as_meant(*_numbers_meant(error["loc"], given, whole=whole))
    return did_you_mean(given, ("true", "false")) if error["wants"] == _TYPES["bool_type"] else ""


def _numbers_meant(loc: tuple[int | str, ...], text: str, *, whole: bool) -> list[str]:
    """What the setting may be meant to be."""
    bounds = list(_bounds(_annotation_at(loc)))
    setting = next((step for step in reversed(loc) if isinstance(step, str)), "")
    found = hints.numbers_meant(text, setting, lambda number: _is_within(float(number), bounds))
    return [number for number in found if "." not in number and number == hints.number_meant(text)] if whole else found


def _is_within(number: float, bounds: list[Any]) -> bool:
    holds = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
    return all(holds[name](number, getattr(bound, name)) for bound in bounds for name in holds if hasattr(bound, name))


def _bounds(annotation: Any) -> Iterator[Any]:
    """The marks inside an annotation, bounds of numbers among them."""
    for argument in get_args(annotation):
        yield from argument.metadata if isinstance(argument, FieldInfo) else [argument]
        yield from _bounds(argument)


def _quoted(error: Mapping[str, Any]) -> str:
    """The wrong value, for a person; never a whole document, and nothing that might be somebody's key."""
    value, loc = error.get("input"), error["loc"]
    if loc[:1] == ("accounts",) and isinstance(value, str | dict | list) and not _is_plain(loc[-1], value):
        return "something else"
    return short(value)


def _is_plain(setting: Any, value: Any) -> bool:
    """Whether what stands in an account is no key."""
    number = isinstance(value, str) and setting != "key_env" and hints.is_number(value)
    return number or setting in ("kind", "base_url")


_PATTERNS = {
    NAME: NAME_SAYS,
    r"^https?://": "an address (it begins with https:// or http://)",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of an environment variable (the key itself never stands in a spec)",
    DEADLINE: 'a time from the start (90min, 6h) or on the clock in quotes ("07:00")',
}


def _field(error: dict[str, Any], data: Any) -> str:
    """models[2].sampling.temperature: pydantic's location without the names of union members."""
    text, here, loc = "", data, error["loc"]
    for step in loc:
        absent = error["type"] == "missing" and step == loc[-1]
        if isinstance(step, int) and isinstance(here, list):
            text += f"[{step}]"
            here = here[step] if step < len(here) else None
        elif isinstance(here, Mapping) and (step in here or absent):
            text += f".{step}" if text else str(step)
            here = here.get(step)
    return text or str(loc[-1] if loc else "the spec")


def _setting_meant(loc: tuple[int | str, ...], where: str) -> str:
    """What to write in place of an unknown setting: one of the same section, or the place where it belongs."""
    word, known = str(loc[-1]), _settings_at(loc[:-1])
    plain = word.casefold()
    if plain in hints.IN_BODY and ("hosted_api" in loc or "batch_api" in loc):
        return f"; it goes into the request by extra_body: {{{hints.IN_BODY[plain]}: …}}"
    if len(loc) == 1 and plain in hints.FLAGS:
        return f"; a command says it, with {hints.FLAGS[plain]}"
    if plain in hints.OF_THE_MODEL:
        return "; a model of your own has it with sampling_defaults: model, a hosted one in its extra_body"
    if plain in hints.NOT_ASKED:
        return f"; emoray draws without it{_by_others(plain)}"
    meant = hints.SYNONYMS.get(plain)
    if meant not in known:
        meant = next(iter(hints.near(word, known, 1, _SURE)), None) or hints.synonym(word, str(loc[0]))
    if meant in known:
        return f"; did you mean {meant!r}?"
    if there := _elsewhere(meant or word, where.removesuffix(word)):
        return there
    return _COLON if " " in word else did_you_mean(word, known) or _known(known)


def _by_others(word: str) -> str:
    """Who takes what emoray draws without, or what to say in its place."""
    if word in hints.IN_BODY:
        return f", a hosted model may take it in extra_body: {{{hints.IN_BODY[word]}: …}}"
    return "; for the likeliest words set temperature: 0" if word == "do_sample" else ""


def _in_its_unit(hint: str, error: Mapping[str, Any]) -> str:
    """The hint, with what becomes of the value where the setting that is meant has another unit."""
    meant = re.fullmatch(r"(.* did you mean '([^']+\.)?([a-z_]+)')\?", hint)
    how = hints.in_its_unit(str(error["loc"][-1]), meant[3], error["input"]) if meant else ""
    return f"{meant[1]}{how}?" if meant else hint


_COLON = "; a text with a colon in it goes in quotes"


def _elsewhere(word: str, before: str) -> str:
    """The hint for a setting that stands at another place of a spec, the nearest place first."""
    if len(word) < 2:
        return ""
    places = [path for path in _places() if path.rpartition(".")[2] == word.casefold()]
    places = places or [path for path in _places() if hints.likeness(path.rpartition(".")[2], word) >= _SURE]
    if not places:
        return ""
    here = re.sub(r"\[[0-9]+\]", "[…]", re.sub(r"^accounts\.[^.]+", "accounts.<name>", before))
    best = min(places, key=lambda path: (not path.startswith(here), path.count(".")))
    if best == f"{here}{word.casefold()}":
        return f" of this {'host' if here.startswith('models') else 'kind'}; it is one of {', '.join(_places()[best])}"
    if before and "." not in best:
        return f" here; {best} stands at the top of the spec"
    nearest = f"{before}{best.removeprefix(here)}" if best.startswith(here) else best
    return f"; did you mean {nearest!r}?"


@cache
def _places() -> dict[str, list[str]]:
    """Every setting of a spec by its whole path, and the hosts or kinds that have it."""
    found: dict[str, list[str]] = {}
    for path, tags in _walk(Spec, ""):
        found.setdefault(path, []).extend(tag for tag in tags if tag not in found[path])
    return found


def _walk(section: type[BaseModel], before: str) -> Iterator[tuple[str, list[str]]]:
    for name, field in section.model_fields.items():
        yield f"{before}{name}", [str(tag) for tag in _tag(section)]
        for step, inner in _sections_in(field.annotation):
            if inner is not Rehearsed:
                yield from _walk(inner, f"{before}{name}{step}")


def _sections_in(annotation: Any, step: str = ".") -> Iterator[tuple[str, type[BaseModel]]]:
    """(what leads there, section) of every section inside an annotation."""
    origin = get_origin(annotation)
    if origin in (list, dict):
        step = "[…]." if origin is list else ".<name>."
    if origin in (Annotated, list, dict, Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _sections_in(argument, step)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield step, annotation


def _tag_called(section: Any, by: str) -> str:
    """The hint for a section that says its host, or kind, under another name."""
    names = [name for name in section if isinstance(name, str)] if isinstance(section, dict) else []
    other = [name for name in names if name.casefold() in ("provider", "backend", "engine", "type")]
    other += hints.near(by, [name for name in names if name not in ("id", "name")], 1)
    return f"; {other[0]} is no setting, write {by}" if other else ""


def _settings_at(loc: tuple[int | str, ...]) -> list[str]:
    """The settings that exist at a location."""
    members = list(_members(_annotation_at(loc)))
    found = [s for s in members if isinstance(s, type) and issubclass(s, BaseModel)]
    return list(dict.fromkeys(name for section in found for name in section.model_fields))


def _annotation_at(loc: tuple[int | str, ...]) -> Any:
    """What stands at a location, found by walking the models' own types."""
    here: Any = Spec
    for step in loc:
        options = [option for option in _members(here) if isinstance(option, type)]
        sections = [option for option in options if issubclass(option, BaseModel)]
        tagged = [s for s in sections if step in _tag(s)] or [s for s in sections if s.__name__ == step]
        inside = [s.model_fields[step].rebuild_annotation() for s in sections if step in s.model_fields]
        if tagged:
            here = tagged[0]
        elif inside:
            here = inside[0]
    return here


def _members(annotation: Any) -> Iterator[Any]:
    """The plain types inside an annotation: through Annotated, unions, lists and dicts."""
    if get_origin(annotation) in (Annotated, list, dict, Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _members(argument)
    else:
        yield annotation


def _tag(section: type[BaseModel]) -> tuple[Any, ...]:
    for name in ("host", "kind"):
        if name in section.model_fields:
            return get_args(section.model_fields[name].annotation)
    return ()


def _tags(loc: tuple[int | str, ...], by: str) -> list[str]:
    """The hosts, or kinds of readers, that a spec may name."""
    sections = _members(Spec.model_fields["models" if by == "host" else str(loc[0])].annotation)
    offered = [s for s in sections if isinstance(s, type) and issubclass(s, BaseModel) and s is not Rehearsed]
    return [str(tag) for section in offered for tag in _tag(section)]


def _known(names: list[str]) -> str:
    return f"; there are {', '.join(names)}" if names else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
