"""Conditions, each a template with an intensity; controls; and the one condition that a headline is of.

A mean over conditions mixes what was asked for strongly with what was asked for faintly, or not at all, so no number is
one unless it says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emoray.study import prompts


@dataclass(frozen=True, slots=True, order=True)
class Condition:
    template: str
    intensity: float

    def __str__(self) -> str:
        return f"template {self.template}, intensity {self.intensity:g}"


def headline(
    seen: Collection[Condition],
    order: Sequence[str] = (),
    controls: Collection[str] = (),
    template: str | None = None,
    intensity: float | None = None,
) -> Condition | None:
    """The first template of `order` that is no control, at its highest intensity; what is given decides instead.

    Templates that `order` does not name come after it by name; a control is taken where there is nothing else. None
    where no condition has been seen.
    """
    names = sorted({one.template for one in seen}, key=lambda name: (name in controls, _place(name, order), name))
    if template is None and not names:
        return None
    chosen = names[0] if template is None else template
    levels = [one.intensity for one in seen if one.template == chosen] or [one.intensity for one in seen]
    if intensity is None and not levels:
        return None
    return Condition(chosen, max(levels) if intensity is None else intensity)


def headline_of(spec: Mapping[str, Any], seen: Collection[Condition], controls: Collection[str]) -> Condition | None:
    """By a run's spec, as its manifest has it."""
    wanted = spec.get("headline") or {}
    order = [_name(entry) for entry in spec.get("templates") or ()]
    return headline(seen, order, controls, wanted.get("template"), wanted.get("intensity"))


def controls_of(spec: Mapping[str, Any], marks: Mapping[str, str], seen: Collection[str]) -> frozenset[str]:
    """The names of the templates that are controls.

    By the spec, also of a run that was made before a template could be marked; without one, what is asked by a shipped
    name is taken to be what ships.
    """
    entries = {_name(entry): entry for entry in spec.get("templates") or ()}
    return frozenset(
        name for name in {*entries, *seen} if marks.get(name) == "control" or _is_control(entries.get(name, name))
    )


def _is_control(entry: str | Mapping[str, Any]) -> bool:
    if isinstance(entry, str):
        return entry in prompts.shipped_templates() and prompts.template(entry).control
    said = entry.get("control")
    return prompts.asks_no_state(entry.get("system", ""), entry.get("user", "")) if said is None else bool(said)


def _name(entry: str | Mapping[str, Any]) -> str:
    return entry if isinstance(entry, str) else str(entry["name"])


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)
