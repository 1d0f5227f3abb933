"""`emoray compare`: two runs held against each other, and what differs in what they were."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from emoray.commands.options import absolute, cosines_apart
from emoray.errors import UserError
from emoray.exit_codes import DIFFERS, OK
from emoray.run_folder import manifest, recovery
from emoray.run_folder.columns import OtherLabels
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.manifests_apart import Apart, apart
from emoray.run_folder.run_json import Manifest
from emoray.run_folder.subset import as_asked
from emoray.spec.readers import ReaderEntry, own_map
from emoray.spec.study import Study

if TYPE_CHECKING:
    from emoray.report.compared import Compared, Line, Rule


@dataclass(frozen=True)
class _Run:
    folder: RunFolder
    kept: Manifest
    study: Study
    readers: dict[str, ReaderEntry]

    @property
    def models(self) -> list[str]:
        return [model.name for model in self.study.spec.models]


@dataclass(frozen=True)
class Comparison:
    """Of two runs; a difference is B minus A."""

    a: str
    b: str
    rules: str
    found: tuple[Compared, ...]
    apart: tuple[Apart, ...]
    only_a: tuple[str, ...]  # models
    only_b: tuple[str, ...]

    def farther_than(self, most: float) -> list[str]:
        """A sentence of every model that lies farther apart, or of which nobody can tell."""
        return [_far(one, most) for one in self.found if not abs(one.whole.difference.estimate) <= most]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        told = {name: getattr(self, name) for name in ("a", "b", "rules", "only_a", "only_b")}
        compared = [one.as_json() for one in self.found]
        return {**told, "apart": [asdict(one) for one in self.apart], "compared": compared}

    def text(self) -> str:
        """For a terminal."""
        lines = [f"A: {self.a}", f"B: {self.b}", "", "what differs in what they are:"]
        lines += [f"  {one}" for one in self.apart] or ["  nothing"]
        lines += [f"  model {name}: in A alone" for name in self.only_a]
        lines += [f"  model {name}: in B alone" for name in self.only_b]
        lines += ["", f"mean cosines, {self.rules}; B − A with its 95 % interval"]
        for one in self.found:
            lines += ["", f"{one.model}, read by {one.reader}: {_paired(one)}", *_table(one.lines)]
        return "\n".join(lines)


def compare(a: str, b: str) -> Comparison:
    """Two run folders; UserError where they have no model, no reader or no scored prompt in common."""
    from emoray.report.compared import compared

    one, other = _run(a), _run(b)
    models, readers, rule = _models(one, other), _readers(one, other), _rule(one)
    first, second = (as_asked(run.folder, run.study) for run in (one, other))
    try:
        found = compared(first, second, rule, models, readers)
    except OtherLabels as wrong:
        raise UserError(f"{other.folder.shown}: {wrong}, as {one.folder.shown} has them; compare other runs") from None
    if all(math.isnan(line.whole.difference.estimate) for line in found):
        raise UserError(
            f"{one.folder.shown} and {other.folder.shown} have no scored state and question in common at "
            f"{rule.headline}; compare runs that asked some alike"
        )
    return Comparison(
        one.folder.shown,
        other.folder.shown,
        _said(rule),
        found,
        (*apart(one.kept.as_json(), other.kept.as_json()), *_revisions(found)),
        tuple(name for name in one.models if name not in {mine for mine, _ in models}),
        tuple(name for name in other.models if name not in {theirs for _, theirs in models}),
    )


# ── what is held against what ──────────────────────────────────────────────────────────────────────────────────────


def _run(place: str) -> _Run:
    folder = RunFolder(absolute(place))
    kept = recovery.begun(folder)
    return _Run(folder, kept, manifest.study(kept, folder.shown), manifest.readers(kept))


def _models(a: _Run, b: _Run) -> list[tuple[str, str]]:
    """Those of one name; where no name is in both, the one of A and the one of B."""
    both = [(name, name) for name in a.models if name in b.models]
    if both or (len(a.models) == len(b.models) == 1):
        return both or [(a.models[0], b.models[0])]
    raise UserError(
        f"{a.folder.shown} asks {', '.join(a.models)} and {b.folder.shown} asks {', '.join(b.models)}: none is in "
        "both, so nobody knows which to compare; compare runs of the same models, or of one model each"
    )


def _readers(a: _Run, b: _Run) -> list[str]:
    mine, theirs = ([name for name in run.readers if name in run.folder.readers()] for run in (a, b))
    if both := [name for name in mine if name in theirs]:
        return both
    raise UserError(
        f"{a.folder.shown} was read by {', '.join(mine) or 'nobody'} and {b.folder.shown} by "
        f"{', '.join(theirs) or 'nobody'}; let one reader read both (`emoray score RUN --reader …`)"
    )


def _rule(run: _Run) -> Rule:
    from emoray.report.compared import Rule

    spec = run.study.spec
    own = {name: found for name, reader in run.readers.items() if (found := own_map(reader)) is not None}
    return Rule(run.study.headline, spec.neutral, spec.refusals, run.study.label_map, own)


def _revisions(found: Sequence[Compared]) -> list[Apart]:
    told = {}
    for one in found:
        whats = (f"revision of the model {one.model}", f"revision of the reader {one.reader}")
        for what, a, b in zip(whats, one.revisions_a, one.revisions_b, strict=True):
            told[what] = Apart(what, a or None, b or None)
    return [one for one in told.values() if one.a != one.b]


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _said(rule: Rule) -> str:
    return (
        f"{rule.headline}, both scored as A is (label map {rule.labels.name}, neutral: {rule.neutral}, refusals: "
        f"{rule.refusals})"
    )


def _paired(one: Compared) -> str:
    how = [f"{one.same:,} cells paired one by one"] if one.same else []
    how += [f"{one.by_means:,} states of questions by their means"] if one.by_means else []
    left = f"; of A {one.unpaired_a:,} and of B {one.unpaired_b:,} scored cells stand alone"
    return f"{' and '.join(how) or 'nothing in common'}{left if one.unpaired_a or one.unpaired_b else ''}"


def _far(one: Compared, most: float) -> str:
    by = one.whole.difference.estimate
    told = f"{one.model}, read by {one.reader}"
    if math.isnan(by):
        return f"{told}: how far B lies from A, nobody can tell"
    return f"{told}: B lies {abs(by):.3g} {'above' if by > 0 else 'below'} A, which is more than {most:g}"


_WIDEST = 60


def _table(lines: Sequence[Line]) -> list[str]:
    shown = [replace(line, level="all" if line.of == "model" else _cut(line.level)) for line in lines]
    width = max(len(line.level) for line in shown)
    return [f"  {line.level:<{width}}  {line.a:+.3f}  {line.b:+.3f}  {_interval(line)}" for line in shown]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _interval(line: Line) -> str:
    found = line.difference
    p = "" if math.isnan(line.p) else f"  p {line.p_holm:.3f} after Holm"
    bounds = "[unknown]" if math.isnan(found.low) else f"[{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.estimate:+.3f} {bounds}{p}"


def add(own: argparse.ArgumentParser) -> None:
    """Its flags."""
    own.set_defaults(command=_call)
    own.add_argument("a", metavar="RUN_A")
    own.add_argument("b", metavar="RUN_B")
    own.add_argument(
        "--fail-above",
        type=cosines_apart,
        metavar="X",
        help="exit code 4 where the mean of a model lies farther apart than X, or cannot be told",
    )
    own.add_argument("--json", action="store_true", help="for programs")


def _call(arguments: argparse.Namespace) -> int:
    found = compare(arguments.a, arguments.b)
    print(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if arguments.json else found.text())
    far = [] if arguments.fail_above is None else found.farther_than(arguments.fail_above)
    for sentence in far:
        print(sentence, file=sys.stderr)
    return DIFFERS if far else OK
