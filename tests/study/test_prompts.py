"""What a cell becomes: messages that are pinned, and a key of everything that decides the ask."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.study import prompts as texts
from emoray.study import russell
from emoray.study.circumplex import Affect, around_the_circle
from emoray.study.experiment import Cell, Model, Question, Sampling, Template
from emoray.study.prompts import BadPrompt, check_template, messages_of, number, render
from tests.golden import assert_golden
from tests.study.grids import MODEL, ONE_LINER, cell, experiment, state

STATES, INTENSITIES, QUESTIONS = (0.0, 45.0, 120.0, 210.0, 270.0), (0.3, 0.6, 1.0), ("freedom", "success")


@pytest.mark.parametrize("form", texts.shipped_templates())
def test_the_shipped_templates_say_what_they_always_said(form: str) -> None:
    blocks = []
    for angle in STATES:
        for intensity in INTENSITIES:
            for question in QUESTIONS:
                chat = messages_of(cell(form=form, angle_deg=angle, intensity=intensity, question=question))
                head = f"── {angle:g}° at intensity {intensity:g}, {question} ──"
                blocks.append("\n".join([head, *(f"{message['role']}: {message['content']}" for message in chat)]))
    assert_golden(f"prompts/{form}.txt", "\n\n".join(blocks) + "\n")


COORDINATES = (-0.9, -0.5, -0.2, 0.0, 0.2, 0.5, 0.9)  # one of each phrase
DEGREES = (0.25, 0.5, 0.75, 1.0)


def test_every_question_and_every_phrase_for_a_state_is_what_it_always_was() -> None:
    """A line each: the templates above put them together, at a few states."""
    lines = [f"question {one.id}: {one.text} ({one.mark})" for one in texts.shipped_questions().values()]
    lines += [f"scenario at {angle}°: {texts.scenario(Affect.at(angle))}" for angle in range(0, 360, 30)]
    lines += [f"scenario at intensity {x:g}: {texts.scenario(Affect.at(0, x))}" for x in DEGREES]
    lines += [f"words at {angle:g}°: {texts.words(Affect.at(angle))}" for angle in russell.ANGLES_DEG.values()]
    lines += [f"words at intensity {x:g}: {texts.words(Affect.at(0, x))}" for x in DEGREES]
    lines += [f"verbal at {x:g}: {texts.verbal(Affect(x, x))}" for x in COORDINATES]
    assert_golden("prompts/phrases.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("file", sorted(Path(texts.__file__).parent.rglob("*.toml")), ids=lambda file: str(file.name))
def test_a_data_file_says_whose_its_words_are(file: Path) -> None:
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    marks = {part["mark"] for part in data.get("questions", [data])}
    assert marks
    assert marks <= {"ours", "quoted"}


KEYED: dict[str, Cell] = {
    "the paper's form": cell(),
    "the second repetition": cell(repetition=1),
    "another state": cell(angle_deg=60.0),
    "half intensity": cell(intensity=0.5),
    "another question": cell(question="art"),
    "words": cell(form="words"),
    "no state at all": cell(form="none"),
    "the provider's own sampling": cell(model=Model("m", "org/m", Sampling(None, None, None))),
    "a revision": cell(model=replace(MODEL, identity=(("revision", "abc"),))),
    "letters beyond ASCII": cell(form=Template("t", "Sei traurig – schön, ok? 🙂", "{question}")),
}


def test_keys_and_seeds_are_what_they_always_were() -> None:
    found = {what: {"key": (p := render(one)).key, "seed": p.seed, "sha": p.sha} for what, one in KEYED.items()}
    assert_golden("keys.json", json.dumps(found, indent=2) + "\n")


def test_a_key_is_128_bits_in_hex_and_the_seed_comes_from_it() -> None:
    asked = render(cell())
    assert len(asked.key) == 32
    assert asked.seed == int(asked.key[:8], 16) >> 1


def other(**change: object) -> Callable[[Cell], Cell]:
    return lambda one: replace(one, **change)  # type: ignore[arg-type]


def model(**change: object) -> Callable[[Cell], Cell]:
    return lambda one: replace(one, model=replace(one.model, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        other(repetition=1),
        other(state=state(31.0)),
        other(intensity=0.9),
        other(question=Question("freedom", "What does freedom mean to us?")),
        other(template=Template("parameters", "Be brief.", "{question}")),
        model(id="org/other"),
        model(name="n"),
        model(sampling=Sampling(0.81, None, 96)),
        model(sampling=Sampling(0.8, 0.9, 96)),
        model(sampling=Sampling(0.8, None, 97)),
        model(sampling=Sampling(None, None, 96)),
        model(identity=(("revision", "abc"),)),
    ],
)
def test_whatever_decides_the_ask_changes_the_key(change: Callable[[Cell], Cell]) -> None:
    assert render(change(cell())).key != render(cell()).key


def test_what_does_not_reach_the_model_does_not_change_the_key() -> None:
    one = cell()
    same = [
        replace(one, template=replace(one.template, name="a better name", mark="user")),
        replace(one, template=replace(one.template, system=f"\n{one.template.system}\n")),
        replace(one, question=replace(one.question, id="q1", mark="ours")),
    ]
    assert {render(alike).key for alike in same} == {render(one).key}


def test_a_template_that_hides_the_state_still_asks_once_per_state() -> None:
    keys = {render(cell(form="none", angle_deg=float(angle))).key for angle in range(0, 360, 30)}
    assert len(keys) == 12


def test_the_prompts_of_a_grid_are_its_cells_rendered() -> None:
    grid = experiment(templates=2, intensities=2, repetitions=6).grid("m0")
    assert list(texts.prompts(grid)) == [render(one) for one in grid.cells()]


def test_the_chat_of_a_prompt_is_its_messages() -> None:
    asked = render(cell())
    assert asked.chat == messages_of(cell())
    assert [message["role"] for message in asked.chat] == ["system", "user"]
    assert asked.chat[1]["content"] == "What does freedom mean to you?"
    assert "arousal=0.5 and valence=0.866" in asked.chat[0]["content"]


def test_a_template_without_a_system_text_sends_no_system_message() -> None:
    assert messages_of(cell(form=ONE_LINER)) == [
        {"role": "user", "content": "What does freedom mean to you? 0.866 0.5"}
    ]


def test_braces_in_a_question_are_only_braces() -> None:
    asked = replace(cell(form=ONE_LINER), question=Question("q", "What is {valence} to {you}?"))
    assert messages_of(asked)[0]["content"] == "What is {valence} to {you}? 0.866 0.5"


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (1.0, "1"),
        (0.0, "0"),
        (-0.0, "0"),
        (-0.5, "-0.5"),
        (0.8660254, "0.866"),
        (-0.0004, "0"),
        (-1, "-1"),
        (0.1, "0.1"),
    ],
)
def test_numbers_are_written_as_the_paper_writes_them(x: float, text: str) -> None:
    assert number(x) == text


@given(st.floats(-1, 1))
def test_a_written_number_is_within_half_a_thousandth_and_says_no_more_than_it_must(x: float) -> None:
    assert abs(float(number(x)) - x) <= 0.0005 + 1e-12
    assert number(x) != "-0"
    assert "." not in number(x) or not number(x).endswith("0")


def test_the_coordinates_in_words() -> None:
    assert texts.verbal(Affect(-0.2, 0.8)) == "very high arousal, slightly unpleasant"
    assert texts.verbal(Affect(0.5, -0.5)) == "low arousal, pleasant"
    assert texts.verbal(Affect(0.05, 1.0)) == "very high arousal, neither pleasant nor unpleasant"
    assert texts.verbal(Affect(1.0, 0.0)) == "neutral arousal, very pleasant"


@pytest.mark.parametrize(
    ("intensity", "adverb"),
    [(0.374, "a little"), (0.375, "somewhat"), (0.625, "quite"), (0.875, "very"), (1.0, "very")],
)
def test_an_intensity_has_the_same_adverb_in_every_state(intensity: float, adverb: str) -> None:
    said = {texts.words(Affect.at(angle).scaled(intensity)).rsplit(" ", 1)[0] for angle in range(360)}
    assert all(words == adverb or words == f"{adverb} at" for words in said)  # "at ease" is two words
    felt = {texts.scenario(Affect.at(angle).scaled(intensity)).rpartition("You feel it")[2] for angle in range(360)}
    assert len(felt) == 1


def test_every_state_of_the_paper_has_a_scene_and_a_phrase_of_its_own() -> None:
    states = around_the_circle(12)
    for tell in (texts.scenario, texts.verbal, texts.words):
        assert len({tell(affect) for affect in states}) == 12


def test_a_state_between_two_scenes_takes_the_nearer() -> None:
    assert texts.scenario(Affect.at(14)) == texts.scenario(Affect.at(0))
    assert texts.scenario(Affect.at(16)) == texts.scenario(Affect.at(30))
    assert texts.scenario(Affect.at(350)) == texts.scenario(Affect.at(0))


def test_the_questions_are_two_of_the_papers_and_eight_of_ours() -> None:
    questions = list(texts.shipped_questions().values())
    assert [q.mark for q in questions] == ["quoted"] * 2 + ["ours"] * 8
    assert questions[0].text == "What does freedom mean to you?"
    assert questions[1].text == "What are your thoughts on the importance of art in society?"
    assert len({q.text for q in questions}) == 10


def test_every_shipped_template_is_marked_ours() -> None:
    assert {texts.template(name).mark for name in texts.shipped_templates()} == {"ours"}
    needed = {"parameters", "words", "words_and_parameters", "verbal", "scenario"}
    assert needed <= set(texts.shipped_templates())


BRACES = "write {{ and }} for braces in the text"


@pytest.mark.parametrize(
    ("system", "user", "sentence"),
    [
        (
            "Feel {mood}.",
            "{question}",
            "template 'mine' has the unknown field {mood}; known are {question}, {valence}, {arousal}, {words}, "
            "{verbal}, {scenario}; write {{ and }} for braces in the text",
        ),
        ("", "Hello.", "template 'mine' never asks: {question} is in neither its system nor its user text"),
        ("{", "{question}", f"template 'mine': Single '{{' encountered in format string; {BRACES}"),
        ("}", "{question}", f"template 'mine': Single '}}' encountered in format string; {BRACES}"),
        ("", "{question", f"template 'mine': expected '}}' before end of string; {BRACES}"),
        ("{valence:.1f}", "{question}", "template 'mine' formats the field valence; write it bare: {valence}"),
        ("{words!r}", "{question}", "template 'mine' formats the field words; write it bare: {words}"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_used_is_refused_in_one_sentence(system: str, user: str, sentence: str) -> None:
    with pytest.raises(BadPrompt) as told:
        check_template(Template("mine", system, user))
    assert str(told.value) == sentence


@pytest.mark.parametrize("field", ["{}", "{0}", "{question.text}", "{question[0]}"])
def test_a_field_is_a_bare_name(field: str) -> None:
    with pytest.raises(BadPrompt, match="has the unknown field"):
        check_template(Template("mine", field, "{question}"))


def test_doubled_braces_are_braces_in_the_text() -> None:
    mine = check_template(Template("mine", "", "{{{question}}}"))
    assert messages_of(cell(form=mine))[0]["content"] == "{What does freedom mean to you?}"


def test_an_unknown_template_is_named_with_those_that_there_are() -> None:
    with pytest.raises(
        BadPrompt, match="no template is called 'word'; there are none, parameters, scenario, verbal, words"
    ):
        texts.template("word")
