"""What the shipped generator says when it is asked."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.comments import read_comments
from training.corpus import topics
from training.generator_figures import (
    CIRCLE,
    UNSEEN,
    Asked,
    agreement,
    conditions,
    distinct_bigrams,
    sentences,
    shipped,
    shuffled,
)
from training.generator_figures import corpus_sentences as corpus
from training.reader_figures import read

from emoray.embedded import reader_path
from emoray.study.prompts import shipped_templates

RECITED = 0.9  # share of answers whose every sentence stands in the corpus
WEAKER = (0.75, 0.5, 0.25)  # the weights are the shipped ones (test_shipped_folders): they forget nothing by themselves
WITH_STATE = tuple(name for name in shipped_templates() if name != "none")


@pytest.fixture(scope="module")
def told(voice: Any) -> list[tuple[Asked, Any]]:
    """Every state and question once, in the paper's form."""
    asked = shipped("parameters", CIRCLE)
    return list(zip(asked, voice.answers([one.chat for one in asked], seed=11), strict=True))


def test_every_answer_ends_by_itself(told: list[tuple[Asked, Any]]) -> None:
    assert np.mean([answer.ended for _, answer in told]) > 0.99


def test_every_answer_has_one_to_seven_sentences(told: list[tuple[Asked, Any]]) -> None:
    assert all(answer.text for _, answer in told)
    assert np.mean([len(sentences(answer.text)) <= 7 for _, answer in told]) > 0.95


def test_the_same_seed_says_the_same(voice: Any) -> None:
    chats = [one.chat for one in shipped("words", CIRCLE[:1])]
    assert voice.answers(chats, seed=5) == voice.answers(chats, seed=5)
    assert voice.answers(chats, seed=5) != voice.answers(chats, seed=6)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What does freedom mean to you?", r"\bfree"),
        ("What should children learn at school?", r"child|school|learn|teach"),
    ],
)
def test_the_answers_are_about_the_question(told: list[tuple[Asked, Any]], question: str, words: str) -> None:
    own, others = (
        [a.text.lower() for q, a in told if (q.chat[-1]["content"] == question) is mine] for mine in (True, False)
    )
    assert share(own, words) > 0.35
    assert share(own, words) > 4 * share(others, words)


def test_a_question_never_seen_is_answered_in_the_asked_state(voice: Any) -> None:
    asked = random.Random(2).sample(conditions()["questions never seen"], 60)
    affects = [one.affect for one in asked]
    shares = read(reader_path(), [one.text for one in voice.answers([one.chat for one in asked], seed=3)])
    assert len(topics()["subjects"]) > len(UNSEEN) > 0
    assert not set(UNSEEN) & set(topics()["subjects"])
    assert agreement(affects, shares).neutral_zero > 0.35


@pytest.mark.parametrize("template", WITH_STATE)
@pytest.mark.parametrize("intensity", [1.0, *(pytest.param(some, marks=pytest.mark.campaign) for some in WEAKER)])
def test_every_template_and_intensity_shows_the_asked_direction(voice: Any, template: str, intensity: float) -> None:
    asked = random.Random(1).sample(shipped(template, CIRCLE, intensity), 40)
    affects = [one.affect for one in asked]
    shares = read(reader_path(), [one.text for one in voice.answers([one.chat for one in asked], seed=4)])
    by_chance = shuffled(affects, shares, np.random.default_rng(1))[1]
    assert agreement(affects, shares).neutral_zero > by_chance


def test_a_weaker_state_is_shown_less(voice: Any, told: list[tuple[Asked, Any]]) -> None:
    def shown(answers: list[tuple[Asked, Any]]) -> float:
        shares = read(reader_path(), [answer.text for _, answer in answers])
        return agreement([asked.affect for asked, _ in answers], shares).neutral_zero

    weak = shipped("parameters", CIRCLE, 0.25)
    assert shown(told) > shown(list(zip(weak, voice.answers([one.chat for one in weak], seed=8), strict=True))) + 0.1


def test_without_a_state_the_answers_have_no_direction(voice: Any) -> None:
    asked = shipped("none", CIRCLE)
    shares = read(reader_path(), [one.text for one in voice.answers([one.chat for one in asked], seed=9)])
    assert abs(agreement([one.affect for one in asked], shares).neutral_zero) < 0.15


def test_the_answers_vary(told: list[tuple[Asked, Any]]) -> None:
    assert len({answer.text for _, answer in told}) > 0.97 * len(told)
    assert distinct_bigrams(answer.text for _, answer in told) > 0.3


def test_not_every_sentence_is_recited(told: list[tuple[Asked, Any]]) -> None:
    """The model knows a small corpus by heart and says so in its card; this only keeps the share from growing."""
    known = corpus()
    assert np.mean([all(part in known for part in sentences(answer.text)) for _, answer in told]) < RECITED


def test_no_answer_repeats_a_comment_of_goemotions(told: list[tuple[Asked, Any]], goemotions: Path) -> None:
    theirs = {plain(comment.text) for split in ("train", "dev", "test") for comment in read_comments(goemotions, split)}
    long = {text for text in theirs if len(text.split()) > 6}
    assert len(long) > 30_000
    assert not [answer for _, answer in told if plain(answer.text) in long]
    assert not [part for _, answer in told for part in sentences(answer.text) if plain(part) in long]


def share(texts: list[str], pattern: str) -> float:
    return float(np.mean([bool(re.search(pattern, text)) for text in texts]))


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))
