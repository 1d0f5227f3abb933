"""Whether a tokenizer knows words, and reads them as its file says.

One whose files are missing is made all the same by transformers, with special tokens alone, and every text is the same
unknown word to it: a model would speak, and a reader read, and all of it would be noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from emoray.hosts.weights import file_of
from emoray.reasons import is_failure

NO_WORDS = (
    "its tokenizer knows no words, and all texts are alike to it; give the files of its vocabulary too "
    "(tokenizer.json, or the vocab.txt, vocab.json with merges.txt, or tokenizer.model that its class reads)"
)
_PLAIN = "what a day it was and what a night in the house of the old man"
_ELSEWHERE = (  # for vocabularies of other languages
    "今天天气很好，我们去山里看看朋友",
    "сегодня был хороший день, и мы видели старого друга",
    "كان اليوم جميلا ورأينا صديقا قديما في البيت",
    "आज का दिन अच्छा था और हम पुराने मित्र से मिले",
    "今日はいい日で、古い友だちに会いました",
    "오늘은 좋은 날이었고 우리는 오랜 친구를 만났다",
)
_TAIL = 8  # tokens: a setting of the class may write the first word otherwise
_FEWEST = 4  # different tokens of some words; without a vocabulary there are 0, 1 (unknown) or 2 (and where one begins)


def knows_words(tokens_of: Callable[[str], Sequence[int]]) -> bool:
    """By the tokens of plain words of some language, without those that are put around every text.

    What cannot read such a text is told of where it is used.
    """
    try:
        return any(len(set(tokens_of(text))) >= _FEWEST for text in (_PLAIN, *_ELSEWHERE))
    except BaseException as wrong:  # somebody's code, or no token for what is unknown
        if not is_failure(wrong):
            raise
        return True


def misread(tokenizer: Any, model: str, revision: str | None) -> str | None:
    """Why a tokenizer is not the one of its tokenizer.json, as the end of a sentence; None where it is, or has none.

    transformers makes it anew by the class that tokenizer_config.json names, from the words of that file: with another
    family's class, spaces are lost or words are unknown, and nothing is said.
    """
    try:
        if _reads_as_written(tokenizer, model, revision):
            return None
    except BaseException as wrong:  # what cannot be compared is no objection
        if not is_failure(wrong):
            raise
        return None
    kind = type(tokenizer).__name__
    return (
        f"its tokenizer_config.json makes a {kind} of it, which reads plain words otherwise than its tokenizer.json; "
        "name the tokenizer_class that belongs to it, or PreTrainedTokenizerFast, in a copy"
    )


def _reads_as_written(tokenizer: Any, model: str, revision: str | None) -> bool:
    """The end of a plain text; somebody's own class may mean to read otherwise."""
    file = file_of(model, revision, "tokenizer.json")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if file is None or backend is None or type(tokenizer).__module__.startswith("transformers_modules."):
        return True
    own = type(backend).from_file(str(file))
    own.no_truncation()
    own.no_padding()
    written = own.encode(_PLAIN, add_special_tokens=False).ids
    read = list(tokenizer(_PLAIN, add_special_tokens=False)["input_ids"])
    return bool(read[-_TAIL:] == written[-_TAIL:])
