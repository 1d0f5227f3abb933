"""What people read: a slice of a run's answers for them to label, blind, and the labels that come back.

The rater sees an answer and the question it answers; the model and the state that was asked for stay hidden. The slice
is drawn at random within each model and state, so that a correction by it holds for all answers.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import heapq
import io
import json
import math
import random
import re
import shlex
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from emoray.commands.options import RUN, absolute, at_least_one, check_writable, whole_number
from emoray.errors import UserError
from emoray.exit_codes import OK
from emoray.hints import did_you_mean
from emoray.plurals import count
from emoray.run_folder import columns, manifest, recovery
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.locations import without_secrets
from emoray.run_folder.subset import AskedSubset, Rows, as_asked
from emoray.study.circumplex import Affect
from emoray.study.conditions import Condition
from emoray.study.goemotions import LabelMap, plain_label
from emoray.study.ratings import Label, Rating
from emoray.study.scoring import RefusalRule, Rules

COLUMNS = ("key", "question", "answer", "label", "valence", "arousal")
_KNOWN = (*COLUMNS, "rater")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins so
_WHAT_TO_GIVE = "give key and label, or key, valence and arousal"


@dataclass(frozen=True, order=True)
class Drawn:
    """An answer in the slice; the lots decide which are drawn and how they are ordered."""

    lot: str
    key: str
    question: str
    answer: str


def slice_of(
    folder: RunFolder | AskedSubset,
    cells: int,
    seed: int,
    condition: Condition | None = None,
    refusals: RefusalRule = "zero",
) -> list[Drawn]:
    """So many answers, drawn alike from every model and state, in an order that tells neither.

    Of one condition where it is given, since a mean is corrected by answers that it is a mean of; under `drop` no
    answer that refuses. The same seed draws the same slice of the same answers. UserError where there is nothing to
    draw.
    """
    strata: dict[tuple[str, float], list[Drawn]] = {}
    for model in folder.models():
        wanted = partial(_wanted, condition=condition, refusals=refusals)
        for state, drawn in _lots(folder.answers(model), wanted, cells, seed).items():
            strata[model, state] = drawn
    turns = zip_longest(*_shuffled(strata, seed))
    found = [drawn for turn in turns for drawn in turn if drawn is not None][:cells]
    if not found:
        raise UserError(f"{folder.shown}: holds no answers yet, so there is nothing to label")
    return sorted(found)


def as_csv(drawn: Iterable[Drawn]) -> str:
    """The slice as a table to fill in: a label, or valence and arousal."""
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow(COLUMNS)
    lines.writerows((one.key, _inert(one.question), _inert(one.answer), "", "", "") for one in drawn)
    return out.getvalue()


def human_labels(path: str | Path, label_map: LabelMap) -> dict[str, Label]:
    """A labelled slice by key: CSV with the columns key and label, or key, valence and arousal (-1 … 1).

    None stands for a label without a direction; a line that nobody filled in is left out. Several lines with one key
    are several raters, by name where there is a column `rater`. UserError where a line cannot be used.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, skipinitialspace=True)
            columns, lines = list(table.fieldnames or ()), list(table)
    except UnicodeDecodeError:
        raise UserError(f"{path}: cannot be read as CSV: it is not UTF-8 text; save it as CSV in UTF-8") from None
    except (OSError, ValueError, csv.Error) as wrong:
        raise UserError(f"{path}: cannot be read as CSV: {getattr(wrong, 'strerror', None) or wrong}") from None
    _check_columns(path, columns)
    places = {place.label: place.affect for place in label_map.places}
    found: dict[str, tuple[Rating, ...]] = {}
    for number, line in enumerate(lines, start=2):
        where, key, rater = f"{path}: line {number}", *((line.get(name) or "").strip() for name in ("key", "rater"))
        if not key:
            raise UserError(f"{where} has no key")
        if not _filled(line):
            continue
        if rater and any(one.rater == rater for one in found.get(key, ())):
            raise UserError(f"{where} has a key that {rater!r} labelled before")
        found[key] = (*found.get(key, ()), Rating(rater, _place(where, line, places)))
    if not found:
        raise UserError(f"{path}: holds no labels; fill in label, or valence and arousal")
    return {key: _label(said) for key, said in found.items()}


def _label(said: tuple[Rating, ...]) -> Label:
    return said[0].place if len(said) == 1 and not said[0].rater else said


def _check_columns(path: str | Path, there: Sequence[str]) -> None:
    """UserError that names the columns which a table has, and those which it lacks."""
    missing = [] if "key" in there else ["key"]
    if "label" not in there and not {"valence", "arousal"} <= set(there):
        missing.append("label (or valence and arousal)")
    if not missing:
        return
    names = ", ".join(there) or "none"
    wanted = [name for name in ("key", "label", "valence", "arousal") if name not in there]
    typos = [did_you_mean(name, wanted) for name in there if name not in _KNOWN]
    hint = f"{_WHAT_TO_GIVE}{next(filter(None, typos), '')}"
    if len(there) == 1 and re.search(r"[;\t|]", names):
        hint = "separate columns by commas"
    shown = textwrap.shorten(names, 200, placeholder=" …")
    raise UserError(f"{path}: its columns are {shown}, and it lacks {' and '.join(missing)}; {hint}")


def _wanted(table: pa.Table, condition: Condition | None, refusals: RefusalRule) -> pa.Table:
    """The answers that a slice is drawn from: no canaries, no failures."""
    measured = pc.invert(pc.fill_null(table["canary"], False))
    answers = table.filter(pc.and_(measured, pc.equal(table["outcome"], columns.ANSWERED)))
    if condition is not None:
        of_template = pc.equal(answers["template"], condition.template)
        answers = answers.filter(pc.and_(of_template, pc.equal(answers["intensity"], condition.intensity)))
    if refusals != "drop":
        return answers
    return answers.filter(pa.array(~columns.flags(columns.flagged_anew(answers)["refused"])))


def _lots(said: Rows, wanted: Callable[[pa.Table], pa.Table], cells: int, seed: int) -> dict[float, list[Drawn]]:
    """Per state the answers with the lowest lots: as many as could be wanted of one state."""
    found: dict[float, list[Drawn]] = {}
    flags = ["refused", "role_break", "flagged_by"]
    columns = ["key", "template", "intensity", "state_deg", "question", "answer", "outcome", "canary", *flags]
    for table in said.tables(columns):
        answers = wanted(table)
        for state in pc.unique(answers["state_deg"]).to_pylist():
            mine = answers.filter(pc.equal(answers["state_deg"], pa.scalar(state)))
            found[state] = heapq.nsmallest(cells, [*found.get(state, []), *_lowest(mine, cells, seed)])
    return found


def _lowest(answers: pa.Table, cells: int, seed: int) -> list[Drawn]:
    lots = [hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).hexdigest() for key in answers["key"].to_pylist()]
    first = heapq.nsmallest(cells, range(len(lots)), key=lots.__getitem__)
    few = answers.select(["key", "question", "answer"]).take(pa.array(first, pa.int64())).to_pylist()
    return [Drawn(lots[place], **row) for place, row in zip(first, few, strict=True)]


def _shuffled(strata: Mapping[tuple[str, float], list[Drawn]], seed: int) -> Sequence[list[Drawn]]:
    """The strata in an order of chance: where not all get one more, none is preferred."""
    return random.Random(seed).sample([strata[name] for name in sorted(strata)], len(strata))


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _filled(line: Mapping[str, str | None]) -> bool:
    return any((line.get(name) or "").strip() for name in ("label", "valence", "arousal"))


def _place(where: str, line: Mapping[str, str | None], places: Mapping[str, Affect | None]) -> Affect | None:
    label, numbers = line.get("label") or "", [(line.get(name) or "").strip() for name in ("valence", "arousal")]
    if label.strip() and any(numbers):
        raise UserError(f"{where} has both a label and a valence or arousal; keep one of them")
    if label.strip():
        if plain_label(label) not in places:
            hint = did_you_mean(plain_label(label), places)
            raise UserError(f"{where} has the label {label.strip()!r}, which the label map does not place{hint}")
        return places[plain_label(label)]
    try:
        affect = Affect(*(float(number or "nan") for number in numbers))
    except ValueError:
        affect = Affect(math.nan, math.nan)
    if not (abs(affect.valence) <= 1 and abs(affect.arousal) <= 1):
        raise UserError(f"{where} needs a label, or valence and arousal between -1 and 1")
    return affect


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("run", metavar="RUN", help=RUN)
    own.add_argument("--out", required=True, metavar="CSV", help="the file to fill in")
    own.add_argument("--cells", type=at_least_one, default=200, metavar="N", help="how many answers (200)")
    own.add_argument("--seed", type=whole_number, default=0, metavar="N", help="decides which are drawn (0)")
    own.add_argument("--json", action="store_true", help="for programs")


def _call(arguments: argparse.Namespace) -> int:
    from emoray.report.labels import plan_of_labels  # pandas takes a second to import

    out, folder = Path(arguments.out), RunFolder(absolute(arguments.run))
    study = manifest.study(recovery.begun(folder), folder.shown)
    if out.exists():
        raise UserError(f"{out}: is there already, and may hold labels; choose another file")
    check_writable(out)
    drawn = slice_of(as_asked(folder, study), arguments.cells, arguments.seed, study.headline, study.spec.refusals)
    out.write_text(as_csv(drawn), encoding="utf-8", newline="")
    rules = Rules(study.spec.neutral, study.spec.refusals)
    if arguments.json:
        print(json.dumps({"file": str(out), "answers": len(drawn)}, indent=2))
        return OK
    print(plan_of_labels(as_asked(folder, study), study.label_map, rules, study.headline), end="")
    print(
        f"{out}: {count(len(drawn), 'answer')} to label, each with a label or with valence and arousal (-1 to 1); "
        f"then\n"
        f"emoray report {shlex.quote(without_secrets(arguments.run))} --human {shlex.quote(str(out))}"
    )
    return OK
