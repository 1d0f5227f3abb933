"""What the entries of a spec have in common, and what one from another package is made of.

Another package imports its base class from here: `emoray.spec.models` and `readers` import that package.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_serializer, field_validator

from emoray.spec.base import (
    Actors,
    CpusOrNone,
    GpuShare,
    Id,
    Many,
    Name,
    Resources,
    Section,
    TagPair,
    Tokens,
    digest,
)


class SamplingSpec(Section):
    """How answers are drawn. `null` leaves a setting to the provider, for models that refuse it; on models of one's own
    it means temperature 1, top_p 1, as many tokens as fit (see `sampling_defaults` of a model).
    """

    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Tokens | None = 256
    """Longest answer in tokens; a longer one is cut and flagged (finish_reason = length)."""


DEADLINE = r"^([0-9]{1,9}(\.[0-9]{1,9})?(s|min|h|d)|([01]?[0-9]|2[0-3]):[0-5][0-9])$"


class ModelFields(Section):
    """What the entries of all models have in common."""

    name: Name
    """What the model is called in tables and folders."""
    sampling: SamplingSpec | None = None
    """What differs from the run's sampling for this model; the rest stays."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """A lane of a higher priority takes its place on the cluster before those of a lower one."""
    deadline: Annotated[str, Field(pattern=DEADLINE, max_length=32)] | None = None
    """Asking stops then and all is kept: a time from the start of the command (90min, 6h), or "07:00" on its clock."""
    resources: Resources = {}
    """Of the cluster's custom resources, per actor: `{big_disk: 1}` goes where `ray start --resources` has them."""
    reasoning_tags: Literal["known", "none"] | TagPair = "known"
    """What marks reasoning in a text, to be kept apart: known families' tags, none, or your own [opening, closing]."""

    @field_validator("reasoning_tags", mode="before")
    @classmethod
    def _told_apart(cls, value: object) -> Any:
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


class AddedModel(ModelFields):
    """The entry of a host from another package (entry point `emoray.hosts`).

    A subclass narrows `host` to the `Literal` that its entry point is called, says by `made_by` who makes the host
    (`package.module:Host`, called with the entry, imported where it asks), and adds the fields that it needs.
    """

    made_by: ClassVar[str]
    host: str
    id: Id
    actors: Actors = 1
    cpus: CpusOrNone = 0.1
    """Per actor."""
    gpus: GpuShare = 0.0
    """Per actor."""
    in_flight: Many = 64
    """Asks that one actor works on at once."""

    def decides(self) -> dict[str, str]:
        """The host, and whatever a subclass adds; a `decides` of its own leaves out what decides nothing."""
        own = set(type(self).model_fields) - set(AddedModel.model_fields)
        settings = {"settings": digest(self.model_dump(mode="json", include=own))} if own else {}
        return super().decides() | {"host": self.host} | settings


class AddedReader(Section):
    """The entry of a reader from another package (entry point `emoray.readers`), as `AddedModel` is that of a host."""

    made_by: ClassVar[str]
    reads: ClassVar[Literal["goemotions", "affect"]] = "goemotions"
    """The 28 GoEmotions labels, which a label map places, or valence and arousal themselves."""
    kind: str
    name: Name
    actors: Actors = 1
    cpus: CpusOrNone = 0.5
    """Per actor."""
    gpus: GpuShare = 0.0
    """Per actor."""
    resources: Resources = {}
