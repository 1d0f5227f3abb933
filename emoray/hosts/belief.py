"""Whether a lane believes what it is refused with. Pure: time is an argument.

A lane that never had an answer, from any of its actors, believes at once that its key or its model is none or that its
quota is spent, and after twenty asks that are all refused alike. One that had answers does not: a proxy in between says
such things in passing. It asks again, one ask at a time after growing pauses, and believes what it hears each time: a
code that names a quota sooner than a status alone, and a provider that names the hour at once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto

from emoray.study.outcomes import Failure, FailureKind

ALIKE = 20  # asks; or twice as many refusals of a few that are asked again and again
_OF_NO_KIND = 5 * ALIKE  # refusals with a good status and an error that tells none: they may pass, or never will
_A_FEW = 5
_FEWEST_DOUBTS = 3
_PASSING = frozenset({FailureKind.AUTH, FailureKind.NO_SUCH_MODEL, FailureKind.QUOTA_EXHAUSTED})
_HOURS_S = 3600.0  # a quota that is back so late is no passing word
_OF_THE_REQUEST = frozenset({FailureKind.BAD_REQUEST, FailureKind.CONTEXT_LENGTH, FailureKind.MALFORMED})


class Verdict(Enum):
    GO_ON = auto()
    DOUBT = auto()  # hold the others back, and ask again after a pause
    END = auto()


class Belief:
    """Of one actor of a lane."""

    def __init__(self, attempts: int, elsewhere: Callable[[], bool] = lambda: False) -> None:
        """`elsewhere`: whether another actor of the lane had answers, or this one before Ray started it again; asked
        only where the lane would end.
        """
        self._elsewhere = elsewhere
        self.doubts = 0  # refusals of the whole lane, one after the other
        self._most_doubts = max(_FEWEST_DOUBTS, attempts)
        self._doubted_at = float("-inf")
        self._had_answers = False
        self._alike: dict[tuple[FailureKind, str], Counter[str]] = {}  # how often each key was refused alike

    def answered(self) -> None:
        self._had_answers, self.doubts = True, 0
        self._alike.clear()

    def refused(
        self, key: str, failure: Failure, asked_at: float, now: float, *, told_s: float | None = None
    ) -> Verdict:
        """What to make of the failure of an ask that was sent at `asked_at`; `told_s`: what was said of waiting."""
        if failure.kind.hopeless:
            return self._hopeless(failure, asked_at, now, told_s or 0.0)
        of_no_kind = failure.refused and failure.kind is FailureKind.OVERLOADED and failure.detail.startswith("200:")
        if self._had_answers or not (of_no_kind or failure.kind in _OF_THE_REQUEST):
            return Verdict.GO_ON
        asks = self._alike.setdefault((failure.kind, _gist(failure.detail)), Counter())
        asks[key] += 1
        enough = _are_enough(asks, of_no_kind=of_no_kind)
        return Verdict.END if enough and not self._lane_had_answers() else Verdict.GO_ON

    def _hopeless(self, failure: Failure, asked_at: float, now: float, told_s: float) -> Verdict:
        if failure.kind not in _PASSING or told_s > _HOURS_S or not self._lane_had_answers():
            return Verdict.END
        if asked_at < self._doubted_at:  # it was under way when the last one was refused
            return Verdict.GO_ON
        self.doubts, self._doubted_at = self.doubts + 1, now
        by_code = failure.kind is FailureKind.QUOTA_EXHAUSTED and not failure.detail.startswith("402")
        return Verdict.END if self.doubts >= (_FEWEST_DOUBTS if by_code else self._most_doubts) else Verdict.DOUBT

    def _lane_had_answers(self) -> bool:
        self._had_answers = self._had_answers or self._elsewhere()
        return self._had_answers


def _are_enough(asks: Counter[str], *, of_no_kind: bool) -> bool:
    many = asks.total() >= (_OF_NO_KIND if of_no_kind else 2 * ALIKE)
    return (many and len(asks) >= _A_FEW) or (len(asks) >= ALIKE and not of_no_kind)


def _gist(detail: str) -> str:
    """A refusal's text without what differs from one to the next: numbers, ids, times."""
    status, *words = detail.lower().split() or [""]
    return " ".join([status, *("#" if re.search(r"\d", word) else word for word in words)])
