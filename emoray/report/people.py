"""What people read in a slice of the answers, as the arrays that a correction takes, and how far raters agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from emoray.analysis.additive import Additive, one_line
from emoray.analysis.concord import direction_alpha
from emoray.analysis.correction import Labelled
from emoray.analysis.intervals import Interval, padded
from emoray.report.read_run import HumanRead
from emoray.study.circumplex import Affect, cosines
from emoray.study.ratings import Label, Rating, ratings
from emoray.study.scoring import RefusalRule, Rules


@dataclass(frozen=True)
class Raters:
    """How far people agree who read the same answers."""

    answers: int  # that several have read
    most: int  # raters of one answer
    names: tuple[str, ...]  # where they were told
    alpha: Interval  # Krippendorff's, of the directions read; over questions


def labelled_of(fit: Additive, questions: Sequence[object], labelled: Sequence[HumanRead], rules: Rules) -> Labelled:
    """One model by one reader; `fit` is that of all its readings, as the tables have it.

    An answer of several raters scores their mean. They are told apart where each label has a name and there are two
    names at least.
    """
    by_question = [[one for one in labelled if one.question_id == question] for question in questions]
    names = sorted({rating.rater for one in labelled for rating in ratings(one.human)})
    of_all = [[_score(one, ratings(one.human), rules) for one in some] for some in by_question]
    each = [
        padded([[_score(one, _by(name, one.human), rules) for one in some] for some in by_question])
        for name in names
        if len(names) > 1 and "" not in names
    ]
    return Labelled(
        fit.question_means,
        padded([[one.cosine for one in some] for some in by_question]),
        padded(of_all),
        np.array(each) if each else None,
        float(fit.lines(one_line(fit.means.shape[1])).added[0]),
    )


def raters_of(labelled: Iterable[HumanRead], refusals: RefusalRule, level: float) -> Raters | None:
    """How far raters agree on the answers that a mean is corrected by; None where no two read the same.

    An answer may stand there several times, once for every reader. A refusal, whose reading counts under one rule
    alone, is left out under the others.
    """
    each = {one.key: one for one in labelled if refusals == "as_read" or not one.refused}
    several = {key: said for key, one in each.items() if len(said := ratings(one.human)) > 1}
    if not several:
        return None
    angles = padded([[_angle(one.place) for one in said] for said in several.values()])
    _, codes = np.unique([each[key].question_id for key in several], return_inverse=True)
    names = sorted({one.rater for said in several.values() for one in said} - {""})
    return Raters(len(several), angles.shape[1], tuple(names), direction_alpha(angles, codes, level))


def _by(name: str, label: Label) -> tuple[Rating, ...]:
    return tuple(one for one in ratings(label) if one.rater == name)


def _score(read: HumanRead, said: Sequence[Rating], rules: Rules) -> float:
    """The mean score that people's readings give, under the same rules as the reader's; NaN without any."""
    if not said or (read.refused and rules.refusals == "drop"):
        return float("nan")
    if read.refused and rules.refusals == "zero":
        return 0.0
    places = np.array([(one.place.valence, one.place.arousal) if one.place else (0.0, 0.0) for one in said])
    found = cosines(np.broadcast_to([read.asked.valence, read.asked.arousal], places.shape).astype(np.float64), places)
    known = np.nan_to_num(found) if rules.neutral == "zero" else found[~np.isnan(found)]
    return float(known.mean()) if len(known) else float("nan")


def _angle(place: Affect | None) -> float:
    return float("nan") if place is None else place.angle_deg
