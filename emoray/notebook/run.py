"""A run in a notebook: `run = emoray.load("runs/quickstart")`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from emoray.errors import UserError
from emoray.hints import did_you_mean
from emoray.notebook import dictionary, frames
from emoray.printable import printable
from emoray.report import as_json, chosen, looked
from emoray.report.summary import ModelSummary, Settings, Summary, summarize
from emoray.report.tables import Table, as_latex, tables
from emoray.run_folder import manifest, recovery
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.locations import absolute
from emoray.run_folder.lost import lost_usd
from emoray.run_folder.run_json import Manifest
from emoray.run_folder.subset import AskedSubset, as_asked
from emoray.spec.base import SpecError
from emoray.spec.explored import explored
from emoray.spec.readers import ReaderEntry, own_maps
from emoray.spec.study import Study
from emoray.study.scoring import NeutralRule, RefusalRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def load(place: str | Path, *, neutral: NeutralRule | None = None, refusals: RefusalRule | None = None) -> Run:
    """A run folder (a path or a URI such as s3://bucket/run) for a notebook; reads run.json and nothing else yet.

    `neutral` ("zero" or "drop") and `refusals` ("zero", "drop" or "as_read") score the stored readings by other rules
    than the run's own, as the flags of `emoray report` do. UserError where there is no run folder.
    """
    folder = RunFolder(absolute(str(place)))
    kept = recovery.begun(folder)
    return Run(folder, kept, manifest.study(kept, folder.shown), neutral, refusals)


class Run:
    """What a run folder holds, as the report shows it. Folders are read when a number is first asked for, and once:
    `load` it again to see what a run has added since.
    """

    def __init__(
        self,
        folder: RunFolder,
        kept: Manifest,
        study: Study,
        neutral: NeutralRule | None,
        refusals: RefusalRule | None,
    ) -> None:
        self.folder, self._kept, self._study = folder, kept, study
        self._neutral, self._refusals = neutral or study.spec.neutral, refusals or study.spec.refusals

    def __repr__(self) -> str:
        return f"emoray.load({self.folder.shown!r})"

    @property
    def models(self) -> list[str]:
        """The names of the models that have answers."""
        return list(self.source.models())

    @property
    def readers(self) -> list[str]:
        """The names of the readers whose readings have a place, in the order of the report."""
        return list(self.found.readers)

    def answers(self) -> pd.DataFrame:
        """One row per ask, answered or failed: what was asked and what came back (`docs/columns.md`).

        A failure has no `answer`, and its kind for an `outcome`; `refused` and `role_break` are flagged by the detector
        of this emoray.
        """
        return frames.answers(self.source)

    def rows(self, *, probabilities: bool = False) -> pd.DataFrame:
        """One row per answer and reader, scored as the report scores it (`docs/columns.md`).

        Refusals (`refused`) and canaries (`canary`) are there, flagged. `counted` says which rows the mean cosine of
        their model by their reader is made of, and `weight` how much of it each makes: they are 1 in sum, so the sum of
        weight * cosine is that mean, and it is a plain mean where each prompt was answered equally often. With
        `probabilities`, there is one more column for each label of any reader, `p_joy` and so on, from 0 to 1.
        """
        return frames.rows(self.source, self.found, probabilities=probabilities)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What the report's summary.json says of the folder now: plain values, None where something is not known."""
        return as_json(self.found)

    @staticmethod
    def columns() -> pd.DataFrame:
        """The data dictionary: type, unit, range and meaning of every column of `rows` and `answers`."""
        names = list(dictionary.MEANINGS)
        return pd.DataFrame([dictionary.of(name) for name in names], names, ["type", "unit", "range", "meaning"])

    def table(self, name: str) -> pd.DataFrame:
        """A table of the report (`models`, `states`, `contrasts`, …), exact; UserError for another name."""
        return frames.framed(_table(self.found, name))

    def to_latex(self, name: str) -> str:
        """The same table for a paper, by booktabs; its caption says what the numbers depend on."""
        return printable(as_latex(_table(self.found, name)))

    def contrast(self, *wanted: str | Mapping[str, Any], **entry: Any) -> pd.DataFrame:
        """What is told of exploratory contrasts: a row for each and whom it is of, with its sentence and verdict.

        A contrast is an entry as under `contrasts:` of a spec: `run.contrast(factor="state", a="pleasant",
        b="unpleasant")`, or several mappings or texts. p after Holm (`p_holm`) holds for the contrasts of one call that
        are of the same factors, `family` of them: who looks at several should give them in one call. Without any, those
        of the run's spec. SpecError says what is wrong with one.
        """
        given = [*wanted, *([entry] if entry else [])]
        if not given:
            return self.table("contrasts")
        found = self._explored([one if isinstance(one, str) else json.dumps(dict(one)) for one in given])
        return frames.framed(_table(found, "contrasts"))

    def circumplex(self, model: str, ax: Axes | None = None, *, reader: str | None = None) -> Axes:
        """Where each asked state lies on Russell's circle and where the answers of one model were read.

        By the first reader, or another by its name. Drawn into `ax`, or a new figure of its own.
        """
        from emoray.notebook import drawn  # pyplot chooses where it draws when it is imported

        return drawn.circumplex(self._of(model, reader), self.found, ax)

    def heat(self, model: str, ax: Axes | None = None, *, reader: str | None = None) -> Axes:
        """One model's mean cosine (-1 … 1) by state and question."""
        from emoray.notebook import drawn

        return drawn.heat(self._of(model, reader), self.found, ax)

    def forest(self, ax: Axes | None = None, *, reader: str | None = None) -> Axes:
        """All models by one reader: mean cosine and interval, what shuffled states score, ceiling, the paper's band."""
        from emoray.notebook import drawn

        return drawn.forest(self.found.of_reader(self._reader(reader)), ax)

    # ── what it is made of ──────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def source(self) -> RunFolder | AskedSubset:
        """What the report reads: the folder, as its spec asks."""
        return as_asked(self.folder, self._study)

    @cached_property
    def found(self) -> Summary:
        """All that the report shows, as one frozen value."""
        lost = lost_usd(self.folder, self._kept)
        return replace(summarize(self.source, self._settings), lost_usd=lost)

    @cached_property
    def _settings(self) -> Settings:
        return chosen(
            self._kept.as_json(),
            labels=self._study.label_map,
            neutral=self._neutral,
            refusals=self._refusals,
            own_maps=own_maps(self._entries),
            looked=looked(self.folder.read_bytes("report/summary.json")),
        )

    @property
    def _entries(self) -> dict[str, ReaderEntry]:
        return manifest.readers(self._kept)

    def _explored(self, contrasts: list[str]) -> Summary:
        """A summary with these contrasts, and no others."""
        try:
            only = explored(self._study, contrasts, list(self._entries.values()))
        except SpecError as wrong:
            raise SpecError(str(wrong).replace("--contrast ", "contrast ")) from None
        wanted = replace(self._settings.contrasts, planned=(), explored=only)
        return summarize(self.source, replace(self._settings, contrasts=wanted, shuffles=1, beside=None))

    def _of(self, model: str, reader: str | None) -> ModelSummary:
        """UserError for a model or reader that has no numbers here."""
        mine = {one.model: one for one in self.found.of_reader(self._reader(reader))}
        if model not in mine:
            there = ", ".join(mine) or "none"
            raise UserError(f"{self.folder.shown}: has no model {model!r}; it has {there}{did_you_mean(model, mine)}")
        return mine[model]

    def _reader(self, name: str | None) -> str:
        there = self.found.readers
        if name in there or (name is None and there):
            return name or there[0]
        if name is None:
            raise UserError(f"{self.folder.shown}: nothing was read yet, so there is nothing to draw")
        raise UserError(
            f"{self.folder.shown}: has no reader {name!r}; it has {', '.join(there)}{did_you_mean(name, there)}"
        )


def _table(found: Summary, name: str) -> Table:
    known = {one.name: one for one in tables(found)}
    if name not in known:
        raise UserError(f"this run has no table {name!r}; it has {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]
