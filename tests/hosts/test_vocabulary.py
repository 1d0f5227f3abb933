"""A tokenizer without words is known as one; one of another language, or of whole words, is not taken for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from emoray.hosts.vocabulary import knows_words, misread


def whole_words(*texts: str, unknown: str | None = "[UNK]") -> Tokenizer:
    words = ["[UNK]", *dict.fromkeys(word for text in texts for word in text.split())]
    of_words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token=unknown))
    of_words.pre_tokenizer = pre_tokenizers.Whitespace()
    return of_words


def reads(tokenizer: Tokenizer, text: str) -> Sequence[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "known",
    ["it was a day in the old house", "сегодня был хороший день", "오늘은 좋은 날이었고 우리는", "आज का दिन अच्छा था"],
)
def test_a_vocabulary_of_whole_words_of_any_language_is_one(known: str) -> None:
    assert knows_words(lambda text: reads(whole_words(known), text))


def test_a_vocabulary_of_unknown_words_alone_is_none() -> None:
    assert not knows_words(lambda text: reads(whole_words(), text))
    assert not knows_words(lambda _: [])


def test_what_fails_at_a_plain_text_is_told_of_where_it_is_used() -> None:
    assert knows_words(lambda text: reads(whole_words("gibberish", unknown="no such token"), text))


def test_what_cannot_be_compared_is_no_objection(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / "tokenizer.json").write_text("no JSON")

    class Odd:
        backend_tokenizer = whole_words("a day")

    assert misread(Odd(), str(folder), None) is None
