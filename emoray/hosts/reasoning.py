"""Reasoning inside an answer: model families mark it with tags of their own, and a reader must not read it.

One rule for every host. What stands in a pair of tags at the beginning, and what stands before a closing tag that
nothing opened (the chat template did), is reasoning; so is a block of its own lines further down. What opens at the
beginning and never closes leaves no answer. A tag that is mentioned in the middle of a line is part of the answer.
Where the prompt is ours and its end has opened a tag (DeepSeek R1's template does), the answer goes on from there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from emoray.spec import Local, Vllm
from emoray.study.outcomes import Failure, FailureKind

_NAMES = (
    *("think", "thinking", "thought", "thoughts", "reasoning", "reason", "reflection", "scratchpad"),
    *("seed:think", "mm:think", "longcat_think", "antThinking", "ant_thinking", "inner_thoughts"),
)
_KNOWN = (
    *((f"<{name}>", f"</{name}>") for name in _NAMES),  # DeepSeek, Qwen, GLM, MiniMax, EXAONE, Seed, Hunyuan, …
    ("[THINK]", "[/THINK]"),  # Mistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("◁think▷", "◁/think▷"),  # Kimi
)
_AROUND_THE_ANSWER = (  # where reasoning came before
    *((f"<{name}>", f"</{name}>") for name in ("answer", "response", "output")),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|START_TEXT|>", "<|END_TEXT|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
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
_QUOTES = frozenset("`'\"‘’“”()")


class Tags:
    """Which tags mark reasoning; none: a text is left alone."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = _KNOWN, *, harmony: bool = True) -> None:
        both = list(pairs)
        texts = (*(tag for pair in both for tag in pair), *([_CHANNEL] if harmony else []))
        self.signs = frozenset(map(str.casefold, texts))
        self._closing = {opened.casefold(): closed for opened, closed in both}
        self._harmony = harmony
        self._starts = {text[0] for text in texts}
        self._any = _any_of(texts)
        self._opening = _any_of(opened for opened, _ in both)
        self._lonely = _any_of(closed for _, closed in both)
        self._last = re.compile(rf"(?:{self._opening.pattern})\s*\Z", _FLAGS)
        self._line = re.compile(rf"^[ \t]*({self._opening.pattern})", _FLAGS | re.MULTILINE)

    def opened(self, prompt: str) -> str:
        """What the end of a prompt opens: its last tag and what stands behind it; "" where it opens none."""
        found = self._last.search(prompt) or (_HEADED.search(prompt) if self._harmony else None)
        return found[0] if found else ""

    def split(self, text: str, opened: str = "") -> tuple[str | None, str]:
        """(the reasoning, the answer); a text without reasoning comes back as it is.

        `opened` is what the end of its prompt opened: the text goes on from there, unless it opens one itself.
        """
        if opened and not self._opens(text):
            text = opened + text
        if not self._closing or not self._may_reason(text):
            return None, text
        found = (_by_channel(text) if self._harmony else None) or self._by_tags(text)
        if found is None:
            return None, text
        thoughts, answer = found
        return "\n\n".join(filter(None, map(str.strip, thoughts))) or None, _unwrapped(answer.strip())

    def _opens(self, text: str) -> bool:
        begun = text.lstrip()
        return bool(self._opening.match(begun)) or (self._harmony and begun.startswith((_CHANNEL, "<|start|>")))

    def _may_reason(self, text: str) -> bool:
        """Of most texts a look at single letters tells that they do not."""
        if any(start in text for start in self._starts) and self._any.search(text):
            return True
        return self._harmony and text.startswith("analysis")

    def mentioned(self, text: str) -> re.Match[str] | None:
        """The first tag in a text, wherever it stands."""
        return self._any.search(text)

    def _by_tags(self, text: str) -> tuple[list[str], str] | None:
        thoughts: list[str] = []
        rest = text
        while opened := self._opening.match(rest.lstrip()):
            rest = rest.lstrip()
            closed = _any_of([self._closing[opened[0].casefold()]]).search(rest, opened.end())
            thoughts.append(rest[opened.end() : closed.start() if closed else None])
            rest = rest[closed.end() :] if closed else ""
        while closed := self._never_opened(rest):
            thoughts.append(rest[: closed.start()])
            rest = rest[closed.end() :]
        blocks, rest = self._blocks(rest)
        return ([*thoughts, *blocks], rest) if thoughts or blocks else None

    def _blocks(self, text: str) -> tuple[list[str], str]:
        """(what stands from a tag that begins a line to the one that closes it, the rest)."""
        thoughts: list[str] = []
        kept: list[str] = []
        at, endless = 0, set[str]()
        for opened in self._line.finditer(text):
            tag = opened[1].casefold()
            if opened.start() < at or tag in endless:
                continue
            closed = _any_of([self._closing[tag]]).search(text, opened.end())
            if closed is None:
                endless.add(tag)
                continue
            thoughts.append(text[opened.end() : closed.start()])
            kept.append(text[at : opened.start()])
            at = closed.end()
        return thoughts, "".join([*kept, text[at:]])

    def _never_opened(self, text: str) -> re.Match[str] | None:
        """A closing tag before which nothing opened, unless it is quoted."""
        for closed in self._lonely.finditer(text):
            opened = next(one for one, other in self._closing.items() if other.casefold() == closed[0].casefold())
            around = {text[closed.start() - 1 : closed.start()], text[closed.end() : closed.end() + 1]}
            if opened not in text[: closed.start()].casefold() and not around <= _QUOTES:
                return closed
        return None


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


def no_answer(thought: str | None, *, cut: bool, word: str | None, cost_usd: float | None = None) -> Failure:
    """The failure of a reply whose text is empty, with what to change where something can be."""
    told = f" (finish_reason {word})" if word else ""
    if cut:
        detail = f"the reply has no text{told}; all of max_tokens went into reasoning: raise it"
    elif thought:
        detail = f"the reply has no text{told}: the reasoning never came to an answer"
    else:
        detail = f"the reply has no text{told}: the model ended its turn without a word"
    return Failure(FailureKind.EMPTY, detail, cost_usd, word)


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: spaces, control characters, and what only directs other letters."""
    return all(unicodedata.category(letter) in _UNSEEN for letter in text)


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
    for opened, closed in _AROUND_THE_ANSWER:
        if answer.startswith(opened):
            return answer.removeprefix(opened).removesuffix(closed).strip()
    return answer


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """The longest that fits, whatever its case; never, where there are none."""
    longest_first = sorted(map(re.escape, texts), key=len, reverse=True)
    return re.compile("|".join(longest_first) or r"(?!)", _FLAGS)


KNOWN = Tags()
NONE = Tags((), harmony=False)


@lru_cache(maxsize=64)
def _pair(opened: str, closed: str) -> Tags:
    return Tags([(opened, closed)], harmony=False)
