"""A causal language model from its files: with weights that fit, an adapter merged into them, or one sentence why not.

transformers fills what a checkpoint lacks with random numbers, leaves out what it has too much of, and says so in a
log alone: a model would speak, and what it says would be noise.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

from emoray.hosts import hub
from emoray.hosts.chat_template import borrow_template
from emoray.hosts.protocol import HostDown
from emoray.hosts.vocabulary import misread
from emoray.hosts.weights import adapter_of, broken_settings, commit_of, unusual
from emoray.reasons import reason_of
from emoray.spec.models import Local

_FILES = "give a hub id, or a folder with config.json, the tokenizer and the weights"
_INSTALL = "install what it names where the model runs"
_QUANTISED = "take its weights as they were before, or host: vllm if that knows it"
_NO_LOSS = re.compile(  # what older files hold beside weights, or what only other ways of speaking need
    r"inv_freq|rotary_emb\.|position_ids|masked_bias|causal_mask|(attn|attention)\.bias$|\.[kqv]_scale$|(^|[._])mtp"
)

_BESIDE = re.compile(  # parts of their own, which change nothing that is said or read
    r"vision|visual|image|img|audio|speech|projector|resampler|newline|v_head|value_head|(^|[._])mm_|logit_scale"
)
_OF_OTHER_TASKS = re.compile(  # heads that encoders were trained with before they became classifiers, and after
    r"(^|\.)(cls|lm_head|lm_loss|pred_layer|qa_outputs|contact_head|vocab_\w+|\w*pooler|sop_classifier|decoder|v_head"
    r"|seq_relationship|mlm\w*|nsp\w*|(\w+_)?predictions?|generator_\w+|discriminator_\w+)\.|loss|criterion|class_weight"
)
_SIDE_HEAD = re.compile(  # of a model that was trained for several tasks
    r"(?!pre_)(\w+_)?(scores?|classifiers?|classification|critic|reward|rank(er|ing)?|regress(ion|or)|qa_outputs)(_\w+)?\."
)
_JUDGES = re.compile(r"For(Sequence|Token|Image)Classification|ForQuestionAnswering|RewardModel|ForMultipleChoice")


_OTHER_HEAD = (
    "it is a head for another task, and nobody can tell whether the model was trained for this one: take a model that "
    "was, or the head out of a copy of the weights"
)
_OTHER_CONFIG = "take the config.json that belongs to it, for this one describes another architecture or fewer layers"


class Loaded(NamedTuple):
    tokenizer: Any
    model: Any
    revision: str | None  # what was loaded, as resolved: of an adapter and of its base
    notes: Sequence[str] = ()  # sentences that whoever runs it should read


class _Source(NamedTuple):
    """Where files are."""

    id: str
    revision: str | None

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}" if self.revision else self.id


class _Unfit(Exception):
    """The files are there and are no model; the message is the end of a sentence."""


def load(entry: Local) -> Loaded:
    """Its tokenizer and model, on its device; HostDown where that cannot be done, or the weights do not fit."""
    try:
        return _loaded(entry)
    except _Unfit as wrong:
        raise HostDown(f"model {entry.name!r} ({entry.id}) cannot be loaded: {wrong}") from wrong
    except Exception as wrong:  # somebody's files, somebody's code: a cut file, a missing library, too little memory
        hint = _INSTALL if isinstance(wrong, ImportError) else _FILES
        reason, hint = hub.told(wrong) or (reason_of(wrong), hint)
        raise HostDown(f"model {entry.name!r} ({entry.id}) cannot be loaded: {reason}; {hint}") from wrong


def _loaded(entry: Local) -> Loaded:
    if why := unusual(entry.id):
        raise _Unfit(why)
    own = _Source(entry.id, commit_of(entry.id, entry.revision))
    adapter = adapter_of(*own)
    if why := broken_settings(*own):
        raise _Unfit(why)
    if adapter is None:
        model, notes = _weights(entry, own)
        return Loaded(_tokenizer(entry, own), _on_device(entry, model), own.revision, notes)
    peft = _peft(adapter)
    base = _base(own, adapter)
    model, notes = _weights(entry, base)
    merged = _on_device(entry, _merged(peft, model, own))
    written = own if _has_tokenizer(own) else base
    return Loaded(_tokenizer(entry, written), merged, f"{own.revision or 'adapter'} on {base}", notes)


def _tokenizer(entry: Local, source: _Source) -> Any:
    code = {"revision": source.revision, "trust_remote_code": entry.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(source.id, **code)
    if why := misread(tokenizer, *source):
        raise _Unfit(why)
    borrow_template(tokenizer, source.id, source.revision)
    return tokenizer


def _weights(entry: Local, source: _Source) -> tuple[Any, list[str]]:
    """The model, and what whoever runs it should read."""
    with _without_adapter(source.id) as folder:
        code = {"revision": source.revision, "trust_remote_code": entry.trust_remote_code}
        config = AutoConfig.from_pretrained(folder, **code)
        _check_whole(config)
        model, info = _kind(config).from_pretrained(
            folder,
            **code,
            dtype=_dtype(entry),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # else it ends in a table on the terminal; they are told below
        )
    if why := misfit(model, info):
        raise _Unfit(why)
    heads = [name for name in sorted(info["unexpected_keys"]) if _is_beside_own_head(name, model)]
    return model, [f"its checkpoint has a head for another task ({_named(heads)}), which is left out"] if heads else []


def _kind(config: Any) -> Any:
    """What loads it: some that also see (LLaVA, …) are no causal models to transformers, and speak all the same."""
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def _check_whole(config: Any) -> None:
    """_Unfit for what transformers would load without its other half or its head, and let speak: noise."""
    kinds = getattr(config, "architectures", None) or []
    if kinds and all(map(_JUDGES.search, kinds)):
        raise _Unfit(f"it was trained to judge texts ({', '.join(kinds)}) and not to speak; give a model that speaks")
    if getattr(config, "is_encoder_decoder", False):
        kind = ", ".join(getattr(config, "architectures", None) or [type(config).__name__])
        raise _Unfit(f"it answers with a decoder what an encoder has read ({kind}); give one that goes on with a text")


def misfit(model: Any, info: Mapping[str, Any]) -> str | None:
    """Why these weights are not this model's, as the end of a sentence; `info` is what transformers told of loading."""
    kind, quantised = type(model).__name__, getattr(model, "hf_quantizer", None) is not None
    if not quantised and (method := _method(model.config)):  # told in a log alone, and bits are taken for weights
        return f"its config.json says that it is quantised ({method}), which transformers does not know; {_QUANTISED}"
    if wrong := sorted(info["mismatched_keys"]):
        key, found, wanted = wrong[0]
        return (
            f"the weights do not fit {kind}: {key} has the shape {_shape(found)}, config.json makes it {_shape(wanted)}"
            f"{_more(len(wrong) - 1)}; take the config.json that belongs to them"
        )
    missing, strange = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if missing:
        prefix = _prefix(missing, strange)
        why = f", for its names begin with {prefix!r}; save it without" if prefix else "; take a complete checkpoint"
        return f"the checkpoint has no weights for {_named(missing)} of {kind}{why}"
    if homeless := [] if quantised else _homeless(strange, model):
        heads = all(_is_side_head(name, model) for name in homeless)
        return (
            f"{kind} has no place for {_named(homeless)} of the checkpoint; {_OTHER_HEAD if heads else _OTHER_CONFIG}"
        )
    return None


def _prefix(missing: Collection[str], strange: Sequence[str]) -> str | None:
    """What a checkpoint's names have before the model's: `module.`, `base_model.model.`, `_orig_mod.`, …"""
    wanted = set(missing)
    for name in strange:
        for at in (match.end() for match in re.finditer(r"\.", name)):
            if name[at:] in wanted:
                return name[:at]
    return None


def _homeless(strange: Sequence[str], model: Any) -> list[str]:
    """Weights that would stand inside the model if it were another, or that may be the head it was trained by. Those
    of a tower of its own, such as one that sees, change nothing that is said; nor does a head for another task beside
    a head to speak by that is in the checkpoint, or one of those an encoder had before it became a classifier.
    """
    parts = dict(_parts(model))
    stacks = tuple(f"{name}." for name, part in parts.items() if isinstance(part, torch.nn.ModuleList))
    judges = _JUDGES.search(type(model).__name__) is not None

    def inside(name: str) -> bool:
        if name.rpartition(".")[0] in parts or name.startswith(stacks):
            return True
        if _BESIDE.search(name) or not name.endswith((".weight", ".bias")):
            return False
        own = name.removeprefix(f"{model.base_model_prefix}.")
        if judges:
            return not _OF_OTHER_TASKS.search(name)
        return own.count(".") == 1 or own.partition(".")[0] in parts

    return [
        name
        for name in strange
        if not _NO_LOSS.search(name)
        and inside(name)
        and not _predicts_further(name, model.config)
        and not _is_beside_own_head(name, model)
    ]


def _is_side_head(name: str, model: Any) -> bool:
    """Whether it is a head for another task by its name, and no part of one that the model has."""
    own = name.removeprefix(f"{model.base_model_prefix}.")
    return bool(_SIDE_HEAD.match(own)) and own.partition(".")[0] not in dict(_parts(model))


def _is_beside_own_head(name: str, model: Any) -> bool:
    """Whether it is one beside the head that a model speaks by, which is in the checkpoint where no other stands in
    for it: with tied weights a reward model, which has none, has all that a speaker has.
    """
    tied = model.config.get_text_config().tie_word_embeddings or model.config.tie_word_embeddings
    speaks = model.get_output_embeddings() is not None and not _JUDGES.search(type(model).__name__)
    return bool(speaks and not tied and _is_side_head(name, model))


def _method(config: Any) -> str | None:
    """How a config says that its weights are quantised."""
    told = getattr(config, "quantization_config", None)
    known = told if isinstance(told, Mapping) else vars(told) if told else {}
    if not known or all(known.get(f"load_in_{bits}bit") is False for bits in (4, 8)):  # bitsandbytes, and not used
        return None
    found = known.get("quant_method")
    return str(getattr(found, "value", found))


def _parts(model: Any) -> Iterator[tuple[str, Any]]:
    """Every module by its name, also by the one that it has where the model was saved without its head."""
    for whole in (model, model.base_model):
        yield from ((name, part) for name, part in whole.named_modules() if name)


def _predicts_further(name: str, config: Any) -> bool:
    """Whether it belongs to a layer behind the last, which some train to guess several tokens at once."""
    more, layers = (getattr(config, what, None) or 0 for what in ("num_nextn_predict_layers", "num_hidden_layers"))
    layer = re.search(r"\.(\d+)\.", name)
    return bool(more and layer and int(layer[1]) >= layers)


def _base(own: _Source, adapter: Mapping[str, Any]) -> _Source:
    """What an adapter was trained on: the whole model beside it, or another that it names."""
    if Path(own.id, "config.json").is_file():
        return own
    if not adapter.get("base_model_name_or_path"):
        raise _Unfit("its adapter_config.json names no base_model_name_or_path; write it there, or merge the adapter")
    base = str(adapter["base_model_name_or_path"])
    return _Source(base, commit_of(base, adapter.get("revision")))


def _peft(adapter: Mapping[str, Any]) -> Any:
    """The library that reads adapters."""
    kind, task = adapter.get("peft_type", "PEFT"), adapter.get("task_type")
    if importlib.util.find_spec("peft") is None:
        raise _Unfit(
            f"it is an adapter ({kind}), and peft is not installed where the model runs: pip install 'emoray[lora]'"
        )
    if task not in (None, "CAUSAL_LM"):
        raise _Unfit(f"its adapter is for another task ({task}) than to speak; give one for CAUSAL_LM")
    return importlib.import_module("peft")


def _merged(peft: Any, model: Any, adapter: _Source) -> Any:
    """The model with the adapter in its weights."""
    config = peft.PeftConfig.from_pretrained(adapter.id, revision=adapter.revision)
    if config.is_prompt_learning:
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise _Unfit(f"its adapter ({kind}) cannot be merged into the weights; give one that can, such as a LoRA")
    wrapped = peft.PeftModel(model, config)
    result = wrapped.load_adapter(adapter.id, "default", revision=adapter.revision, torch_device="cpu")
    if lost := sorted([*result.missing_keys, *result.unexpected_keys]):
        raise _Unfit(f"the adapter does not fit the model that it names: {_named(lost)}; give the one it was made for")
    return wrapped.merge_and_unload(safe_merge=True)


@contextmanager
def _without_adapter(model: str) -> Iterator[str]:
    """The whole model of a folder that has an adapter too: with peft, transformers would take both, and merge none."""
    folder = Path(model)
    if not (folder / "adapter_config.json").is_file():
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="emoray-") as alone:
        for file in folder.iterdir():
            if not file.name.startswith("adapter_"):
                Path(alone, file.name).symlink_to(file.resolve())
        yield alone


def _has_tokenizer(source: _Source) -> bool:
    folder = Path(source.id)
    return folder.is_dir() and (folder / "tokenizer_config.json").is_file()


def _on_device(entry: Local, model: Any) -> Any:
    device = _device(entry)
    return (model if model.device.type == device else model.to(device)).eval()  # some quantized ones cannot be moved


def _device(entry: Local) -> str:
    return "cuda" if entry.gpus and torch.cuda.is_available() else "cpu"


def _dtype(entry: Local) -> torch.dtype:
    auto = "bfloat16" if _device(entry) == "cuda" else "float32"  # half is several times slower on most CPUs
    dtype: torch.dtype = getattr(torch, auto if entry.dtype == "auto" else entry.dtype)
    return dtype


def _shape(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def _named(keys: Sequence[str]) -> str:
    return f"{', '.join(keys[:2])}{_more(len(keys) - 2)}"


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
