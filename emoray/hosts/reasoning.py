"""Reasoning inside an answer: model families mark it with tags of their own, and a reader must not read it.

One rule for every host:

- What stands in a pair of tags is reasoning, wherever it stands; a tag is closed by its own, or by that of a name which
  means the same (`<think>…</thinking>`). `<think/>` is an empty pair.
- What opens at the beginning, or at the beginning of a line further down, and never closes leaves no answer. Tags whose
  names are plain words (`<thought> is what I call it`) open nothing where a sentence goes on behind them.
- What stands before a closing tag that nothing opened (the chat template did) is reasoning where the tag looks like an
  end: at the beginning or end of a line, joined to a word, or between two sentences. As a word of a sentence, or behind
  a space at the very end, it is text. So it is wherever the provider has delivered the reasoning apart.
- A tag that is quoted, stands in code, or is spoken of (`<think> and </think>`) is text.
- Where all of a text is in tags that people write too (`<thoughts>`, `<reflection>`), it is the answer as it stands:
  no model is trained to end a turn there. In all other tags it is reasoning, and there is no answer.
- Where the prompt is ours and its end has opened a tag (DeepSeek R1's template does), the answer goes on from there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from emoray.spec.models import Local, Vllm
from emoray.study.endings import Ending, ending_of
from emoray.study.outcomes import Failure, FailureKind

_NAMES = (
    *("think", "thinking", "thought", "thoughts", "reasoning", "reason", "reflection", "scratchpad"),
    *("seed:think", "mm:think", "longcat_think", "antThinking", "ant_thinking", "inner_thoughts"),
    *("think_fast", "think_faster", "thought_process", "thinking_process", "chain_of_thought", "internal_monologue"),
    *("scratch_pad", "reasoning_scratchpad", "reasoning_content"),
)
_KNOWN = (
    *((f"<{name}>", f"</{name}>") for name in _NAMES),  # DeepSeek, Qwen, GLM, MiniMax, EXAONE, Seed, Hunyuan, …
    ("[THINK]", "[/THINK]"),  # Mistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("[unused16]", "[unused17]"),  # openPangu
    ("◁think▷", "◁/think▷"),  # Kimi
    *((f"&lt;{name}&gt;", f"&lt;/{name}&gt;") for name in ("think", "thinking")),  # behind what escapes for a page
)
_TAG = re.compile(r"<[ \t]*(/?)[ \t]*([\w:]+)(?:\s[^<>]*)?>")
_ATTRIBUTES = r"""(?:\s+[\w:-]{1,40}\s*=\s*(?:"[^"\n]{0,200}"|'[^'\n]{0,200}'|[^\s<>"']{1,200})){0,8}"""
_AS_IN_PROSE = ("</", "< ", "[/", "&lt;/")  # how tags begin that people write, too
_WORDS = frozenset(
    f"<{name}>"
    for name in ("thinking", "thought", "thoughts", "reasoning", "reason", "reflection", "scratchpad", "inner_thoughts")
)
_OF_PEOPLE = frozenset(("<thoughts>", "<reflection>", "<reason>", "<inner_thoughts>"))
_KIN = (("think", "thinking", "thought", "thoughts"), ("reason", "reasoning"))  # models take one for the other
_GRANITE_THINKS = re.compile(r"\s*Here(?:['’]s| is) my thought process:")
_GRANITE_SAYS = re.compile(r"^[ \t]*Here(?:['’]s| is) my response:", re.MULTILINE)
_BEGUN = 64  # characters in which Granite's first words stand
_NEAR = 80  # characters around a tag that are looked at
_QUOTED_AT_MOST = 4  # closing tags that are looked at for one that is not quoted
_SPACES = (" ", "\t")
_POINTS = tuple(".,;:!?)]…")
_PAUSES = tuple(",;(")
_SENTENCE_ENDS = tuple(".!?…:)\"'”’*。！？")
_BETWEEN_TWO = frozenset(("and", "or", "to", "then", "und", "oder", "et", "ou", "y", "o", "e", "…", "...", "/", ","))
_AROUND_THE_ANSWER = (  # where reasoning came before
    *((f"<{name}>", f"</{name}>") for name in ("answer", "response", "output")),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|START_TEXT|>", "<|END_TEXT|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|begin_of_box|>", "<|end_of_box|>"),  # GLM
)
_CHANNEL = "<|channel|>"  # gpt-oss
_BESIDE_CHANNELS = ("<|message|>", "<|start|>", "<|end|>", "<|constrain|>")  # alone, <|end|> is no more than an end
_FINAL = re.compile(r"<\|channel\|>\s*final\b.*?<\|message\|>", re.DOTALL)
_HEADER = re.compile(r"(?:<\|start\|>[\w.]*)?(?:<\|channel\|>[^<]*)?(?:<\|constrain\|>[^<]*)?<\|message\|>")
_CONTROL = re.compile(r"<\|start\|>[\w.]*|<\|(?:end|return|call|channel|message|constrain)\|>")
_HEADED = re.compile(r"<\|channel\|>[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>\s*\Z")
_HARMONY_UNMARKED = re.compile(r"analysis(?=[A-Z])|analysis.*?assistantfinal", re.DOTALL)  # its tokens skipped
_AROUND = 16  # tokens of a prompt's end around the tag that it opens: line feeds, the name of a channel
_FLAGS = re.IGNORECASE | re.ASCII  # beyond ASCII, letters are alike that str.casefold tells apart
_THINKING = re.compile(r"\b(?:\w*thinking\w*|reasoning_\w+|\w+_reasoning|think_\w+|\w+_think)\b")  # in templates
_UNSEEN = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp"))  # categories of Unicode
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # letters by their category, and empty
_VARIES = re.compile(r"[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # how the letter before looks
_QUOTES = frozenset("`'\"‘’“”()")


class Tags:
    """Which tags mark reasoning; none: a text is left alone."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = _KNOWN, *, harmony: bool = True) -> None:
        both = list(pairs)
        texts = (*(tag for pair in both for tag in pair), *([_CHANNEL] if harmony else []))
        self.signs = frozenset(map(str.casefold, texts))
        self._closing = {_bare(opened): closed for opened, closed in both}
        self._harmony = harmony
        self._starts = {text[0] for text in texts}
        self._opening = _any_of(opened for opened, _ in both)
        closing = _any_of(closed for _, closed in both).pattern
        names = "|".join(re.escape(opened[1:-1]) for opened, _ in both if re.fullmatch(r"<[\w:]+>", opened))
        empty = rf"<(?:{names})\s*/>" if names else r"(?!)"
        self._any = re.compile(rf"{_any_of(texts).pattern}|{empty}", _FLAGS)
        self._event = re.compile(
            rf"(?P<open>{self._opening.pattern})|(?P<close>{closing})|(?P<empty>{empty})"
            r"|(?P<fence>^[ \t]*(?:```|~~~))|(?P<code>`[^`\n]{1,200}`)",
            _FLAGS | re.MULTILINE,
        )
        self._last = re.compile(rf"(?:{self._opening.pattern})\s*\Z", _FLAGS)

    def opened(self, prompt: str) -> str:
        """What the end of a prompt opens: its last tag and what stands behind it; "" where it opens none."""
        found = self._last.search(prompt) or (_HEADED.search(prompt) if self._harmony else None)
        return found[0] if found else ""

    def split(self, text: str, opened: str = "", *, apart: bool = False) -> tuple[str | None, str]:
        """(the reasoning, the answer); a text without reasoning comes back as it is.

        `opened` is what the end of its prompt opened: the text goes on from there, unless it opens one itself.
        `apart`: there is reasoning that came beside the text, so that nothing in it can be the end of some.
        """
        if opened and not self._opens(text):
            text = opened + text
        if not self._closing or not self._may_reason(text):
            return None, text
        found = (_by_family(text) if self._harmony else None) or self._by_tags(text, opened, apart)
        if found is None:
            return None, text
        thoughts, answer = found
        return "\n\n".join(filter(None, map(str.strip, thoughts))) or None, _unwrapped(answer.strip())

    def _opens(self, text: str) -> bool:
        begun = _seen(text)
        return bool(self._opening.match(begun)) or (self._harmony and begun.startswith((_CHANNEL, "<|start|>")))

    def _may_reason(self, text: str) -> bool:
        """Of most texts a look at single letters tells that they do not."""
        if any(start in text for start in self._starts) and self._any.search(text):
            return True
        return self._harmony and (text.startswith("analysis") or " my thought process:" in text[:_BEGUN])

    def mentioned(self, text: str) -> re.Match[str] | None:
        """The first tag in a text, wherever it stands."""
        return self._any.search(text)

    def _by_tags(self, text: str, opened: str, apart: bool) -> tuple[list[str], str] | None:
        cut = _Cut(text)
        while found := self._event.search(text, cut.read):
            cut.reach(found)
            if found.lastgroup == "open":
                self._open(cut, found, sure=found.start() == 0 and bool(opened))
            elif found.lastgroup == "close":
                self._close(cut, found, apart)
            elif found.lastgroup == "empty" and cut.blank:
                cut.block(found, found)
            elif found.lastgroup == "fence":
                cut.skip_fence(found["fence"].strip())
        return (cut.thoughts, cut.rest()) if cut.thoughts else None

    def _open(self, cut: _Cut, opened: re.Match[str], *, sure: bool) -> None:
        """`sure`: the prompt's end has opened it."""
        text, tag = cut.text, _bare(opened[0])
        begins_line = cut.blank or _begins_line(text, opened.start())
        if not cut.blank and _is_quoted(text, opened):
            return
        closed = self._closed_by(cut, opened, tag)
        if closed is None:
            mere_word = tag in _WORDS and not sure and _goes_on_as_prose(text, opened.end(), at_start=cut.blank)
            if begins_line and not mere_word:
                cut.endless(opened)
        elif _is_mention(text, opened, closed, begins_line) or (not sure and tag in _OF_PEOPLE and cut.all_in(closed)):
            cut.read = closed.end()
        else:
            cut.block(opened, closed)

    def _closed_by(self, cut: _Cut, opened: re.Match[str], tag: str) -> re.Match[str] | None:
        """The first that is not quoted, else the first; where there is none, that of a name which means the same."""
        for closing in (self._closing[tag], *_closing_kin(tag)):
            if closing in cut.missing:
                continue
            few = list(islice(_any_of([closing]).finditer(cut.text, opened.end()), _QUOTED_AT_MOST))
            if few:
                return next((one for one in few if not _is_quoted(cut.text, one)), few[0])
            cut.missing.add(closing)
        return None

    def _close(self, cut: _Cut, closed: re.Match[str], apart: bool) -> None:
        """A closing tag that nothing opened."""
        if not cut.blank and (apart or _is_quoted(cut.text, closed)):
            return
        if cut.blank or not closed[0].startswith(_AS_IN_PROSE) or _ends_reasoning(cut.text, closed):
            cut.begin_anew(closed)


class _Cut:
    """A text on its way to be split: `read` characters of it are looked at."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.read = 0
        self.thoughts: list[str] = []
        self.blank = True  # nothing that can be seen is kept so far
        self.missing: set[str] = set()  # tags that come no more
        self._kept: list[str] = []
        self._at = self._seen = 0  # what is kept begins there; what is known to be blank ends there

    def reach(self, found: re.Match[str]) -> None:
        self.blank = self.blank and is_blank(self.text[self._seen : found.start()])
        self._seen = found.start()
        self.read = found.end()

    def block(self, opened: re.Match[str], closed: re.Match[str]) -> None:
        """What stands between them is reasoning."""
        if not self.blank:
            self._kept.append(self.text[self._at : opened.start()])
        self.thoughts.append(self.text[opened.end() : closed.start()])
        self._at = self.read = self._seen = closed.end()

    def endless(self, opened: re.Match[str]) -> None:
        """All is reasoning: what stood before has only led to it."""
        self.thoughts += [self._so_far(opened), self.text[opened.end() :]]
        self._kept, self._at, self.read = [], len(self.text), len(self.text)

    def begin_anew(self, closed: re.Match[str]) -> None:
        """What stood before is reasoning."""
        self.thoughts.append(self._so_far(closed))
        self._kept, self.blank = [], True
        self._at = self.read = self._seen = closed.end()

    def skip_fence(self, marker: str) -> None:
        """What stands in a block of code is text."""
        if marker in self.missing:
            return
        end = re.compile(rf"^[ \t]*{re.escape(marker)}", re.MULTILINE).search(self.text, self.read)
        if end is None:
            self.missing.add(marker)
            return
        self.read = end.end()

    def all_in(self, closed: re.Match[str]) -> bool:
        """Whether a block that begins the text is all of it."""
        return self.blank and not self.thoughts and is_blank(self.text[closed.end() :])

    def rest(self) -> str:
        return "".join([*self._kept, self.text[self._at :]])

    def _so_far(self, found: re.Match[str]) -> str:
        return "".join([*self._kept, self.text[self._at : found.start()]])


def _begins_line(text: str, at: int) -> bool:
    return not text[max(0, at - _NEAR) : at].rpartition("\n")[2].strip()


def _is_quoted(text: str, tag: re.Match[str]) -> bool:
    around = {text[tag.start() - 1 : tag.start()], text[tag.end() : tag.end() + 1]}
    return around <= _QUOTES


def _goes_on_as_prose(text: str, at: int, *, at_start: bool) -> bool:
    """Whether a sentence goes on behind a tag; a thought would begin, in the middle of a text on a new line."""
    behind = text[at : at + _NEAR]
    if not at_start:
        return not behind.lstrip(" \t").startswith(("\n", "\r"))
    begun = behind.lstrip(" \t")[:1]
    return begun in _POINTS or (behind[:1] in _SPACES and begun.islower())


def _is_mention(text: str, opened: re.Match[str], closed: re.Match[str], begins_line: bool) -> bool:
    """Whether a pair is spoken of: both stand as words of a sentence, as in "<think> and </think>"."""
    between = text[opened.end() : closed.start()]
    words = between.strip()
    apart = (between[:1] in _SPACES and between[-1:] in _SPACES) or not any(map(str.isalnum, words))
    if "\n" in between or not apart:
        return False
    before = text[max(0, opened.start() - _NEAR) : opened.start()].rstrip(" \t")
    if begins_line:
        return words.casefold() in _BETWEEN_TWO
    return before[-1:].isalnum() or before[-1:] in _PAUSES


def _ends_reasoning(text: str, closed: re.Match[str]) -> bool:
    """Whether a tag that nothing opened looks like an end, and not like a word of a sentence."""
    before = text[max(0, closed.start() - _NEAR) : closed.start()].rpartition("\n")[2]
    after = text[closed.end() : closed.end() + _NEAR]
    behind = after.lstrip(" \t")[:1]
    joined_to_a_word = not before[-1:].isspace()
    if not before.strip() or behind in ("\n", "\r") or joined_to_a_word:
        return True
    if not behind or after[:1] == behind:
        return bool(behind) and behind not in _POINTS
    return before.rstrip()[-1:] in _SENTENCE_ENDS and not behind.islower()


def tags_of(setting: str | Sequence[str]) -> Tags:
    """Of a model's `reasoning_tags`: known, none, or [opening, closing]."""
    if isinstance(setting, str):
        return NONE if setting == "none" else KNOWN
    opened, closed = setting
    return _pair(opened, closed)


def unsettled(entry: Local | Vllm, template: str) -> list[str]:
    """A sentence where a chat template speaks of thinking, and the model's entry does not say what is wanted."""
    told = entry.model_fields_set & {"reasoning_tags", "reasoning_parser"}
    sign = _THINKING.search(template) or KNOWN.mentioned(template)
    if sign is None or told or entry.chat_template_kwargs:
        return []
    parser = " or a reasoning_parser" if isinstance(entry, Vllm) else ""
    return [
        f"its chat template speaks of thinking ({sign[0]}), and the spec does not say whether the model shall: give "
        "chat_template_kwargs by the template's own names, such as {enable_thinking: false}, or where it shall think, "
        f"reasoning_tags: known{parser}"
    ]


def no_answer(
    thought: str | None, *, cut: bool, word: str | None, cost_usd: float | None = None, full: int | None = None
) -> Failure:
    """The failure of a reply whose text is empty, with what to change where something can be.

    `full` are the tokens that the model can hold, where prompt and reply reached them.
    """
    told = f" (finish_reason {word})" if word else ""
    if cut and full is not None:
        detail = (
            f"the reply has no text{told}; the {full} tokens that are read together with the prompt ended before the "
            "reasoning did, and a higher max_tokens gives no more: let it think less"
        )
    elif cut:
        detail = f"the reply has no text{told}; all of max_tokens went into reasoning: raise it"
    elif ending_of(word) is Ending.TOOL:
        detail = f"the reply has no text{told}: the model called a tool instead, and it was given none"
    elif thought:
        detail = f"the reply has no text{told}: the reasoning never came to an answer"
    else:
        detail = f"the reply has no text{told}: the model ended its turn without a word"
    return Failure(FailureKind.EMPTY, detail, cost_usd, word)


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: spaces, control characters, and what only directs other letters."""
    if text[:1].isalnum() and text[:1] not in _FILLERS:  # as nearly always
        return False
    return all(map(_is_unseen, text))


def _is_unseen(letter: str) -> bool:
    return unicodedata.category(letter) in _UNSEEN or letter in _FILLERS or _VARIES.match(letter) is not None


class Wording:
    """Tokens as text. A decoder leaves special tokens out, and in some families the tags of reasoning are special."""

    def __init__(self, tokenizer: Any, tags: Tags) -> None:
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})  # not every special one has a role and a name
        special = sorted({*tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)})
        tokens = list(zip(special, map(str.casefold, tokenizer.convert_ids_to_tokens(special)), strict=True))
        self._signs = {number for number, token in tokens if token in tags.signs}
        self._silent = {number for number, token in tokens if token not in {*tags.signs, *_BESIDE_CHANNELS}}
        self._tags = tags
        self._end = max((len(sign.encode()) for sign in tags.signs), default=0) + _AROUND  # tokens: of a byte or more
        self._opened = lru_cache(maxsize=1024)(self._opened_by)  # most prompts end alike

    def text(self, tokens: Sequence[int]) -> str:
        """Without special tokens, but for the tags."""
        if self._signs.isdisjoint(tokens):
            return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))
        heard = [token for token in tokens if token not in self._silent]
        return str(self._tokenizer.decode(heard, skip_special_tokens=False))

    def opened(self, prompt: Sequence[int]) -> str:
        """What the end of a prompt opens, for `Tags.split`."""
        return self._opened(tuple(prompt[-self._end :]))

    def _opened_by(self, end: tuple[int, ...]) -> str:
        return self._tags.opened(str(self._tokenizer.decode(list(end), skip_special_tokens=False)))


def _by_family(text: str) -> tuple[list[str], str] | None:
    """What marks reasoning by other means than a pair of tags."""
    return _by_channel(text) or _by_words(text)


def _by_words(text: str) -> tuple[list[str], str] | None:
    """Granite's two sentences; the first alone opens nothing where its line goes on."""
    begun = _GRANITE_THINKS.match(text)
    if begun is None:
        return None
    said = _GRANITE_SAYS.search(text, begun.end())
    if said is None:
        return ([text[begun.end() :]], "") if text[begun.end() :].lstrip(" \t").startswith("\n") else None
    return [text[begun.end() : said.start()]], text[said.end() :]


def _by_channel(text: str) -> tuple[list[str], str] | None:
    """gpt-oss' channels: what is final is the answer, all else is reasoning."""
    finals = list(_FINAL.finditer(text))
    if finals:
        answer = _CONTROL.split(text[finals[-1].end() :], maxsplit=1)[0]
        return [_plain(text[: finals[-1].start()])], answer
    if _CHANNEL in text and text.lstrip().startswith((_CHANNEL, "<|start|>")):
        return [_plain(text)], ""
    unmarked = _HARMONY_UNMARKED.match(text)
    if unmarked is None:
        return None
    thought, final, answer = text.removeprefix("analysis").rpartition("assistantfinal")
    return ([thought], answer) if final else ([answer], "")


def _plain(text: str) -> str:
    return _CONTROL.sub("", _HEADER.sub("\n", text))


def _unwrapped(answer: str) -> str:
    """The answer in tags of its own without them; where more than it is in the text, the text is left as it is."""
    folded = answer.casefold()
    for opened, closed in _AROUND_THE_ANSWER:
        opened, closed = opened.casefold(), closed.casefold()
        if folded.startswith(opened) and len(folded) == len(answer):
            end = folded.find(closed)
            whole = end in (-1, len(answer) - len(closed))  # cut, it has no end
            return answer[len(opened) : end if end >= 0 else None].strip() if whole else answer
    return answer


def _seen(text: str) -> str:
    """From the first letter on that can be seen."""
    return text[next((at for at, letter in enumerate(text) if not is_blank(letter)), len(text)) :]


@lru_cache(maxsize=64)
def _closing_kin(tag: str) -> tuple[str, ...]:
    names = next((names for names in _KIN if tag[1:-1] in names), ())
    return tuple(f"</{name}>" for name in names if name != tag[1:-1])


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """The longest that fits, whatever its case and its attributes; never, where there are none."""
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(_written, longest_first)) or r"(?!)", _FLAGS)


def _written(tag: str) -> str:
    """As a pattern."""
    parts = _TAG.fullmatch(tag)
    if parts is None:
        return re.escape(tag)
    slash, name = parts.groups()
    return rf"<[ \t]{{0,4}}{slash}[ \t]{{0,4}}{re.escape(name)}{'' if slash else _ATTRIBUTES}\s*>"


def _bare(tag: str) -> str:
    """Without attributes, in small letters."""
    parts = _TAG.fullmatch(tag)
    return (f"<{parts[1]}{parts[2]}>" if parts else tag).casefold()


KNOWN = Tags()
NONE = Tags((), harmony=False)


@lru_cache(maxsize=64)
def _pair(opened: str, closed: str) -> Tags:
    return Tags([(opened, closed)], harmony=False)
