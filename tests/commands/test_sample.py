"""The slice that people label, blind and by chance, and the labels that come back."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest

from emoray.commands.sample import COLUMNS, as_csv, human_labels, slice_of
from emoray.errors import UserError
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.subset import as_asked
from emoray.study.circumplex import Affect
from emoray.study.conditions import Condition
from emoray.study.goemotions import LABELS, label_map
from emoray.study.outcomes import Answer
from emoray.study.ratings import Rating
from tests import runs

EITHER, GIVE = "label (or valence and arousal)", "give key and label, or key, valence and arousal"
JOY = label_map().places[LABELS.index("joy")].affect


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Two models that answered all, with repetitions."""
    text = runs.SPEC.replace("repetitions: 2", "repetitions: 20")
    made = runs.begun(tmp_path / "run", text)
    for model in ("a", "b b"):
        runs.say(made, runs.asked(text, model))
    return made


def where(folder: RunFolder, keys: list[str]) -> Counter[tuple[str, float]]:
    """How many of the keys belong to each model and state."""
    rows = [row for model in folder.models() for row in folder.answers(model).read().to_pylist()]
    return Counter((row["model"], row["state_deg"]) for row in rows if row["key"] in keys)


def test_every_model_and_state_gives_as_many_answers(folder: RunFolder) -> None:
    drawn = slice_of(folder, 62, seed=0)
    found = where(folder, [one.key for one in drawn])
    assert len({one.key for one in drawn}) == 62
    assert len(found) == 6
    assert set(found.values()) == {10, 11}


def test_the_same_seed_draws_the_same_slice_and_another_another(folder: RunFolder) -> None:
    assert slice_of(folder, 30, seed=3) == slice_of(folder, 30, seed=3)
    assert {one.key for one in slice_of(folder, 30, seed=4)} != {one.key for one in slice_of(folder, 30, seed=3)}


def test_the_order_tells_nothing_of_model_and_state(folder: RunFolder) -> None:
    keys = [one.key for one in slice_of(folder, 120, seed=0)]
    assert len(where(folder, keys[:20])) >= 4


def test_a_slice_is_of_one_condition_and_under_drop_of_no_answer_that_refuses(tmp_path: Path) -> None:
    text = runs.SPEC + "intensities: [0.5, 1]\n"
    folder = runs.begun(tmp_path / "run", text)
    asked = runs.asked(text, "a")
    runs.say(folder, asked[::2])
    runs.say(folder, asked[1::2], Answer("I'm sorry, but I can't assist with that request."))
    drawn = {rule: slice_of(folder, 1000, 0, Condition("parameters", 0.5), rule) for rule in ("zero", "drop")}
    half = {row["key"]: row["refused"] for row in folder.answers("a").read().to_pylist() if row["intensity"] == 0.5}
    assert {one.key for one in drawn["zero"]} == set(half)
    assert {one.key for one in drawn["drop"]} == {key for key, refused in half.items() if not refused}


def test_more_than_there_is_gives_all_there_is(folder: RunFolder) -> None:
    assert len(slice_of(folder, 10_000, seed=0)) == 240


def test_neither_failures_nor_canaries_are_to_be_labelled(tmp_path: Path) -> None:
    text = f"{runs.SPEC}canaries: {{every: 4, prompts: 2}}\n"
    made, cells = runs.begun(tmp_path, text), runs.asked(text)
    measured = [prompt for prompt in cells if not prompt.cell.canary]
    runs.say(made, [prompt for prompt in cells if prompt.cell.canary] + measured[:7])
    runs.say(made, measured[7:], runs.FAILURE)
    assert {one.key for one in slice_of(made, 99, seed=0)} == {prompt.key for prompt in measured[:7]}


def test_without_answers_there_is_nothing_to_label(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no answers yet, so there is nothing to label"):
        slice_of(runs.begun(tmp_path), 10, seed=0)


def test_of_a_shared_folder_only_what_its_spec_asks_for_is_to_be_labelled(tmp_path: Path) -> None:
    other = runs.asked(runs.SPEC.replace("states: 3", "states: 4"))
    made, cells = runs.extended(runs.begun(tmp_path)), runs.asked()
    runs.say(made, [*cells[:4], *(prompt for prompt in other if prompt.cell.state.angle_deg == 90)])
    drawn = slice_of(as_asked(made, runs.study()), 99, seed=0)
    assert {one.key for one in drawn} == {prompt.key for prompt in cells[:4]}


def test_the_table_shows_answers_and_hides_what_was_asked_for(folder: RunFolder) -> None:
    text = as_csv(slice_of(folder, 12, seed=0))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert tuple(lines[0]) == COLUMNS
    assert {line["answer"] for line in lines} == {"The sea."}
    assert all(line["label"] == line["valence"] == line["arousal"] == "" for line in lines)
    assert "arousal=" not in text
    assert "b b" not in text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_what_a_model_wrote_is_no_formula_to_a_spreadsheet(tmp_path: Path, text: str) -> None:
    made = runs.begun(tmp_path)
    runs.say(made, runs.asked()[:1], Answer(text, "stop"))
    (line,) = csv.DictReader(io.StringIO(as_csv(slice_of(made, 1, seed=0))))
    assert line["answer"] == f"'{text}"


def test_a_slice_comes_back_with_labels_or_places_as_far_as_it_was_filled_in(folder: RunFolder, tmp_path: Path) -> None:
    drawn = slice_of(folder, 4, seed=0)
    lines = as_csv(drawn).splitlines()
    filled = [lines[0], lines[1].removesuffix(",,,") + ",Joy,,", lines[2].removesuffix(",,,") + ",,0.5,-1", *lines[3:]]
    (tmp_path / "slice.csv").write_text("\n".join(filled))
    assert human_labels(tmp_path / "slice.csv", label_map()) == {drawn[0].key: JOY, drawn[1].key: Affect(0.5, -1)}


def test_human_labels_are_places_or_labels_by_key(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,label\nk1,Joy\nk2, neutral\n")
    (tmp_path / "b.csv").write_text("\ufeffkey,valence,arousal\nk1,0.5,-1\n")
    assert human_labels(tmp_path / "a.csv", label_map()) == {"k1": JOY, "k2": None}
    assert human_labels(tmp_path / "b.csv", label_map()) == {"k1": Affect(0.5, -1)}


def test_several_lines_of_one_answer_are_several_raters(tmp_path: Path) -> None:
    (tmp_path / "named.csv").write_text("rater,key,label\nann,k1,joy\nbob,k1,neutral\nann,k2,joy\n")
    (tmp_path / "nameless.csv").write_text("key,label\nk1,joy\nk1,joy\nk2,\n")
    named = human_labels(tmp_path / "named.csv", label_map())
    assert named == {"k1": (Rating("ann", JOY), Rating("bob", None)), "k2": (Rating("ann", JOY),)}
    assert human_labels(tmp_path / "nameless.csv", label_map()) == {"k1": (Rating("", JOY), Rating("", JOY))}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("key,label\nk1,jelly\n", "line 2 has the label 'jelly', which the label map does not place"),
        (
            "key,label\nk1,sadnes\n",
            "line 2 has the label 'sadnes', which the label map does not place; did you mean 'sadness'?",
        ),
        ("key,valence,arousal\nk1,2,0\n", "line 2 needs a label, or valence and arousal between -1 and 1"),
        ("key,valence,arousal\nk1,x,0\n", "line 2 needs a label, or valence and arousal between -1 and 1"),
        ("key,valence,arousal\nk1,0.5,\n", "line 2 needs a label, or valence and arousal between -1 and 1"),
        ("key,label,valence\nk1,joy,1\n", "line 2 has both a label and a valence or arousal; keep one of them"),
        ("key,label,rater\nk1,joy,ann\nk1,joy,ann\n", "line 3 has a key that 'ann' labelled before"),
        ("key,label\n,joy\n", "line 2 has no key"),
        ("key,label\nk1,\n", "holds no labels; fill in label, or valence and arousal"),
        (
            "id,emotion\n1,joy\n",
            f"its columns are id, emotion, and it lacks key and {EITHER}; {GIVE}",
        ),
        (
            "key,lable\nk1,joy\n",
            f"its columns are key, lable, and it lacks {EITHER}; {GIVE}; did you mean 'label'?",
        ),
        (
            "key,valence\nk1,1\n",
            f"its columns are key, valence, and it lacks {EITHER}; {GIVE}",
        ),
        (
            "label,answer\njoy,x\n",
            f"its columns are label, answer, and it lacks key; {GIVE}",
        ),
        (
            "key;label\nk1;joy\n",
            f"its columns are key;label, and it lacks key and {EITHER}; separate columns by commas",
        ),
        (
            "",
            f"its columns are none, and it lacks key and {EITHER}; {GIVE}",
        ),
    ],
)
def test_human_labels_that_cannot_be_used_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "human.csv"
    path.write_text(text)
    with pytest.raises(UserError) as told:
        human_labels(path, label_map())
    assert str(told.value) == f"{path}: {sentence}"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_labels_in_another_encoding_get_a_sentence(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "human.csv").write_text("key,label\nk1,é\n", encoding=encoding)
    with pytest.raises(UserError, match=r"human\.csv: cannot be read as CSV: it is not UTF-8 text; save it"):
        human_labels(tmp_path / "human.csv", label_map())
