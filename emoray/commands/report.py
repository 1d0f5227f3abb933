"""`emoray report`: tables, figures and one page from a run folder."""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoray.commands.options import RUN, absolute
from emoray.commands.sample import human_labels
from emoray.commands.terminal import columns
from emoray.errors import UserError
from emoray.exit_codes import OK
from emoray.hints import did_you_mean
from emoray.plurals import count
from emoray.readers.scorecard import human_text
from emoray.run_folder import frozen_plan, manifest, recovery
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.frozen_plan import Checked
from emoray.run_folder.locations import shown_uri
from emoray.run_folder.lost import lost_usd
from emoray.run_folder.subset import AskedSubset, as_asked
from emoray.spec.explored import explored
from emoray.spec.label_maps import chosen_label_map, relocated
from emoray.spec.readers import ReaderEntry, own_maps
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import NeutralRule, RefusalRule

if TYPE_CHECKING:
    from emoray.report import Settings, Summary


def report(
    folder: RunFolder,
    out: str | None = None,
    *,
    label_maps: Sequence[str] = (),
    neutral: NeutralRule | None = None,
    refusals: RefusalRule | None = None,
    ceilings: Sequence[str] = (),
    human: str | None = None,
    contrasts: Sequence[str] = (),
    with_rows: bool = False,
    frozen: str | None = None,
) -> Written:
    """Writes a run's report into `out`, or RUN/report.

    Another label map or rule than the run's scores its stored readings anew; a map is MAP for the 28 labels, or
    READER=MAP for a reader's own. `ceilings` are files of `emoray validate --save`, `human` one of human labels,
    `contrasts` exploratory ones, as `spec.explored` takes them; `frozen` is a plan that the run is held against.
    UserError, with nothing written, where they do not fit.
    """
    from emoray.report import Unusable, chosen, looked, write_report

    plan = frozen_plan.thawed(frozen) if frozen else None
    kept = recovery.begun(folder)
    study = manifest.study(kept, folder.shown)
    readers = manifest.readers(kept)
    labels, placed = _placed(label_maps, readers, study.label_map)
    validated = [human_text(path, list(placed.values()), labels) for path in ceilings]
    target, lost = RunFolder(out) if out else folder, lost_usd(folder, kept)
    source = as_asked(folder, study)
    left_out = source.strangers() if isinstance(source, AskedSubset) else 0
    settings = chosen(
        kept.as_json(),
        labels=labels,
        neutral=neutral or study.spec.neutral,
        refusals=refusals or study.spec.refusals,
        own_maps=own_maps(readers),
        moved=own_maps({name: reader for name, reader in placed.items() if reader != readers[name]}),
        human_text={name: reads for names, reads in validated for name in names},
        human_labels=human_labels(human, labels) if human else None,
        looked=looked(folder.read_bytes("report/summary.json")),
        explored=explored(study, contrasts, list(readers.values())),
    )
    if plan is not None:
        answered = {model.name: source.answers(model.name).counts().answered for model in study.spec.models}
        against = frozen_plan.checked(plan, study, kept.as_json(), answered, settings.contrasts.explored)
        settings = replace(settings, frozen=(*against, *_under_other_rules(settings)))

    def write(relative: str, data: bytes) -> None:
        target.write_bytes(relative if out else f"report/{relative}", data)

    try:
        summary = write_report(source, write, settings, lost_usd=lost)
    except Unusable as wrong:
        raise UserError(f"{human}: {wrong}" if human else str(wrong)) from None
    if with_rows:
        from emoray.notebook.rows_csv import SCRIPT, csv_lines

        write("rows.csv", "".join(csv_lines(source, summary)).encode())
        write("rows.R", SCRIPT.encode())
    place = target.where("" if out else "report/")
    return Written(summary, lost, left_out, f"{place.rstrip('/')}/report.html", settings.frozen)


def _under_other_rules(settings: Settings) -> list[Checked]:
    if settings.beside is None:
        return []
    return [Checked("this report", "exploratory", "its rules or its label map are not the run's")]


@dataclass(frozen=True)
class Written:
    """A report that has been written."""

    summary: Summary
    lost_usd: Mapping[str, float]
    left_out: int  # answers in the folder that the spec does not ask for
    page: str  # where report.html is
    frozen: Sequence[Checked] = ()

    def __str__(self) -> str:
        """The table for a terminal, and below it what belongs to it."""
        from emoray.report import terminal_lines, terminal_table

        lines = [
            f"up to ${usd:,.2f} was spent on answers of {model} that nobody has" for model, usd in self.lost_usd.items()
        ]
        lines += terminal_lines(self.summary)
        lines += [f"frozen plan, {line}" for line in self.frozen]
        if self.left_out:
            lines.append(f"left out: {count(self.left_out, 'answer')} in the folder that the spec does not ask for")
        return "\n".join([terminal_table(self.summary, columns()), "", *lines, f"report: {self.page}"])

    def as_json(self) -> dict[str, Any]:
        """What summary.json says, and where the page is."""
        from emoray.report import as_json

        return {"report": self.page, **as_json(self.summary)}


def _placed(
    label_maps: Sequence[str], readers: Mapping[str, ReaderEntry], labels: LabelMap
) -> tuple[LabelMap, dict[str, ReaderEntry]]:
    """The map of the 28 labels, and the readers with their own labels, where MAP and READER=MAP put them."""
    placed = dict(readers)
    for one in label_maps:
        name, of_reader, path = one.partition("=")
        name = unicodedata.normalize("NFC", name)
        if not of_reader or Path(one).is_file():
            labels = chosen_label_map(one, Path())
        elif name in placed:
            placed[name] = relocated(placed[name], path)
        else:
            hint = did_you_mean(name, placed)
            raise UserError(f"label_map: the run has no reader {name!r} for {path}; it has {', '.join(placed)}{hint}")
    return labels, placed


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("run", metavar="RUN", help=RUN)
    own.add_argument("--out", metavar="DIR", help="in place of RUN/report")
    own.add_argument(
        "--label-map",
        action="append",
        default=[],
        metavar="[READER=]MAP",
        help="score the stored readings by another map of the 28 labels, or of a reader's own; asks no reader",
    )
    own.add_argument("--neutral", choices=["zero", "drop"], help="score the stored readings by another neutral rule")
    own.add_argument(
        "--refusals",
        choices=["zero", "drop", "as_read"],
        help="count an answer that declines as 0, leave it out, or score it as it was read",
    )
    own.add_argument(
        "--ceilings", action="append", default=[], metavar="FILE", help="of `validate --save`; once per reader"
    )
    own.add_argument(
        "--contrast",
        action="append",
        default=[],
        metavar="factor=…,a=…,b=…",
        help="an exploratory contrast, such as factor=template,a=words,b=parameters; kept apart from the spec's own",
    )
    own.add_argument("--frozen", metavar="FILE", help="of `plan --freeze`: what is as frozen, deviates, or came later")
    own.add_argument("--human", metavar="CSV", help="labels by people, to correct the means; see `emoray sample`")

    own.add_argument("--csv", action="store_true", help="also all rows as rows.csv, and an R script that opens them")
    own.add_argument("--open", action="store_true", help="show the page in a browser")
    own.add_argument("--json", action="store_true", help="summary.json, for programs")


def _call(arguments: argparse.Namespace) -> int:
    if arguments.open:
        _check_local(arguments.out or arguments.run)
    written = report(
        RunFolder(absolute(arguments.run)),
        arguments.out and absolute(arguments.out),
        label_maps=arguments.label_map,
        neutral=arguments.neutral,
        refusals=arguments.refusals,
        ceilings=arguments.ceilings,
        human=arguments.human,
        contrasts=arguments.contrast,
        with_rows=arguments.csv,
        frozen=arguments.frozen,
    )
    print(json.dumps(written.as_json(), indent=2, allow_nan=False) if arguments.json else written)
    if arguments.open and not webbrowser.open(Path(written.page).as_uri()):
        print("emoray: no browser was found here; open that page in one of yours", file=sys.stderr)
    return OK


def _check_local(place: str) -> None:
    """UserError for a place that no browser can open."""
    if "://" in place:
        raise UserError(
            f"--open: a browser opens no page in {shown_uri(place)}; add --out with a folder on this machine"
        )
