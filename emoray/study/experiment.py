"""The experiment as a grid, and the grid as arithmetic.

One experiment is models × templates × states × intensities × questions × repetitions. A cell is computed from
its place in the asking order, so no process ever holds the list of cells.

The asking order is blocked. A block asks every prompt (template × state × intensity × question) a few times,
`BLOCK_REPETITIONS` at most; inside a block the prompts stand in a seeded random order, and the repetitions of one
prompt stand together, so that a serving engine finds their common prefix in its cache. So after every block all
states and all questions have been asked equally often: time is not confounded with either.

Canaries are a few prompts that are asked again and again through the night, at temperature 0 where the model takes
one: what changes in their answers is the model or its server, not chance. They are cells of their own, with keys of
their own, and belong to no mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emoray.study.circumplex import Affect

BLOCK_REPETITIONS = 4


@dataclass(frozen=True, slots=True)
class Question:
    id: str
    text: str
    mark: str = "user"  # "quoted" from the paper's summaries, "ours", or "user"
    tags: tuple[str, ...] = ()  # what kind of question it is


@dataclass(frozen=True, slots=True)
class Template:
    """Two texts with fields in braces (see `prompts.FIELDS`); an empty `system` sends no system message."""

    name: str
    system: str
    user: str
    mark: str = "user"
    control: bool = False  # asks for no state: its scores enter no mean


@dataclass(frozen=True, slots=True)
class State:
    """An emotional state to be expressed, at full intensity; `angle_deg` as the spec gave it, in [0, 360)."""

    affect: Affect
    angle_deg: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn; None leaves a setting to the provider (some models refuse it)."""

    temperature: float | None = 1.0
    top_p: float | None = None
    max_tokens: int | None = 256


@dataclass(frozen=True, slots=True)
class Model:
    """One model as the grid sees it: what decides its answers, and nothing of where it runs."""

    name: str
    id: str
    sampling: Sampling = Sampling()
    identity: tuple[tuple[str, str], ...] = ()  # revision, quantization, chat template, … where the spec sets them


@dataclass(frozen=True, slots=True)
class Cell:
    """One ask: a point of the grid."""

    model: Model
    template: Template
    state: State
    intensity: float
    question: Question
    repetition: int  # of a canary: its round
    canary: bool = False

    @property
    def asked(self) -> Affect:
        """The affect asked for: the state at this intensity."""
        return self.state.affect.scaled(self.intensity)


@dataclass(frozen=True, slots=True)
class Canaries:
    """`prompts` canaries before every `every` cells, and once more after the last."""

    every: int
    prompts: int


class Place(NamedTuple):
    """What is asked at a place of the asking order."""

    prompt: int  # mixed radix: template, state, intensity, question
    repetition: int
    canary: bool = False


@dataclass(frozen=True)
class Experiment:
    """Everything that is varied; `seed` decides the asking order and nothing else."""

    models: tuple[Model, ...]
    states: tuple[State, ...]
    questions: tuple[Question, ...]
    templates: tuple[Template, ...]
    intensities: tuple[float, ...] = (1.0,)
    repetitions: int = 1
    seed: int = 0
    canaries: Canaries | None = None

    @property
    def prompts_per_model(self) -> int:
        return len(self.templates) * len(self.states) * len(self.intensities) * len(self.questions)

    @property
    def measured_per_model(self) -> int:
        """The cells that count: the product."""
        return self.prompts_per_model * self.repetitions

    @property
    def canaries_per_model(self) -> int:
        if self.canaries is None:
            return 0
        rounds = 1 - (-self.measured_per_model // self.canaries.every)
        return rounds * self.canary_prompts

    @property
    def cells_per_model(self) -> int:
        return self.measured_per_model + self.canaries_per_model

    def places_of(self, repetitions: int) -> int:
        """How many places from the first hold every prompt so often, and the canaries among them: whole blocks."""
        if repetitions >= self.repetitions:
            return self.cells_per_model
        measured = self.prompts_per_model * repetitions
        rounds = -(-measured // self.canaries.every) if self.canaries else 0
        return measured + rounds * self.canary_prompts

    @property
    def canary_prompts(self) -> int:
        return min(self.canaries.prompts, self.prompts_per_model) if self.canaries else 0

    def __len__(self) -> int:
        return len(self.models) * self.cells_per_model

    def grid(self, name: str) -> Grid:
        """The cells of one model; KeyError where no model has that name."""
        for model in self.models:
            if model.name == name:
                return Grid(self, model)
        raise KeyError(name)


@dataclass(frozen=True)
class Grid:
    """The cells of one model in the order in which they are asked."""

    experiment: Experiment
    model: Model

    def __len__(self) -> int:
        return self.experiment.cells_per_model

    def place(self, index: int) -> Place:
        """What is asked at a place of the asking order, 0 ≤ index < len."""
        canaries = self.experiment.canaries
        if canaries is None:
            return self._measured(index)
        few = self.experiment.canary_prompts
        last = len(self) - few  # the round after the last cell, which may end a short stretch
        if index >= last:
            return self._canary(self.experiment.canaries_per_model // few - 1, index - last)
        stretch, within = divmod(index, few + canaries.every)
        return self._canary(stretch, within) if within < few else self._measured(index - (stretch + 1) * few)

    def _canary(self, round_: int, which: int) -> Place:
        """The canaries are the same prompts for every model."""
        order = _order(self.experiment.seed, "", 0, self.experiment.prompts_per_model)
        return Place(int(order[which]), round_, canary=True)

    def _measured(self, index: int) -> Place:
        prompts = self.experiment.prompts_per_model
        block, within = divmod(index, prompts * BLOCK_REPETITIONS)
        first = block * BLOCK_REPETITIONS
        repetitions = min(BLOCK_REPETITIONS, self.experiment.repetitions - first)
        turn, repetition = divmod(within, repetitions)
        order = _order(self.experiment.seed, self.model.name, block, prompts)
        return Place(int(order[turn]), first + repetition)

    def cell(self, prompt: int, repetition: int, canary: bool = False) -> Cell:
        """The cell of a place."""
        e = self.experiment
        rest, question = divmod(prompt, len(e.questions))
        rest, intensity = divmod(rest, len(e.intensities))
        template, state = divmod(rest, len(e.states))
        return Cell(
            _steady(self.model) if canary else self.model,
            e.templates[template],
            e.states[state],
            e.intensities[intensity],
            e.questions[question],
            repetition,
            canary,
        )

    def cells(self, start: int = 0, stop: int | None = None) -> Iterator[Cell]:
        """The cells at places start … stop of the asking order."""
        for index in range(start, len(self) if stop is None else min(stop, len(self))):
            yield self.cell(*self.place(index))


@lru_cache(maxsize=64)
def _steady(model: Model) -> Model:
    """The model with chance taken out, where it takes a temperature."""
    if model.sampling.temperature is None:
        return model
    return replace(model, sampling=replace(model.sampling, temperature=0.0))


@lru_cache(maxsize=64)
def _order(seed: int, model: str, block: int, prompts: int) -> npt.NDArray[np.int64]:
    """The order of the prompts in one block: a permutation that seed, model and block decide on any machine."""
    words = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, block, *model.encode()]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words))).permutation(prompts)
