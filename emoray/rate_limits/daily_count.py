"""The requests of a day."""

from __future__ import annotations

from dataclasses import dataclass

_DAY_S, _SLOT_S = 86_400.0, 300.0


@dataclass(slots=True)
class _Slot:
    began: float
    requests: float = 0.0

    @property
    def end(self) -> float:
        """When all of it is a day old."""
        return self.began + _SLOT_S + _DAY_S


class Day:
    """The requests of the last 24 hours, in slots of five minutes."""

    def __init__(self, life: str) -> None:
        self.requests = 0.0
        self.remembers = False  # another life's
        self._life = life
        self._slots: dict[str, _Slot] = {}  # by name, which begins with the life that counted it
        self._next_end = float("inf")

    def pass_by(self, now: float) -> None:
        if now < self._next_end:
            return
        self._slots = {name: slot for name, slot in self._slots.items() if slot.end > now}
        self.requests = sum(slot.requests for slot in self._slots.values())
        self._next_end = min((slot.end for slot in self._slots.values()), default=float("inf"))

    def take(self, n: float, now: float) -> None:
        number = int(now // _SLOT_S)
        self._add(self._slots.setdefault(f"{self._life}/{number}", _Slot(number * _SLOT_S)), n)

    def give_back(self, n: float, now: float) -> None:
        """So many of the latest were not sent after all; fewer than 0, where a message came late."""
        if n < 0:
            self.take(-n, now)
        elif n > 0:
            for slot in sorted(self._slots.values(), key=lambda slot: -slot.began):
                back = min(n, slot.requests)
                self._add(slot, -back)
                n -= back

    def told(self, now: float) -> dict[str, tuple[float, float]]:
        self.pass_by(now)
        return {name: (now - slot.began, slot.requests) for name, slot in self._slots.items() if slot.requests}

    def remember(self, name: str, age_s: float, requests: float, now: float) -> None:
        if name.startswith(f"{self._life}/"):
            return  # nobody knows better
        self.remembers = True
        slot = self._slots.setdefault(name, _Slot(now - age_s))
        slot.began = min(slot.began, now - age_s)  # what was long under way seems younger than it is
        self._add(slot, max(0.0, requests - slot.requests))

    def _add(self, slot: _Slot, n: float) -> None:
        slot.requests += n
        self.requests += n
        self._next_end = min(self._next_end, slot.end)
