"""What a spec would ask and what that takes, before anything is asked. Calls no model, writes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from emoray import manifest
from emoray.resume import owed
from emoray.spec import Study
from emoray.store import RunFolder
from emoray.stream import cluster
from emoray.study.prompts import Prompt, prompts, render


@dataclass(frozen=True)
class ModelPlan:
    model: str
    host: str
    cells: int
    settled: int
    needs: str  # of one lane: CPUs and GPUs

    @property
    def owed(self) -> int:
        return self.cells - self.settled


@dataclass(frozen=True)
class Plan:
    name: str
    folder: str
    states: int
    intensities: int
    templates: int
    questions: int
    repetitions: int
    models: tuple[ModelPlan, ...]
    readers: tuple[str, ...]
    example: Prompt
    cluster: str | None  # what the cluster has; None where none was asked

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        data = {key: value for key, value in asdict(self).items() if key != "example"}
        data["models"] = [asdict(model) | {"owed": model.owed} for model in self.models]
        return data | {"cells": sum(model.cells for model in self.models), "example": self.example.chat}

    def text(self) -> str:
        """For a terminal."""
        width = max(len(model.model) for model in self.models)
        grid = (
            f"{self.states} states × {self.intensities} intensities × {self.templates} templates × "
            f"{self.questions} questions × {self.repetitions:,} repetitions"
        )
        lines = [f"{self.name}: {grid} = {self.models[0].cells:,} cells for each of {len(self.models)} models", ""]
        lines += [
            f"  {model.model:<{width}}  {model.host:<12}  {model.settled:>9,} settled  {model.owed:>9,} owed  "
            f"needs {model.needs}"
            for model in self.models
        ]
        lines += ["", f"  readers: {', '.join(self.readers)}", f"  folder:  {self.folder}"]
        lines += [f"  cluster: {self.cluster or 'not asked (give --address to check one)'}", "", "one prompt:"]
        lines += [f"  {message['role']}: {message['content']}" for message in self.example.chat]
        return "\n".join(lines)


def plan(study: Study, uri: str, *, address: str | None = None) -> Plan:
    """The plan of a study for a run folder, which need not exist.

    With an address the cluster there is asked whether it has what every lane takes: SpecError where it has not.
    """
    capacity = cluster.connect(address) if address else None
    for model in study.spec.models:
        if capacity:
            cluster.check(model.name, cluster.needs(study.spec, model), capacity)
    folder, e = RunFolder(uri), study.experiment
    if folder.manifest() is not None:
        manifest.study(folder.manifest(), folder.uri)
    return Plan(
        name=study.spec.name,
        folder=uri,
        states=len(e.states),
        intensities=len(e.intensities),
        templates=len(e.templates),
        questions=len(e.questions),
        repetitions=e.repetitions,
        models=tuple(_model(study, folder, entry) for entry in study.spec.models),
        readers=tuple(reader.name for reader in study.spec.readers),
        example=render(next(e.grid(e.models[0].name).cells())),
        cluster=str(capacity) if capacity else None,
    )


def _model(study: Study, folder: RunFolder, entry: Any) -> ModelPlan:
    grid = study.experiment.grid(entry.name)
    settled = folder.answers(entry.name).settled()
    left = sum(1 for _ in owed(prompts(grid), settled)) if len(settled) else len(grid)
    return ModelPlan(entry.name, entry.host, len(grid), len(grid) - left, str(cluster.needs(study.spec, entry)))
