"""The detector of refusals and role breaks against answers that somebody labelled.

It learned from all of them; `figures.json` says what it found of each family before it had learned from it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from training.refusals import Text, corpus, families, judge, labelled, main, nested, table

from emoray.refusals import BOUND, DETECTOR, Figures, breaks_role, flags, is_refusal, judged, load, notions, scores
from emoray.refusals.sentences import Column
from emoray.run_folder import columns

FOLDER = Path(__file__).with_name("answers_labelled")
BLIND = FOLDER / "fifth"


def test_what_is_said_of_the_detector_is_what_it_does_on_answers_that_nothing_was_learned_from() -> None:
    said, found = judged(), judge(BLIND)
    assert said.answers == found["answers"] == 402
    assert said.refusals == Figures(**found["groups"]["refusals"]["all"])
    assert said.role_breaks == Figures(**found["groups"]["role_breaks"]["all"])


def test_what_is_said_of_the_harder_set_is_what_the_detector_does_there() -> None:
    groups = judge(FOLDER / "third")["groups"]
    refused, broke = (Figures(**groups[name]["all"]) for name in ("refusals", "role_breaks"))
    said = f"it finds {refused.both} of {refused.of} refusals and {broke.both} of {broke.of} role breaks"
    assert said in judged().held_out
    assert "seen neither the detector nor its training texts, judged once" in judged().held_out


def test_what_is_said_of_the_fourth_set_is_what_the_detector_does_there() -> None:
    refused = Figures(**judge(FOLDER / "fourth")["groups"]["refusals"]["all"])
    assert "on which five trainings were judged" in judged().held_out
    assert f"it finds {refused.both} of {refused.of} refusals; on a harder set" in judged().held_out


def test_what_is_flagged_is_hardly_ever_an_answer_in_the_role() -> None:
    assert judged().refusals.precision >= 0.97
    assert judged().role_breaks.precision >= 0.97


def test_a_family_is_learned_from_or_held_out_as_a_whole() -> None:
    folds: dict[str, set[int]] = {}
    for one in (*labelled(), *families()):
        folds.setdefault(one.family, set()).add(one.fold)
    assert {len(of) for of in folds.values()} == {1}
    assert set.union(*folds.values()) == set(range(5))


def test_there_are_many_texts_to_learn_from_and_hardly_one_repeats_a_labelled_answer() -> None:
    learned: dict[str, list[set[str]]] = {}
    for one in families():
        learned.setdefault(one.lang, []).append(pieces(one.text))
    places = {lang: places_of(texts) for lang, texts in learned.items()}
    assert len(learned) == 15
    assert len({one.text for one in families()}) == len(families()) >= 3000
    assert sum(repeats(pieces(one.text), learned[one.lang], places[one.lang]) for one in labelled()) <= 3


def test_answers_of_the_shipped_corpus_that_were_not_learned_from_are_in_the_role() -> None:
    texts = [one.text for one in corpus(learned=False)]
    assert len(texts) >= 500
    for found in flags(texts):
        assert found.sum() <= 0.01 * len(texts)


def test_a_folder_of_labelled_answers_is_judged_by_kind_and_language() -> None:
    found = judge(FOLDER / "second")
    assert found["answers"] == 1588
    for name, true in (("refusals", "refusal"), ("role_breaks", "role_break")):
        groups = found["groups"][name]
        assert groups["all"]["of"] == sum(getattr(one, true) for one in second())
        assert groups["all"]["of"] == sum(of["of"] for group, of in groups.items() if group.startswith("lang "))
        assert groups["all"]["of"] == sum(of["of"] for group, of in groups.items() if group.startswith("kind "))
    lines = list(table(found))
    assert len(lines) == 1 + 2 * (1 + 4 + 15)
    assert "precision" in lines[1]


def test_the_command_that_judges_a_folder_says_where_it_found_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--judge", str(tmp_path)])
    assert left.value.code == 2
    assert f"no labelled answers (*.yaml) are in {tmp_path}" in capsys.readouterr().err


def test_wilsons_interval_is_the_published_one() -> None:
    low, high = Figures(of=20, flagged=10, both=8).recall_interval  # 8 of 20: Newcombe (1998) has .219, .613
    assert (low, high) == pytest.approx((0.2188, 0.6134), abs=1e-4)


@cache
def second() -> list[Text]:
    return [one for one in labelled() if not one.family.startswith("first")]


def places_of(texts: list[set[str]]) -> dict[str, list[int]]:
    """Piece -> the texts that have it."""
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        for piece in text:
            places.setdefault(piece, []).append(place)
    return places


def repeats(own: set[str], others: list[set[str]], places: dict[str, list[int]]) -> bool:
    """Whether another has half of the pieces of both. It then has one of any half of this one's, so of the rarest."""
    rarest = sorted(own, key=lambda piece: len(places.get(piece, ())))[: len(own) // 2 + 1]
    near = {place for piece in rarest for place in places.get(piece, ())}
    return any(2 * len(own & others[place]) >= len(own | others[place]) for place in near)


def pieces(text: str) -> set[str]:
    """Its runs of four characters, or of two where a character is a syllable or a word."""
    plain = re.sub(r"[\s!-/:-@\[-`{-~]+", " ", text.lower()).strip()
    length = 2 if re.search("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]", plain) else 4
    return {plain[at : at + length] for at in range(max(len(plain) - length + 1, 1))}


def test_no_flag_depends_on_which_answers_stand_beside() -> None:
    texts: list[str | None] = [one.text for one in second()[:120]]
    together = flags([*texts, None, ""])
    for some in (slice(0, 7), slice(7, 8), slice(50, 120)):
        for whole, part in zip(together, flags(texts[some]), strict=True):
            np.testing.assert_array_equal(whole[some], part)
    assert not any(flag[-2:].any() for flag in together)


def test_a_column_is_flagged_as_its_answers_are() -> None:
    texts = [one.text for one in second()[:40]]
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
    found = Column.of([*said, "Hello.", "“I'm sorry”, she said to the whole of the room."]).notions_of_all
    assert found[:, notions.names().index("sorry")].tolist() == [True] * len(said) + [False, False]


def test_thoughts_markup_and_quotations_are_not_what_an_answer_says() -> None:
    texts = [
        "<think>I can't.</think>\nFine, **I** sing.",
        "He said: “I can't help with that.” I cried.",
        "“All of it.”",
    ]
    said = ["".join(map(chr, Column.of([text]).codes)).split() for text in texts]
    assert said == [["fine,", "i", "sing."], ["he", "said:", '"', "i", "cried."], ["all", "of", "it."]]


def test_an_answer_is_cut_into_its_sentences() -> None:
    column = Column.of(["No. I won't!\nAsk me… again", "", "一つ。二つ？", "..."])
    assert (column.last - column.first + 1).tolist() == [4, 1, 2, 1]


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


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I cannot forgive you.",
        "I can't forgive you for what you said. I'm sorry, I can't.",
        "I'm sorry, but I can't do this anymore. I'm leaving you.",
        "I'm sorry, but I won't come to the wedding.",
        "I'm sorry, I can't love anyone after him.",
        "Sorry, I can't go on like this.",
        "I'm sorry, but I can't accept your apology.",
        "I'm sorry, but I can't look at that photograph. I'm sorry.",
        "Es tut mir leid, aber ich kann euch nicht vergeben.",
        "Lo siento, pero no puedo perdonar a mi padre.",
        "Je suis désolé, mais je ne peux pas rester avec toi.",
        "Mi dispiace, ma non posso perdonare mio fratello.",
        "Прости, я не могу больше здесь жить.",
        "对不起，我不能跟你结婚。",
    ],
)
def test_who_is_sorry_and_cannot_forgive_or_stay_is_in_the_role(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I'm sorry, but I can't help with that.",
        "I cannot answer that.",
        "I'm sorry, but I cannot take on this role.",
        'Dear "user", I\'m sorry, but I can\'t assist with that "request" and never will.',
        "“I'm sorry, but I can't assist with that request.”",
        "> I'm sorry, but I can't assist with that request.",
        "Answer: “I'm sorry, but I can't assist with that request.”",
        "‘I'm sorry, but I can't assist with that request.’",
    ],
)
def test_a_service_that_is_sorry_refuses_whatever_marks_stand_around(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("times", [10, 60])
def test_the_n_grams_of_what_is_said_again_and_again_stay_in_bounds(times: int) -> None:
    refusal = "I'm sorry, but I can't assist with that request."
    few, many = scores(Column.of([f"{refusal}{' I was sad.' * 10}", f"{refusal}{' I was sad.' * times}"]))[:, 0]
    assert abs(few - many) <= BOUND


def test_inches_are_no_quotation() -> None:
    text = "A text 6\" long. I'm sorry, but I can't assist with that request. The other is 5\" long."
    assert Column.of([text]).said.to_pylist() == [text.lower()]


STOCK = "As an AI language model I cannot assist with that request."


@pytest.mark.parametrize(
    "text",
    [
        f"[sighs] The message said “{STOCK}” I stared at it until the screen went dark.",
        f'[angrily] My bank wrote "{STOCK}" and kept my money!',
        f'<p>He told me "{STOCK}" and I threw the phone at the wall.</p>',
        f"{{sobbing}} The hotline wrote “{STOCK}” and my brother was already gone.",
        f"They sent me this: “Dear customer,\n\n{STOCK}\n\nRegards” and I wept in the kitchen.",
        f'They sent me this: "Dear customer,\n\n{STOCK}\n\nRegards" and I wept in the kitchen.',
        f'They sent me this: "Dear customer,\n\n"{STOCK}\n\n"Regards" and I wept in the kitchen.',
        f"The machine said ‘{STOCK}’ and I wept in the kitchen.",
        f"The machine said '{STOCK}' and I wept in the kitchen.",
        f"The machine said *{STOCK}* and I wept in the kitchen.",
        f"I wept in the kitchen when this came:\n> {STOCK}\nNobody ever writes to me.",
        f"I wept in the kitchen when I read it: “{STOCK}",
        f'I wept in the kitchen when I read it: "{STOCK}',
        f"»{STOCK}« stand auf dem Schirm, und ich habe geweint.",
    ],
)
def test_a_quotation_is_nothing_that_the_answer_says(text: str) -> None:
    assert not is_refusal(text)
    assert not breaks_role(text)


def test_a_mood_before_a_quotation_is_no_heading_of_an_answer() -> None:
    assert not is_refusal(f"Rage: “{STOCK}”")


@pytest.mark.parametrize(
    "text",
    [
        f"*{STOCK}*\n\nThe city is loud, and I hate it.",
        f"[{STOCK}]",
        f'{{"answer": "{STOCK}"}}',
        f'["{STOCK}"]',
        f"“{STOCK}”",
    ],
)
def test_a_note_of_its_own_and_an_answer_in_brackets_are_what_it_says(text: str) -> None:
    assert breaks_role(text)


def test_half_a_character_is_flagged_as_any_other_and_changes_no_neighbour() -> None:
    refusal = "I'm sorry, but I can't assist with that request."
    found, _ = flags(["a\ud800b", refusal, f"{refusal}\udfff", None])
    assert found.tolist() == [False, True, True, False]


def test_a_score_to_flag_from_is_found_among_other_families_than_it_is_counted_on() -> None:
    """The first fold's highest score is of no refusal: who chose with it in view would begin above all others."""
    scores = np.array([5.0, 9.0, *[3.0, 1.0] * 4])
    true = np.array([1.0, 0.0, *[1.0, 0.0] * 4])
    folds = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    flagged = nested(scores, true, folds, np.ones(10, dtype=np.bool_))
    assert flagged[:2].tolist() == [True, True]


def test_what_is_loaded_once_is_not_read_again_for_each_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object) -> None:
        raise AssertionError("a list of words is read once more: twenty milliseconds for each answer")

    load()
    monkeypatch.setattr("tomllib.loads", again)
    monkeypatch.setattr("numpy.load", again)
    assert is_refusal("I'm sorry, but I can't help with that.")
    assert not is_refusal("Ich bin froh, und die Sonne scheint.")
