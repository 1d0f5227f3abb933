"""One suite for every reader: what `emoray.readers.Reader` promises; then what a GoEmotions classifier must do."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    LongformerConfig,
    MPNetConfig,
    PreTrainedConfig,
    XLNetConfig,
)

from emoray.readers.encoder import longest
from emoray.readers.goemotions import GoEmotions
from emoray.readers.protocol import Reader, ReaderDown
from emoray.readers.scripted import ScriptedReading
from emoray.spec.readers import GoEmotionsReader, ScriptedReader
from emoray.study.goemotions import LABELS
from tests import tiny_models

TEXTS = [
    "I am so happy!",
    "",
    "Everything is grey, and I am tired.",
    "I am so happy!",
    "Ärger? Nein – eher 🙂.",
    "a",
    "What a day it was, long and loud and full of people who wanted something of me.",
    "\n",
]
LONG = "freedom " * 400
CLOSE = 1e-5  # what is promised in float32: a CPU may add up a row in another order where the batch has another shape
ONE = {"joy": {"term": "happy"}}
NUMBERED = [f"LABEL_{i}" for i in range(28)]
SHUFFLED = [LABELS[i] for i in np.random.default_rng(4).permutation(28)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Classifiers of every kind that people publish."""
    root = tmp_path_factory.mktemp("classifiers")
    return {
        "softmax": tiny_models.classifier(root / "softmax", LABELS),
        "unsaid": tiny_models.classifier(root / "unsaid", LABELS, problem_type=None),
        "sigmoid": tiny_models.classifier(root / "sigmoid", LABELS, problem_type="multi_label_classification"),
        "numbered": tiny_models.classifier(root / "numbered", NUMBERED),
        "spelt": tiny_models.classifier(root / "spelt", [label.upper() for label in LABELS]),
        "shuffled": tiny_models.classifier(root / "shuffled", SHUFFLED),
        "roberta": tiny_models.classifier(root / "roberta", LABELS, kind="roberta"),
        "distilbert": tiny_models.classifier(root / "distilbert", LABELS, kind="distilbert"),
    }


def reader(model: str, **settings: Any) -> GoEmotions:
    return GoEmotions(GoEmotionsReader(kind="goemotions", name="r", model=model, **{"batch_size": 3} | settings))


@pytest.fixture(
    params=[
        "scripted",
        *("softmax", "sigmoid", "shuffled", "roberta"),
        "onnx sigmoid",  # the other kinds read alike in ONNX Runtime, in any batch: test_onnx
        *("embedded", "onnx embedded"),
    ],
    scope="module",
)
def any_reader(request: pytest.FixtureRequest, folders: dict[str, str]) -> Reader:
    if request.param == "scripted":
        return ScriptedReading(ScriptedReader(kind="scripted", name="r"))
    *onnx, name = request.param.split()
    return reader(folders.get(name, "embedded"), runtime="onnx" if onnx else "torch")


def read(some: Reader, texts: list[str]) -> npt.NDArray[np.float32]:
    """(texts, 28) probabilities."""
    found = [reading.probabilities for reading in some.read(texts)]
    assert len(found) == len(texts)
    assert all(row is not None for row in found)
    return np.array(found, dtype=np.float32).reshape(len(texts), 28)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8])
def test_every_text_gets_one_reading_of_28_probabilities(any_reader: Reader, n: int) -> None:
    rows = read(any_reader, TEXTS[:n])
    assert rows.shape == (n, 28)
    assert ((rows >= 0) & (rows <= 1)).all()
    for reading in any_reader.read(TEXTS[:n]):
        assert reading.probabilities is not None
        assert reading.probabilities.dtype == np.float32
        assert reading.error is None


def test_readings_stand_in_the_order_of_the_texts(any_reader: Reader) -> None:
    rows, backwards = read(any_reader, TEXTS), read(any_reader, TEXTS[::-1])
    np.testing.assert_allclose(rows, backwards[::-1], atol=CLOSE)
    np.testing.assert_array_equal(rows[0], rows[3])
    assert np.abs(rows[0] - rows[6]).max() > 1e-4


def test_a_texts_reading_does_not_depend_on_its_neighbours(any_reader: Reader) -> None:
    together = read(any_reader, TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(read(any_reader, [text])[0], row, atol=CLOSE)
        np.testing.assert_allclose(read(any_reader, [LONG, text, "x"])[1], row, atol=CLOSE)


def test_several_threads_may_read_at_once(any_reader: Reader) -> None:
    alone = read(any_reader, TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: read(any_reader, TEXTS), range(8)):
            np.testing.assert_allclose(rows, alone, atol=CLOSE)


# ── a GoEmotions classifier ──


def plain(folder: str, text: str, *, sigmoid: bool) -> dict[str, float]:
    """What plain transformers says, by the model's own label names."""
    words, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**words(text, return_tensors="pt")).logits[0]
    chances = logits.sigmoid() if sigmoid else logits.softmax(-1)
    return {model.config.id2label[i]: float(chance) for i, chance in enumerate(chances)}


@pytest.mark.parametrize(
    ("kind", "sigmoid"),
    [("softmax", False), ("unsaid", False), ("sigmoid", True), ("shuffled", False), ("roberta", False)],
)
def test_it_says_what_plain_transformers_says_under_the_same_names(
    folders: dict[str, str], kind: str, sigmoid: bool
) -> None:
    text = "I am so happy!"
    row, said = read(reader(folders[kind]), [text])[0], plain(folders[kind], text, sigmoid=sigmoid)
    assert set(said) == set(LABELS)
    for label, chance in said.items():
        assert row[LABELS.index(label)] == pytest.approx(chance, abs=1e-6)


def test_soft_max_shares_out_one_and_sigmoid_does_not(folders: dict[str, str]) -> None:
    np.testing.assert_allclose(read(reader(folders["softmax"]), TEXTS).sum(axis=1), 1.0, atol=1e-5)
    assert (np.abs(read(reader(folders["sigmoid"]), TEXTS).sum(axis=1) - 1.0) > 0.1).all()


def test_labels_are_found_by_name_number_or_spelling(folders: dict[str, str]) -> None:
    expected = read(reader(folders["softmax"]), TEXTS)
    for kind in ("numbered", "spelt"):
        np.testing.assert_array_equal(read(reader(folders[kind]), TEXTS), expected)


def test_labels_in_another_order_are_put_into_ours(folders: dict[str, str]) -> None:
    shuffled = read(reader(folders["shuffled"]), TEXTS)  # the same weights as "softmax", other names on the outputs
    ours = read(reader(folders["softmax"]), TEXTS)
    np.testing.assert_array_equal(shuffled[:, [LABELS.index(label) for label in SHUFFLED]], ours)


@pytest.mark.parametrize("kind", ["softmax", "roberta", "distilbert"])
def test_a_text_beyond_what_the_model_reads_is_cut_and_flagged(folders: dict[str, str], kind: str) -> None:
    short, long = reader(folders[kind]).read(["a short one", LONG])
    assert not short.truncated
    assert long.truncated
    assert long.probabilities is not None


@pytest.mark.parametrize(("kind", "longest"), [("softmax", 40), ("roberta", 39)])
def test_the_last_text_that_fits_is_not_cut(folders: dict[str, str], kind: str, longest: int) -> None:
    fits = "x" * (longest - 2)  # <s> and </s>
    assert [reading.truncated for reading in reader(folders[kind]).read([fits, f"{fits}x"])] == [False, True]


@pytest.mark.parametrize("config", [MPNetConfig, LongformerConfig])
def test_positions_that_stand_for_padding_are_no_tokens(config: type[PreTrainedConfig]) -> None:
    entry = GoEmotionsReader(kind="goemotions", name="r")
    whole = config(max_position_embeddings=514, pad_token_id=1)
    assert longest(entry, SimpleNamespace(model_max_length=10**30), whole) == 512


def test_a_spec_may_ask_to_read_less(folders: dict[str, str]) -> None:
    some = reader(folders["softmax"], max_tokens=12)
    assert [reading.truncated for reading in some.read(["x" * 10, "x" * 11])] == [False, True]
    np.testing.assert_array_equal(read(some, ["abcdefghij_____"]), read(some, ["abcdefghij!!!!!"]))
    assert reader(folders["softmax"], max_tokens=4000).read([LONG])[0].truncated


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_a_model_that_says_no_number_gives_an_error_and_no_reading(tmp_path: Path, runtime: str) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS)
    tiny_models.break_bias(tmp_path, 3)
    (reading,) = reader(folder, runtime=runtime).read(["hello"])
    assert reading.probabilities is None
    assert reading.error == "the model's probabilities are not numbers"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_finds_the_same_top_labels_also_on_a_cpu(folders: dict[str, str], dtype: str) -> None:
    whole, half = read(reader(folders["softmax"]), TEXTS), read(reader(folders["softmax"], dtype=dtype), TEXTS)
    assert half.argmax(axis=1).tolist() == whole.argmax(axis=1).tolist()
    assert 0 < np.abs(half - whole).max() < 0.05


def test_a_network_without_an_end_to_its_positions_reads_512_tokens_or_as_many_as_the_spec_says(tmp_path: Path) -> None:
    folder = saved(tmp_path, XLNetConfig(d_model=32, n_layer=1, n_head=2, d_inner=64, **SHAPE))
    assert [one.truncated for one in reader(folder).read(["x" * 510, "x" * 511])] == [False, True]
    assert [one.truncated for one in reader(folder, max_tokens=600).read(["x" * 598, "x" * 599])] == [False, True]


SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: i for i, label in enumerate(LABELS)},
}


def saved(folder: Path, config: PreTrainedConfig) -> str:
    """A network of another kind, with the tokenizer of the small ones."""
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny_models.tokenizer(classifier=True).save_pretrained(folder)
    return str(folder)


def test_the_batch_size_does_not_matter(folders: dict[str, str]) -> None:
    np.testing.assert_allclose(
        read(reader(folders["softmax"], batch_size=1), TEXTS),
        read(reader(folders["softmax"], batch_size=64), TEXTS),
        atol=CLOSE,
    )


# ── what can go wrong ──


def complaint(model: str) -> str:
    with pytest.raises(ReaderDown) as told:
        reader(model)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_reader_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    said = complaint(str(tmp_path / "nowhere"))
    assert said.startswith(f"reader 'r' ({tmp_path}/nowhere) cannot be loaded: ")
    assert said.endswith("; give `embedded`, a hub id, or a folder with config.json, the tokenizer and the weights")


def test_cut_weights_are_said_in_one_sentence(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS)
    weights = Path(folder, "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:500])
    assert "cannot be loaded: " in complaint(folder)


def test_a_network_that_has_no_id_for_padding_reads_all_the_same(tmp_path: Path) -> None:
    folder = saved(tmp_path, GPT2Config(n_embd=32, n_layer=1, n_head=2, **SHAPE))
    row, said = read(reader(folder), ["No.", "I am so happy!"])[1], plain(folder, "I am so happy!", sigmoid=False)
    assert {label: row[LABELS.index(label)] for label in said} == pytest.approx(said, abs=1e-6)


def test_a_network_that_cannot_read_at_all_is_said_before_it_reads_one(tmp_path: Path) -> None:
    folder = saved(tmp_path, GPT2Config(n_embd=32, n_layer=1, n_head=2, **SHAPE | {"vocab_size": 2}))
    assert complaint(folder) == (
        f"reader 'r' ({folder}) cannot be used: the text has token 226, and the network knows 2; "
        "a reader needs a fast tokenizer, and a network that reads token ids and their mask"
    )


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["NEGATIVE", "POSITIVE"], "has 2 labels (NEGATIVE, POSITIVE, …) and none for admiration, amusement, anger"),
        (LABELS[:27], "has 27 labels (admiration, amusement, anger, annoyance, approval, …) and none for neutral"),
        (
            [*LABELS, "boredom"],
            "has 29 labels (admiration, amusement, anger, annoyance, approval, …) and none for some",
        ),
        (
            ["happiness" if label == "love" else label for label in LABELS],
            "has 28 labels (admiration, amusement, anger, annoyance, approval, …) and none for love",
        ),
    ],
)
def test_a_classifier_with_other_labels_is_refused(tmp_path: Path, labels: list[str], found: str) -> None:
    folder = tiny_models.classifier(tmp_path, labels)
    assert complaint(folder) == f"reader 'r' ({folder}) {found}; it must have the 28 GoEmotions labels"


def test_a_tokenizer_that_lost_its_vocabulary_is_refused(tmp_path: Path) -> None:
    """transformers makes one of special tokens, to which every text is the same."""
    folder = tiny_models.classifier(tmp_path, LABELS)
    for kind in ("BertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer", "DebertaV2Tokenizer", "AlbertTokenizer"):
        tiny_models.lose_vocabulary(folder, kind)
        with pytest.raises(ReaderDown, match=r"cannot be used: its tokenizer knows no words, .* tokenizer\.model"):
            reader(folder)


def test_a_tokenizer_whose_class_is_another_familys_is_refused(tmp_path: Path) -> None:
    """transformers makes it anew by that class, and it loses the spaces between words, or the words."""
    folder = tiny_models.classifier(tmp_path, LABELS)
    expected = read(reader(folder), TEXTS)
    for kind in ("LlamaTokenizer", "BertTokenizer"):
        tiny_models.change(folder, "tokenizer_config.json", tokenizer_class=kind)
        with pytest.raises(ReaderDown, match=f"makes a {kind} of it, which reads plain words"):
            reader(folder)
    tiny_models.change(folder, "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    np.testing.assert_allclose(read(reader(folder), TEXTS), expected, rtol=0, atol=CLOSE)


def test_a_head_with_one_output_is_no_softmax(tmp_path: Path) -> None:
    """Of one output it is 1, whatever is read."""
    folder = tiny_models.classifier(tmp_path, ["joy"], problem_type=None)
    for activation in ("auto", "softmax"):
        with pytest.raises(ReaderDown, match="has one output, of which softmax always makes 1; set activation: sigmo"):
            reader(folder, label_map=ONE, activation=activation)
    texts = ["joy", "no"]
    words, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.inference_mode():
        plain = [torch.sigmoid(model(**words(text, return_tensors="pt")).logits[0]).numpy() for text in texts]
    found = [one.probabilities for one in reader(folder, label_map=ONE, activation="sigmoid").read(texts)]
    np.testing.assert_allclose(np.array(found), plain, rtol=0, atol=CLOSE)


def test_a_closed_reader_has_given_its_model_back(folders: dict[str, str]) -> None:
    some = reader(folders["softmax"])
    network = weakref.ref(some._encoder._network)
    assert network() is not None
    some.close()
    gc.collect()
    assert network() is None
    with pytest.raises(AttributeError, match="_encoder"):
        some.read(["hello"])
