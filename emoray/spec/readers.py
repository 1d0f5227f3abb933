"""The readers of a spec, an entry class for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)

from emoray.spec.added import added, one_of
from emoray.spec.base import (
    KEPT,
    Actors,
    Cpus,
    CpusOrNone,
    GpuShare,
    Id,
    Many,
    Name,
    Resources,
    Section,
    Text,
    Tokens,
    Word,
    is_kept,
)
from emoray.spec.entry import AddedReader
from emoray.spec.models import ModelEntry
from emoray.study import goemotions
from emoray.study.goemotions import LabelMap


class _Network(Section):
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
    def _usable(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, dict):
            goemotions.label_map_from(value, name="own", labels=None, kept=is_kept(info))
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


class JudgeReader(Section):
    """A language model that reads: valence, arousal and confidence by a rubric. It sees the answer and nothing else."""

    kind: Literal["judge"]
    name: Name
    model: ModelEntry
    """Who judges: an entry as under `models`; its `name` is free."""
    rubric: Text = "affect"
    """A shipped rubric, or a file of your own (TOML with system and user; {text} stands for the answer)."""
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    """How a hosted model (response_format) or a vLLM engine is held to JSON; none where a provider does not know it."""


class ScriptedReader(Section):
    """A reader that finds what a hash of the text says: for rehearsals, benchmarks and tests."""

    kind: Literal["scripted"]
    name: Name
    actors: Actors = 1
    cpus: CpusOrNone = 0.1
    resources: Resources = {}

    @property
    def gpus(self) -> float:
        return 0.0


_Shipped = GoEmotionsReader | RegressorReader | JudgeReader | ScriptedReader

if TYPE_CHECKING:
    ReaderEntry = _Shipped | AddedReader
else:
    ReaderEntry = one_of(_Shipped, "kind", added("emoray.readers", AddedReader))


def own_map(reader: ReaderEntry) -> LabelMap | None:
    """Where a reader's own labels lie; DIRECT for one without labels, None for one with the 28 GoEmotions labels."""
    if isinstance(reader, JudgeReader | RegressorReader):
        return goemotions.DIRECT
    if isinstance(reader, AddedReader):
        return goemotions.DIRECT if reader.reads == "affect" else None
    if isinstance(reader, GoEmotionsReader) and reader.places:
        return goemotions.label_map_from(reader.places, name=reader.name, labels=None, kept=True)  # or checked before
    return None


def own_maps(readers: Mapping[str, ReaderEntry]) -> dict[str, LabelMap]:
    """By name, of the readers that do not read the 28 GoEmotions labels."""
    return {name: found for name, reader in readers.items() if (found := own_map(reader)) is not None}


def label_map_of(reader: ReaderEntry, default: LabelMap) -> LabelMap:
    """Where a reader's labels lie: its own map, or the default for the 28 GoEmotions labels."""
    return own_map(reader) or default


def readers_of(entries: Sequence[Mapping[str, Any]]) -> list[ReaderEntry]:
    """Reader entries as a manifest keeps them."""
    return [TypeAdapter[ReaderEntry](ReaderEntry).validate_python(entry, context=KEPT) for entry in entries]


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
