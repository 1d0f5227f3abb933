"""What a spec would ask and what that takes, before anything is asked. Calls no model, writes nothing."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import Any

from emoray import manifest
from emoray.estimate import Estimate, estimate, whole
from emoray.progress import duration
from emoray.resume import owed
from emoray.spec import Account, Hosted, ModelEntry, Study
from emoray.store import RunFolder
from emoray.stream import cluster
from emoray.stream.means import check_budgets
from emoray.study.experiment import Grid
from emoray.study.prompts import Prompt, prompts, render


@dataclass(frozen=True)
class ModelPlan:
    model: str
    host: str
    cells: int
    settled: int
    needs: str  # of one lane: CPUs and GPUs
    expected: Estimate | None  # tokens and money of what is owed; None where no provider counts them
    at_least_s: float | None  # what the account's limits alone take for it

    @property
    def owed(self) -> int:
        return self.cells - self.settled

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"owed": self.owed}

    def costs(self) -> str:
        """Tokens, money and time of what is owed; "" where nothing is known of them."""
        if self.expected is None:
            return ""
        usd = "price unknown" if self.expected.usd is None else f"about ${self.expected.usd:,.2f}"
        most = "" if self.expected.most_usd is None else f" (at most ${self.expected.most_usd:,.2f})"
        time = f", at least {duration(self.at_least_s)} under the limits" if self.at_least_s else ""
        return f"about {self.expected.tokens:,} tokens, {usd}{most}{time}"


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
        data["models"] = [model.as_json() for model in self.models]
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
        lines += self._money()
        lines += ["", f"  readers: {', '.join(self.readers)}", f"  folder:  {self.folder}"]
        lines += [f"  cluster: {self.cluster or 'not asked (give --address to check one)'}", "", "one prompt:"]
        lines += [f"  {message['role']}: {message['content']}" for message in self.example.chat]
        return "\n".join(lines)

    def _money(self) -> list[str]:
        known = [(model, model.expected) for model in self.models if model.expected]
        if not known:
            return []
        width = max(len(model.model) for model, _ in known)
        usd, unknown = whole([expected for _, expected in known])
        but = f", and what {', '.join(unknown)} cost, whose price is unknown" if unknown else ""
        assumed = dict.fromkeys(sentence for _, expected in known for sentence in expected.assumed)
        return [
            "",
            *(f"  {model.model:<{width}}  {model.costs()}" for model, _ in known),
            f"  all together about ${usd:,.2f}{but}",
            *(f"  assumed: {sentence}" for sentence in assumed),
        ]


def plan(study: Study, uri: str, *, address: str | None = None) -> Plan:
    """The plan of a study for a run folder, which need not exist.

    With an address (or RAY_ADDRESS) the cluster there is asked whether it has what every lane takes: SpecError where
    it has not.
    """
    check_budgets(study.spec)
    address = address or os.environ.get("RAY_ADDRESS")
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


def _model(study: Study, folder: RunFolder, entry: ModelEntry) -> ModelPlan:
    grid = study.experiment.grid(entry.name)
    settled = folder.answers(entry.name).settled()
    left = sum(1 for _ in owed(prompts(grid), settled)) if len(settled) else len(grid)
    needs = str(cluster.needs(study.spec, entry))
    if not isinstance(entry, Hosted):
        return ModelPlan(entry.name, entry.host, len(grid), len(grid) - left, needs, None, None)
    expected = _expected(entry, grid, left)
    least = None if entry.host == "batch_api" else _at_least_s(study.spec.accounts[entry.account], expected)
    return ModelPlan(entry.name, entry.host, len(grid), len(grid) - left, needs, expected, least)


def _expected(entry: Hosted, grid: Grid, cells: int) -> Estimate:
    """Of `cells` cells like the grid's: every prompt is looked at once, whatever the repetitions."""
    each = [render(grid.cell(number, 0)) for number in range(grid.experiment.prompts_per_model)]
    one = estimate(entry, each, max_tokens=grid.model.sampling.max_tokens)
    times = cells / one.cells
    return replace(
        one,
        cells=cells,
        prompt_tokens=round(one.prompt_tokens * times),
        completion_tokens=round(one.completion_tokens * times),
        most_completion_tokens=round(one.most_completion_tokens * times),
        usd=None if one.usd is None else one.usd * times,
        most_usd=None if one.most_usd is None else one.most_usd * times,
    )


def _at_least_s(account: Account, expected: Estimate) -> float | None:
    """Seconds that the account's limits alone take; None where it states none."""
    waits = [
        60.0 * amount / (limit * account.share)
        for amount, limit in (
            (expected.cells, account.requests_per_minute),
            (expected.tokens, account.tokens_per_minute),
        )
        if limit
    ]
    return max(waits, default=None)
