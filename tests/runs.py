"""Run folders to test with, written as actors write them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from emoray.run_folder import columns, manifest
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.journal import Journal
from emoray.spec.load import parse
from emoray.spec.study import Study
from emoray.study.goemotions import LABELS, LabelMap
from emoray.study.outcomes import Answer, Failure, FailureKind, Outcome, Reply
from emoray.study.prompts import Prompt, prompts
from emoray.study.scoring import Reading

SPEC = """
name: t
models: [{name: a, host: scripted}, {name: b b, host: scripted}]
states: 3
questions: [freedom, art]
repetitions: 2
readers: [{kind: scripted, name: r}]
"""
BEGAN = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)
ANSWER = Answer("The sea.", "stop", 10, 5, 0.01)
FAILURE = Failure(FailureKind.OVERLOADED, "503", cost_usd=0.002)


def study(text: str = SPEC) -> Study:
    return parse(text)


def begun(path: Path, text: str = SPEC, **attempt: Any) -> RunFolder:
    """A folder whose only attempt has just begun."""
    folder = RunFolder(str(path))
    folder.create()
    fresh, began = manifest.fresh(study(text)).as_json(), manifest.attempt(["emoray", "run", "spec.yaml"]).as_json()
    folder.write_manifest(fresh | {"attempts": [began | {"began": BEGAN.isoformat(), "host": "h"} | attempt]})
    return folder


def extended(folder: RunFolder) -> RunFolder:
    """The same folder, shared with answers of another spec."""
    folder.write_manifest((folder.manifest() or {}) | {"extended": True})
    return folder


def asked(text: str = SPEC, model: str = "a") -> list[Prompt]:
    return list(prompts(study(text).experiment.grid(model)))


def say(folder: RunFolder, some: Sequence[Prompt], outcome: Outcome = ANSWER) -> None:
    """Everyone says the same."""
    with Journal(folder.answers(some[0].cell.model.name), "actor", schema=columns.ANSWERS) as journal:
        journal.append(said(some, outcome)).result(60)


def said(some: Sequence[Prompt], outcome: Outcome = ANSWER) -> pa.Table:
    replies = [Reply(prompt.key, outcome, BEGAN, 0.1) for prompt in some]
    return columns.with_answers(columns.asked(some), replies, host="scripted", revision=None, engine=None)


def feel(
    folder: RunFolder,
    some: Sequence[Prompt],
    label: str = "joy",
    cost_usd: float | None = None,
    *,
    reader: str = "r",
    error: str | None = None,
    own: LabelMap | None = None,
) -> None:
    """Everyone said and felt the same, or could not be read; `cost_usd` is what each reading cost.

    `own` is the map of a reader with other labels.
    """
    labels = own.labels if own else LABELS
    sure = np.eye(len(labels), dtype=np.float32)[labels.index(label)]
    reading = Reading(sure, cost_usd=cost_usd, error=error, labels=own.labels if own else None)
    felt = columns.with_readings(said(some), [reading] * len(some), reader=reader, revision=None)
    with Journal(folder.rows(reader, some[0].cell.model.name), "actor", schema=columns.SCORED) as journal:
        journal.append(columns.scored(felt, own or study().label_map, "zero")).result(60)
