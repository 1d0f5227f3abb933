"""A model's chat template: what turns messages into the tokens that the model was taught to answer.

A template is a program by another hand, and nothing tells what it does with a text but to look: at the start probes
are written by it, and what does not come out again is given in another form, or the model is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time
from itertools import dropwhile, takewhile
from typing import Any

from emoray.hosts.protocol import HostDown
from emoray.hosts.vocabulary import NO_WORDS, knows_words
from emoray.hosts.weights import processor_template
from emoray.reasons import is_failure, on_one_line

_PROBE, _OTHER = "kindly-sagacious-ostrich", "boldly-taciturn-heron"  # no template says these of itself
# what a template may cut off, escape or write small, and what a real prompt has; it begins and ends with a letter
_LONG = (
    f"{_PROBE}. A valence of -0.500 & an arousal of 1/2: isn't that 'sad'?\n\nSay \"No\" <or 50 %> {{twice}}; [x] *y* "
    f"\\n\n- Ärger, 悲しみ 🙂\n{'and so on, ' * 40}until the {_PROBE}"
)
_SHOWN = 160  # characters of a text, to a person
_TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>")  # Llama 3's, ChatML's, Gemma's
_PARTS_AS_TEXT = re.compile(r"""['"]type['"]\s*:\s*['"]text['"]""")  # a list written as Python or JSON has it

_Chat = list[dict[str, Any]]
_Form = Callable[[str], Any]


class BadChat(ValueError):
    """A chat that the template does not write as it is; the message is one sentence."""


class ChatTemplate:
    """How a tokenizer writes a chat: by its Jinja template or the spec's own, or by code of its own (Mistral's tekken,
    DeepSeek V3.2's); a base model has neither and is given the bare texts.
    """

    def __init__(
        self,
        tokenizer: Any,
        text: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        day: date | None = None,
    ) -> None:
        """`text` stands in for the model's own template, `kwargs` are for the template to read.

        HostDown where no question can be written, the tokenizer knows no words, or a keyword would change nothing.
        `day` is today to templates that tell the date, so that a run asks on each of its days what it asked on its
        first; None for the day of the call.
        """
        self._tokenizer = tokenizer
        self._kwargs = dict(kwargs or {})
        self._template = text or _own_template(tokenizer)
        self._now = datetime.combine(day or datetime.now(UTC).date(), time.min)
        self._by_code = not getattr(tokenizer, "chat_template", None) and _has_code(tokenizer)
        if self._by_code and text:
            raise HostDown(f"{_class(tokenizer)} writes chats by code of its own; leave chat_template out")
        self._bare = not self._template and not self._by_code
        self._check_words()
        self._check_kwargs()
        self._by_example = False  # whether prompts end as an assistant's turn begins, where the template does not say
        self.notes: list[str] = []  # sentences that whoever runs it should read
        if not self._bare:
            self._learn()
        elif ends := turn_ends(tokenizer):
            end = tokenizer.convert_ids_to_tokens(ends[0])
            self.notes.append(
                f"its vocabulary has {end}, which ends a turn of a chat, and it has no chat template, so it is given "
                "bare texts as a base model is; if it is a chat model, give its template"
            )
        self.sha = None if self._bare else hashlib.sha256(self._identity().encode()).hexdigest()[:16]

    def tokens(self, chat: list[dict[str, str]]) -> list[int]:
        """The prompt, up to where the model's turn begins; BadChat where not all of the chat comes out, or no tokenizer
        can read it.
        """
        if self._bare:
            return self._read(self._alone, _joined(chat))
        try:
            shaped = self._shaped(chat)
            if self._by_code:
                return self._begun_once(self._tokens_by_code(shaped))
            text = self._prompt(shaped)
        except Exception as wrong:  # a template is a program: it refuses a chat by whatever it raises
            raise BadChat(f"the chat template refuses this chat: {_line(wrong)}") from wrong
        _check_told(chat, text)
        return self._begun_once(self._read(self._ids, text))

    def ends(self) -> list[int]:
        """The tokens that end a turn: known ones that this vocabulary has, and what stands behind an answer."""
        return list(dict.fromkeys([*turn_ends(self._tokenizer), *self._behind_answers()]))

    def _learn(self) -> None:
        """In which form each role's text comes out, and whether the model's turn is begun."""
        self._user = self._user_form()
        if len({self._rendered(self._question(), add_generation_prompt=True) for _ in range(3)}) > 1:
            raise HostDown("its chat template writes one question in several ways, by chance; correct it")
        heard = _said("user", self._user(_OTHER))
        self._system = self._form(lambda text: [_said("system", text), heard])
        self._assistant = self._form(lambda text: [heard, _said("assistant", text)], _PROBE)
        with suppress(Exception):  # not every template writes a chat that it is not to go on with
            self._by_example = self._lacks_beginning()
        self._check_open()
        if self._by_example:
            self.notes.append(
                f"its chat template begins no answer; prompts end with {self._begun()!r}, as its answers begin"
            )

    def _user_form(self) -> _Form:
        form = self._form(lambda text: [_said("user", text)])
        if form is not None:
            return form
        self._check_unchanged()
        try:
            self._rendered([_said("user", _PROBE)], add_generation_prompt=True)
        except Exception as wrong:  # a template is a program: it refuses by whatever it raises
            told = " ".join(str(wrong).split())
            raise HostDown(f"its chat template cannot write a question ({told}); correct it") from wrong
        raise HostDown(
            "its chat template leaves out what the user says, given as a text and as a list of parts; correct it"
        )

    def _form(self, chat: Callable[[Any], _Chat], probe: str = _LONG) -> _Form | None:
        """The form in which the probe comes out of a chat: some templates refuse a role, others drop a text unsaid."""
        if self._by_code:  # the vendor's own; what it renders is for people, and may spell blanks as pieces
            probe = _PROBE
        for form in (_as_text, _as_parts):
            with suppress(Exception):  # a template is a program: it refuses a role by whatever it raises
                tried = chat(form(probe))
                written = self._rendered(tried, add_generation_prompt=tried[-1]["role"] == "user")
                wanted = [probe, _OTHER][: len(tried)]
                if all(_words(text) in _words(written) for text in wanted) and not _PARTS_AS_TEXT.search(written):
                    return form
        return None

    def _check_unchanged(self) -> None:
        """HostDown where a question comes out as another text."""
        form = self._form(lambda text: [_said("user", text)], _PROBE)
        if form is None:
            return
        written = _words(self._rendered([_said("user", form(_LONG))], add_generation_prompt=True))
        raise HostDown(
            f"its chat template changes what the user says, or cuts it: {_words(_LONG)[:_SHOWN]!r} became "
            f"{written[max(0, written.find(_PROBE)) :][:_SHOWN]!r}; correct it"
        )

    def _lacks_beginning(self) -> bool:
        """Whether an answer begins with something that the template does not write when told to begin one."""
        if self._by_code or self._assistant is None:
            return False
        chat = self._question()
        plain = self._rendered(chat)
        if plain != self._rendered(chat, add_generation_prompt=True):
            return False
        return self._up_to_answer(chat) != plain.rstrip(" ")

    def _check_open(self) -> None:
        """HostDown where the text ends before the answer begins: the model would have nothing to say.

        Some end each turn alike, the question's too (DialoGPT): there an answer follows the same end.
        """
        end = str(getattr(self._tokenizer, "eos_token", None) or "")
        if self._by_code or not end or not self._prompt(self._question()).rstrip().endswith(end):
            return
        with suppress(Exception):  # not every template writes a chat that it is not to go on with
            if self._assistant and self._up_to_answer(self._question()).rstrip().endswith(end):
                return
        raise HostDown(f"its chat template ends the text ({end}) where the answer begins; correct it")

    def _shaped(self, chat: list[dict[str, str]]) -> _Chat:
        if self._system is None:
            return [_said("user", self._user(_joined(chat)))]
        forms = {"system": self._system, "user": self._user}
        return [_said(message["role"], forms[message["role"]](message["content"])) for message in chat]

    def _prompt(self, chat: _Chat) -> str:
        return self._up_to_answer(chat) if self._by_example else self._rendered(chat, add_generation_prompt=True)

    def _tokens_by_code(self, chat: _Chat) -> list[int]:
        return list(self._written(chat, add_generation_prompt=True, return_dict=False))

    def _up_to_answer(self, chat: _Chat) -> str:
        """A chat that is answered, up to the answer. A space goes: in most vocabularies it is part of the next word."""
        return self._answered(chat).rpartition(_PROBE)[0].rstrip(" ")

    def _answered(self, chat: _Chat) -> str:
        assert self._assistant is not None
        return self._rendered([*chat, _said("assistant", self._assistant(_PROBE))])

    def _begun(self) -> str:
        """What is written to begin an answer."""
        chat = self._question()
        begun = self._prompt(chat)
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(begun, self._rendered(chat), strict=False))
        return begun[len(list(shared)) :]

    def _behind_answers(self) -> list[int]:
        """The special tokens right after an answer, but for those that begin one."""
        if self._bare or self._by_code or self._assistant is None:
            return []
        behind = dropwhile(self._is_blank, self._ids(self._answered(self._question()).rpartition(_PROBE)[2]))
        special = {*self._tokenizer.all_special_ids, *getattr(self._tokenizer, "added_tokens_decoder", {})}
        begins = set(self._ids(self._begun()))
        return [token for token in takewhile(special.__contains__, behind) if token not in begins]

    def _is_blank(self, token: int) -> bool:
        return not str(self._tokenizer.decode([token])).strip()

    def _question(self) -> _Chat:
        return [_said("user", self._user(_OTHER))]

    def _rendered(self, chat: _Chat, **how: bool) -> str:
        return str(self._written(chat, tokenize=False, **how))

    def _written(self, chat: _Chat, **how: bool) -> Any:
        given = {} if self._by_code else {"chat_template": self._template, "strftime_now": self._now.strftime}
        return self._tokenizer.apply_chat_template(chat, **given, **self._kwargs, **how)

    @property
    def text(self) -> str:
        """The template itself; "" where there is none, or code in its place."""
        return "" if self._by_code else self._template or ""

    def _check_words(self) -> None:
        if not self._by_code and not knows_words(self._ids):
            raise HostDown(NO_WORDS)

    def _check_kwargs(self) -> None:
        """A keyword with a typo would be passed over without a word."""
        if self._bare and self._kwargs:
            raise HostDown("it has no chat template that could read chat_template_kwargs; leave them out")
        for name in self._kwargs if self.text else ():
            if not re.search(rf"\b{re.escape(name)}\b", self.text):
                raise HostDown(
                    f"its chat template never reads {name!r} of chat_template_kwargs; correct it, or leave it out"
                )

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _read(self, reads: Callable[[str], list[int]], text: str) -> list[int]:
        try:
            return reads(text)
        except BaseException as wrong:  # somebody's code: one text is no reason to ask no other
            if not is_failure(wrong):
                raise
            raise BadChat(f"the tokenizer cannot read this chat: {_line(wrong)}") from wrong

    def _alone(self, text: str) -> list[int]:
        """A bare text. Some tokenizers write an end behind it, after which a model has nothing to say."""
        tokens = list(self._tokenizer.encode(text))
        ends = {getattr(self._tokenizer, f"{name}_token_id", None) for name in ("eos", "sep")}
        while len(tokens) > 1 and tokens[-1] in ends:
            tokens.pop()
        return tokens

    def _begun_once(self, tokens: list[int]) -> list[int]:
        """Where the template writes a beginning of the text and something else writes another, one is left."""
        begin = getattr(self._tokenizer, "bos_token_id", None)
        while begin is not None and tokens[:2] == [begin, begin]:
            tokens = tokens[1:]
        return tokens

    def _identity(self) -> str:
        """What decides how chats are written: the template, or whose code it is and how that writes a question."""
        told = [json.dumps(self._kwargs, sort_keys=True)] if self._kwargs else []
        if self._by_code:
            return " ".join([_class(self._tokenizer), str(self._tokens_by_code([_said("user", "?")])), *told])
        unusual = [form.__name__ for form in (self._user, self._system or _as_text) if form is not _as_text]
        return "\n".join([str(self._template), *unusual, *(["by example"] if self._by_example else []), *told])


def borrow_template(tokenizer: Any, model: str, revision: str | None) -> None:
    """Gives a tokenizer that has none its processor's; of a model that is a folder, or a hub id."""
    if not getattr(tokenizer, "chat_template", None) and not _has_code(tokenizer):
        tokenizer.chat_template = processor_template(model, revision)


def turn_ends(tokenizer: Any) -> list[int]:
    """The tokens that end a turn in families of chat models, where this vocabulary has them."""
    known = tokenizer.get_vocab()
    return [known[token] for token in _TURN_ENDS if token in known]


def _said(role: str, content: object) -> dict[str, Any]:
    return {"role": role, "content": content}


def _check_told(chat: Sequence[Mapping[str, str]], prompt: str) -> None:
    """BadChat where a text is not in its prompt: what a template leaves out or changes may hang on each text."""
    written = _words(prompt)
    for message in chat:
        if (said := _words(message["content"])) not in written:
            raise BadChat(f"the chat template leaves out or changes what the {message['role']} says: {said[:_SHOWN]!r}")


def _line(wrong: BaseException) -> str:
    return on_one_line(wrong, _SHOWN)


def _words(text: str) -> str:
    """Some templates write one blank or line break for several."""
    return " ".join(text.split())


def _as_text(text: str) -> str:
    return text


def _as_parts(text: str) -> list[dict[str, str]]:
    """As templates of models that also see want it."""
    return [{"type": "text", "text": text}]


def _own_template(tokenizer: Any) -> str | None:
    """The default of several: Command R's and Hermes' have names."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as wrong:
        named = ", ".join(sorted(tokenizer.chat_template))
        hint = "give one as chat_template (host vllm)"
        raise HostDown(f"of its chat templates ({named}) none is the default; {hint}") from wrong


def _has_code(tokenizer: Any) -> bool:
    return bool(type(tokenizer).apply_chat_template.__module__ != "transformers.tokenization_utils_base")


def _class(tokenizer: Any) -> str:
    return type(tokenizer).__qualname__.rpartition(".")[2]


def _joined(chat: Sequence[dict[str, str]]) -> str:
    return "\n\n".join(message["content"] for message in chat)
