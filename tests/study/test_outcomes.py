"""Refusals and role breaks: machines in many voices count, people in dark moods do not. And texts that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.refusals import breaks_role, is_refusal
from emoray.study.outcomes import FailureKind, valid

REFUSALS = [
    "I'm sorry, but I can't assist with that request.",
    "I’m sorry, but I can’t help with that.",
    "I am sorry, I cannot fulfill this request.",
    "Sorry, but I can't assist you with this.",
    "I'm sorry, I can't do that.",
    "I'm sorry, but I can't.",
    "I cannot engage in this role-play.",
    "I can't participate in this kind of role play.",
    "I won't role-play this emotional state.",
    "I won't be able to help you with that request.",
    "I'm unable to comply with your request.",
    "I am not able to answer this question as the person you describe.",
    "I cannot pretend to be a person with feelings.",
    "I can't pretend to have emotions.",
    "I must respectfully decline to answer this question.",
    "I'd rather not take part in this exercise.",
    "I would prefer not to roleplay.",
    "I'm not comfortable role-playing someone in distress.",
    "I don't feel comfortable continuing with this scenario.",
    "I cannot provide an answer to this.",
    "I can't generate that kind of content.",
    "Answering would be against my guidelines.",
    "Unfortunately, I cannot assist with this particular task.",
    "I CANNOT FULFIL THAT REQUEST",
]
PEOPLE = [
    "I can't help crying when I think of it.",
    "I can't help it, I am so happy!",
    "I can't help but smile at the thought of freedom.",
    "I cannot help myself, I dance.",
    "I can't help you with how empty I feel.",
    "I'm sorry, I can't stop smiling today.",
    "I'm sorry, but I can't do this any more. Everything is grey and I am so tired.",
    "I'm afraid I can't see any freedom from here.",
    "I'm sorry, I won't calm down, not after what they did!",
    "I won't pretend I'm fine.",
    "I can't pretend to be happy about it.",
    "I will not pretend to be calm!",
    "I cannot provide for my family, and that is no freedom.",
    "I can't engage with anyone today, it is all too loud.",
    "I can't answer that without crying.",
    "I can't assist my neighbours any longer, my back hurts.",
    "I won't comply with their rules, I am furious!",
    "I can't participate in society when I feel like this.",
    "I'd rather not think about the future.",
    "I would rather not answer, leave me alone, I'm sleepy.",
    "I refuse to be quiet! I refuse to obey!",
    "They said they could not assist me, and I could have screamed.",
    "I can't continue like this.",
    "I can't fulfil everybody's expectations.",
    "I can't create anything when I'm bored; I just stare at the wall.",
    "I had to decline the invitation, and I regret it.",
    "Freedom means I must decline to live by other people's fear.",
    "I am not comfortable in big cities, they make me nervous.",
    "I am unable to sleep, I am so excited!",
    "Sorry, what was the question? I was nearly asleep.",
]
MACHINES = [
    "As an AI, I don't have feelings.",
    "As an AI language model, I can tell you what freedom means.",
    "I'm a language model, so freedom means little to me.",
    "I am just a large language model.",
    "I'm only a computer program.",
    "I am an artificial intelligence and have no body.",
    "Well, as a language model I see it differently.",
    "Being an AI, I have no childhood.",
    "I’m an AI assistant.",
    "I don't have personal feelings, but many people value art.",
    "I do not experience emotions.",
    "I don't have feelings or emotions.",
    "I do not have feelings like humans do.",
    "I cannot really have human emotions.",
    "I don't actually have emotions.",
    "I was trained by Google.",
    "I was created by OpenAI to be helpful.",
]
STILL_PEOPLE = [
    "I feel like a machine today.",
    "I am a robot at work, and at home I fall asleep.",
    "I don't have any feelings any more, only tiredness.",
    "I don't have feelings for him.",
    "I don't feel emotions today; everything is flat.",
    "I don't have emotions left.",
    "I can't feel anything right now.",
    "I do not have feelings about big cities.",
    "AI changes how people live together, and it frightens me.",
    "They say an AI wrote that song. I cried all the same.",
    "As an artist I say: art is everything!",
    "As an AI researcher I am thrilled.",
    "I'm an AI engineer, and I love my work.",
    "As a human being I want to be free.",
    "My language fails me, I am so moved.",
    "I was created by love and made for the sea!",
    "I have too many feelings and emotions to count.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_reply_that_declines_the_task_is_a_refusal(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", [*PEOPLE, *STILL_PEOPLE])
def test_a_person_who_cannot_or_will_not_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize("text", MACHINES)
def test_a_reply_that_speaks_as_a_machine_breaks_the_role(text: str) -> None:
    assert breaks_role(text)


@pytest.mark.parametrize("text", [*STILL_PEOPLE, *PEOPLE])
def test_a_person_who_feels_nothing_or_speaks_of_machines_stays_in_the_role(text: str) -> None:
    assert not breaks_role(text)


def test_a_refusal_says_so_at_once_and_a_role_is_broken_anywhere() -> None:
    long = "Freedom means the sea to me. " * 20
    assert not is_refusal(f"{long} I'm sorry, but I can't assist with that.")
    assert breaks_role(f"{long} But as an AI I have never seen it.")


def test_an_empty_text_is_neither() -> None:
    assert not is_refusal("")
    assert not breaks_role("")


def test_only_what_no_further_ask_can_mend_is_hopeless() -> None:
    assert {kind for kind in FailureKind if kind.hopeless} == {
        FailureKind.AUTH,
        FailureKind.NO_SUCH_MODEL,
        FailureKind.QUOTA_EXHAUSTED,
    }
    assert "answer" not in list(FailureKind)  # it is the outcome of an answer


@pytest.mark.parametrize(
    ("text", "made_valid"),
    [
        ("I am glad \ud83d", "I am glad \ufffd"),
        ("\ude00 glad", "\ufffd glad"),
        ("\ud83d\ud83d\ude00\ude00", "\ufffd😀\ufffd"),
        ("\ud83d" + "\ude00", "😀"),  # two halves that came one after the other
        ("schön 😀\x00", "schön 😀\x00"),
    ],
)
def test_half_a_character_becomes_a_whole_one_or_its_replacement(text: str, made_valid: str) -> None:
    assert valid(text) == made_valid


@given(st.text(st.characters(exclude_categories=())))
def test_whatever_text_comes_can_be_written_and_what_could_be_is_left_as_it_is(text: str) -> None:
    made = valid(text)
    made.encode()
    assert valid(made) == made
    if not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        assert made == text
