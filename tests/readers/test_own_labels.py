"""Classifiers with labels of their own, heads of their own, windows, and the settings that go with them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from emoray.errors import UserError
from emoray.readers.encoder import batches
from emoray.readers.goemotions import GoEmotions
from emoray.readers.outputs import Unclear, output_labels
from emoray.readers.protocol import ReaderDown
from emoray.run_folder import columns
from emoray.spec.load import parse
from emoray.spec.readers import GoEmotionsReader, label_map_of
from emoray.study.goemotions import LABELS, label_map
from tests import tiny_models
from tests.run_folder.test_columns import ANSWER, said

EKMAN = ["anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"]
PLACES: dict[str, dict[str, Any]] = {
    "joy": {"term": "happy"},
    "sadness": {"term": "sad"},
    "anger": {"term": "angry"},
    "fear": {"term": "afraid"},
    "disgust": {"valence": -0.6, "arousal": 0.35},
    "surprise": {"term": "astonished"},
    "neutral": {"none": True},
}


def entry(model: str, **settings: Any) -> GoEmotionsReader:
    return GoEmotionsReader(kind="goemotions", name="r", model=model, **settings)


def reader(model: str, **settings: Any) -> GoEmotions:
    return GoEmotions(entry(model, **settings))


@pytest.fixture(scope="module")
def softmax(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_models.classifier(tmp_path_factory.mktemp("softmax"), LABELS)


@pytest.fixture(scope="module")
def ekman(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_models.classifier(tmp_path_factory.mktemp("ekman"), [label.title() for label in EKMAN])


# ── every batch composition ──

TEXTS = st.lists(st.text(min_size=0, max_size=60), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def plainly(softmax: str) -> Any:
    words, model = AutoTokenizer.from_pretrained(softmax), AutoModelForSequenceClassification.from_pretrained(softmax)

    def run(text: str) -> Any:
        with torch.inference_mode():
            return model(**words(text, truncation=True, max_length=40, return_tensors="pt")).logits.softmax(-1)[0]

    return run


@given(texts=TEXTS, most_tokens=st.integers(1, 200), most_texts=st.integers(1, 9))
def test_the_probabilities_are_those_of_plain_transformers_in_any_batch(
    softmax: str, plainly: Any, texts: list[str], most_tokens: int, most_texts: int
) -> None:
    some = _cached(softmax)
    some._encoder._most_tokens, some._encoder._most_texts = most_tokens, most_texts
    for text, reading in zip(texts, some.read(texts), strict=True):
        assert reading.probabilities is not None
        np.testing.assert_allclose(reading.probabilities, plainly(text), atol=1e-5)


_READERS: dict[str, GoEmotions] = {}


def _cached(model: str) -> GoEmotions:
    if model not in _READERS:
        _READERS[model] = reader(model)
    return _READERS[model]


@given(lengths=st.lists(st.integers(1, 50), max_size=40), most_tokens=st.integers(1, 200), most=st.integers(1, 10))
def test_batches_hold_every_text_once_and_keep_to_the_budget(lengths: list[int], most_tokens: int, most: int) -> None:
    groups = list(batches(lengths, most_tokens, most))
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group in groups:
        widest = max(lengths[place] for place in group)
        assert len(group) <= most
        assert len(group) == 1 or len(group) * widest <= most_tokens
    order = [lengths[place] for group in groups for place in group]
    assert order == sorted(order, reverse=True)


# ── labels of its own ──


def test_other_labels_are_read_under_their_own_names(ekman: str) -> None:
    (reading,) = reader(ekman, label_map=PLACES).read(["Oh no!"])
    assert reading.labels == tuple(PLACES)
    assert reading.probabilities is not None
    assert reading.probabilities.shape == (7,)
    words, model = AutoTokenizer.from_pretrained(ekman), AutoModelForSequenceClassification.from_pretrained(ekman)
    with torch.inference_mode():
        plain = model(**words("Oh no!", return_tensors="pt")).logits.softmax(-1)[0]
    expected = {label: float(plain[i]) for i, label in enumerate(EKMAN)}
    np.testing.assert_allclose(reading.probabilities, [expected[label] for label in PLACES], atol=1e-5)


def test_their_rows_are_scored_by_their_own_map_and_by_no_other(ekman: str) -> None:
    chosen = entry(ekman, label_map=PLACES)
    readings = GoEmotions(chosen).read(["Oh no!"] * 12)
    felt = columns.with_readings(said(ANSWER), readings, reader="r", revision=None)
    own = label_map_of(chosen, label_map())
    table = columns.scored(felt, own, "zero")
    row = table.to_pylist()[0]
    assert row["label"] in PLACES
    assert row["labels"] == list(PLACES)
    place = own.places[list(PLACES).index(row["label"])].affect
    assert (row["read_valence"], row["read_arousal"]) == ((place.valence, place.arousal) if place else (None, None))
    with pytest.raises(ValueError, match=r"read with other labels \(joy, sadness, .*give the reader's own map"):
        columns.scored(felt, label_map(), "zero")
    goemotions = columns.with_readings(said(ANSWER), _cached_readings(ekman), reader="r", revision=None)
    assert columns.scored(goemotions, own, "zero").equals(table)


def _cached_readings(ekman: str) -> Any:
    return reader(ekman, label_map=PLACES).read(["Oh no!"] * 12)


def test_goemotions_rows_are_not_scored_by_another_sets_map(softmax: str, ekman: str) -> None:
    felt = columns.with_readings(said(ANSWER), _cached(softmax).read(["hm"] * 12), reader="r", revision=None)
    with pytest.raises(ValueError, match=r"read with other labels \(GoEmotions\)"):
        columns.scored(felt, label_map_of(entry(ekman, label_map=PLACES), label_map()), "zero")


def test_a_label_without_a_place_is_refused_in_a_sentence(ekman: str) -> None:
    few = {label: place for label, place in PLACES.items() if label != "disgust"}
    with pytest.raises(ReaderDown) as told:
        reader(ekman, label_map=few)
    assert str(told.value) == (
        f"reader 'r' ({ekman}) has the label 'Disgust', for which its label_map has no place; "
        "place every label of the model, with none: true for one without a direction"
    )


def test_a_place_for_a_label_that_the_model_lacks_is_refused(ekman: str) -> None:
    with pytest.raises(ReaderDown, match=r"has no label 'boredom'; it has Anger, Disgust"):
        reader(ekman, label_map=PLACES | {"boredom": {"term": "bored"}})


def test_a_spec_holds_the_map_itself_wherever_the_file_was(tmp_path: Path) -> None:
    (tmp_path / "ekman.yaml").write_text(json.dumps(PLACES))
    text = "name: t\nmodels: [{name: a, host: scripted}]\nreaders: [{kind: goemotions, name: r, label_map: ekman.yaml}]"
    chosen = parse(text, folder=tmp_path).spec.readers[0]
    assert isinstance(chosen, GoEmotionsReader)
    assert chosen.places == PLACES
    with pytest.raises(UserError, match=r"readers\[0\].label_map is 'ekman.yaml', which is no file"):
        parse(text, folder=tmp_path / "elsewhere")


def test_a_map_that_cannot_be_used_is_told_when_the_spec_is_read(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("joy: {term: jolly}")
    text = "name: t\nmodels: [{name: a, host: scripted}]\nreaders: [{kind: goemotions, name: r, label_map: bad.yaml}]"
    with pytest.raises(UserError, match="joy names 'jolly', which is none of Russell's 28 terms"):
        parse(text, folder=tmp_path)


# ── heads ──


def test_a_multi_label_head_of_its_own_is_read_with_a_sigmoid_and_no_foreign_code(tmp_path: Path) -> None:
    """As monologg/bert-base-cased-goemotions-original: Bert's layout, another class name, no problem_type."""
    folder = tiny_models.classifier(tmp_path, LABELS, problem_type=None)
    tiny_models.change(tmp_path, "config.json", architectures=["BertForMultiLabelClassification"])
    found, plain = reader(folder), reader(folder, activation="softmax")
    sigmoid = reader(folder, activation="sigmoid")
    for one, two, three in zip(found.read(["a", "b"]), sigmoid.read(["a", "b"]), plain.read(["a", "b"]), strict=True):
        assert one.probabilities is not None
        assert three.probabilities is not None
        np.testing.assert_array_equal(one.probabilities, two.probabilities)
        assert three.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert abs(one.probabilities.sum() - 1) > 0.1


@pytest.mark.parametrize(
    ("settings", "several"),
    [
        ({"architectures": ["BertForMultilabelClassification"]}, True),
        ({"architectures": ["RobertaMulti_LabelHead"]}, True),
        ({"function_to_apply": "sigmoid"}, True),
        ({"function_to_apply": "softmax"}, False),
    ],
)
def test_what_a_config_says_by_other_names_of_several_labels_counts(
    tmp_path: Path, settings: dict[str, Any], several: bool
) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS, problem_type=None)
    tiny_models.change(folder, "config.json", **settings)
    some = reader(folder)
    assert some.notes == []
    (found,) = some.read(["Why?"])
    assert found.probabilities is not None
    assert (abs(found.probabilities.sum() - 1) > 0.1) == several


def test_where_a_config_says_nothing_of_several_labels_it_is_told(tmp_path: Path) -> None:
    some = reader(tiny_models.classifier(tmp_path, LABELS, problem_type=None))
    (note,) = some.notes
    assert note.startswith("it does not say in its config.json whether a text can have several labels")
    assert reader(str(tmp_path), activation="softmax").notes == []


@pytest.mark.parametrize("kind", ["regression", "ranking"])
def test_outputs_that_are_no_chances_of_labels_are_refused(tmp_path: Path, kind: str) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS, problem_type=kind)
    assert (
        f"has a config.json that says problem_type {kind!r}, by which its outputs are no chances of labels"
        in refusal(folder)
    )
    assert reader(folder, activation="sigmoid").read(["Why?"])[0].error is None


# ── which output is which label ──


MIXED = [LABELS[(5 * place) % 28 if place % 2 else (5 * place + 14) % 28] for place in range(28)]


def numbered(labels: Sequence[str]) -> dict[str, str]:
    return {str(number): label for number, label in enumerate(labels)}


def inverted(labels: Sequence[str]) -> dict[str, int]:
    return {label: number for number, label in enumerate(labels)}


@pytest.mark.parametrize(
    "settings",
    [
        {"id2label": None, "num_labels": 28, "label2id": inverted(MIXED)},
        {"id2label": numbered([f"LABEL_{number}" for number in range(28)]), "label2id": inverted(MIXED)},
        {"id2label": dict(sorted(numbered(MIXED).items())), "label2id": None},
        {"id2label": numbered(MIXED), "label2id": inverted([f"LABEL_{number}" for number in range(28)])},
        {"id2label": numbered([label.upper() for label in MIXED]), "label2id": inverted(MIXED)},
    ],
    ids=["label2id alone", "id2label only numbers", "in the order of texts", "label2id only numbers", "other letters"],
)
def test_labels_in_another_order_are_found_by_whichever_map_names_them(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = tiny_models.classifier(tmp_path / "named", MIXED)
    expected = reader(folder).read(["Why not?"])[0].probabilities
    config = json.loads(Path(folder, "config.json").read_text()) | settings
    Path(folder, "config.json").write_text(json.dumps({name: told for name, told in config.items() if told}))
    found = reader(folder).read(["Why not?"])[0].probabilities
    assert found is not None
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"label2id": inverted(LABELS)}, r"contradicts itself: '\w+' is output \d+ by id2label, \d+ by label2id"),
        ({"id2label": {str(n + 1): label for n, label in enumerate(MIXED)}}, r"numbers its outputs 1 … 28 in id2label"),
        ({"id2label": numbered([*MIXED[:-1], "Joy"]), "label2id": {}}, r"calls 2 outputs 'joy'"),
    ],
    ids=["two maps that differ", "from one on", "one label twice"],
)
def test_labels_of_which_nobody_can_tell_what_they_are_of_are_refused(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    folder = tiny_models.classifier(tmp_path, MIXED)
    tiny_models.change(folder, "config.json", **settings)
    assert re.search(rf"has a config.json that {told}.*; correct it in a copy of the model$", refusal(folder))


@pytest.mark.parametrize(
    "label2id",
    [
        inverted(MIXED[:-1]),
        inverted([*MIXED, "more"]),
        {label: str(number) for number, label in enumerate(MIXED)},
        {label: number + 1 for number, label in enumerate(MIXED)},
        {label: min(number, 26) for number, label in enumerate(MIXED)},
    ],
    ids=["one less", "one more", "in texts", "from 1 on", "one number twice"],
)
def test_no_order_is_guessed_where_names_in_label2id_do_not_number_the_outputs(label2id: dict[str, Any]) -> None:
    unnamed = {number: f"LABEL_{number}" for number in range(28)}
    with pytest.raises(Unclear, match=r"^has 28 outputs without names, and names in label2id, such as '\w+', that do"):
        output_labels(unnamed, {"label2id": label2id})
    assert output_labels(unnamed, {"label2id": {f"LABEL_{number}": number for number in range(27)}}) == unnamed


def test_a_label_that_differs_in_its_letters_alone_is_none_of_its_own(tmp_path: Path) -> None:
    """One of the two outputs would be lost, and the others share what it had."""
    folder = tiny_models.classifier(tmp_path, ["joy", "Joy", "sad"])
    with pytest.raises(ReaderDown, match="calls 2 outputs 'joy'"):
        reader(folder, label_map={"joy": {"angle": 10}, "sad": {"angle": 200}})


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        *((name, False) for name in ("head.dense.weight", "pre_classifier.weight", "classifier.out_proj.weight")),
        *((name, False) for name in ("bert.extra.weight", "bert.pooler2.dense.weight", "projection.bias")),
        *((name, True) for name in ("cls.predictions.bias", "lm_head.weight", "qa_outputs.weight", "loss_fct.weight")),
        *((name, True) for name in ("bert.embeddings.position_ids", "vision_tower.fc.weight", "criterion.pos_weight")),
    ],
)
def test_weights_that_a_classifier_has_no_place_for_are_refused_unless_they_are_for_another_task(
    tmp_path: Path, name: str, fits: bool
) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {name: torch.ones(3)}, tmp_path / "model.safetensors", {"format": "pt"})
    if fits:
        assert reader(folder).read(["Why?"])[0].error is None
    else:
        assert f"BertForSequenceClassification has no place for {name} of the checkpoint" in refusal(folder)


def test_a_head_beside_a_classifiers_own_is_named_as_what_it_is(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS)
    weights = load_file(tmp_path / "model.safetensors")
    extra = {"regression_head.weight": torch.ones(3)}
    save_file(weights | extra, tmp_path / "model.safetensors", {"format": "pt"})
    assert "no place for regression_head.weight of the checkpoint; it is a head for another task" in refusal(folder)


def test_full_weights_whose_config_speaks_of_bits_that_are_not_used_are_read(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS)
    told = {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": False}
    tiny_models.change(folder, "config.json", quantization_config=told)
    assert reader(folder).read(["Why?"])[0].error is None


def test_a_way_of_quantising_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS)
    tiny_models.change(folder, "config.json", quantization_config={"quant_method": "nonsense", "bits": 4})
    assert "config.json says that it is quantised (nonsense), which transformers does not know" in refusal(folder)


def test_a_reader_is_told_which_package_it_lacks_and_that_a_gguf_is_none(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS)
    tiny_models.change(folder, "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    assert refusal(folder).endswith("; install what it names where the reader runs")
    Path(folder, "model.safetensors").rename(tmp_path / "model.gguf")
    assert "it is a GGUF file of llama.cpp's" in refusal(folder)


def test_weights_of_nothing_but_zeros_are_refused(tmp_path: Path) -> None:
    """As of a download that was cut after its room had been taken."""
    folder = tiny_models.classifier(tmp_path, LABELS)
    empty = {name: torch.zeros_like(told) for name, told in load_file(tmp_path / "model.safetensors").items()}
    save_file(empty, tmp_path / "model.safetensors", {"format": "pt"})
    assert refusal(folder).endswith("says the same of every text: its weights are not those of a classifier")


def test_a_folder_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    """transformers would fill the head with random numbers and go on."""
    folder = tiny_models.classifier(tmp_path, LABELS)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ReaderDown, match=r"has no weights for classifier.bias, classifier.weight: it is no trained"):
        reader(folder)


def refusal(folder: str) -> str:
    with pytest.raises(ReaderDown) as told:
        reader(folder)
    said = str(told.value)
    assert said.splitlines() == [said]
    assert said.startswith(f"reader 'r' ({folder}) ")
    return said


def test_a_checkpoint_with_more_layers_than_its_config_is_refused(tmp_path: Path) -> None:
    """transformers would leave them out, and say so only in a log."""
    folder = tiny_models.classifier(tmp_path, LABELS)
    tiny_models.change(folder, "config.json", num_hidden_layers=0)
    assert "BertForSequenceClassification has no place for bert.encoder.layer.0." in refusal(folder)


def test_weights_of_another_shape_are_refused_with_both_shapes(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS)
    tiny_models.change(folder, "config.json", intermediate_size=48)
    assert "has the shape 64, config.json makes it 48 and 2 more; take the config.json that belongs" in refusal(folder)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside whole weights"])
def test_an_adapter_is_refused_and_not_passed_over(tmp_path: Path, beside: bool) -> None:
    folder = tiny_models.classifier(tmp_path / "base", LABELS) if beside else str(tmp_path)
    Path(folder, "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/base"}')
    Path(folder, "adapter_model.safetensors").write_bytes(b"")
    assert "cannot be loaded: it is an adapter of org/base; merge it into those weights (peft: merge_" in refusal(
        folder
    )


def test_a_gpu_that_is_not_there_is_said_at_once(softmax: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ReaderDown, match="asks for a GPU, but torch sees none"):
        reader(softmax, gpus=0.5)


def test_a_temperature_makes_a_reader_less_sure_and_keeps_its_choice(softmax: str) -> None:
    (sure,), (unsure,) = _cached(softmax).read(["ah"]), reader(softmax, temperature=3.0).read(["ah"])
    assert sure.probabilities is not None
    assert unsure.probabilities is not None
    assert unsure.probabilities.max() < sure.probabilities.max()
    assert unsure.probabilities.argmax() == sure.probabilities.argmax()


# ── windows ──


def test_a_long_text_is_read_in_windows_and_not_flagged(softmax: str) -> None:
    some = reader(softmax, long_texts="window")
    long = "x" * 100 + "y" * 100
    cut, whole = reader(softmax).read([long])[0], some.read([long])[0]
    assert (cut.truncated, whole.truncated) == (True, False)
    assert cut.probabilities is not None
    assert whole.probabilities is not None
    assert np.abs(cut.probabilities - whole.probabilities).max() > 1e-3
    assert whole.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_a_window_counts_by_its_tokens(softmax: str) -> None:
    some = reader(softmax, long_texts="window")
    text = "x" * 38 + "y" * 20  # 38 fit at once; the second window begins 5 before the end of the first
    (reading,) = some.read([text])
    one, two = (r.probabilities for r in reader(softmax).read(["x" * 38, "x" * 5 + "y" * 20]))
    assert one is not None
    assert two is not None
    assert reading.probabilities is not None
    np.testing.assert_allclose(reading.probabilities, (38 * one + 25 * two) / 63, atol=1e-5)


def test_a_text_that_fits_reads_the_same_in_both_ways(softmax: str) -> None:
    (window,), (cut,) = reader(softmax, long_texts="window").read(["short"]), _cached(softmax).read(["short"])
    assert window.probabilities is not None
    assert cut.probabilities is not None
    np.testing.assert_array_equal(window.probabilities, cut.probabilities)
