"""An encoder with a head on top, at full speed: texts in, one row of raw outputs per text out.

Texts of like length share a batch, and a batch holds as many tokens as the device likes; one thread computes while
another tokenizes the next texts; a half-used GPU keeps to its share. What runs a padded batch is one function.

Measured on one core of an AMD EPYC with avx512_bf16 (BERT-base, `python jobs/benchmark.py reader`), over eager float32:
torch.compile with dynamic shapes 0.98 to 1.04 times, not worth compiling in every actor; ONNX Runtime 1.8 to 2.0 times,
the setting `runtime: onnx`; bfloat16 2.4 to 3.6 times, the setting `dtype` and not "auto", for float32 reads alike to
1e-5 on every CPU.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from emoray import embedded
from emoray.hosts import hub
from emoray.readers import ReaderDown, onnx
from emoray.spec import GoEmotionsReader, RegressorReader

_log = logging.getLogger(__name__)
_Entry = GoEmotionsReader | RegressorReader
Outputs = npt.NDArray[np.float32]
_AsRead = Callable[[Outputs], npt.NDArray[np.floating[Any]]]  # raw outputs in units of readings
_CPU_TOKENS, _GPU_TOKENS = 256, 32_768  # of a batch: more costs a CPU more in padding than it gains in speed
_TOKENIZERS = 4  # threads beside a GPU, where `cpus` are fewer: one hardly tokenizes as fast as an H200 reads
_OVERLAP = 8  # a window begins this part of its length before the last one ended
_CLOSE = 1e-5  # what is promised of readings in float32, whatever runs the network
_NEEDS = "a reader needs a fast tokenizer, and a network that reads token ids and their mask in padded batches"
_TRIAL = ("What a day!", "No.")  # of different lengths: not every network can pad
_LONG = "What a day it was, and what a night! " * 60  # more than most networks read
_LIKE_ROBERTA = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer")
_HINT = "give `embedded`, a hub id, or a folder with config.json, the tokenizer and the weights"


@dataclass(frozen=True)
class Piece:
    """What of a text goes through the network at once."""

    text: int  # the place of the text
    ids: list[int]  # with the special tokens
    own: int  # tokens without them: the weight of this piece in the mean of its text


class Encoder:
    """One network on one device. `read` may be called from several threads: one computes, the others tokenize."""

    def __init__(self, entry: _Entry) -> None:
        """Loads the network and tries it; ReaderDown, in a sentence, where it cannot be used."""
        threads = max(1, math.ceil(entry.cpus))
        os.environ.setdefault("RAYON_NUM_THREADS", str(tokenizer_threads(threads, entry.gpus)))
        torch.set_num_threads(threads)
        if entry.runtime == "onnx" and (missing := onnx.missing()):
            wants = f"runtime: onnx, for which {' and '.join(missing)} must be installed"
            raise ReaderDown(f"{_named(entry)} asks for {wants} here: pip install 'emoray[onnx]'")
        with _telling(entry, "be loaded", _HINT):
            model, tokenizer = _loaded(entry)
        self.device, self.config = model.device, model.config
        own = entry.model == "embedded"
        hub = getattr(self.config, "_commit_hash", None) or entry.revision
        self.revision: str | None = embedded.CHECKSUMS["reader"][:12] if own else hub
        self._windows = entry.long_texts == "window"
        auto = _GPU_TOKENS if self.device.type == "cuda" else _CPU_TOKENS
        self._most_tokens, self._most_texts = entry.batch_tokens or auto, entry.batch_size
        self._computing = threading.Lock()
        self._entry, self._threads = entry, threads
        self._model: Any = model
        self._network: onnx.Run = partial(_eagerly, model)
        with _telling(entry, "be used", _NEEDS):
            self._tokenizer = _tokenizer(entry, tokenizer, longest(entry, tokenizer, self.config))
            self._pad, self._left = int(tokenizer.pad_token_id or 0), tokenizer.padding_side == "left"
            self.outputs(self.pieces(_TRIAL)[0])
            if self.device.type == "cuda":  # loads the kernels of full batches, and finds out whether they fit
                long = self.pieces([_LONG])[0][0]
                self.outputs([long] * max(1, self._most_tokens // len(long.ids)))

    @torch.no_grad()
    def hasten(self, as_read: _AsRead) -> None:
        """Moves the network to ONNX Runtime, where the entry asks for it; `as_read` makes readings of outputs.

        ReaderDown, in a sentence, where it cannot go there, or reads otherwise there.
        """
        if self._entry.runtime == "onnx":
            with _telling(self._entry, "be run by ONNX Runtime", "take runtime: torch"):
                self._network = self._exported(as_read)
                self._model = None

    def pieces(self, texts: Sequence[str]) -> tuple[list[Piece], list[bool]]:
        """The pieces of the texts, in order, and which texts are longer than what is read of them."""
        encodings = self._tokenizer.encode_batch(list(texts))
        found: list[Piece] = []
        for text, first in enumerate(encodings):
            windows = [first, *first.overflowing] if self._windows else [first]
            found += [Piece(text, one.ids, len(one.ids) - sum(one.special_tokens_mask)) for one in windows]
        return found, [bool(one.overflowing) and not self._windows for one in encodings]

    def outputs(self, pieces: Sequence[Piece]) -> Outputs:
        """(pieces, outputs) in the order of the pieces; inside, pieces of like length share a batch.

        ReaderDown where a GPU has no room even for the longest alone.
        """
        if not pieces:
            return np.zeros((0, int(self.config.num_labels)), dtype=np.float32)
        lengths = [len(piece.ids) for piece in pieces]
        while True:
            most_tokens = self._most_tokens
            try:
                return self._computed(pieces, list(batches(lengths, most_tokens, self._most_texts)))
            except torch.OutOfMemoryError as wrong:
                if most_tokens <= max(lengths):
                    raise ReaderDown(self._no_room(max(lengths))) from wrong
            self._halve(most_tokens)  # not in the handler, whose exception still holds what was allocated

    @torch.inference_mode()
    def _computed(self, pieces: Sequence[Piece], together: Sequence[list[int]]) -> Outputs:
        padded = [self._padded([pieces[place].ids for place in batch]) for batch in together]
        with self._computing:
            rows: Outputs = torch.cat([self._network(batch) for batch in padded]).float().cpu().numpy()
        ordered = np.empty_like(rows)
        ordered[np.concatenate(together)] = rows
        return ordered

    def _halve(self, most_tokens: int) -> None:
        """From now on, where another thread has not done it yet."""
        torch.cuda.empty_cache()
        self._most_tokens = min(self._most_tokens, most_tokens // 2)
        _log.info("%s: no room for batches of %d tokens, half of it from now on", _named(self._entry), most_tokens)

    def _no_room(self, tokens: int) -> str:
        share = f"its share of a GPU (gpus: {self._entry.gpus:g}) has no room for a text of {tokens} tokens"
        return f"{_named(self._entry)}: {share}; give it more of the GPU, or lower max_tokens"

    def close(self) -> None:
        del self._network, self._model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _padded(self, rows: Sequence[list[int]]) -> onnx.Tokens:
        """Ids and their mask."""
        width = max(map(len, rows))
        tokens = np.zeros((2, len(rows), width), dtype=np.int64)
        tokens[0] = self._pad
        for line, row in enumerate(rows):
            own = slice(width - len(row), width) if self._left else slice(0, len(row))
            tokens[0, line, own], tokens[1, line, own] = row, 1
        return tokens

    def _exported(self, as_read: _AsRead) -> onnx.Run:
        """The network in ONNX Runtime, once it has said what PyTorch says of batches of several shapes."""
        one, other, long = (self.pieces([text])[0][0].ids for text in (*_TRIAL, _LONG))
        network = onnx.exported(self._model, self._padded([one, other]), self._threads)
        for rows in ([one, other], [other], [long], [other, long]):
            tokens = self._padded(rows)
            expected, found = (as_read(run(tokens).float().numpy()) for run in (self._network, network))
            if not np.allclose(found, expected, rtol=0, atol=_CLOSE, equal_nan=True):
                off = float(np.abs(found - expected).max())
                raise ReaderDown(
                    f"{_named(self._entry)} reads otherwise in ONNX Runtime (by {off:.1g} where {_CLOSE:g} is "
                    "allowed); take runtime: torch"
                )
        return network


def _eagerly(model: Any, tokens: onnx.Tokens) -> torch.Tensor:
    """(2, texts, width) -> (texts, outputs) as PyTorch runs it."""
    both = torch.from_numpy(tokens)
    if model.device.type == "cuda":  # from pinned memory a GPU fetches it while it computes the batch before
        both = both.pin_memory().to(model.device, non_blocking=True)
    logits: torch.Tensor = model(input_ids=both[0], attention_mask=both[1]).logits
    return logits


def batches(lengths: Sequence[int], most_tokens: int, most_texts: int) -> Iterator[list[int]]:
    """The places, longest first, in groups: at most so many texts, and at most so many tokens with their padding.

    A text that alone is longer is a group of its own.
    """
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if group and (len(group) == most_texts or (len(group) + 1) * lengths[group[0]] > most_tokens):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def averaged(rows: npt.NDArray[np.floating[Any]], pieces: Sequence[Piece], texts: int) -> npt.NDArray[np.float64]:
    """(pieces, n) -> (texts, n): the mean over the pieces of each text, weighted by their tokens."""
    weights = np.array([max(1, piece.own) for piece in pieces], dtype=np.float64)
    owners = np.array([piece.text for piece in pieces], dtype=np.int64)
    sums, total = np.zeros((texts, rows.shape[1])), np.zeros(texts)
    np.add.at(sums, owners, rows * weights[:, None])
    np.add.at(total, owners, weights)
    return np.asarray(sums / total[:, None], dtype=np.float64)


def longest(entry: _Entry, tokenizer: Any, config: Any) -> int:
    """The most tokens the model can read: positions of the network, less those that RoBERTa-like models skip.

    A network without an end to its positions (XLNet, T5) reads 512, or as many as the entry says.
    """
    positions = int(getattr(config, "max_position_embeddings", None) or -1)
    if positions < 0:
        positions = entry.max_tokens or 512
    if getattr(config, "model_type", "") in _LIKE_ROBERTA:
        positions -= int(config.pad_token_id or 0) + 1
    return min(positions, int(tokenizer.model_max_length), entry.max_tokens or positions)


def tokenizer_threads(threads: int, gpus: float) -> int:
    """For a network with so many threads of its own, or on (a part of) a GPU; unset, one per core of the node."""
    return max(threads, _TOKENIZERS) if gpus else threads


def _loaded(entry: _Entry) -> tuple[Any, Any]:
    path = str(embedded.reader_path()) if entry.model == "embedded" else entry.model
    device = _device(entry)
    # False and not unset: unset, transformers would ask whoever sits at the terminal
    tokenizer = AutoTokenizer.from_pretrained(path, revision=entry.revision, trust_remote_code=False)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        path,
        revision=entry.revision,
        dtype=_dtype(entry, device),
        output_loading_info=True,
        trust_remote_code=False,
    )
    missing = sorted(info["missing_keys"])
    if missing:  # transformers would fill them with random numbers, and say so only in a log
        raise ReaderDown(f"{_named(entry)} has no weights for {', '.join(missing[:2])}: it is no trained classifier")
    return model.to(device).eval(), tokenizer


@contextmanager
def _telling(entry: _Entry, what: str, hint: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes one sentence of a ReaderDown."""
    try:
        yield
    except ReaderDown:
        raise
    except Exception as wrong:  # somebody's files, somebody's code: a cut file, a missing library, too little memory
        reason = next(iter(str(wrong).strip().splitlines()), type(wrong).__name__).rstrip(".:")
        reason, hint = hub.told(wrong) or (reason, hint)
        raise ReaderDown(f"{_named(entry)} cannot {what}: {reason}; {hint}") from wrong


def _device(entry: _Entry) -> str:
    if not entry.gpus:
        return "cpu"
    if not torch.cuda.is_available():
        raise ReaderDown(f"{_named(entry)} asks for a GPU, but torch sees none; set gpus: 0, or install torch for CUDA")
    if entry.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(entry.gpus)
    return "cuda"


def _dtype(entry: _Entry, device: str) -> torch.dtype:
    """Half precision on a GPU; on a CPU without instructions for it, it is several times slower."""
    half = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float16"
    auto = half if device == "cuda" else "float32"
    dtype: torch.dtype = getattr(torch, auto if entry.dtype == "auto" else entry.dtype)
    return dtype


def _tokenizer(entry: _Entry, tokenizer: Any, most: int) -> Any:
    """The Rust tokenizer itself, set once: so any number of threads may use it at the same time."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ReaderDown(f"{_named(entry)} has no fast tokenizer; save one beside it as tokenizer.json")
    backend.no_padding()
    backend.enable_truncation(most, stride=most // _OVERLAP if entry.long_texts == "window" else 0)
    return backend


def _named(entry: _Entry) -> str:
    return f"reader {entry.name!r} ({entry.model})"
