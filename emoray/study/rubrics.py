"""Rubrics: what a judge is told. Data files (`rubrics/*.toml`), each with a mark, or a text of the user's own."""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_RUBRICS = Path(__file__).parent / "rubrics"


@dataclass(frozen=True)
class Rubric:
    """What the judge is told; `{text}` in `user` stands for the answer."""

    name: str
    system: str
    user: str
    mark: str  # "ours", or "user"
    sha: str  # of both texts, 8 hex digits

    def chat(self, text: str) -> list[dict[str, str]]:
        """The messages about one text, whose own braces mean nothing."""
        asked = self.user.replace("{text}", text)
        return [{"role": role, "content": said} for role, said in (("system", self.system), ("user", asked)) if said]


class BadRubric(ValueError):
    """A rubric that cannot be used; the message is one sentence for its author."""


def rubric(named: str) -> Rubric:
    """A shipped rubric by name, or the one in a TOML text; BadRubric where it cannot be used."""
    own = re.fullmatch(r"[\w .+-]+", named) is None
    if not own and named not in shipped_rubrics():
        raise BadRubric(f"no rubric is called {named!r}; there are {', '.join(shipped_rubrics())}")
    try:
        data = tomllib.loads(named if own else _shipped(named))
    except tomllib.TOMLDecodeError as wrong:
        raise BadRubric(f"the rubric is no TOML: {wrong}") from None
    except RecursionError:
        raise BadRubric("the rubric is no TOML that can be read: lists stand in one another without end") from None
    system, user = str(data.get("system", "")).strip(), str(data.get("user", "")).strip()
    if user.count("{text}") != 1:
        raise BadRubric("`user` of the rubric must say {text} once, where the answer goes")
    sha = hashlib.blake2b(f"{system}\0{user}".encode(), digest_size=4).hexdigest()
    return Rubric("own" if own else named, system, user, "user" if own else data["mark"], sha)


def shipped_rubrics() -> tuple[str, ...]:
    """The names of the rubrics that ship with emoray."""
    return tuple(sorted(path.stem for path in _RUBRICS.glob("*.toml")))


@cache
def _shipped(name: str) -> str:
    return (_RUBRICS / f"{name}.toml").read_text(encoding="utf-8")
