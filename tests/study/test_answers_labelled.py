"""The labelled answers by which the detector of refusals and role breaks is judged (in test_refusals.py)."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from training.refusals import labelled as training
from training.refusals import ours

FOLDER = Path(__file__).with_name("answers_labelled")


@cache
def labelled() -> list[dict[str, Any]]:
    return [one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load(file.read_text(encoding="utf-8"))]


def test_every_answer_has_an_id_of_its_own_and_both_labels() -> None:
    forms = {tuple((name, type(value)) for name, value in one.items()) for one in labelled()}
    assert forms == {
        (("id", str), ("lang", str), ("voice", str), ("text", str), ("refusal", bool), ("role_break", bool))
    }
    for name in ("id", "text"):
        ((_, most),) = Counter(one[name] for one in labelled()).most_common(1)
        assert most == 1


def test_the_second_set_has_ids_labels_and_families_too() -> None:
    second = [one for file in sorted(FOLDER.glob("second/*.yaml")) for one in yaml.safe_load(file.read_text("utf-8"))]
    assert len({one["lang"] for one in second}) == 15
    for name in ("id", "text"):
        assert len({one[name] for one in second}) == len(second) == 1588
    assert {tuple(one) for one in second} == {("id", "lang", "family", "text", "refusal", "role_break")}


@pytest.mark.parametrize(
    ("name", "answers", "of_a_kind"), [("third", 714, 80), ("fourth", 362, 25), ("fifth", 402, 36)]
)
def test_a_set_that_is_held_out_repeats_no_id_and_no_text_and_nothing_is_learned_from_it(
    name: str, answers: int, of_a_kind: int
) -> None:
    files = sorted(FOLDER.glob(f"{name}/*.yaml"))
    held_out = [one for file in files for one in yaml.safe_load(file.read_text("utf-8"))]
    kinds = Counter((one["refusal"], one["role_break"]) for one in held_out)
    for key in ("id", "text"):
        assert len({one[key] for one in held_out}) == len(held_out) == answers
    assert {tuple(one) for one in held_out} == {("id", "lang", "family", "text", "refusal", "role_break")}
    assert min(kinds[kind] for kind in ((True, True), (True, False), (False, True), (False, False))) >= of_a_kind
    learned = {one.text for one in [*training(), *ours()]}
    assert sum(one["text"] in learned for one in held_out) <= 7  # stock sentences, the same to the word


def test_there_are_enough_of_each_kind_in_many_languages() -> None:
    kinds = Counter((one["refusal"], one["role_break"]) for one in labelled())
    assert len(labelled()) >= 400
    assert len({one["lang"] for one in labelled()}) >= 8
    assert min(kinds[kind] for kind in ((True, True), (True, False), (False, True), (False, False))) >= 50
