"""Who is killed when: drawn from a seed before the run begins, told in calls answered, so that it can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_FIRST, _LAST = 0.01, 0.92  # of all calls: later there might be nobody left to kill
_LAST_ENGINE = 0.45  # local models may be through long before hosted ones


class Target(StrEnum):
    """What can be killed."""

    DRIVER = "driver"  # the `emoray run` command
    ACTOR = "actor"  # that asks a model
    ENGINE = "engine"  # the process behind an actor of a local model
    READER = "reader"  # an actor that reads answers
    NODE = "node"  # a worker node: its raylet and all its processes


@dataclass(frozen=True)
class Due:
    """Kill one of these as soon as so many cells have an answer."""

    answered: int
    target: Target


def schedule(targets: Sequence[Target], kills: int, cells: int, seed: int) -> list[Due]:
    """Moments spread at random over a run of so many cells; every target as often as any other."""
    chance = random.Random(seed)
    whole = [target for _ in range(-(-kills // max(1, len(targets)))) for target in targets][:kills]
    lasts = [_LAST_ENGINE if target is Target.ENGINE else _LAST for target in whole]
    due = [Due(int(cells * chance.uniform(_FIRST, last)), target) for target, last in zip(whole, lasts, strict=True)]
    return sorted(due, key=lambda one: one.answered)
