"""What a report takes of run.json: any of it may be missing, in a folder of an earlier emoray or without a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emoray.study.goemotions import LabelMap, label_map, label_map_from
from emoray.study.scoring import NeutralRule, RefusalRule

Drawn = Mapping[str, Any]  # how a model's answers are drawn: settings of whatever host, as they are shown


@dataclass(frozen=True)
class AboutAttempt:
    """What an attempt at a run says of itself."""

    settled_before: int  # answers of all models, before it began to ask
    added: bool  # some lane said at its end that it answered
    sampling: Mapping[str, Drawn]  # by model
    until: float | None = None  # half-width at which asking was to end, where it was a wave


@dataclass(frozen=True)
class AboutRun:
    """A run by its manifest."""

    name: str = "run"
    digest: str | None = None
    neutral: NeutralRule = "zero"
    refusals: RefusalRule = "zero"  # also of a run that was made before there was such a rule
    label_map: LabelMap = field(default_factory=label_map)
    repetitions: int = 1
    spec: Mapping[str, Any] = field(default_factory=dict)  # as `study.conditions` reads it
    marks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    model_ids: Mapping[str, str] = field(default_factory=dict)  # of the models that have one, by name
    judges: Mapping[str, str | None] = field(default_factory=dict)  # the id of each judge's model, by reader
    readers: tuple[str, ...] = ()  # those of the spec in its order, then those that came later
    attempts: tuple[AboutAttempt, ...] = ()

    @classmethod
    def of(cls, manifest: Mapping[str, Any] | None) -> AboutRun:
        """By what run.json holds; of a folder without one, what ships is taken."""
        kept = manifest or {}
        spec = kept.get("spec") or {}
        readers = {one["name"]: one for one in [*spec.get("readers", []), *kept.get("more_readers", [])]}
        judges = {name: entry for name, entry in readers.items() if entry.get("kind") == "judge"}
        return cls(
            name=kept.get("name") or spec.get("name") or "run",
            digest=kept.get("digest"),
            neutral=spec.get("neutral", "zero"),
            refusals=spec.get("refusals", "zero"),
            label_map=_label_map(kept),
            repetitions=int(spec.get("repetitions") or 1),
            spec=spec,
            marks=kept.get("marks") or {},
            model_ids={one["name"]: one["id"] for one in spec.get("models", []) if one.get("id")},
            judges={name: (entry.get("model") or {}).get("id") for name, entry in judges.items()},
            readers=tuple(readers),
            attempts=tuple(map(_attempt, kept.get("attempts") or ())),
        )


def _attempt(told: Mapping[str, Any]) -> AboutAttempt:
    return AboutAttempt(
        settled_before=sum((told.get("settled_before") or {}).values()),
        added=any(lane.get("answered") for lane in told.get("lanes") or ()),
        sampling=told.get("sampling") or {},
        until=(told.get("until") or {}).get("half_width"),
    )


def _label_map(kept: Mapping[str, Any]) -> LabelMap:
    stored = kept.get("label_map")
    if stored is None:
        return label_map()
    source = stored.get("source") or f"run.json of {kept.get('name', 'the run')}"
    return label_map_from(stored["labels"], name=stored["name"], mark=stored["mark"], source=source, kept=True)
