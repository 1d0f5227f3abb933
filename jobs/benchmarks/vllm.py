"""Output tokens per second through our lane over bare vllm.LLM.chat, and over ray.data.llm.

Same engine arguments, prompts, seeds, run and processors; in turns (raw, lane, lane, raw); start-up left out, and none
is warm; answers end where a stop token comes, so their lengths vary. Shapes of --shape: `small`, a random Llama of 57
million weights (the headline), in which the model's own work is most of the work, as in every real one; `tiny`, of two
layers, in which nothing but the Python around the engine costs anything (_tiny); and on a GPU `8b` and, in fp8, `70b`,
with dummy weights. The first of several is the headline, the others carry their names. Of ray.data.llm the seconds in
which its engine had requests are counted, with its own batch size and number of batches at once; --peer 0 leaves it
out.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import ray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for the tests' tiny model

from emoray.hosts.vllm import engine_arguments, environment
from emoray.run_folder import manifest
from emoray.run_folder.folder import RunFolder
from emoray.spec.load import parse
from emoray.spec.models import Vllm
from emoray.spec.study import Study
from emoray.stream import cluster
from emoray.stream.driver import RunDriver
from emoray.study.prompts import Prompt, prompts
from tests.hosts.vllm_tiny import TINY, llama_without_weights, tiny_llama

_VOCABULARY = 128_256  # Llama 3's
_STOP_EVERY = 200  # with dummy weights every token is as likely: so long is an answer in the mean


@dataclass(frozen=True)
class _Shape:
    """A Llama, and how it is asked."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    rows: int
    max_tokens: int
    max_num_seqs: int
    quantization: str | None = None
    gpu: bool = False

    @property
    def config(self) -> dict[str, int]:
        return TINY | {
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.hidden // self.heads,
        }


_SHAPES = {
    "small": _Shape(8, 768, 2048, 12, 12, rows=360, max_tokens=128, max_num_seqs=32),
    "tiny": _Shape(2, 128, 256, 2, 2, rows=2400, max_tokens=256, max_num_seqs=64),
    "8b": _Shape(32, 4096, 14336, 32, 8, rows=6000, max_tokens=1024, max_num_seqs=256, gpu=True),
    "70b": _Shape(80, 8192, 28672, 64, 8, rows=2400, max_tokens=1024, max_num_seqs=256, quantization="fp8", gpu=True),
}


def run(shape: str = "small,tiny", cpus: int = 2, rounds: int = 2, peer: int = 1, rows: int = 0) -> dict[str, float]:
    """`cpus`: the processors that all may use (a GPU's engine: all); `rounds`: each of them begins every other one;
    `rows`: asked of every shape, 0 for as many as are usual with it.
    """
    shapes = {name: _SHAPES[name] for name in shape.split(",")}
    if not any(one.gpu for one in shapes.values()):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cpus])
    figures: dict[str, float] = {}
    for place, (name, one) in enumerate(shapes.items()):
        found = _compared(replace(one, rows=rows or one.rows), cpus, rounds, peer)
        figures |= {figure if not place else f"{figure}_{name}": value for figure, value in found.items()}
    return dict(sorted(figures.items(), key=lambda figure: not figure[0].startswith("ratio")))


def _compared(shape: _Shape, cpus: int, rounds: int, peer: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        study = _study(shape, Path(folder) / "model")
        os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR"} | environment(_vllm(study))  # for all alike
        ways: dict[str, Callable[[], float]] = {
            "raw": lambda: _raw(study),
            "lane": lambda: _on_ray(lambda: _lane(study, tempfile.mkdtemp(dir=folder)), shape, cpus),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds):
            for name in ways if turn % 2 == 0 else reversed(ways):
                rates[name].append(ways[name]())
                print(f"{name}: {rates[name][-1]:,.0f} tokens/s", file=sys.stderr)
        lane, raw = (len(rates[name]) / sum(1 / rate for rate in rates[name]) for name in ("lane", "raw"))
        figures = {"ratio_to_raw": lane / raw, "tokens_per_s": lane, "raw_tokens_per_s": raw}
        if peer:
            other = _on_ray(lambda: _ray_data_llm(study), shape, cpus)
            figures |= {"ratio_to_ray_data_llm": lane / other, "ray_data_llm_tokens_per_s": other}
        return figures


def _study(shape: _Shape, folder: Path) -> Study:
    entry: dict[str, Any] = {"name": "a", "host": "vllm", "id": str(folder), "max_num_seqs": shape.max_num_seqs}
    if shape.gpu:
        llama_without_weights(folder, shape.config, _VOCABULARY)
        stops = {"eos_token_id": list(range(0, _VOCABULARY, _STOP_EVERY))}
        # vLLM's own override_generation_config leaves the stop tokens as they are
        (folder / "generation_config.json").write_text(json.dumps(stops))
        entry |= {"dtype": "bfloat16", "quantization": shape.quantization}
        entry |= {"engine_kwargs": {"load_format": "dummy"}}
    else:
        tiny_llama(folder, shape.config)
        entry |= {"device": "cpu", "dtype": "float32"}
    lines = [f"name: bench\nrepetitions: {shape.rows // 12}\nstates: 4\nquestions: [freedom, art, nature]"]
    lines += [f"sampling: {{max_tokens: {shape.max_tokens}}}", "readers: [{kind: scripted, name: r}]"]
    return parse("\n".join([*lines, f"models: [{json.dumps(entry)}]"]))


def _asked(study: Study) -> list[Prompt]:
    return list(prompts(study.experiment.grid("a")))


def _sampling(prompt: Prompt) -> dict[str, Any]:
    sampling = prompt.cell.model.sampling
    return {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens, "seed": prompt.seed}


def _vllm(study: Study) -> Vllm:
    entry = study.spec.model("a")
    assert isinstance(entry, Vllm)
    return entry


def _raw(study: Study) -> float:
    from vllm import LLM, SamplingParams

    asked = _asked(study)
    llm = LLM(**engine_arguments(_vllm(study)), disable_log_stats=True)
    settings = [SamplingParams(**_sampling(prompt)) for prompt in asked]
    began = time.perf_counter()
    outs = llm.chat([prompt.chat for prompt in asked], settings, use_tqdm=False)
    seconds = time.perf_counter() - began
    llm.llm_engine.engine_core.shutdown()
    del llm
    gc.collect()
    return sum(len(out.outputs[0].token_ids) for out in outs) / seconds


def _on_ray(measured: Callable[[], float], shape: _Shape, cpus: int) -> float:
    """On a Ray cluster of its own: bare vLLM has the machine to itself."""
    gpus = {} if shape.gpu else {"num_gpus": 0}
    os.environ |= {"RAY_worker_niceness": "0"}  # by default all others on the machine go first, as bare vLLM does
    ray.init(
        address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="error", **gpus
    )
    try:
        return measured()
    finally:
        ray.shutdown()


def _lane(study: Study, folder: str) -> float:
    """From the first ask to the last reply, over all that the engine said."""
    run = RunFolder(f"{folder}/run")
    run.create()
    run.write_manifest(manifest.fresh(study).as_json())
    capacity = cluster.connect()
    (end,) = RunDriver(study, run, capacity, "bench").run(lambda _: None)
    if end.error:
        raise RuntimeError(end.error)
    table = run.answers("a").read()
    asked_at: list[float] = [moment.timestamp() for moment in table["asked_at"].to_pylist()]
    took: list[float] = table["latency_s"].to_pylist()
    seconds = max(at + s for at, s in zip(asked_at, took, strict=True)) - min(asked_at)
    tokens: float = pc.sum(table["completion_tokens"]).as_py()
    return tokens / seconds


def _ray_data_llm(study: Study) -> float:
    """From the first request of its engine to the last answer, by its own clock."""
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    on_gpu = _vllm(study).device == "gpu"
    config = vLLMEngineProcessorConfig(
        model_source=_vllm(study).id,
        engine_kwargs={k: v for k, v in engine_arguments(_vllm(study)).items() if k != "model"}
        | ({} if on_gpu else {"distributed_executor_backend": "mp"}),
        placement_group_config={"bundles": [{"GPU": 1} if on_gpu else {"CPU": 1}]},
        log_engine_metrics=False,
        chat_template_stage={"enabled": True, "num_cpus": 0.1},
        tokenize_stage={"enabled": False},
        detokenize_stage={"enabled": False},
    )
    light = {"num_cpus": 0.1}
    processor = build_processor(
        config,
        preprocess=lambda row: {"messages": row["messages"], "sampling_params": row["sampling"]},
        postprocess=lambda row: {
            "tokens": row["num_generated_tokens"],
            "seconds": row["time_taken_llm"],
            "ended": time.time(),
        },
        preprocess_map_kwargs=light,
        postprocess_map_kwargs=light,
    )
    asked = [{"messages": prompt.chat, "sampling": _sampling(prompt)} for prompt in _asked(study)]
    ends = processor(ray.data.from_items(asked)).take_all()
    return _rate(ends)


def _rate(ends: list[dict[str, float]]) -> float:
    """A batch is handed on when its longest answer is there: that is when it ended."""
    first = min(end["ended"] for end in ends)
    began = first - max(end["seconds"] for end in ends if end["ended"] - first < 0.1)
    return sum(end["tokens"] for end in ends) / (max(end["ended"] for end in ends) - began)
