"""`emoray run --until`: waves of whole blocks of repetitions, until every model's mean is known closely enough.

A wave is an ordinary attempt at the first so many cells. The rule looks at widths alone, at the ends of waves.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emoray.analysis.planning import needed_repetitions
from emoray.commands.described import readable
from emoray.exit_codes import OK
from emoray.plurals import count
from emoray.run_folder.census import KeySet, owed
from emoray.run_folder.folder import RunFolder
from emoray.run_folder.run_json import UntilRecord
from emoray.run_folder.subset import as_asked
from emoray.spec.base import SpecError
from emoray.spec.study import Study
from emoray.study.experiment import BLOCK_REPETITIONS, Experiment
from emoray.study.prompts import prompts

if TYPE_CHECKING:  # pandas and matplotlib take a second to import, which no run without --until needs
    from emoray.report.summary import ModelSummary


def check_until(study: Study, limit: int | None) -> None:
    """SpecError where no interval would ever come, or two flags would both say where to end."""
    if limit is not None:
        raise SpecError("--until and --limit both say how far to ask; give one of them")
    if len(study.experiment.questions) < 2:
        raise SpecError("--until needs the interval of a mean, and one question has none; ask two or more questions")


def run_until(study: Study, uri: str, half_width: float, wave: Callable[..., int]) -> int:
    """Asks wave after wave; returns the exit code of the last. `wave` takes the `limit` of cells and `until`.

    A folder that was left in a wave goes on in it; one that holds whole waves is looked at before more is asked.
    """
    e, asked = study.experiment, False
    while True:
        repetitions, between = _standing(study, uri)
        widest = _widest(study, uri, half_width) if between else None
        if widest and (widest.is_enough or repetitions == e.repetitions):
            if not asked:  # a wave that was killed at its end has no report
                from emoray.commands.report import report

                print(report(RunFolder(uri)))
            _say(widest, repetitions, e)
            return OK
        target = min(repetitions + BLOCK_REPETITIONS, e.repetitions)
        code = wave(limit=e.places_of(target), until=_record(half_width, target, e, widest))
        asked = True
        if code != OK:
            return code


def _standing(study: Study, uri: str) -> tuple[int, bool]:
    """Repetitions of the whole waves that every model has settled and every reader has read, and whether no model is in
    the wave after them. Of a folder of another spec nothing is settled: the attempt says what is wrong with it.
    """
    folder, e = RunFolder(uri, begun=True), study.experiment
    kept = readable(folder)
    if kept is None or kept.digest != study.spec.digest:
        return 0, False
    repetitions = min(_whole_blocks(study, folder, model.name) for model in study.spec.models)
    asked = as_asked(folder, study)
    answered = [asked.answers(model.name).counts().answered for model in study.spec.models]
    return repetitions, repetitions > 0 and max(answered) == e.places_of(repetitions)


def _whole_blocks(study: Study, folder: RunFolder, model: str) -> int:
    """Repetitions of the first blocks that lack no cell. A number of answers does not tell: they may be other cells, of
    a spec that had fewer questions, or of a later block.
    """
    e, whole, through = study.experiment, 0, _through(study, folder, model)
    while whole < e.repetitions:
        end = min(whole + BLOCK_REPETITIONS, e.repetitions)
        block = prompts(e.grid(model), e.places_of(whole), e.places_of(end))
        if next(owed(block, through), None) is not None:
            break
        whole = end
    return whole


def _through(study: Study, folder: RunFolder, model: str) -> KeySet:
    """The keys of the answers that every reader has read."""
    keys = folder.answers(model).settled()
    for reader in study.spec.readers:
        read = folder.rows(reader.name, model).settled().has_words(keys.high, keys.low)
        keys = KeySet(keys.high[read], keys.low[read])
    return keys


@dataclass(frozen=True)
class Widest:
    """The widest interval of a model's mean by a reader, and what is wished."""

    whose: str
    half_width: float  # NaN where there is none
    wished: float
    foreseen: int | None

    @property
    def is_enough(self) -> bool:
        return self.half_width <= self.wished

    def text(self) -> str:
        """`±0.031 (a, read by r)`"""
        return f"{'no interval' if math.isnan(self.half_width) else f'±{self.half_width:.3f}'} ({self.whose})"


def _widest(study: Study, uri: str, wished: float) -> Widest:
    from emoray.notebook.run import load

    found = {(one.model, one.reader): one for one in load(uri).found.models}
    asked = [(model.name, reader.name) for model in study.spec.models for reader in study.spec.readers]
    widths = [(_half_width(found.get(who)), who) for who in asked]
    worst, (model, reader) = max(widths, key=lambda one: (math.isnan(one[0]), one[0]))
    needed = [_needed(study.experiment, found.get(who), wished) for who in asked]
    known = [n for n in needed if n is not None]
    foreseen = max(known) if len(known) == len(needed) else None
    return Widest(f"{model}, read by {reader}", worst, wished, foreseen)


def _half_width(one: ModelSummary | None) -> float:
    """Of the longer side: an interval is cut where no mean can lie, and what is cut off makes no mean better known."""
    if one is None:
        return math.nan
    mean = one.scores.whole.group.cosine
    return max(mean.estimate - mean.low, mean.high - mean.estimate)


def _needed(e: Experiment, one: ModelSummary | None, wished: float) -> int | None:
    if one is None:
        return None
    return needed_repetitions(one.scores.whole.parts, len(e.states), len(e.questions), wished)


def _record(half_width: float, target: int, e: Experiment, widest: Widest | None) -> UntilRecord:
    record = UntilRecord(half_width=half_width, repetitions=target, of=e.repetitions)
    if widest is None:
        return record
    seen = None if math.isnan(widest.half_width) else widest.half_width
    return UntilRecord(**record.as_json(), widest=seen, whose=widest.whose, foreseen=widest.foreseen)


def _say(widest: Widest, repetitions: int, e: Experiment) -> None:
    asked = f"{repetitions:,} of {count(e.repetitions, 'repetition')}"
    how = f"every mean is known to ±{widest.wished:g}" if widest.is_enough else f"±{widest.wished:g} was not reached"
    print(f"asked {asked}: {how}; the widest interval is {widest.text()}", file=sys.stderr)
