"""The ledger of a rehearsal: what the provider counted and what is on disk, side by side, and the verdict.

Pure: event logs and sets in, verdict out. A call is *repeated* when the provider answers a cell once more; what the
cell was answered before was paid and thrown away. Each must be explained by a kill: it was in flight then, or
answered within the last second of a machine that runs, which a journal may hold back. Anything else is *lost*.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from emoray.plurals import be, count, have, were
from emoray.rehearsal.heartbeat import Stall, stood_still_s

BEHIND_S = 1.0  # by how much an answer may be not yet durable
CENT_USD = 0.01

Event = tuple[float, str]  # when, the key of the cell


@dataclass(frozen=True)
class Kill:
    """One kill: from when it was done until its victims were seen dead."""

    target: str
    began: float
    ended: float
    in_flight: int  # cells that were asked and not durable when it was over
    actors: int = 1  # that were at work: it killed as many at most


@dataclass(frozen=True)
class Heard:
    """What the provider saw."""

    asked: Sequence[Event]
    answered: Sequence[Event]
    usd: float = 0.0  # what all its answers cost


@dataclass(frozen=True)
class Kept:
    """What is on disk in the end."""

    cells: int  # of the grid
    answers: Mapping[str, int]  # key -> results; 1 where all is well
    rows: Mapping[str, Mapping[str, int]]  # reader -> key -> results
    cost_usd: Mapping[str, float] = field(default_factory=dict)
    spare: int = 0  # copies of answers that do not count
    torn: int = 0
    usd: float = 0.0  # what all rows cost, also those that do not count
    lost_usd: float = 0.0  # at most for what was asked and whose answers nobody has
    attempts: Mapping[str, int] = field(default_factory=dict)  # key -> calls that its row tells of
    dearest_usd: float | None = None  # what one call may cost at most; None: not known


@dataclass(frozen=True)
class Audit:
    """The verdict, with every number that it stands on."""

    cells: int
    settled: int
    read: Mapping[str, int]
    calls: int
    answered: int
    lost: int
    oldest_lost_s: float  # of all answers that had to be asked again: how long before its kill the oldest was given
    oldest_stalled_s: float  # for how long of that time its machine stood still
    repeated: int
    unexplained: int
    in_flight: int  # summed over the kills
    doubled: int
    strangers: int
    spare: int
    torn: int
    double_spent_usd: float
    charged_usd: float  # by the provider
    rows_usd: float
    lost_usd: float  # booked, at most
    nobodys: int  # calls that no row tells of
    most_lost_usd: float | None  # what these may cost, and of each killed process one that it had not sent yet
    kills: Mapping[str, int]

    @property
    def wrong(self) -> list[str]:
        """What is wrong, a sentence each; [] for a clean ledger."""
        owed = self.cells - self.settled
        checks = [
            (
                self.settled != self.cells,
                f"{count(owed, 'cell')} {have(owed)} no answer",
            ),
            (
                self.lost > 0,
                f"{count(self.lost, 'answer')} {were(self.lost)} lost that a running machine had had for over "
                f"{BEHIND_S:g} s",
            ),
            (
                self.unexplained > 0,
                f"{count(self.unexplained, 'call')} {were(self.unexplained)} repeated though nothing was killed",
            ),
            (
                self.repeated > self.in_flight,
                f"{count(self.repeated, 'call')} {were(self.repeated)} repeated, but only {self.in_flight:,} "
                f"{were(self.in_flight)} in flight at the kills",
            ),
            (self.doubled > 0, f"{count(self.doubled, 'cell')} {have(self.doubled)} more than one result"),
            (
                self.charged_usd - self.rows_usd - self.lost_usd >= CENT_USD / 2,
                f"the provider charged ${self.charged_usd:,.4f}, and rows (${self.rows_usd:,.4f}) and what was booked "
                f"as lost (${self.lost_usd:,.4f}) are less",
            ),
            (
                self.most_lost_usd is not None and self.lost_usd > self.most_lost_usd + CENT_USD / 2,
                f"${self.lost_usd:,.4f} were booked as lost, and the {count(self.nobodys, 'call')} that no row tells "
                f"of may cost ${self.most_lost_usd or 0.0:,.4f} at most",
            ),
            (
                self.strangers > 0,
                f"{count(self.strangers, 'answer')} {be(self.strangers)} on disk that the provider never gave",
            ),
            *(
                (rows != self.settled, f"reader {reader} has {count(rows, 'row')} for {count(self.settled, 'answer')}")
                for reader, rows in self.read.items()
            ),
        ]
        return [sentence for bad, sentence in checks if bad]

    def text(self) -> str:
        """The ledger for a terminal."""
        kills = ", ".join(f"{count} {target}" for target, count in self.kills.items()) or "none"
        lines = [
            ("cells of the grid", f"{self.cells:,}"),
            ("settled on disk", f"{self.settled:,}"),
            *((f"rows of reader {reader}", f"{rows:,}") for reader, rows in self.read.items()),
            ("calls received by the provider", f"{self.calls:,}"),
            ("calls answered", f"{self.answered:,}"),
            ("kills", kills),
            ("cells in flight at the kills", f"{self.in_flight:,}"),
            ("calls repeated", f"{self.repeated:,}"),
            ("  of these without a kill", f"{self.unexplained:,}"),
            (f"answers lost (older than {BEHIND_S:g} s)", f"{self.lost:,}"),
            ("the oldest answer asked again", f"{self.oldest_lost_s:.2f} s before its kill"),
            ("  for which the machine stood still", f"{self.oldest_stalled_s:.2f} s"),
            ("answers doubled in the results", f"{self.doubled:,}"),
            ("spare copies on disk", f"{self.spare:,}"),
            ("torn files", f"{self.torn:,}"),
            ("money spent twice", f"${self.double_spent_usd:,.4f}"),
            ("money charged by the provider", f"${self.charged_usd:,.4f}"),
            ("  told by rows", f"${self.rows_usd:,.4f}"),
            ("  booked as lost, at most", f"${self.lost_usd:,.4f}"),
            ("calls that no row tells of", f"{self.nobodys:,}"),
        ]
        verdict = "the ledger is clean" if not self.wrong else "; ".join(self.wrong)
        return "\n".join([*(f"{name:<34} {value}" for name, value in lines), verdict])

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {**self.__dict__, "read": dict(self.read), "kills": dict(self.kills), "wrong": self.wrong}


def audit(heard: Heard, kills: Sequence[Kill], kept: Kept, stalls: Sequence[Sequence[Stall]] = ()) -> Audit:
    """Compares what was paid for with what is there; `stalls` are those of each machine on which actors ran."""
    asked, answered = _by_key(heard.asked), _by_key(heard.answered)
    thrown = [(key, place) for key, times in answered.items() for place in range(len(times) - 1)]
    causes = {one: _causes(asked[one[0]], answered[one[0]], one[1], kills) for one in thrown}
    gone = [key for key in answered if not kept.answers.get(key)]
    ages = [_age(answered[key][place], found, stalls) for (key, place), found in causes.items() if found]
    lost = [age for age in ages if age.running_s > BEHIND_S]
    oldest = max(ages, key=lambda age: age.s, default=_Age(0.0, 0.0))
    nobodys = sum(max(0, len(times) - kept.attempts.get(key, 0)) for key, times in asked.items())
    unsent = sum(kill.actors for kill in kills)  # at most: of each, one that was written down and not sent yet
    return Audit(
        cells=kept.cells,
        settled=len(kept.answers),
        read={reader: len(found) for reader, found in kept.rows.items()},
        calls=len(heard.asked),
        answered=len(heard.answered),
        lost=len(lost) + len(gone),
        oldest_lost_s=oldest.s,
        oldest_stalled_s=oldest.stalled_s,
        repeated=len(thrown),
        unexplained=sum(1 for found in causes.values() if not found),
        in_flight=sum(kill.in_flight for kill in kills),
        doubled=sum(_more_than_one(found) for found in (kept.answers, *kept.rows.values())),
        strangers=sum(1 for key in kept.answers if key not in answered),
        spare=kept.spare,
        torn=kept.torn,
        charged_usd=heard.usd,
        rows_usd=kept.usd,
        lost_usd=kept.lost_usd,
        nobodys=nobodys,
        most_lost_usd=None if kept.dearest_usd is None else (nobodys + unsent) * kept.dearest_usd,
        double_spent_usd=sum(kept.cost_usd.get(key, 0.0) for key, _ in thrown),
        kills=dict(Counter(kill.target for kill in kills)),
    )


def _by_key(events: Iterable[Event]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = defaultdict(list)
    for when, key in events:
        times[key].append(when)
    return {key: sorted(found) for key, found in times.items()}


def _causes(asked: list[float], answered: list[float], place: int, kills: Sequence[Kill]) -> list[Kill]:
    """The kills between the ask of an answer that was thrown away and the ask of the next."""
    again = _last(asked, answered[place + 1])
    first = _last(asked, answered[place])
    if first >= again and again > 0:  # the next was asked before this one was answered
        first = again - 1
    return [kill for kill in kills if kill.ended >= asked[first] and kill.began <= asked[again]]


def _last(times: list[float], until: float) -> int:
    """The place of the latest of these times that is not after `until`."""
    return max(0, bisect.bisect_right(times, until) - 1)


class _Age(NamedTuple):
    """How long an answer had been there, and for how much of that its machine stood still."""

    s: float
    stalled_s: float

    @property
    def running_s(self) -> float:
        return self.s - self.stalled_s


def _age(answered: float, kills: Sequence[Kill], stalls: Sequence[Sequence[Stall]]) -> _Age:
    """At the first kill that explains it; 0 where it came afterwards. Nobody knows which machine had it: the worst."""
    killed = min(kill.began for kill in kills)
    stalled_s = max((stood_still_s(one, answered, killed) for one in stalls), default=0.0)
    return _Age(max(0.0, killed - answered), stalled_s)


def _more_than_one(found: Mapping[str, int]) -> int:
    return sum(1 for results in found.values() if results > 1)
