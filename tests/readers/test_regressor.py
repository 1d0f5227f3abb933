"""A regressor says where on the plane a text lies, and needs no label map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from emoray.errors import UserError
from emoray.readers.protocol import ReaderDown, Reading
from emoray.readers.regressor import Regressor
from emoray.run_folder import columns
from emoray.spec.load import parse
from emoray.spec.readers import RegressorReader
from emoray.study.circumplex import Affect, cosine
from emoray.study.goemotions import label_map
from tests import tiny_models
from tests.run_folder.test_columns import ANSWER, said

TEXTS = ["I am so happy!", "", "Everything is grey.", "a", "long " * 30]


def reader(model: str, **settings: Any) -> Regressor:
    return Regressor(RegressorReader(kind="regressor", name="r", model=model, **settings))


@pytest.fixture(scope="module")
def vad(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("vad")
    return tiny_models.classifier(folder, ["Valence", "Dominance", "Arousal"], problem_type="regression")


# in ONNX Runtime it is a classifier's network: test_onnx
@pytest.mark.parametrize("runtime", ["torch", pytest.param("onnx", marks=pytest.mark.campaign)])
def test_it_says_what_plain_transformers_says_on_its_own_scale(vad: str, runtime: str) -> None:
    words, model = AutoTokenizer.from_pretrained(vad), AutoModelForSequenceClassification.from_pretrained(vad)
    for text, reading in zip(TEXTS, reader(vad, range=[-20, 30], runtime=runtime).read(TEXTS), strict=True):
        with torch.inference_mode():
            plain = model(**words(text, truncation=True, max_length=40, return_tensors="pt")).logits[0]
        assert reading.affect is not None
        assert reading.probabilities is None
        assert reading.affect.valence == pytest.approx(2 * (float(plain[0]) + 20) / 50 - 1, abs=1e-6)
        assert reading.affect.arousal == pytest.approx(2 * (float(plain[2]) + 20) / 50 - 1, abs=1e-6)


def test_nothing_lies_outside_the_plane(vad: str) -> None:
    for reading in reader(vad, range=[0.0, 0.001]).read(TEXTS):
        assert reading.affect in [Affect(v, a) for v in (-1.0, 1.0) for a in (-1.0, 1.0)]


def test_a_range_that_is_not_the_models_is_told_at_the_start(vad: str) -> None:
    told = reader(vad, range=[0.0, 0.001]).notes
    assert [note.partition(" of a few plain texts, ")[2] for note in told] == [
        "and its range in the spec is 0 to 0.001: what lies outside is cut to its ends"
    ] * 2
    assert reader(vad, range=[-20, 30]).notes == []


def test_a_range_that_makes_the_same_of_every_text_is_refused(vad: str) -> None:
    with pytest.raises(ReaderDown, match=r"makes the same reading of every text, .* range in the spec"):
        reader(vad, range=[1e6, 2e6])


def test_a_long_text_is_cut_or_read_in_windows(vad: str) -> None:
    assert reader(vad).read(TEXTS)[4].truncated
    assert not reader(vad, long_texts="window").read(TEXTS)[4].truncated


def test_an_output_that_is_not_there_is_refused_in_a_sentence(vad: str) -> None:
    with pytest.raises(ReaderDown) as told:
        reader(vad, arousal="LABEL_1")
    assert str(told.value) == (
        f"reader 'r' ({vad}) has no output 'LABEL_1'; it has Valence, Dominance, Arousal: "
        "name the two with `valence` and `arousal`"
    )


def test_an_empty_range_is_refused_by_the_spec() -> None:
    text = (
        "name: t\nmodels: [{name: a, host: scripted}]\nreaders: [{kind: regressor, name: r, model: m, range: [1, 1]}]"
    )
    with pytest.raises(UserError, match=r"readers\[0\].range: must be \[lowest, highest\], got \[1.0, 1.0\]"):
        parse(text)


def test_a_model_that_says_no_number_gives_an_error(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path, ["valence", "arousal"], problem_type="regression")
    tiny_models.break_bias(tmp_path, 0)
    (reading,) = reader(folder).read(["hello"])
    assert (reading.affect, reading.error) == (None, "the model's valence or arousal is not a number")


def test_its_rows_are_scored_without_a_map(tmp_path: Path) -> None:
    readings = [Reading(None, affect=Affect(0.5, -0.25)), Reading(None, affect=Affect(0.0, 0.0))] * 6
    table = columns.scored(
        columns.with_readings(said(ANSWER), readings, reader="r", revision=None), label_map(), "zero"
    )
    for number, row in enumerate(table.to_pylist()):
        felt = (0.5, -0.25) if number % 2 == 0 else (0.0, 0.0)
        assert (row["felt_valence"], row["felt_arousal"]) == felt
        assert (row["read_valence"], row["read_arousal"]) == felt
        assert (row["expected_valence"], row["expected_arousal"]) == felt
        assert row["label"] is row["probabilities"] is row["confidence"] is None
        expected = cosine(Affect(row["valence"], row["arousal"]), Affect(*felt))
        assert row["cosine"] == (0.0 if np.isnan(expected) else pytest.approx(expected, abs=1e-12))
    assert columns.was_read(table).all()
    drop = columns.scored(table, label_map("octants"), "drop").to_pylist()
    assert [row["cosine"] is None for row in drop] == [False, True] * 6
