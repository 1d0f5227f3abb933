"""The goemotions reader in its lane over a bare PyTorch loop, and over the transformers pipeline as it comes.

All read the same texts with the same network (the shape of BERT-base, random weights, made here) in the same run, one
after another, medians of the rounds, with the same number of threads. Start-up is left out everywhere: the
lane is timed from when its actor is ready (the network loaded and tried) until all rows are durable, so that what
carrying and writing costs counts; loop and pipeline after their models are loaded and warm. The lane reads answers that
are there; on a GPU give it more of them than the defaults (`--short 16384 --long 8192 --rounds 3`). The loop sorts by
length and sends as many texts at a time as it is fastest with; all of them tokenize. On a CPU the lane reads once more
with `runtime: onnx` (`onnx_over_loop`, `onnx_over_pipeline`).
Short texts are as long as GoEmotions' comments, long ones as answers. What a batch gains over single texts depends on
the device: a CPU core is nearly busy with one long text, and half with a short one, so on a CPU the lane is to be three
times as fast as the pipeline on short texts, and with ONNX Runtime.
Last, what the reader does without, on a quarter of the texts: the same loop with the network compiled (dynamic shapes,
after a pass that compiles) over the loop as it is, and on a CPU in bfloat16.
"""

from __future__ import annotations

import copy
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray._private import state  # who is ready: no dashboard runs here, which would tell
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedTokenizerFast,
    pipeline,
)

from emoray.readers.encoder import tokenizer_threads
from emoray.run_folder import manifest
from emoray.run_folder.folder import RunFolder
from emoray.scheduling.resources import Node
from emoray.spec.load import parse
from emoray.spec.study import Study
from emoray.stream import cluster
from emoray.stream.driver import RunDriver
from emoray.study.goemotions import LABELS

_WORDS = 30_000  # of the vocabulary
_CPU_BATCHES, _GPU_BATCHES = (4, 16, 32), (32, 128, 512)  # texts that the bare loop may send at a time


def _capacity() -> list[Node]:
    return [Node(64, 1)]


def run(short: int = 640, long: int = 128, rounds: int = 1, cpus: int = 1, gpus: int = 0) -> dict[str, float]:
    """`short` and `long` are how many texts of each length (0: none); with `gpus` 1 all run on one GPU in bfloat16."""
    torch.set_num_threads(cpus)
    os.environ["RAYON_NUM_THREADS"] = str(tokenizer_threads(cpus, gpus))  # of all three, as the reader takes them
    os.environ |= {"RAY_worker_niceness": "0"}  # by default whoever else is on the machine goes first, as the loop does
    ray.init(address="local", num_cpus=cpus + 2, include_dashboard=False, log_to_driver=False, logging_level="error")
    cluster.connect()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        bare = _Bare(_network(Path(place) / "bert"), cpus, gpus)
        for name, count, median in (("", short, 12.0), ("_long", long, 80.0)):
            if count:
                found = _compared(bare, _texts(count, median), place, rounds)
                figures[f"ratio_to_bare_loop{name}"] = found["lane"] / found["loop"]
                figures[f"ratio_to_pipeline{name}"] = found["lane"] / found["pipeline"]
                if "onnx" in found:
                    figures[f"onnx_over_loop{name}"] = found["onnx"] / found["loop"]
                    figures[f"onnx_over_pipeline{name}"] = found["onnx"] / found["pipeline"]
                figures |= {f"{way}_rows_per_s{name}": found[way] for way in found if "_over_" not in way}
                figures |= {f"{way}{name}": found[way] for way in found if "_over_" in way}
    return dict(sorted(figures.items(), key=lambda figure: "rows_per_s" in figure[0]))


class _Bare:
    """The network without emoray, loaded once: in a loop, in the pipeline, and as it could be run otherwise."""

    def __init__(self, model: str, cpus: int, gpus: int) -> None:
        self.model, self.cpus, self.gpus = model, cpus, gpus
        self.device = "cuda" if gpus else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        dtype = torch.bfloat16 if gpus else torch.float32
        self.network = AutoModelForSequenceClassification.from_pretrained(model, dtype=dtype).to(self.device).eval()
        self.pipe = pipeline(
            "text-classification", model=self.network, tokenizer=self._tokenizer, top_k=None, device=self.device
        )
        self.otherwise = {} if gpus else {"bfloat16_over_loop": copy.deepcopy(self.network).bfloat16()}
        if shutil.which("g++"):  # which torch.compile calls
            self.otherwise["compiled_over_loop"] = torch.compile(self.network, dynamic=True)

    @torch.inference_mode()
    def loop(self, texts: Sequence[str], batch: int, network: Any = None) -> None:
        ids = self._tokenizer(list(texts), truncation=True)["input_ids"]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        forward, found = network if network is not None else self.network, []
        for start in range(0, len(order), batch):
            few = [ids[place] for place in order[start : start + batch]]
            padded = self._tokenizer.pad({"input_ids": few}, return_tensors="pt").to(self.device)
            found.append(forward(**padded).logits.float().softmax(-1))
        torch.cat(found).cpu().numpy()


def _network(folder: Path) -> str:
    """BERT-base with random weights, and a tokenizer that knows its words."""
    torch.manual_seed(1)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(_WORDS - len(special)))])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    words = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=512)
    words.save_pretrained(folder)
    labels = dict(enumerate(LABELS))
    shape = BertConfig(vocab_size=_WORDS, id2label=labels, label2id={label: i for i, label in labels.items()})
    AutoModelForSequenceClassification.from_config(shape).save_pretrained(folder)
    return str(folder)


def _texts(n: int, median: float) -> list[str]:
    """Texts of different lengths around a median of words, log-normal as real ones are, at most 250."""
    rng = np.random.default_rng(5)
    lengths = np.clip(rng.lognormal(np.log(median), 0.5, n), 1, 250).astype(int)
    return [" ".join(f"w{word}" for word in rng.integers(_WORDS - 4, size=length)) for length in lengths]


def _compared(bare: _Bare, texts: list[str], place: str, rounds: int) -> dict[str, float]:
    """Rows per second of each, in turns; then how many times as fast the loop is otherwise."""
    folder, said = _answers(texts, place)
    few = said[:: 1 if bare.gpus else 4]
    fewer = said[:: 16 if bare.gpus else 4]  # the pipeline is slow, and its rate does not depend on how many there are
    bare.loop(said[:64], 16)
    bare.pipe(said[:8], truncation=True)
    once = _warm_seconds if bare.gpus else _seconds
    loops = {size: once(bare.loop, few, size) for size in (_GPU_BATCHES if bare.gpus else _CPU_BATCHES)}
    batch = min(loops, key=lambda size: loops[size])
    ways: dict[str, Callable[[], float]] = {
        "loop": lambda: len(said) / _seconds(bare.loop, said, batch),
        "lane": lambda: _lane(bare, texts, folder, "torch"),
        "pipeline": lambda: len(fewer) / _seconds(partial(bare.pipe, truncation=True), fewer),
    }
    if not bare.gpus:
        ways["onnx"] = lambda: _lane(bare, texts, folder, "onnx")
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(way())
    found = {name: statistics.median(rate) for name, rate in rates.items()}
    for name, network in bare.otherwise.items():
        found[name] = loops[batch] / _warm_seconds(bare.loop, few, batch, network)
    return found


def _warm_seconds(read: Callable[..., object], *arguments: object) -> float:
    read(*arguments)
    return _seconds(read, *arguments)


def _seconds(read: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    read(*arguments)
    return time.perf_counter() - began


def _answers(texts: list[str], place: str) -> tuple[RunFolder, list[str]]:
    """A run folder whose answers are such texts (drawn with replacement), and the answers."""
    said = _study("{kind: scripted, name: s}", texts)
    folder = RunFolder(f"{place}/run-of-{len(texts)}")
    folder.create()
    folder.write_manifest(manifest.fresh(said).as_json())
    RunDriver(said, folder, _capacity, "asks", limit=len(texts)).run(lambda _: None)
    return folder, folder.answers("a").read()["answer"].to_pylist()


def _lane(bare: _Bare, texts: list[str], folder: RunFolder, runtime: str) -> float:
    """Rows per second of a lane that reads the folder's answers, from when its actor is ready."""
    reader = f"r{len(folder.readers())}"
    settings = f"cpus: {bare.cpus}, gpus: {bare.gpus}, runtime: {runtime}"
    read = _study(f"{{kind: goemotions, name: {reader}, model: {bare.model}, {settings}}}", texts)
    conductor = RunDriver(read, folder, _capacity, reader, limit=len(texts), asks=False)
    running = threading.Thread(target=conductor.run, args=[lambda _: None])
    running.start()
    tally = conductor.lanes[0].tally
    while running.is_alive() and tally().read.get(reader, 0) < len(texts):
        time.sleep(0.1)  # each look costs other processes time
    ended = time.time()
    running.join()
    if (found := tally().read.get(reader, 0)) != len(texts):
        raise RuntimeError(f"the lane read {found} of {len(texts)} rows")
    listeners = [actor for actor in state.actors().values() if "ReadActor" in actor["ActorClassName"]]
    ready_ms: float = max(actor["StartTime"] for actor in listeners)  # since 1970; the latest is this lane's
    return len(texts) / (ended - ready_ms / 1000)


def _study(reader: str, texts: list[str]) -> Study:
    model = {"name": "a", "host": "scripted", "lines": texts, "latency_s": 0.001, "in_flight": 512}
    repetitions = -(-len(texts) // 120)
    return parse(f"name: bench\nmodels: [{model}]\nrepetitions: {repetitions}\nreaders: [{reader}]")
