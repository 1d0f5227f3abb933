"""The goemotions reader in its lane over a bare PyTorch loop, and over the transformers pipeline as it comes.

All three read the same texts with the same network (the shape of BERT-base, random weights, made here) in the same
run, in turns, medians of the turns; on a CPU with the same number of threads. Start-up is left out everywhere: the
lane is timed from its first finished block of 512 to its last, by scored rows that are durable; loop and pipeline
after their models are loaded and warm. The loop sorts by length; all of them tokenize. It sends 32 texts at a time on a
CPU, where 128 are slower, and on a GPU as many of 32, 128 and 512 as it is fastest with.
Short texts are as long as GoEmotions' comments, long ones as answers. What a batch gains over single texts depends on
the device: a CPU core is nearly busy with one long text, and never with one short one, so on a CPU it is short texts
on which the lane is to be three times as fast as the pipeline (`ratio_to_pipeline`, without `_long`).
Last, what the reader does without: the same loop with the network compiled (dynamic shapes, after a pass that compiles)
over the loop as it is, and on a CPU in bfloat16 over float32.
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
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedTokenizerFast,
    pipeline,
)

from emoray import manifest
from emoray.spec import Study, parse
from emoray.store import RunFolder
from emoray.stream import cluster
from emoray.stream.conduct import Conductor
from emoray.stream.placement import Node
from emoray.study.goemotions import LABELS

_WORDS = 30_000  # of the vocabulary
_BLOCK = 512  # rows that travel together in the lane
_BATCHES, _CPU_BATCH = (32, 128, 512), 32  # texts that the bare loop sends at a time


def _capacity() -> list[Node]:
    return [Node(64, 1)]


def run(short: int = 1536, long: int = 768, rounds: int = 2, cpus: int = 1, gpus: int = 0) -> dict[str, float]:
    """`short` and `long` are how many texts of each length (0: none); with `gpus` 1 all run on one GPU in bfloat16."""
    torch.set_num_threads(cpus)
    os.environ |= {"RAY_worker_niceness": "0"}  # by default whoever else is on the machine goes first, as the loop does
    ray.init(address="local", num_cpus=cpus + 2, include_dashboard=False, log_to_driver=False, logging_level="error")
    cluster.connect()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        network = _network(Path(place) / "bert")
        for name, count, median in (("", short, 12.0), ("_long", long, 80.0)):
            if count:
                found = _compared(network, _texts(count, median), place, rounds, cpus, gpus)
                figures[f"ratio_to_bare_loop{name}"] = found["lane"] / found["loop"]
                figures[f"ratio_to_pipeline{name}"] = found["lane"] / found["pipeline"]
                figures |= {f"{way}_rows_per_s{name}": found[way] for way in ("lane", "loop", "pipeline")}
                figures |= {f"{way}{name}": found[way] for way in found if "_over_" in way}
    return dict(sorted(figures.items(), key=lambda figure: "rows_per_s" in figure[0]))


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


def _compared(model: str, texts: list[str], place: str, rounds: int, cpus: int, gpus: int) -> dict[str, float]:
    """Rows per second of each, in turns."""
    folder, said = _answers(texts, place)
    tokenizer = AutoTokenizer.from_pretrained(model)
    device = "cuda" if gpus else "cpu"
    dtype = torch.bfloat16 if gpus else torch.float32
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=dtype).to(device).eval()
    pipe = pipeline("text-classification", model=network, tokenizer=tokenizer, top_k=None, device=device)
    warm = partial(_warm_seconds, tokenizer=tokenizer, device=device)
    batch = min(_BATCHES, key=lambda size: warm(network, texts=said, batch=size)) if gpus else _CPU_BATCH
    few = said[:: 1 if gpus else 4]  # the pipeline is slow, and its rate does not depend on how many there are
    ways: dict[str, Callable[[], float]] = {
        "loop": lambda: len(said) / _seconds(lambda: _loop(network, tokenizer, said, device, batch)),
        "lane": lambda: _lane(model, said, folder, cpus, gpus),
        "pipeline": lambda: len(few) / _seconds(lambda: pipe(few, truncation=True)),
    }
    _loop(network, tokenizer, said[:64], device, batch)
    pipe(said[:8], truncation=True)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(way())
    found = {name: statistics.median(rate) for name, rate in rates.items()}
    return found | _otherwise(network, partial(warm, texts=few, batch=batch))


def _otherwise(network: Any, seconds: Callable[[Any], float]) -> dict[str, float]:
    """How many times as fast the loop is with the network compiled, and on a CPU in bfloat16."""
    eager, found = seconds(network), dict[str, float]()
    if shutil.which("g++"):  # which torch.compile calls
        found["compiled_over_eager"] = eager / seconds(torch.compile(network, dynamic=True))
    if network.dtype == torch.float32:
        found["bfloat16_over_float32"] = eager / seconds(copy.deepcopy(network).bfloat16())
    return found


def _warm_seconds(network: Any, tokenizer: Any, texts: Sequence[str], device: str, batch: int) -> float:
    _loop(network, tokenizer, texts, device, batch)
    return _seconds(lambda: _loop(network, tokenizer, texts, device, batch))


@torch.inference_mode()
def _loop(network: Any, tokenizer: Any, texts: Sequence[str], device: str, batch: int) -> None:
    ids = tokenizer(list(texts), truncation=True)["input_ids"]
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    found = []
    for start in range(0, len(order), batch):
        padded = tokenizer.pad(
            {"input_ids": [ids[place] for place in order[start : start + batch]]}, return_tensors="pt"
        )
        found.append(network(**padded.to(device)).logits.float().softmax(-1))
    torch.cat(found).cpu().numpy()


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _answers(texts: list[str], place: str) -> tuple[RunFolder, list[str]]:
    """A run folder whose answers are such texts (drawn with replacement), and the answers."""
    said = _study("{kind: scripted, name: s}", texts)
    folder = RunFolder(f"{place}/run{len(texts)}")
    folder.create()
    folder.write_manifest(manifest.fresh(said))
    Conductor(said, folder, _capacity, "asks", limit=len(texts)).run(lambda _: None)
    return folder, folder.answers("a").read()["answer"].to_pylist()


def _lane(model: str, texts: list[str], folder: RunFolder, cpus: int, gpus: int) -> float:
    """Rows per second of a lane that reads the folder's answers, from its first finished block to its last."""
    reader = f"r{len(folder.readers())}"
    settings = f"cpus: {cpus}, gpus: {gpus}"
    read = _study(f"{{kind: goemotions, name: {reader}, model: {model}, {settings}}}", texts)
    conductor = Conductor(read, folder, _capacity, reader, limit=len(texts), asks=False)
    steps = _watched(conductor, len(texts), reader)
    if len(steps) < 2:
        raise RuntimeError(f"{len(texts)} rows are too few: the lane is timed from its first block of {_BLOCK} on")
    (first, began), (last, ended) = steps[0], steps[-1]
    if last != len(texts):
        raise RuntimeError(f"the lane read {last} of {len(texts)} rows")
    return (last - first) / (ended - began)


def _watched(conductor: Conductor, cells: int, reader: str) -> list[tuple[int, float]]:
    """(rows read so far, when) of every step."""
    lane, steps = conductor.lanes[0], list[tuple[int, float]]()
    running = threading.Thread(target=conductor.run, args=[lambda _: None])
    running.start()
    while running.is_alive() and (not steps or steps[-1][0] < cells):
        read = lane.tally().read.get(reader, 0)
        if read and (not steps or read > steps[-1][0]):
            steps.append((read, time.perf_counter()))
        time.sleep(0.1)  # each look costs other processes time
    running.join()
    return steps


def _study(reader: str, texts: list[str]) -> Study:
    model = {"name": "a", "host": "scripted", "lines": texts, "latency_s": 0.001, "in_flight": _BLOCK}
    repetitions = -(-len(texts) // 120)
    return parse(f"name: bench\nmodels: [{model}]\nrepetitions: {repetitions}\nreaders: [{reader}]")
