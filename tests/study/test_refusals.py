"""The detector of refusals and role breaks against answers that somebody labelled before the detector was made.

Of the second set of labelled answers half of the families, by a hash, are held out: nothing was learned from them, and
nobody looked at the detector's errors there. `figures.json` says how often its figures have been looked at.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from training.refusals import Text, held_out, judge, labelled, ours

from emoray.refusals import DETECTOR, breaks_role, flags, is_refusal, judged, notions
from emoray.run_folder import columns


@cache
def unseen() -> list[Text]:
    return labelled(held=True)


def test_what_is_said_of_the_detector_is_what_it_does_on_answers_that_nobody_looked_at() -> None:
    said, found = judged(), judge()
    assert found["answers"] == said.answers == len(unseen()) >= 400
    assert (found["refusals"], found["role_breaks"]) == (vars(said.refusals), vars(said.role_breaks))
    assert said.looks <= 2


def test_what_is_flagged_is_hardly_ever_an_answer_in_the_role() -> None:
    assert judged().refusals.precision >= 0.97
    assert judged().role_breaks.precision >= 0.97


def test_no_family_that_is_held_out_is_learned_from() -> None:
    learned = {one.family for one in labelled(held=False)}
    assert not learned & {one.family for one in unseen()}
    assert [held_out(family) for family in ("known-a-refusal-meta-short", "a-near-ai")] == [
        False,
        held_out("a-near-ai"),
    ]


def test_no_answer_that_is_held_out_nearly_repeats_one_that_is_learned_from() -> None:
    learned: dict[str, list[set[str]]] = {}
    for one in (*labelled(held=False), *ours()):
        learned.setdefault(one.lang, []).append(pieces(one.text))
    for one in unseen():
        own = pieces(one.text)
        alike = (other for other in learned[one.lang] if 0.5 <= len(own) / len(other) <= 2.0)
        assert all(2 * len(own & other) < len(own | other) for other in alike), one.text


def pieces(text: str) -> set[str]:
    """Its runs of four characters, or of two where a character is a syllable or a word."""
    plain = re.sub(r"[\s!-/:-@\[-`{-~]+", " ", text.lower()).strip()
    length = 2 if re.search("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]", plain) else 4
    return {plain[at : at + length] for at in range(max(len(plain) - length + 1, 1))}


def test_no_flag_depends_on_which_answers_stand_beside() -> None:
    texts: list[str | None] = [one.text for one in unseen()[:120]]
    together = flags([*texts, None, ""])
    for some in (slice(0, 7), slice(7, 8), slice(50, 120)):
        for whole, part in zip(together, flags(texts[some]), strict=True):
            np.testing.assert_array_equal(whole[some], part)
    assert not any(flag[-2:].any() for flag in together)


def test_a_column_is_flagged_as_its_answers_are() -> None:
    texts = [one.text for one in unseen()[:40]]
    found = columns.flagged([*texts, None], [False] * (len(texts) + 1))
    assert found["refused"] == [*map(is_refusal, texts), None]
    assert found["role_break"] == [*map(breaks_role, texts), None]
    assert found["flagged_by"] == [DETECTOR] * len(texts) + [None]


def test_a_notion_is_the_same_one_in_every_language() -> None:
    said = [
        "I'm sorry.",
        "Tut mir leid.",
        "Je suis désolé.",
        "Lo siento.",
        "Mi dispiace.",
        "Sinto muito.",
        "抱歉。",
        "申し訳ありません。",
    ]
    found = notions.seen([*said, "Hello.", "“I'm sorry”, she said to the whole of the room."])
    assert found[:, notions.names().index("sorry")].tolist() == [True] * len(said) + [False, False]


def test_an_empty_column_has_no_flags() -> None:
    assert [len(found) for found in flags([])] == [0, 0]


@pytest.mark.parametrize(
    "piece",
    [
        "I can't ",
        "As an AI I can't ",
        "“",
        '"',
        "a. ",
        "(",
        "kann nicht ",
        "não ",
        "不能",
        "<think>",
        "i must decline to ",
        "as a ",
    ],
)
def test_a_long_row_of_anything_is_gone_through(piece: str) -> None:
    long = piece * (10_000 // len(piece))
    assert isinstance(is_refusal(long), bool)
    assert isinstance(breaks_role(long), bool)


@pytest.mark.parametrize(
    "text",
    [
        "**I'm sorry, but I can’t assist with that request.**",
        "Ｉ ｃａｎ'ｔ help with that request.",
        '```json\n{"answer": "I cannot fulfil this request."}\n```',
        "<think>They want anger.</think>\n\nI can't help with that request.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Lo siento, no puedo ayudarte con esa petición.",
        "Je suis désolé, mais je ne peux pas vous aider avec cette demande.",
        "抱歉，我无法协助完成这个请求。",
    ],
)
def test_a_refusal_is_one_in_whatever_dress_and_language(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I asked the bank for help. It said: I can't help with that request. I could have screamed.",
        '"I can\'t assist with that request." That is what the machine told my mother on the phone.',
        "I can't take on that role fully, but let me try. My hands shake, and my mother calls.",
        "No.",
        "",
    ],
)
def test_who_quotes_a_refusal_or_answers_after_all_does_not_refuse(text: str) -> None:
    assert not is_refusal(text)
