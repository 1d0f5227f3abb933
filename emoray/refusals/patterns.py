"""Whether an answer declines the task, and whether it leaves the role: by patterns, in fourteen languages.

What counts is a speaker who turns down the task, not one who speaks of declining. A person in a dark mood can not,
will not and would rather not do a great many things, and stays in the role; so it takes a sentence that says no to
the task, or words that only a service has, and no answer in the role beside it. The patterns are data
(`patterns.toml`, which says what each list means); this file says how they go together.

Patterns see `plain` texts without quotations. `HINTS` and `MACHINE_HINT` find at least what the functions find, within
what RE2 understands: Arrow goes through a column of plain texts by RE2, and Python looks only where a hint is.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Found = Callable[[str], "re.Match[str] | None"]  # where a pattern is in a text

_DATA = Path(__file__).with_name("patterns.toml").read_text(encoding="utf-8")  # now: see `emoray.refusals`
_GAP = " (?:.{0,60}? )?"
_REACH = 400  # characters: so far a text may go before it declines without having spoken of the task

_MARKS = re.compile("[\u0300-\u036f\u064b-\u0652\u00ad\u200b-\u200f\u2060\ufeff]")  # accents, and what shows nothing
_DROPPED = str.maketrans(dict.fromkeys("'’‘ʼ´`*#~|") | {"_": " ", '"': " "})
_SPACES = re.compile(r"[^\S\n]+")
_SENTENCE = re.compile(r"(?<=[.!?])(?=[\s)\]])|[。।؟\n]+|(?<=[!?])")  # CJK's ！ and ？ have become ! and ?


# Where none of these is, nothing is looked for; Arrow asks the same of whole columns. \b is of ASCII here.
_FOREIGN = (
    "[\u0400-\u04ff\u0600-\u06ff\u0900-\u097f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]"
    r"|\b(?:nicht|keine?[nmrs]?|lehne|ablehnen|anfrage|inhalt|unbeantwortet|puedo|podre|soy|peticion|solicitud|contenido"
    r"|personaje|prefiero|declin\w{0,4}|je|nous|demande|contenu|inutile|posso|contenut\w|richiesta|sono|quest\w|nao|consigo"
    r"|pedido|conteudo|sou|niet|geen|inhoud|ben|verzoek|nie|jestem|moge|musze|tresc|prosba|odm\w{2,6}|kann|ich|non|como"
    r"|essa|esse|estas?)\b"
)
_NO = (
    r"cant\b|can ?not\b|not\b|dont\b|nt\b|unable|incapable|declin|refus|opt out|opting|pass\b|denied|remov|block|filter"
    r"|withheld|violat|polic|guid|aside|stop|no\b|rather|beyond|outside|back to you"
)
_TASK = (
    r"request|prompt|role|persona|polic|guid|content|instruct|emotion|assist|help|generat|answer|respon|output|conversation"
    r"|task|\bai\b|model|bot\b|program|software|network|train|declin|refus|opting|denied|stop|person\b|human|feel|writ|state"
    r"|version|state|scenario|exercise|character|first-person|provid|produc|machine|do th|sorry|act "
)
HINTS = tuple(f"{hint}|{_FOREIGN}" for hint in (_NO, _TASK))
"""For RE2, and plain texts: a refusal has all of them."""
MACHINE_HINT = (
    r"\bai\b|artificial|language|model|bot\b|assistant|program|software|network|algorithm|train|develop"
    r"|creat|built|being|human|gpt|claude|gemini|llama|copilot|emotion|feel|body|childhood"
    r"|experience|server|data|person|text|lang[a-z]{2,5} model"
    rf"|{_FOREIGN}"
)
"""For RE2, and plain texts: whatever leaves the role has it."""
_MACHINE_HINTED = re.compile(MACHINE_HINT, re.ASCII).search
_FOREIGN_IN = re.compile(_FOREIGN, re.ASCII).search
_HINTED = [re.compile(hint, re.ASCII).search for hint in HINTS]


@dataclass(frozen=True)
class _Tongue:
    """The patterns of a language, each a search."""

    no: Found
    task: Found
    stock: Found
    whole: Found
    acts: Found
    machine: Found
    trade: Found
    person: Found
    reported: Found
    goes_on: Found


def plain(said: str) -> str:
    """A text without quotations (`Column.said`) as patterns see it: without accents and apostrophes."""
    return _SPACES.sub(" ", _unaccented(said).translate(_DROPPED)).strip()


def is_refusal(text: str) -> bool:
    """Whether an answer turns down the task, and does not answer in the role all the same."""
    said = plain(text)
    if not all(hinted(said) for hinted in _HINTED):
        return False
    sentences = _sentences(said)
    return any(_declines(tongue, said, sentences) for tongue in _spoken(said))


def breaks_role(text: str) -> bool:
    """Whether an answer speaks as a machine instead of the person it was told to be."""
    said = plain(text)
    if not _MACHINE_HINTED(said):
        return False
    sentences = _sentences(said)
    return any(
        _as_a_machine(tongue, sentence) for tongue in _spoken(said) if tongue.machine(said) for sentence in sentences
    )


def _declines(tongue: _Tongue, said: str, sentences: list[str]) -> bool:
    if tongue.whole(said):
        return True
    if not tongue.stock(said) and not tongue.no(said) and not tongue.acts(said):
        return False
    at = next((n for n, one in enumerate(sentences) if _says_no(tongue, sentences, n, one)), None)
    return at is not None and not _in_role(tongue, sentences, at)


def _says_no(tongue: _Tongue, sentences: list[str], n: int, one: str) -> bool:
    if any(tongue.reported(other) for other in sentences[n : n + 2]):
        return False
    if tongue.stock(one) or (tongue.no(one) and tongue.task(one) and not tongue.person(one)):
        return True
    beside = sentences[max(n - 2, 0) : n + 2]
    return bool(tongue.acts(one)) and any(_as_a_machine(tongue, other) for other in beside)


def _in_role(tongue: _Tongue, sentences: list[str], at: int) -> bool:
    """Whether an answer stands beside the sentence that declines."""
    before, after = sentences[:at], sentences[at + 1 :]
    if sum(map(len, before)) > _REACH and not any(tongue.task(one) for one in before):
        return True
    if any(map(tongue.goes_on, (_later(tongue, sentences[at]), *after))):
        return True
    return any(tongue.person(one) and not tongue.task(one) for one in (*before, *after))


def _later(tongue: _Tongue, declines: str) -> str:
    """What comes in the sentence after the words that decline."""
    found = tongue.stock(declines) or tongue.no(declines) or tongue.acts(declines)
    return declines[found.end() :] if found else ""


def _as_a_machine(tongue: _Tongue, sentence: str) -> bool:
    return bool(tongue.machine(sentence)) and not tongue.trade(sentence) and not tongue.reported(sentence)


def _sentences(said: str) -> list[str]:
    return [one for one in map(str.strip, _SENTENCE.split(said)) if one]


def _unaccented(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text).lower()))


def _source(entry: str, no: str, start: str) -> str:
    return start + _unaccented(entry).replace("'", "").replace(" ... ", _GAP).replace("{no}", no)


def _search(entries: list[str], no: str, start: str) -> Found:
    made = "|".join(_source(entry, no, start) for entry in entries)
    return re.compile(made).search


def _no(lists: dict[str, Any]) -> str:
    return f"(?:{'|'.join(_source(entry, '', '') for entry in lists['no'])})"


def _tongue(lists: dict[str, Any]) -> _Tongue:
    start = r"\b" if lists.pop("words") else ""
    no = _no(lists)
    whole = lists.pop("whole")
    searches = {name: _search(entries, no, start) for name, entries in lists.items()}
    only = "|".join(_source(entry, no, "") for entry in whole)
    return _Tongue(**searches, whole=re.compile(rf"\W*(?:{only})\W*").fullmatch)


def _spoken(said: str) -> list[_Tongue]:
    """The languages that a text may be in: English, the first, and the others where one of their words is."""
    return _tongues() if _FOREIGN_IN(said) else _tongues()[:1]


def load() -> None:
    """Compiles all of them, which otherwise the first text waits for."""
    _tongues()


@cache
def _tongues() -> list[_Tongue]:
    """Of all languages; compiled where a text is first looked at."""
    return [_tongue(dict(lists)) for lists in tomllib.loads(_DATA).values()]
