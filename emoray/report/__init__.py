"""From a run folder to tables, figures and one page; it knows neither Ray nor models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emoray.analysis.calibration import HumanReads
from emoray.printable import printable
from emoray.report import contrast_words, dose, figures, forest, models_forest, page, phrasing, tables
from emoray.report.about_run import AboutRun
from emoray.report.contrast_words import terminal_lines
from emoray.report.contrasts import Wanted
from emoray.report.looks import looked
from emoray.report.read_run import Rows, Source
from emoray.report.shown import READERS
from emoray.report.summary import ModelSummary, Settings, Summary, Unusable, summarize
from emoray.report.tables import terminal_table
from emoray.study.contrasts import Contrast, by_when, meaning, meant
from emoray.study.goemotions import LabelMap
from emoray.study.ratings import Label
from emoray.study.scoring import NeutralRule, RefusalRule

__all__ = [
    "Rows", "Settings", "Source", "Summary", "Unusable", "as_json", "chosen", "into", "looked", "terminal_lines",
    "terminal_table", "write_report",
]  # fmt: skip

Writer = Callable[[str, bytes], object]  # takes a path relative to the report, and the file's bytes


def write_report(
    source: Source, write: Writer, settings: Settings | None = None, *, lost_usd: Mapping[str, float] | None = None
) -> Summary:
    """Write summary.json, tables/, figures/ and report.html of a run; returns what they show.

    `settings` are the run's own, or `chosen`; `lost_usd` is what was spent at most on answers that nobody has, by
    model. Unusable, with nothing written, where what the settings hold beside the run does not fit it.
    """
    settings = settings or chosen(source.manifest() or {})
    summary = replace(summarize(source, settings), lost_usd=lost_usd or {})
    write("summary.json", _encoded(as_json(summary)))
    for table in tables.tables(summary):
        write(f"tables/{table.name}.csv", tables.as_csv(table).encode())
        write(f"tables/{table.name}.tex", printable(tables.as_latex(table)).encode())
    for place, reader in enumerate(summary.readers[:READERS] if summary.design.states else ()):
        _write_figures(summary, summary.of_reader(reader), f"-{place + 1}" if place else "", write)
    if summary.contrasts:
        _write_pages("contrasts", forest.pages(summary.contrasts), write)
        _write_pages("dose_response", dose.pages(summary.contrasts), write)
    if summary.agreement:
        _write_pages("agreement", figures.agreement(summary), write)
    if summary.lasted:
        _write_pages("timeline", figures.timelines(summary.nights), write)
    write("report.html", page.page(summary).encode())
    return summary


def chosen(
    manifest: Mapping[str, Any],
    *,
    labels: LabelMap | None = None,
    neutral: NeutralRule | None = None,
    refusals: RefusalRule | None = None,
    level: float = 0.95,
    shuffles: int = 1000,
    seed: int = 0,
    own_maps: Mapping[str, LabelMap] | None = None,
    moved: Mapping[str, LabelMap] | None = None,
    human_text: Mapping[str, HumanReads] | None = None,
    human_labels: Mapping[str, Label] | None = None,
    looked: Sequence[int] = (),
    explored: Sequence[Contrast] = (),
) -> Settings:
    """The settings of a report: the run's own, and what is given in place of them.

    Scores are computed anew from the stored probabilities, under the run's own label map and rules or others;
    `own_maps` are the run's of readers with other labels, by name, `moved` those that stand in their place here.
    `human_text` is what readers made of labelled human text, by name; `human_labels` what people read in some answers,
    by key; `looked` how many answers there were at each report before; `explored` contrasts that the run's spec does
    not have.
    """
    planned, later = by_when(manifest)
    now = meant(meaning(manifest))
    about = AboutRun.of(manifest)
    own = Settings(
        about.label_map,
        about.neutral,
        level,
        shuffles,
        seed,
        own_maps or {},
        refusals=about.refusals,
        contrasts=Wanted(planned, (*later, *explored), meant(manifest.get("contrasts_meant") or {}), now),
    )
    wanted = replace(
        own,
        label_map=labels or own.label_map,
        neutral=neutral or own.neutral,
        refusals=refusals or own.refusals,
        own_maps={**own.own_maps, **(moved or {})},
        human_text=human_text or {},
        human_labels=human_labels or {},
        looked=tuple(looked),
    )
    if _rules(wanted) == _rules(own):
        return wanted
    return replace(wanted, beside=own, contrasts=wanted.contrasts.under_other_rules())


def as_json(summary: Summary) -> dict[str, Any]:
    """What summary.json says: plain JSON values, with the headline and every contrast in a sentence."""
    told = {"headline": phrasing.headline(summary), **summary.as_json()}
    for line, sentence in zip(told.get("contrasts", ()), contrast_words.sentences(summary), strict=True):
        line["sentence"] = sentence
    return told


def into(folder: str | Path) -> Writer:
    """A writer into a local folder, which is made."""

    def write(name: str, data: bytes) -> None:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return write


def _write_figures(summary: Summary, models: Sequence[ModelSummary], suffix: str, write: Writer) -> None:
    """`circumplex.png` is the first reader's, `circumplex-2.png` the second's, `circumplex-2-page-2.png` goes on."""
    drawn = {
        "models": models_forest.pages(models),
        "circumplex": figures.circumplex(models, summary.design, summary.settings.map_of(models[0].reader)),
        "states": figures.states(models, summary.design),
        "states_by_question": figures.heat(models, summary.design),
    }
    for name, pages in drawn.items():
        _write_pages(f"{name}{suffix}", pages, write)


def _write_pages(name: str, pages: Iterable[figures.Page], write: Writer) -> None:
    for number, one in enumerate(pages, start=1):
        file = name if number == 1 else f"{name}-page-{number}"
        write(f"figures/{file}.png", figures.png(one.figure))
        write(f"figures/{file}.svg", figures.svg(one.figure))


def _rules(settings: Settings) -> tuple[Any, ...]:
    """What two settings must share to give the same scores."""
    own = {name: label_map.affects for name, label_map in settings.own_maps.items()}
    return settings.neutral, settings.refusals, settings.label_map.affects, own


def _encoded(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
