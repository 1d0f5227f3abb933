"""How many labels by people buy which half-width, model by model, before anybody has labelled anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emoray.analysis.planning import labels_half_width
from emoray.analysis.summaries import moments, whole
from emoray.analysis.variance import Parts
from emoray.report.conditions import focus, has
from emoray.report.phrasing import number
from emoray.report.read_run import Source, felt, under
from emoray.run_folder.columns import OtherLabels
from emoray.study.conditions import Condition
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import Rules

_LABELS = (25, 50, 100, 200, 400)  # of one model
_FORETOLD = 0.5  # of the variance of people's scores, by a middling reader


@dataclass(frozen=True)
class _Spread:
    """What decides the half-width of one model."""

    parts: Parts
    states: int
    questions: int
    repetitions: float


def plan_of_labels(source: Source, label_map: LabelMap, rules: Rules, condition: Condition | None) -> str:
    """A table for the terminal, by the first reader that can tell; "" where nothing of the condition was read yet."""
    for reader in source.readers():
        try:
            spreads = {model: _spread(source, reader, model, label_map, rules, condition) for model in source.models()}
        except OtherLabels:
            continue
        lines = [_line(model, one) for model, one in spreads.items() if one is not None]
        if lines:
            return "\n".join([*_head(reader), *lines]) + "\n"
    return ""


def _head(reader: str) -> list[str]:
    columns = "".join(f"{f'{labels:,}':>10}" for labels in _LABELS)
    return [
        f"Half-width of the corrected mean to expect of so many labels per model, if {reader} foretells half of the",
        "variance of what people say (all questions alike; λ of the report says how well it does):",
        f"  {'model':<24}{columns}",
    ]


def _line(model: str, one: _Spread) -> str:
    widths = [
        labels_half_width(one.parts, one.states, one.questions, one.repetitions, labels, _FORETOLD)
        for labels in _LABELS
    ]
    return f"  {model[:23]:<24}" + "".join(f"{f'±{number(width)}':>10}" for width in widths)


def _spread(
    source: Source, reader: str, model: str, label_map: LabelMap, rules: Rules, condition: Condition | None
) -> _Spread | None:
    """None where there is less than two questions."""
    every = under(felt(reader, source.rows(reader, model), label_map, rules.neutral).scores, rules.refusals)
    if condition is not None and not has(every, condition):
        return None
    tally = focus(every, condition).without("refused")
    scores = moments(tally, "cosine")
    prompts, questions = int((scores.counts > 0).sum()), int((scores.counts > 0).any(axis=(1, 2)).sum())
    if questions < 2:
        return None
    states = int((scores.counts > 0).any(axis=(0, 1)).sum())
    parts = whole(tally, label_map, np.random.default_rng(0), level=0.95, shuffles=1).parts
    return _Spread(parts, states, questions, scores.scored / prompts)
