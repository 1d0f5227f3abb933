"""Who is killed when: drawn from a seed before the run begins, told in calls answered, so that it can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_FIRST, _LAST = 0.01, 0.92  # of all calls: later there might be nobody left to kill


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
    """Moments spread at random over a run of so many cells; every target as often as any other, in random order."""
    chance = random.Random(seed)
    whole = [target for _ in range(-(-kills // max(1, len(targets)))) for target in targets][:kills]
    chance.shuffle(whole)
    moments = sorted(int(cells * chance.uniform(_FIRST, _LAST)) for _ in whole)
    return [Due(moment, target) for moment, target in zip(moments, whole, strict=True)]
