"""`emoray report`: tables, figures and one page from a run folder."""

from __future__ import annotations

import argparse
import json
import os
import time
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from emoray.commands.options import absolute
from emoray.commands.sample import human_labels
from emoray.errors import UserError
from emoray.exit_codes import OK
from emoray.hints import did_you_mean
from emoray.readers.scorecard import human_text
from emoray.run_folder import manifest, recovery
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.lease import at_work
from emoray.run_folder.run_json import Manifest
from emoray.run_folder.subset import AskedSubset, as_asked
from emoray.run_folder.tabs import NOBODY, lost_by_model
from emoray.spec.explored import explored
from emoray.spec.label_maps import chosen_label_map, relocated
from emoray.spec.readers import ReaderEntry, own_map
from emoray.study.goemotions import LabelMap
from emoray.study.scoring import NeutralRule, RefusalRule


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
) -> str:
    """Writes a run's report (into `out`, or RUN/report) and returns the table for the terminal.

    Another label map or rule than the run's scores its stored readings anew; a map is MAP for the 28 labels, or
    READER=MAP for a reader's own. `ceilings` are files of `emoray validate --save`, `human` one of human labels,
    `contrasts` exploratory ones, as `spec.explored` takes them.
    UserError, with nothing written, where they do not fit.
    """
    from emoray.report import Unusable, chosen, terminal_lines, terminal_table, write_report

    kept = recovery.begun(folder)
    study = manifest.study(kept, folder.shown)
    readers = manifest.readers(kept)
    labels, placed = _placed(label_maps, readers, study.label_map)
    validated = [human_text(path, list(placed.values()), labels) for path in ceilings]
    target, lost = RunFolder(out) if out else folder, _lost(folder, kept)
    source, left_out = as_asked(folder, study), ""
    if isinstance(source, AskedSubset):
        left_out = f"\nleft out: {source.strangers():,} answers in the folder that the spec does not ask for"
    settings = chosen(
        kept.as_json(),
        labels=labels,
        neutral=neutral or study.spec.neutral,
        refusals=refusals or study.spec.refusals,
        own_maps=_own_maps(readers),
        moved=_own_maps({name: reader for name, reader in placed.items() if reader != readers[name]}),
        human_text={name: reads for names, reads in validated for name in names},
        human_labels=human_labels(human, labels) if human else None,
        looked=_looked(folder),
        explored=explored(study, contrasts, list(readers.values())),
    )
    try:
        summary = write_report(
            source,
            lambda relative, data: target.write_bytes(relative if out else f"report/{relative}", data),
            settings,
            lost_usd=lost,
        )
    except Unusable as wrong:
        raise UserError(f"{human}: {wrong}" if human else str(wrong)) from None
    told = "".join(
        f"\nup to ${usd:,.2f} was spent on answers of {model} that nobody has" for model, usd in lost.items()
    )
    told += "".join(f"\n{line}" for line in terminal_lines(summary))
    return f"{terminal_table(summary)}\n{told}{left_out}\nreport: {target.where('' if out else 'report/')}report.html"


def _lost(folder: RunFolder, kept: Manifest) -> dict[str, float]:
    """US dollars at most for answers that nobody has, by model; of an attempt that another process works on, nothing is
    lost yet.
    """
    last = kept.last_attempt
    who = at_work(folder, last, time.time())
    another = who is not None and who.pid != os.getpid()
    found = lost_by_model(folder, but=(last.id or NOBODY) if another and last else None)
    return {model: usd for model, usd in found.items() if usd > 0}


def _looked(folder: RunFolder) -> list[int]:
    """How many answers there were at each report before, as the last one says; none where there is no such."""
    try:
        kept = json.loads(folder.read_bytes("report/summary.json") or b"{}")
        if kept and "looks" not in kept:  # of an earlier emoray, which counted none: it is one itself
            return [sum({one["model"]: int(one["counts"]["answers"]) for one in kept["models"]}.values())]
        return [int(count) for count in (kept.get("looks") or {}).get("answers", [])]
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):  # torn, or edited by hand
        return []


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


def _own_maps(readers: Mapping[str, ReaderEntry]) -> dict[str, LabelMap]:
    return {name: found for name, reader in readers.items() if (found := own_map(reader)) is not None}


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("run", metavar="RUN")
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
    own.add_argument("--human", metavar="CSV", help="labels by people, to correct the means; see `emoray sample`")


def _call(arguments: argparse.Namespace) -> int:
    table = report(
        RunFolder(absolute(arguments.run)),
        arguments.out and absolute(arguments.out),
        label_maps=arguments.label_map,
        neutral=arguments.neutral,
        refusals=arguments.refusals,
        ceilings=arguments.ceilings,
        human=arguments.human,
        contrasts=arguments.contrast,
    )
    print(table)
    return OK
