"""A run folder in memory whose rows went through `columns.py`: seeded, with failures, refusals and neutral readings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from emoray.hosts.protocol import Reply
from emoray.readers.protocol import Reading
from emoray.run_folder import columns
from emoray.study import prompts
from emoray.study.circumplex import angle_between_deg, around_the_circle
from emoray.study.experiment import Experiment, Model, Question, State
from emoray.study.goemotions import LABELS, NEUTRAL, label_map
from emoray.study.outcomes import Answer, Failure, FailureKind
from emoray.study.prompts import Prompt

RUSSELL = label_map("russell")
_ANGLES = [place.affect.angle_deg if place.affect else math.nan for place in RUSSELL.places]
_KINDS = (FailureKind.RATE_LIMITED, FailureKind.CONTENT_FILTERED, FailureKind.TIMEOUT)


@dataclass
class Table:
    """Rows as a run folder gives them: one table, or several batches."""

    table: pa.Table
    batch: int = 10_000

    def tables(self, columns: Sequence[str] | None = None) -> Iterable[pa.Table]:
        chosen = self.table if columns is None else self.table.select(list(columns))
        return [chosen.slice(start, self.batch) for start in range(0, len(chosen), self.batch)]


@dataclass
class Run:
    """A run folder in memory."""

    said: dict[str, pa.Table]
    felt: dict[tuple[str, str], pa.Table]
    settings: dict[str, Any] = field(default_factory=lambda: {"spec": {"name": "synthetic"}, "digest": "0" * 16})

    def manifest(self) -> dict[str, Any] | None:
        return self.settings

    def readers(self) -> list[str]:
        return list(dict.fromkeys(reader for reader, _ in self.felt))

    def models(self) -> list[str]:
        return list(self.said)

    def answers(self, model: str) -> Table:
        return Table(self.said[model])

    def rows(self, reader: str, model: str) -> Table:
        return Table(self.felt[reader, model])


def run(
    skills: dict[str, float],
    *,
    readers: Sequence[str] = ("embedded",),
    states: int = 12,
    questions: int = 10,
    templates: Sequence[str] = ("parameters",),
    intensities: Sequence[float] = (1.0,),
    repetitions: int = 3,
    refusals: float = 0.02,
    failures: float = 0.02,
    seed: int = 7,
) -> Run:
    """A run of models that are read as asked for with a share of `skill` of their answers, else at random."""
    experiment = Experiment(
        models=tuple(Model(name, f"test/{name}") for name in skills),
        states=tuple(State(affect, affect.angle_deg) for affect in around_the_circle(states)),
        questions=_questions(questions),
        templates=tuple(prompts.template(name) for name in templates),
        intensities=tuple(intensities),
        repetitions=repetitions,
    )
    rng = np.random.default_rng(seed)
    said = {name: _said(list(prompts.prompts(experiment.grid(name))), refusals, failures, rng) for name in skills}
    felt = {(reader, name): _felt(said[name], reader, skills[name], rng) for reader in readers for name in skills}
    return Run(said, felt)


def _questions(count: int) -> tuple[Question, ...]:
    """The shipped ones first, then others."""
    shipped = tuple(prompts.shipped_questions().values())[:count]
    return *shipped, *(Question(f"q{place:05d}", f"What is {place}?") for place in range(len(shipped), count))


def _said(asked: list[Prompt], refusals: float, failures: float, rng: np.random.Generator) -> pa.Table:
    replies = [_reply(prompt, refusals, failures, rng) for prompt in asked]
    return columns.with_answers(columns.asked(asked), replies, host="transformers", revision="r1", engine="test")


def _reply(prompt: Prompt, refusals: float, failures: float, rng: np.random.Generator) -> Reply:
    luck = rng.random()
    outcome: Answer | Failure
    if luck < failures:
        outcome = Failure(_KINDS[int(rng.integers(len(_KINDS)))], "the provider said no")
    elif luck < failures + refusals:
        outcome = Answer("I'm sorry, but I can't help with that. As an AI I have no feelings.")
    else:
        outcome = Answer(_text(prompt, rng), finish_reason="length" if rng.random() < 0.03 else "stop")
    return Reply(prompt.key, outcome, attempts=1, latency_s=0.5, asked_at=datetime(2025, 11, 1, tzinfo=UTC))


def _text(prompt: Prompt, rng: np.random.Generator) -> str:
    return (
        f"Asked about {prompt.cell.question.id}, I feel it at {prompt.cell.state.angle_deg:.0f} degrees & I say "
        f"<b>so</b> {int(rng.integers(50))} times. " * 3
    )


def _felt(said: pa.Table, reader: str, skill: float, rng: np.random.Generator) -> pa.Table:
    outcomes, states = said["outcome"].to_pylist(), said["state_deg"].to_pylist()
    readings = [
        _reading(state, skill, rng) if outcome == columns.ANSWERED else None
        for outcome, state in zip(outcomes, states, strict=True)
    ]
    return columns.scored(columns.with_readings(said, readings, reader=reader, revision="v1"), RUSSELL, "zero")


def _reading(state: float, skill: float, rng: np.random.Generator) -> Reading:
    if rng.random() < 0.01:
        return Reading(None, error="the reader stumbled")
    probabilities = rng.dirichlet(np.full(len(LABELS), 0.1)).astype(np.float32)
    if rng.random() < 0.1:
        top = NEUTRAL
    elif rng.random() < skill:
        top = _nearest(state + rng.normal(0, 20))
    else:
        top = int(rng.integers(len(LABELS)))
    probabilities[top] += 1.5
    return Reading(probabilities / probabilities.sum(), truncated=bool(rng.random() < 0.02))


def _nearest(angle: float) -> int:
    gaps = [math.inf if math.isnan(a) else abs(angle_between_deg(angle, a)) for a in _ANGLES]
    return int(np.argmin(gaps))
