"""What went wrong, in one sentence, out of whatever Ray has wrapped it in.

An exception crosses processes as text: the traceback that it had there stands in the message of what Ray raises here,
coloured, and around it stand tracebacks of Ray's own. The cause is the innermost of these that is not Ray's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile

from ray.data.exceptions import SystemException
from ray.exceptions import RayActorError

from emoray.reasons import first_line, uncoloured

# Ray has words of its own for it; in a group of exceptions a rule stands before each
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):|\(pid=\d+, ip=|^[-+]+ \d+ -+$")
_BESIDE = re.compile(r"^ *[|+] ?", re.MULTILINE)  # what a group is drawn with
_NAMED = re.compile(r"([A-Za-z_][\w.]*(?:\([\w.]*\))?)(?:: (.*)|:?)$", re.DOTALL)  # `module.Type: message`
_WRAPPERS = ("RayTaskError", "RayActorError", "ActorDiedError", "UserCodeException", "RayDataUserCodeException",
             "SystemException", "UnserializableException", "RaySystemError")  # fmt: skip


def sentence(wrong: BaseException) -> str:
    """`Type: message` of what went wrong at the bottom of it; of an exception of ours the message alone."""
    text = uncoloured(str(wrong))
    kind = f"{type(wrong).__module__}.{type(wrong).__name__}"
    if _ours(kind):
        return _said(kind, text)
    if told := list(_raised(text)):
        return _said(*next((one for one in reversed(told) if not _wraps(one[0])), told[-1]))
    below = getattr(wrong, "cause", None) or wrong.__cause__
    if isinstance(below, BaseException) and not isinstance(below, SystemException):
        return sentence(below)  # Ray marks its own errors with a cause that says nothing
    if isinstance(
        wrong, RayActorError
    ):  # its first line says that it died; the next says why, but for what is indented
        text = "\n".join([line for line in text.splitlines() if line[:1].strip()][1:]) or text
    return _said(kind, text)


def _raised(text: str) -> Iterator[tuple[str, str]]:
    """The exceptions of which there are tracebacks in a text, each by its type and its message, in order."""
    if "Exception Group Traceback" in text:
        text = _BESIDE.sub("", text)
    lines, within = text.splitlines(), False
    for place, line in enumerate(lines):
        if _TRACEBACK.search(line) or line.startswith('  File "'):
            within = True
        elif within and (found := _NAMED.match(line)):
            within = False
            more = takewhile(str.strip, lines[place + 1 :]) if found[2] is not None else ()
            yield found[1], "\n".join([found[2] or "", *more])


def _ours(kind: str) -> bool:
    """Whether its message is a sentence for a person."""
    return kind.startswith("emoray.")


def _wraps(kind: str) -> bool:
    return kind.partition("(")[0].rpartition(".")[2] in _WRAPPERS


def _said(kind: str, message: str) -> str:
    shown, name = first_line(message), kind.partition("(")[0].rpartition(".")[2]
    return shown if shown and _ours(kind) else f"{name}: {shown}" if shown else name
