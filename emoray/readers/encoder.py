"""An encoder with a head on top, at full speed: texts in, one row of raw outputs per text out.

Texts of like length share a batch, and a batch holds as many tokens as the device likes; one thread computes while
another tokenizes the next texts; a half-used GPU keeps to its share. What runs a padded batch is one function. How
texts can share a batch (padded on which side, or only those of one length) is found out at the start, by reading some
together and alone.

Measured on one core of an AMD EPYC with avx512_bf16 (BERT-base, `python jobs/benchmark.py reader`), over eager float32:
torch.compile with dynamic shapes 0.98 to 1.04 times, not worth compiling in every actor; ONNX Runtime 1.8 to 2.0 times,
the setting `runtime: onnx`; bfloat16 2.4 to 3.6 times, the setting `dtype` and not "auto", for float32 reads alike to
1e-5 on every CPU.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedConfig

from emoray import embedded
from emoray.hosts import hub
from emoray.hosts.checkpoint import misfit
from emoray.hosts.context import turned
from emoray.hosts.vocabulary import NO_WORDS, knows_words, misread
from emoray.hosts.weights import adapter_of, commit_of, unmerged, unusual
from emoray.readers import onnx
from emoray.readers.outputs import Unclear, output_labels
from emoray.readers.padding import SIDES, UNPADDED, Piece, Way, known_ids, padded, padding_id
from emoray.readers.protocol import ReaderDown, Reading
from emoray.reasons import cause, is_failure, reason_of
from emoray.spec.readers import GoEmotionsReader, RegressorReader
from emoray.study.scoring import UNREADABLE

_log = logging.getLogger(__name__)
_Entry = GoEmotionsReader | RegressorReader
Outputs = npt.NDArray[np.float32]
_AsRead = Callable[[Outputs], npt.NDArray[np.floating[Any]]]  # raw outputs in units of readings
_CPU_TOKENS, _GPU_TOKENS = 256, 32_768  # of a batch: more costs a CPU more in padding than it gains in speed
_TOKENIZERS = 4  # threads beside a GPU, where `cpus` are fewer: one hardly tokenizes as fast as an H200 reads
_OVERLAP = 8  # a window begins this part of its length before the last one ended
_CLOSE = 1e-5  # what is promised of readings in float32, whatever runs the network
_HALF_UNITS = 8  # of half precision, instead: measured 1 to 2 where padding is right, and 12 to 56 where it is wrong
_NEEDS = "a reader needs a fast tokenizer, and a network that reads token ids and their mask"
TRIAL = ("No.", "What a day!", "It was the best of times, it was the worst of times, and nobody asked me which.")
_WORDS = "What a day it was, and what a night! "
_GPU_TRIAL = 512  # tokens of each text with which a GPU is tried
_MOST_TRIED, _AFFORDED = 2048, 5e11  # tokens and multiplications of the longest text that is tried: seconds of one core
_LIKE_ROBERTA = (
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "roberta-prelayernorm", "xmod"),
    *("data2vec-text", "ibert", "esm", "lilt", "luke", "markuplm", "layoutlmv3"),
)
_INSTALL = "install what it names where the reader runs"
_HINT = "give `embedded`, a hub id, or a folder with config.json, the tokenizer and the weights"


class Encoder:
    """One network on one device. `read` may be called from several threads: one computes, the others tokenize."""

    def __init__(self, entry: _Entry) -> None:
        """Loads the network; ReaderDown, in a sentence, where it cannot be used."""
        threads = max(1, math.ceil(entry.cpus))
        os.environ.setdefault("RAYON_NUM_THREADS", str(tokenizer_threads(threads, entry.gpus)))
        torch.set_num_threads(threads)
        if entry.runtime == "onnx" and (missing := onnx.missing()):
            wants = f"runtime: onnx, for which {' and '.join(missing)} must be installed"
            raise ReaderDown(f"{_named(entry)} asks for {wants} here: pip install 'emoray[onnx]'")
        with _telling(entry, "be loaded", _HINT):
            model, tokenizer, told = _loaded(entry)
        self.device, self.config = model.device, model.config
        self.labels = _labels(entry, model.config.id2label, told)
        own = entry.model == "embedded"
        self.revision = embedded.CHECKSUMS["reader"][:12] if own else commit_of(entry.model, entry.revision)
        self._windows = entry.long_texts == "window"
        auto = _GPU_TOKENS if self.device.type == "cuda" else _CPU_TOKENS
        self._most_tokens, self._most_texts = entry.batch_tokens or auto, entry.batch_size
        self._computing = threading.Lock()
        self._entry, self._threads = entry, threads
        self.notes: list[str] = []  # sentences that whoever runs it should read
        self._model: Any = model
        self._network: onnx.Run = partial(_eagerly, model)
        self._way: Way = "right"
        with _telling(entry, "be used", _NEEDS):
            self._known = known_ids(model)  # before the row for padding, which is no text's
            self._tokenizer = _backend(entry, tokenizer, self._known)
            self._check_words()
            self._pad, self._typed = padding_id(model), _reads_types(model, tokenizer, self._tokenizer)
            self._cut_side = tokenizer.truncation_side
            self._affordable = _affordable(model)
            self._allowed = _CLOSE if model.dtype == torch.float32 else _HALF_UNITS * torch.finfo(model.dtype).eps
            self._cut_at(longest(entry, tokenizer, self.config))

    @torch.no_grad()
    def settle(self, as_read: _AsRead) -> None:
        """Finds out how long a text may be and how texts can share a batch, and moves the network to ONNX Runtime
        where the entry asks for it; `as_read` makes readings of outputs.

        ReaderDown, in a sentence, where the network reads a text otherwise beside others than alone, whatever is
        tried; where it cannot go there, or reads otherwise there.
        """
        with _telling(self._entry, "be used", _NEEDS):
            self._reach()
            self._way = self._fitting(as_read)
            if self.device.type == "cuda":  # loads the kernels of full batches, and finds out whether they fit
                long = _shortened(self._long(_GPU_TRIAL)[0], self._affordable)
                self.outputs([long] * max(1, self._most_tokens // len(long.ids)))
        if self._entry.runtime == "onnx":
            with _telling(self._entry, "be run by ONNX Runtime", "take runtime: torch"):
                self._network = self._exported(as_read)
                self._model = None

    def narrowed(self, read: Callable[[Sequence[str]], list[Reading]], texts: Sequence[str]) -> list[Reading]:
        """What `read` finds in the texts; where it fails, it is given halves of them, down to the texts that make it
        fail: these become readings with an error.

        ReaderDown where it fails on a text that it could read at its start.
        """
        try:
            return read(texts)
        except ReaderDown:
            raise
        except BaseException as failure:
            if not is_failure(failure):
                raise
            wrong = failure
        if len(texts) > 1:
            half = len(texts) // 2
            return [*self.narrowed(read, texts[:half]), *self.narrowed(read, texts[half:])]
        _log.info("%s cannot read a text", _named(self._entry), exc_info=wrong)
        with _telling(self._entry, "read any more", "resume, and it is started anew"):
            read(TRIAL[:1])
        return [Reading(None, error=f"{UNREADABLE}: {_named(self._entry)}: {cause(wrong)}")]

    def pieces(self, texts: Sequence[str]) -> tuple[list[Piece], list[bool]]:
        """The pieces of the texts, in order, and which texts are longer than what is read of them."""
        encodings = self._tokenizer.encode_batch(list(texts))
        found: list[Piece] = []
        for text, first in enumerate(encodings):
            windows = [first, *first.overflowing] if self._windows else [first]
            for one in windows:
                types = one.type_ids if self._typed else None
                found.append(Piece(text, one.ids, len(one.ids) - sum(one.special_tokens_mask), types))
        return found, [bool(one.overflowing) and not self._windows for one in encodings]

    def outputs(self, pieces: Sequence[Piece]) -> Outputs:
        """(pieces, outputs) in the order of the pieces; inside, pieces of like length share a batch.

        ReaderDown where a GPU has no room even for the longest alone; raises what the network raises.
        """
        if not pieces:
            return np.zeros((0, int(self.config.num_labels)), dtype=np.float32)
        lengths = [len(piece.ids) for piece in pieces]
        while True:
            most_tokens = self._most_tokens
            try:
                together = batches(lengths, most_tokens, self._most_texts, way=self._way)
                return self._computed(pieces, list(together), self._way, self._network)
            except torch.OutOfMemoryError as wrong:
                if most_tokens <= max(lengths):
                    raise ReaderDown(self._no_room(max(lengths))) from wrong
            self._halve(most_tokens)  # not in the handler, whose exception still holds what was allocated

    @torch.inference_mode()
    def _computed(self, pieces: Sequence[Piece], together: Sequence[list[int]], way: Way, network: onnx.Run) -> Outputs:
        batches_ = [self._padded([pieces[place] for place in batch], way) for batch in together]
        with self._computing:
            rows: Outputs = torch.cat([network(batch) for batch in batches_]).float().cpu().numpy()
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

    def _padded(self, pieces: Sequence[Piece], way: Way) -> onnx.Tokens:
        """ValueError for what would make a GPU fail for good, or be read as nothing but padding."""
        if not all(piece.ids for piece in pieces):
            raise ValueError("the text has no tokens")
        tokens = padded(pieces, self._pad, way)
        highest = int((tokens[0] * tokens[1]).max())
        if self._known is not None and highest >= self._known:
            raise ValueError(f"the text has token {highest}, and the network knows {self._known}")
        return tokens

    def _check_words(self) -> None:
        if not knows_words(lambda text: self._tokenizer.encode(text, add_special_tokens=False).ids):
            raise ReaderDown(f"{_named(self._entry)} cannot be used: {NO_WORDS}")

    # ── how long a text may be ──

    def _cut_at(self, most: int) -> None:
        """Set before anything is read, so that any number of threads may use the tokenizer at the same time."""
        own = most - self._tokenizer.num_special_tokens_to_add(False)
        if own < 1:
            fill = f"would read {most} tokens of a text, and its special tokens fill them"
            raise ReaderDown(f"{_named(self._entry)} {fill}; raise max_tokens")
        self._most = most
        side = "right" if self._windows else self._cut_side
        stride = min(most // _OVERLAP, own - 1) if self._windows else 0
        self._tokenizer.enable_truncation(most, stride=stride, direction=side)

    def _reach(self) -> None:
        """Lowers the most tokens to what the network reads: not every config says it as it is."""
        said, tried = self._most, min(self._most, self._affordable)
        wrong = self._failure_at(tried)
        if wrong is None:
            return self._cut_at(said)
        fits, fails = 1 + self._tokenizer.num_special_tokens_to_add(False), tried
        if self.device.type == "cuda" or self._failure_at(fits):  # a GPU does not go on after an index out of range
            raise wrong
        while fails - fits > 1:
            middle = (fits + fails) // 2
            fits, fails = (fits, middle) if self._failure_at(middle) else (middle, fails)
        self.note(f"reads {fits} tokens, and not {said} ({cause(wrong)})")
        return self._cut_at(fits)

    def _failure_at(self, tokens: int) -> Exception | None:
        """What the network says against a text of so many tokens."""
        self._cut_at(tokens)
        try:
            self._together(self._long(tokens)[:1], "alone", self._network)
        except torch.OutOfMemoryError as wrong:
            raise ReaderDown(self._no_room(tokens)) from wrong
        except Exception as wrong:  # somebody's network
            return wrong
        return None

    def _long(self, tokens: int) -> list[Piece]:
        """Of a text of more tokens than so many."""
        return self.pieces([_WORDS * (1 + tokens // len(_WORDS.split()))])[0]

    # ── how texts can share a batch ──

    def _fitting(self, as_read: _AsRead) -> Way:
        """The first way in which texts read together as they read alone; in half precision, where nothing is equal, the
        better side.

        Positions, poolers and masks decide it, and not the side on which the tokenizer pads.
        """
        groups = self._trial()
        said = [self._together(group, "alone", self._network) for group in groups]
        if not np.ptp(np.concatenate(said), axis=0).any():  # NaN is no sameness
            raise ReaderDown(
                f"{_named(self._entry)} says the same of every text: its weights are not those of a classifier"
            )
        alone = [as_read(outputs) for outputs in said]
        if not np.ptp(np.concatenate(alone), axis=0).any():
            raise ReaderDown(
                f"{_named(self._entry)} makes the same reading of every text, and what its network says differs; "
                "correct activation, temperature or range in the spec"
            )
        off: dict[Way, float] = {}
        for ways in (SIDES, UNPADDED):
            for way in ways:
                off[way] = self._tried(as_read, groups, alone, way)
                if off[way] <= _CLOSE:
                    return self._told(way)
            best = min(off, key=lambda way: off[way])
            if off[best] <= self._allowed:
                return self._told(best)
        raise ReaderDown(
            f"{_named(self._entry)} reads a text otherwise beside others than alone, however they share a batch (by "
            f"{min(off.values()):.1g} where {self._allowed:g} is allowed); take another classifier"
        )

    def _told(self, way: Way) -> Way:
        shared = {"alike": "only texts of one length share a batch", "alone": "each is read alone"}
        if way in shared:
            why = "reads a text otherwise where it is padded"
            self.note(f"{why}, so {shared[way]}, which is slower")
        return way

    def note(self, said: str) -> None:
        """Tells whoever runs it, with what it does as the end of the sentence."""
        _log.warning("%s %s", _named(self._entry), said)
        self.notes.append(f"it {said}")

    def _tried(self, as_read: _AsRead, groups: list[list[Piece]], alone: list[Any], way: Way) -> float:
        """By how much readings are off in a way; without end where the network cannot read so."""
        try:
            return self._off(as_read, groups, alone, way, self._network)
        except torch.OutOfMemoryError as wrong:
            raise ReaderDown(self._no_room(max(len(piece.ids) for piece in groups[-1]))) from wrong
        except Exception:  # somebody's network
            _log.info("%s cannot read texts %s", _named(self._entry), way, exc_info=True)
            return math.inf

    def _off(
        self, as_read: _AsRead, groups: list[list[Piece]], expected: list[Any], way: Way, network: onnx.Run
    ) -> float:
        found = [as_read(self._together(group, way, network)) for group in groups]
        return max(map(difference, found, expected))

    def _together(self, pieces: Sequence[Piece], way: Way, network: onnx.Run) -> Outputs:
        """In as few batches as the way allows."""
        lengths = [len(piece.ids) for piece in pieces]
        return self._computed(pieces, list(batches(lengths, 2**62, len(pieces), way=way)), way, network)

    def _trial(self) -> list[list[Piece]]:
        """Groups of pieces that are read together: short ones of several lengths, two of each; one that is cut beside
        a short one, which costs more.
        """
        short = self.pieces(TRIAL)[0]
        long = self._long(min(self._most, self._affordable))
        ends = [long[0]] if len(long) == 1 else [long[0], long[-1]]
        return [[*short, *map(_mirrored, short)], [short[0], *(_shortened(piece, self._affordable) for piece in ends)]]

    def _exported(self, as_read: _AsRead) -> onnx.Run:
        """The network in ONNX Runtime, once it has said what PyTorch says of single texts, alone and together."""
        groups = self._trial()
        alone = [as_read(self._together(group, "alone", self._network)) for group in groups]
        one, other = groups[0][0], groups[0][0 if self._way in UNPADDED else 1]
        network = onnx.exported(self._model, self._padded([one, other], self._way), self._threads)
        off = max(self._off(as_read, groups, alone, way, network) for way in {self._way: 0, "alone": 0})
        if not off <= _CLOSE:
            raise ReaderDown(
                f"{_named(self._entry)} reads otherwise in ONNX Runtime (by {off:.1g} where {_CLOSE:g} is "
                "allowed); take runtime: torch"
            )
        return network


def _eagerly(model: Any, tokens: onnx.Tokens) -> torch.Tensor:
    """(2 or 3, texts, width) -> (texts, outputs) as PyTorch runs it."""
    planes = torch.from_numpy(tokens)
    if model.device.type == "cuda":  # from pinned memory a GPU fetches it while it computes the batch before
        planes = planes.pin_memory().to(model.device, non_blocking=True)
    logits: torch.Tensor = model(**dict(zip(onnx.PLANES, planes, strict=False))).logits
    return logits


def difference(found: npt.NDArray[np.floating[Any]], expected: npt.NDArray[np.floating[Any]]) -> float:
    """The largest there is between two arrays; without end where only one of them has a number."""
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    off = np.where(same, 0.0, np.abs(found - expected))
    return float(np.where(np.isnan(off), np.inf, off).max(initial=0.0))


def numbers(outputs: Outputs) -> npt.NDArray[np.float64]:
    """The outputs in double precision, NaN where there is none or an endless one: half precision ends at 65,504."""
    return np.where(np.isfinite(outputs), outputs, np.nan).astype(np.float64)


def _mirrored(piece: Piece) -> Piece:
    """Another piece of the same length."""
    first, *middle, last = piece.ids if len(piece.ids) > 1 else (*piece.ids, *piece.ids)
    return replace(piece, ids=[first, *middle[::-1], last][: len(piece.ids)])


def _shortened(piece: Piece, most: int) -> Piece:
    """With its last token, which may be one that the network looks for."""
    if len(piece.ids) <= most:
        return piece
    types = None if piece.types is None else [*piece.types[: most - 1], piece.types[-1]]
    return replace(piece, ids=[*piece.ids[: most - 1], piece.ids[-1]], types=types)


def batches(lengths: Sequence[int], most_tokens: int, most_texts: int, *, way: Way = "right") -> Iterator[list[int]]:
    """The places, longest first, in groups: at most so many texts, and at most so many tokens with their padding.

    A text that alone is longer is a group of its own. Of the ways, "alike" keeps lengths apart, and "alone" all.
    """
    most_texts = 1 if way == "alone" else most_texts
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        full = len(group) == most_texts or (len(group) + 1) * lengths[group[0] if group else place] > most_tokens
        if group and (full or (way == "alike" and lengths[place] != lengths[group[0]])):
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
    config = config.get_text_config()
    positions = int(getattr(config, "max_position_embeddings", None) or -1)
    positions = min(positions, turned(config, positions))
    if positions < 0:
        positions = entry.max_tokens or 512
    if getattr(config, "model_type", "") in _LIKE_ROBERTA:
        positions -= int(config.pad_token_id or 0) + 1
    return min(positions, int(tokenizer.model_max_length), entry.max_tokens or positions)


def tokenizer_threads(threads: int, gpus: float) -> int:
    """For a network with so many threads of its own, or on (a part of) a GPU; unset, one per core of the node."""
    return max(threads, _TOKENIZERS) if gpus else threads


def _labels(entry: _Entry, id2label: Mapping[int, str], told: Mapping[str, Any]) -> dict[int, str]:
    try:
        return output_labels(id2label, told)
    except Unclear as wrong:
        raise ReaderDown(f"{_named(entry)} has a config.json that {wrong}; correct it in a copy of the model") from None


def _loaded(entry: _Entry) -> tuple[Any, Any, dict[str, Any]]:
    """The network, its tokenizer, and its config.json as it is written."""
    path = str(embedded.reader_path()) if entry.model == "embedded" else entry.model
    device = _device(entry)
    adapter = adapter_of(path, entry.revision)
    if why := unusual(path):
        raise ReaderDown(f"{_named(entry)} cannot be loaded: {why}")
    if adapter is not None:  # beside whole weights it would be passed over
        raise ReaderDown(f"{_named(entry)} cannot be loaded: {unmerged(adapter)}")
    # False and not unset: unset, transformers would ask whoever sits at the terminal
    tokenizer = AutoTokenizer.from_pretrained(path, revision=entry.revision, trust_remote_code=False)
    if why := misread(tokenizer, path, entry.revision):
        raise ReaderDown(f"{_named(entry)} cannot be loaded: {why}")
    model, info = AutoModelForSequenceClassification.from_pretrained(
        path,
        revision=entry.revision,
        dtype=_dtype(entry, device),
        output_loading_info=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,  # else it ends in a table on the terminal; they are told below
    )
    missing = sorted(info["missing_keys"])
    if missing:  # transformers would fill them with random numbers, and say so only in a log
        raise ReaderDown(f"{_named(entry)} has no weights for {', '.join(missing[:2])}: it is no trained classifier")
    if why := misfit(model, info):
        raise ReaderDown(f"{_named(entry)} cannot be loaded: {why}")
    told, _ = PreTrainedConfig.get_config_dict(path, revision=entry.revision)
    return model.to(device).eval(), tokenizer, told


@contextmanager
def _telling(entry: _Entry, what: str, hint: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes one sentence of a ReaderDown."""
    try:
        yield
    except ReaderDown:
        raise
    except BaseException as wrong:  # somebody's files and code: a cut file, a missing library, too little memory
        if not is_failure(wrong):
            raise
        hint = _INSTALL if isinstance(wrong, ImportError) else hint
        why, remedy = hub.told(wrong) or (reason_of(wrong), hint)
        raise ReaderDown(f"{_named(entry)} cannot {what}: {why}; {remedy}") from wrong


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


def _backend(entry: _Entry, tokenizer: Any, known: int | None) -> Any:
    """The Rust tokenizer itself. Special tokens that somebody wrote into a text are read as text, as everything is."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ReaderDown(f"{_named(entry)} has no fast tokenizer; save one beside it as tokenizer.json")
    named = {str(getattr(tokenizer, name, None)) for name in tokenizer.SPECIAL_TOKENS_ATTRIBUTES}
    added = backend.get_added_tokens_decoder().items()
    trained = {
        id_ for id_, token in added if token.special and token.content not in named and id_ < (known or math.inf)
    }
    backend = _with_words(backend, trained) if trained else backend
    backend.encode_special_tokens = True
    backend.no_padding()
    return backend


def _with_words(backend: Any, words: set[int]) -> Any:
    """The tokenizer with these special tokens as words of its own: placeholders such as [NAME] stand in texts."""
    described = json.loads(backend.to_str())
    for token in described["added_tokens"]:
        token["special"] &= token["id"] not in words
    return type(backend).from_str(json.dumps(described))


def _reads_types(model: Any, tokenizer: Any, backend: Any) -> bool:
    """Whether the network is to be told the types of tokens: without them it takes all for the first."""
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    return takes and "token_type_ids" in tokenizer.model_input_names and any(backend.encode(TRIAL[0]).type_ids)


def _affordable(model: Any) -> int:
    """The most tokens of a text that is tried at the start."""
    embedding = getattr(model.get_input_embeddings(), "weight", None)
    weights = sum(one.numel() for one in model.parameters()) - (0 if embedding is None else embedding.numel())
    return min(_MOST_TRIED, max(64, int(_AFFORDED // max(1, weights))))


def _named(entry: _Entry) -> str:
    return f"reader {entry.name!r} ({entry.model})"
