"""Output tokens per second through our lane over bare vllm.LLM.chat.

Same engine arguments, prompts, seeds and run; start-up left out; answers end where a stop token comes, so their
lengths vary. Without --model a tiny random Llama on the CPU. On a GPU, any architecture with dummy weights:
--model FOLDER --device gpu --load-format dummy --stop-every 200 (every 200th token of the vocabulary ends an answer).
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import ray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for the tests' tiny model

from emoray import manifest
from emoray.hosts.vllm import engine_arguments, environment
from emoray.spec import Study, Vllm, parse
from emoray.store import RunFolder
from emoray.stream import cluster
from emoray.stream.conduct import Conductor
from emoray.study.prompts import Prompt, prompts


def run(
    rows: int = 2400,
    model: str = "",
    device: str = "cpu",
    dtype: str = "float32",
    max_tokens: int = 256,
    max_num_seqs: int = 64,
    tensor_parallel_size: int = 1,
    load_format: str = "auto",
    quantization: str = "",
    stop_every: int = 0,
    cpus: int = 2,
) -> dict[str, float]:
    """Figures at `rows` cells; `cpus` are given to Ray."""
    with tempfile.TemporaryDirectory() as folder:
        entry = {
            "name": "a",
            "host": "vllm",
            "id": model or str(_tiny(Path(folder) / "model")),
            "device": device,
            "dtype": dtype,
            "max_num_seqs": max_num_seqs,
            "tensor_parallel_size": tensor_parallel_size,
            "quantization": quantization or None,
            "engine_kwargs": {"load_format": load_format} | _stops(model, stop_every),
        }
        study = _study(entry, rows, max_tokens)
        gpus = {"num_gpus": 0} if device == "cpu" else {}
        os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR"} | environment(_vllm(study))  # for both alike
        ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="error", **gpus
        )
        raw = _raw(study)
        lane = _lane(study, folder)
        return {"ratio_to_raw": lane / raw, "tokens_per_s": lane, "raw_tokens_per_s": raw}


def _tiny(folder: Path) -> Path:
    from tests.hosts.vllm_tiny import tiny_llama

    return tiny_llama(folder)


def _stops(model: str, every: int) -> dict[str, Any]:
    if not every:
        return {}
    vocabulary = json.loads((Path(model) / "config.json").read_text())["vocab_size"]
    return {"override_generation_config": {"eos_token_id": list(range(0, vocabulary, every))}}


def _study(entry: dict[str, Any], rows: int, max_tokens: int) -> Study:
    lines = [f"name: bench\nrepetitions: {max(1, rows // 120)}", f"sampling: {{max_tokens: {max_tokens}}}"]
    lines += ["readers: [{kind: scripted, name: r}]", f"models: [{json.dumps(entry)}]"]
    return parse("\n".join(lines))


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
    llm.chat([prompt.chat for prompt in asked[:64]], settings[:64], use_tqdm=False)  # warm, as our actor's is not
    llm.reset_prefix_cache()
    began = time.perf_counter()
    outs = llm.chat([prompt.chat for prompt in asked], settings, use_tqdm=False)
    seconds = time.perf_counter() - began
    llm.llm_engine.engine_core.shutdown()
    del llm
    gc.collect()
    return sum(len(out.outputs[0].token_ids) for out in outs) / seconds


def _lane(study: Study, folder: str) -> float:
    """From the first ask to the last reply, over all that the engine said."""
    run = RunFolder(f"{folder}/run")
    run.create()
    run.write_manifest(manifest.fresh(study))
    capacity = cluster.connect()
    (end,) = Conductor(study, run, capacity, "bench").run(lambda _: None)
    if end.error:
        raise RuntimeError(end.error)
    table = run.answers("a").read()
    asked_at: list[float] = [moment.timestamp() for moment in table["asked_at"].to_pylist()]
    took: list[float] = table["latency_s"].to_pylist()
    seconds = max(at + s for at, s in zip(asked_at, took, strict=True)) - min(asked_at)
    tokens: float = pc.sum(table["completion_tokens"]).as_py()
    return tokens / seconds
