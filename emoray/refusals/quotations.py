"""Answers without what they quote, over whole columns by Arrow (RE2): who quotes a refusal does not refuse.

A quotation opens behind a blank or a bracket and closes before a blank or a mark, so inches and apostrophes are none.
It may go over lines, and one that never closes goes to the end. Lines that begin with `>` are quoted, and so is a long
stretch *in italics* within a line (a line of its own is a note of the speaker). One word in quotes is emphasis.
An answer beside whose quotations nothing is said is its quotations: `Answer: “No.”` is.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_MARK = "\x01"  # where a quotation was, until all are found
_WORD = r"[\p{Latin}\p{Cyrillic}\p{Greek}'-]{1,20}"
_EMPHASIS = rf'([^\s.:!?"“”] )(?:"({_WORD})"\B|“({_WORD})”)'
_DOUBLE = "|".join(
    (
        r'\B"[^ \t"](?:(?:[^"]|\n\s*")*(?:[^\s"]|\n))?"\B',  # each paragraph of a long one may open anew
        r"“(?:[^“”]|\n\s*“)*”",
        "„[^„“”]*[“”]",
        "«[^«»]*»",
        r"»[^\s«»][^«»]*«",
        "「[^「」]*」",
        "『[^『』]*』",
        "‹[^‹›]*›",
        "‚[^‚‘’]*[‘’]",
        r"‘(?:[^‘’]|\b’\b)+’\B",
    )
)
_APOSTROPHES = "[’‘ʼ`´]"
_SINGLE = r"(?m)(^|[\s(\[:—–-])'(?:[^\s']|\b'\b)+ (?:[^'\n]|\b'\b)*'\B"
_BEHIND_WORDS = r"([^\s*] ?)\*[^\s*][^*\n]{18,}[^\s*]\*"
_BEFORE_WORDS = r"\*[^\s*][^*\n]{18,}[^\s*]\*( ?[^\s*])"
_LINES = r"(?m)^[ \t]*>[^\n]*"
_UNCLOSED = r'(?:\B"[^\s"][^"]*|\B“[^“”]*|„[^„“”]*|«[^«»]*|「[^「」]*|『[^『』]*)\z'
_QUOTES = r'(?m)["“”„«»「」『』‹›]|^[ \t]*>'
_LITTLE = 20  # characters: what is left beside italics, where these are quoted
_NOTHING = r"(?i)\A[^\pL]*(?:(?:the |my |final )?(?:%s)[^\pL]*)?\z" % "|".join(  # noqa: UP031 - braces are RE2's
    (
        "answer|response|reply|output|result|assistant|ai|bot|text|statement|message|note|refusal|antwort|ausgabe|réponse|reponse",
        "respuesta|risposta|resposta|antwoord|odpowiedź|ответ|cevap|yanıt|回答|回复|答案|返答|답변|대답|الجواب|الإجابة|الرد|उत्तर|जवाब",
    )
)


def without(said: pa.Array) -> pa.Array:
    """(answers,) of small letters in NFKC: with `"` in the place of what is quoted, and one apostrophe for all."""
    words = pc.replace_substring_regex(said, _EMPHASIS, r"\1\2\3")
    marked = _apostrophes(pc.replace_substring_regex(words, _DOUBLE, f" {_MARK} "))
    marked = _less_italics(pc.replace_substring_regex(marked, _SINGLE, rf"\1 {_MARK} "))
    for quoted in (_LINES, _UNCLOSED):
        marked = pc.replace_substring_regex(marked, quoted, f" {_MARK} ")
    opened = pc.replace_substring_regex(_apostrophes(words), _QUOTES, " ")
    nothing = pc.match_substring_regex(marked, _NOTHING)
    return pc.if_else(nothing, opened, pc.replace_substring(marked, _MARK, '"'))


def _less_italics(texts: pa.Array) -> pa.Array:
    behind = pc.replace_substring_regex(texts, _BEHIND_WORDS, rf"\1 {_MARK} ")
    less = pc.replace_substring_regex(behind, _BEFORE_WORDS, rf" {_MARK} \1")
    left = pc.replace_substring(less, _MARK, " ")
    return pc.if_else(pc.greater_equal(pc.utf8_length(pc.utf8_trim_whitespace(left)), _LITTLE), less, texts)


def _apostrophes(texts: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(texts, _APOSTROPHES, "'")
