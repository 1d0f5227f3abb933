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
    r"(?P<times>k|mio|million|m|billion|bn|b|%)?\s*(?:[$€£]|usd|dollars?|/.*|per .*)?",
    re.IGNORECASE,
)

# other words than emoray's for a setting, and the setting
SYNONYMS = {
    **dict.fromkeys(("model", "model_id", "model_name", "model_path", "repo_id"), "id"),
    **dict.fromkeys(("prompt", "prompts", "system_prompt", "template_text", "messages"), "templates"),
    **dict.fromkeys(("emotion", "emotions", "angles", "moods", "feelings"), "states"),
    **dict.fromkeys(("n", "samples", "num_samples", "n_samples", "runs", "repeats", "trials"), "repetitions"),
    **dict.fromkeys(("key", "api_key", "apikey", "token", "secret"), "key_env"),
    **dict.fromkeys(("url", "endpoint", "api_base", "base", "address"), "base_url"),
    **dict.fromkeys(("provider", "backend", "engine"), "host"),
    **dict.fromkeys(("classifier", "classifiers", "judge", "judges"), "readers"),
    **dict.fromkeys(("max_new_tokens", "max_completion_tokens", "max_output_tokens", "max_length"), "max_tokens"),
    **dict.fromkeys(("rpm", "rate_limit", "rate"), "requests_per_minute"),
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
    "timeout": "timeout_s",
    "retries": "attempts",
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
    )
)

_HERE = "transformers (on this machine, simple) or vllm (fast, on GPUs)"
_SERVER = "hosted_api, with an account whose base_url is"
_OWN = f"{_SERVER} the server's, such as http://localhost:8000/v1"
_HOSTS = {
    **dict.fromkeys(("huggingface", "hf", "hf_hub", "hub", "transformer", "torch", "pytorch", "pipeline"), _HERE),
    **dict.fromkeys(("local", "localhost"), _HERE),
    **dict.fromkeys(("gpu", "cuda"), "vllm"),
    **dict.fromkeys(("llamacpp", "llama.cpp", "tgi", "sglang", "litellm", "api", "http", "server", "remote"), _OWN),
    **dict.fromkeys(("openai", "open_ai", "chatgpt", "gpt"), "hosted_api, with an account of kind: openai"),
    **dict.fromkeys(("azure", "azure_openai"), "hosted_api, with an account of kind: azure"),
    **dict.fromkeys(("anthropic", "claude"), f"{_SERVER} https://api.anthropic.com/v1/"),
    **dict.fromkeys(
        ("gemini", "google", "vertex"), f"{_SERVER} https://generativelanguage.googleapis.com/v1beta/openai/"
    ),
    **dict.fromkeys(("together", "togetherai"), f"{_SERVER} https://api.together.xyz/v1"),
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


def synonym(word: str) -> str | None:
    """The setting that goes by another name elsewhere; None for an unknown one."""
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


def number_meant(text: str) -> str | None:
    """`10000` of `10k`, `1e4`, `10,000` or `$10,000`; `0.7` of `70%`; None where no number is meant."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        return None
    number = float(re.sub(r"[, '\u00a0\u202f]", "", found["number"])) * _TIMES[(found["times"] or "").lower()]
    if not math.isfinite(number) or abs(number) >= 1e15:
        return None
    return f"{number:.12f}".rstrip("0").rstrip(".")
