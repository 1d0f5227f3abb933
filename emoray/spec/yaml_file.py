"""A user's YAML, read within limits: its values, or half a sentence that says where it goes wrong and what to do.

What no table, file or file name can bear (half a character, NUL), numbers beyond 64 bits, and anchors that unfold
without end are refused here, by their line, before anything looks at the values. JSON is YAML.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from emoray.printable import cut

MOST_BYTES = 16 << 20
MOST_DEEP = 64  # levels of lists and sections
MOST_VALUES = 1_000_000  # with what aliases stand for, each time
_LONGEST_NUMBER = 80  # characters: 64 binary digits, and what may stand around them
_SHOWN = 40  # characters of a value, to a person
_HALF = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")
_TEXT, _WHOLE, _FLOAT, _DATE, _MERGE = (
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "timestamp", "merge")
)
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_Wrong = yaml.constructor.ConstructorError


class BadYaml(ValueError):
    """The text or file cannot be used; the message says where, what and what to do, and begins in the middle of a
    sentence. `what` is the same without the line.
    """

    def __init__(self, what: str, line: int | None = None, *, syntax: bool = False) -> None:
        super().__init__(what if line is None else f"line {line}: {what}")
        self.what, self.syntax = what, syntax


def text_of(path: Path) -> str:
    """The text of a file, without the mark that some editors put before it; BadYaml where it is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as wrong:  # a ValueError for a name with NUL in it
        raise BadYaml(f"cannot be read ({getattr(wrong, 'strerror', None) or wrong})") from None
    if len(data) > MOST_BYTES:
        raise BadYaml(f"cannot be read (it is larger than {MOST_BYTES >> 20} MiB)")
    return _decoded(data)


def read(text: str) -> Any:
    """The values of a YAML text; BadYaml where it cannot be used."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as wrong:
        what = f"the character U+{wrong.character:04X} cannot stand in YAML; leave it out, or write it as an escape"
        raise BadYaml(what, text.count("\n", 0, wrong.position) + 1) from None
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        told = isinstance(wrong, _Wrong)
        raise BadYaml(_plainly(str(wrong.problem)), mark.line + 1 if mark else None, syntax=not told) from None


def quoted(text: str) -> str:
    """In YAML's double quotes; JSON's let through what YAML takes for the end of a line."""
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9)).rstrip("\n")


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadYaml("is not UTF-8 text (it begins as UTF-16 does); save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise BadYaml(_no_text(data, wrong.start)) from None
    if "\0" in text:
        raise BadYaml(_no_text(data, data.index(b"\0")))
    return text


def _no_text(data: bytes, place: int) -> str:
    line = data.count(b"\n", 0, place) + 1
    return f"is not UTF-8 text (line {line} holds the byte 0x{data[place]:02x}); save it as UTF-8"


def _plainly(problem: str) -> str:
    """PyYAML's words, with what to do for the commonest mistakes."""
    if problem.startswith("found character '\\t'"):
        return "a tab stands where YAML wants spaces; indent with spaces"
    if problem.startswith("found character"):
        return f"{problem}; put the text in quotes"
    if problem == "mapping values are not allowed here":
        return f"{problem}; a text with a colon in it goes in quotes"
    if problem == "could not find expected ':'":
        return f"{problem}; a setting is `name: value`, with a blank behind the colon"
    if problem.startswith("expected ',' or"):
        return f"{problem}; put texts in quotes"
    if tag := re.fullmatch(r"could not determine a constructor for the tag '(.*)'", problem):
        return f"the tag {_shown(tag[1])} means nothing here; leave it out"
    if problem == "but found another document":
        return "a second document begins here (---); keep one, and give the other a file of its own"
    return problem


class _Loader(yaml.SafeLoader):
    """YAML where a key is text, and one written twice is an error instead of a silent loss of the first."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _measured(node, {}, set())
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MOST_DEEP:
            where = self.peek_event()  # type: ignore[no-untyped-call]
            raise _Wrong(None, None, _TOO_DEEP, where.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, ArithmeticError):  # `!!int x`, a 13th month, `0b_`
            kind = node.tag.rpartition(":")[2]
            raise _Wrong(
                None, None, f"{_shown(node.value)} cannot be read as {kind}; write it in quotes", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, value_node in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == _MERGE:  # `<<: *defaults`
                continue
            if key_node.tag == _WHOLE and value_node.value == "":  # {temperature: 0,7}, {max_tokens: 1,000}
                what = f"the name of a setting must be text, got {_shown(key_node.value)}; {_NO_COMMA}"
                raise _Wrong(None, None, what, key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                hint = "; write it in quotes" if isinstance(key_node, yaml.ScalarNode) else ""
                raise _Wrong(None, None, f"the name of a setting must be text, got {key!r}{hint}", key_node.start_mark)
            if key in seen:
                raise _Wrong(None, None, f"{_shown(key)} is written twice; keep one", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def whole_text(self, node: yaml.ScalarNode) -> str:
        """JSON writes a character beyond U+FFFF as two halves: together they are one."""
        text = str(self.construct_scalar(node))
        if half := _HALF.search(text):
            what = f"\\u{ord(half[0]):04x} is half a character, which no file can bear; write the whole character"
            raise _Wrong(None, None, what, node.start_mark)
        if "\0" in text:
            raise _Wrong(None, None, "a text holds NUL (\\0), which no file can bear; leave it out", node.start_mark)
        return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")

    def whole_number(self, node: yaml.ScalarNode) -> int | str:
        """YAML 1.1 takes 010 for eight and 1:30 for ninety: who writes a spec means neither."""
        written = str(self.construct_scalar(node))
        if ":" in written:
            return written
        if _OCTAL.fullmatch(written):
            what = f"{_shown(written)} would be read as octal; write it without zeros before it, or in quotes as a text"
            raise _Wrong(None, None, what, node.start_mark)
        number = int(self.construct_yaml_int(node)) if len(written) <= _LONGEST_NUMBER else 1 << 64
        if not -(1 << 63) <= number < 1 << 64:
            what = f"{_shown(written)} is beyond 64 bits; write a smaller number, or in quotes if it is a text"
            raise _Wrong(None, None, what, node.start_mark)
        return number

    def number(self, node: yaml.ScalarNode) -> float | str:
        written = str(self.construct_scalar(node))
        return written if ":" in written else float(self.construct_yaml_float(node))

    # lm-format-enforcer, which vLLM imports, makes dates text in PyYAML's own loader, for the whole process
    yaml_constructors = {
        **yaml.SafeLoader.yaml_constructors,
        _DATE: yaml.SafeLoader.construct_yaml_timestamp,
        _TEXT: whole_text,
        _WHOLE: whole_number,
        _FLOAT: number,
    }


_NO_COMMA = "a number has no comma: a point where others have one, and nothing between thousands"
_TOO_DEEP = f"lists and sections stand in one another more than {MOST_DEEP} deep; write it flatter"


def _measured(node: yaml.Node, known: dict[int, tuple[int, int]], around: set[int]) -> tuple[int, int]:
    """(values, levels) of a node, aliases unfolded; refused where either is too many, or an alias is inside itself.

    What an alias stands for was measured before it, where it was written: no recursion is deeper than the text.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1, 0
    if id(node) in around:
        raise _Wrong(None, None, "an anchor holds itself; write it out", node.start_mark)
    if id(node) not in known:
        around.add(id(node))
        inside = [_measured(child, known, around) for child in _children(node)]
        around.remove(id(node))
        known[id(node)] = 1 + sum(values for values, _ in inside), 1 + max((deep for _, deep in inside), default=0)
    values, levels = known[id(node)]
    if values > MOST_VALUES:
        raise _Wrong(None, None, f"this unfolds to more than {MOST_VALUES:,} values; write less", node.start_mark)
    if levels > MOST_DEEP:
        raise _Wrong(None, None, _TOO_DEEP, node.start_mark)
    return values, levels


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    for child in node.value:
        yield from child if isinstance(child, tuple) else (child,)


def _shown(value: Any) -> str:
    return repr(cut(value if isinstance(value, str) else "this", _SHOWN, "…"))
