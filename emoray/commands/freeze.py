"""`emoray plan --freeze`: a plan in words and numbers, under the headings of an OSF preregistration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoray.commands.estimate import Size
from emoray.commands.options import check_writable
from emoray.errors import UserError
from emoray.run_folder.frozen_plan import frozen, sealed
from emoray.spec.study import Study


def freeze(study: Study, file: Path, head: Mapping[str, str], size: Size) -> str:
    """Writes the frozen plan and returns its sha256; UserError where the file is there already.

    `head` is what the spec's first comment says (question, hypothesis, …), `size` what all of it takes.
    """
    check_writable(file)
    if file.exists():
        raise UserError(f"{file}: is there already, and a frozen plan is not written over; give another name")
    data = sealed(_text(study, frozen(study), head, size))
    file.write_bytes(data)
    return data.rsplit(b" ", 1)[1].decode().strip()


def _text(study: Study, plan: Mapping[str, Any], head: Mapping[str, str], size: Size) -> str:
    parts = _parts(study, plan, head, size)
    told = [f"# {title}\n\n" + "\n\n".join(f"## {name}\n\n{text}" for name, text in of) for title, of in parts]
    block = json.dumps(plan, indent=1, ensure_ascii=False)
    return "\n\n".join([*told, f"# Plan, for programs\n\n```json\n{block}\n```\n"])


def _parts(
    study: Study, plan: Mapping[str, Any], head: Mapping[str, str], size: Size
) -> list[tuple[str, list[tuple[str, str]]]]:
    """(heading, its parts with their texts)"""
    spec, e = study.spec, study.experiment
    models = ", ".join(f"{one.name} ({one.id})" for one in e.models)
    stopping = {name: value for name, value in plan["stopping rule"].items() if value}
    return [
        (
            "Study information",
            [
                ("Title", f"{spec.name}, frozen {plan['frozen']}, grid {plan['grid']}"),
                ("Research question", head.get("question", "(the spec says none)")),
                ("Hypotheses", head.get("hypothesis", "(the spec says none)")),
            ],
        ),
        (
            "Design plan",
            [
                ("Study type", f"Experiment with language models: {models}. All are asked all."),
                ("Blinding", "Readers see answers alone, and neither the model nor the state that was asked for."),
                (
                    "Study design",
                    f"{len(e.states)} states × {len(e.intensities)} intensities × {len(e.templates)} templates × "
                    f"{len(e.questions)} questions × {e.repetitions} repetitions, in full.",
                ),
                ("Randomization", f"The order of asking is a permutation by the seed {e.seed}."),
            ],
        ),
        (
            "Sampling plan",
            [
                ("Existing data", "This plan was written before the run; the report says when the run began."),
                ("Data collection procedures", f"emoray {plan['versions']['emoray']}. {size.text()}."),
                ("Sample size", f"{e.cells_per_model:,} answers of each model; questions are the sample."),
                ("Stopping rule", "; ".join(f"{name}: {value}" for name, value in stopping.items())),
            ],
        ),
        (
            "Variables",
            [
                ("Manipulated variables", "State, intensity, template, question, model."),
                (
                    "Measured variables",
                    f"The cosine of each answer between the state asked for and the one read, by "
                    f"{', '.join(one.name for one in spec.readers)}; label map {study.label_map.name}.",
                ),
                ("Indices", f"Means of {study.headline}, unless a contrast says another."),
            ],
        ),
        (
            "Analysis plan",
            [
                ("Statistical models", _contrasts(study)),
                (
                    "Inference criteria",
                    "p after Holm within a family of contrasts of the same factors, at 0.05; equivalence by two "
                    "one-sided tests against the margin.",
                ),
                ("Data exclusion", f"Neutral readings: {spec.neutral}; answers that decline: {spec.refusals}."),
                ("Missing data", "Failed asks are asked again; what is missing is filled in by an additive fit."),
                ("Exploratory analysis", "Whatever else the report has is told as exploratory."),
            ],
        ),
    ]


def _contrasts(study: Study) -> str:
    told = [f"- {one}, {f'margin ±{one.margin:g}' if one.margin else 'no margin'}" for one in study.contrasts]
    return "\n".join(told) or "No contrasts; means with 95 % intervals over questions."
