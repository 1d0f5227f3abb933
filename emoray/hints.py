"""What somebody who wrote something else may have meant. Pure."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable

_NEAR = 0.6  # of difflib's ratio
_TIMES = {"": 1.0, "k": 1e3, "m": 1e6, "mio": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9, "%": 0.01}
_NUMBER = re.compile(
    r"[$€£ ]*(?P<number>[-+]?(?=\.?\d)(?:\d{1,3}(?:[, '\u00a0\u202f]\d{3})+|\d+)?(?:\.\d*)?(?:e[-+]?\d{1,3})?)\s*"
    r"(?P<times>k|mio|million|m|billion|bn|b|%)?\s*(?:[$€£]|usd|dollars?|°|deg(?:rees?)?|tokens?|requests?|rp[ms]|rpd|tp[ms])?"
    r"\s*(?:(?:/|per\s)\s*(?P<per>.*))?",
    re.IGNORECASE,
)
_SECONDS = {
    "ms": 1e-3,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}
_TIME = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[a-z]+)", re.IGNORECASE)
_PER = {"rps": "s", "tps": "s", "rpm": "min", "tpm": "min", "rpd": "d"}

# other words than emoray's for a setting, and the setting
SYNONYMS = {
    **dict.fromkeys(("model", "model_id", "model_name", "model_path", "repo_id"), "id"),
    **dict.fromkeys(("prompt", "prompts", "system_prompt", "template_text", "messages"), "templates"),
    **dict.fromkeys(("emotion", "emotions", "angles", "moods", "feelings"), "states"),
    **dict.fromkeys(("n", "samples", "num_samples", "n_samples", "runs", "repeats", "trials"), "repetitions"),
    **dict.fromkeys(("reps", "rep", "iterations", "num_repetitions", "n_repetitions"), "repetitions"),
    **dict.fromkeys(("random_seed", "random_state", "rng"), "seed"),
    **dict.fromkeys(("persona", "personas"), "templates"),
    "temp": "temperature",
    **dict.fromkeys(("key", "api_key", "apikey", "token", "secret"), "key_env"),
    **dict.fromkeys(("url", "endpoint", "api_base", "base", "address"), "base_url"),
    **dict.fromkeys(("provider", "backend", "engine"), "host"),
    **dict.fromkeys(("classifier", "classifiers", "judge", "judges"), "readers"),
    **dict.fromkeys(("max_new_tokens", "max_completion_tokens", "max_output_tokens", "max_length"), "max_tokens"),
    **dict.fromkeys(("rpm", "rate_limit", "rate", "rps", "requests_per_second"), "requests_per_minute"),
    **dict.fromkeys(("tps", "tokens_per_second"), "tokens_per_minute"),
    **dict.fromkeys(("budget", "max_cost", "max_usd", "cost_limit"), "budget_usd"),
    "tpm": "tokens_per_minute",
    "rpd": "requests_per_day",
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    **dict.fromkeys(("thinking", "enable_thinking", "reasoning_effort"), "chat_template_kwargs"),
    "question": "text",
    "maps": "label_map",
    "gpus": "tensor_parallel_size",
    "device": "gpus",
    **dict.fromkeys(("timeout", "request_timeout"), "timeout_s"),
    **dict.fromkeys(("retries", "max_retries", "num_retries", "tries", "max_attempts"), "attempts"),
    **dict.fromkeys(("backoff", "initial_wait"), "first_wait_s"),
    **dict.fromkeys(("max_wait", "max_backoff"), "longest_wait_s"),
}

# the same, where a word means something else in one section of a spec
_SYNONYMS_OF = {
    "templates": {
        **dict.fromkeys(("text", "prompt", "content", "template", "message", "question"), "user"),
        **dict.fromkeys(("system_prompt", "instruction", "instructions"), "system"),
        "id": "name",
    },
    "questions": {**dict.fromkeys(("question", "prompt", "content", "q"), "text"), "name": "id"},
    "readers": dict.fromkeys(("id", "path", "checkpoint", "model_id", "model_name"), "model"),
    "states": {"v": "valence", "a": "arousal"},
}

# what a spec does not say, and a command does
FLAGS = {
    **dict.fromkeys(("out", "output", "output_dir", "out_dir", "outdir", "output_folder", "folder"), "--out FOLDER"),
    **dict.fromkeys(("limit", "max_cells"), "--limit N"),
}

# what shapes answers, and no spec asks for
NOT_ASKED = frozenset(
    (
        "top_k",
        "min_p",
        "typical_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "do_sample",
        "num_beams",
        "length_penalty",
        "no_repeat_ngram_size",
        "min_tokens",
        "min_new_tokens",
        "stop",
        "stop_sequences",
    )
)
# of a request to a provider
IN_BODY = NOT_ASKED | {
    *("reasoning_effort", "reasoning", "thinking", "enable_thinking", "chat_template_kwargs"),
    *("response_format", "logprobs", "logit_bias", "service_tier", "verbosity", "safety_settings", "tools"),
}

_VALUES = {
    **dict.fromkeys(("fp16", "half", "f16", "torch.float16"), "float16"),
    **dict.fromkeys(("bf16", "torch.bfloat16"), "bfloat16"),
    **dict.fromkeys(("fp32", "f32", "float", "full", "single", "torch.float32"), "float32"),
    **dict.fromkeys(("cuda", "cuda:0"), "gpu"),
    **dict.fromkeys(("keep", "as-is", "as_is", "read"), "as_read"),
    **dict.fromkeys(("skip", "exclude", "remove", "omit"), "drop"),
    "0": "zero",
}

_HERE = "transformers (on this machine, simple) or vllm (fast, on GPUs)"
_SERVER = "hosted_api, with an account whose base_url is"
_OWN = f"{_SERVER} the server's, such as http://localhost:8000/v1"
_HOSTS = {
    **dict.fromkeys(("huggingface", "hf", "hf_hub", "hub", "transformer", "torch", "pytorch", "pipeline"), _HERE),
    **dict.fromkeys(("local", "localhost"), _HERE),
    **dict.fromkeys(("gpu", "cuda"), "vllm"),
    **dict.fromkeys(("llamacpp", "llama.cpp", "tgi", "sglang", "litellm", "api", "http", "server", "remote"), _OWN),
    **dict.fromkeys(("mlx", "gguf", "exllama", "bedrock", "aws", "sagemaker", "custom", "openai_compatible"), _OWN),
    **dict.fromkeys(("openai", "open_ai", "chatgpt", "gpt"), "hosted_api, with an account of kind: openai"),
    **dict.fromkeys(("azure", "azure_openai"), "hosted_api, with an account of kind: azure"),
    **dict.fromkeys(("anthropic", "claude"), f"{_SERVER} https://api.anthropic.com/v1/"),
    **dict.fromkeys(
        ("gemini", "google", "vertex"), f"{_SERVER} https://generativelanguage.googleapis.com/v1beta/openai/"
    ),
    **dict.fromkeys(("together", "togetherai"), f"{_SERVER} https://api.together.xyz/v1"),
    **dict.fromkeys(("nvidia", "nim"), f"{_SERVER} https://integrate.api.nvidia.com/v1"),
    "perplexity": f"{_SERVER} https://api.perplexity.ai",
    "cerebras": f"{_SERVER} https://api.cerebras.ai/v1",
    "deepinfra": f"{_SERVER} https://api.deepinfra.com/v1/openai",
    "cohere": f"{_SERVER} https://api.cohere.ai/compatibility/v1",
    "mistral": f"{_SERVER} https://api.mistral.ai/v1",
    "groq": f"{_SERVER} https://api.groq.com/openai/v1",
    "openrouter": f"{_SERVER} https://openrouter.ai/api/v1",
    "deepseek": f"{_SERVER} https://api.deepseek.com/v1",
    "xai": f"{_SERVER} https://api.x.ai/v1",
    "fireworks": f"{_SERVER} https://api.fireworks.ai/inference/v1",
    "ollama": f"{_SERVER} http://localhost:11434/v1",
    "lmstudio": f"{_SERVER} http://localhost:1234/v1",
    **dict.fromkeys(("batch", "openai_batch", "batches"), "batch_api"),
    **dict.fromkeys(("mock", "fake", "dummy", "test", "echo"), "scripted"),
}
_KINDS = {
    **dict.fromkeys(("huggingface", "hf", "transformers", "classifier", "encoder", "emotion", "bert"), "goemotions"),
    **dict.fromkeys(("llm", "model", "openai", "hosted_api", "gpt"), "judge, with the model under `model:`"),
    **dict.fromkeys(("regression", "valence", "vad"), "regressor"),
    **dict.fromkeys(("mock", "fake", "dummy", "test"), "scripted"),
}


def synonym(word: str, section: str = "") -> str | None:
    """The setting that goes by another name elsewhere, or in one section of a spec; None for an unknown one."""
    if here := _SYNONYMS_OF.get(section, {}).get(word.casefold()):
        return here
    found = near(word, SYNONYMS, 1, 0.8)
    return SYNONYMS[found[0]] if found else None


def near(word: str, known: Iterable[str], most: int = 3, cutoff: float = _NEAR) -> list[str]:
    """The known words that are spelled like one, the nearest first."""
    by_spelling = {name.casefold(): name for name in reversed(list(known))}
    return [by_spelling[found] for found in difflib.get_close_matches(word.casefold(), by_spelling, most, cutoff)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question to put behind a complaint; "" where nothing is near."""
    found = near(word, known, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def likeness(word: str, other: str) -> float:
    """0 … 1; 1 for the same word."""
    return difflib.SequenceMatcher(None, word.casefold(), other.casefold()).ratio()


def tag_meant(by: str, word: str) -> str | None:
    """The host (or, `by` kind, the reader) that goes by another name elsewhere, in words; None for an unknown one."""
    plain = word.strip().casefold().replace("-", "_").replace(" ", "_")
    return (_HOSTS if by == "host" else _KINDS).get(plain)


def value_meant(word: str) -> str | None:
    """The value of a setting that goes by another name elsewhere; None for an unknown one."""
    return _VALUES.get(word.strip().casefold())


def server_of(provider: str) -> str | None:
    """The base_url of a provider that speaks OpenAI's protocol; None for an unknown one."""
    meant = tag_meant("host", provider) or ""
    return meant.removeprefix(f"{_SERVER} ") if meant.startswith(_SERVER) else None


def number_meant(text: str) -> str | None:
    """`10000` of `10k`, `1e4`, `10,000` or `$10,000`; `0.7` of `70%`; None where no number is meant."""
    found = _NUMBER.fullmatch(text.strip())
    return _written(_of(found)) if found else None


def seconds_meant(text: str) -> str | None:
    """`120` of `2min`, `120s` or `120`; `0.5` of `500ms`; None where no time is meant."""
    time = _TIME.fullmatch(text.strip())
    if time and time["unit"].lower() in _SECONDS:
        return _written(float(time["number"]) * _SECONDS[time["unit"].lower()])
    return number_meant(text)


def rate_meant(text: str, per: str) -> str | None:
    """`600` of `10/s`, `10 rps` or `600` per `minute`; None where no rate is meant."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        return None
    short = next((unit for word, unit in _PER.items() if text.strip().lower().endswith(word)), per)
    unit = (found["per"] or short).strip().lower()
    return _written(_of(found) * _SECONDS[per] / _SECONDS[unit]) if unit in _SECONDS else None


def _of(found: re.Match[str]) -> float:
    return float(re.sub(r"[, '\u00a0\u202f]", "", found["number"])) * _TIMES[(found["times"] or "").lower()]


def _written(number: float) -> str | None:
    if not math.isfinite(number) or abs(number) >= 1e15:
        return None
    return f"{number:.12f}".rstrip("0").rstrip(".")
