"""Which Ray a run goes to, as said before Ray is imported."""

from __future__ import annotations

import os


def waits_for_ray(address: str | None) -> str:
    """What a run waits for first; RAY_ADDRESS counts where there is no address."""
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    return "starting Ray" if where == "local" else f"joining the cluster at {where}"
