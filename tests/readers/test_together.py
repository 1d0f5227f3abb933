"""A text reads beside any others as a bare call of transformers reads it alone, whatever kind of network reads."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BertConfig,
    BloomConfig,
    ConvBertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    FalconConfig,
    FNetConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    MPNetConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    RobertaConfig,
    T5Config,
    XLNetConfig,
)

from emoray.readers.encoder import Encoder
from emoray.readers.goemotions import GoEmotions
from emoray.readers.onnx import Tokens
from emoray.readers.protocol import ReaderDown
from emoray.readers.regressor import Regressor
from emoray.spec.readers import GoEmotionsReader, RegressorReader
from emoray.study.goemotions import LABELS
from tests import tiny_models

CLOSE = 1e-5
MOST = 40
TEXTS = [
    "I am so happy!",
    "No.",
    "Everything is grey, and I am tired",
    "a",
    "Ärger? Nein – eher 🙂",
    "freedom " * 30,
    "x" * (MOST - 2),
    "x" * MOST,
    "I am so happy.",
]
SHAPE: dict[str, Any] = {
    "vocab_size": 262,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": MOST,
    "initializer_range": 0.5,
    "init_std": 0.5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: i for i, label in enumerate(LABELS)},
}
GROUPED = {"num_key_value_heads": 1, "head_dim": 16}
ENCODER_DECODER = {
    "d_model": 32,
    **{
        f"{part}_{what}": number for part in ("encoder", "decoder") for what, number in (("layers", 1), ("ffn_dim", 64))
    },
    **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
}
ENCODERS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "bert": (BertConfig, {}),
    "roberta": (RobertaConfig, {"max_position_embeddings": MOST + 4}),
    "distilbert": (DistilBertConfig, {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "albert": (AlbertConfig, {"embedding_size": 16}),
    "electra": (ElectraConfig, {"embedding_size": 16}),
    "deberta": (DebertaConfig, {}),
    "deberta-v2": (DebertaV2Config, {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "mpnet": (MPNetConfig, {"max_position_embeddings": MOST + 4}),
    "modernbert": (ModernBertConfig, {"cls_token_id": 1, "sep_token_id": 2}),
    "xlnet": (XLNetConfig, {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
    "convbert": (ConvBertConfig, {"embedding_size": 32, "conv_kernel_size": 3, "head_ratio": 2}),
    "fnet": (FNetConfig, {}),
    "bart": (BartConfig, ENCODER_DECODER | {"max_position_embeddings": MOST}),
    "t5": (
        T5Config,
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
    ),
}
CAUSAL: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": MOST}),
    "llama": (LlamaConfig, GROUPED),
    "qwen2": (Qwen2Config, GROUPED),
    "mistral": (MistralConfig, GROUPED),
    "gemma": (GemmaConfig, GROUPED),
    "opt": (OPTConfig, {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "bloom": (BloomConfig, {"n_layer": 2, "n_head": 2}),
    "gpt-neox": (GPTNeoXConfig, {}),
    "falcon": (FalconConfig, {"alibi": False}),
    "phi3": (Phi3Config, {"num_key_value_heads": 1}),
}


def saved(folder: Path, family: str, *, pad: int | None = 0, words: Any = None, **more: Any) -> str:
    """A network of a family, whose config has that id for padding, with a tokenizer."""
    kind, own = (ENCODERS | CAUSAL)[family]
    settings = {**SHAPE, **own, "pad_token_id": pad, **more}
    if kind in (GPT2Config, XLNetConfig, T5Config, BartConfig, BloomConfig):  # these have other names for some
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            settings.pop(name)
    if kind is XLNetConfig:  # its positions have no end
        settings.pop("max_position_embeddings")
    torch.manual_seed(3)
    network = AutoModelForSequenceClassification.from_config(kind(**settings))
    with torch.no_grad():
        for weights in network.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.3)
    network.save_pretrained(folder)
    (words or tiny_models.tokenizer(classifier=True)).save_pretrained(folder)
    tiny_models.change(folder, "config.json", pad_token_id=pad, problem_type="single_label_classification")
    return str(folder)


def reader(model: str, **settings: Any) -> GoEmotions:
    return GoEmotions(GoEmotionsReader(kind="goemotions", name="r", model=model, **{"max_tokens": MOST} | settings))


def some_reader(kind: str, folder: str) -> GoEmotions | Regressor:
    if kind == "goemotions":
        return reader(folder)
    outputs: dict[str, Any] = {"valence": "joy", "arousal": "anger", "range": [-9.0, 9.0]}
    return Regressor(RegressorReader(kind="regressor", name="r", model=folder, **outputs))


def read(some: GoEmotions, texts: list[str]) -> Any:
    found = some.read(texts)
    assert [one.error for one in found] == [None] * len(texts)
    return np.stack([one.probabilities for one in found if one.probabilities is not None])


def bare(model: str, texts: list[str]) -> Any:
    """(texts, labels): what transformers says of each text alone, without any padding."""
    words, network = AutoTokenizer.from_pretrained(model), AutoModelForSequenceClassification.from_pretrained(model)
    rows = []
    for text in texts:
        ids = words(text, truncation=True, max_length=MOST, split_special_tokens=True)["input_ids"]
        with torch.inference_mode():
            rows.append(network.eval()(input_ids=torch.tensor([ids])).logits[0].softmax(-1).numpy())
    return np.stack(rows)


def tokenizer(*, ends: bool = True, pad: str = "<pad>", side: str = "right", cuts: str = "right") -> Any:
    words = tiny_models.tokenizer(classifier=ends)
    words.pad_token, words.padding_side, words.truncation_side = pad, side, cuts
    return words


VARIANTS: dict[str, dict[str, Any]] = {
    "as usual": {},
    "padded left": {"side": "left"},
    "cut left": {"side": "left", "cuts": "left"},
    "padded with the end": {"pad": "</s>"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_read_together_as_alone(tmp_path: Path, family: str, variant: str) -> None:
    folder = saved(tmp_path, family, words=tokenizer(**VARIANTS[variant]))
    expected = bare(folder, TEXTS)
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(read(reader(folder), TEXTS), expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ends", [True, False], ids=["with an end", "without an end"])
@pytest.mark.parametrize("pad", [0, None, 2, 20, -1], ids=["own", "none", "the end", "a letter", "minus one"])
def test_a_causal_network_pools_where_it_would_alone_whatever_stands_for_padding(
    tmp_path: Path, pad: int | None, ends: bool, variant: str
) -> None:
    folder = saved(tmp_path, "gpt2", pad=pad, words=tokenizer(ends=ends, **VARIANTS[variant]))
    np.testing.assert_allclose(read(reader(folder), TEXTS), bare(folder, TEXTS), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("pad", [None, 2], ids=["none", "the end"])
@pytest.mark.parametrize("family", CAUSAL)
def test_causal_networks_read_together_as_alone(tmp_path: Path, family: str, pad: int | None) -> None:
    folder = saved(tmp_path, family, pad=pad, words=tokenizer(ends=False, side="left"))
    expected = bare(folder, TEXTS)
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(read(reader(folder), TEXTS), expected, rtol=0, atol=CLOSE)


def test_an_id_for_padding_beyond_the_embedding_is_none_of_the_networks(tmp_path: Path) -> None:
    """As where somebody added a token to the tokenizer, and no row to the network."""
    folder = saved(tmp_path, "gpt2", pad=262, words=tokenizer(ends=False))
    np.testing.assert_allclose(read(reader(folder), TEXTS), bare(folder, TEXTS), rtol=0, atol=CLOSE)


@pytest.mark.parametrize(("family", "pad"), [("gpt2", None), ("llama", 2), ("roberta", 0)])
def test_onnx_runtime_keeps_to_the_same_rule(tmp_path: Path, family: str, pad: int | None) -> None:
    folder = saved(tmp_path, family, pad=pad, words=tokenizer(ends=family == "roberta", side="left"))
    np.testing.assert_allclose(read(reader(folder, runtime="onnx"), TEXTS), bare(folder, TEXTS), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("family", ["bert", "llama", "xlnet"])
def test_windows_read_together_as_alone(tmp_path: Path, family: str) -> None:
    folder = saved(tmp_path, family, words=tokenizer(side="left", cuts="left"))
    some = reader(folder, long_texts="window")
    together = read(some, TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(read(some, [text])[0], row, rtol=0, atol=CLOSE)


def test_a_long_text_does_not_turn_the_positions_of_its_neighbours(tmp_path: Path) -> None:
    """With longrope one text beyond what the network was first trained to makes all of a batch be read otherwise."""
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [9.0] * 8}
    positions = {"max_position_embeddings": 4 * MOST, "original_max_position_embeddings": MOST}
    folder = saved(tmp_path, "phi3", words=tokenizer(ends=False), rope_parameters=scaling, **positions)
    texts = [*TEXTS, "freedom " * 60]
    np.testing.assert_allclose(read(reader(folder, max_tokens=None), texts), bare(folder, texts), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_half_precision_is_allowed_what_it_loses_and_no_more(tmp_path: Path, family: str, dtype: str) -> None:
    some = reader(saved(tmp_path, family, pad=None if family == "gpt2" else 0), dtype=dtype)
    assert some._encoder._way in ("right", "left") if family == "llama" else some._encoder._way == "right"
    alone = np.stack([read(some, [text])[0] for text in TEXTS])
    assert np.abs(read(some, TEXTS) - alone).max() < some._encoder._allowed


def test_a_network_that_bears_no_padding_reads_texts_of_one_length_together_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved(tmp_path, "fnet")
    with caplog.at_level(logging.WARNING):
        some = reader(folder)
    assert "only texts of one length share a batch, which is slower" in caplog.text
    np.testing.assert_allclose(read(some, TEXTS), bare(folder, TEXTS), rtol=0, atol=CLOSE)


# ── a network that cannot be trusted ──


def astray(monkeypatch: pytest.MonkeyPatch, spoil: Any) -> None:
    """What every network says goes through `spoil`, with its tokens, first."""
    from emoray.readers import encoder

    eagerly = encoder._eagerly
    monkeypatch.setattr(encoder, "_eagerly", lambda model, tokens: spoil(eagerly(model, tokens), tokens))


@pytest.mark.parametrize("kind", ["goemotions", "regressor"])
@pytest.mark.parametrize("nudge", [1e-2, float("nan")])
def test_a_network_that_never_says_the_same_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, nudge: float
) -> None:
    calls: list[int] = []

    def drifting(logits: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        calls.append(len(tokens))
        drift = torch.zeros(len(LABELS))
        drift[LABELS.index("joy")] = nudge * len(calls) if len(calls) % 2 else 0.0
        return logits + drift

    folder = saved(tmp_path, "bert")
    astray(monkeypatch, drifting)
    with pytest.raises(ReaderDown) as told:
        some_reader(kind, folder)
    said = str(told.value)
    assert said.startswith(f"reader 'r' ({folder}) reads a text otherwise beside others than alone")
    assert said.endswith(" where 1e-05 is allowed); take another classifier")


# ── special tokens in a text ──


@pytest.mark.parametrize("pad", [None, 2, 0])
def test_special_tokens_that_somebody_wrote_are_read_as_text(tmp_path: Path, pad: int | None) -> None:
    folder = saved(tmp_path, "llama", pad=pad, words=tokenizer(ends=False))
    texts = ["</s>", "I am <s> happy</s>", "<pad> <pad>", "so </s>"]
    np.testing.assert_allclose(read(reader(folder), texts), bare(folder, texts), rtol=0, atol=CLOSE)
    encoder = Encoder(GoEmotionsReader(kind="goemotions", name="r", model=folder))
    assert [piece.own for piece in encoder.pieces(texts)[0]] == [4, 18, 11, 7]


def test_a_placeholder_that_the_network_was_trained_with_stays_one_token(tmp_path: Path) -> None:
    words = tokenizer()
    words.add_special_tokens({"additional_special_tokens": ["[NAME]", "[NEW]"]})
    folder = saved(tmp_path, "bert", words=words, vocab_size=263)  # one of the two has a row
    encoder = Encoder(GoEmotionsReader(kind="goemotions", name="r", model=folder))
    assert [piece.own for piece in encoder.pieces(["[NAME]", "[NEW]", "</s>"])[0]] == [1, 5, 4]
    assert [one.error for one in reader(folder).read(["[NAME] is happy", "[NEW]"])] == [None, None]


# ── texts that cannot be read ──


def test_a_text_without_a_token_is_an_error_and_its_neighbours_are_read(tmp_path: Path) -> None:
    folder = saved(tmp_path, "gpt2", pad=None, words=tokenizer(ends=False))
    happy, empty, sad = reader(folder).read(["happy", "", "sad"])
    assert empty.error == f"unreadable: reader 'r' ({folder}): ValueError: the text has no tokens"
    assert empty.probabilities is None
    found = np.array([happy.probabilities, sad.probabilities], dtype=np.float32)
    np.testing.assert_allclose(found, bare(folder, ["happy", "sad"]), rtol=0, atol=CLOSE)


def test_a_text_with_a_token_that_the_network_does_not_know_is_an_error(tmp_path: Path) -> None:
    words = tokenizer()
    words.add_tokens([AddedToken("grmpf", special=False)])
    folder = saved(tmp_path, "bert", words=words)
    texts = [f"text number {n}" for n in range(20)]
    found = reader(folder).read([*texts[:13], "a grmpf", *texts[13:]])
    assert found.pop(13).error == (
        f"unreadable: reader 'r' ({folder}): ValueError: the text has token 262, and the network knows 262"
    )
    assert [one.error for one in found] == [None] * 20
    rows = np.array([one.probabilities for one in found], dtype=np.float32)
    np.testing.assert_allclose(rows, bare(folder, texts), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("kind", ["goemotions", "regressor"])
def test_texts_at_which_the_network_fails_are_errors_and_all_others_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    def picky(logits: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        letter = tiny_models.tokenizer().convert_tokens_to_ids("q")
        if (tokens[0] == letter).any():
            raise RuntimeError("\x1b[31mno q please\x1b[0m\nat line 7")
        return logits

    astray(monkeypatch, picky)
    folder = saved(tmp_path, "bert")
    texts = ["queen" if n in (0, 7, 8, 30) else f"king {n}" for n in range(31)]
    errors = [one.error for one in some_reader(kind, folder).read(texts)]
    said = f"unreadable: reader 'r' ({folder}): RuntimeError: no q please"
    assert errors == [said if text == "queen" else None for text in texts]


def test_a_network_that_fails_on_everything_is_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken: list[bool] = []

    def breaking(logits: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        if broken:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return logits

    astray(monkeypatch, breaking)
    some = reader(saved(tmp_path, "bert"))
    assert some.read(["fine"])[0].error is None
    broken.append(True)
    with pytest.raises(ReaderDown, match=r"cannot read any more: CUDA error: device-side assert triggered; resume"):
        some.read(["one", "two"])


# ── how long a text may be ──


# the limit is found before an export
@pytest.mark.parametrize("runtime", ["torch", pytest.param("onnx", marks=pytest.mark.campaign)])
def test_a_limit_that_the_network_does_not_bear_is_lowered_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, runtime: str
) -> None:
    folder = saved(tmp_path, "bert")
    with caplog.at_level(logging.WARNING):
        some = reader(folder, max_tokens=None, runtime=runtime)
    assert not caplog.records
    roberta = saved(tmp_path / "offset", "roberta", pad=9)  # of its 44 positions, the first ten stand for nothing
    assert [one.truncated for one in reader(roberta, max_tokens=None).read(["x" * 32, "x" * 33])] == [False, True]
    assert [one.truncated for one in some.read(["x" * 38, "x" * 39])] == [False, True]


def test_a_config_that_promises_more_positions_than_there_are_costs_no_reading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from emoray.readers import encoder

    monkeypatch.setattr(encoder, "_LIKE_ROBERTA", ())  # a kind that nobody has listed
    folder = saved(tmp_path, "roberta", pad=0)
    with caplog.at_level(logging.WARNING):
        some = reader(folder, max_tokens=None)
    assert f"reader 'r' ({folder}) reads 43 tokens, and not 44 (RuntimeError: index 44 is out of bounds" in caplog.text
    assert [one.truncated for one in some.read(["x" * 41, "x" * 42])] == [False, True]


def test_a_limit_that_special_tokens_fill_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, "bert")
    with pytest.raises(ReaderDown) as told:
        reader(folder, max_tokens=2)
    assert str(told.value) == (
        f"reader 'r' ({folder}) would read 2 tokens of a text, and its special tokens fill them; raise max_tokens"
    )
