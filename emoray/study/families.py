"""Which house a language model comes from, by its id: a judge is kinder to its own kin, and that must be seen.

A table of ours of names that the makers use; an id that fits none has no known family.
"""

from __future__ import annotations

import re

_FAMILIES = {
    "OpenAI GPT": r"gpt|chatgpt|\bo[134](?:-|\b)|davinci",
    "Google Gemini and Gemma": r"gemini|gemma|palm",
    "Anthropic Claude": r"claude",
    "Meta Llama": r"llama(?!ndex)",
    "Mistral": r"mistral|mixtral|ministral|magistral",
    "Alibaba Qwen": r"qwen|qwq",
    "Cohere Command": r"command|aya-|c4ai",
    "DeepSeek": r"deepseek",
    "Microsoft Phi": r"\bphi-?\d",
    "xAI Grok": r"grok",
    "AI2 OLMo": r"olmo|tulu",
    "Zhipu GLM": r"\bglm",
}
_KNOWN = {name: re.compile(pattern) for name, pattern in _FAMILIES.items()}


def family(model_id: str) -> str | None:
    """The family of a model by its id (`meta-llama/Meta-Llama-3-8B` is Meta Llama); None where it is not known."""
    word = model_id.lower()
    return next((name for name, pattern in _KNOWN.items() if pattern.search(word)), None)


def kin(judge_id: str, model_id: str) -> str | None:
    """The family that a judge shares with the model it judges; None where they are no kin, or not known to be."""
    if judge_id == model_id:
        return family(judge_id) or judge_id
    mine = family(judge_id)
    return mine if mine == family(model_id) else None
