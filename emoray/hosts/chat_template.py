"""A model's chat template: what turns messages into the tokens that the model was taught to answer."""

from __future__ import annotations

import hashlib
from typing import Any

_PROBE = "kindly-sagacious-ostrich"  # no template says this of itself


class ChatTemplate:
    """The template of a Hugging Face tokenizer, or the spec's own text in its place; a base model may have none."""

    def __init__(self, tokenizer: Any, text: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = text or tokenizer.chat_template
        self.sha = hashlib.sha256(str(self._template).encode()).hexdigest()[:16] if self._template else None
        self._knows_system = self._template is not None and self._shows_system()

    def tokens(self, chat: list[dict[str, str]]) -> list[int]:
        """The prompt, up to where the model's turn begins."""
        if not self._template:
            return list(self._tokenizer.encode(_joined(chat)))
        return self._applied(chat if self._knows_system else [{"role": "user", "content": _joined(chat)}])

    def _applied(self, chat: list[dict[str, str]]) -> list[int]:
        return list(
            self._tokenizer.apply_chat_template(
                chat, chat_template=self._template, add_generation_prompt=True, return_dict=False
            )
        )

    def _shows_system(self) -> bool:
        """Whether a system text reaches the model: some templates refuse the role, others drop it without a word."""
        chat = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "?"}]
        try:
            return _PROBE in self._tokenizer.apply_chat_template(chat, chat_template=self._template, tokenize=False)
        except Exception:  # a template is a program: it refuses a role by whatever it raises
            return False


def _joined(chat: list[dict[str, str]]) -> str:
    return "\n\n".join(message["content"] for message in chat)
