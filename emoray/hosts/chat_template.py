"""A model's chat template: what turns messages into the tokens that the model was taught to answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from emoray.hosts import HostDown

_PROBE = "kindly-sagacious-ostrich"  # no template says this of itself
_QUESTION = [{"role": "user", "content": "?"}]
_TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>")  # Llama 3's, ChatML's, Gemma's


class ChatTemplate:
    """How a tokenizer writes a chat: by its Jinja template or the spec's own, or by code of its own (Mistral's tekken,
    DeepSeek V3.2's); a base model has neither and is given the bare texts.
    """

    def __init__(self, tokenizer: Any, text: str | None = None, kwargs: Mapping[str, Any] | None = None) -> None:
        """`text` stands in for the model's own template, `kwargs` are for the template to read.

        HostDown where no question can be written, or a keyword would change nothing.
        """
        self._tokenizer = tokenizer
        self._kwargs = dict(kwargs or {})
        self._template = text or _own_template(tokenizer)
        self._by_code = not getattr(tokenizer, "chat_template", None) and _has_code(tokenizer)
        if self._by_code and text:
            raise HostDown(f"{_class(tokenizer)} writes chats by code of its own; leave chat_template out")
        self._bare = not self._template and not self._by_code
        self._check_kwargs()
        self._knows_system = not self._bare and self._shows_system()
        self.sha = None if self._bare else hashlib.sha256(self._identity().encode()).hexdigest()[:16]

    def tokens(self, chat: list[dict[str, str]]) -> list[int]:
        """The prompt, up to where the model's turn begins."""
        if self._bare:
            return list(self._tokenizer.encode(_joined(chat)))
        return self._applied(chat if self._knows_system else [{"role": "user", "content": _joined(chat)}])

    def _applied(self, chat: list[dict[str, str]]) -> list[int]:
        return list(self._written(chat, add_generation_prompt=True, return_dict=False))

    def _written(self, chat: list[dict[str, str]], **how: bool) -> Any:
        given = {} if self._by_code else {"chat_template": self._template}
        return self._tokenizer.apply_chat_template(chat, **given, **self._kwargs, **how)

    @property
    def text(self) -> str:
        """The template itself; "" where there is none, or code in its place."""
        return "" if self._by_code else self._template or ""

    def _check_kwargs(self) -> None:
        """A keyword with a typo would be passed over without a word."""
        if self._bare and self._kwargs:
            raise HostDown("it has no chat template that could read chat_template_kwargs; leave them out")
        for name in self._kwargs if self.text else ():
            if not re.search(rf"\b{re.escape(name)}\b", self.text):
                raise HostDown(
                    f"its chat template never reads {name!r} of chat_template_kwargs; correct it, or leave it out"
                )

    def _shows_system(self) -> bool:
        """Whether a system text reaches the model: some templates refuse the role, others drop it without a word."""
        try:
            return _PROBE in self._written([{"role": "system", "content": _PROBE}, *_QUESTION], tokenize=False)
        except Exception:  # a template is a program: it refuses a role by whatever it raises
            return False

    def _identity(self) -> str:
        """What decides how chats are written: the template, or whose code it is and how that writes a question."""
        try:
            question = self._applied(_QUESTION)
        except Exception as wrong:
            told = " ".join(str(wrong).split())
            raise HostDown(f"its chat template cannot write a question ({told}); correct it") from wrong
        told = json.dumps(self._kwargs, sort_keys=True) if self._kwargs else ""
        return f"{_class(self._tokenizer)} {question}" if self._by_code else f"{self._template}{told}"


def turn_ends(tokenizer: Any) -> list[int]:
    """The tokens that end a turn in families of chat models, where this vocabulary has them."""
    known = tokenizer.get_vocab()
    return [known[token] for token in _TURN_ENDS if token in known]


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


def _joined(chat: list[dict[str, str]]) -> str:
    return "\n\n".join(message["content"] for message in chat)
