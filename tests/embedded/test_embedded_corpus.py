"""The authored corpus: whole, decent, and in the project's own words."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from training.comments import read_comments
from training.corpus import Subject, Tone, compose, every_expansion, expand, matter_of_fact, tones, topics
from training.generator_figures import sentences

from emoray.study.circumplex import Affect
from emoray.study.prompts import shipped_questions

ALL = (*tones(), matter_of_fact())
COARSE = ("fuck", "shit", "damn", "bitch", "crap", "bastard")


def named(tone: Tone) -> str:
    return f"{tone.angle:.0f}°" if tone.angle is not None else "matter of fact"


def test_there_is_a_tone_for_each_thirty_degrees() -> None:
    assert [tone.angle for tone in tones()] == [30.0 * number for number in range(12)]


@pytest.mark.parametrize("tone", tones(), ids=named)
def test_every_tone_has_forty_openers_and_thirty_closers(tone: Tone) -> None:
    assert len(set(tone.openers)) >= 40
    assert len(set(tone.closers)) >= 30
    assert len(set(tone.mild)) >= 10


@pytest.mark.parametrize("tone", ALL, ids=named)
def test_every_tone_has_lines_about_every_shipped_question_and_about_anything(tone: Tone) -> None:
    assert all(len(set(tone.about[question])) >= 6 for question in shipped_questions())
    assert len(tone.about["anything"]) >= 12
    assert all("{topic}" in line for line in tone.about["anything"])


def test_every_shipped_question_has_phrases_and_other_wordings() -> None:
    assert set(topics()["phrases"]) == set(topics()["paraphrases"]) == set(shipped_questions())


def test_no_sentence_is_written_twice() -> None:
    counts = Counter(line for tone in ALL for line in (*tone.openers, *tone.closers, *tone.mild))
    assert len(counts) > 1000
    assert not [line for line, count in counts.items() if count > 1]


def test_the_corpus_is_decent() -> None:
    text = " ".join(line.lower() for tone in ALL for line in tone.sentences())
    assert len(text) > 50_000
    assert not [word for word in COARSE if re.search(rf"\b{word}", text)]


def test_a_choice_offers_each_of_its_alternatives_once() -> None:
    assert sorted(every_expansion("I'm (so |)(glad|happy).")) == [
        "I'm glad.", "I'm happy.", "I'm so glad.", "I'm so happy.",
    ]  # fmt: skip
    assert expand("I (love|adore) it (a lot|).", random.Random(1)) in set(
        every_expansion("I (love|adore) it (a lot|).")
    )


def test_no_choice_and_no_blank_is_left_in_an_answer() -> None:
    rng = random.Random(2)
    subject = Subject("What about bees?", "anything", ("bees",))
    answers = [compose(Affect.at(rng.uniform(0, 360), rng.random()), subject, rng) for _ in range(500)]
    assert not [answer for answer in answers if re.search(r"[(){}|]|  | [,.!?]", answer)]
    assert not [answer for answer in answers if answer[0].islower()]


def test_without_a_state_an_answer_is_matter_of_fact() -> None:
    subject = Subject("What about bees?", "anything", ("bees",))
    plain = {text.replace("{topic}", "bees") for s in matter_of_fact().sentences() for text in every_expansion(s)}
    known = {part for text in plain for part in sentences(text[0].upper() + text[1:])}
    said = sentences(compose(None, subject, random.Random(4)))
    assert said
    assert set(said) <= known


def test_no_line_of_the_corpus_stands_in_goemotions(goemotions: Path) -> None:
    theirs = {plain(comment.text) for split in ("train", "dev", "test") for comment in read_comments(goemotions, split)}
    ours = {plain(text) for tone in ALL for line in tone.sentences() for text in every_expansion(line)}
    assert len(theirs) > 50_000
    assert len(ours) > 1000
    assert not {text for text in ours & theirs if len(text.split()) > 6}


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))
