"""A frozen plan: what a spec will ask, read and hold against what, in one file that was written before the run.

The file is text under the headings of an OSF preregistration, with the plan as JSON in it; its last line is the SHA-256
of all before it. That finds every change; who wants to show *when* it was written deposits the file, or its digest,
with somebody else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from emoray.errors import UserError
from emoray.run_folder.manifest import versions
from emoray.run_folder.manifests_apart import apart_in
from emoray.spec.base import digest
from emoray.spec.readers import own_map, reads_as
from emoray.spec.study import Study
from emoray.study.contrasts import Contrast, by_when, of_spec
from emoray.study.goemotions import LabelMap

FORMAT = 1
_SEAL = re.compile(rb"\nsha256: (?P<sum>[0-9a-f]{64})\n?\Z")
_PLAN = re.compile(r"\n```json\n(?P<json>.*?)\n```\n", re.DOTALL)
_GRID = ("models", "states", "intensities", "templates", "questions", "repetitions", "canaries")
_CHECKED = (*_GRID, "readers", "label map", "rules", "headline", "stopping rule", "versions")
_MOST = 3  # deviations of one part that are shown
Verdict = Literal["as frozen", "deviates", "exploratory"]


@dataclass(frozen=True)
class Checked:
    """One part of a run, held against its frozen plan."""

    what: str
    verdict: Verdict
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.verdict}{f' ({self.detail})' if self.detail else ''}"


def frozen(study: Study) -> dict[str, Any]:
    """The plan of a study, as plain JSON values: everything by its content, wherever its text came from."""
    plan = _parts(study)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    grid = digest({name: plan[name] for name in _GRID})
    return {"emoray_plan": FORMAT, "name": study.spec.name, "frozen": when, "grid": grid, **plan}


def sealed(text: str) -> bytes:
    """A file's bytes, with the digest of them as its last line."""
    data = text.rstrip("\n").encode()
    return data + b"\nsha256: " + hashlib.sha256(data).hexdigest().encode() + b"\n"


def thawed(path: str | Path) -> dict[str, Any]:
    """The plan in a file; UserError where there is none, or where anything in the file was changed."""
    try:
        data = Path(path).read_bytes()
    except OSError as wrong:
        raise UserError(f"{path}: cannot be read ({wrong.strerror}); give a file of `emoray plan --freeze`") from None
    seal = _SEAL.search(data)
    if seal is None:
        raise UserError(f"{path}: is no frozen plan (it does not end in its sha256); give a file of `plan --freeze`")
    found = hashlib.sha256(data[: seal.start()]).hexdigest()
    if found != seal["sum"].decode():
        raise UserError(
            f"{path}: was changed after it was frozen (its text has the sha256 {found[:12]}…, its last line says "
            f"{seal['sum'].decode()[:12]}…); put back the file as it was frozen"
        )
    return _plan(data.decode(), path)


def _plan(text: str, path: str | Path) -> dict[str, Any]:
    block = _PLAN.search(text)
    plan = json.loads(block["json"]) if block else {}
    if plan.get("emoray_plan") != FORMAT:
        raise UserError(f"{path}: holds no plan of format {FORMAT}; use the emoray that wrote it")
    return dict(plan)


def checked(
    plan: Mapping[str, Any],
    study: Study,
    kept: Mapping[str, Any],
    answered: Mapping[str, int],
    looked_at: Sequence[Contrast] = (),
) -> tuple[Checked, ...]:
    """A run by its manifest, held against a plan: what is as it was frozen, what deviates, what came beside it.

    `answered` says how many cells of each model have an answer, `looked_at` which contrasts the report adds.
    """
    last: Mapping[str, Any] = next(iter(kept.get("attempts", [])[-1:]), {})
    now = _parts(study) | {"versions": last.get("versions") or {}}
    found = [_part(name, plan.get(name), now[name]) for name in _CHECKED]
    return (*found, *_when(plan, kept), *_short(study, answered), *_contrasts(plan, kept, looked_at), *_beside(kept))


# ── what is frozen ─────────────────────────────────────────────────────────────────────────────────────────────────


def _parts(study: Study) -> dict[str, Any]:
    spec, e = study.spec, study.experiment
    parts = {
        "models": [asdict(model) | {"identity": dict(model.identity)} for model in e.models],
        "states": [[round(one.affect.valence, 6) + 0.0, round(one.affect.arousal, 6) + 0.0] for one in e.states],
        "intensities": list(e.intensities),
        "templates": [
            {"name": one.name, "text": digest([one.system, one.user]), "control": one.control} for one in e.templates
        ],
        "questions": [{"id": one.id, "text": digest(one.text), "tags": list(one.tags)} for one in e.questions],
        "repetitions": e.repetitions,
        "canaries": e.canaries and asdict(e.canaries),
        "readers": [
            {
                "name": one.name,
                "kind": one.kind,
                "reads": digest(_plain(reads_as(one))),
                "labels": _places(own_map(one)),
            }
            for one in spec.readers
        ],
        "label map": {"name": study.label_map.name, "places": _places(study.label_map)},
        "rules": {"neutral": spec.neutral, "refusals": spec.refusals},
        "headline": asdict(study.headline),
        "contrasts": [one.model_dump(mode="json") for one in spec.contrasts],
        "stopping rule": {
            "cells per model": e.cells_per_model,
            "budget_usd": spec.budget_usd,
            "budgets of accounts": {name: one.budget_usd for name, one in spec.accounts.items() if one.budget_usd},
            "deadlines": {one.name: str(one.deadline) for one in spec.models if getattr(one, "deadline", None)},
        },
        "versions": versions(),
    }
    return dict(_plain(parts))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=_dumped, sort_keys=True))


def _dumped(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)  # a section of a spec
    return dump(mode="json") if dump else str(value)


def _places(labels: LabelMap | None) -> str | None:
    if labels is None:
        return None
    return digest(sorted((label, affect and [affect.valence, affect.arousal]) for label, affect in labels.affects))


# ── what became of it ──────────────────────────────────────────────────────────────────────────────────────────────


def _part(what: str, before: Any, now: Any) -> Checked:
    differences = [str(one) for one in apart_in(what, before, now)]
    if not differences:
        return Checked(what, "as frozen")
    more = len(differences) - _MOST
    return Checked(what, "deviates", "; ".join(differences[:_MOST]) + (f"; and {more} more" if more > 0 else ""))


def _when(plan: Mapping[str, Any], kept: Mapping[str, Any]) -> Iterator[Checked]:
    began = next((str(one["began"]) for one in kept.get("attempts") or ()), None)
    if began is None:
        return
    late = datetime.fromisoformat(began) < datetime.fromisoformat(plan["frozen"])
    detail = f"the run began at {began}, and the plan was frozen at {plan['frozen']}"
    yield Checked("frozen before the run", "deviates" if late else "as frozen", detail)


def _short(study: Study, answered: Mapping[str, int]) -> Iterator[Checked]:
    """Cells that were to be asked and have no answer."""
    each = study.experiment.cells_per_model
    left = [f"{each - n:,} of {each:,} cells of {name} have no answer" for name, n in answered.items() if n < each]
    yield Checked("cells", "deviates" if left else "as frozen", "; ".join(left))


def _contrasts(plan: Mapping[str, Any], kept: Mapping[str, Any], looked_at: Sequence[Contrast]) -> Iterator[Checked]:
    frozen_ones = of_spec(plan)
    told = list(dict.fromkeys([*(one for some in by_when(kept) for one in some), *looked_at]))
    for one in frozen_ones:
        missing = one not in told
        yield Checked(_called(one), "deviates" if missing else "as frozen", "it is not told" if missing else "")
    for one in told:
        if one not in frozen_ones:
            yield Checked(_called(one), "exploratory", "the plan does not have it")


def _called(contrast: Contrast) -> str:
    return f"contrast {contrast}, {f'margin ±{contrast.margin:g}' if contrast.margin else 'no margin'}"


def _beside(kept: Mapping[str, Any]) -> Iterator[Checked]:
    for one in kept.get("more_readers") or ():
        yield Checked(f"reader {one['name']}", "exploratory", "it read the run beside the plan's")
