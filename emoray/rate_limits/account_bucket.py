"""All limits of one account: who may send how many requests now."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from emoray.rate_limits.learned import Model
from emoray.rate_limits.protocol import SILENCE_S, SPEAK_S, Feedback, Grant, Limits, Request, Snapshot, Usage
from emoray.rate_limits.token_bucket import Rates, Turns, least, per_s

GONE_S = 3600.0  # who is silent for so long is forgotten, but for its money
FIRST_IN_FLIGHT = 8  # until the first answer of a model without known rates: its headers may tell them
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.01, 5.0
_LATE_S = 1.0  # a holder that comes back later than it was told by so much has lost its turn
_PLACES = object()  # among those in flight
_NOTHING = Request(0)


@dataclass(slots=True)
class _Holder:
    ledger: Usage
    seen_at: float
    model: str
    lacks: Request = _NOTHING  # what it wanted and did not get,
    waits_for: object = None  # for want of these rates, or of a place
    back_by: float = float("-inf")  # until then it is waited for


class Bucket:
    """All limits of one account. Time is an argument: seconds of any clock that does not go back."""

    def __init__(self, limits: Limits, life: str = "", run: str = "") -> None:
        """`life` tells what this bucket counted from what an earlier one did, and told it."""
        self.limits = limits
        self._stated = {run: (limits, float("inf"))}  # and when, which a birth does not know; the latest is the last
        self._life = life
        self._rates = Rates()  # the account's
        self._models: dict[str, Model] = {}
        self._holders: dict[str, _Holder] = {}
        self._before_usd: dict[str, float] = {}  # run, or a holder not heard of since -> spent before

    def restate(self, limits: Limits, now: float, run: str = "") -> None:
        """The limits as the spec of a run states them now; what headers and 429s taught stays."""
        self._stated.pop(run, None)
        self._stated[run] = limits, now
        self._forget(now)
        self._hold(now)

    def began(self, run: str, spent_usd: float, now: float) -> None:
        """A run starts (again) and has spent so much, by its journal: replaces what its earlier holders said.

        Not while one of them is alive: another lane of the run is at work, and what it says is newer.
        """
        mine = {name: holder for name, holder in self._holders.items() if _run_of(name) == run}
        if any(now - holder.seen_at <= SILENCE_S for holder in mine.values()):
            return
        self._before_usd = {name: usd for name, usd in self._before_usd.items() if _run_of(name) != run}
        self._before_usd[run] = spent_usd
        for name in mine:
            self._drop(name)

    def told(self, now: float) -> Snapshot:
        """What `remember` wants, should this bucket be lost. Requests only where their number in a day is limited."""
        return Snapshot(
            self._before_usd | {name: _at_most_usd(holder.ledger) for name, holder in self._holders.items()},
            {
                (name, slot): told
                for name, model in self._models.items()
                if self.limits.requests_per_day is not None or model.per_day is not None or model.day.remembers
                for slot, told in model.day.told(now).items()
            },
        )

    def remember(self, told: Snapshot, now: float) -> None:
        """What an earlier bucket of this account knew."""
        for name, usd in told.spent_usd.items():
            if name in self._holders:
                continue  # it speaks for itself
            self._before_usd[name] = max(usd, self._before_usd.get(name, 0.0))
        for (name, slot), (age_s, requests) in told.taken.items():
            self._model(name).day.remember(slot, age_s, requests, now)

    def lease(self, holder: str, ledger: Usage, want: Request, news: Feedback, now: float) -> Grant:
        """Permits for up to `want.requests`, and when to ask for the rest."""
        model = self._model(want.model)
        self._refill(now, model)
        mine = self._book(holder, ledger, want.model, now)
        model.learn(news, self.limits, now)
        if want.requests <= 0:
            return self._leased(mine, Grant(0, SPEAK_S), None, _NOTHING, now)
        if now < model.paused_until:
            return self._leased(mine, Grant(0, _bounded(model.paused_until - now)), None, _NOTHING, now)
        by_money = self._fit_money(want.usd_each)
        if by_money <= 0 and self._in_flight(self._of(None), now) == 0:  # else reserved money may come back
            return self._leased(mine, Grant(0, stop=self._stop_sentence()), None, _NOTHING, now)
        affordable = replace(want, requests=int(min(want.requests, by_money)))
        granted, waits_for, lacks = self._fit(holder, affordable, now)
        if granted:
            self._take(holder, granted, want, now)
        rest = replace(want, requests=want.requests - granted)
        return self._leased(mine, Grant(granted, self._wait_s(rest, now)), waits_for, lacks, now)

    def status(self, now: float, model: str | None = None) -> dict[str, float]:
        """For people: the present rates per minute (absent: no limit), and what is in flight and spent.

        Of one model; None: of all together, and of the rates, eases and pauses the tightest.
        """
        found = list(self._models.values()) if model is None else [self._model(model)]
        self._refill(now, *found)
        all_rates = [self._rates, *(each.rates for each in found)]
        told = {
            "requests_per_minute": least(*(rates.requests.per_s for rates in all_rates), share=60.0),
            "tokens_per_minute": least(*(rates.tokens.per_s for rates in all_rates), share=60.0),
            "ease": min((each.ease.factor for each in found), default=1.0),
            "in_flight": float(self._in_flight(self._of(model), now)),
            "paused_s": max([0.0, *(each.paused_until - now for each in found)]),
        }
        return {name: value for name, value in told.items() if value is not None} | {"spent_usd": self.spent_usd}

    @property
    def spent_usd(self) -> float:
        return sum(self._before_usd.values()) + sum(h.ledger.spent_usd for h in self._holders.values())

    def taken_today(self, now: float) -> float:
        """Requests of the last 24 hours, of all models."""
        for model in self._models.values():
            model.day.pass_by(now)
        return sum(model.day.requests for model in self._models.values())

    # ── what may be granted ────────────────────────────────────────────────────────────────────────────────────────

    def _fit(self, holder: str, want: Request, now: float) -> tuple[int, object, Request]:
        """(how many, what this holder waits for then, how many it lacks there)."""
        model, mine = self._models[want.model], self._holders[holder]
        waiting = {name: h for name, h in self._holders.items() if name != holder and now <= h.back_by}
        n = int(min(want.requests, model.left_today(self.limits.share), self._left_today(now)))
        waits_for, lacks = None, _NOTHING
        for gate in (model.rates, _PLACES, self._rates):
            turns = self._turns(gate)
            if mine.waits_for is None or mine.back_by < now or self._turns(mine.waits_for) is not turns:
                turns.come(holder, [name for name, h in waiting.items() if self._turns(h.waits_for) is turns])
            others = {name: h for name, h in waiting.items() if h.waits_for is gate}
            if isinstance(gate, Rates):
                first = turns.order((holder, *others))[0]
                fit = gate.fit(want, _NOTHING if first == holder else others[first].lacks)
            else:
                fit = self._places(holder, others, now)
            if fit < n:
                waits_for, lacks, n = gate, replace(want, requests=n - int(fit)), int(fit)
        return n, waits_for, lacks

    def _turns(self, gate: object) -> Turns:
        return gate.turns if isinstance(gate, Rates) else self._rates.turns

    def _places(self, holder: str, waiting: Mapping[str, _Holder], now: float) -> float:
        """How many more this one may have in flight: its share or what all leave, after those whose turn it is."""
        sharing = {holder: self._holders[holder], **waiting}
        at_once, among = self._at_once(sharing[holder].model)
        if at_once is None:
            return float("inf")
        free = max(0, at_once - self._in_flight(among, now))
        share = math.ceil((free + sum(h.ledger.held for h in sharing.values())) / len(sharing))
        more = {name: share - h.ledger.held for name, h in sharing.items()}
        order = self._rates.turns.order(sharing)
        claims = [max(0, min(more[name], sharing[name].lacks.requests)) for name in order if name != holder]
        left, left_by_all = free - sum(claims[: order.index(holder)]), free - sum(claims)
        return max(0, min(left, max(more[holder], left_by_all)))

    def _at_once(self, name: str) -> tuple[int | None, Collection[_Holder]]:
        """How many may be in flight (None: as many as there are), and of whom."""
        if self.limits.concurrency is not None:
            return max(1, int(self.limits.concurrency * self.limits.share)), self._of(None)
        rates, among = self._models[name].rates, self._of(name)
        unknown = rates.requests.per_s is None and rates.tokens.per_s is None
        nothing_yet = all(h.ledger.finished == 0 for h in among)
        return FIRST_IN_FLIGHT if unknown and nothing_yet else None, among

    def _left_today(self, now: float) -> float:
        if self.limits.requests_per_day is None:
            return float("inf")
        return max(0.0, self.limits.requests_per_day * self.limits.share - self.taken_today(now))

    def _fit_money(self, usd_each: float) -> float:
        if self.limits.budget_usd is None:
            return float("inf")
        # what a dead holder had reserved counts as spent: nobody knows how much of it was
        left = self.limits.budget_usd - self.spent_usd - sum(h.ledger.reserved_usd for h in self._holders.values())
        if usd_each <= 0:
            return float("inf") if left > 0 else 0.0
        return max(0.0, (left + 1e-12) // usd_each)

    def _stop_sentence(self) -> str:
        return (
            f"the budget of {self.limits.budget_usd:g} USD would be passed by the next request "
            f"({self.spent_usd:.4f} USD are spent); raise budget_usd, or --max-cost, to go on"
        )

    def _wait_s(self, rest: Request, now: float) -> float:
        model = self._models[rest.model]
        if rest.requests == 0:
            return 0.0
        if min(model.left_today(self.limits.share), self._left_today(now)) < 1:
            return _LONGEST_WAIT_S
        return _bounded(max(model.rates.wait_s(rest), self._rates.wait_s(rest), 0.05))

    # ── bookkeeping ────────────────────────────────────────────────────────────────────────────────────────────────

    def _model(self, name: str) -> Model:
        if name not in self._models:
            self._models[name] = Model(self._life)
        return self._models[name]

    def _of(self, model: str | None) -> Collection[_Holder]:
        """The holders of a model; None: all."""
        return [holder for holder in self._holders.values() if model in (None, holder.model)]

    def _hold(self, now: float) -> None:
        """The limits are the latest, and those of all runs that are at work."""
        *earlier, latest = self._stated
        holders = self._holders.items() if earlier else ()
        at_work = {_run_of(name) for name, holder in holders if now - holder.seen_at <= SILENCE_S}
        self.limits = Limits.tightest([self._stated[run][0] for run in (latest, *at_work.intersection(earlier))])

    def _forget(self, now: float) -> None:
        """Those long gone, so that a limiter that stands for months stays small."""
        for name, holder in list(self._holders.items()):
            if now - holder.seen_at > GONE_S:
                self._before_usd[name] = _at_most_usd(holder.ledger)
                self._drop(name)
        runs = {_run_of(name) for name in self._holders}
        for run, (_, at) in list(self._stated.items()):
            if now - at > GONE_S and run not in runs:
                del self._stated[run]

    def _drop(self, name: str) -> None:
        del self._holders[name]
        for rates in (self._rates, *(model.rates for model in self._models.values())):
            rates.turns.forget(name)

    def _refill(self, now: float, *models: Model) -> None:
        self._hold(now)
        requests = least(self.limits.requests_per_minute, share=self.limits.share)
        tokens = least(self.limits.tokens_per_minute, share=self.limits.share)
        self._rates.refill(per_s(requests), per_s(tokens), now)
        for model in models:
            model.refill(self.limits, now)

    def _book(self, holder: str, ledger: Usage, name: str, now: float) -> _Holder:
        known = self._holders.setdefault(holder, _Holder(ledger, now, name))
        self._before_usd.pop(holder, None)
        requests_back = float(ledger.requests_back - known.ledger.requests_back)
        tokens_back = ledger.tokens_back - known.ledger.tokens_back
        model = self._models[name]
        for rates in (self._rates, model.rates):
            rates.give_back(requests_back, tokens_back)
        model.day.give_back(requests_back, now)
        known.ledger, known.seen_at, known.model = ledger, now, name
        return known

    def _take(self, holder: str, granted: int, want: Request, now: float) -> None:
        self._rates.take(holder, granted, want.tokens_each)
        self._models[want.model].take(holder, granted, want.tokens_each, now)
        mine = self._holders[holder]
        mine.ledger = replace(
            mine.ledger,
            held=mine.ledger.held + granted,
            reserved_usd=mine.ledger.reserved_usd + granted * want.usd_each,
        )

    @staticmethod
    def _leased(mine: _Holder, lease: Grant, waits_for: object, lacks: Request, now: float) -> Grant:
        mine.waits_for, mine.lacks = waits_for, lacks
        mine.back_by = float("-inf") if waits_for is None else now + lease.wait_s + _LATE_S
        return lease

    @staticmethod
    def _in_flight(holders: Collection[_Holder], now: float) -> int:
        return sum(h.ledger.held for h in holders if now - h.seen_at <= SILENCE_S)


def _at_most_usd(ledger: Usage) -> float:
    """What it may have spent, should nothing more be heard of it."""
    return ledger.spent_usd + ledger.reserved_usd


def _run_of(holder: str) -> str:
    """Holders are named RUN/anything."""
    return holder.rpartition("/")[0]


def _bounded(wait_s: float) -> float:
    return min(_LONGEST_WAIT_S, max(_SHORTEST_WAIT_S, wait_s))
