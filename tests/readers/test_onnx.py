"""ONNX Runtime in place of PyTorch: the same readings in any batch, nothing left behind, or a sentence."""

from __future__ import annotations

import functools
import gc
import importlib.util
import logging
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DebertaV2Config,
    ElectraConfig,
    FunnelConfig,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from emoray.embedded import reader_path
from emoray.readers import onnx
from emoray.readers.goemotions import GoEmotions
from emoray.readers.protocol import ReaderDown
from emoray.readers.regressor import Regressor
from emoray.spec.readers import GoEmotionsReader, RegressorReader, readers_of
from emoray.study.goemotions import LABELS
from tests import tiny_models

CLOSE = 1e-5
TEXTS = ["I am so happy!", "", "Everything is grey, and I am tired.", "a", "freedom " * 400, "\n"]


def reader(model: str, **more: Any) -> GoEmotions:
    return GoEmotions(GoEmotionsReader(kind="goemotions", name="r", model=model, **{"runtime": "onnx"} | more))


def plainly(model: str, texts: list[str], most: int) -> Any:
    """(texts, labels): what plain transformers says, one text at a time."""
    words, network = _loaded(model)
    with torch.inference_mode():
        asked = [words(text, truncation=True, max_length=most, return_tensors="pt") for text in texts]
        logits = torch.cat([network(**one).logits for one in asked])
    return logits.softmax(-1).numpy()


@functools.cache
def _loaded(model: str) -> tuple[Any, Any]:
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(model), network


def read(some: GoEmotions, texts: list[str]) -> Any:
    return np.stack([reading.probabilities for reading in some.read(texts) if reading.probabilities is not None])


# ── the same readings ──


@pytest.fixture(params=["bert", "roberta", "distilbert", "embedded"], scope="module")
def some(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[GoEmotions, str, int]:
    """(reader, its folder, the most tokens that it reads)"""
    if request.param == "embedded":
        return reader("embedded"), str(reader_path()), 256
    folder = tiny_models.classifier(tmp_path_factory.mktemp(request.param), LABELS, kind=request.param)
    return reader(folder), folder, 39 if request.param == "roberta" else 40


@settings(max_examples=50)
@given(
    texts=st.lists(st.text(min_size=0, max_size=60), min_size=1, max_size=12),
    most_tokens=st.integers(1, 200),
    most_texts=st.integers(1, 9),
)
def test_the_probabilities_are_those_of_plain_transformers_in_any_batch(
    some: tuple[GoEmotions, str, int], texts: list[str], most_tokens: int, most_texts: int
) -> None:
    one, folder, most = some
    one._encoder._most_tokens, one._encoder._most_texts = most_tokens, most_texts
    np.testing.assert_allclose(read(one, texts), plainly(folder, texts, most), atol=CLOSE)


SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "initializer_range": 0.5,
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: i for i, label in enumerate(LABELS)},
}


def saved(folder: Path, config: PreTrainedConfig) -> str:
    torch.manual_seed(3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny_models.tokenizer(classifier=True).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(
            AlbertConfig(**SHAPE, embedding_size=16), marks=pytest.mark.campaign
        ),  # as Bert, but for the sizes
        pytest.param(ElectraConfig(**SHAPE, embedding_size=16), marks=pytest.mark.campaign),
        ModernBertConfig(**SHAPE, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2),
        DebertaV2Config(**SHAPE, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=16),
    ],
    ids=lambda config: str(config.model_type),
)
def test_other_encoders_read_alike_too(tmp_path: Path, config: PreTrainedConfig) -> None:
    folder = saved(tmp_path, config)
    np.testing.assert_allclose(read(reader(folder), TEXTS), plainly(folder, TEXTS, 40), atol=CLOSE)


@pytest.mark.campaign  # windows are made before a network is asked: test_together shows them in PyTorch
def test_windows_are_read_and_averaged_alike(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path, LABELS, kind="roberta")
    torchs = reader(folder, long_texts="window", runtime="torch")
    np.testing.assert_allclose(read(reader(folder, long_texts="window"), TEXTS), read(torchs, TEXTS), atol=CLOSE)


@pytest.mark.campaign  # as test_together's, for networks with and without an id for padding
def test_a_text_padded_on_the_left_reads_alike(tmp_path: Path) -> None:
    folder = saved(tmp_path, LlamaConfig(**SHAPE))
    tiny_models.change(tmp_path, "tokenizer_config.json", padding_side="left")
    np.testing.assert_allclose(read(reader(folder), TEXTS), plainly(folder, TEXTS, 40), atol=CLOSE)


# ── nothing is left behind, nobody is disturbed ──


def test_the_network_of_pytorch_is_let_go_no_file_is_left_and_a_closed_reader_has_given_its_own_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_models.classifier(tmp_path / "model", LABELS)
    made: list[weakref.ref[PreTrainedModel]] = []
    load = AutoModelForSequenceClassification.from_pretrained

    def noted(*arguments: Any, **settings: Any) -> Any:
        network, info = load(*arguments, **settings)
        made.append(weakref.ref(network))
        return network, info

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", noted)
    one = reader(folder)
    gc.collect()
    assert [network() for network in made] == [None]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len(read(one, TEXTS)) == len(TEXTS)

    own = weakref.ref(one._encoder._network)
    assert own() is not None
    one.close()
    gc.collect()
    assert own() is None
    with pytest.raises(AttributeError, match="_encoder"):
        one.read(["hello"])


def test_an_export_says_nothing_and_leaves_logging_and_warnings_as_they_were(tmp_path: Path) -> None:
    """In a process of its own: whatever it writes, also below Python."""
    folder = tiny_models.classifier(tmp_path, LABELS, kind="roberta")
    code = f"""
import logging, sys, warnings
from transformers.utils.logging import disable_progress_bar
from emoray.readers.goemotions import GoEmotions
from emoray.spec.readers import GoEmotionsReader
disable_progress_bar()
before = logging.root.manager.disable, warnings.filters[:], sys.stdout, sys.stderr
GoEmotions(GoEmotionsReader(kind="goemotions", name="r", model={folder!r}, runtime="onnx")).read(["hello"])
assert before == (logging.root.manager.disable, warnings.filters[:], sys.stdout, sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ── where it cannot be ──


def complaint(model: str, **settings: Any) -> str:
    with pytest.raises(ReaderDown) as told:
        reader(model, **settings)
    return str(told.value)


def test_what_the_exporter_cannot_do_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **settings: Any) -> Any:
        raise torch.onnx.OnnxExporterError("a page on how to debug it") from ValueError("Found the following conflicts")

    monkeypatch.setattr(torch.onnx, "export", refused)
    folder = tiny_models.classifier(tmp_path, LABELS)
    assert complaint(folder) == (
        f"reader 'r' ({folder}) cannot be run by ONNX Runtime: Found the following conflicts; take runtime: torch"
    )
    assert logging.root.manager.disable == 0


@pytest.mark.campaign  # the exporter tries for long; what is made of its refusal is shown above
def test_a_network_that_cannot_be_exported_is_a_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shape = {name: SHAPE[name] for name in ("vocab_size", "id2label", "label2id", "pad_token_id")}
    folder = saved(tmp_path, FunnelConfig(block_sizes=[1, 1], d_model=32, n_head=2, d_head=16, d_inner=64, **shape))
    assert len(reader(folder, runtime="torch").read(["hello"])) == 1
    said = complaint(folder)
    assert said.startswith(f"reader 'r' ({folder}) cannot be run by ONNX Runtime: Found the following conflicts")
    assert said.endswith("; take runtime: torch")
    assert said.isprintable()
    assert "def forward" not in capfd.readouterr().err
    assert logging.root.manager.disable == 0


@pytest.mark.parametrize("kind", ["goemotions", "regressor"])
def test_a_network_that_reads_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def astray(model: PreTrainedModel, *_: Any) -> onnx.Run:
        """PyTorch in place of ONNX Runtime, and a little off."""
        nudge = torch.zeros(len(LABELS))
        nudge[LABELS.index("joy")] = 1e-2
        return lambda tokens: onnx._Logits(model)(*map(torch.from_numpy, tokens)).detach() + nudge

    monkeypatch.setattr(onnx, "exported", astray)
    folder = tiny_models.classifier(tmp_path, LABELS)
    regressor = {"valence": "joy", "arousal": "anger", "range": [-9.0, 9.0]} if kind == "regressor" else {}
    (entry,) = readers_of([{"kind": kind, "name": "r", "model": folder, "runtime": "onnx"} | regressor])
    with pytest.raises(ReaderDown) as told:
        Regressor(entry) if isinstance(entry, RegressorReader) else GoEmotions(cast(GoEmotionsReader, entry))
    said = str(told.value)
    assert said.startswith(f"reader 'r' ({folder}) reads otherwise in ONNX Runtime (by ")
    assert said.endswith(" where 1e-05 is allowed); take runtime: torch")


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript", "onnx"])
def test_a_package_that_is_missing_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more))
    assert complaint("embedded") == (
        f"reader 'r' (embedded) asks for runtime: onnx, for which {package} must be installed here: "
        "pip install 'emoray[onnx]'"
    )
