"""The lines of a batch's result files: pure, and no line can spoil another or raise.

Each line is read by itself. What is no result is `malformed` of its own cell where the line still tells which cell
that is, and is counted where it does not.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from emoray.hosts.bodies import Garbled, in_utf8
from emoray.hosts.openai_protocol import refusal_of, shown
from emoray.hosts.refusals import refusal_kind
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome

_BOM = b"\xef\xbb\xbf"
_QUOTED = re.compile(r'"([^"\\]{1,200})"')
_ERROR = re.compile(rb'\{\s*"(error|errors|detail|message)"')
_LIST = re.compile(rb"\s*\[\s*\{")
_NO_BODY: tuple[Any, ...] = (None, "", {}, [])
_MOST_DIGITS = 20  # a longer number is none of ours
_NO_ERROR = frozenset({"", "0", "200", "none", "ok", "success", "info", "warning"})  # codes, beside an answer


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


_DECODER = json.JSONDecoder(strict=False, parse_int=_number)  # as forgiving as of a single reply
Parse = Callable[[Any], Outcome]  # what the body of a response with status 200 means


class Result(NamedTuple):
    outcome: Outcome
    billable: bool  # the provider may have counted it


@dataclass
class Results:
    """What the files of a batch say, by key."""

    by_key: dict[str, Result] = field(default_factory=dict)
    aside: int = 0  # that are nobody's: what they say is no cell of this batch, or cannot be told
    sample: str = ""  # the first of these, cut
    has_output: bool = False  # whether the file of answers was there at all

    @property
    def found(self) -> int:
        """Of how many lines something is known; one that comes twice counts once."""
        return len(self.by_key) + self.aside

    @property
    def answered(self) -> int:
        """Of how many the model may have said something."""
        return sum(result.billable for result in self.by_key.values()) + self.aside

    def add(self, key: str, result: Result) -> None:
        """An answer stands, whatever else comes for its cell; of failures the first."""
        before = self.by_key.get(key)
        better = isinstance(result.outcome, Answer) and not (before and isinstance(before.outcome, Answer))
        if before is None or better:
            self.by_key[key] = result

    def set_aside(self, line: str, key: str) -> None:
        self.aside += 1
        self.sample = self.sample or ascii(shown(line, key))[1:-1]


def is_file(content: bytes) -> bool:
    """Whether it is a file of results: not empty, no page, and no error object instead of one."""
    text = content.removeprefix(_BOM).strip()
    if not text or text.startswith(b"<"):
        return False
    return b"\n" in text or b"custom_id" in text or _ERROR.match(text) is None


def read(results: Results, content: bytes, keys: Collection[str], parse: Parse, secret: str = "") -> None:
    """Adds what a file says of the cells `keys`. Lines end with \\n alone: a text may hold any other separator.

    `secret`, the account's key, is in no text of ours.
    """
    alike = _alike(keys)
    with suppress(Garbled):
        content = in_utf8(content)
    for piece in _listed(content) or _lines(content):
        key = _key_of(piece, keys, alike)
        if key is None:
            results.set_aside(piece.text, secret)
        else:
            results.add(key, _result(piece, parse, secret))


class _Piece(NamedTuple):
    """One JSON value of a line; `value` is None for what is none."""

    text: str
    value: Any


def _listed(content: bytes) -> list[_Piece]:
    """The results of a file that is one JSON list; empty where it is none."""
    text = content.removeprefix(_BOM).strip()
    if not (text.startswith(b"[") and text.endswith(b"]")):
        return []
    try:
        several = _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        return []
    pieces = [_Piece(json.dumps(one), one) for one in several]
    return pieces if all(isinstance(one, dict) for one in several) else []


def _lines(content: bytes) -> Iterator[_Piece]:
    """Those of a file of lines; or of a list, with an object per line, that is cut."""
    text = content.removeprefix(_BOM)
    between = "[]," if _LIST.match(text) else ""
    for line in text.split(b"\n"):
        yield from _pieces(line, between)


def _pieces(line: bytes, between: str) -> Iterator[_Piece]:
    """One as a rule; two where a line break was lost; none of an empty line."""
    try:
        text = in_utf8(line).decode()
    except Garbled:
        yield _Piece(line.decode("utf-8", "backslashreplace"), None)
        return
    at = _next(text, 0, between)
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):  # cut, or nested without end
            yield _Piece(text[at:], None)
            return
        yield _Piece(text[at:end], value)
        at = _next(text, end, between)


def _next(text: str, at: int, between: str) -> int:
    """Where the next thing begins that is no space, no padding of a file that was joined or cut, and not `between`."""
    while at < len(text) and (text[at].isspace() or text[at] in "\0\ufeff" or text[at] in between):
        at += 1
    return at


def _alike(keys: Collection[str]) -> dict[str, str]:
    """The keys by what is left of them without case; none that two have."""
    several = Counter(map(_plain, keys))
    return {_plain(key): key for key in keys if several[_plain(key)] == 1}


def _plain(key: str) -> str:
    return key.strip().casefold()


def _key_of(piece: _Piece, keys: Collection[str], alike: Mapping[str, str]) -> str | None:
    """The cell of a result; where it has no custom_id, the only cell that it names at all."""
    own = piece.value.get("custom_id") if isinstance(piece.value, dict) else None
    if isinstance(own, str):
        return own if own in keys else alike.get(_plain(own))
    named = {quoted for quoted in _QUOTED.findall(piece.text) if quoted in keys}
    return named.pop() if len(named) == 1 else None


def _result(piece: _Piece, parse: Parse, secret: str) -> Result:
    if not isinstance(piece.value, dict):
        return _malformed(f"the batch's line is no result: {shown(piece.text, secret)}")
    try:
        return outcome_of_line(piece.value, parse, secret)
    except Exception as strange:  # whatever nobody thought of is this cell's alone
        what = f"the batch's line cannot be read ({type(strange).__name__})"
        return _malformed(f"{what}: {shown(piece.text, secret)}")


def _malformed(detail: str) -> Result:
    return Result(Failure(FailureKind.MALFORMED, detail), billable=True)


def outcome_of_line(result: dict[str, Any], parse: Parse, secret: str = "") -> Result:
    """What one result says of its cell; classified as the same response to a single request would be."""
    response, error = _parsed(result.get("response")), result.get("error")
    if response in _NO_BODY and _has_choices(_parsed(result.get("body", result))):  # some leave out the frame
        response = result
    if not isinstance(response, dict):
        return _without_response(response, error, secret)
    body = _parsed(response.get("body", response if "choices" in response else None))
    status = _status(response.get("status_code", response.get("status")))
    if not status and isinstance(body, dict) and (body.get("choices") or (body and status is None)):
        status = 200  # a body that is an error is one whatever the status
    if status is not None and 200 <= status < 300:
        return _answered(parse(body), error, secret)
    if body in _NO_BODY and (error or status == 0):
        return Result(_refused(error, status, secret), billable=False)
    if not status or status < 400:
        return _malformed(f"the batch's line has no usable status: {shown(response, secret)}")
    return Result(refusal_of(status, _bytes(body), secret), billable=False)


def _has_choices(body: object) -> bool:
    return isinstance(body, dict) and "choices" in body


def _answered(outcome: Outcome, error: object, secret: str) -> Result:
    """A good status; an error beside it that has a code is what came, as anywhere else, and so is any where there is
    no answer. It is not billed.
    """
    if not isinstance(outcome, Failure):
        if not _has_failed(error):
            return Result(outcome, billable=True)
        return Result(_refused(error, None, secret), billable=False)
    return Result(_refused(error, None, secret) if error else outcome, billable=not outcome.refused)


def _has_failed(error: object) -> bool:
    code = error.get("code") if isinstance(error, dict) else None
    return code is not None and str(code).strip().lower() not in _NO_ERROR


def _without_response(response: object, error: object, secret: str) -> Result:
    if response not in (None, "", []):
        return _malformed(f"the batch's response is no object: {shown(response, secret)}")
    return Result(_refused(error, None, secret), billable=False)


def _refused(error: object, status: int | None, secret: str) -> Failure:
    """What the error of a line says. Without a status of its own, nothing says that the ask is at fault."""
    said = error if isinstance(error, dict) else {"message": shown(error, secret) if error else None}
    if said.get("code") == "batch_expired":
        late = said.get("message") or "the batch expired before this line was done"
        return Failure(FailureKind.TIMEOUT, shown(late, secret))
    known = status or _status(said.get("status_code")) or _status(said.get("status")) or _status(said.get("code"))
    kind = refusal_kind(known or 400, said)
    if known is None and kind is FailureKind.BAD_REQUEST:
        kind = FailureKind.OVERLOADED
    message = shown(said.get("message") or said.get("code") or "the batch did not answer this line", secret)
    return Failure(kind, f"{known}: {message}" if known else message)


def _status(value: Any) -> int | None:
    """An HTTP status, also as a text or a float."""
    try:
        status = int(value) if isinstance(value, str) and len(value) < 9 else value
    except ValueError:
        return None
    number = isinstance(status, int | float) and not isinstance(status, bool) and 0 <= status < 1000
    return int(status) if number else None


def _parsed(body: object) -> Any:
    """A body that came as a text, parsed where it is JSON."""
    if not isinstance(body, str):
        return body
    try:
        return _DECODER.decode(body)
    except (ValueError, RecursionError):
        return body


def _bytes(body: object) -> bytes:
    return body.encode("utf-8", "replace") if isinstance(body, str) else json.dumps(body).encode()
